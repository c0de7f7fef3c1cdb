//! The files that a pipeline names, as whoever may read files has read them.

use crate::document::{Document, FileReference, Parsed, decode, read, references};
use std::collections::BTreeMap;

/// Files by path, as [`crate::document::resolve_path`] writes it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    files: BTreeMap<String, File>,
    /// Of all files together.
    bytes: usize,
}

/// Most files that one pipeline may name, and most bytes of all of them.
const MAX_FILES: usize = 1_000;
const MAX_TOTAL: usize = 64 << 20;

/// A file that was asked for.
#[derive(Clone, Debug)]
pub(crate) enum File {
    /// What it holds, as far as it is YAML.
    Read(Parsed),
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
    /// read once with `open`, which gives the bytes or the reason why there are none.
    pub fn load(document: &Document, open: impl FnMut(&str) -> Result<Vec<u8>, String>) -> Self {
        let mut loaded = Self::new();
        loaded.add(document, open);
        loaded
    }

    /// Adds what `document` names as well, as [`load`](Self::load) does.
    pub fn add(
        &mut self,
        document: &Document,
        mut open: impl FnMut(&str) -> Result<Vec<u8>, String>,
    ) {
        let mut wanted = references(document);
        while let Some(reference) = wanted.pop() {
            if self.is_full() {
                return;
            }
            if !self.has(&reference.path) {
                wanted.extend(self.insert(&reference.path, open(&reference.path)));
            }
        }
    }

    /// Whether no further file is read. A folder that holds a link to itself gives one
    /// file endlessly many names.
    pub(crate) fn is_full(&self) -> bool {
        self.files.len() >= MAX_FILES || self.bytes >= MAX_TOTAL
    }

    /// Why a file that is named was not read.
    pub(crate) fn why_not(&self) -> String {
        if self.is_full() {
            format!(
                "a pipeline may name {MAX_FILES} files, {} MiB in all",
                MAX_TOTAL >> 20
            )
        } else {
            "it was not loaded".to_owned()
        }
    }

    /// Whether `path` was inserted.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Adds the file `path`; gives the files that it names in turn.
    pub fn insert(&mut self, path: &str, bytes: Result<Vec<u8>, String>) -> Vec<FileReference> {
        self.bytes = self
            .bytes
            .saturating_add(bytes.as_ref().map_or(0, Vec::len));
        let file = match bytes.map(|bytes| decode(path, bytes)) {
            Err(reason) => File::Unreadable(reason),
            Ok(Ok(source)) => File::Read(read(&source)),
            Ok(Err(found)) => File::Read(Parsed {
                documents: Vec::new(),
                errors: vec![*found],
            }),
        };
        let found = match &file {
            File::Read(parsed) => parsed.documents.iter().flat_map(references).collect(),
            File::Unreadable(_) => Vec::new(),
        };
        self.files.insert(path.to_owned(), file);
        found
    }

    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::{Loaded, MAX_FILES};
    use crate::check::check;
    use crate::document::parse;

    /// A folder with links to itself: each name leads to a file, and each file to two
    /// further names.
    #[test]
    fn files_without_end_are_not_read_to_the_end() {
        let text = "jobs:\n  x: {component: ./a/p.yml}\n  y: {component: ./b/p.yml}\n";
        let document = parse("p.yml", text).unwrap().remove(0);
        let loaded = Loaded::load(&document, |_| Ok(text.as_bytes().to_vec()));
        assert_eq!(loaded.files.len(), MAX_FILES);
        let (pipeline, found) = check(&document, &loaded);
        assert!(pipeline.is_none());
        assert!(
            found
                .iter()
                .any(|one| one.message.contains("may name 1000 files"))
        );
        assert!(found.len() <= 600, "{}", found.len());
    }
}
