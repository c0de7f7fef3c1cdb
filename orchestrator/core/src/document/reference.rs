//! Which other files a document names, so that whoever may read files can load
//! them before the check. Finds the names only; whether they may stand there is
//! the check's to say.

use super::Document;
use super::node::{Mapping, Node, Value};
use super::path::resolve_path;
use super::source::Place;

/// A file that a document names.
#[derive(Clone, Debug)]
pub struct FileReference {
    /// Its path: relative ones are joined to the folder of the naming file.
    pub path: String,
    /// What it is named as.
    pub kind: ReferenceKind,
    /// Where it is named.
    pub place: Place,
}

/// What a file is named as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// `component: ./file.yml`.
    Component,
    /// `environment: file:./file.yml`.
    Environment,
}

/// Every YAML file that `document` names, in the order of the text. A file that is
/// named twice is listed twice.
#[must_use]
pub fn references(document: &Document) -> Vec<FileReference> {
    let mut found = Vec::new();
    walk(&document.root, &mut found);
    found
}

fn walk(node: &Node, found: &mut Vec<FileReference>) {
    match &node.value {
        Value::Scalar(_) => {}
        Value::Sequence(items) => items.iter().for_each(|item| walk(item, found)),
        Value::Mapping(mapping) => {
            named(mapping, found);
            mapping.iter().for_each(|entry| walk(&entry.value, found));
        }
    }
}

fn named(mapping: &Mapping, found: &mut Vec<FileReference>) {
    for (key, kind) in [
        ("component", ReferenceKind::Component),
        ("trial", ReferenceKind::Component),
        ("environment", ReferenceKind::Environment),
    ] {
        let Some(entry) = mapping.get(key) else {
            continue;
        };
        let Some(text) = entry.value.as_text().filter(|_| !entry.value.is_null()) else {
            continue;
        };
        let is_file = match kind {
            ReferenceKind::Component => is_component_file(text),
            ReferenceKind::Environment => text.starts_with("file:"),
        };
        if is_file {
            let path = resolve_path(entry.value.place.source().base(), text);
            found.push(FileReference {
                path,
                kind,
                place: entry.value.shown_at().clone(),
            });
        }
    }
}

/// Whether `component` names a file, and not an asset or a binding.
pub(crate) fn is_component_file(text: &str) -> bool {
    !text.starts_with("azureml:") && !text.contains("${{") && !text.contains("://")
        || text.starts_with("file:")
}
