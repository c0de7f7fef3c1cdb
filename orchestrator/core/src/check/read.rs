//! Reads mappings by the tables of `fields`: says once what is wrong with a key,
//! and hides it from whoever reads on, so that one slip is one error.

use super::fields::{Shape, Status, Table};
use super::quantity;
use super::suggest::{did_you_mean, nearest};
use crate::diagnostic::Diagnostic;
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
            self.table.field(bad).is_none() && nearest(bad, self.table.keys()) == Some(key)
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
    out: &mut Vec<Diagnostic>,
) -> Option<Object<'a>> {
    let Some(mapping) = node.as_mapping() else {
        let message = format!("{} must be a mapping, not {}", table.name, node.kind());
        out.push(Diagnostic::error("wrong-type", message, place));
        return None;
    };
    let mut bad = Vec::new();
    for entry in mapping.iter() {
        if !key(entry, table, out) {
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
fn key(entry: &Entry, table: &'static Table, out: &mut Vec<Diagnostic>) -> bool {
    let name = &*entry.key;
    let Some(field) = table.field(name) else {
        let message = format!("{} has no key `{name}`", table.name);
        let diagnostic = if table.open {
            Diagnostic::warning(
                "unknown-key",
                format!("{message}: it changes nothing"),
                &entry.key_place,
            )
        } else {
            Diagnostic::error("unknown-key", message, &entry.key_place)
        };
        out.push(diagnostic.maybe_help(key_help(name, table)));
        return false;
    };
    match field.status {
        Status::Supported => {}
        Status::Ignored(why) => {
            let message = format!("`{name}` changes nothing here: {why}");
            out.push(Diagnostic::warning("ignored", message, &entry.key_place));
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

/// Known keys are many; only a near one is worth naming.
fn key_help(name: &str, table: &'static Table) -> Option<String> {
    did_you_mean(name, table.keys())
}

/// That `what` is not built, or is Azure's alone.
pub(crate) fn refused(what: &str, status: Status, place: &Place) -> Diagnostic {
    let (code, message, instead) = match status {
        Status::AzureOnly(instead) => (
            "azure-only",
            format!("{what} needs a service of Azure"),
            instead,
        ),
        Status::NotYet(instead) => ("not-yet", format!("{what} is not built yet"), instead),
        Status::Supported | Status::Ignored(_) => {
            ("not-yet", format!("{what} is not built yet"), "")
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
pub(crate) fn shape(entry: &Entry, what: &str, shape: &Shape, out: &mut Vec<Diagnostic>) -> bool {
    let node = &entry.value;
    if fits(node, shape) {
        return true;
    }
    let place = entry_place(entry);
    if node.as_text().is_some_and(|text| text.contains("${{")) && !matches!(shape, Shape::Any) {
        let help = "write the value itself";
        out.push(refused(
            &format!("a binding in {what}"),
            Status::NotYet(help),
            place,
        ));
        return false;
    }
    if let (Shape::Choice(words), Some(text)) = (shape, node.as_text()) {
        let code = if what == "`type`" {
            "unknown-type"
        } else {
            "unknown-value"
        };
        let message = format!("`{text}` is no {what}");
        let message = message.replace("is no `type`", "is not a type");
        let help = did_you_mean(text, words.iter().copied());
        out.push(Diagnostic::error(code, message, place).maybe_help(help));
        return false;
    }
    let message = format!("{what} must be {}, not {}", expected(shape), shown(node));
    out.push(Diagnostic::error("wrong-type", message, place));
    false
}

fn shown(node: &Node) -> String {
    match node.as_text() {
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
        Shape::Duration => "a time such as 90, 90s, 30m or 7d".to_owned(),
        Shape::Bytes => "an amount such as 512MiB or 16GB".to_owned(),
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
