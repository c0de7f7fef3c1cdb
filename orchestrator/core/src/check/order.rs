//! The order of a graph's steps, and its cycles.

use super::Checker;
use super::types::Step;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::Place;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

impl Checker<'_> {
    /// Dependencies first, otherwise the order of the file; cycles are reported.
    pub(super) fn order(&mut self, steps: &[Step], edges: &[Vec<(usize, Place)>]) -> Vec<usize> {
        let mut waits: Vec<usize> = vec![0; steps.len()];
        let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
        for (at, own) in edges.iter().enumerate() {
            let needs: BTreeSet<usize> = own.iter().map(|(need, _)| *need).collect();
            waits[at] = needs.len();
            needs.into_iter().for_each(|need| dependents[need].push(at));
        }
        let mut ready: BinaryHeap<Reverse<usize>> = waits
            .iter()
            .enumerate()
            .filter(|(_, waits)| **waits == 0)
            .map(|(at, _)| Reverse(at))
            .collect();
        let mut order = Vec::with_capacity(steps.len());
        let mut done = vec![false; steps.len()];
        loop {
            while let Some(Reverse(at)) = ready.pop() {
                done[at] = true;
                order.push(at);
                for dependent in &dependents[at] {
                    waits[*dependent] = waits[*dependent].saturating_sub(1);
                    if waits[*dependent] == 0 && !done[*dependent] {
                        ready.push(Reverse(*dependent));
                    }
                }
            }
            let Some(start) = done.iter().position(|done| !done) else {
                return order;
            };
            // Cut the cycle, so that others behind it are found as well.
            let cycle = find_cycle(start, edges, &done);
            self.cycle(steps, &cycle);
            for (at, _) in cycle {
                done[at] = true;
                ready.push(Reverse(at));
            }
        }
    }

    fn cycle(&mut self, steps: &[Step], cycle: &[(usize, &Place)]) {
        let Some((first, place)) = cycle.first() else {
            return;
        };
        let message = if cycle.len() == 1 {
            format!("the step `{}` needs itself", steps[*first].name)
        } else {
            // Along the data: the last of the cycle takes from the first.
            let along = std::iter::once(first).chain(cycle.iter().rev().map(|(step, _)| step));
            let names: Vec<&str> = along.map(|step| steps[*step].name.as_str()).collect();
            format!("the steps need each other: {}", names.join(" → "))
        };
        let mut found = Diagnostic::error(Code::Cycle, message, place);
        for (step, place) in cycle[1..].iter().take(8) {
            found = found.label(place, format!("`{}` needs this", steps[*step].name));
        }
        let help = match cycle.len() {
            1 => "a step can name other steps alone: take this away",
            _ => "take one of these bindings away: a step runs after those that it names",
        };
        self.out.push(found.help(help));
    }
}

/// A cycle among the steps that are not done, each with the binding by which it
/// needs the next, and the last the first. `start` is not done.
///
/// Each such step needs another one: walking along these needs comes back to a
/// step that was seen.
fn find_cycle<'e>(
    start: usize,
    edges: &'e [Vec<(usize, Place)>],
    done: &[bool],
) -> Vec<(usize, &'e Place)> {
    let mut seen = HashMap::new();
    let mut path: Vec<(usize, &Place)> = Vec::new();
    let mut at = start;
    while !seen.contains_key(&at) {
        seen.insert(at, path.len());
        let Some((need, place)) = edges[at].iter().find(|(need, _)| !done[*need]) else {
            return path;
        };
        path.push((at, place));
        at = *need;
    }
    path.split_off(seen[&at])
}
