//! YAML text as a tree in which every value keeps its place. Reads anchors,
//! aliases and merge keys within a budget, refuses duplicate keys. Knows nothing
//! of pipelines (`check` does) except how a file names another one
//! ([`references`]), and never opens a file.

mod node;
mod parse;
mod path;
mod reference;
pub mod scalar;
mod source;

pub use node::{Entry, Mapping, Node, Scalar, Style, Value};
pub use parse::{Limits, parse, parse_source, parse_with};
pub use path::resolve_path;
pub use reference::{FileReference, ReferenceKind, references};
pub use scalar::Resolved;
pub use source::{Place, Source};

use std::sync::Arc;

/// One YAML document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file.
    pub source: Arc<Source>,
    /// Its number in the file, from 0.
    pub index: usize,
    /// How many documents the file has.
    pub of: usize,
    /// What it holds.
    pub root: Node,
}

impl Document {
    /// What its `name` says.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.root
            .get("name")
            .filter(|name| !name.is_null())
            .and_then(Node::as_text)
    }
}
