//! The names of the documents of one file.

use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Document, Node, Place};
use std::collections::HashMap;

/// What is wrong with the names of the documents of one file: where there are
/// several, each has one, and no two the same.
#[must_use]
pub fn check_names(documents: &[Document]) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let mut seen: HashMap<&str, &Place> = HashMap::new();
    for document in documents {
        let Some(name) = document.root.get("name").filter(|name| !name.is_null()) else {
            if documents.len() > 1 && document.unfinished.is_none() {
                let message = "a file with several documents needs a `name` for each";
                let place = &document.root.place;
                let start = place.range().start;
                let line = place.text().find('\n').unwrap_or(place.range().len());
                let place = Place::new(place.source(), start..start + line);
                out.push(
                    Diagnostic::error(Code::MissingName, message, &place)
                        .help("write `name: …`, by which `--pipeline NAME` picks it"),
                );
            }
            continue;
        };
        let Some(text) = Node::as_text(name) else {
            continue;
        };
        match seen.get(text) {
            Some(first) => {
                let message = format!("two documents are called `{text}`");
                let found = Diagnostic::error(Code::DuplicateName, message, name.shown_at());
                out.push(
                    found
                        .label(first, "first here")
                        .help("`--pipeline NAME` could not tell them apart: name one of them anew"),
                );
            }
            None => drop(seen.insert(text, name.shown_at())),
        }
    }
    out
}
