//! From the bytes of a pipeline file to all that is said of it and to its plans, as
//! `validate` and `submit` go: what the tests of wrong files and both fuzzers run.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "several programs include this file, each of them a part of it"
)]

use auria_core::check::{Loaded, check, check_names};
use auria_core::diagnostic::{Diagnostic, RenderOptions, render, sort};
use auria_core::document::{decode, read};
use auria_core::planner::{Facts, Target, needs, notes, plan};
use auria_core::set;
use std::collections::BTreeMap;

/// What came of a file.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Everything that was said, sorted.
    pub found: Vec<Diagnostic>,
    /// Steps of all plans that were made.
    pub steps: usize,
}

/// Reads, checks and plans the file `name`; `open` gives the files that it names.
///
/// A line `# set: PATH=VALUE` of the file is an argument `--set`, and a line
/// `# target: process` or `image` plans it for that target.
pub fn run(
    name: &str,
    bytes: Vec<u8>,
    open: impl Fn(&str) -> Result<Vec<u8>, String> + Copy,
) -> Outcome {
    let mut outcome = Outcome::default();
    let source = match decode(name, bytes) {
        Ok(source) => source,
        Err(found) => {
            outcome.found.push(*found);
            return outcome;
        }
    };
    let told = |what: &str| -> Vec<String> {
        let lines = source.text().lines().take(16);
        let told = lines.filter_map(|line| line.strip_prefix("# ")?.strip_prefix(what));
        told.map(str::to_owned).collect()
    };
    let (sets, targets) = (told("set: "), told("target: "));
    let parsed = read(&source);
    outcome.found = parsed.errors;
    outcome.found.extend(check_names(&parsed.documents));
    let mut loaded = Loaded::new();
    for mut document in parsed.documents {
        outcome.found.extend(set::apply(&mut document, &sets));
        loaded.add(&document, open);
        let (pipeline, found) = check(&document, &loaded);
        let wrong = found.iter().any(Diagnostic::is_error) || document.unfinished.is_some();
        assert_eq!(pipeline.is_none(), wrong, "{name}: {found:?}");
        outcome.found.extend(found);
        let Some(pipeline) = pipeline else {
            continue;
        };
        let _ = needs(&pipeline);
        let target = targets.first().map(String::as_str);
        let facts = Facts {
            run: "run-1".to_owned(),
            folder: "/home/auria".to_owned(),
            target: match target {
                Some("image") => Target::default(),
                _ => Target::Process {
                    os: "linux".to_owned(),
                    arch: "x86_64".to_owned(),
                    host: "host".to_owned(),
                    executables: BTreeMap::new(),
                },
            },
            ..Facts::default()
        };
        let planned = plan(&pipeline, &facts);
        if target.is_some() {
            outcome.found.extend(notes(&pipeline, &facts));
        }
        match planned {
            Ok(plan) => outcome.steps += plan.steps.len(),
            Err(found) if target.is_some() => outcome.found.extend(found),
            Err(_) => {}
        }
    }
    sort(&mut outcome.found);
    outcome
}

/// Marks the beginning of another file in the bytes of a fuzzer: the rest of the line
/// is its name.
const FILE: &[u8] = b"\n#### ";

/// Runs bytes that a fuzzer made: a file, `fuzzed.yml`, and others behind lines
/// `#### NAME`. A file that is not among them is one of `parts`.
pub fn fuzz(bytes: &[u8], parts: &dyn Fn(&str) -> Option<Vec<u8>>) -> Outcome {
    let mut starts: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(FILE))
        .take(8)
        .collect();
    starts.push(bytes.len());
    let main = &bytes[..starts[0]];
    let mut others: BTreeMap<String, &[u8]> = BTreeMap::new();
    for pair in starts.windows(2) {
        let file = &bytes[pair[0] + FILE.len()..pair[1]];
        let end = file
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(file.len());
        let name = String::from_utf8_lossy(&file[..end]).into_owned();
        others.insert(name, &file[end..]);
    }
    let open = |path: &str| match others.get(path) {
        Some(bytes) => Ok(bytes.to_vec()),
        None if path == "fuzzed.yml" => Ok(main.to_vec()),
        None => parts(path).ok_or_else(|| "there is no such file".to_owned()),
    };
    let outcome = run("fuzzed.yml", main.to_vec(), open);
    // What is said can be shown, whatever the text holds.
    let few = &outcome.found[..outcome.found.len().min(3)];
    if bytes.len().is_multiple_of(4) {
        let options = RenderOptions {
            color: false,
            width: 20 + bytes.len() % 80,
        };
        let text = render(few, options);
        assert!(few.is_empty() || !text.is_empty());
        let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!text.contains(obeyed), "{text:?}");
    }
    assert!(serde_json::to_string(few).is_ok());
    for found in &outcome.found {
        let place = found.place.as_ref().expect("every diagnostic has a place");
        assert!(place.range().end <= place.source().text().len());
        assert!(!found.message.is_empty());
    }
    outcome
}
