//! Proves that `orchestrator/core` has no I/O and no async: by the crates that it is built with
//! and by its sources.
//!
//! Used by `test`. Clippy's bans in `orchestrator/core/clippy.toml` are the third proof; they see
//! calls through aliases, which this text search does not, and this sees modules as a whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::report::Outcome;
use crate::shell::{cargo, read, root};

/// Crates that do I/O or are async runtimes; a trailing `*` stands for any ending.
const CRATES: [&str; 22] = [
    "async-*",
    "bollard",
    "crossterm",
    "fs4",
    "futures*",
    "getrandom",
    "hyper*",
    "kube*",
    "libc",
    "memmap2",
    "mio",
    "nix",
    "object_store",
    "polling",
    "rand",
    "reqwest",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "tokio*",
    "walkdir",
];

/// Modules of std that core must not use.
const MODULES: [&str; 6] = ["env", "fs", "net", "os", "process", "thread"];

/// Other ways to a clock, to randomness or to a wait.
const WORDS: [&str; 9] = [
    "async fn",
    "async move",
    ".await",
    "SystemTime::now",
    "Instant::now",
    "OffsetDateTime::now",
    "println!(",
    "eprintln!(",
    "std::io::std",
];

/// Checks both.
pub(crate) fn check() -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let tree = read(cargo().args([
        "tree",
        "--locked",
        "--package",
        "auria-core",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    for name in impure_crates(&tree) {
        outcome.fail(format!("auria-core is built with the crate {name}"));
    }
    let sources = root().join("orchestrator/core/src");
    let files = rust_files(&sources)?;
    for path in &files {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let place = path.strip_prefix(root()).unwrap_or(path).display();
        for (line, word) in impure_lines(&text) {
            outcome.fail(format!("{place}:{line}: `{word}` has no place in core"));
        }
    }
    if files.is_empty() {
        outcome.fail(format!("no sources in {}", sources.display()));
    }
    Ok(outcome)
}

fn impure_crates(tree: &str) -> Vec<&str> {
    let mut names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| {
            CRATES.iter().any(|banned| match banned.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == banned,
            })
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Line numbers, from 1, and what is wrong there. Comments and the test module at a file's end are
/// left out.
fn impure_lines(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_group = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for module in MODULES {
            if has_path(code, &format!("std::{module}")) {
                found.push((index + 1, format!("std::{module}")));
            }
        }
        // `use std::{fs, fmt};`, on one line or several.
        let group = match code.split_once("std::{") {
            Some((_, group)) => {
                in_group = true;
                group
            }
            None if in_group => code,
            None => "",
        };
        if in_group {
            for part in group.split(['{', '}', ',', ';']) {
                let name = part.trim().split("::").next().unwrap_or_default();
                if MODULES.contains(&name) {
                    found.push((index + 1, format!("std::{name}")));
                }
            }
            in_group = !code.contains(';');
        }
        for word in WORDS {
            if code.contains(word) {
                found.push((index + 1, word.to_owned()));
            }
        }
    }
    found
}

/// Whether `path` stands in `code` as whole words: `std::os` is not in `std::osmosis`.
fn has_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let after = code[at + path.len()..].chars().next();
        !after.is_some_and(|next| next.is_alphanumeric() || next == '_')
    })
}

/// All sources below a folder but those of tests.
fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let is_test = path.file_stem().is_some_and(|name| name == "tests");
            if is_test {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{impure_crates, impure_lines};

    #[test]
    fn io_and_async_are_found() {
        let text = "use std::fmt;\nuse std::{fmt, fs};\n// std::net is named only\n\
                    async fn f() {}\nlet x = std::env::var(\"A\");\nuse std::{\n    collections::X,\n    \
                    thread,\n};\nstd::osmosis\n#[cfg(test)]\nuse std::fs;\n";
        let found: Vec<(usize, String)> = impure_lines(text);
        let found: Vec<(usize, &str)> = found.iter().map(|(n, w)| (*n, w.as_str())).collect();
        assert_eq!(
            found,
            [
                (2, "std::fs"),
                (4, "async fn"),
                (5, "std::env"),
                (8, "std::thread")
            ]
        );
    }

    #[test]
    fn io_crates_are_found() {
        let tree = "auria-core v0.1.0 (/x)\nserde v1.0.0\ntokio-util v0.7.0\nlibc v0.2.1\nlibc v0.2.1 (*)\n";
        assert_eq!(impure_crates(tree), ["libc", "tokio-util"]);
    }
}
