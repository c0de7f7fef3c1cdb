//! The reader of documents against arbitrary text, and against serde_yaml. Each
//! way in which the two differ is a line of `docs/decisions.md`.

#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use auria_core::check::{Loaded, check, check_names};
use auria_core::diagnostic::{RenderOptions, render};
use auria_core::document::{Document, Node, Resolved, Style, Value, parse};
use auria_core::planner::{Facts, needs, plan};
use auria_core::set;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeSet;

/// A way in which this reader differs from serde_yaml: the beginning of its line
/// in `docs/decisions.md`, and whether it explains a difference.
struct Rule {
    line: &'static str,
    explains: fn(text: &str, ours: &Resolved, theirs: &serde_yaml::Value) -> bool,
}

const RULES: &[Rule] = &[
    Rule {
        line: "`yes`, `no`, `on`, `off`",
        explains: |_, ours, theirs| matches!(ours, Resolved::Bool(_)) && theirs.is_string(),
    },
    Rule {
        line: "`010`",
        explains: |text, ours, theirs| {
            let digits = text.trim_start_matches(['-', '+']);
            let octal =
                digits.starts_with('0') && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            octal && matches!(ours, Resolved::Int(_)) && theirs.is_string()
        },
    },
    Rule {
        line: "`0o17`",
        explains: |text, ours, theirs| {
            text.contains("0o") && *ours == Resolved::Text && theirs.is_number()
        },
    },
    Rule {
        line: "`1_000`",
        explains: |text, ours, theirs| text.contains('_') && is_number(ours) && theirs.is_string(),
    },
    Rule {
        line: "`1:30`",
        explains: |text, ours, theirs| text.contains(':') && is_number(ours) && theirs.is_string(),
    },
    Rule {
        line: "`1e-3`",
        explains: |text, ours, theirs| {
            text.contains(['e', 'E']) && *ours == Resolved::Text && theirs.is_number()
        },
    },
    Rule {
        line: "`-.5`",
        explains: |text, ours, theirs| {
            text.starts_with(['-', '+']) && *ours == Resolved::Text && theirs.is_number()
        },
    },
    Rule {
        line: "A whole number above 2⁶³",
        explains: |_, ours, theirs| {
            matches!((ours, theirs), (Resolved::Float(float), serde_yaml::Value::Number(number))
                if number.as_f64().is_some_and(|theirs| ((theirs - float) / float).abs() < 1e-9))
        },
    },
];

/// Differences that are not about plain scalars.
const KEYS: &str = "Keys are text";
const TAGS: &str = "A tag of one's own";

fn is_number(resolved: &Resolved) -> bool {
    matches!(resolved, Resolved::Int(_) | Resolved::Float(_))
}

fn same(ours: &Resolved, text: &str, theirs: &serde_yaml::Value) -> bool {
    match (ours, theirs) {
        (Resolved::Null, serde_yaml::Value::Null) => true,
        (Resolved::Bool(ours), serde_yaml::Value::Bool(theirs)) => ours == theirs,
        (Resolved::Int(ours), serde_yaml::Value::Number(theirs)) => theirs.as_i64() == Some(*ours),
        (Resolved::Float(ours), serde_yaml::Value::Number(theirs)) => {
            theirs.is_f64()
                && theirs
                    .as_f64()
                    .is_some_and(|theirs| theirs == *ours || (theirs.is_nan() && ours.is_nan()))
        }
        (Resolved::Text, serde_yaml::Value::String(theirs)) => theirs == text,
        _ => false,
    }
}

/// Compares the two readings; adds the rules that differences fall under, or says
/// which one falls under none.
fn compare(
    ours: &Node,
    theirs: &serde_yaml::Value,
    used: &mut BTreeSet<&'static str>,
) -> Result<(), String> {
    if let serde_yaml::Value::Tagged(tagged) = theirs {
        used.insert(TAGS);
        return compare(ours, &tagged.value, used);
    }
    match (&ours.value, theirs) {
        (Value::Sequence(items), serde_yaml::Value::Sequence(others))
            if items.len() == others.len() =>
        {
            items
                .iter()
                .zip(others)
                .try_for_each(|(ours, theirs)| compare(ours, theirs, used))
        }
        (Value::Mapping(mapping), serde_yaml::Value::Mapping(others))
            if mapping.len() == others.len() =>
        {
            for (key, theirs) in others {
                let entry = match key {
                    serde_yaml::Value::String(text) => mapping.get(text),
                    _ => {
                        used.insert(KEYS);
                        // Ours kept the characters: find them by what they say.
                        mapping.iter().find(|entry| {
                            serde_yaml::from_str::<serde_yaml::Value>(&entry.key)
                                .is_ok_and(|read| read == *key)
                        })
                    }
                };
                let entry = entry.ok_or_else(|| format!("no key {key:?}"))?;
                compare(&entry.value, theirs, used)?;
            }
            Ok(())
        }
        (Value::Scalar(scalar), theirs) => {
            if same(&scalar.resolved, &scalar.text, theirs) {
                return Ok(());
            }
            let rule = RULES
                .iter()
                .find(|rule| (rule.explains)(&scalar.text, &scalar.resolved, theirs));
            match rule {
                Some(rule) if scalar.style == Style::Plain => {
                    used.insert(rule.line);
                    Ok(())
                }
                _ => Err(format!(
                    "`{}` ({:?}): {:?} here, {theirs:?} there",
                    scalar.text, scalar.style, scalar.resolved
                )),
            }
        }
        _ => Err(format!("{} here, {theirs:?} there", ours.kind())),
    }
}

/// Reads `text` with both, and compares.
fn both(text: &str) -> Result<BTreeSet<&'static str>, String> {
    let mut used = BTreeSet::new();
    let ours = parse("t.yml", text).map_err(|errors| format!("{errors:?}\n{text}"))?;
    let theirs: Result<Vec<serde_yaml::Value>, _> = serde_yaml::Deserializer::from_str(text)
        .map(|document| {
            let mut value = serde_yaml::Value::deserialize(document)?;
            value.apply_merge()?;
            Ok::<_, serde_yaml::Error>(value)
        })
        .collect();
    let theirs = theirs.map_err(|error| format!("{error}\n{text}"))?;
    let theirs: Vec<_> = theirs
        .into_iter()
        .filter(|value| !value.is_null())
        .collect();
    if ours.len() != theirs.len() {
        return Err(format!(
            "{} documents here, {} there\n{text}",
            ours.len(),
            theirs.len()
        ));
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        compare(&ours.root, theirs, &mut used).map_err(|why| format!("{why}\n{text}"))?;
    }
    Ok(used)
}

/// A document to be written.
#[derive(Clone, Debug)]
enum Tree {
    Plain(String),
    Single(String),
    Double(String),
    Literal(Vec<String>),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

fn scalar() -> impl Strategy<Value = Tree> {
    let words = prop::sample::select(vec![
        "yes",
        "No",
        "on",
        "OFF",
        "true",
        "False",
        "null",
        "~",
        "joy",
        "010",
        "08",
        "0",
        "-0",
        "0x1F",
        "0b11",
        "0o17",
        "1_000",
        "_1",
        "1:30",
        "1:75",
        "190:20:30",
        "1e3",
        "1e-3",
        "1.0e3",
        "1.5",
        "1.",
        ".5",
        "-.5",
        "+1",
        "-12",
        "1.0e-3",
        ".inf",
        "-.inf",
        ".nan",
        "2026-01-02",
        "9223372036854775808",
        "v1",
        "./a/b",
        "azureml:x@latest",
        "$name",
        "a b  c",
        "-1",
        "+.5",
        "12e03",
        "0.1_0",
        "0x",
        "0_7",
    ]);
    prop_oneof![
        4 => words.prop_map(|word| Tree::Plain(word.to_owned())),
        2 => "[0-9+._e-]{1,6}".prop_filter("not a plain scalar", |text| {
            !text.starts_with("- ") && text != "-" && text != "---" && text != "..." && !text.starts_with("---") && !text.starts_with("...")
        }).prop_map(Tree::Plain),
        1 => "[a-zé#:'\" ]{0,8}".prop_map(Tree::Single),
        1 => "[a-zé#:'\\\\\n ]{0,8}".prop_map(Tree::Double),
        1 => prop::collection::vec("[a-z#: ]{0,6}[a-z]", 1..4).prop_map(Tree::Literal),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        let keys =
            prop_oneof![9 => "[a-z]{1,4}", 1 => Just("1".to_owned()), 1 => Just("true".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
            prop::collection::btree_map(keys, inner, 0..5)
                .prop_map(|map| Tree::Map(map.into_iter().collect())),
        ]
    })
}

/// Writes a tree in block style; `flow` writes everything below in flow style.
fn write(tree: &Tree, indent: usize, flow: bool, out: &mut String) {
    match tree {
        Tree::Plain(text) => out.push_str(text),
        Tree::Single(text) => out.push_str(&format!("'{}'", text.replace('\'', "''"))),
        Tree::Double(text) => out.push_str(&serde_json::to_string(text).unwrap()),
        Tree::Literal(lines) if flow => {
            out.push_str(&serde_json::to_string(&lines.join("\n")).unwrap())
        }
        Tree::Literal(lines) => {
            out.push('|');
            // A first line that begins with a space needs its indentation said.
            if lines[0].starts_with(' ') {
                out.push('2');
            }
            for line in lines {
                out.push_str(&format!("\n{}{line}", " ".repeat(indent)));
            }
        }
        Tree::List(items) if flow || items.is_empty() => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write(item, indent, true, out);
            }
            out.push(']');
        }
        Tree::Map(entries) if flow || entries.is_empty() => {
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                out.push_str(&format!("{key}: "));
                write(value, indent, true, out);
            }
            out.push('}');
        }
        Tree::List(items) => {
            for item in items {
                out.push_str(&format!("\n{}- ", " ".repeat(indent)));
                write(item, indent + 2, false, out);
            }
        }
        Tree::Map(entries) => {
            for (key, value) in entries {
                out.push_str(&format!("\n{}{key}: ", " ".repeat(indent)));
                write(value, indent + 2, false, out);
            }
        }
    }
}

/// Everything that reads a document, on any text: it may say what it likes, but
/// must come back.
fn read_everything(text: &str, set: &str) {
    let documents = match parse("t.yml", text) {
        Ok(documents) => documents,
        Err(found) => {
            return drop(render(
                &found,
                RenderOptions {
                    color: true,
                    width: 40,
                },
            ));
        }
    };
    let _ = check_names(&documents);
    for mut document in documents {
        walk(&document, &document.root);
        let mut found = set::apply(&mut document, &[set.to_owned()]);
        let loaded = Loaded::load(&document, |_| Ok(text.as_bytes().to_vec()));
        let (pipeline, more) = check(&document, &loaded);
        found.extend(more);
        let _ = render(&found, RenderOptions::default());
        serde_json::to_string(&found).unwrap();
        if let Some(pipeline) = pipeline {
            let _ = needs(&pipeline);
            let _ = plan(&pipeline, &Facts::default());
        }
    }
}

/// Every value stands where its place says.
fn walk(document: &Document, node: &Node) {
    let range = node.place.range();
    assert!(range.end <= document.source.text().len());
    let (line, column) = (node.place.line(), node.place.column());
    assert!(line >= 1 && column >= 1);
    match &node.value {
        Value::Scalar(scalar) => {
            if scalar.style == Style::Plain && !scalar.text.contains([' ', '\n']) {
                assert_eq!(node.place.text(), scalar.text);
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| walk(document, item)),
        Value::Mapping(mapping) => mapping
            .iter()
            .for_each(|entry| walk(document, &entry.value)),
    }
}

/// Pieces from which texts like pipelines are put together.
const PIECES: &[&str] = &[
    "type: pipeline\n",
    "jobs:\n",
    "  a:\n",
    "  b: ",
    "    command: echo ${{inputs.x}}\n",
    "    inputs: {x: ",
    "\"${{parent.jobs.a.outputs.o}}\"",
    "${{parent.inputs.x}}",
    "}\n",
    "    outputs: {o: }\n",
    "inputs:\n  x: 1\n",
    "    component: ./c.yml\n",
    "&x ",
    "*x",
    "<<: ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ": ",
    ",",
    "\n",
    "\n\n",
    "---\n",
    "\t",
    "#",
    "!t ",
    "!!str ",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "${{",
    "}}",
    "$[[",
    "]]",
    "010",
    "é",
    "\u{feff}",
    "\r\n",
    "depends_on: b",
    "environment: {image: x}",
    "name: a\n",
    "  ",
    "settings: {on_init: a}\n",
    "\u{0}",
    "    type: pipeline\n",
    "type: ",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*", set in "\\PC{0,12}") {
        read_everything(&text, &set);
    }

    #[test]
    fn any_pieces_are_read_without_a_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        set in prop::sample::select(vec!["inputs.x=1", "jobs.a.command=x", "jobs.b.inputs.x=[", "settings.force_rerun=1", "=", "a.b"]),
    ) {
        read_everything(&pieces.concat(), set);
    }

    #[test]
    fn differences_from_serde_yaml_are_known(tree in tree(), flow in any::<bool>()) {
        // Alone in a file, some scalars are no document or would need other indentation.
        let tree = if matches!(tree, Tree::List(_) | Tree::Map(_)) { tree } else { Tree::List(vec![tree]) };
        let mut text = String::new();
        write(&tree, 0, flow, &mut text);
        text.push('\n');
        if let Err(why) = both(&text) {
            prop_assert!(false, "{}", why);
        }
    }
}

#[test]
fn each_known_difference_exists_and_is_documented() {
    let text = "
- [yes, 010, 0o17, 1_000, 1:30, 1e-3, -.5, 9223372036854775808]
- {1: one}
- !thing x
- &a {x: 1, y: 2}
- {<<: *a, y: 3}
- *a
";
    let used = both(text).unwrap();
    let above = "x: 18446744073709551616";
    assert!(
        parse("t.yml", above).is_ok() && serde_yaml::from_str::<serde_yaml::Value>(above).is_err()
    );
    let all: BTreeSet<_> = RULES
        .iter()
        .map(|rule| rule.line)
        .chain([KEYS, TAGS])
        .collect();
    assert_eq!(used, all);
    let decisions = include_str!("../../../docs/decisions.md");
    let (_, section) = decisions.split_once("## How scalars are read").unwrap();
    let section = section.split("\n## ").next().unwrap();
    for line in all {
        assert!(
            section.contains(&format!("\n- {line}")),
            "docs/decisions.md has no line `- {line}`"
        );
    }
}
