//! What the tests of containers need: Docker and Podman from Debian's packages, and the files
//! of small images, made of Debian's packages too: two suites, so that their Pythons differ, and
//! one of them with conda, from PyPI.
//!
//! Used by `test`. Needs root on Debian; elsewhere says why there is nothing to install. No
//! service is started: the tests start engines of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::lock;
use crate::shell::{human, installs, read, root, run, say, timed};

/// Programs, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 6] = [
    ("dockerd", "docker.io"),
    // The engine's package brings it where no other does.
    ("docker", "docker.io"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("dpkg-deb", "dpkg"),
];

/// The suites whose files become images.
const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// What is in such an image, with all that it needs.
const IN_IMAGE: [&str; 8] = [
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "grep",
    "libstdc++6",
    "python3",
    "python3-minimal",
];

/// conda, which the package conda-lock carries whole, and what it needs; pip and six for the
/// environment that the tests make with it.
const WHEELS: [&str; 23] = [
    "archspec==0.2.7",
    "boltons==26.2.0",
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "conda-lock==4.0.3",
    "conda-package-handling==2.6.0",
    "conda-package-streaming==0.13.0",
    "distro==1.9.0",
    "frozendict==2.5.1",
    "idna==3.20",
    "jsonpatch==1.48",
    "jsonpointer==3.12",
    "packaging==26.4",
    "pip==26.3",
    "platformdirs==4.14.8",
    "pluggy==1.7.0",
    "python-sat==1.9.dev24",
    "requests==2.34.2",
    "ruamel-yaml==0.19.1",
    "six==1.17.0",
    "tqdm==4.70.1",
    "urllib3==2.8.0",
    "zstandard==0.25.0",
];

/// The path of Debian's Chromium, installed if absent; the reason where this machine cannot.
pub(crate) fn chromium() -> anyhow::Result<Result<String, String>> {
    let path = "/usr/bin/chromium";
    if Path::new(path).exists() {
        return Ok(Ok(path.to_owned()));
    }
    if !nix::unistd::getuid().is_root() || !is_program("apt-get") {
        let why = "it comes from Debian's packages, which root installs";
        return Ok(Err(why.to_owned()));
    }
    let _held = lock::installing()?;
    say("installing Debian's package chromium (a browser for the tests of pages)");
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args([
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "chromium",
        ])
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(Ok(path.to_owned()))
}

/// Installs what is missing; the reason where this machine cannot.
pub(crate) fn install() -> anyhow::Result<Option<String>> {
    if !nix::unistd::getuid().is_root() {
        return Ok(Some("engines for tests need root".to_owned()));
    }
    if !is_program("apt-get") {
        return Ok(Some(
            "engines for tests come from Debian's packages, and there is no apt-get".to_owned(),
        ));
    }
    let Some(mirror) = mirror() else {
        return Ok(Some(
            "engines for tests come from Debian's packages, and nothing in /etc/apt names their archive"
                .to_owned(),
        ));
    };
    let _held = lock::installing()?;
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_program(program))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        say(format!(
            "installing Debian's packages {} (container engines for the tests; none is started)",
            missing.join(", ")
        ));
        let (done, took) = timed(|| {
            run(Command::new("apt-get").args(["update", "-qq"]))?;
            run(Command::new("apt-get")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(&missing)
                .env("DEBIAN_FRONTEND", "noninteractive"))
        });
        done?;
        say(format!("installed in {}", human(took)));
    }
    for suite in SUITES {
        let archive = installs().join(format!("tools/roots/{suite}.tar"));
        if !archive.exists() {
            let (done, took) = timed(|| image_root(suite, &mirror, &archive));
            done.with_context(|| format!("cannot make the files of an image of {suite}"))?;
            say(format!("made {} in {}", archive.display(), human(took)));
        }
    }
    let archive = installs().join("tools/roots/conda.tar");
    if !archive.exists() {
        let (done, took) = timed(|| conda_root(&archive));
        done.context("cannot make the files of an image with conda")?;
        say(format!("made {} in {}", archive.display(), human(took)));
    }
    Ok(None)
}

/// Writes the files of an image that carries conda and a channel, see the script.
fn conda_root(archive: &Path) -> anyhow::Result<()> {
    let folder = archive.parent().context("an archive is in a folder")?;
    let staging = tempfile::Builder::new()
        .prefix(lock::PARTIAL)
        .tempdir_in(folder)?;
    let wheels = staging.path().join("wheels");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--only-binary=:all:", "--disable-pip-version-check"])
        .args(["--implementation", "cp", "--python-version", "3.11"])
        .args(["--abi", "cp311", "--abi", "abi3", "--abi", "none"])
        .args(["--platform", "manylinux_2_28_x86_64"])
        .args(["--platform", "manylinux_2_17_x86_64"])
        .args(["--platform", "manylinux2014_x86_64", "--platform", "any"])
        .arg("--dest")
        .arg(&wheels)
        .args(WHEELS))?;
    let partial = staging.path().join("conda.tar");
    run(Command::new("python3")
        .arg(root().join("tests/data/conda_base.py"))
        .arg(&wheels)
        .args(SUITES.map(|suite| folder.join(format!("{suite}.tar"))))
        .arg(&partial))?;
    fs::rename(partial, archive)?;
    Ok(())
}

fn is_program(name: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|folder| Path::new(folder).join(name).is_file())
}

/// Where this machine's own packages come from.
fn mirror() -> Option<String> {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    for entry in fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
    {
        let text = entry.map(|entry| fs::read_to_string(entry.path()));
        texts.extend(text.into_iter().flatten());
    }
    let mut addresses = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| {
            let rest = line
                .strip_prefix("URIs:")
                .or_else(|| line.strip_prefix("deb "))?;
            rest.split_whitespace()
                .find(|word| word.trim_end_matches('/').ends_with("/debian"))
                .map(str::to_owned)
        });
    addresses.next()
}

/// Writes the files of a small Debian to `archive`. The packages are unpacked and not
/// installed: nothing of them runs here.
fn image_root(suite: &str, mirror: &str, archive: &Path) -> anyhow::Result<()> {
    let folder = archive.parent().context("an archive is in a folder")?;
    fs::create_dir_all(folder)?;
    let staging = tempfile::Builder::new()
        .prefix(lock::PARTIAL)
        .tempdir_in(folder)?;
    let at = |name: &str| staging.path().join(name);
    for name in ["lists/partial", "cache/archives/partial", "root"] {
        fs::create_dir_all(at(name))?;
    }
    fs::write(at("status"), "")?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keys}] {mirror} {suite} main\n");
    fs::write(at("sources.list"), source)?;
    let config = format!(
        "Dir::State \"{0}\";\nDir::State::status \"{0}/status\";\nDir::State::lists \"{0}/lists\";\n\
         Dir::Cache \"{0}/cache\";\nDir::Etc::sourcelist \"{0}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
         Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n",
        staging.path().display()
    );
    fs::write(at("apt.conf"), config)?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", at("apt.conf")).arg("-qq");
        command
    };
    run(apt().arg("update"))?;
    run(apt()
        .args([
            "install",
            "-y",
            "--download-only",
            "--no-install-recommends",
        ])
        .args(IN_IMAGE))?;
    unpack(&at("cache/archives"), &at("root"), suite)?;
    let partial = at("root.tar");
    run(Command::new("tar")
        .arg("-C")
        .arg(at("root"))
        .arg("-cf")
        .arg(&partial)
        .arg("."))?;
    fs::rename(partial, archive)?;
    Ok(())
}

fn unpack(packages: &Path, root: &Path, suite: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for name in ["tmp", "etc"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let mut found: Vec<PathBuf> = fs::read_dir(packages)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    found.retain(|path| path.extension().is_some_and(|ending| ending == "deb"));
    ensure!(!found.is_empty(), "apt-get fetched no package");
    found.sort();
    for package in found {
        read(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))?;
    }
    // Each image has another shell as `sh`.
    let shell = if suite == SUITES[0] { "bash" } else { "dash" };
    for (name, to) in [("sh", shell), ("setsid", "/bin/busybox")] {
        let link = root.join("bin").join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(to, link)?;
    }
    for name in ["doc", "man", "locale", "info"] {
        let path = root.join("usr/share").join(name);
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}
