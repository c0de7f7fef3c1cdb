//! A run's graph as a picture in SVG: steps in layers by what they wait for, left to right.

use crate::report::RunReport;
use auria_core::StepPath;
use auria_core::plan::Plan;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// The size of a step's box, and what is between two.
const WIDE: usize = 150;
const HIGH: usize = 30;
const ACROSS: usize = 50;
const DOWN: usize = 14;
/// Steps that are drawn; larger graphs are read in the table.
const MOST: usize = 500;
/// Letters of a name that fit.
const LETTERS: usize = 18;

/// The picture.
pub(super) fn of(plan: &Plan, report: &RunReport) -> Markup {
    if plan.steps.len() > MOST {
        return html! { p { "The graph has " (plan.steps.len()) " steps: too many for a picture." } };
    }
    let mut layers: BTreeMap<&StepPath, usize> = BTreeMap::new();
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places: BTreeMap<&StepPath, (usize, usize)> = BTreeMap::new();
    // Dependencies stand before dependents in a plan.
    for step in &plan.steps {
        let before = step
            .dependencies()
            .into_iter()
            .filter_map(|path| layers.get(path));
        let layer = before.max().map_or(0, |layer| layer + 1);
        layers.insert(&step.path, layer);
        let row = rows.entry(layer).or_default();
        places.insert(
            &step.path,
            (layer * (WIDE + ACROSS) + 4, *row * (HIGH + DOWN) + 4),
        );
        *row += 1;
    }
    let wide = rows.len() * (WIDE + ACROSS);
    let high = rows.values().max().copied().unwrap_or(0) * (HIGH + DOWN) + 8;
    let statuses: BTreeMap<&str, String> = report
        .steps
        .iter()
        .map(|(path, step)| (path.as_str(), format!("{:?}", step.status)))
        .collect();
    html! {
        svg role="img" aria-label="The graph of the run" viewBox=(format!("0 0 {wide} {high}"))
            width=(wide) height=(high) {
            @for step in &plan.steps {
                @for from in step.dependencies() {
                    @if let (Some((x1, y1)), Some((x2, y2))) = (places.get(from), places.get(&step.path)) {
                        line x1=(x1 + WIDE) y1=(y1 + HIGH / 2) x2=(x2) y2=(y2 + HIGH / 2) {}
                    }
                }
            }
            @for step in &plan.steps {
                @let name = step.path.display();
                @let status = statuses.get(name.as_str()).cloned().unwrap_or_default();
                @if let Some((x, y)) = places.get(&step.path) {
                    g class=(status) {
                        title { (name) ": " (status) }
                        rect x=(x) y=(y) width=(WIDE) height=(HIGH) rx="5" {}
                        text x=(x + 8) y=(y + 20) { (name.chars().take(LETTERS).collect::<String>()) }
                    }
                }
            }
        }
    }
}
