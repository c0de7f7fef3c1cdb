//! One job of a pipeline, before its bindings are resolved: what it takes, what
//! it gives, and what it does.

use super::Checker;
use super::command::Names;
use super::fields::{COMMAND_JOB, JOB_TYPES, PIPELINE_JOB, other_type};
use super::io::OutputSpec;
use super::read::{Object, object, refused};
use super::types::{CommandStep, Component, ComponentWork, InputDecl, Work};
use crate::diagnostic::suggest::{did_you_mean, nearest, or_none};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Entry, Node, Place};
use crate::ids::is_identifier;
use crate::plan::DataType;
use crate::resources::Resources;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most inputs of all steps together. A component with many, used many times, could
/// stand for more than any machine holds.
pub(crate) const MAX_INPUTS: usize = 1_000_000;

/// A job whose bindings are still text.
pub(crate) struct Pending<'a> {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) display_name: Option<String>,
    /// What it takes, and what is given to it.
    pub(crate) inputs: Vec<(Arc<InputDecl>, Option<&'a Entry>)>,
    /// What it gives: declared type, and what is said where it is used.
    pub(crate) outputs: BTreeMap<String, (Option<DataType>, Option<OutputSpec>, Place)>,
    pub(crate) depends_on: Vec<&'a Node>,
    /// `None`: it is wrong in a way that was reported, and anything may be bound to it.
    pub(crate) work: Option<Work>,
    /// Whether its outputs are known.
    pub(crate) known: bool,
}

impl Checker<'_> {
    pub(crate) fn job<'a>(&mut self, entry: &'a Entry) -> Pending<'a> {
        let mut pending = Pending {
            name: entry.key.to_string(),
            place: entry.key_place.clone(),
            display_name: None,
            inputs: Vec::new(),
            outputs: BTreeMap::new(),
            depends_on: Vec::new(),
            work: None,
            known: false,
        };
        if self.out.is_full() {
            return pending;
        }
        if !is_identifier(&entry.key) {
            let message = format!("`{}` cannot be the name of a step", entry.key);
            let help = "lower-case letters, digits and `_`, not beginning with a digit";
            let help = match as_identifier(&entry.key) {
                Some(meant) => format!("a step's name has {help}: `{meant}`"),
                None => format!("a step's name has {help}"),
            };
            self.out
                .push(Diagnostic::error(Code::BadName, message, &entry.key_place).help(help));
        }
        let node = &entry.value;
        if node.as_mapping().is_none() {
            let message = format!(
                "the job `{}` must be a mapping, not {}",
                entry.key,
                node.kind()
            );
            let help = match node.as_scalar() {
                Some(_) if !node.is_null() => {
                    format!(
                        "write the command behind a key of its own: `{}: {{command: …}}`",
                        entry.key
                    )
                }
                _ => format!("write `{}: {{command: …}}`, or name a component", entry.key),
            };
            self.out
                .push(Diagnostic::error(Code::WrongType, message, &entry.key_place).help(help));
            return pending;
        }
        let kind = node.get("type").filter(|kind| !kind.is_null());
        match kind.map(Node::as_text) {
            Some(Some("command")) => self.command_job(entry, &mut pending, true),
            Some(Some("pipeline")) => self.pipeline_job(entry, &mut pending),
            None if node.get("trial").is_some() => self.other_job("sweep", &entry.key_place),
            None if node.get("jobs").is_some() => self.pipeline_job(entry, &mut pending),
            None => self.command_job(entry, &mut pending, false),
            Some(Some(other)) => {
                self.other_job(other, kind.map_or(&entry.key_place, Node::shown_at))
            }
            Some(None) => {
                let message = "`type` must be text";
                let place = kind.map_or(&entry.key_place, Node::shown_at);
                let help = "write `type: command` or `type: pipeline`";
                self.out
                    .push(Diagnostic::error(Code::WrongType, message, place).help(help));
            }
        }
        pending
    }

    fn other_job(&mut self, kind: &str, place: &Place) {
        self.out.push(match other_type(kind) {
            Some(status) => refused(&format!("a job of type `{kind}`"), status, place),
            None => Diagnostic::error(
                Code::UnknownType,
                format!("`{kind}` is not a type of job"),
                place,
            )
            .maybe_help(did_you_mean(kind, JOB_TYPES.iter().copied())),
        });
    }

    fn command_job<'a>(&mut self, entry: &'a Entry, pending: &mut Pending<'a>, said: bool) {
        let place = &entry.key_place;
        let Some(from) = object(&entry.value, place, &COMMAND_JOB, &mut self.out) else {
            return;
        };
        common(&from, pending);
        if let Some(named) = from.get("component") {
            let Some(component) = self.component(named) else {
                self.command_parts(&from, None, &Names::new(&[], &[]));
                return;
            };
            if let (ComponentWork::Pipeline(_), true) = (&component.work, said) {
                let message = "the component is a pipeline, the job says `command`";
                self.out.push(
                    Diagnostic::error(Code::ComponentType, message, named.value.shown_at())
                        .help("write `type: pipeline`"),
                );
            }
            self.use_component(&from, &component, pending);
            if self.given > MAX_INPUTS {
                return;
            }
            for key in ["command", "code"] {
                if let Some(both) = from.get(key) {
                    let message = format!("a job has either a `component` or its own `{key}`");
                    let found = Diagnostic::error(Code::ExclusiveKeys, message, &both.key_place);
                    let help =
                        format!("take one of them away: the component brings its own `{key}`");
                    self.out
                        .push(found.label(&named.key_place, "the component").help(help));
                }
            }
            pending.work = match &component.work {
                ComponentWork::Pipeline(graph) => Some(Work::Pipeline(Arc::clone(graph))),
                ComponentWork::Command(body) => {
                    let inputs: Vec<&InputDecl> =
                        component.inputs.iter().map(|decl| &**decl).collect();
                    let outputs: Vec<_> = component.outputs.keys().map(String::as_str).collect();
                    let names = Names::new(&inputs, &outputs);
                    let mut step = self.command_parts(&from, Some(&component), &names);
                    step.body = Arc::clone(body);
                    Some(Work::Command(Box::new(step)))
                }
            };
            return;
        }
        pending.known = !from.has("component");
        if from.has("component") {
            return;
        }
        for given in from.entries("inputs") {
            pending
                .inputs
                .push((Arc::new(self.input_decl(given)), Some(given)));
        }
        for given in from.entries("outputs") {
            let spec = self.output_spec(given);
            let place = spec.place.clone();
            pending
                .outputs
                .insert(given.key.to_string(), (spec.data_type, Some(spec), place));
        }
        let inputs: Vec<&InputDecl> = pending.inputs.iter().map(|(decl, _)| &**decl).collect();
        let outputs: Vec<&str> = pending.outputs.keys().map(String::as_str).collect();
        let names = Names::new(&inputs, &outputs);
        let body = self.body(&from, &names);
        let mut step = self.command_parts(&from, None, &names);
        if let Some(body) = body {
            step.body = body;
            step.environment = None;
            pending.work = Some(Work::Command(Box::new(step)));
        }
    }

    /// What a job that runs a command says beside the command.
    fn command_parts(
        &mut self,
        from: &Object<'_>,
        component: Option<&Component>,
        names: &Names<'_>,
    ) -> CommandStep {
        let base =
            component.map_or_else(Resources::default, |component| component.resources.clone());
        let mut variables = component
            .map(|component| component.variables.clone())
            .unwrap_or_default();
        variables.extend(self.variables(from, names));
        let (cache_key, cache_max_age_ms) = self.cache(from);
        // An inline job's environment is read with its body.
        let environment = match component {
            Some(_) => from
                .get("environment")
                .and_then(|entry| self.environment(entry)),
            None => None,
        };
        let before = self.errors();
        let resources = self.resources(from, &base);
        let own = self.distribution(from);
        let asked = own.map(|own| {
            own.or_else(|| component.and_then(|component| component.distribution.clone()))
        });
        let distribution = match asked {
            // What is wrong with one of them is said once.
            Ok(asked) if self.errors() == before => {
                self.distributed(asked.as_ref(), &resources, from)
            }
            _ => None,
        };
        CommandStep {
            body: Arc::default(),
            environment,
            variables,
            resources,
            distribution,
            timeout_ms: self.timeout(from),
            retry: self.retry(from),
            cache_key,
            cache_max_age_ms,
            keep_warm: self.keep_warm(from),
            deterministic: from
                .boolean("is_deterministic")
                .unwrap_or_else(|| component.is_none_or(|component| component.deterministic)),
            network: match from.text("network") {
                Some("none") => crate::plan::Network::None,
                _ => crate::plan::Network::Default,
            },
            compute: self.compute(from, "compute"),
        }
    }

    fn pipeline_job<'a>(&mut self, entry: &'a Entry, pending: &mut Pending<'a>) {
        let place = &entry.key_place;
        let Some(from) = object(&entry.value, place, &PIPELINE_JOB, &mut self.out) else {
            return;
        };
        common(&from, pending);
        if let Some(named) = from.get("component") {
            if let Some(jobs) = from.get("jobs") {
                let message = "a pipeline job has either a `component` or `jobs`";
                let found = Diagnostic::error(Code::ExclusiveKeys, message, &jobs.key_place);
                let help = "take one of them away: the component brings its own steps";
                self.out
                    .push(found.label(&named.key_place, "the component").help(help));
            }
            let Some(component) = self.component(named) else {
                return;
            };
            match &component.work {
                ComponentWork::Pipeline(graph) => {
                    pending.work = Some(Work::Pipeline(Arc::clone(graph)));
                }
                ComponentWork::Command(_) => {
                    let message = "the component runs a command, the job says `pipeline`";
                    self.out.push(
                        Diagnostic::error(Code::ComponentType, message, named.value.shown_at())
                            .help("write `type: command`"),
                    );
                }
            }
            self.use_component(&from, &component, pending);
            return;
        }
        if from.has("component") {
            return;
        }
        pending.known = true;
        for given in from.entries("inputs") {
            pending
                .inputs
                .push((Arc::new(self.input_decl(given)), Some(given)));
        }
        for given in from.entries("outputs") {
            let spec = self.output_spec(given);
            let place = spec.place.clone();
            pending
                .outputs
                .insert(given.key.to_string(), (spec.data_type, Some(spec), place));
        }
        let inputs = pending
            .inputs
            .iter()
            .map(|(decl, _)| decl.clone())
            .collect();
        let outputs = pending
            .outputs
            .iter()
            .map(|(name, (data_type, _, place))| (name.clone(), (*data_type, place.clone())))
            .collect();
        let graph = self.nested(&from, inputs, &outputs);
        pending.work = Some(Work::Pipeline(Arc::new(graph)));
    }

    /// Matches what a job gives with what its component declares.
    fn use_component<'a>(
        &mut self,
        from: &Object<'a>,
        component: &Component,
        pending: &mut Pending<'a>,
    ) {
        pending.known = true;
        if pending.display_name.is_none() {
            pending.display_name.clone_from(&component.display_name);
        }
        let mut given: BTreeMap<&str, &'a Entry> = from
            .entries("inputs")
            .map(|entry| (&*entry.key, entry))
            .collect();
        self.given = self.given.saturating_add(component.inputs.len());
        if self.given > MAX_INPUTS {
            return;
        }
        let mut inputs: Vec<(Arc<InputDecl>, Option<&'a Entry>)> = component
            .inputs
            .iter()
            .map(|decl| (Arc::clone(decl), given.remove(decl.name.as_str())))
            .collect();
        for (name, entry) in given {
            let free = inputs
                .iter()
                .filter(|(_, given)| given.is_none())
                .map(|(decl, _)| decl.name.as_str());
            let meant = nearest(name, free).map(str::to_owned);
            let all = component.inputs.iter().map(|decl| decl.name.as_str());
            let help = match &meant {
                Some(meant) => Some(format!("did you mean `{meant}`?")),
                None => did_you_mean(name, all),
            };
            let message = format!("the component of `{}` has no input `{name}`", pending.name);
            self.out.push(
                Diagnostic::error(Code::UnknownInput, message, &entry.key_place)
                    .help(or_none(help)),
            );
            // The one that was meant is not missing as well.
            if let Some((_, slot)) = inputs
                .iter_mut()
                .find(|(decl, _)| Some(&decl.name) == meant.as_ref())
            {
                *slot = Some(entry);
            }
        }
        pending.inputs = inputs;
        let outputs = component.outputs.iter();
        pending.outputs = outputs
            .map(|(name, (data_type, place))| (name.clone(), (*data_type, None, place.clone())))
            .collect();
        for entry in from.entries("outputs") {
            let spec = self.output_spec(entry);
            if let Some(slot) = pending.outputs.get_mut(&*entry.key) {
                slot.1 = Some(spec);
                continue;
            }
            let message = format!(
                "the component of `{}` has no output `{}`",
                pending.name, entry.key
            );
            let help = did_you_mean(&entry.key, component.outputs.keys().map(String::as_str));
            self.out.push(
                Diagnostic::error(Code::UnknownOutput, message, &entry.key_place)
                    .help(or_none(help)),
            );
        }
    }
}

/// What every job may say.
fn common<'a>(from: &Object<'a>, pending: &mut Pending<'a>) {
    pending.display_name = from.owned("display_name");
    if let Some(node) = from.node("depends_on") {
        pending.depends_on = match node.as_sequence() {
            Some(items) => items.iter().collect(),
            None => vec![node],
        };
    }
}

/// `text` as a step could be called.
fn as_identifier(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let name = lower.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    is_identifier(&name).then_some(name)
}
