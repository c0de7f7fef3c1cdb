//! What is wrong with a file, at which place, and the way out. `render` writes
//! it for people; `Serialize` writes what `validate --output json` promises.

mod code;
mod excerpt;
mod render;
mod schema;
pub(crate) mod suggest;

pub use code::Code;
pub use render::{RenderOptions, render};
pub use schema::json_schema;

use crate::document::Place;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing starts.
    Error,
    /// It runs, perhaps not as meant.
    Warning,
}

/// Something about a file that its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is: `unknown-input`.
    pub code: Code,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
    /// Where.
    pub place: Option<Place>,
    /// Other places that have to do with it.
    pub labels: Vec<Label>,
}

/// A place that has to do with a [`Diagnostic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// What it has to do with it.
    pub message: String,
}

impl Diagnostic {
    /// An error at `place`.
    #[must_use]
    pub fn error(code: Code, message: impl Into<String>, place: &Place) -> Self {
        Self::new(Severity::Error, code, message, Some(place.clone()))
    }

    /// A warning at `place`.
    #[must_use]
    pub fn warning(code: Code, message: impl Into<String>, place: &Place) -> Self {
        Self::new(Severity::Warning, code, message, Some(place.clone()))
    }

    /// Any diagnostic; one without a place speaks of the whole.
    #[must_use]
    pub fn new(
        severity: Severity,
        code: Code,
        message: impl Into<String>,
        place: Option<Place>,
    ) -> Self {
        Self {
            severity,
            code,
            message: clip(message.into(), MAX_MESSAGE),
            help: None,
            place,
            labels: Vec::new(),
        }
    }

    /// With the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(clip(help.into(), MAX_HELP));
        self
    }

    /// With the way out, where there is one.
    #[must_use]
    pub fn maybe_help(self, help: Option<String>) -> Self {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }

    /// With another place.
    #[must_use]
    pub fn label(mut self, place: &Place, message: impl Into<String>) -> Self {
        self.labels.push(Label {
            place: place.clone(),
            message: message.into(),
        });
        self
    }

    /// Whether it is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The file that it speaks of.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.place.as_ref().map(Place::file)
    }

    /// Its line, from 1; 0 where it has no place.
    #[must_use]
    pub fn line(&self) -> usize {
        self.place.as_ref().map_or(0, Place::line)
    }

    /// Its column, from 1, in characters; 0 where it has no place.
    #[must_use]
    pub fn column(&self) -> usize {
        self.place.as_ref().map_or(0, Place::column)
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("severity", &self.severity)?;
        map.serialize_entry("code", &self.code)?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("help", &self.help)?;
        map.serialize_entry("file", &self.file())?;
        let number = |value: usize| (value > 0).then_some(value);
        map.serialize_entry("line", &number(self.line()))?;
        map.serialize_entry("column", &number(self.column()))?;
        map.serialize_entry(
            "span",
            &self
                .place
                .as_ref()
                .map(|place| [place.range().start, place.range().end]),
        )?;
        map.serialize_entry("labels", &self.labels)?;
        map.end()
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("file", self.place.file())?;
        map.serialize_entry("line", &self.place.line())?;
        map.serialize_entry("column", &self.place.column())?;
        map.end()
    }
}

/// Most characters of a message, and of a help: names come from files, which may hold
/// anything.
const MAX_MESSAGE: usize = 400;
const MAX_HELP: usize = 800;

/// `text`, without its middle where it is too long.
fn clip(text: String, most: usize) -> String {
    // Bytes are never fewer than characters.
    if text.len() <= most || text.chars().count() <= most {
        return text;
    }
    let head: String = text.chars().take(most * 3 / 4).collect();
    let rest = text.chars().rev().take(most / 5).collect::<Vec<_>>();
    let tail: String = rest.into_iter().rev().collect();
    format!("{head} … {tail}")
}

/// Sorts by file, place and severity, and drops what is said twice.
pub fn sort(diagnostics: &mut Vec<Diagnostic>) {
    let key = |diagnostic: &Diagnostic| {
        let place = diagnostic.place.as_ref();
        let at = place.map(|place| (place.file().to_owned(), place.range().start));
        (
            at,
            diagnostic.severity,
            diagnostic.code.as_str(),
            diagnostic.message.clone(),
        )
    };
    diagnostics.sort_by_cached_key(key);
    diagnostics.dedup_by(|a, b| key(a) == key(b));
}
