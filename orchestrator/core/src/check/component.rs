//! Components: files that jobs name, and those written in place.

use super::Checker;
use super::command::Names;
use super::fields::{COMMAND_COMPONENT, PIPELINE_COMPONENT, Status, other_type};
use super::loaded::File;
use super::partial::beginning;
use super::read::{Object, object, refused};
use super::types::{Component, ComponentWork, Graph, GraphOutput, InputDecl};
use crate::diagnostic::suggest::did_you_mean;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Document, Entry, Node, Place, Resolved, resolve_path};
use crate::plan::DataType;
use crate::resources::Resources;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Outputs by name: type, where it is said, and place.
pub(crate) type DeclaredOutputs = BTreeMap<String, (Option<DataType>, Place)>;

/// Deepest chain of component files.
const MAX_NESTING: usize = 64;

impl Checker<'_> {
    /// The component that `entry` names or holds. `None`: it is wrong, and that
    /// was said.
    pub(crate) fn component(&mut self, entry: &Entry) -> Option<Arc<Component>> {
        let node = &entry.value;
        let Some(text) = node.as_text() else {
            return self.component_node(node, &entry.key_place).map(Arc::new);
        };
        let place = node.shown_at();
        if text.contains("${{") {
            let status = Status::NotYet("name the component's file");
            self.out
                .push(refused("an expression in `component`", status, place));
            return None;
        }
        if text.starts_with("azureml://registries/") {
            let status = Status::AzureOnly("download the component, and name its file");
            self.out
                .push(refused("a registry of Azure ML", status, place));
            return None;
        }
        if text.starts_with("azureml:") || text.contains("://") && !text.starts_with("file:") {
            let status = Status::NotYet("name the component's file: `./component.yml`");
            self.out
                .push(refused("a registered component", status, place));
            return None;
        }
        self.component_file(text, &resolve_path(node.place.source().base(), text), place)
    }

    fn component_file(&mut self, text: &str, path: &str, place: &Place) -> Option<Arc<Component>> {
        if let Some(at) = self.stack.iter().position(|(open, _)| open == path) {
            let mut chain: Vec<&str> = self.stack[at..]
                .iter()
                .map(|(open, _)| open.as_str())
                .collect();
            chain.push(path);
            let message = format!("the component includes itself: {}", chain.join(" → "));
            self.out.push(
                Diagnostic::error(Code::RecursiveComponent, message, place)
                    .help("a pipeline ends: take this step out of the component"),
            );
            return None;
        }
        if self.stack.len() >= MAX_NESTING {
            let message = format!("components include each other more than {MAX_NESTING} deep");
            self.out.push(
                Diagnostic::error(Code::TooDeep, message, place)
                    .help("name the inner component directly"),
            );
            return None;
        }
        if let Some(known) = self.components.get(path) {
            return known.clone();
        }
        self.stack.push((path.to_owned(), place.clone()));
        let component = self.open_component(text, path, place).map(Arc::new);
        self.stack.pop();
        self.components.insert(path.to_owned(), component.clone());
        component
    }

    fn open_component(&mut self, text: &str, path: &str, place: &Place) -> Option<Component> {
        let loaded = self.loaded;
        match loaded.get(path) {
            Some(File::Read(parsed)) => {
                self.broken_file(path, &parsed.errors);
                match parsed.documents.as_slice() {
                    [document] if document.unfinished.is_some() => {
                        self.unfinished_component(document);
                        None
                    }
                    [document] => self.component_document(document),
                    // Of what is no YAML, all was said.
                    _ if !parsed.errors.is_empty() => None,
                    documents => {
                        let message = format!(
                            "`{text}` holds {} documents; a component is one",
                            documents.len()
                        );
                        self.out.push(
                            Diagnostic::error(Code::SeveralDocuments, message, place)
                                .help("write each document into a file of its own, without `---`"),
                        );
                        None
                    }
                }
            }
            Some(File::Unreadable(reason)) => {
                self.unreadable(text, reason, place);
                None
            }
            None => {
                self.unreadable(text, &loaded.why_not(), place);
                None
            }
        }
    }

    /// Says what is wrong with the beginning of a component that is no YAML further on.
    pub(super) fn unfinished_component(&mut self, document: &Document) {
        if let Some(beginning) = beginning(document) {
            let from = self.out.len();
            let _ = self.component_document(&beginning);
            self.keep_certain(from, &document.source);
        }
    }

    pub(super) fn component_document(&mut self, document: &Document) -> Option<Component> {
        let root = &document.root;
        let start = root.place.range().start;
        let place = Place::new(&document.source, start..start);
        // The steps around it are those of another file.
        let outer = std::mem::take(&mut self.outer);
        let component = self.component_node(root, &place);
        self.outer = outer;
        component
    }

    /// Reports, once, where a file is not YAML or has a key twice.
    pub(crate) fn broken_file(&mut self, path: &str, found: &[Diagnostic]) {
        if self.broken.insert(path.to_owned()) {
            self.out.extend(found.iter().cloned());
        }
    }

    pub(crate) fn unreadable(&mut self, text: &str, reason: &str, place: &Place) {
        let message = format!("`{text}` cannot be read: {reason}");
        self.out.push(
            Diagnostic::error(Code::FileNotFound, message, place)
                .help("paths are relative to the folder of the file that names them"),
        );
    }

    fn component_node(&mut self, node: &Node, place: &Place) -> Option<Component> {
        let kind = node.get("type").filter(|kind| !kind.is_null());
        match kind.and_then(Node::as_text) {
            Some("pipeline") => self.pipeline_component(node, place),
            None if node.get("jobs").is_some() => self.pipeline_component(node, place),
            Some("command") | None => self.command_component(node, place),
            Some(other) => {
                let place = kind.map_or(place, Node::shown_at).clone();
                self.out.push(match other_type(other) {
                    Some(status) => {
                        refused(&format!("a component of type `{other}`"), status, &place)
                    }
                    None => {
                        let known = ["command", "pipeline", "parallel"];
                        Diagnostic::error(
                            Code::UnknownType,
                            format!("`{other}` is not a type of component"),
                            &place,
                        )
                        .maybe_help(did_you_mean(other, known))
                    }
                });
                None
            }
        }
    }

    fn command_component(&mut self, node: &Node, place: &Place) -> Option<Component> {
        let before = self.errors();
        let from = object(node, place, &COMMAND_COMPONENT, &mut self.out)?;
        let (inputs, outputs) = self.interface(&from);
        let declared: Vec<&InputDecl> = inputs.iter().map(|input| &**input).collect();
        let made: Vec<&str> = outputs.keys().map(String::as_str).collect();
        let names = Names::new(&declared, &made);
        let body = self.body(&from, &names);
        let variables = self.variables(&from, &names);
        let resources = self.resources(&from, &Resources::default());
        let distribution = self.distribution(&from);
        // Even a component with errors has its interface: the jobs that use it are
        // checked against that.
        let body = body.or_else(|| (self.errors() > before).then(Arc::default))?;
        Some(Component {
            display_name: from.owned("display_name"),
            deterministic: from.boolean("is_deterministic").unwrap_or(true),
            resources,
            distribution: distribution.unwrap_or_default(),
            variables,
            work: ComponentWork::Command(body),
            inputs,
            outputs,
        })
    }

    fn pipeline_component(&mut self, node: &Node, place: &Place) -> Option<Component> {
        let from = object(node, place, &PIPELINE_COMPONENT, &mut self.out)?;
        let (inputs, outputs) = self.interface(&from);
        let graph = self.nested(&from, inputs.clone(), &outputs);
        Some(Component {
            display_name: from.owned("display_name"),
            inputs,
            outputs,
            deterministic: true,
            resources: Resources::default(),
            distribution: None,
            variables: BTreeMap::new(),
            work: ComponentWork::Pipeline(Arc::new(graph)),
        })
    }

    /// The steps of a pipeline inside another.
    pub(crate) fn nested(
        &mut self,
        from: &Object<'_>,
        inputs: Vec<Arc<InputDecl>>,
        outputs: &DeclaredOutputs,
    ) -> Graph {
        let outputs = outputs
            .iter()
            .map(|(name, (data_type, place))| {
                let output = GraphOutput {
                    data_type: *data_type,
                    from: None,
                    place: place.clone(),
                };
                (name.clone(), output)
            })
            .collect();
        if from.lacks("jobs") {
            let message = "a pipeline needs `jobs`";
            self.out.push(
                Diagnostic::error(Code::MissingKey, message, from.place())
                    .help("write its steps under `jobs:`, or name a pipeline component"),
            );
        }
        self.graph(from, inputs, outputs, &BTreeMap::new())
    }

    /// What a component takes and gives.
    fn interface(&mut self, from: &Object<'_>) -> (Vec<Arc<InputDecl>>, DeclaredOutputs) {
        let mut inputs = Vec::new();
        for entry in from.entries("inputs") {
            let decl = self.input_decl(entry);
            if entry.value.as_scalar().is_some() {
                let message = format!(
                    "the input `{}` of a component must say its `type`",
                    decl.name
                );
                self.out.push(
                    Diagnostic::error(Code::WrongType, message, &entry.key_place).help(format!(
                        "write `{}: {{type: {}}}`; a value given here would go behind `default:`",
                        decl.name,
                        plausible_type(&entry.value)
                    )),
                );
            }
            inputs.push(Arc::new(decl));
        }
        let mut outputs = BTreeMap::new();
        for entry in from.entries("outputs") {
            let spec = self.output_spec(entry);
            if let Some((_, place)) = &spec.binding {
                let message = "a component's output is bound where the component is used";
                let help = format!("declare it: `{}: {{type: uri_folder}}`", entry.key);
                self.out
                    .push(Diagnostic::error(Code::BadBinding, message, place).help(help));
            }
            outputs.insert(entry.key.to_string(), (spec.data_type, spec.place));
        }
        (inputs, outputs)
    }
}

/// The type that a value would have as an input.
fn plausible_type(node: &Node) -> &'static str {
    match node.as_scalar().map(|scalar| &scalar.resolved) {
        Some(Resolved::Bool(_)) => "boolean",
        Some(Resolved::Int(_)) => "integer",
        Some(Resolved::Float(_)) => "number",
        _ => "string",
    }
}
