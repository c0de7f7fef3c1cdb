//! What people read when a file is wrong: each file of `wrong/`, and some that are
//! made here because of their size or their bytes, with all that is said of it.
//!
//! After a change look at the new snapshots as a person at a terminal: would you
//! know what to do?

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads its files"
)]

mod entry;

use auria_core::diagnostic::{Diagnostic, RenderOptions, render};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Fewer of them would be a step back.
const FILES: usize = 80;
const CODES: usize = 50;
const WITH_SEVERAL: usize = 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong")
}

/// Everything that is said of `bytes`, called `name`.
fn diagnose(name: &str, bytes: Vec<u8>) -> Vec<Diagnostic> {
    let open = |path: &str| match made().get(path) {
        Some(bytes) => Ok(bytes.clone()),
        None => std::fs::read(folder().join(path)).map_err(|_| "there is no such file".to_owned()),
    };
    entry::run(name, bytes, open).found
}

fn stored(name: &str) -> Vec<Diagnostic> {
    diagnose(name, std::fs::read(folder().join(name)).unwrap())
}

/// Files that are too large to keep, or no text.
fn made() -> &'static BTreeMap<&'static str, Vec<u8>> {
    static MADE: LazyLock<BTreeMap<&str, Vec<u8>>> = LazyLock::new(make);
    &MADE
}

fn make() -> BTreeMap<&'static str, Vec<u8>> {
    let pipeline = "type: pipeline\nname: kathi\njobs:\n  write: {command: echo}\n";
    let utf16 = |text: &str| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{items}]\n"));
    }
    let deep: String = (0..200)
        .map(|i| format!("{}a:\n", "  ".repeat(i)))
        .collect();
    let long = format!(
        "type: pipeline\njobs: {{a: {{command: \"{}\", comand: ls, display_name: \"{}\"}}}}\n",
        "echo ".repeat(20_000),
        "é".repeat(500),
    );
    let many: String = (0..600)
        .map(|i| format!("  s{i}: {{comand: echo}}\n"))
        .collect();
    BTreeMap::from([
        ("alias_bomb.yml", format!("type: pipeline\n{bomb}").into_bytes()),
        ("binary.yml", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0".to_vec()),
        ("deep.yml", format!("type: pipeline\njobs: \n{deep}").into_bytes()),
        ("fifty_megabytes.yml", {
            let mut text = format!("{pipeline}# ").into_bytes();
            text.resize(50 << 20, b'x');
            text
        }),
        ("latin1.yml", b"type: pipeline\nname: kathi\ndescription: caf\xe9\njobs: {}\n".to_vec()),
        ("long_line.yml", long.into_bytes()),
        ("many_errors.yml", format!("type: pipeline\njobs:\n{many}").into_bytes()),
        ("terminal.yml", "type: pipeline\njobs:\n  a: {command: echo, \"\\e[31mcomand\": 1}\n  \"b\u{9b}31m\": {command: echo}\n".into()),
        ("utf16.yml", utf16(pipeline)),
        ("zero_byte.yml", b"type: pipeline\nname: kathi\njobs: \0\0{}\n".to_vec()),
    ])
}

/// Every wrong file by its name, with all that is said of it.
fn all() -> BTreeMap<String, Vec<Diagnostic>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".yml") {
            all.insert(name.clone(), stored(&name));
        }
    }
    for (name, bytes) in made() {
        let before = all.insert((*name).to_owned(), diagnose(name, bytes.clone()));
        assert!(before.is_none(), "{name} is stored and made");
    }
    all
}

#[test]
fn every_wrong_file_says_what_is_wrong() {
    for (name, found) in all() {
        assert!(!found.is_empty(), "{name} has nothing wrong with it");
        let options = RenderOptions {
            color: false,
            width: 80,
        };
        // A few of very many show how the rest looks.
        let shown = if found.len() > 100 {
            [&found[..2], &found[found.len() - 2..]].concat()
        } else {
            found
        };
        let text = render(&shown, options);
        insta::with_settings!({snapshot_suffix => name.trim_end_matches(".yml"), omit_expression => true, prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("wrong", text);
        });
    }
}

#[test]
fn the_wrong_files_are_many_and_different() {
    let all = all();
    let found = || all.values().flatten();
    let codes: BTreeSet<&str> = found().map(|found| found.code.as_str()).collect();
    let errors = |found: &Vec<Diagnostic>| found.iter().filter(|one| one.is_error()).count();
    let several = all.values().filter(|found| errors(found) >= 2).count();
    eprintln!(
        "{} wrong files, {} codes, {several} with several errors",
        all.len(),
        codes.len()
    );
    assert!(all.len() >= FILES, "{} wrong files", all.len());
    assert!(codes.len() >= CODES, "{} codes: {codes:?}", codes.len());
    assert!(
        several >= WITH_SEVERAL,
        "{several} files with two errors or more"
    );
}

#[test]
fn every_diagnostic_has_a_place_and_a_way_out() {
    for (name, found) in all() {
        for one in found {
            let shown = format!("{name}: {} {}", one.code, one.message);
            assert!(one.line() > 0 && one.column() > 0, "{shown}");
            assert!(
                one.help.is_some_and(|help| !help.is_empty()),
                "{shown}: no help"
            );
            assert!(!one.message.is_empty(), "{shown}");
        }
    }
}

#[test]
fn three_slips_are_three_errors_at_three_places() {
    let found = stored("three_typos.yml");
    let places: Vec<_> = found
        .iter()
        .map(|found| (found.code.as_str(), found.line(), found.column()))
        .collect();
    assert_eq!(
        places,
        [
            ("unknown-type", 4, 19),
            ("unknown-input", 12, 13),
            ("unknown-step", 17, 13)
        ]
    );
    assert!(found.iter().all(|found| {
        found
            .help
            .as_deref()
            .is_some_and(|help| help.starts_with("did you mean"))
    }));
}

#[test]
fn json_is_as_promised() {
    let found = stored("three_typos.yml");
    let json = serde_json::to_string_pretty(&found[0]).unwrap();
    insta::assert_snapshot!("json", json);
}
