//! The bytes of a file as text, and YAML text as a tree in which every value keeps
//! its place. Reads anchors, aliases and merge keys within a budget; reports
//! duplicate keys and takes the first. Knows nothing of pipelines (`check` does)
//! except how a file names another one ([`references`]), and never opens a file.

mod bytes;
mod node;
mod parse;
mod path;
mod recover;
mod reference;
pub mod scalar;
mod source;
mod syntax;

pub use bytes::{MAX_BYTES, decode};
pub use node::{Entry, Mapping, Node, Scalar, Style, Value};
pub use parse::{Limits, Parsed, parse, parse_source, parse_with, read};
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
    /// Of a document that could not be read to its end: the keys from the root down to
    /// the mapping that was being read. What these hold may go on, in the file.
    pub unfinished: Option<Vec<Arc<str>>>,
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
