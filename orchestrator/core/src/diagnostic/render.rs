//! Diagnostics for a person at a terminal: the line of the file, underlined, with
//! the way out below it. It never prints.

use super::excerpt::{Excerpt, is_hidden};
use super::{Diagnostic, Label, Severity};
use crate::document::Place;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use std::fmt;
use std::sync::Arc;

/// Lines that are shown around a place.
const CONTEXT: usize = 1;

/// How diagnostics are written.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// With ANSI colours.
    pub color: bool,
    /// Columns of the terminal.
    pub width: usize,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            color: false,
            width: 80,
        }
    }
}

/// `diagnostics` as text, each with its line underlined, in the order given.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], options: RenderOptions) -> String {
    let theme = if options.color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(options.width.max(20))
        .with_context_lines(CONTEXT);
    let mut text = String::new();
    for diagnostic in diagnostics {
        let report = Report::new(diagnostic);
        // Writing to a `String` does not fail; where miette cannot show the
        // source, the sentence alone still says what is wrong.
        if handler.render_report(&mut text, &report).is_err() {
            let message = printable(&diagnostic.message);
            text.push_str(&format!("{}: {message}\n", diagnostic.code));
        }
        text.push('\n');
    }
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// A [`Diagnostic`] as miette wants it: one source, and labels inside it.
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<Excerpt>>,
    spans: Vec<LabeledSpan>,
    help: Option<String>,
}

impl<'a> Report<'a> {
    fn new(diagnostic: &'a Diagnostic) -> Self {
        let place = diagnostic
            .place
            .as_ref()
            .filter(|place| !place.source().text().is_empty());
        let (near, mut elsewhere): (Vec<&Label>, Vec<&Label>) = diagnostic
            .labels
            .iter()
            .partition(|label| same_source(place, &label.place));
        let mut spans = Vec::new();
        let mut source = None;
        if let Some(place) = place {
            let mut shown = vec![first_line(place)];
            shown.extend(near.iter().map(|label| first_line(&label.place)));
            let excerpt = match Excerpt::lines(place.source(), &shown, CONTEXT) {
                Some(excerpt) => {
                    spans.extend(near.iter().zip(&shown[1..]).map(|(label, range)| {
                        LabeledSpan::new_with_span(Some(printable(&label.message)), range.clone())
                    }));
                    excerpt
                }
                None => {
                    elsewhere.extend(near);
                    let (excerpt, part) = Excerpt::part(place.source(), &shown[0]);
                    shown[0] = part;
                    excerpt
                }
            };
            spans.insert(
                0,
                LabeledSpan::new_primary_with_span(None, shown[0].clone()),
            );
            source = Some(NamedSource::new(printable(place.file()), excerpt));
        }
        let elsewhere = elsewhere
            .iter()
            .map(|label| printable(&format!("{}: {}", label.message, label.place)));
        let help = diagnostic.help.as_deref().map(printable);
        let lines: Vec<String> = help.into_iter().chain(elsewhere).collect();
        Self {
            diagnostic,
            source,
            spans,
            help: (!lines.is_empty()).then(|| lines.join("\n")),
        }
    }
}

/// `text` with what a terminal would obey written as an escape.
fn printable(text: &str) -> String {
    if !text.contains(is_hidden) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

fn same_source(place: Option<&Place>, other: &Place) -> bool {
    place.is_some_and(|place| Arc::ptr_eq(place.source(), other.source()))
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.diagnostic.message))
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.diagnostic, f)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let severity = match self.diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        Some(Box::new(format!("{severity}[{}]", self.diagnostic.code)))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.spans.is_empty()).then(|| Box::new(self.spans.iter().cloned()) as Box<_>)
    }
}

/// The part of a place on its first line: a block of twenty lines is not drawn.
fn first_line(place: &Place) -> std::ops::Range<usize> {
    let range = place.range();
    let length = place.text().find('\n').unwrap_or(range.len());
    range.start..range.start + length
}
