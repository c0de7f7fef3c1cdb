//! Documents that could not be read to their end: what can be said of their
//! beginning. Keeps what no further line could make right, and nothing else.

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::document::{Document, Node, Source, Value};
use std::sync::Arc;

/// What a mapping is that was being read when reading ended.
#[derive(Clone, Copy)]
enum Kind {
    /// A document, or a job that may hold others.
    Job,
    /// `jobs`.
    Jobs,
    /// Any other: its keys mean the same whatever follows.
    Plain,
}

/// The beginning of `document`, without mappings whose meaning may hang on a key that
/// was not read. None where that holds of all of it.
pub(super) fn beginning(document: &Document) -> Option<Document> {
    let path = document.unfinished.as_ref()?;
    if !is_told(&document.root) && document.root.get("jobs").is_none() {
        return None;
    }
    let mut document = document.clone();
    cut(&mut document.root, path, Kind::Job);
    Some(document)
}

/// Whether a document or job says what it is.
fn is_told(node: &Node) -> bool {
    ["type", "command"]
        .iter()
        .any(|key| node.get(key).is_some())
}

fn cut(node: &mut Node, path: &[Arc<str>], kind: Kind) {
    let ([key, rest @ ..], Value::Mapping(mapping)) = (path, &mut node.value) else {
        return;
    };
    let below = match (kind, &**key) {
        (Kind::Job, "jobs") => Some(Kind::Jobs),
        // What a component is, its own keys say.
        (Kind::Job, "component" | "trial" | "environment") => None,
        (Kind::Job | Kind::Plain, _) => Some(Kind::Plain),
        (Kind::Jobs, _) => mapping
            .get(key)
            .is_some_and(|entry| is_told(&entry.value))
            .then_some(Kind::Job),
    };
    let mapping = Arc::make_mut(mapping);
    match (below, mapping.get_mut(key)) {
        (Some(below), Some(value)) => cut(value, rest, below),
        _ => mapping.remove_last(key),
    }
}

impl Checker<'_> {
    /// Drops what was found of `source` from `from` on and might not hold if the rest
    /// of it were there.
    pub(super) fn keep_certain(&mut self, from: usize, source: &Arc<Source>) {
        let holds = |found: &Diagnostic| {
            let place = found.place.as_ref();
            let elsewhere = place.is_some_and(|place| !Arc::ptr_eq(place.source(), source));
            elsewhere || found.code.holds_alone()
        };
        self.out.retain_from(from, holds);
    }
}
