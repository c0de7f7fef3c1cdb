//! From a document to a pipeline in which every name is resolved and every type
//! known, or to all that is wrong with it: of the document and of every file that
//! it names, in one go, each with its place. Opens no file ([`Loaded`] brings
//! them), and knows nothing of targets.

mod bind;
mod command;
mod component;
mod expression;
pub mod fields;
mod found;
mod graph;
mod io;
mod job;
mod literal;
mod loaded;
mod names;
mod order;
mod partial;
mod pipeline;
mod quantity;
mod read;
mod schema;
mod types;

pub use expression::{Expression, Piece};
pub use loaded::Loaded;
pub use names::check_names;
pub use quantity::duration_ms;
pub use schema::{SchemaKind, json_schema};
pub use types::{
    Bound, BuildSpec, CodeRef, CommandBody, CommandStep, CondaFile, DataRef, EnvironmentSpec,
    Graph, GraphOutput, ImageSource, InputDecl, InputType, Literal, Location, ParameterType,
    Pipeline, Settings, Step, StepInput, StepOutput, Work,
};

use crate::diagnostic::{Code, Diagnostic, sort};
use crate::document::{Document, Place};
use found::{Found, MAX_ERRORS};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use types::Component;

/// The pipeline that `document` holds, and what there is to say about it, sorted
/// by place. There is no pipeline where one of these is an error, or where the
/// document is unfinished: of that, only what is wrong whatever follows is said.
#[must_use]
pub fn check(document: &Document, loaded: &Loaded) -> (Option<Pipeline>, Vec<Diagnostic>) {
    let mut checker = Checker {
        loaded,
        out: Found::default(),
        components: HashMap::new(),
        broken: HashSet::new(),
        stack: Vec::new(),
        outer: Vec::new(),
        top_level: true,
        given: 0,
    };
    let pipeline = if document.unfinished.is_some() {
        if let Some(beginning) = partial::beginning(document) {
            let _ = checker.pipeline(&beginning);
            checker.keep_certain(0, &document.source);
        }
        None
    } else {
        checker.pipeline(document)
    };
    let full = checker.out.is_full();
    let errors = checker.out.errors();
    let mut out = checker.out.into_list();
    sort(&mut out);
    if full {
        let start = document.root.place.range().start;
        let top = Place::new(&document.source, start..start);
        let message = format!("there are more than {MAX_ERRORS} errors: the others are not listed");
        out.push(
            Diagnostic::error(Code::TooManyErrors, message, &top)
                .help("mend the first ones, and check again"),
        );
    }
    (pipeline.filter(|_| errors == 0), out)
}

/// What a check knows while it goes through a document.
struct Checker<'l> {
    loaded: &'l Loaded,
    out: Found,
    /// Components by path; `None`: it is wrong, and that was said.
    components: HashMap<String, Option<Arc<Component>>>,
    /// Files whose errors were reported, because they are no YAML or have a key twice.
    broken: HashSet<String>,
    /// Component files that are being read, outermost first.
    stack: Vec<(String, Place)>,
    /// The names of the steps of the graphs around the one that is being read,
    /// outermost first.
    outer: Vec<HashSet<String>>,
    /// The next graph is the pipeline's own.
    top_level: bool,
    /// Inputs of all steps so far.
    given: usize,
}

impl Checker<'_> {
    /// How many errors there are by now.
    fn errors(&self) -> usize {
        self.out.errors()
    }
}
