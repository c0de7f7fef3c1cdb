//! The lines of a file that a report shows: only those around its places, however
//! large the file, with nothing in them that a terminal would obey.

use crate::document::Source;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use std::ops::Range;
use std::sync::Arc;

/// A line with more bytes is not shown whole.
const LONG: usize = 200;

/// Lines of a source around some places in it.
pub(super) struct Excerpt {
    source: Arc<Source>,
    windows: Vec<Window>,
    /// Where one long line is shown in part: columns that are cut off before it.
    cut: Option<Cut>,
}

/// Lines that stand together.
struct Window {
    /// Numbers of the lines, from 0.
    lines: Range<usize>,
    /// Byte offset of the first one.
    start: usize,
    /// Their text, as long in bytes as in the file.
    text: String,
}

struct Cut {
    line: usize,
    column: usize,
    text: String,
}

impl Excerpt {
    /// The lines of `places`, in bytes of `source`, each with `context` lines around
    /// it. None where one of these lines is too long to be shown whole.
    pub(super) fn lines(
        source: &Arc<Source>,
        places: &[Range<usize>],
        context: usize,
    ) -> Option<Self> {
        let last = source.line_count() - 1;
        let mut wanted: Vec<Range<usize>> = places
            .iter()
            .map(|place| {
                let first = source.line_at(place.start).min(last);
                let end = source
                    .line_at(place.end.saturating_sub(1).max(place.start))
                    .min(last);
                first.saturating_sub(context)..(end + context).min(last) + 1
            })
            .collect();
        wanted.sort_by_key(|lines| lines.start);
        let mut joined: Vec<Range<usize>> = Vec::new();
        for lines in wanted {
            match joined.last_mut() {
                Some(before) if lines.start <= before.end => before.end = before.end.max(lines.end),
                _ => joined.push(lines),
            }
        }
        let windows = joined.into_iter().map(|lines| {
            let start = source.line_range(lines.start).start;
            let end = source.line_range(lines.end - 1).end;
            let long = lines
                .clone()
                .any(|line| source.line_range(line).len() > LONG);
            let text = source.text().get(start..end).filter(|_| !long)?;
            Some(Window {
                lines,
                start,
                text: clean(text),
            })
        });
        Some(Self {
            source: Arc::clone(source),
            windows: windows.collect::<Option<Vec<_>>>()?,
            cut: None,
        })
    }

    /// The part of a long line around `place`, and where `place` is in it.
    pub(super) fn part(source: &Arc<Source>, place: &Range<usize>) -> (Self, Range<usize>) {
        let line = source.line_at(place.start);
        let whole = source.line_range(line);
        let text = source.text();
        let boundary = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = place.start.clamp(whole.start, whole.end);
        let from = boundary(start.saturating_sub(40).max(whole.start));
        let end = boundary(place.end.clamp(start, whole.end).min(start + 60));
        let to = boundary((end + 30).min(whole.end));
        let before = if from > whole.start { "… " } else { "" };
        let after = if to < whole.end { " …" } else { "" };
        let shown = clean(text[from..to].trim_end_matches(['\n', '\r']));
        let shift = before.len();
        let cut = Cut {
            line,
            column: source.position(start).1 - 1,
            text: format!("{before}{shown}{after}"),
        };
        let excerpt = Self {
            source: Arc::clone(source),
            windows: Vec::new(),
            cut: Some(cut),
        };
        (excerpt, start - from + shift..end - from + shift)
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        if let Some(cut) = &self.cut {
            let whole = SourceSpan::from(0..cut.text.len());
            let column = if before == 0 { cut.column } else { 0 };
            let contents = MietteSpanContents::new(cut.text.as_bytes(), whole, cut.line, column, 1);
            return Ok(Box::new(contents));
        }
        let range = span.offset()..span.offset() + span.len();
        let holds = |window: &&Window| {
            window.start <= range.start && range.end <= window.start + window.text.len()
        };
        let window = self
            .windows
            .iter()
            .find(holds)
            .ok_or(MietteError::OutOfBounds)?;
        let lines = &window.lines;
        let at = |offset: usize| {
            self.source
                .line_at(offset)
                .clamp(lines.start, lines.end - 1)
        };
        let first = at(range.start).saturating_sub(before).max(lines.start);
        let last = at(range.end.saturating_sub(1).max(range.start));
        let last = (last + after).min(lines.end - 1);
        let (from, column) = match before {
            0 => (range.start, self.source.position(range.start).1 - 1),
            _ => (self.source.line_range(first).start, 0),
        };
        let to = self.source.line_range(last).end;
        let data = &window.text.as_bytes()[from - window.start..to - window.start];
        let covered = SourceSpan::from(from..to);
        let contents = MietteSpanContents::new(data, covered, first, column, last - first + 1);
        Ok(Box::new(contents))
    }
}

/// `text` without characters that a terminal obeys or that hide others, each replaced
/// by one of the same length in bytes.
fn clean(text: &str) -> String {
    let mut characters = text.chars().peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        let kept = match character {
            '\n' | '\t' => true,
            '\r' => characters.peek() == Some(&'\n'),
            _ => !is_hidden(character),
        };
        out.push(match character.len_utf8() {
            _ if kept => character,
            1 => '?',
            2 => '·',
            3 => '\u{fffd}',
            // None of these has four bytes but tags, of which a mark does as well.
            _ => '\u{1f7a8}',
        });
    }
    out
}

/// Whether a terminal would obey `character`, or show others in another order.
pub(super) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        let text = "a\u{1b}[31m\u{9b}\u{202e}b\r\nc\rd\u{e0041}";
        let cleaned = clean(text);
        assert_eq!(cleaned.len(), text.len());
        assert_eq!(cleaned, "a?[31m·\u{fffd}b\r\nc?d\u{1f7a8}");
    }
}
