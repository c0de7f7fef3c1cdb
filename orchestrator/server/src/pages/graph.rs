//! A run's graph as a picture in SVG, laid out here. Steps stand in layers by what they wait
//! for. A layer's order follows that of the layers beside it, so that few lines cross. Many
//! steps that differ by a number alone (`shard_001`, `shard_002`, …) are drawn as one family: a
//! box with a cell for each of them, so that a graph of hundreds of steps can still be read.

use super::shell::{sign, word};
use auria_core::StepPath;
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// Of a step's box; the second where they stand below each other, for a phone.
const WIDE: usize = 190;
const NARROW: usize = 158;
const HIGH: usize = 46;
/// Between boxes.
const ACROSS: usize = 64;
const DOWN: usize = 18;
const EDGE: usize = 10;
/// Of a family's cell, and how many stand beside each other.
const CELL: usize = 14;
const CELLS: usize = 12;
/// What a family's box has beside its cells.
const HEAD: usize = 40;
/// Fewer steps are no family, and smaller graphs have none.
const FAMILY: usize = 6;
const FAMILIES_FROM: usize = 25;
/// Boxes that stand below each other; more make another column.
const ROWS: usize = 24;
/// Letters of a name that fit.
const LETTERS: usize = 22;
const FEWER: usize = 16;
/// Boxes that are drawn; larger graphs are read in the table.
const MOST: usize = 1500;

/// What is drawn as one box.
struct Node<'a> {
    name: String,
    steps: Vec<&'a StepPath>,
    before: BTreeSet<usize>,
    layer: usize,
}

/// Where it stands.
#[derive(Clone, Copy, Default)]
struct Place {
    x: usize,
    y: usize,
    wide: usize,
    high: usize,
}

/// A name without its numbers: what the members of a family share.
fn stem(path: &str) -> String {
    let mut stem = String::new();
    let mut number = false;
    for letter in path.chars() {
        if letter.is_ascii_digit() {
            if !number {
                stem.push('#');
            }
            number = true;
        } else {
            stem.push(letter);
            number = false;
        }
    }
    stem
}

/// The boxes of a plan, those that others wait for first.
fn nodes(plan: &Plan) -> Vec<Node<'_>> {
    let mut layers: BTreeMap<&StepPath, usize> = BTreeMap::new();
    // Dependencies stand before dependents in a plan.
    for step in &plan.steps {
        let before = step.dependencies().into_iter();
        let before = before.filter_map(|path| layers.get(path)).max();
        let layer = before.map_or(0, |layer| layer + 1);
        layers.insert(&step.path, layer);
    }
    let mut families: BTreeMap<(usize, String), usize> = BTreeMap::new();
    if plan.steps.len() >= FAMILIES_FROM {
        for step in &plan.steps {
            let key = (layers[&step.path], stem(&step.path.display()));
            *families.entry(key).or_default() += 1;
        }
    }
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut of_step: BTreeMap<&StepPath, usize> = BTreeMap::new();
    let mut of_family: BTreeMap<(usize, String), usize> = BTreeMap::new();
    for step in &plan.steps {
        let (layer, shown) = (layers[&step.path], step.path.display());
        let key = (layer, stem(&shown));
        let family = families.get(&key).is_some_and(|count| *count >= FAMILY);
        let at = match of_family.get(&key) {
            Some(at) if family => *at,
            _ => {
                nodes.push(Node {
                    name: if family {
                        key.1.replace('#', "…")
                    } else {
                        shown
                    },
                    steps: Vec::new(),
                    before: BTreeSet::new(),
                    layer,
                });
                nodes.len() - 1
            }
        };
        if family {
            of_family.insert(key, at);
        }
        of_step.insert(&step.path, at);
        nodes[at].steps.push(&step.path);
        for path in step.dependencies() {
            if let Some(before) = of_step.get(path).copied().filter(|before| *before != at) {
                nodes[at].before.insert(before);
            }
        }
    }
    nodes
}

/// Boxes of each layer, in an order that makes few lines cross.
fn ordered(nodes: &[Node<'_>]) -> Vec<Vec<usize>> {
    let count = nodes.iter().map(|node| node.layer + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (at, node) in nodes.iter().enumerate() {
        layers[node.layer].push(at);
    }
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        for before in &node.before {
            after[*before].push(at);
        }
    }
    let mut rank: Vec<usize> = vec![0; nodes.len()];
    let note = |layer: &[usize], rank: &mut [usize]| {
        for (place, at) in layer.iter().enumerate() {
            // The middle of the layer is the same for all.
            rank[*at] = (2 * place + 1) * 1_000_000 / (2 * layer.len());
        }
    };
    for layer in &layers {
        note(layer, &mut rank);
    }
    let middle = |beside: &mut dyn Iterator<Item = usize>, own: usize, rank: &[usize]| {
        let (mut sum, mut count) = (0, 0);
        for one in beside {
            sum += rank[one];
            count += 1;
        }
        sum.checked_div(count).unwrap_or(rank[own])
    };
    for _ in 0..4 {
        for layer in &mut layers {
            layer.sort_by_key(|at| middle(&mut nodes[*at].before.iter().copied(), *at, &rank));
            note(layer, &mut rank);
        }
        for layer in layers.iter_mut().rev() {
            layer.sort_by_key(|at| middle(&mut after[*at].iter().copied(), *at, &rank));
            note(layer, &mut rank);
        }
    }
    layers
}

fn extent(node: &Node<'_>, down: bool) -> (usize, usize) {
    match node.steps.len() {
        1 => (if down { NARROW } else { WIDE }, HIGH),
        count => (
            WIDE.max(CELLS * CELL + 20),
            HEAD + count.div_ceil(CELLS) * CELL + 8,
        ),
    }
}

/// Places from left to right, or from above to below where `down` says so; how large it is.
fn placed(nodes: &[Node<'_>], layers: &[Vec<usize>], down: bool) -> (Vec<Place>, usize, usize) {
    let mut places = vec![Place::default(); nodes.len()];
    // Columns of boxes: a wide layer has several.
    let columns: Vec<&[usize]> = layers
        .iter()
        .flat_map(|layer| layer.chunks(if down { usize::MAX } else { ROWS }))
        .collect();
    let along = |at: usize| {
        let (wide, high) = extent(&nodes[at], down);
        if down { (high, wide) } else { (wide, high) }
    };
    // `main` goes with what is waited for, `cross` is the other direction.
    let (main_gap, cross_gap) = if down { (34, 14) } else { (ACROSS, DOWN) };
    let lengths: Vec<usize> = columns
        .iter()
        .map(|column| {
            let boxes: usize = column.iter().map(|at| along(*at).1).sum();
            boxes + cross_gap * column.len().saturating_sub(1)
        })
        .collect();
    let cross_most = lengths.iter().max().copied().unwrap_or(0);
    let mut main = EDGE;
    for (column, length) in columns.iter().zip(&lengths) {
        let mut cross = EDGE + (cross_most - length) / 2;
        let thick = column.iter().map(|at| along(*at).0).max().unwrap_or(0);
        for at in *column {
            let (wide, high) = extent(&nodes[*at], down);
            let own = along(*at);
            let main = main + (thick - own.0) / 2;
            let (x, y) = if down { (cross, main) } else { (main, cross) };
            places[*at] = Place { x, y, wide, high };
            cross += own.1 + cross_gap;
        }
        main += thick + main_gap;
    }
    let main_all = main.saturating_sub(main_gap) + EDGE;
    let cross_all = cross_most + 2 * EDGE;
    if down {
        (places, cross_all, main_all)
    } else {
        (places, main_all, cross_all)
    }
}

fn curve(from: Place, to: Place, down: bool) -> String {
    if down {
        let (x1, y1) = (from.x + from.wide / 2, from.y + from.high);
        let (x2, y2) = (to.x + to.wide / 2, to.y);
        let middle = (y1 + y2) / 2;
        format!("M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}")
    } else {
        let (x1, y1) = (from.x + from.wide, from.y + from.high / 2);
        let (x2, y2) = (to.x, to.y + to.high / 2);
        let middle = (x1 + x2) / 2;
        format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}")
    }
}

fn short(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    // Both ends tell more than the beginning alone.
    let (head, tail) = (most / 2, most - most / 2 - 1);
    let letters: Vec<char> = name.chars().collect();
    let head: String = letters[..head].iter().collect();
    let tail: String = letters[letters.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

/// What is told of each step.
pub(super) struct Told {
    pub(super) status: Status,
    /// Below its name.
    pub(super) note: String,
}

/// The picture of a run.
pub(super) fn of(run: &str, plan: &Plan, steps: &BTreeMap<String, Told>) -> Markup {
    let nodes = nodes(plan);
    if nodes.len() > MOST {
        return html! {
            p class="none" { "The graph has " (plan.steps.len()) " steps, too many for a picture. The table has all of them." }
        };
    }
    let layers = ordered(&nodes);
    // Beside each other where the page is wide; on a phone below each other, where that fits.
    let tall = layers.iter().map(Vec::len).max().unwrap_or(0) <= 2;
    html! {
        div class=[tall.then_some("broad")] { (picture(run, &nodes, &layers, steps, false)) }
        @if tall { div class="narrow" { (picture(run, &nodes, &layers, steps, true)) } }
    }
}

fn picture(
    run: &str,
    nodes: &[Node<'_>],
    layers: &[Vec<usize>],
    steps: &BTreeMap<String, Told>,
    down: bool,
) -> Markup {
    let (places, wide, high) = placed(nodes, layers, down);
    let ended = |node: &Node<'_>| {
        let of = |path: &&StepPath| steps.get(&path.display()).map(|told| told.status);
        node.steps
            .iter()
            .all(|path| of(path).is_some_and(Status::is_success))
    };
    let total: usize = nodes.iter().map(|node| node.steps.len()).sum();
    let label = format!("The graph: {total} steps");
    html! {
        svg role="group" aria-label=(label) viewBox=(format!("0 0 {wide} {high}")) width=(wide) height=(high) {
            @for (at, node) in nodes.iter().enumerate() {
                @for before in &node.before {
                    path class=(if ended(&nodes[*before]) { "edge done" } else { "edge" })
                        d=(curve(places[*before], places[at], down)) {}
                }
            }
            @for (at, node) in nodes.iter().enumerate() {
                @if let [step] = node.steps.as_slice() {
                    (single(run, &step.display(), places[at], steps, down))
                } @else {
                    (family(run, node, places[at], steps))
                }
            }
        }
    }
}

fn href(run: &str, step: &str) -> String {
    format!("/run/{run}/step?{}", super::shell::query(&[("step", step)]))
}

fn single(
    run: &str,
    step: &str,
    place: Place,
    steps: &BTreeMap<String, Told>,
    down: bool,
) -> Markup {
    let told = steps.get(step);
    let status = told.map_or(Status::NotStarted, |told| told.status);
    let note = told.map_or("", |told| told.note.as_str());
    let id = format!("{}-{step}", if down { "nv" } else { "n" });
    html! {
        a id=(id) href=(href(run, step)) class=(format!("{status:?}")) aria-label=(format!("{step}: {} {note}", word(status))) {
            title { (step) ": " (word(status)) }
            rect class="box" x=(place.x) y=(place.y) width=(place.wide) height=(place.high) rx="8" {}
            text class="sign" x=(place.x + 13) y=(place.y + 28) { (sign(status)) }
            text x=(place.x + 32) y=(place.y + 20) { (short(step, if down { FEWER } else { LETTERS })) }
            text class="small" x=(place.x + 32) y=(place.y + 36) {
                (word(status)) @if !note.is_empty() { " · " (note) }
            }
        }
    }
}

fn family(run: &str, node: &Node<'_>, place: Place, steps: &BTreeMap<String, Told>) -> Markup {
    let mut counts: BTreeMap<Status, usize> = BTreeMap::new();
    for path in &node.steps {
        let status = steps.get(&path.display()).map(|told| told.status);
        *counts
            .entry(status.unwrap_or(Status::NotStarted))
            .or_default() += 1;
    }
    let mut told: Vec<(usize, Status)> = counts.iter().map(|(status, n)| (*n, *status)).collect();
    told.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let told: Vec<String> = told
        .iter()
        .take(2)
        .map(|(count, status)| format!("{count} {}", word(*status).to_lowercase()))
        .collect();
    // Whatever the number, the worst is seen from afar.
    let worst = counts.keys().copied().max_by_key(|status| match status {
        Status::Failed | Status::NotResponding => 3,
        Status::Running | Status::Preparing | Status::Finalizing => 2,
        Status::NotStarted | Status::Queued | Status::CancelRequested => 1,
        _ => 0,
    });
    let frame = worst.map_or_else(String::new, |status| format!("{status:?}"));
    html! {
        g class=(frame) {
            rect class="box" x=(place.x) y=(place.y) width=(place.wide) height=(place.high) rx="8" {}
            text x=(place.x + 11) y=(place.y + 17) { (short(&node.name, LETTERS)) " × " (node.steps.len()) }
            text class="small" x=(place.x + 11) y=(place.y + 32) { (told.join(", ")) }
        }
        @for (number, path) in node.steps.iter().enumerate() {
            @let shown = path.display();
            @let status = steps.get(&shown).map_or(Status::NotStarted, |told| told.status);
            a id=(format!("n-{shown}")) href=(href(run, &shown)) class=(format!("{status:?}")) aria-label=(format!("{shown}: {}", word(status))) {
                title { (shown) ": " (word(status)) }
                rect class="cell" x=(place.x + 11 + number % CELLS * CELL) y=(place.y + HEAD + number / CELLS * CELL)
                    width=(CELL - 3) height=(CELL - 3) rx="2" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{short, stem};

    #[test]
    fn members_of_a_family_share_their_stem() {
        assert_eq!(stem("shard_007"), stem("shard_123"));
        assert_ne!(stem("shard_1"), stem("part_1"));
        assert_eq!(stem("loop[3].inner"), "loop[#].inner");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(short("write", super::LETTERS), "write");
        let shown = short("a_very_long_name_of_a_step_indeed", super::LETTERS);
        assert!(
            shown.starts_with("a_very") && shown.ends_with("indeed"),
            "{shown}"
        );
        assert!(shown.chars().count() <= super::LETTERS);
    }
}
