//! From a document to a pipeline in which every name is resolved and every type
//! known, or to all that is wrong with it: of the document and of every file that
//! it names, in one go, each with its place. Opens no file ([`Loaded`] brings
//! them), and knows nothing of targets.

mod bind;
mod command;
mod component;
mod distribution;
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
pub use quantity::{bytes, cpu_millis, duration_ms};
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

/// What a document holds.
#[derive(Debug)]
pub struct Checked {
    /// The pipeline. There is none where one of the diagnostics is an error, where the
    /// document is unfinished (of that, only what is wrong whatever follows is said),
    /// or where a component was checked.
    pub pipeline: Option<Pipeline>,
    /// What there is to say about it, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// The files and folders of this machine that it names, whatever else is wrong.
    pub files: Vec<(String, Place)>,
}

/// The pipeline that `document` holds, and what there is to say about it:
/// [`check_pipeline`] without the files.
#[must_use]
pub fn check(document: &Document, loaded: &Loaded) -> (Option<Pipeline>, Vec<Diagnostic>) {
    let checked = check_pipeline(document, loaded);
    (checked.pipeline, checked.diagnostics)
}

/// Checks the component that `document` holds, as a pipeline that uses it would.
#[must_use]
pub fn check_component(document: &Document, loaded: &Loaded) -> Checked {
    let mut checker = Checker::new(loaded);
    if document.unfinished.is_some() {
        checker.unfinished_component(document);
    } else {
        let _ = checker.component_document(document);
    }
    checker.finish(document, None)
}

/// Checks the pipeline that `document` holds.
#[must_use]
pub fn check_pipeline(document: &Document, loaded: &Loaded) -> Checked {
    let mut checker = Checker::new(loaded);
    let pipeline = if document.unfinished.is_some() {
        if let Some(beginning) = partial::beginning(document) {
            let _ = checker.pipeline(&beginning);
            checker.keep_certain(0, &document.source);
        }
        None
    } else {
        checker.pipeline(document)
    };
    checker.finish(document, pipeline)
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
    /// Files and folders of this machine that were named.
    files: Vec<(String, Place)>,
}

impl<'l> Checker<'l> {
    fn new(loaded: &'l Loaded) -> Self {
        Self {
            loaded,
            out: Found::default(),
            components: HashMap::new(),
            broken: HashSet::new(),
            stack: Vec::new(),
            outer: Vec::new(),
            top_level: true,
            given: 0,
            files: Vec::new(),
        }
    }

    fn finish(self, document: &Document, pipeline: Option<Pipeline>) -> Checked {
        let full = self.out.is_full();
        let errors = self.out.errors();
        let mut diagnostics = self.out.into_list();
        sort(&mut diagnostics);
        if full {
            let start = document.root.place.range().start;
            let top = Place::new(&document.source, start..start);
            let message =
                format!("there are more than {MAX_ERRORS} errors: the others are not listed");
            diagnostics.push(
                Diagnostic::error(Code::TooManyErrors, message, &top)
                    .help("mend the first ones, and check again"),
            );
        }
        Checked {
            pipeline: pipeline.filter(|_| errors == 0),
            diagnostics,
            files: self.files,
        }
    }

    /// Notes a file or folder that is named at `place`.
    fn names_file(&mut self, path: &str, place: &Place) {
        if self.files.len() < MAX_ERRORS {
            self.files.push((path.to_owned(), place.clone()));
        }
    }

    /// How many errors there are by now.
    fn errors(&self) -> usize {
        self.out.errors()
    }
}
