//! What a part of `cargo xtask test` came to, and the table at the end.
//!
//! Only tests count as passed. A check that is no test (format, lints, …) is silent when it holds
//! and counts as one failure when it does not, so that the last line and the exit status agree.

use std::fmt::Write as _;
use std::time::Duration;

/// Counts of tests, and what is wrong besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Tests that ran and held.
    pub(crate) passed: u64,
    /// Tests that ran and did not hold, and checks that failed.
    pub(crate) failed: u64,
    /// Tests that were left out.
    pub(crate) skipped: u64,
    /// What is wrong, or was left out: a line each.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// Adds a failed check.
    pub(crate) fn fail(&mut self, note: impl Into<String>) {
        self.failed += 1;
        self.notes.push(note.into());
    }

    /// Adds another outcome.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.notes.extend(other.notes.iter().cloned());
    }

    /// Adds the counts of one line of a test program, if it is its result:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out`.
    pub(crate) fn read_line(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        let counts = result.split_once(". ").map_or(result, |(_, counts)| counts);
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let Some(Ok(count)) = words.next().map(str::parse::<u64>) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The part's name.
    pub(crate) name: &'static str,
    /// What it came to.
    pub(crate) outcome: Outcome,
    /// How long it took.
    pub(crate) took: Duration,
}

/// The table of all parts, the notes, and the counts alone on the last line.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:<12} {:<8} {:>7} {:>7} {:>8} {:>8}\n",
        "part", "result", "passed", "failed", "skipped", "minutes"
    );
    let mut all = Outcome::default();
    let mut took = Duration::ZERO;
    let row = |name: &str, outcome: &Outcome, took: Duration| {
        format!(
            "{name:<12} {:<8} {:>7} {:>7} {:>8} {:>8.1}\n",
            if outcome.failed == 0 { "ok" } else { "FAILED" },
            outcome.passed,
            outcome.failed,
            outcome.skipped,
            took.as_secs_f64() / 60.0
        )
    };
    for line in lines {
        text += &row(line.name, &line.outcome, line.took);
        all.add(&line.outcome);
        took += line.took;
    }
    text += &row("all", &all, took);
    for line in lines {
        for note in &line.outcome.notes {
            let _ = writeln!(text, "{}: {note}", line.name);
        }
    }
    let _ = write!(
        text,
        "\n{} passed, {} failed, {} skipped\n",
        all.passed, all.failed, all.skipped
    );
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Line, Outcome, table};

    #[test]
    fn the_counts_of_test_programs_are_summed() {
        let mut outcome = Outcome::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.31s",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            outcome.read_line(line);
        }
        assert_eq!(
            outcome,
            Outcome {
                passed: 8,
                failed: 2,
                skipped: 1,
                notes: Vec::new()
            }
        );
    }

    #[test]
    fn the_last_line_holds_the_counts_alone_and_a_failed_check_counts() {
        let mut checks = Outcome::default();
        checks.fail("format is off");
        let tests = Outcome {
            passed: 7,
            skipped: 1,
            ..Outcome::default()
        };
        let took = Duration::from_secs(90);
        let lines = [("format", checks), ("unit", tests)].map(|(name, outcome)| Line {
            name,
            outcome,
            took,
        });
        let text = table(&lines);
        assert_eq!(text.lines().last(), Some("7 passed, 1 failed, 1 skipped"));
        assert!(text.contains("format: format is off\n"), "{text}");
        assert!(
            text.contains("all          FAILED         7       1        1      3.0"),
            "{text}"
        );
    }
}
