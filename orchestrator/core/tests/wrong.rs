//! What people read when a file is wrong: each file of `wrong/` with what is said
//! of it.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads its files"
)]

use auria_core::check::{Loaded, check, check_names};
use auria_core::diagnostic::{Diagnostic, RenderOptions, render, sort};
use auria_core::document::parse;
use std::path::Path;

/// Everything that is said of the file `name` of `wrong/`.
fn diagnose(name: &str) -> Vec<Diagnostic> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let read = |path: &str| {
        std::fs::read_to_string(folder.join(path)).map_err(|_| "there is no such file".to_owned())
    };
    let text = read(name).unwrap();
    let documents = match parse(name, &text) {
        Ok(documents) => documents,
        Err(diagnostics) => return diagnostics,
    };
    let mut found = check_names(&documents);
    for document in &documents {
        let loaded = Loaded::load(document, read);
        let (pipeline, more) = check(document, &loaded);
        assert_eq!(
            pipeline.is_none(),
            more.iter().any(Diagnostic::is_error),
            "{name}"
        );
        found.extend(more);
    }
    sort(&mut found);
    found
}

#[test]
fn every_wrong_file_says_what_is_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yml"))
        .collect();
    names.sort();
    assert!(names.len() >= 30, "{}", names.len());
    for name in names {
        let found = diagnose(&name);
        assert!(!found.is_empty(), "{name} has nothing wrong with it");
        let text = render(
            &found,
            RenderOptions {
                color: false,
                width: 80,
            },
        );
        insta::with_settings!({snapshot_suffix => name.trim_end_matches(".yml"), omit_expression => true, prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("wrong", text);
        });
    }
}

#[test]
fn three_slips_are_three_errors_at_three_places() {
    let found = diagnose("three_typos.yml");
    let places: Vec<_> = found
        .iter()
        .map(|found| (found.code, found.line(), found.column()))
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
    let found = diagnose("three_typos.yml");
    let json = serde_json::to_string_pretty(&found[0]).unwrap();
    insta::assert_snapshot!("json", json);
}
