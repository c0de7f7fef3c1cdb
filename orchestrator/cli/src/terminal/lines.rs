//! Progress where lines cannot be rewritten: one line a change.

use super::rows::{Row, Rows};
use super::style::{Paint, duration, fit, symbol};
use auria_core::Timestamp;
use auria_core::outcome::Status;
use std::io::Write;

/// Writes a line for each change of a step.
pub struct Lines<W> {
    out: W,
    paint: Paint,
    begun: Timestamp,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`; times are counted from `begun`.
    pub fn new(out: W, paint: Paint, begun: Timestamp) -> Self {
        Self { out, paint, begun }
    }

    /// `row` changed.
    pub fn changed(&mut self, rows: &Rows, row: &Row, now: Timestamp) {
        if row.status == Status::NotStarted {
            return;
        }
        let width = rows.width();
        let mut text = format!(
            "{:>9}  {} {:width$}  {}",
            duration(now.millis_since(self.begun)),
            self.paint.status(row.status, symbol(row.status)),
            row.path.display(),
            self.paint.status(row.status, &format!("{:?}", row.status)),
        );
        if let (true, Some(started), Some(ended)) =
            (row.status.is_terminal(), row.started, row.ended)
        {
            text.push_str(&format!("  {}", duration(ended.millis_since(started))));
        }
        if row.attempts > 1 {
            text.push_str(&format!("  attempt {}", row.attempts));
        }
        if let Some(note) = &row.note {
            text.push_str(&format!("  {}", self.paint.dim(&fit(note, 300))));
        }
        // Progress is a courtesy: a closed pipe must not end the run.
        let _ = writeln!(self.out, "{text}");
    }

    /// A message that belongs to no step.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }
}
