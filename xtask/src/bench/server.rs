//! `cargo xtask bench server`: what `serve` costs, and the project's goals for it. What is measured
//! stands in `tests/tests/server_measures`.

use anyhow::Context;
use clap::Args;

use super::figures::Figures;
use super::{Output, measured};
use crate::{libtorch, programs};

pub(crate) const HELP: &str = "\
Works of the artist by an endpoint, with programs that stay warm beside the same works without; the
list of 10,000 runs; a log that 200 follow; memory. All in one call. The server and the artist's
programs are built with the dev profile, which is optimized.

Examples:
  cargo xtask bench server
  cargo xtask bench server --rounds 2 --output json";

#[derive(Args)]
pub(crate) struct Server {
    /// Rounds of one caller: four warm works and a cold one each
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Runs that the server drives at once
    #[arg(long, default_value_t = 2)]
    runs: usize,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Server {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        libtorch::install(None)?;
        let programs = programs::build_all()?;
        let program = programs
            .iter()
            .find(|program| program.name().ends_with(": server_measures"))
            .context("there is no program tests/tests/server_measures")?;
        let variables = vec![
            ("AURIA_MEASURES_ROUNDS", self.rounds.to_string()),
            ("AURIA_MEASURES_RUNS", self.runs.to_string()),
        ];
        let mut figures = measured::by(program, variables)?;
        figures.compare("warm");
        goals(&mut figures);
        figures.print(self.output);
        Ok(())
    }
}

/// What the project wants of itself.
fn goals(figures: &mut Figures) {
    let of = |work: &str| {
        let found = figures
            .lines
            .iter()
            .find(|line| line.work == work && line.program == "warm");
        found.map_or(f64::NAN, |line| line.sample.median())
    };
    let (median, late) = (
        of("a work of 512 px, one caller, p50"),
        of("a work of 512 px, one caller, p99"),
    );
    let crowds = [4, 16].map(|callers| {
        let rate = of(&format!(
            "throughput of {callers} callers, in times of one's"
        ));
        (
            format!("throughput of {callers} callers, in times of one's: 0.9 or more"),
            rate,
            rate >= 0.9,
        )
    });
    let goals = [
        (
            "a warm work of 512 px, one caller, p50: under 2 s".to_owned(),
            median,
            median < 2.0,
        ),
        ("the same, p99: under 3 s".to_owned(), late, late < 3.0),
    ];
    for (what, found, met) in goals.into_iter().chain(crowds) {
        if found.is_finite() {
            figures.goal(&what, format!("{found:.2}"), met);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{goals, measured};
    use serde_json::json;

    #[test]
    fn goals_follow_what_was_measured() {
        let line = |work: &str, value: f64| json!({"work": work, "program": "warm", "unit": "s", "values": [value]});
        let mut figures = measured::read(&json!([
            line("a work of 512 px, one caller, p50", 1.5),
            line("a work of 512 px, one caller, p99", 3.5),
            line("throughput of 4 callers, in times of one's", 0.95),
        ]));
        goals(&mut figures);
        let met: Vec<bool> = figures.goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true, false, true], "{:?}", figures.goals);
    }
}
