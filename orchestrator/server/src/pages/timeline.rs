//! Where a run's time went: a bar for each step, and the ledger of the way that decided how
//! long the run took, with what was the commands' own and what was not.

use super::shell::took;
use crate::report::{RunReport, StepReport};
use auria_core::Timestamp;
use auria_core::outcome::Timings;
use auria_core::plan::Plan;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Rows that are drawn: those that took longest.
const ROWS: usize = 60;
const ROW: u64 = 26;
/// How long the longest bar is, and what its label takes up.
const LONG: u64 = 800;
const LABEL: u64 = 80;
/// Of a letter of a name.
const LETTER: u64 = 7;

/// Parts of a step's time, in their order: how each is drawn and named.
const PARTS: [(&str, &str); 5] = [
    ("queued", "waiting for room"),
    ("other", "getting a place, pulling"),
    ("fetched", "fetching inputs"),
    ("ran", "the command"),
    ("published", "publishing outputs"),
];

fn parts(timings: &Timings) -> [u64; 5] {
    let known = |part: Option<u64>| part.unwrap_or(0);
    [
        known(timings.queued_ms),
        known(timings.scheduled_ms) + known(timings.pulled_ms),
        known(timings.fetched_ms),
        known(timings.ran_ms),
        known(timings.published_ms),
    ]
}

struct Row<'a> {
    name: &'a str,
    begins: i64,
    ends: i64,
    parts: [u64; 5],
}

fn row<'a>(name: &'a str, step: &StepReport, now: Timestamp) -> Option<Row<'a>> {
    // What another run made took no time here.
    if step.reused_from.is_some() {
        return None;
    }
    let claimed = step.started?.0;
    let ends = step.ended.unwrap_or(now).0.max(claimed);
    let parts = parts(&step.timings);
    let waited = i64::try_from(parts[0] + parts[1]).unwrap_or(0);
    Some(Row {
        name,
        begins: claimed - waited,
        ends,
        parts,
    })
}

/// The bars.
pub(super) fn bars(report: &RunReport, now: Timestamp) -> Markup {
    let mut rows: Vec<Row<'_>> = report
        .steps
        .iter()
        .filter_map(|(name, step)| row(name, step, now))
        .collect();
    let count = rows.len();
    if count == 0 {
        return html! { p class="none" { "No step has begun." } };
    }
    rows.sort_by_key(|row| row.begins - row.ends);
    rows.truncate(ROWS);
    rows.sort_by_key(|row| (row.begins, row.ends));
    let from = rows.iter().map(|row| row.begins).min().unwrap_or(0);
    let to = rows.iter().map(|row| row.ends).max().unwrap_or(from);
    let all = u64::try_from(to - from).unwrap_or(0).max(1);
    // Bars begin where the longest name ends.
    let names = rows.iter().map(|row| short(row.name).chars().count());
    let left = 18 + LETTER * u64::try_from(names.max().unwrap_or(0)).unwrap_or(0);
    let wide = left + LONG + LABEL;
    let at = |millis: u64| left + millis.min(all) * LONG / all;
    let high = ROW * u64::try_from(rows.len()).unwrap_or(0) + 30;
    html! {
        div class="wide" tabindex="0" role="region" aria-label="Timeline" {
            svg role="img" aria-label=(format!("When each of {} steps ran, over {}", rows.len(), took(all)))
                viewBox=(format!("0 0 {wide} {high}")) width=(wide) height=(high) {
                @for tick in 0..=4 {
                    @let x = left + LONG * tick / 4;
                    line x1=(x) x2=(x) y1="18" y2=(high) {}
                    text class="small" x=(x) y="11" text-anchor="middle" { (took(all * tick / 4)) }
                }
                @for (number, row) in rows.iter().enumerate() {
                    @let y = 24 + ROW * u64::try_from(number).unwrap_or(0);
                    text x=(left - 10) y=(y + 14) text-anchor="end" { (short(row.name)) }
                    @let begins = u64::try_from(row.begins - from).unwrap_or(0);
                    @let ends = u64::try_from(row.ends - from).unwrap_or(0);
                    @for (place, (class, what)) in PARTS.iter().enumerate() {
                        @let before = begins + row.parts[..place].iter().sum::<u64>();
                        @let after = (before + row.parts[place]).min(ends);
                        @if row.parts[place] > 0 && after > before {
                            rect class=(class) x=(at(before)) y=(y) width=((at(after) - at(before)).max(1)) height=(ROW - 8) rx="2" {
                                title { (row.name) ": " (what) " " (took(row.parts[place])) }
                            }
                        }
                    }
                    @if row.parts.iter().all(|part| *part == 0) {
                        rect class="other" x=(at(begins)) y=(y) width=((at(ends) - at(begins)).max(2)) height=(ROW - 8) rx="2" {}
                    }
                    text class="small" x=(at(ends) + 6) y=(y + 14) { (took(ends - begins)) }
                }
            }
        }
        ul class="legend" {
            @for (class, what) in PARTS { li { i class=(class) {} (what) } }
        }
        @if count > ROWS { p class="quiet" { "The " (ROWS) " longest of " (count) " steps." } }
    }
}

fn short(name: &str) -> String {
    let letters = name.chars().count();
    if letters <= 26 {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(letters - 25).collect();
    format!("…{tail}")
}

/// The ledger: the way from the run's beginning to its last step's end, part by part.
pub(super) fn ledger(plan: &Plan, report: &RunReport) -> Option<Markup> {
    let (from, to) = (report.started?, report.ended?);
    let by_name: BTreeMap<&str, &StepReport> = report
        .steps
        .iter()
        .map(|(name, step)| (name.as_str(), step))
        .collect();
    let planned: BTreeMap<String, _> = plan
        .steps
        .iter()
        .map(|step| (step.path.display(), step))
        .collect();
    let mut sums = [0_u64; 5];
    let mut way = Vec::new();
    let ends = |name: &str| by_name.get(name)?.ended;
    let mut at = by_name
        .iter()
        .filter(|(_, step)| step.started.is_some() && step.reused_from.is_none())
        .max_by_key(|(_, step)| step.ended)
        .map(|(name, _)| (*name).to_owned());
    while let Some(name) = at {
        let step = by_name.get(name.as_str())?;
        if step.reused_from.is_none() {
            for (sum, part) in sums.iter_mut().zip(parts(&step.timings)) {
                *sum += part;
            }
        }
        let before = planned.get(&name)?.dependencies().into_iter();
        at = before
            .map(|path| path.display())
            .max_by_key(|name| ends(name));
        way.push(name);
    }
    way.reverse();
    let all = to.millis_since(from);
    let rest = all.saturating_sub(sums.iter().sum());
    let share = |part: u64| format!("{} %", part * 100 / all.max(1));
    Some(html! {
        p class="quiet" {
            "The way that decided the " (took(all)) ": " (way.join(" → ")) "."
        }
        div class="card wide" {
            table {
                thead { tr { th { "Spent on" } th class="n" { "Time" } th class="n" { "Share" } } }
                tbody {
                    @for ((class, what), sum) in PARTS.iter().zip(sums) {
                        @if sum > 0 {
                            tr {
                                td { i class=(format!("dot {class}")) {} (what) }
                                td class="n" { (took(sum)) }
                                td class="n" { (share(sum)) }
                            }
                        }
                    }
                    tr { td { "between steps: deciding, starting, committing" } td class="n" { (took(rest)) } td class="n" { (share(rest)) } }
                }
            }
        }
    })
}
