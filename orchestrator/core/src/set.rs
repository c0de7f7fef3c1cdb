//! `--set PATH=VALUE`: an edit of the document's tree before it is checked. The
//! new value's place is the argument itself, so that an error about it points
//! there. Whether the value fits is the check's to say; this only finds the place
//! and reads the value as what stands there is read.

use crate::check::fields::{PIPELINE, SETTINGS};
use crate::diagnostic::suggest::{did_you_mean, or_none};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{
    Document, Entry, Mapping, Node, Place, Resolved, Scalar, Source, Style, Value, parse_source,
};
use std::sync::Arc;

/// Makes every assignment (`inputs.mood=joy`) in `document`, in their order. Gives
/// what is wrong with those that are no assignment or whose path leads nowhere;
/// these change nothing.
#[must_use]
pub fn apply(document: &mut Document, assignments: &[String]) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for assignment in assignments {
        if let Err(error) = assign(&mut document.root, assignment) {
            errors.push(*error);
        }
    }
    errors
}

type Failed = Box<Diagnostic>;

/// One assignment: its text, and where its parts are in it.
struct Assignment {
    source: Arc<Source>,
    /// Where the value begins.
    value: usize,
}

impl Assignment {
    fn place(&self, range: std::ops::Range<usize>) -> Place {
        Place::new(&self.source, range)
    }

    fn value_place(&self) -> Place {
        self.place(self.value..self.source.text().len())
    }

    fn value_text(&self) -> &str {
        &self.source.text()[self.value..]
    }

    fn fail(&self, code: Code, message: String, range: std::ops::Range<usize>) -> Diagnostic {
        Diagnostic::error(code, message, &self.place(range))
    }
}

/// A part of a path, and where it is in the argument.
#[derive(Clone)]
struct Part<'a> {
    text: &'a str,
    start: usize,
}

impl Part<'_> {
    fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.text.len()
    }
}

fn assign(root: &mut Node, text: &str) -> Result<(), Failed> {
    let source = Source::argument(format!("--set {text}"), text);
    let Some(equals) = text.find('=') else {
        let message = format!("`{text}` is not PATH=VALUE");
        let place = Place::new(&source, 0..text.len());
        return Err(Box::new(
            Diagnostic::error(Code::SetSyntax, message, &place)
                .help("write `--set inputs.NAME=VALUE`"),
        ));
    };
    let assignment = Assignment {
        source: Arc::clone(&source),
        value: equals + 1,
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for part in text[..equals].split('.') {
        if part.is_empty() {
            let message = format!("`{}` is not a path", &text[..equals]);
            let help = "write names with one `.` between them: `inputs.NAME`";
            return Err(Box::new(
                assignment
                    .fail(Code::SetSyntax, message, 0..equals)
                    .help(help),
            ));
        }
        parts.push(Part { text: part, start });
        start += part.len() + 1;
    }
    let (first, rest) = (&parts[0], &parts[1..]);
    match (first.text, rest) {
        ("inputs", [name, ..]) => input(root, first, name, rest, &assignment),
        ("settings", [key]) => {
            if SETTINGS.field(key.text).is_none() {
                return Err(unknown(
                    "`settings`",
                    key,
                    SETTINGS.keys().collect(),
                    &assignment,
                ));
            }
            set(root, &parts, &assignment)
        }
        ("jobs", [name, _, ..]) => {
            let jobs = root.get("jobs").and_then(Node::as_mapping);
            known(jobs, name, "the pipeline has no step", &assignment)?;
            nested_jobs(root, &parts, &assignment)?;
            set(root, &parts, &assignment)
        }
        ("outputs", [name, _, ..]) => {
            let outputs = root.get("outputs").and_then(Node::as_mapping);
            known(outputs, name, "the pipeline has no output", &assignment)?;
            set(root, &parts, &assignment)
        }
        ("inputs" | "settings" | "jobs" | "outputs", _) => {
            let message = format!("`{}` is not the path of a value", &text[..equals]);
            let help = "write `inputs.NAME`, `settings.KEY` or `jobs.STEP.KEY`";
            Err(Box::new(
                assignment
                    .fail(Code::SetPath, message, 0..equals)
                    .help(help),
            ))
        }
        ("tags" | "properties", [_]) => set(root, &parts, &assignment),
        (key, []) if PIPELINE.field(key).is_some() => set(root, &parts, &assignment),
        _ => Err(unknown(
            "a pipeline",
            first,
            PIPELINE.keys().collect(),
            &assignment,
        )),
    }
}

fn unknown(what: &str, part: &Part<'_>, known: Vec<&str>, assignment: &Assignment) -> Failed {
    let message = format!("{what} has no key `{}`", part.text);
    let help = did_you_mean(part.text, known)
        .unwrap_or_else(|| "a path begins with `inputs`, `jobs`, `settings`, `outputs`, `tags`, or is a key such as `name`".to_owned());
    Box::new(
        assignment
            .fail(Code::SetPath, message, part.range())
            .help(help),
    )
}

fn known(
    mapping: Option<&Mapping>,
    part: &Part<'_>,
    what: &str,
    assignment: &Assignment,
) -> Result<(), Failed> {
    if mapping.is_some_and(|mapping| mapping.get(part.text).is_some()) {
        return Ok(());
    }
    let names: Vec<&str> = mapping
        .into_iter()
        .flat_map(|mapping| mapping.iter().map(|entry| &*entry.key))
        .collect();
    let message = format!("{what} `{}`", part.text);
    let found = assignment.fail(Code::SetPath, message, part.range());
    let help = did_you_mean(part.text, names);
    Err(Box::new(found.help(or_none(help))))
}

/// Checks the names of steps along `jobs.outer.jobs.inner.…`.
fn nested_jobs(root: &Node, parts: &[Part<'_>], assignment: &Assignment) -> Result<(), Failed> {
    let mut node = root;
    let mut rest = parts;
    while let [jobs, name, tail @ ..] = rest
        && jobs.text == "jobs"
    {
        let mapping = node.get("jobs").and_then(Node::as_mapping);
        known(mapping, name, "there is no step", assignment)?;
        let Some(next) = mapping.and_then(|mapping| mapping.get(name.text)) else {
            break;
        };
        node = &next.value;
        rest = tail;
    }
    Ok(())
}

/// `inputs.NAME`, also of an input that is written as a mapping.
fn input(
    root: &mut Node,
    first: &Part<'_>,
    name: &Part<'_>,
    rest: &[Part<'_>],
    assignment: &Assignment,
) -> Result<(), Failed> {
    let inputs = root.get("inputs").and_then(Node::as_mapping);
    // The inputs of a component are in its own file: the check knows them.
    let is_component = root
        .get("component")
        .is_some_and(|component| !component.is_null());
    if !is_component {
        known(inputs, name, "the pipeline has no input", assignment)?;
    }
    let mut path = vec![first.clone()];
    path.extend_from_slice(rest);
    let written = inputs
        .and_then(|inputs| inputs.get(name.text))
        .map(|entry| &entry.value);
    if let (Some(mapping), [_]) = (written.and_then(Node::as_mapping), rest) {
        let kind = mapping
            .get("type")
            .and_then(|entry| entry.value.as_text())
            .unwrap_or_default();
        let is_parameter = matches!(kind, "string" | "integer" | "number" | "boolean");
        let is_parameter = is_parameter || (kind.is_empty() && mapping.get("path").is_none());
        let key = if is_parameter { "value" } else { "path" };
        path.push(Part {
            text: key,
            start: name.start,
        });
    }
    set(root, &path, assignment)
}

/// Sets the value at `path`; mappings that are missing on the way are made.
fn set(root: &mut Node, path: &[Part<'_>], assignment: &Assignment) -> Result<(), Failed> {
    let Some((part, rest)) = path.split_first() else {
        return Ok(());
    };
    if root.is_null() {
        *root = Node::empty_mapping(assignment.place(part.range()));
    }
    let kind = root.kind();
    let Value::Mapping(mapping) = &mut root.value else {
        let message = format!("`{}` cannot be set: what holds it is {kind}", part.text);
        let help = "give it the value as a whole, or name a key that holds other keys";
        return Err(Box::new(
            assignment
                .fail(Code::SetPath, message, part.range())
                .help(help),
        ));
    };
    // Only what lies on the path is copied; the rest stays shared.
    let mapping = Arc::make_mut(mapping);
    if rest.is_empty() {
        let value = value(mapping.get(part.text).map(|entry| &entry.value), assignment)?;
        let key_place = assignment.place(part.range());
        mapping.set(Entry {
            key: Arc::from(part.text),
            key_place,
            value,
        });
        return Ok(());
    }
    if mapping.get(part.text).is_none() {
        let key_place = assignment.place(part.range());
        let value = Node::empty_mapping(key_place.clone());
        mapping.set(Entry {
            key: Arc::from(part.text),
            key_place,
            value,
        });
    }
    match mapping.get_mut(part.text) {
        Some(node) => set(node, rest, assignment),
        None => Ok(()),
    }
}

/// The new value, read as what stands there is: text stays text, a number must be
/// one, and so on; where nothing stands, the characters decide.
fn value(before: Option<&Node>, assignment: &Assignment) -> Result<Node, Failed> {
    let place = assignment.value_place();
    let plain = Node::plain(assignment.value_text(), place.clone());
    let mismatch = |what: &str| {
        let message = format!(
            "`{}` is not {what}, which is what stands there",
            assignment.value_text()
        );
        let range = assignment.value..assignment.source.text().len();
        let help = format!("give {what}, or change the file if another type is meant");
        Err(Box::new(
            assignment.fail(Code::SetType, message, range).help(help),
        ))
    };
    let Some(before) = before else {
        return Ok(plain);
    };
    let Some(scalar) = before.as_scalar() else {
        return collection(before, assignment);
    };
    let read = plain
        .as_scalar()
        .map_or(Resolved::Text, |scalar| scalar.resolved.clone());
    match (&scalar.resolved, &read) {
        (Resolved::Text, _) => {
            let text = assignment.value_text().to_owned();
            let scalar = Scalar {
                text,
                style: Style::Quoted,
                resolved: Resolved::Text,
            };
            Ok(Node {
                value: Value::Scalar(Arc::new(scalar)),
                place,
                used_at: None,
                tag: None,
            })
        }
        (Resolved::Null, _) => Ok(plain),
        (Resolved::Bool(_), Resolved::Bool(_)) => Ok(plain),
        (Resolved::Bool(_), _) => mismatch("true or false"),
        (Resolved::Int(_) | Resolved::Float(_), Resolved::Int(_) | Resolved::Float(_)) => Ok(plain),
        // `1e-3` is text to YAML 1.1, and a number to whoever types it.
        (Resolved::Int(_) | Resolved::Float(_), Resolved::Text)
            if assignment
                .value_text()
                .parse::<f64>()
                .is_ok_and(f64::is_finite) =>
        {
            Ok(plain)
        }
        (Resolved::Int(_) | Resolved::Float(_), _) => mismatch("a number"),
    }
}

/// A list or mapping is replaced by one, written as YAML.
fn collection(before: &Node, assignment: &Assignment) -> Result<Node, Failed> {
    let text = assignment.source.text();
    // Padded, so that places in it are places in the argument.
    let padded = format!(
        "{}{}",
        " ".repeat(assignment.value),
        assignment.value_text()
    );
    let name = assignment.source.name();
    let parsed = parse_source(&Source::argument(name, padded)).ok();
    let root = parsed
        .and_then(|documents| documents.into_iter().next())
        .map(|document| document.root);
    match root {
        Some(root) if root.kind() == before.kind() => Ok(root),
        _ => {
            let message = format!(
                "`{}` is not {}, which is what stands there",
                assignment.value_text(),
                before.kind()
            );
            let help = match before.kind() {
                "a list" => "write `[a, b]`",
                _ => "write `{key: value}`, or set one key: `…resources.gpus=2`",
            };
            Err(Box::new(
                assignment
                    .fail(Code::SetType, message, assignment.value..text.len())
                    .help(help),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::apply;
    use crate::document::{Document, parse};

    const FILE: &str = "\
name: p
inputs:
  mood: joy
  seed: 1
  fast: false
  rate: {type: number, default: 0.1}
  data: {type: uri_folder, path: ./data}
jobs:
  a:
    command: echo
    resources: {gpus: 1}
";

    fn document() -> Document {
        parse("p.yml", FILE).unwrap().remove(0)
    }

    fn read(assignment: &str, path: &[&str]) -> String {
        let mut document = document();
        assert!(apply(&mut document, &[assignment.to_owned()]).is_empty());
        let node = path
            .iter()
            .fold(&document.root, |node, key| node.get(key).unwrap());
        format!("{} {} {}", node.to_json(), node.kind(), node.place)
    }

    #[test]
    fn values_are_typed_by_what_stands_there() {
        let mood = read("inputs.mood=010", &["inputs", "mood"]);
        assert_eq!(mood, "\"010\" text --set inputs.mood=010:1:13");
        assert!(read("inputs.seed=7", &["inputs", "seed"]).starts_with("7 a whole number"));
        assert!(read("inputs.rate=1e-3", &["inputs", "rate", "value"]).starts_with("\"1e-3\""));
        assert!(read("inputs.data=./x", &["inputs", "data", "path"]).starts_with("\"./x\""));
        assert!(
            read(
                "jobs.a.resources.gpus=2",
                &["jobs", "a", "resources", "gpus"]
            )
            .starts_with('2')
        );
        assert!(
            read(
                "jobs.a.limits.timeout=30m",
                &["jobs", "a", "limits", "timeout"]
            )
            .starts_with("\"30m\"")
        );
        assert!(
            read("settings.force_rerun=true", &["settings", "force_rerun"]).starts_with("true")
        );
        assert!(read("inputs.mood=", &["inputs", "mood"]).starts_with("\"\" text"));
    }

    #[test]
    fn wrong_paths_and_types_are_told_with_a_way_out() {
        let cases = [
            ("inputs.moood=x", "set-path", Some("did you mean `mood`?")),
            ("inptus.mood=x", "set-path", Some("did you mean `inputs`?")),
            (
                "settings.force_rerum=true",
                "set-path",
                Some("did you mean `force_rerun`?"),
            ),
            (
                "jobs.b.resources.gpus=1",
                "set-path",
                Some("known here: `a`"),
            ),
            (
                "inputs.seed=joy",
                "set-type",
                Some("give a number, or change the file if another type is meant"),
            ),
            (
                "inputs.fast=1",
                "set-type",
                Some("give true or false, or change the file if another type is meant"),
            ),
            (
                "jobs.a.command.x=1",
                "set-path",
                Some("give it the value as a whole, or name a key that holds other keys"),
            ),
            (
                "mood",
                "set-syntax",
                Some("write `--set inputs.NAME=VALUE`"),
            ),
            (
                "inputs..x=1",
                "set-syntax",
                Some("write names with one `.` between them: `inputs.NAME`"),
            ),
            (
                "jobs.a=1",
                "set-path",
                Some("write `inputs.NAME`, `settings.KEY` or `jobs.STEP.KEY`"),
            ),
        ];
        for (assignment, code, help) in cases {
            let errors = apply(&mut document(), &[assignment.to_owned()]);
            assert_eq!(
                (errors[0].code.as_str(), errors[0].help.as_deref()),
                (code, help),
                "{assignment}"
            );
        }
    }

    #[test]
    fn the_file_itself_is_not_changed() {
        let before = document();
        let mut after = before.clone();
        assert!(apply(&mut after, &["inputs.seed=9".to_owned()]).is_empty());
        assert_eq!(
            before
                .root
                .get("inputs")
                .unwrap()
                .get("seed")
                .unwrap()
                .as_text(),
            Some("1")
        );
    }
}
