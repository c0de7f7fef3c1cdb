//! From a document to a pipeline in which every name is resolved and every type
//! known, or to all that is wrong with it: of the document and of every file that
//! it names, in one go, each with its place. Opens no file ([`Loaded`] brings
//! them), and knows nothing of targets.

mod bind;
mod command;
mod component;
mod expression;
pub mod fields;
mod graph;
mod io;
mod job;
mod literal;
mod loaded;
mod names;
mod order;
mod pipeline;
mod quantity;
mod read;
mod schema;
pub(crate) mod suggest;
mod types;

pub use expression::{Expression, Piece};
pub use loaded::Loaded;
pub use names::check_names;
pub use schema::{SchemaKind, json_schema};
pub use types::{
    Bound, CodeRef, CommandBody, CommandStep, DataRef, EnvironmentSpec, Graph, GraphOutput,
    InputDecl, InputType, Literal, Location, ParameterType, Pipeline, Settings, Step, StepInput,
    StepOutput, Work,
};

use crate::diagnostic::{Diagnostic, sort};
use crate::document::{Document, Place};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use types::Component;

/// The pipeline that `document` holds, and what there is to say about it, sorted
/// by place. There is no pipeline where one of these is an error.
#[must_use]
pub fn check(document: &Document, loaded: &Loaded) -> (Option<Pipeline>, Vec<Diagnostic>) {
    let mut checker = Checker {
        loaded,
        out: Vec::new(),
        components: HashMap::new(),
        broken: HashSet::new(),
        stack: Vec::new(),
        top_level: true,
        counted: (0, 0),
    };
    let pipeline = checker.pipeline(document);
    let mut out = checker.out;
    sort(&mut out);
    let pipeline = pipeline.filter(|_| !out.iter().any(Diagnostic::is_error));
    (pipeline, out)
}

/// What a check knows while it goes through a document.
struct Checker<'l> {
    loaded: &'l Loaded,
    out: Vec<Diagnostic>,
    /// Components by path; `None`: it is wrong, and that was said.
    components: HashMap<String, Option<Arc<Component>>>,
    /// Files that are not YAML and were reported.
    broken: HashSet<String>,
    /// Component files that are being read, outermost first.
    stack: Vec<(String, Place)>,
    /// The next graph is the pipeline's own.
    top_level: bool,
    /// Diagnostics looked at, and errors among them.
    counted: (usize, usize),
}

impl Checker<'_> {
    /// How many errors there are by now.
    fn errors(&mut self) -> usize {
        let (seen, errors) = self.counted;
        let new = self.out[seen..]
            .iter()
            .filter(|found| found.is_error())
            .count();
        self.counted = (self.out.len(), errors + new);
        self.counted.1
    }
}
