//! The live tree: every step on a line of its own, rewritten in place. One write
//! a frame, inside a synchronised update, so that it does not flicker; never more
//! lines than the terminal has.

use super::rows::{Row, Rows};
use super::style::{Paint, duration, fit, symbol};
use crate::edge::Terminal;
use auria_core::Timestamp;
use auria_core::outcome::Status;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Draws the tree.
pub struct Tree<W> {
    out: W,
    paint: Paint,
    title: String,
    begun: Timestamp,
    drawn: usize,
}

impl<W: Write> Tree<W> {
    /// Draws to `out`; `title` names the run, times are counted from `begun`.
    pub fn new(out: W, paint: Paint, title: String, begun: Timestamp) -> Self {
        Self {
            out,
            paint,
            title,
            begun,
            drawn: 0,
        }
    }

    /// Draws `rows` over the frame before.
    pub fn draw(&mut self, rows: &Rows, status: Status, terminal: Terminal, now: Timestamp) {
        let lines = frame(
            rows,
            self.paint,
            &self.title,
            status,
            now.millis_since(self.begun),
            terminal,
            now,
        );
        let mut text = String::from("\x1b[?2026h");
        text.push_str(&self.rewind());
        for line in &lines {
            text.push_str(line);
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b[J\x1b[?2026l");
        self.drawn = lines.len();
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    fn rewind(&self) -> String {
        if self.drawn == 0 {
            String::new()
        } else {
            format!("\x1b[{}A\r", self.drawn)
        }
    }

    /// Takes the tree away.
    pub fn erase(&mut self) {
        let text = format!("{}\x1b[J", self.rewind());
        self.drawn = 0;
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    /// Writes `text` above the tree; the next frame is drawn below it.
    pub fn note(&mut self, text: &str) {
        let text = format!("{}\x1b[J{}\r\n", self.rewind(), text.replace('\n', "\r\n"));
        self.drawn = 0;
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }
}

/// Columns of a line beside name and tail: branch, sign, status (at most 15), time
/// (10), and the blanks between.
const COLUMNS: usize = 3 + 2 + 2 + 15 + 1 + 10 + 2;

/// Rows that matter most when not all fit: what goes on or failed, before what
/// waits, before what is done.
fn rank(row: &Row) -> u8 {
    match row.status {
        Status::Failed | Status::NotResponding => 0,
        Status::Preparing | Status::Running | Status::Finalizing | Status::CancelRequested => 1,
        Status::Queued => 2,
        Status::Canceled => 3,
        Status::NotStarted => 4,
        Status::Completed | Status::Reused | Status::Skipped => 5,
    }
}

fn frame(
    rows: &Rows,
    paint: Paint,
    title: &str,
    status: Status,
    elapsed: u64,
    terminal: Terminal,
    now: Timestamp,
) -> Vec<String> {
    let all = rows.all();
    let done = [Status::Completed, Status::Reused]
        .map(|status| rows.count(status))
        .iter()
        .sum::<usize>();
    let head = format!(
        "{status:?}  {done}/{} steps  {}",
        all.len(),
        duration(elapsed)
    );
    let title = fit(title, terminal.width.saturating_sub(head.width() + 3));
    let mut lines = vec![format!(
        "{}  {}",
        paint.bold(&title),
        paint.status(status, &head)
    )];

    let room = terminal.height.saturating_sub(3).max(1);
    let shown: Vec<&Row> = if all.len() <= room {
        all.iter().collect()
    } else {
        let mut places: Vec<usize> = (0..all.len()).collect();
        places.sort_by_key(|&place| (rank(&all[place]), place));
        places.truncate(room.saturating_sub(1).max(1));
        places.sort_unstable();
        places.into_iter().map(|place| &all[place]).collect()
    };
    let names: Vec<String> = shown.iter().map(|row| label(&row.path)).collect();
    let width = names
        .iter()
        .map(|name| name.width())
        .max()
        .unwrap_or(0)
        .min(terminal.width / 3)
        // A narrow terminal shows names and states, and cuts the names.
        .min(terminal.width.saturating_sub(COLUMNS));
    for (i, (row, name)) in shown.iter().zip(&names).enumerate() {
        let last = i + 1 == shown.len() && shown.len() == all.len();
        lines.push(line(
            row,
            name,
            width,
            if last { "└─" } else { "├─" },
            paint,
            terminal,
            now,
        ));
    }
    if shown.len() < all.len() {
        let hidden = all.len() - shown.len();
        let waiting = rows.count(Status::NotStarted) + rows.count(Status::Queued);
        lines.push(paint.dim(&fit(
            &format!("└─ and {hidden} more: {done} done, {waiting} waiting"),
            terminal.width,
        )));
    }
    lines
}

/// A nested step stands under its group by indentation.
fn label(path: &auria_core::StepPath) -> String {
    let depth = path.as_str().matches('.').count();
    format!("{}{}", "  ".repeat(depth.min(4)), path.display())
}

fn line(
    row: &Row,
    name: &str,
    width: usize,
    branch: &str,
    paint: Paint,
    terminal: Terminal,
    now: Timestamp,
) -> String {
    let time = match (row.started, row.ended) {
        (Some(started), Some(ended)) => duration(ended.millis_since(started)),
        (Some(started), None) => duration(now.millis_since(started) / 100 * 100),
        _ => String::new(),
    };
    let name = fit(name, width);
    let pad = width.saturating_sub(name.width());
    let label = format!("{:?}", row.status);
    let mut tail = String::new();
    if row.attempts > 1 {
        tail.push_str(&format!("attempt {}  ", row.attempts));
    }
    let words = match (&row.note, &row.line) {
        (Some(note), _) => note.as_str(),
        (None, Some(line)) if !row.status.is_terminal() => line.as_str(),
        _ => "",
    };
    tail.push_str(words);
    let tail = fit(&tail, terminal.width.saturating_sub(COLUMNS + width));
    format!(
        "{} {} {name}{:pad$}  {} {time:>10}  {}",
        paint.dim(branch),
        paint.status(row.status, symbol(row.status)),
        "",
        paint.status(row.status, &format!("{label:<15}")),
        paint.dim(&tail),
    )
}

#[cfg(test)]
mod tests {
    use super::{Paint, Row, Rows, frame};
    use crate::edge::Terminal;
    use auria_core::Timestamp;
    use auria_core::outcome::Status;
    use unicode_width::UnicodeWidthStr;

    fn terminal(width: usize, height: usize) -> Terminal {
        Terminal {
            live: true,
            colour: false,
            width,
            height,
        }
    }

    #[test]
    fn no_line_is_wider_and_no_frame_higher_than_the_terminal() {
        for (width, height, steps) in [(80, 24, 4), (80, 24, 500), (40, 6, 30), (200, 50, 45)] {
            let mut rows =
                Rows::new((0..steps).map(|i| format!("group.step_{i}").parse().unwrap()));
            for i in (0..steps).step_by(3) {
                let path = format!("group.step_{i}").parse().unwrap();
                let status = if i == 27 {
                    Status::Failed
                } else {
                    Status::Running
                };
                let line =
                    Some("a line of the log that is far too long for any terminal ".repeat(9));
                rows.put(Row {
                    path,
                    status,
                    started: Some(Timestamp(0)),
                    ended: None,
                    attempts: 2,
                    note: None,
                    line,
                });
            }
            let lines = frame(
                &rows,
                Paint::new(false),
                &"run ".repeat(60),
                Status::Running,
                61_000,
                terminal(width, height),
                Timestamp(61_000),
            );
            assert!(lines.len() < height, "{} lines on {height}", lines.len());
            for line in &lines {
                assert!(
                    line.width() <= width,
                    "{} columns of {width}: {line}",
                    line.width()
                );
            }
            if steps > 27 {
                assert!(
                    lines.iter().any(|line| line.contains("Failed")),
                    "the failed step is shown"
                );
            }
        }
    }
}
