//! What the parser's complaint means for whoever wrote the file: which slip it most
//! likely is, where, and the way out. Looks at the text around the place; never
//! parses.

use super::source::{Place, Source};
use crate::diagnostic::suggest::nearest;
use crate::diagnostic::{Code, Diagnostic};
use granit_parser::{ErrorKind, ScanError};
use std::ops::Range;
use std::sync::Arc;

/// The complaint `error` about the part of `source` that begins at `base`.
pub(super) fn explain(error: &ScanError, source: &Arc<Source>, base: usize) -> Diagnostic {
    let at = base + error.marker().byte_offset().unwrap_or(0);
    let slip = Slip {
        source,
        at: at.min(source.text().len()),
    };
    slip.explain(error)
}

/// A place in a text that is no YAML.
struct Slip<'a> {
    source: &'a Arc<Source>,
    at: usize,
}

impl Slip<'_> {
    fn explain(&self, error: &ScanError) -> Diagnostic {
        use ErrorKind as Kind;
        match error.kind() {
            Kind::TabNotAllowed
            | Kind::TabInBlockIndentation
            | Kind::TabInIndentation
            | Kind::TabInPlainScalar
            | Kind::TabAtBlockScalarStart => self.tab(),
            Kind::UnclosedQuotedScalar
            | Kind::DocumentIndicatorInQuotedScalar
            | Kind::InvalidQuotedScalarIndent => self.unclosed_quote(),
            Kind::InvalidTrailingSingleQuotedScalar | Kind::InvalidTrailingDoubleQuotedScalar => {
                self.behind_quote()
            }
            Kind::UnclosedFlowCollection { open } => self.unclosed_bracket(*open),
            Kind::UnexpectedEofFlowMapping | Kind::UnexpectedEofImplicitFlowMapping => {
                self.unclosed_bracket('{')
            }
            Kind::UnexpectedEofFlowSequence => self.unclosed_bracket('['),
            Kind::MismatchedFlowCollectionEnd { open, close } => {
                let message = format!("`{open}` is closed by `{close}`");
                self.bracket(message, "close each bracket by its own kind: `{…}`, `[…]`")
            }
            Kind::MisplacedFlowCollectionEnd => {
                let message = "this bracket closes none that is open".to_owned();
                self.bracket(message, "take it away, or open one before it")
            }
            Kind::ExpectedFlowMappingSeparator => self.separator('}'),
            Kind::ExpectedFlowSequenceSeparator => self.separator(']'),
            Kind::BlockEntryInFlowCollection => {
                let message = "`- ` cannot stand inside brackets".to_owned();
                self.bracket(
                    message,
                    "write `[a, b]`, or the list without brackets, a line for each",
                )
            }
            Kind::SimpleKeyExpected | Kind::InvalidSimpleKey => self.missing_colon(),
            Kind::MappingValueNotAllowed
            | Kind::InvalidColonPlacement
            | Kind::InvalidMappingValueWhitespace
            | Kind::FlowMappingValueAdjacentCollection => self.stray_colon(),
            Kind::InvalidIndentation
            | Kind::InvalidBlockScalarIndent
            | Kind::InvalidFlowScalarIndent
            | Kind::ExpectedBlockMappingKey
            | Kind::ExpectedBlockSequenceEntry
            | Kind::BlockSequenceEntryNotAllowed
            | Kind::MappingKeyNotAllowed
            | Kind::UnexpectedEndOfPlainScalar => self.indentation(),
            Kind::UnknownQuotedScalarEscape
            | Kind::InvalidQuotedScalarHexEscape
            | Kind::InvalidUnicodeEscape
            | Kind::InvalidLowSurrogateHexEscape
            | Kind::InvalidLowSurrogate
            | Kind::MissingLowSurrogate
            | Kind::UnpairedLowSurrogate => self.escape(),
            Kind::UnexpectedCharacter { character } => self.character(*character),
            Kind::PlainScalarStartsWithDashFlowIndicator => self.character('-'),
            Kind::UnknownAnchor => self.anchor(),
            Kind::RecursionLimitExceeded => Diagnostic::error(
                Code::TooDeep,
                "values are nested deeper than is read",
                &self.rest_of_line(),
            )
            .help("a pipeline needs a dozen levels: is a bracket left open?"),
            _ => Diagnostic::error(
                Code::Yaml,
                format!("this is not YAML: {}", error.info()),
                &self.rest_of_line(),
            )
            .help(
                match self.text()[self.line(self.at).start..].starts_with('%') {
                    true => "take this line away: nothing needs it",
                    false => "a text with characters that mean something to YAML needs quotes",
                },
            ),
        }
    }

    fn text(&self) -> &str {
        self.source.text()
    }

    fn place(&self, range: Range<usize>) -> Place {
        Place::new(self.source, range)
    }

    /// Where the line of `offset` begins, and where it ends.
    fn line(&self, offset: usize) -> Range<usize> {
        let text = self.text();
        let start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
        let end = text[offset..]
            .find('\n')
            .map_or(text.len(), |end| offset + end);
        start..end
    }

    /// From the place to the end of what stands on its line; at the end of a line or
    /// of the file, what stands before it.
    fn rest_of_line(&self) -> Place {
        let text = self.text();
        let rest = text[self.at..self.line(self.at).end].trim_end().len();
        if rest > 0 {
            return self.place(self.at..self.at + rest);
        }
        let before = text[..self.at].trim_end().len();
        let line = self.line(before);
        let indent = text[line.clone()].len() - text[line.clone()].trim_start().len();
        self.place((line.start + indent).min(before)..before)
    }

    fn tab(&self) -> Diagnostic {
        let text = self.text();
        let from = self.line(self.at).start;
        let tabs = || {
            text[from..]
                .match_indices('\t')
                .map(|(found, _)| from + found)
        };
        let in_indentation = |at: &usize| {
            text[self.line(*at).start..*at]
                .chars()
                .all(|c| matches!(c, ' ' | '\t'))
        };
        let near = tabs().take(64).find(in_indentation);
        let at = near.or_else(|| tabs().next()).unwrap_or(self.at);
        let length = text[at..].bytes().take_while(|byte| *byte == b'\t').count();
        let message = match near {
            Some(_) => "a tab stands in the indentation",
            None => "a tab stands where YAML takes spaces alone",
        };
        Diagnostic::error(Code::Tab, message, &self.place(at..at + length.max(1)))
            .help("YAML does not take tabs: indent with spaces (editors can convert them)")
    }

    /// The quote that opens the text before the place.
    fn opening_quote(&self) -> Option<usize> {
        let text = self.text();
        let here = text[self.at..].starts_with(['"', '\'']).then_some(self.at);
        here.or_else(|| {
            let before = text[..self.at].rmatch_indices(['"', '\'']);
            before.take(64).map(|(at, _)| at).find(|at| {
                let last = text[..*at].chars().next_back();
                last.is_none_or(|c| c.is_whitespace() || matches!(c, '{' | '[' | ',' | ':'))
            })
        })
    }

    fn unclosed_quote(&self) -> Diagnostic {
        let at = self.opening_quote().unwrap_or(self.at);
        let end = self.text()[..self.line(at).end]
            .trim_end()
            .len()
            .max(at + 1);
        let quote = if self.text()[at..].starts_with('\'') {
            '\''
        } else {
            '"'
        };
        let message = format!("the quote `{quote}` that opens here is not closed");
        let help = match quote {
            '\'' => "close it; an apostrophe inside `'…'` is written twice: `'it''s'`",
            _ => "close it; a quote inside `\"…\"` is written `\\\"`",
        };
        Diagnostic::error(Code::UnclosedQuote, message, &self.place(at..end)).help(help)
    }

    fn behind_quote(&self) -> Diagnostic {
        let message = "text goes on behind the quote that closes it";
        Diagnostic::error(Code::UnclosedQuote, message, &self.rest_of_line()).help(
            "put the whole value into one pair of quotes; inside, write `''` for `'`, and `\\\"` for `\"`",
        )
    }

    fn bracket(&self, message: String, help: &str) -> Diagnostic {
        let length = self.text()[self.at..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        let place = self.place(self.at..self.at + length);
        let help = self.bare_binding().unwrap_or(help);
        Diagnostic::error(Code::UnclosedBracket, message, &place).help(help)
    }

    fn unclosed_bracket(&self, open: char) -> Diagnostic {
        let close = if open == '{' { '}' } else { ']' };
        let help =
            format!("close it with `{close}`, or write one line for each entry without brackets");
        self.bracket(format!("`{open}` is not closed"), &help)
    }

    fn separator(&self, close: char) -> Diagnostic {
        let place = self.rest_of_line();
        let message = format!("before this a `,` or the closing `{close}` is missing");
        let help = self
            .bare_binding()
            .unwrap_or("separate entries by `, `, and close each bracket that is open");
        Diagnostic::error(Code::UnclosedBracket, message, &place).help(help)
    }

    /// The usual slip with brackets: `{x: ${{parent.inputs.x}}}`.
    fn bare_binding(&self) -> Option<&'static str> {
        let line = &self.text()[self.line(self.at)];
        let bare = line.match_indices("${{").any(|(at, _)| {
            let before = line[..at].trim_end();
            before.ends_with([':', ',', '[']) && line[..at].contains(['{', '['])
        });
        bare.then_some(
            "inside `{…}` and `[…]` a binding needs quotes: `x: \"${{parent.inputs.x}}\"`",
        )
    }

    fn missing_colon(&self) -> Diagnostic {
        let message = "this is neither `key: value` nor the rest of a value";
        Diagnostic::error(Code::MissingColon, message, &self.rest_of_line())
            .help("write `key: value` with `: ` between them, or indent the line further if it belongs to the value above")
    }

    fn stray_colon(&self) -> Diagnostic {
        let text = self.text();
        // The parser may point at the value; the colon that is one too many is behind it.
        let line = self.line(self.at);
        let colon = |from: usize| text[from..line.end].find(": ").map(|found| from + found);
        let at = match text[self.at..].starts_with(':') {
            true => self.at,
            false => colon(self.at).unwrap_or(self.at),
        };
        let first = colon(line.start).is_none_or(|first| first >= at);
        let length = text[at..].chars().next().map_or(0, char::len_utf8);
        let (message, help) = if first {
            (
                "a key cannot stand here: the line above it has a value already",
                "indent the line like the keys that it belongs to; if the line above is a key, it lacks its `:`",
            )
        } else {
            (
                "a second `:` stands in this line",
                "a value that holds `: ` needs quotes: `key: \"a: b\"`; a key needs a line of its own",
            )
        };
        Diagnostic::error(Code::StrayColon, message, &self.place(at..at + length)).help(help)
    }

    fn indentation(&self) -> Diagnostic {
        let text = self.text();
        let line = self.line(self.at);
        let dash = line.start + text[line.clone()].len() - text[line.clone()].trim_start().len();
        let is_entry = text[dash..line.end].starts_with("- ") && dash <= self.at;
        let place = if is_entry {
            self.place(dash..dash + text[dash..line.end].trim_end().len())
        } else {
            self.rest_of_line()
        };
        let (message, help) = if is_entry {
            (
                "an entry of a list (`- `) stands where a key is expected",
                "write the list behind a key of its own, or take the `- ` away",
            )
        } else {
            (
                "the indentation of this line fits none of the lines above it",
                "indent it exactly like the keys that it stands beside",
            )
        };
        Diagnostic::error(Code::Indentation, message, &place).help(help)
    }

    fn escape(&self) -> Diagnostic {
        let text = self.text();
        let known = |c: char| "0abtnvfre \"/\\N_LPxuU\n\r\t".contains(c);
        let mut at = self.at;
        // From the quote that opens the text, or from the escape itself.
        while let Some(found) = text[at..].find('\\').map(|found| at + found) {
            let behind = text[found + 1..].chars().next();
            if behind.is_none_or(|c| !known(c) || matches!(c, 'x' | 'u' | 'U')) {
                at = found;
                break;
            }
            at = found + 1 + behind.map_or(0, char::len_utf8);
        }
        let length: usize = text[at..].chars().take(2).map(char::len_utf8).sum();
        let place = self.place(at..at + length);
        let message = format!(
            "`{}` means nothing in a text in double quotes",
            place.text()
        );
        Diagnostic::error(Code::BadEscape, message, &place).help(
            "write `\\\\` for a backslash, or put the text into single quotes, where it is itself",
        )
    }

    fn character(&self, character: char) -> Diagnostic {
        let place = self.rest_of_line();
        if character.is_control() {
            let place = self.place(place.range().start..place.range().start + character.len_utf8());
            let message = "a character that cannot be seen stands here, which YAML does not take";
            return Diagnostic::error(Code::BadCharacter, message, &place)
                .help("take it away; in double quotes it is written `\\x1b` or `\\u009b`");
        }
        let message = format!("a value cannot begin with `{character}`");
        let help = self.bare_binding().unwrap_or("put it into quotes");
        Diagnostic::error(Code::BadCharacter, message, &place).help(help)
    }

    fn anchor(&self) -> Diagnostic {
        let text = self.text();
        let line = self.line(self.at);
        let star = text[self.at..line.end]
            .find('*')
            .map_or(self.at, |found| self.at + found);
        let name: String = text[star..line.end]
            .chars()
            .skip(1)
            .take_while(|c| !c.is_whitespace() && !matches!(c, ',' | '[' | ']' | '{' | '}'))
            .collect();
        let place = self.place(star..star + 1 + name.len());
        let message = format!("there is no anchor `&{name}` before this alias");
        let anchors = text[..star].match_indices('&').take(256).map(|(at, _)| {
            let rest = &text[at + 1..];
            let end =
                rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}'));
            &rest[..end.unwrap_or(rest.len())]
        });
        let help = match nearest(&name, anchors) {
            Some(known) => format!("did you mean `*{known}`?"),
            None => format!(
                "write `&{name}` before the value that it stands for, above this line; a text that begins with `*` needs quotes"
            ),
        };
        Diagnostic::error(Code::UnknownAnchor, message, &place).help(help)
    }
}
