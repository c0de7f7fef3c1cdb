//! Reads mappings by the tables of `fields`: says once what is wrong with a key,
//! and hides it from whoever reads on, so that one slip is one error.

use super::fields::{Shape, Status, Table};
use super::found::Found;
use super::quantity;
use crate::diagnostic::suggest::{did_you_mean, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Entry, Mapping, Node, Place, Resolved, Style};

/// A mapping whose keys were checked.
pub(crate) struct Object<'a> {
    mapping: &'a Mapping,
    bad: Vec<&'a str>,
    place: Place,
    table: &'static Table,
}

impl<'a> Object<'a> {
    /// The value of `key`, where there is one and nothing is wrong with it.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Entry> {
        self.mapping
            .get(key)
            .filter(|entry| !entry.value.is_null() && !self.bad.contains(&key))
    }

    /// Whether something stands at `key`, right or wrong.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.mapping
            .get(key)
            .is_some_and(|entry| !entry.value.is_null())
    }

    /// Whether nothing stands at `key` and no unknown key is a slip of it, so that
    /// its absence is worth an error of its own.
    pub(crate) fn lacks(&self, key: &str) -> bool {
        let slipped = |bad: &str| {
            let meant = foreign(bad, self.table).map(|(key, _)| key);
            let meant = meant.or_else(|| nearest(bad, self.table.keys()));
            self.table.field(bad).is_none() && meant == Some(key)
        };
        !self.has(key) && !self.bad.iter().any(|bad| slipped(bad))
    }

    /// Where it is named: to point at when a key is missing.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn node(&self, key: &str) -> Option<&'a Node> {
        self.get(key).map(|entry| &entry.value)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.node(key).and_then(Node::as_text)
    }

    pub(crate) fn owned(&self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    pub(crate) fn boolean(&self, key: &str) -> Option<bool> {
        self.node(key).and_then(boolean)
    }

    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        self.node(key).and_then(integer)
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.node(key).and_then(number)
    }

    /// Milliseconds.
    pub(crate) fn duration(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(quantity::duration_ms)
    }

    pub(crate) fn bytes(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(quantity::bytes)
    }

    /// The entries of a mapping under `key`.
    pub(crate) fn entries(&self, key: &str) -> impl Iterator<Item = &'a Entry> + use<'a> {
        self.node(key)
            .and_then(Node::as_mapping)
            .into_iter()
            .flat_map(Mapping::iter)
    }
}

/// Where to point for an entry: at a scalar itself, at the key of anything longer.
pub(crate) fn entry_place(entry: &Entry) -> &Place {
    match entry.value.as_scalar() {
        Some(scalar) if scalar.style != Style::Block && !entry.value.is_null() => {
            entry.value.shown_at()
        }
        _ => &entry.key_place,
    }
}

/// Checks the keys of `node`, which `what` names and which stands at `place`.
pub(crate) fn object<'a>(
    node: &'a Node,
    place: &Place,
    table: &'static Table,
    out: &mut Found,
) -> Option<Object<'a>> {
    let Some(mapping) = node.as_mapping() else {
        let message = format!("{} must be a mapping, not {}", table.name, shown(node));
        let some: Vec<&str> = table
            .keys()
            .filter(|key| *key != "$schema")
            .take(2)
            .collect();
        let help = format!("write keys below it, such as `{}:`", some.join(":`, `"));
        out.push(Diagnostic::error(Code::WrongType, message, place).help(help));
        return None;
    };
    let mut bad = Vec::new();
    for entry in mapping.iter() {
        if out.is_full() || !key(entry, table, out) {
            bad.push(&*entry.key);
        }
    }
    Some(Object {
        mapping,
        bad,
        place: place.clone(),
        table,
    })
}

/// Checks one key; false hides it.
fn key(entry: &Entry, table: &'static Table, out: &mut Found) -> bool {
    let name = &*entry.key;
    let Some(field) = table.field(name) else {
        let message = format!("{} has no key `{name}`", table.name);
        let diagnostic = if table.open {
            Diagnostic::warning(
                Code::UnknownKey,
                format!("{message}: it changes nothing"),
                &entry.key_place,
            )
        } else {
            Diagnostic::error(Code::UnknownKey, message, &entry.key_place)
        };
        out.push(diagnostic.maybe_help(key_help(name, table)));
        return false;
    };
    match field.status {
        Status::Supported => {}
        Status::Ignored(why) => {
            let message = format!("`{name}` changes nothing here: {why}");
            out.push(
                Diagnostic::warning(Code::Ignored, message, &entry.key_place)
                    .help("it may stay: files that other systems read too are fine"),
            );
            return false;
        }
        Status::NotYet(_) | Status::AzureOnly(_) => {
            out.push(refused(
                &format!("`{name}`"),
                field.status,
                &entry.key_place,
            ));
            return false;
        }
    }
    entry.value.is_null() || shape(entry, &format!("`{name}`"), &field.shape, out)
}

/// Words of other systems, and what is written here instead of them.
const FOREIGN: &[(&[&str], &str, &str)] = &[
    (
        &["run", "script", "cmd", "args", "entrypoint"],
        "command",
        "command: …",
    ),
    (
        &["steps", "tasks", "stages", "nodes", "dag"],
        "jobs",
        "jobs: {NAME: {command: …}}",
    ),
    (
        &["needs", "after", "dependencies", "upstream"],
        "depends_on",
        "depends_on: [STEP]",
    ),
    (
        &["env", "env_vars", "variables"],
        "environment_variables",
        "environment_variables: {NAME: …}",
    ),
    (
        &["image", "container", "docker", "conda_file"],
        "environment",
        "environment: {image: …}",
    ),
    (
        &["params", "parameters", "with", "arguments"],
        "inputs",
        "inputs: {NAME: …}",
    ),
    (
        &["artifacts", "results", "produces"],
        "outputs",
        "outputs: {NAME: {type: uri_folder}}",
    ),
    (
        &["timeout", "max_time", "timeout_seconds"],
        "limits",
        "limits: {timeout: 30m}",
    ),
    (&["retries", "max_retries", "restart"], "retry", "retry: 3"),
    (
        &["cpu", "cpus", "memory", "gpu", "gpus", "instance_type"],
        "resources",
        "resources: {cpus: 2, memory: 4GiB, gpus: 1}",
    ),
    (
        &[
            "working_directory",
            "working_dir",
            "workdir",
            "cwd",
            "source",
        ],
        "code",
        "code: ./FOLDER",
    ),
    (
        &["uses", "template", "ref", "module"],
        "component",
        "component: ./file.yml",
    ),
];

/// The key of `table` that stands for `name`, a word of another system, and how it is
/// written.
fn foreign(name: &str, table: &Table) -> Option<(&'static str, &'static str)> {
    let known = |key: &str| {
        table
            .field(key)
            .is_some_and(|field| field.status == Status::Supported)
    };
    FOREIGN
        .iter()
        .find(|(words, key, _)| words.contains(&name) && known(key))
        .map(|(_, key, written)| (*key, *written))
}

/// Known keys are many; a near one is worth naming, else those that work here.
fn key_help(name: &str, table: &'static Table) -> Option<String> {
    if let Some((_, written)) = foreign(name, table) {
        return Some(format!("here that is written `{written}`"));
    }
    if nearest(name, table.keys()).is_some() {
        return did_you_mean(name, table.keys());
    }
    let people = [
        "$schema",
        "comment",
        "tags",
        "properties",
        "experiment_name",
    ];
    let works = table
        .fields
        .iter()
        .filter(|field| field.status == Status::Supported);
    let works: Vec<String> = works
        .filter(|field| !people.contains(&field.key))
        .map(|field| format!("`{}`", field.key))
        .collect();
    Some(format!("known here: {}", works.join(", ")))
}

/// Types as other languages call them.
const TYPES: &[(&[&str], &str)] = &[
    (&["str", "text", "String"], "string"),
    (&["int", "int64", "long", "Integer"], "integer"),
    (&["float", "double", "float64", "Number"], "number"),
    (&["bool", "Boolean"], "boolean"),
    (&["file", "File", "path"], "uri_file"),
    (
        &["folder", "directory", "dir", "Directory", "data", "dataset"],
        "uri_folder",
    ),
    (&["model", "Model"], "custom_model"),
];

/// That `what` is not built, or is Azure's alone.
pub(crate) fn refused(what: &str, status: Status, place: &Place) -> Diagnostic {
    let (code, message, instead) = match status {
        Status::AzureOnly(instead) => (
            Code::AzureOnly,
            format!("{what} needs a service of Azure"),
            instead,
        ),
        Status::NotYet(instead) => (Code::NotYet, format!("{what} is not built yet"), instead),
        Status::Supported | Status::Ignored(_) => {
            (Code::NotYet, format!("{what} is not built yet"), "")
        }
    };
    let diagnostic = Diagnostic::error(code, message, place);
    if instead.is_empty() {
        diagnostic
    } else {
        diagnostic.help(format!("instead: {instead}"))
    }
}

/// Checks that `entry` has the `shape`.
pub(crate) fn shape(entry: &Entry, what: &str, shape: &Shape, out: &mut Found) -> bool {
    let node = &entry.value;
    if fits(node, shape) {
        return true;
    }
    let place = entry_place(entry);
    if node.as_text().is_some_and(|text| text.contains("${{")) && !matches!(shape, Shape::Any) {
        let help = "write the value itself; a command can use `${{inputs.…}}`";
        out.push(refused(
            &format!("a binding in {what}"),
            Status::NotYet(help),
            place,
        ));
        return false;
    }
    if let (Shape::Choice(words), Some(text)) = (shape, node.as_text()) {
        let code = if what == "`type`" {
            Code::UnknownType
        } else {
            Code::UnknownValue
        };
        let message = match code {
            Code::UnknownType => format!("`{text}` is not a type"),
            _ => format!("{what} cannot be `{text}`"),
        };
        let other = TYPES
            .iter()
            .find(|(names, word)| names.contains(&text) && words.contains(word));
        let help = match other {
            Some((_, word)) => Some(format!("here that is written `{word}`")),
            None => did_you_mean(text, words.iter().copied()),
        };
        out.push(Diagnostic::error(code, message, place).maybe_help(help));
        return false;
    }
    if let (Some(items), Some(of)) = (node.as_sequence(), list_of(shape))
        && let Some(bad) = items.iter().find(|item| !fits(item, of))
    {
        let message = format!(
            "an entry of {what} must be {}, not {}",
            expected(of),
            shown(bad)
        );
        let found = Diagnostic::error(Code::WrongType, message, bad.shown_at());
        out.push(found.maybe_help(way_out(bad, of)));
        return false;
    }
    let message = format!("{what} must be {}, not {}", expected(shape), shown(node));
    let code = match shape {
        Shape::Duration => Code::BadDuration,
        Shape::Bytes => Code::BadAmount,
        Shape::OneOf(shapes) if shapes.iter().any(|one| matches!(one, Shape::Duration)) => {
            match node.as_scalar() {
                Some(_) => Code::BadDuration,
                None => Code::WrongType,
            }
        }
        _ => Code::WrongType,
    };
    out.push(Diagnostic::error(code, message, place).maybe_help(way_out(node, shape)));
    false
}

/// How a value of `shape` is written.
fn way_out(node: &Node, shape: &Shape) -> Option<String> {
    let help = match shape {
        Shape::Duration => {
            "seconds, or a number with a unit: `90`, `250ms`, `90s`, `30m`, `12h`, `7d`"
        }
        Shape::Bytes => "bytes, or a number with a unit: `512MiB`, `16GiB`, `16GB`",
        Shape::Boolean => match node.as_text().map(str::to_lowercase).as_deref() {
            Some("1" | "y" | "t" | "enabled") => "write `true`",
            Some("0" | "n" | "f" | "disabled") => "write `false`",
            _ => "write `true` or `false`, without quotes",
        },
        Shape::Integer(_) => "write the number alone, without a unit",
        Shape::Number => "write the number alone: `0.5`, `1e-3`",
        Shape::Text if node.as_sequence().is_some() => {
            "write one text; a long one goes on over lines behind `>-`"
        }
        Shape::Text | Shape::Scalar => "write one value behind the `:`",
        Shape::List(_) => "write `[a, b]`, or a line `- a` for each",
        Shape::Map(Shape::Job) => {
            "write a step's name as the key of its own: `write: {command: …}`"
        }
        Shape::Map(_) => "write `name: value`, a line for each, indented below it",
        Shape::Object(table) => {
            let some: Vec<&str> = table
                .keys()
                .filter(|key| *key != "$schema")
                .take(3)
                .collect();
            return Some(format!(
                "write keys below it, such as `{}:`",
                some.join(":`, `")
            ));
        }
        Shape::OneOf(shapes) if node.as_mapping().is_some() => {
            return shapes.iter().rev().find_map(|one| way_out(node, one));
        }
        Shape::OneOf(shapes) => return shapes.iter().find_map(|one| way_out(node, one)),
        Shape::Any | Shape::Choice(_) | Shape::Job => return None,
    };
    Some(help.to_owned())
}

/// What a list of this shape holds.
fn list_of(shape: &Shape) -> Option<&Shape> {
    match shape {
        Shape::List(of) => Some(of),
        Shape::OneOf(shapes) => shapes.iter().find_map(list_of),
        _ => None,
    }
}

/// A value, for a message.
pub(crate) fn shown(node: &Node) -> String {
    match node.as_text() {
        Some(text) if !node.is_null() && text.trim().is_empty() => "an empty text".to_owned(),
        Some(text) if !node.is_null() && text.chars().count() <= 40 => format!("`{text}`"),
        _ => node.kind().to_owned(),
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Any => "anything".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer(least) => format!("a whole number of at least {least}"),
        Shape::Number => "a number".to_owned(),
        Shape::Scalar => "a single value".to_owned(),
        Shape::Choice(words) => words.join(", "),
        Shape::Duration => "a time".to_owned(),
        Shape::Bytes => "an amount of memory".to_owned(),
        Shape::List(_) => "a list".to_owned(),
        Shape::Map(_) | Shape::Object(_) | Shape::Job => "a mapping".to_owned(),
        Shape::OneOf(shapes) => shapes.iter().map(expected).collect::<Vec<_>>().join(" or "),
    }
}

/// Whether `node` has the shape, its parts not looked at.
fn fits(node: &Node, shape: &Shape) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Text | Shape::Scalar => node.as_scalar().is_some(),
        Shape::Boolean => boolean(node).is_some(),
        Shape::Integer(least) => integer(node).is_some_and(|value| value >= *least),
        Shape::Number => number(node).is_some(),
        Shape::Choice(words) => node.as_text().is_some_and(|text| words.contains(&text)),
        Shape::Duration => node
            .as_text()
            .is_some_and(|text| quantity::duration_ms(text).is_some()),
        Shape::Bytes => node
            .as_text()
            .is_some_and(|text| quantity::bytes(text).is_some()),
        Shape::List(item) => node
            .as_sequence()
            .is_some_and(|items| items.iter().all(|node| fits(node, item))),
        Shape::Map(_) | Shape::Object(_) | Shape::Job => node.as_mapping().is_some(),
        Shape::OneOf(shapes) => shapes.iter().any(|shape| fits(node, shape)),
    }
}

fn boolean(node: &Node) -> Option<bool> {
    match node.as_scalar()? {
        scalar if matches!(scalar.resolved, Resolved::Bool(_)) => match scalar.resolved {
            Resolved::Bool(value) => Some(value),
            _ => None,
        },
        scalar if scalar.text.eq_ignore_ascii_case("true") => Some(true),
        scalar if scalar.text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn integer(node: &Node) -> Option<i64> {
    let scalar = node.as_scalar()?;
    match scalar.resolved {
        Resolved::Int(value) => Some(value),
        Resolved::Text => scalar.text.parse().ok(),
        _ => None,
    }
}

fn number(node: &Node) -> Option<f64> {
    let scalar = node.as_scalar()?;
    match scalar.resolved {
        Resolved::Int(_) | Resolved::Float(_) | Resolved::Text => {
            super::literal::number_of(&scalar.text, &scalar.resolved)
        }
        _ => None,
    }
}
