//! What was made, and how it ended, as a table.

use super::kinds::{KINDS, Kind};
use super::world::World;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Counts.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<Kind, Line>);

#[derive(Default)]
struct Line {
    times: u32,
    longest: Duration,
    ends: BTreeMap<String, u32>,
}

impl Tally {
    /// One that ended as it should.
    pub(crate) fn note(&mut self, kind: Kind, ended: String, took: Duration) {
        let line = self.0.entry(kind).or_default();
        line.times += 1;
        line.longest = line.longest.max(took);
        *line.ends.entry(ended).or_default() += 1;
    }

    /// For people.
    pub(crate) fn text(&self, world: &World, seed: u64, took: Duration) -> String {
        let mut text = format!("{:<24} {:>5} {:>9}  ended\n", "fault", "times", "longest");
        for (kind, line) in KINDS
            .iter()
            .filter_map(|kind| Some((kind, self.0.get(kind)?)))
        {
            let ends: Vec<String> = line
                .ends
                .iter()
                .map(|(end, count)| format!("{count} × {end}"))
                .collect();
            let _ = writeln!(
                text,
                "{:<24} {:>5} {:>7.1} s  {}",
                kind.name(),
                line.times,
                line.longest.as_secs_f64(),
                ends.join("; ")
            );
        }
        let times: u32 = self.0.values().map(|line| line.times).sum();
        let causes: Vec<String> = world
            .causes
            .iter()
            .map(|(cause, count)| format!("{count} by {cause:?}"))
            .collect();
        let (dags, artists) = world.ended;
        let _ = writeln!(
            text,
            "\n{times} faults in {} s, seed {seed}; completed: {dags} runs of thirty steps, \
             {artists} of the artist's; further attempts: {}",
            took.as_secs(),
            if causes.is_empty() {
                "none".to_owned()
            } else {
                causes.join(", ")
            }
        );
        text
    }
}
