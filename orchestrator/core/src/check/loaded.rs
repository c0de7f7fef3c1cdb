//! The files that a pipeline names, as whoever may read files has read them.

use crate::diagnostic::Diagnostic;
use crate::document::{Document, FileReference, Source, parse_source, references};
use std::collections::BTreeMap;

/// Files by path, as [`crate::document::resolve_path`] writes it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    files: BTreeMap<String, File>,
}

/// A file that was asked for.
#[derive(Clone, Debug)]
pub(crate) enum File {
    Documents(Vec<Document>),
    /// It is not YAML.
    Broken(Vec<Diagnostic>),
    /// It could not be read, and why.
    Unreadable(String),
}

impl Loaded {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every file that `document` names, and those that these name in turn, each
    /// read once with `read`, which gives the text or the reason why there is none.
    pub fn load(document: &Document, mut read: impl FnMut(&str) -> Result<String, String>) -> Self {
        let mut loaded = Self::new();
        let mut wanted = references(document);
        while let Some(reference) = wanted.pop() {
            if !loaded.has(&reference.path) {
                wanted.extend(loaded.insert(&reference.path, read(&reference.path)));
            }
        }
        loaded
    }

    /// Whether `path` was inserted.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Adds the file `path`; gives the files that it names in turn.
    pub fn insert(&mut self, path: &str, text: Result<String, String>) -> Vec<FileReference> {
        let file = match text {
            Err(reason) => File::Unreadable(reason),
            Ok(text) => match parse_source(&Source::new(path, text)) {
                Ok(documents) => File::Documents(documents),
                Err(diagnostics) => File::Broken(diagnostics),
            },
        };
        let found = match &file {
            File::Documents(documents) => documents.iter().flat_map(references).collect(),
            File::Broken(_) | File::Unreadable(_) => Vec::new(),
        };
        self.files.insert(path.to_owned(), file);
        found
    }

    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }
}
