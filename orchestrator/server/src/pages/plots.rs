//! What steps measured, as small plots in SVG: one for each measure of each step. It reads both
//! forms of a line: `{"name": …, "value": …, "step": …}` and `{"loss": …, "accuracy": …}`.

use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;

/// Plots of a page.
const MOST: usize = 48;
/// Points of a plot that are drawn.
const POINTS: usize = 400;
const WIDE: f64 = 340.0;
const HIGH: f64 = 150.0;
const LEFT: f64 = 44.0;
const BELOW: f64 = 20.0;

/// Points by the name of what was measured.
type Curves = BTreeMap<String, Vec<(f64, f64)>>;

/// The measures of one step.
fn curves(values: &[Value]) -> Curves {
    let mut curves = Curves::new();
    for (place, value) in values.iter().enumerate() {
        let Some(line) = value.as_object() else {
            continue;
        };
        let at = ["step", "epoch", "iteration"]
            .iter()
            .find_map(|name| line.get(*name)?.as_f64());
        #[expect(clippy::cast_precision_loss, reason = "a place among at most 100,000")]
        let place = place as f64;
        if let (Some(name), Some(value)) =
            (line.get("name").and_then(Value::as_str), line.get("value"))
        {
            if let Some(value) = value.as_f64() {
                let points = curves.entry(name.to_owned()).or_default();
                points.push((at.unwrap_or(place), value));
            }
            continue;
        }
        for (name, value) in line {
            if matches!(
                name.as_str(),
                "step" | "epoch" | "iteration" | "time" | "at"
            ) {
                continue;
            }
            if let Some(value) = value.as_f64() {
                let points = curves.entry(name.clone()).or_default();
                points.push((at.unwrap_or(place), value));
            }
        }
    }
    curves
}

fn told(value: f64) -> String {
    let size = value.abs();
    if value == value.trunc() && size < 1e6 {
        format!("{value:.0}")
    } else if (0.01..1000.0).contains(&size) {
        format!("{value:.3}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    } else {
        format!("{value:.2e}")
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low < high {
        (low, high)
    } else {
        (low - 0.5, high + 0.5)
    }
}

fn plot(step: &str, name: &str, points: &[(f64, f64)]) -> Markup {
    // Evenly thinned: the form of the curve, whatever its length.
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.last().copied();
    let points: Vec<(f64, f64)> = points.iter().step_by(every).copied().chain(last).collect();
    let (left, right) = bounds(points.iter().map(|point| point.0));
    let (low, high) = bounds(points.iter().map(|point| point.1));
    let x = |at: f64| LEFT + (at - left) / (right - left) * (WIDE - LEFT - 10.0);
    let y = |value: f64| 8.0 + (high - value) / (high - low) * (HIGH - BELOW - 16.0);
    let path: Vec<String> = points
        .iter()
        .map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value)))
        .collect();
    let last = last.map_or(0.0, |point| point.1);
    let label = format!(
        "{name} of {step}: {} points, the last {}",
        points.len(),
        told(last)
    );
    html! {
        figure class="plot card" {
            figcaption { span { (name) } strong { (told(last)) } }
            svg role="img" aria-label=(label) viewBox=(format!("0 0 {WIDE} {HIGH}")) {
                @for value in [low, f64::midpoint(low, high), high] {
                    line class="axis" x1=(LEFT) x2=(WIDE - 8.0) y1=(format!("{:.1}", y(value))) y2=(format!("{:.1}", y(value))) {}
                    text x=(LEFT - 6.0) y=(format!("{:.1}", y(value) + 4.0)) text-anchor="end" { (told(value)) }
                }
                @if points.len() > 2 {
                    path class="curve" d=(format!("M{}", path.join("L"))) {}
                } @else {
                    @for (at, value) in &points {
                        circle class="dot" cx=(format!("{:.1}", x(*at))) cy=(format!("{:.1}", y(*value))) r="4" {}
                    }
                }
                text x=(LEFT) y=(HIGH - 4.0) { (told(left)) }
                text x=(WIDE - 8.0) y=(HIGH - 4.0) text-anchor="end" { (told(right)) }
            }
        }
    }
}

/// The plots of a run; none where nothing was measured.
pub(super) fn of(all: &BTreeMap<String, Vec<Value>>) -> Option<Markup> {
    let steps: Vec<(&String, Curves)> = all
        .iter()
        .map(|(step, values)| (step, curves(values)))
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    if steps.is_empty() {
        return None;
    }
    let mut left = MOST;
    Some(html! {
        @for (step, curves) in &steps {
            h3 { (step) }
            div class="plots" {
                @for (name, points) in curves {
                    @if left > 0 {
                        ({ left -= 1; plot(step, name, points) })
                    }
                }
            }
        }
        @if left == 0 { p class="quiet" { "The first " (MOST) " measures." } }
    })
}

#[cfg(test)]
mod tests {
    use super::{curves, told};
    use serde_json::json;

    #[test]
    fn both_forms_of_a_line_are_read() {
        let curves = curves(&[
            json!({"name": "loss", "value": 2.0, "step": 10}),
            json!({"name": "loss", "value": null, "step": 11}),
            json!({"loss": 1.5, "accuracy": 0.5, "step": 12, "note": "x"}),
            json!("no object"),
        ]);
        assert_eq!(curves["loss"], [(10.0, 2.0), (12.0, 1.5)]);
        assert_eq!(curves["accuracy"], [(12.0, 0.5)]);
        assert_eq!(curves.len(), 2);
    }

    #[test]
    fn numbers_are_short() {
        let told: Vec<String> = [3.0, 0.125, 1234.5678, 0.000_012]
            .map(told)
            .into_iter()
            .collect();
        assert_eq!(told, ["3", "0.125", "1.23e3", "1.20e-5"]);
    }
}
