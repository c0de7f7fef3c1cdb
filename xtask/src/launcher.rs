//! The launcher of a cluster: one static binary that runs in any image of its architecture,
//! with the features that a Pod needs and no others.
//!
//! Used by `launcher`, by the images and by the tests that start Pods. It is built into a folder
//! of its own, since other flags and features would build the rest of the workspace again.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::shell::{cargo, installs, run, say};

/// Builds it, and returns where it is.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let folder = installs().join("static");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cargo();
    build
        .args(["build", "--locked", "--package", "auria-launcher"])
        .args(["--no-default-features", "--features", "static"])
        // With a target of its own, build scripts and macros stay as they are.
        .args(["--profile", "launcher", "--target", &triple])
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    run(&mut build)?;
    let built = folder.join(&triple).join("launcher/auria-launcher");
    check_static(&built)?;
    let path = folder.join("auria-launcher");
    // Renamed into place: whoever copies it meanwhile has all of the one or of the other.
    let partial = folder.join(".auria-launcher.partial");
    std::fs::copy(&built, &partial)
        .and_then(|_| std::fs::rename(&partial, &path))
        .with_context(|| format!("cannot put {} into place", path.display()))?;
    let bytes = std::fs::metadata(&path)?.len();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib = bytes as f64 / 1_048_576.0;
    say(format!("{} has {mib:.1} MiB", path.display()));
    Ok(path)
}

/// Refuses a binary that needs a loader: an ELF file with an interpreter.
fn check_static(path: &PathBuf) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if has_interpreter(&bytes).with_context(|| format!("{} is no ELF file", path.display()))? {
        bail!("{} is not static: it asks for a loader", path.display());
    }
    Ok(())
}

/// Whether a 64-bit little-endian ELF file has a program header of the type PT_INTERP.
fn has_interpreter(elf: &[u8]) -> anyhow::Result<bool> {
    let number = |at: usize, bytes: usize| -> anyhow::Result<usize> {
        let field = elf.get(at..at + bytes).context("it is cut short")?;
        let number = field
            .iter()
            .rev()
            .fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        Ok(usize::try_from(number)?)
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("it begins otherwise");
    }
    let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        if number(first + header * size, 4)? == 3 {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_that_needs_a_loader_is_told_from_one_that_does_not() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(super::has_interpreter(&own).unwrap());
        assert!(super::has_interpreter(b"#!/bin/sh").is_err());
    }
}
