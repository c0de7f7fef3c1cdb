//! `cargo xtask schema`: files of `docs/` that the binary's own text makes.
//!
//! JSON schemas for editors, the reference of the command line, and the manual page. With
//! `--check` nothing is written, and a stale file is an error: a test of CI.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::shell::{self, binary, cargo, read, root, say};

/// Kinds of files that have a schema.
const KINDS: [&str; 5] = ["pipeline", "component", "config", "diagnostics", "openapi"];

/// Builds the binary and writes the files, or with `check` says which are stale.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    // With the features that the whole workspace asks for, as the tests build it: else all
    // that it depends on would be built a second time.
    shell::run(cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--bin",
        "auria-pipeline",
    ]))?;
    if check {
        return compare();
    }
    for (path, text) in changed()? {
        let place = root().join(&path);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
        say(format!("wrote {}", path.display()));
    }
    Ok(())
}

/// An error that names the files which differ from what the built binary says.
pub(crate) fn compare() -> anyhow::Result<()> {
    let stale: Vec<String> = changed()?
        .keys()
        .map(|path| path.display().to_string())
        .collect();
    if !stale.is_empty() {
        bail!("stale: {}; run `cargo xtask schema`", stale.join(", "));
    }
    Ok(())
}

/// The generated files that differ from those in the project.
fn changed() -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut files = files()?;
    files.retain(|path, text| {
        !fs::read_to_string(root().join(path)).is_ok_and(|current| current == *text)
    });
    Ok(files)
}

/// Every generated file, by its path in the project.
fn files() -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for kind in KINDS {
        let text = read(pipeline().args(["schema", kind]))?;
        serde_json::from_str::<serde_json::Value>(&text)
            .with_context(|| format!("the schema of {kind} is no JSON"))?;
        files.insert(PathBuf::from(format!("docs/schema/{kind}.json")), text);
    }
    files.insert(
        PathBuf::from("manifests/base/crd.yaml"),
        read(pipeline().args(["schema", "resources"]))?,
    );
    let codes = read(pipeline().args(["schema", "diagnostics"]))?;
    files.insert(PathBuf::from("docs/errors.md"), errors(&codes)?);
    files.insert(PathBuf::from("docs/cli.md"), reference()?);
    files.insert(
        PathBuf::from("docs/man/auria-pipeline.1"),
        read(pipeline().arg("man"))?,
    );
    Ok(files)
}

/// The page of every code, from the schema of diagnostics.
fn errors(schema: &str) -> anyhow::Result<String> {
    let schema: serde_json::Value =
        serde_json::from_str(schema).context("the schema of diagnostics is no JSON")?;
    let codes = schema["$defs"]["code"]["oneOf"].as_array();
    let mut text = ERRORS.to_owned();
    let mut group = "";
    for code in codes.into_iter().flatten() {
        let part = |name: &str| {
            code[name]
                .as_str()
                .with_context(|| format!("a code without {name}"))
        };
        if part("title")? != group {
            group = part("title")?;
            text += &format!("\n## {group}\n\n| code | means |\n|---|---|\n");
        }
        let meaning = part("description")?.replace('|', "\\|");
        text += &format!("| `{}` | {meaning} |\n", part("const")?);
    }
    anyhow::ensure!(!group.is_empty(), "the schema of diagnostics has no codes");
    Ok(text)
}

/// What stands above the list of codes.
const ERRORS: &str = "# Errors and warnings\n\n\
    This page is written by `cargo xtask schema` from the codes that the check can give.\n\n\
    `auria-pipeline validate FILE…` finds everything that is wrong with all files at once, and with \
    those that they name. Each finding has a code, a place, the line with the part in question \
    underlined, and a way out. An error keeps a pipeline from starting; a warning does not. Behind \
    text that is no YAML reading goes on with the next document (`---`); of the document itself only \
    its beginning is checked, and only for what no further line could make right.\n\n\
    For scripts, `--output json` prints the same codes and places; `auria-pipeline schema \
    diagnostics` is its JSON schema. A code is never given another meaning.\n";

/// The help of every command, one after the other.
fn reference() -> anyhow::Result<String> {
    let mut text = "# The command line\n\n\
                    This page is written by `cargo xtask schema` from the program's own help.\n"
        .to_owned();
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let help = read(pipeline().args(&path).arg("--help"))?;
        let title = std::iter::once("auria-pipeline")
            .chain(path.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ");
        let help = help
            .lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n");
        text += &format!("\n## {title}\n\n```text\n{}\n```\n", help.trim_end());
        for name in commands(&help).into_iter().rev() {
            let mut below = path.clone();
            below.push(name);
            waiting.push(below);
        }
    }
    Ok(text)
}

/// The names under `Commands:` in a help text, but `help` itself.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        // A long description goes on further to the right.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The binary, whatever the terminal and the user's settings are.
fn pipeline() -> Command {
    let mut command = Command::new(binary("auria-pipeline"));
    command
        .current_dir(root())
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AURIA_") {
            command.env_remove(name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_commands_of_a_help_text() {
        let help = "Runs.\n\nUsage: x\n\nCommands:\n  submit  Run\n          it\n  show    Show\n  \
                    help    Print this\n\nOptions:\n  -h\n";
        assert_eq!(super::commands(help), ["submit", "show"]);
    }
}
