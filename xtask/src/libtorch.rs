//! `cargo xtask libtorch`: the CPU part of libtorch 2.11.0 under `target/libtorch`.
//!
//! The published library is one with CUDA. Its CPU part is what the steps link; of NVIDIA's
//! packages, two small libraries are needed for it to load. The CUDA part is opened at run time by
//! the steps where a machine has one, and is not installed here. Gloo's headers, which the
//! published library lacks, come from Debian's package (see `gloo`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::shell::{human, installs, say, timed};
use crate::wheel::{Take, Wheel};
use crate::{gloo, lock};

const VERSION: &str = "2.11.0";

const WHEELS: [(Wheel, &[Take]); 3] = [
    (
        Wheel {
            package: "torch",
            version: VERSION,
            file: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        },
        &[
            take("torch/include/", "include/"),
            take("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
            take("torch/lib/libc10.so", "lib/libc10.so"),
            take("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
        ],
    ),
    (
        Wheel {
            package: "nvidia-cuda-runtime",
            version: "13.0.96",
            file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        },
        &[take(
            "nvidia/cu13/lib/libcudart.so.13",
            "lib/libcudart.so.13",
        )],
    ),
    (
        Wheel {
            package: "nvidia-cuda-cupti",
            version: "13.0.85",
            file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
            sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        },
        &[take("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13")],
    ),
];

const fn take(from: &'static str, to: &'static str) -> Take {
    Take {
        from,
        to,
        executable: false,
    }
}

/// Installs libtorch into `to`, or `target/libtorch`, unless it is there; returns the folder.
pub(crate) fn install(to: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = to.unwrap_or_else(|| installs().join("libtorch"));
    if is_complete(&folder) && gloo::is_there(&folder) {
        return Ok(folder);
    }
    let _held = lock::installing()?;
    if !is_complete(&folder) {
        fetch(&folder)?;
    }
    if !gloo::is_there(&folder)
        && let Err(error) = gloo::install(&folder)
    {
        // All but trainings in several processes works without, and those say so.
        say(format!(
            "without Gloo's headers, trainings are built for one process alone: {error:#}"
        ));
    }
    Ok(folder)
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    say(format!(
        "installing libtorch {VERSION} (CPU part, 500 MB) into {}: headers and libraries of the \
         Python packages torch, nvidia-cuda-runtime and nvidia-cuda-cupti",
        folder.display()
    ));
    let (done, took) = timed(|| unpack(folder));
    done?;
    say(format!("libtorch {VERSION} is installed ({})", human(took)));
    Ok(())
}

fn unpack(folder: &Path) -> anyhow::Result<()> {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Beside its place, so that the rename that makes it visible is one step.
    let staging = tempfile::Builder::new()
        .prefix(lock::PARTIAL)
        .tempdir_in(&parent)
        .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
    for (wheel, takes) in &WHEELS {
        let path = wheel.fetch()?;
        wheel.unpack(&path, takes, staging.path())?;
    }
    // The build script of torch-sys links `torch`, which in the published library also pulls in
    // the CUDA part. A linker script names the CPU part alone.
    let write = |name: &str, text: &str| {
        fs::write(staging.path().join(name), text).with_context(|| format!("cannot write {name}"))
    };
    write("lib/libtorch.so", "INPUT(libtorch_cpu.so)\n")?;
    write("build-version", &format!("{VERSION}\n"))?;
    set_aside(folder)?;
    let staged = staging.keep();
    open_to_all(&staged)?;
    fs::rename(&staged, folder)
        .with_context(|| format!("cannot move libtorch to {}", folder.display()))
}

/// Something that is no whole libtorch stands where it should go: it is kept beside, not deleted,
/// for a folder given with `--to` may be anybody's.
fn set_aside(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let aside = (1..)
        .map(|number| folder.with_extension(format!("old{number}")))
        .find(|path| !path.exists())
        .context("no free name")?;
    say(format!(
        "{} holds no whole libtorch {VERSION}; it is kept as {}",
        folder.display(),
        aside.display()
    ));
    fs::rename(folder, &aside).with_context(|| format!("cannot rename {}", folder.display()))
}

/// Temporary folders are made for their owner alone.
fn open_to_all(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot set the permissions of {}", folder.display()))
}

fn is_complete(folder: &Path) -> bool {
    let version = fs::read_to_string(folder.join("build-version")).unwrap_or_default();
    let files = WHEELS.iter().flat_map(|(_, takes)| takes.iter());
    version.trim() == VERSION
        && folder.join("lib/libtorch.so").exists()
        && files
            .map(|take| folder.join(take.to))
            .all(|path| path.exists())
}
