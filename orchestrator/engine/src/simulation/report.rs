//! What many schedules came to: what was wrong, which state met which event, where
//! processes were killed; and which of these never happened though they can.

use super::impossible::{EVENTS, KILLS, SELDOM, Why};
use super::play::Played;
use super::points::{Actor, DONE, Effect, Kills, When};
use auria_core::run::coverage::{Cell, Counts, Table};
use std::fmt::Write as _;

/// Violations that are kept; more say nothing new.
const KEPT: usize = 20;

/// The sum of many schedules.
#[derive(Debug, Default)]
pub struct Totals {
    /// Schedules played.
    pub schedules: u64,
    /// Of them, those with a violation.
    pub failed: u64,
    /// Requests to stores and executors.
    pub requests: u64,
    /// Processes that were killed.
    pub deaths: u64,
    /// The first seeds that failed, and how.
    pub wrong: Vec<(u64, String)>,
    met: Counts,
    kills: Kills,
}

impl Totals {
    /// Adds a schedule.
    pub fn add(&mut self, played: Played) {
        self.schedules += 1;
        self.requests += played.requests;
        self.deaths += u64::from(played.deaths);
        self.met.add(&played.met);
        self.kills.add(&played.kills);
        if let Some(wrong) = played.wrong {
            self.fail(played.seed, wrong);
        }
    }

    /// Notes a schedule that could not be played to its end.
    pub fn fail(&mut self, seed: u64, wrong: String) {
        self.failed += 1;
        self.wrong.push((seed, wrong));
        self.wrong.sort();
        self.wrong.truncate(KEPT);
    }

    /// Adds another's sum.
    pub fn merge(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.failed += other.failed;
        self.requests += other.requests;
        self.deaths += other.deaths;
        self.met.add(&other.met);
        self.kills.add(&other.kills);
        self.wrong.extend(other.wrong);
        self.wrong.sort();
        self.wrong.truncate(KEPT);
    }

    /// How often each state met each event, and each kill point.
    #[must_use]
    pub fn coverage(&self) -> String {
        let mut text = String::new();
        let mut row = None;
        for cell in self.met.cells() {
            if row != Some((cell.table, cell.state)) {
                row = Some((cell.table, cell.state));
                let _ = write!(text, "\n{} {}:", table_name(cell.table), cell.state);
            }
            if cell.count > 0 {
                let _ = write!(text, " {} {}", cell.event, cell.count);
                text.push(',');
            }
        }
        for (actor, effects) in DONE {
            let _ = write!(text, "\nkilled {}, before/after:", actor_name(*actor));
            for effect in *effects {
                let (before, after) = (
                    self.kills.of(*actor, *effect, When::Before),
                    self.kills.of(*actor, *effect, When::After),
                );
                let _ = write!(text, " {} {before}/{after},", effect.name());
            }
        }
        text.replace(",\n", "\n")
            .trim_matches(['\n', ','])
            .to_owned()
            + "\n"
    }

    /// What never happened and is not listed, and what is listed as impossible and happened.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        let gap = |(what, listed, count): (String, Option<Why>, u64)| match (listed, count) {
            (None, 0) => Some(format!("never: {what}")),
            (Some(Why::Seldom { in_a_million, .. }), 0) if self.expects(in_a_million) => Some(
                format!("never: {what}, which was seen {in_a_million} times in a million"),
            ),
            (Some(Why::Never(reason)), 1..) => Some(format!(
                "{what} happened {count} times, and is listed as impossible: {reason}"
            )),
            _ => None,
        };
        self.places().filter_map(gap).collect()
    }

    /// What can happen, and did not; each with why that is no wonder.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        let unseen = |(what, listed, count): (String, Option<Why>, u64)| match (listed, count) {
            (
                Some(Why::Seldom {
                    in_a_million,
                    reason,
                }),
                0,
            ) => Some(format!(
                "not seen: {what} ({in_a_million} in a million: {reason})"
            )),
            _ => None,
        };
        self.places().filter_map(unseen).collect()
    }

    /// Whether so many schedules hold what so many of a million do: by chance once in
    /// half a billion they do not.
    fn expects(&self, in_a_million: u64) -> bool {
        self.schedules * in_a_million >= 20 * 1_000_000
    }

    /// Every pair and every kill point: what it is, how it is listed, how often it was.
    fn places(&self) -> impl Iterator<Item = (String, Option<Why>, u64)> {
        let pairs = self.met.cells().map(|cell| {
            let never = EVENTS.iter().find(|(table, states, events, _)| {
                *table == cell.table
                    && (states.is_empty() || states.contains(&cell.state))
                    && (events.is_empty() || events.contains(&cell.event))
            });
            let never = never.map(|(.., why)| *why);
            let pair = format!("{} {} × {}", table_name(cell.table), cell.state, cell.event);
            (pair, never.or_else(|| seldom(&cell)), cell.count)
        });
        let points = DONE.iter().flat_map(move |(actor, effects)| {
            effects.iter().flat_map(move |effect| {
                [(When::Before, "before"), (When::After, "after")].map(|(when, side)| {
                    let listed = KILLS
                        .iter()
                        .find(|(of, what, _)| of == actor && what == effect);
                    let point = format!(
                        "{} killed {side} it would {}",
                        actor_name(*actor),
                        effect.name()
                    );
                    let count = self.kills.of(*actor, *effect, when);
                    (point, listed.map(|(.., why)| *why), count)
                })
            })
        });
        pairs.chain(points)
    }
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Step => "step",
        Table::Attempt => "attempt",
        Table::Run => "run",
    }
}

fn actor_name(actor: Actor) -> &'static str {
    match actor {
        Actor::Driver => "driver",
        Actor::Launcher => "launcher",
        Actor::Canceler => "canceler",
        Actor::Keeper => "keeper",
        Actor::Submitter => "submitter",
        Actor::Stage => "stage",
    }
}

/// How often `cell` was measured, where it is one of those that hardly happen.
fn seldom(cell: &Cell) -> Option<Why> {
    let found = SELDOM.iter().find_map(|(table, reason, rows)| {
        let row = rows
            .iter()
            .find(|(state, _)| *table == cell.table && *state == cell.state)?;
        let (_, in_a_million) = row.1.iter().find(|(event, _)| *event == cell.event)?;
        Some((*in_a_million, *reason))
    });
    found.map(|(in_a_million, reason)| Why::Seldom {
        in_a_million,
        reason,
    })
}

/// The types of the lists of what is impossible, and of what is seldom: by state the
/// events, each with how often it was seen in a million schedules.
pub(super) type Pair = (Table, &'static [&'static str], &'static [&'static str], Why);
pub(super) type Rare = (
    Table,
    &'static str,
    &'static [(&'static str, &'static [(&'static str, u64)])],
);
pub(super) type Point = (Actor, Effect, Why);
