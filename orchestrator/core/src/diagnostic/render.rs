//! Diagnostics for a person at a terminal: the line of the file, underlined, with
//! the way out below it. It never prints.

use super::{Diagnostic, Severity};
use crate::document::{Place, Source};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use std::fmt;
use std::sync::Arc;

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
        .with_context_lines(1);
    let mut text = String::new();
    for diagnostic in diagnostics {
        let report = Report::new(diagnostic);
        // Writing to a `String` does not fail; where miette cannot show the
        // source, the sentence alone still says what is wrong.
        if handler.render_report(&mut text, &report).is_err() {
            text.push_str(&format!("{}: {}\n", diagnostic.code, diagnostic.message));
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
    source: Option<NamedSource<Lines>>,
    help: Option<String>,
}

/// The text of a source, shared.
struct Lines(Arc<Source>);

impl SourceCode for Lines {
    fn read_span<'b>(
        &'b self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'b> + 'b>, miette::MietteError> {
        self.0.text().read_span(span, before, after)
    }
}

impl<'a> Report<'a> {
    fn new(diagnostic: &'a Diagnostic) -> Self {
        let place = diagnostic.place.as_ref();
        let source =
            place.map(|place| NamedSource::new(place.file(), Lines(Arc::clone(place.source()))));
        let elsewhere = diagnostic
            .labels
            .iter()
            .filter(|label| !same_source(place, &label.place))
            .map(|label| format!("{}: {}", label.message, label.place));
        let lines: Vec<String> = diagnostic
            .help
            .clone()
            .into_iter()
            .chain(elsewhere)
            .collect();
        Self {
            diagnostic,
            source,
            help: (!lines.is_empty()).then(|| lines.join("\n")),
        }
    }
}

fn same_source(place: Option<&Place>, other: &Place) -> bool {
    place.is_some_and(|place| Arc::ptr_eq(place.source(), other.source()))
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
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
        let place = self.diagnostic.place.as_ref()?;
        let primary = LabeledSpan::new_primary_with_span(None, first_line(place));
        let others = self
            .diagnostic
            .labels
            .iter()
            .filter(move |label| same_source(Some(place), &label.place));
        let others = others.map(|label| {
            LabeledSpan::new_with_span(Some(label.message.clone()), first_line(&label.place))
        });
        Some(Box::new(std::iter::once(primary).chain(others)))
    }
}

/// The part of a place on its first line: a block of twenty lines is not drawn.
fn first_line(place: &Place) -> std::ops::Range<usize> {
    let range = place.range();
    let length = place.text().find('\n').unwrap_or(range.len());
    range.start..range.start + length
}
