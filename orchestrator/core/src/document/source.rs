//! A text and the places in it. Knows nothing of YAML.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that was read, with its name for people: a path as it was given, or
/// the command-line argument that it stands in.
#[derive(PartialEq, Eq)]
pub struct Source {
    name: String,
    /// Whether `name` is a path, that paths inside are relative to.
    is_file: bool,
    text: String,
    /// Byte offset of each line's first character.
    lines: Vec<usize>,
}

impl Source {
    /// The text of the file `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Self::build(name.into(), true, text.into())
    }

    /// The text of an argument, called `name`; paths in it are relative to the
    /// current folder.
    #[must_use]
    pub fn argument(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Self::build(name.into(), false, text.into())
    }

    fn build(name: String, is_file: bool, text: String) -> Arc<Self> {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Arc::new(Self {
            name,
            is_file,
            text,
            lines,
        })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that paths in it are relative to the folder of.
    #[must_use]
    pub fn base(&self) -> &str {
        if self.is_file { &self.name } else { "" }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset, both from 1; columns count characters.
    #[must_use]
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self
            .text
            .get(start..offset)
            .map_or(1, |before| before.chars().count() + 1);
        (line, column)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} bytes)", self.name, self.text.len())
    }
}

/// A stretch of a [`Source`], in bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<Source>,
    start: usize,
    end: usize,
}

impl Place {
    /// `range` of `source`, moved to character boundaries inside it.
    #[must_use]
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let text = source.text();
        let mut start = range.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = range.end.clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        Self {
            source: Arc::clone(source),
            start,
            end,
        }
    }

    /// The text that it lies in.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// What it is called: a path, or an argument.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text().get(self.range()).unwrap_or_default()
    }

    /// Line of its first character, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.source.position(self.start).0
    }

    /// Column of its first character, from 1, in characters.
    #[must_use]
    pub fn column(&self) -> usize {
        self.source.position(self.start).1
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file(), self.line(), self.column())
    }
}
