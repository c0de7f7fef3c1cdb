//! A whole document: the pipeline job.

use super::Checker;
use super::fields::{PIPELINE, SETTINGS, other_document};
use super::job::MAX_INPUTS;
use super::read::{Object, entry_place, object, refused};
use super::types::{Bound, ComponentWork, Graph, GraphOutput, InputDecl, Pipeline, Settings, Work};
use crate::diagnostic::suggest::{did_you_mean, nearest, or_none};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Document, Entry, Node, Place};
use crate::plan::AssetName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most steps of one pipeline. A few components that use each other twice could
/// stand for more steps than any machine holds.
const MAX_COMMANDS: usize = 1_000_000;

impl Checker<'_> {
    pub(crate) fn pipeline(&mut self, document: &Document) -> Option<Pipeline> {
        let root = &document.root;
        let start = root.place.range().start;
        let top = Place::new(&document.source, start..start);
        if root.as_mapping().is_none() {
            let message = format!("a pipeline is a mapping, not {}", root.kind());
            self.out.push(
                Diagnostic::error(Code::WrongType, message, &first_line(&root.place)).help(
                    "a pipeline begins with `type: pipeline` and has its steps under `jobs:`",
                ),
            );
            return None;
        }
        if !self.is_pipeline(root, &top) {
            return None;
        }
        let from = object(root, &top, &PIPELINE, &mut self.out)?;
        let name = self.pipeline_name(document, &from);
        let (inputs, values) = self.pipeline_inputs(&from);
        let (outputs, register, export) = self.pipeline_outputs(&from);
        let graph = match (from.get("component"), from.get("jobs")) {
            (Some(component), Some(jobs)) => {
                let message = "a pipeline has either a `component` or `jobs`";
                let found = Diagnostic::error(Code::ExclusiveKeys, message, &jobs.key_place);
                let help = "take one of them away; a component can be a step under `jobs:`";
                self.out.push(
                    found
                        .label(&component.key_place, "the component")
                        .help(help),
                );
                Graph::default()
            }
            (Some(entry), None) => self.component_pipeline(entry, inputs, &values, outputs)?,
            (None, _) => {
                if from.lacks("jobs") && !from.has("component") {
                    let message = "a pipeline needs `jobs`";
                    self.out.push(
                        Diagnostic::error(Code::MissingKey, message, &first_line(&root.place))
                            .help("write its steps: `jobs: {hello: {command: echo hello}}`"),
                    );
                }
                self.graph(&from, inputs, outputs, &values)
            }
        };
        for (name, output) in graph
            .outputs
            .iter()
            .filter(|(_, output)| output.from.is_none())
        {
            let message = format!("no step makes the pipeline's output `{name}`");
            let help = format!("bind an output of a step to `${{{{parent.outputs.{name}}}}}`");
            self.out
                .push(Diagnostic::warning(Code::UnboundOutput, message, &output.place).help(help));
        }
        if graph.commands > MAX_COMMANDS {
            let message = format!(
                "the pipeline has {} steps, those of nested pipelines counted; {MAX_COMMANDS} is the limit",
                graph.commands
            );
            self.out.push(
                Diagnostic::error(Code::TooLarge, message, &top)
                    .help("components that use each other twice multiply: use fewer levels"),
            );
        }
        if self.given > MAX_INPUTS {
            let message = format!("the steps have more than {MAX_INPUTS} inputs in all");
            self.out.push(
                Diagnostic::error(Code::TooLarge, message, &top)
                    .help("a component with many inputs that is used many times multiplies: give it a file instead"),
            );
        }
        let settings = self.settings(&from, &graph);
        let tags = from
            .entries("tags")
            .filter_map(|entry| Some((entry.key.to_string(), entry.value.as_text()?.to_owned())))
            .collect();
        Some(Pipeline {
            name,
            display_name: from.owned("display_name"),
            description: from.owned("description"),
            experiment: from.owned("experiment_name"),
            tags,
            source: Arc::clone(&document.source),
            compute: self.compute(&from, "compute"),
            settings,
            values,
            register,
            export,
            graph: Arc::new(graph),
        })
    }

    /// Whether the document is a pipeline; where not, that is said.
    fn is_pipeline(&mut self, root: &Node, top: &Place) -> bool {
        let kind = root.get("type").filter(|kind| !kind.is_null());
        let Some(text) = kind.and_then(Node::as_text) else {
            // Endpoints and deployments may say what they are by their schema alone.
            let schema = root
                .get("$schema")
                .and_then(Node::as_text)
                .unwrap_or_default();
            let named = [
                "batchEndpoint",
                "pipelineComponentBatchDeployment",
                "schedule",
            ];
            if let Some(found) = named.iter().find(|name| schema.contains(*name))
                && let Some(status) = other_document(found)
            {
                self.out
                    .push(refused(&format!("a `{found}` document"), status, top));
                return false;
            }
            return true;
        };
        if text == "pipeline" {
            return true;
        }
        let place = kind.map_or(top, Node::shown_at).clone();
        self.out.push(match other_document(text) {
            Some(status) => refused(&format!("a document of type `{text}`"), status, &place),
            None => Diagnostic::error(
                Code::UnknownType,
                format!("`{text}` is not a type of document"),
                &place,
            )
            .help(match nearest(text, ["pipeline"]) {
                Some(_) => "did you mean `pipeline`?",
                None => "a file that can be submitted is `type: pipeline`",
            }),
        });
        // A slip in the word is no reason to leave the rest unread.
        nearest(text, ["pipeline"]).is_some() && other_document(text).is_none()
    }

    fn pipeline_name(&mut self, document: &Document, from: &Object<'_>) -> String {
        if let Some(entry) = from.get("name") {
            let text = entry.value.as_text().unwrap_or_default();
            let good = text.len() <= 255
                && text
                    .as_bytes()
                    .first()
                    .is_some_and(u8::is_ascii_alphanumeric)
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
            if !good {
                let message = format!("`{text}` cannot be the name of a pipeline");
                self.out.push(
                    Diagnostic::error(Code::BadName, message, entry_place(entry)).help(
                        "letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
                    ),
                );
            }
            return text.to_owned();
        }
        let file = document.source.name();
        let stem = file.rsplit('/').next().unwrap_or(file);
        let stem = stem.split('.').next().unwrap_or(stem);
        let name: String = stem
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let name = name.trim_matches('-').to_owned();
        if name.is_empty() {
            "pipeline".to_owned()
        } else {
            name
        }
    }

    fn pipeline_inputs(
        &mut self,
        from: &Object<'_>,
    ) -> (Vec<Arc<InputDecl>>, BTreeMap<String, Bound>) {
        let mut inputs = Vec::new();
        let mut values = BTreeMap::new();
        for entry in from.entries("inputs") {
            let mut decl = self.input_decl(entry);
            let value = self.pipeline_value(entry, &decl);
            if let Some(Bound::Literal(literal)) = &value {
                self.literal_fits(literal, &decl, &literal.place, "the value of");
            }
            if let Some(value) = value.or_else(|| decl.default.clone()) {
                if let (Bound::Data(data), super::InputType::Any) = (&value, decl.input_type) {
                    decl.input_type = super::InputType::Data(data.data_type.unwrap_or_default());
                }
                values.insert(decl.name.clone(), value);
            }
            inputs.push(Arc::new(decl));
        }
        (inputs, values)
    }

    fn pipeline_value(&mut self, entry: &Entry, decl: &InputDecl) -> Option<Bound> {
        if decl.input_type == super::InputType::Unknown {
            return None;
        }
        let text = entry
            .value
            .as_text()
            .or_else(|| entry.value.get("value").and_then(Node::as_text));
        if text.is_some_and(|text| text.contains("${{")) {
            let node = entry.value.get("value").unwrap_or(&entry.value);
            let status =
                super::fields::Status::NotYet("use the expression in the command of a step");
            let what = "an expression as the value of a pipeline's input";
            self.out
                .push(refused(what, status, &node.expression_place(0)));
            return None;
        }
        self.own_value(entry)
    }

    fn pipeline_outputs(
        &mut self,
        from: &Object<'_>,
    ) -> (
        BTreeMap<String, GraphOutput>,
        BTreeMap<String, AssetName>,
        BTreeMap<String, String>,
    ) {
        let mut outputs = BTreeMap::new();
        let mut register = BTreeMap::new();
        let mut export = BTreeMap::new();
        for entry in from.entries("outputs") {
            let spec = self.output_spec(entry);
            if let Some((_, place)) = &spec.binding {
                let message = "a pipeline's output is bound from the step that makes it";
                let help = format!(
                    "write `{}: ${{{{parent.outputs.{0}}}}}` under that step's `outputs`",
                    entry.key
                );
                self.out
                    .push(Diagnostic::error(Code::BadBinding, message, place).help(help));
            }
            if let Some(name) = spec.register {
                register.insert(entry.key.to_string(), name);
            }
            if let Some(place) = spec.export {
                export.insert(entry.key.to_string(), place);
            }
            let output = GraphOutput {
                data_type: spec.data_type,
                from: None,
                place: spec.place,
            };
            outputs.insert(entry.key.to_string(), output);
        }
        (outputs, register, export)
    }

    /// A pipeline that is one component: its inputs are the component's.
    fn component_pipeline(
        &mut self,
        entry: &Entry,
        inputs: Vec<Arc<InputDecl>>,
        values: &BTreeMap<String, Bound>,
        outputs: BTreeMap<String, GraphOutput>,
    ) -> Option<Graph> {
        self.top_level = false;
        let component = self.component(entry)?;
        let ComponentWork::Pipeline(inner) = &component.work else {
            let message = "a pipeline's `component` must be a pipeline component";
            self.out.push(
                Diagnostic::error(Code::ComponentType, message, entry.value.shown_at())
                    .help("put the component under `jobs:` as a step"),
            );
            return None;
        };
        for decl in &inputs {
            if !component.inputs.iter().any(|known| known.name == decl.name) {
                let message = format!("the component has no input `{}`", decl.name);
                let help = did_you_mean(
                    &decl.name,
                    component.inputs.iter().map(|known| known.name.as_str()),
                );
                self.out.push(
                    Diagnostic::error(Code::UnknownInput, message, &decl.place).help(or_none(help)),
                );
            }
        }
        for (name, output) in &outputs {
            if !component.outputs.contains_key(name) {
                let message = format!("the component has no output `{name}`");
                let help = did_you_mean(name, component.outputs.keys().map(String::as_str));
                self.out.push(
                    Diagnostic::error(Code::UnknownOutput, message, &output.place)
                        .help(or_none(help)),
                );
            }
        }
        let mut graph = Graph::clone(inner);
        for decl in &mut graph.inputs {
            match values.get(&decl.name) {
                Some(value) => {
                    if let Bound::Literal(literal) = value {
                        self.literal_fits(literal, decl, &literal.place, "the value for");
                    }
                    Arc::make_mut(decl).default = Some(value.clone());
                }
                None if decl.default.is_none() && !decl.optional => {
                    let message = format!("the pipeline's input `{}` has no value", decl.name);
                    let help = format!(
                        "write it under `inputs:`, or give `--set inputs.{}=…`",
                        decl.name
                    );
                    self.out.push(
                        Diagnostic::error(Code::MissingInput, message, &entry.key_place)
                            .help(help)
                            .label(&decl.place, "declared here"),
                    );
                }
                None => {}
            }
        }
        Some(graph)
    }

    fn settings(&mut self, from: &Object<'_>, graph: &Graph) -> Settings {
        let Some(entry) = from.get("settings") else {
            return Settings::default();
        };
        let Some(given) = object(&entry.value, &entry.key_place, &SETTINGS, &mut self.out) else {
            return Settings::default();
        };
        Settings {
            default_compute: self.compute(&given, "default_compute"),
            default_datastore: self.compute(&given, "default_datastore"),
            continue_on_step_failure: given.boolean("continue_on_step_failure").unwrap_or(false),
            force_rerun: given.boolean("force_rerun").unwrap_or(false),
            on_init: given
                .get("on_init")
                .and_then(|entry| self.outer_step(entry, graph)),
            on_finalize: given
                .get("on_finalize")
                .and_then(|entry| self.outer_step(entry, graph)),
        }
    }

    /// `on_init` and `on_finalize`: a command step without connections.
    fn outer_step(&mut self, entry: &Entry, graph: &Graph) -> Option<usize> {
        let name = entry.value.as_text()?;
        let place = entry.value.shown_at();
        let Some(at) = graph.steps.iter().position(|step| step.name == name) else {
            let help = did_you_mean(name, graph.steps.iter().map(|step| step.name.as_str()));
            let message = format!("there is no step `{name}`");
            self.out
                .push(Diagnostic::error(Code::UnknownStep, message, place).help(or_none(help)));
            return None;
        };
        let step = &graph.steps[at];
        let connected =
            !step.needs.is_empty() || graph.steps.iter().any(|other| other.needs.contains(&at));
        if connected {
            let message = format!(
                "`{}` names the step `{name}`, which has connections to others",
                entry.key
            );
            self.out.push(
                Diagnostic::error(Code::ConnectedStep, message, place)
                    .label(&step.place, "this step")
                    .help("such a step takes nothing from other steps and gives nothing to them"),
            );
            return None;
        }
        if matches!(step.work, Work::Pipeline(_)) {
            let what = format!("a pipeline as `{}`", entry.key);
            let status = super::fields::Status::NotYet("name a command job");
            self.out.push(refused(&what, status, place));
            return None;
        }
        Some(at)
    }
}

/// The part of a place on its first line.
fn first_line(place: &Place) -> Place {
    let start = place.range().start;
    let length = place.text().find('\n').unwrap_or(place.range().len());
    Place::new(place.source(), start..start + length)
}
