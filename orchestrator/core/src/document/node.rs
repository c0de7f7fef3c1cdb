//! The tree that a document is: values with their places. Knows YAML's data
//! model, not pipelines.

use super::scalar::{Resolved, resolve_plain};
use super::source::Place;
use std::collections::HashMap;
use std::sync::Arc;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it is written. For an alias: where its anchor's value is written.
    pub place: Place,
    /// For an alias: where it is used.
    pub used_at: Option<Place>,
    /// A tag as it was written, such as `!!str`.
    pub tag: Option<Arc<str>>,
}

/// What a [`Node`] is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text, a number, a boolean, nothing.
    Scalar(Arc<Scalar>),
    /// A list.
    Sequence(Arc<Vec<Node>>),
    /// A mapping.
    Mapping(Arc<Mapping>),
}

/// A scalar: its characters, and what they say on their own.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The characters, after quotes and folding.
    pub text: String,
    /// How it was written.
    pub style: Style,
    /// What they say where nothing declares a type.
    pub resolved: Resolved,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// After `|` or `>`.
    Block,
}

/// One key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key's characters.
    pub key: Arc<str>,
    /// Where the key is written.
    pub key_place: Place,
    /// The value.
    pub value: Node,
}

/// A mapping, in the order of the file; keys that `<<` brought come last.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    entries: Vec<Entry>,
    index: HashMap<Arc<str>, usize>,
}

impl Mapping {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).and_then(|at| self.entries.get(*at))
    }

    /// Adds `entry`, or gives back the place of the key that stands there already.
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), Place> {
        if let Some(at) = self.index.get(&entry.key) {
            return Err(self.entries[*at].key_place.clone());
        }
        self.index
            .insert(Arc::clone(&entry.key), self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// Takes the last entry away.
    pub(super) fn pop(&mut self) {
        if let Some(entry) = self.entries.pop() {
            self.index.remove(&entry.key);
        }
    }

    /// Takes `key` away, if it is the last one.
    pub(crate) fn remove_last(&mut self, key: &str) {
        if self.entries.last().is_some_and(|entry| &*entry.key == key) {
            self.pop();
        }
    }

    /// Sets `key`, whatever stands there.
    pub(crate) fn set(&mut self, entry: Entry) {
        match self.index.get(&entry.key) {
            Some(at) => self.entries[*at] = entry,
            None => drop(self.add(entry)),
        }
    }

    /// The value of `key`, to be changed.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let at = *self.index.get(key)?;
        self.entries.get_mut(at).map(|entry| &mut entry.value)
    }

    /// Every entry.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Node {
    /// A plain scalar, as `--set` and tests write it.
    #[must_use]
    pub fn plain(text: &str, place: Place) -> Self {
        let scalar = Scalar {
            text: text.to_owned(),
            style: Style::Plain,
            resolved: resolve_plain(text),
        };
        Self {
            value: Value::Scalar(Arc::new(scalar)),
            place,
            used_at: None,
            tag: None,
        }
    }

    /// An empty mapping.
    #[must_use]
    pub fn empty_mapping(place: Place) -> Self {
        let value = Value::Mapping(Arc::new(Mapping::default()));
        Self {
            value,
            place,
            used_at: None,
            tag: None,
        }
    }

    /// It as a scalar.
    #[must_use]
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// It as a mapping.
    #[must_use]
    pub fn as_mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// It as a list.
    #[must_use]
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The characters of a scalar.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        self.as_scalar().map(|scalar| scalar.text.as_str())
    }

    /// Whether it is nothing (`~`, `null`, or no characters at all).
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_scalar()
            .is_some_and(|scalar| scalar.resolved == Resolved::Null)
    }

    /// The value of `key` in a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?.get(key).map(|entry| &entry.value)
    }

    /// What it is, for messages: `a list`, `a mapping`, `nothing`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.resolved {
                Resolved::Null => "nothing",
                Resolved::Bool(_) => "a boolean",
                Resolved::Int(_) => "a whole number",
                Resolved::Float(_) => "a number",
                Resolved::Text => "text",
            },
        }
    }

    /// The place to point at: where an alias is used, else where the value is.
    #[must_use]
    pub fn shown_at(&self) -> &Place {
        self.used_at.as_ref().unwrap_or(&self.place)
    }

    /// The `nth` expression (`${{ … }}`, from 0) of a scalar, as it stands in the
    /// file; the whole scalar where folding or escapes hide it.
    #[must_use]
    pub fn expression_place(&self, nth: usize) -> Place {
        let raw = self.place.text();
        let found = raw.match_indices("${{").nth(nth).map(|(at, _)| at);
        match found.and_then(|at| raw[at..].find("}}").map(|length| at..at + length + 2)) {
            Some(range) => {
                let start = self.place.range().start;
                Place::new(self.place.source(), start + range.start..start + range.end)
            }
            None => self.shown_at().clone(),
        }
    }

    /// Every expression of a scalar, as [`expression_place`](Self::expression_place)
    /// gives them one by one.
    pub(crate) fn expression_places(&self) -> Vec<Place> {
        let raw = self.place.text();
        let start = self.place.range().start;
        let mut places = Vec::new();
        for (at, _) in raw.match_indices("${{") {
            let Some(length) = raw[at..].find("}}") else {
                break;
            };
            let range = start + at..start + at + length + 2;
            places.push(Place::new(self.place.source(), range));
        }
        places
    }

    /// From the `nth` `mark` of a scalar to the end of its line; the whole scalar where
    /// folding or escapes hide it.
    pub(crate) fn mark_place(&self, mark: &str, nth: usize) -> Place {
        let raw = self.place.text();
        let Some((at, _)) = raw.match_indices(mark).nth(nth) else {
            return self.shown_at().clone();
        };
        let length = raw[at..].find('\n').unwrap_or(raw.len() - at);
        let shown = raw[at..at + length]
            .trim_end_matches(['"', '\'', ' ', '\r'])
            .len();
        let start = self.place.range().start + at;
        Place::new(self.place.source(), start..start + shown)
    }

    /// As JSON: numbers and booleans as they resolve, everything else as text.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(mapping) => mapping
                .iter()
                .map(|entry| (entry.key.to_string(), entry.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Scalar(scalar) => match scalar.resolved {
                Resolved::Null => serde_json::Value::Null,
                Resolved::Bool(value) => value.into(),
                Resolved::Int(value) => value.into(),
                Resolved::Float(value) => serde_json::Number::from_f64(value)
                    .map_or_else(|| scalar.text.clone().into(), serde_json::Value::Number),
                Resolved::Text => scalar.text.clone().into(),
            },
        }
    }
}
