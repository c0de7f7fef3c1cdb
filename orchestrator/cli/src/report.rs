//! A run's report as text for people. What it says is `auria_server::report`'s.

use crate::terminal::{Paint, duration, status_symbol};
use auria_core::outcome::Status;
use auria_server::report::StepReport;
pub use auria_server::report::{OutputReport, RunReport};
use std::fmt::Write as _;

/// For people.
pub fn text(report: &RunReport, paint: Paint) -> String {
    let mut text = String::new();
    let took = match (report.started, report.ended) {
        (Some(started), Some(ended)) => {
            format!(" in {}", duration(ended.millis_since(started)))
        }
        _ => String::new(),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} {}  {}{took}",
        paint.status(report.status, status_symbol(report.status)),
        paint.bold(report.run.as_str()),
        paint.status(report.status, &format!("{:?}", report.status)),
    );
    let reused = report
        .steps
        .iter()
        .filter(|(_, step)| step.status == Status::Reused)
        .count();
    if reused > 0 {
        let _ = writeln!(
            text,
            "  reused {reused} of {} steps (`auria-pipeline explain {} STEP` says why)",
            report.steps.len(),
            report.run
        );
    }
    if let Some(driver) = &report.driver {
        let _ = writeln!(text, "  driven by {driver}");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "  {} {problem}", paint.red("✗"));
    }
    let width = report
        .steps
        .iter()
        .map(|(path, _)| path.len())
        .max()
        .unwrap_or(0);
    for (path, step) in &report.steps {
        let _ = writeln!(text, "  {}", line(step, path, width, paint));
        if step.status == Status::Failed {
            for line in &step.last_lines {
                let _ = writeln!(text, "      {} {line}", paint.dim("│"));
            }
            if step.attempts > 0 {
                let _ = writeln!(
                    text,
                    "      {} auria-pipeline logs {} {path}",
                    paint.dim("all of it:"),
                    report.run
                );
            }
        }
    }
    if !report.outputs.is_empty() {
        let _ = writeln!(text, "  outputs");
        let width = report.outputs.keys().map(String::len).max().unwrap_or(0);
        for (name, output) in &report.outputs {
            let _ = writeln!(text, "    {name:width$}  {}", plain(&output.uri));
        }
    }
    text
}

/// A folder's path without its scheme: what people paste.
pub fn plain(uri: &str) -> &str {
    uri.strip_prefix("file://").unwrap_or(uri)
}

fn line(step: &StepReport, path: &str, width: usize, paint: Paint) -> String {
    let mut line = format!(
        "{} {path:width$}  {}",
        paint.status(step.status, status_symbol(step.status)),
        paint.status(
            step.status,
            &format!("{:<12}", format!("{:?}", step.status))
        ),
    );
    if let (Some(started), Some(ended), false) =
        (step.started, step.ended, step.status == Status::Reused)
    {
        let _ = write!(line, " {}", duration(ended.millis_since(started)));
    }
    if step.attempts > 1 {
        let _ = write!(line, "  {} attempts", step.attempts);
    }
    if let Some(source) = &step.reused_from {
        let _ = write!(line, " {}", paint.dim(&format!("from {}", source.run)));
    }
    if let Some(code) = step.exit_code.filter(|code| *code != 0) {
        let _ = write!(line, "  exit {code}");
    }
    if let (Some(message), false) = (&step.message, step.status.is_success()) {
        let _ = write!(line, "  {}", message.lines().next().unwrap_or_default());
    }
    line.trim_end().to_owned()
}
