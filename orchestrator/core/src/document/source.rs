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
    /// Characters before each [`STRIDE`]th byte, so that a column far out in a long
    /// line need not be counted from the line's start.
    characters: Vec<usize>,
}

/// Bytes between two counts of characters.
const STRIDE: usize = 1024;

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
        let mut before = 0;
        let mut characters = Vec::with_capacity(text.len() / STRIDE + 1);
        for chunk in text.as_bytes().chunks(STRIDE) {
            characters.push(before);
            before += count_characters(chunk);
        }
        Arc::new(Self {
            name,
            is_file,
            text,
            lines,
            characters,
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
        let line = self.line_at(offset);
        let start = self.lines.get(line).copied().unwrap_or(0);
        let column = self.characters_before(offset) - self.characters_before(start);
        (line + 1, column + 1)
    }

    /// The line that a byte offset lies in, from 0.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        let after = self.lines.partition_point(|start| *start <= offset);
        after.saturating_sub(1)
    }

    /// Number of lines; an end of line at the end of the text begins no other.
    pub(crate) fn line_count(&self) -> usize {
        let last_is_empty = self.lines.last() == Some(&self.text.len());
        (self.lines.len() - usize::from(last_is_empty)).max(1)
    }

    /// Where a line lies, its end of line included; `line` from 0.
    pub(crate) fn line_range(&self, line: usize) -> Range<usize> {
        let end = |line: usize| self.lines.get(line).copied().unwrap_or(self.text.len());
        end(line)..end(line + 1)
    }

    fn characters_before(&self, offset: usize) -> usize {
        let at = offset / STRIDE;
        let counted = self.characters.get(at).copied().unwrap_or(0);
        let rest = self.text.as_bytes().get(at * STRIDE..offset);
        counted + rest.map_or(0, count_characters)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} bytes)", self.name, self.text.len())
    }
}

/// Characters that begin in `bytes` of UTF-8.
fn count_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
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

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn columns_count_characters_however_long_the_line() {
        let text = format!("a\n{}x\ny", "é".repeat(5_000));
        let source = Source::new("p.yml", text.clone());
        let at = text.find('x').unwrap();
        assert_eq!(source.position(at), (2, 5_001));
        assert_eq!(source.position(at + 2), (3, 1));
        assert_eq!(source.position(usize::MAX), (3, 2));
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(
            (source.line_count(), Source::new("e", "").line_count()),
            (3, 1)
        );
    }
}
