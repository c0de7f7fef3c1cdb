//! Nested pipelines become steps of one list, `outer.inner`, and every binding is
//! followed to where its value comes from.

use super::Facts;
use super::text::{Words, template};
use crate::check::{
    Bound, CommandStep, DataRef, Graph, InputDecl, InputType, Literal, Location, Pipeline, Step,
    StepInput, Work,
};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Place, Resolved};
use crate::ids::StepPath;
use crate::plan::{
    AssetName, DataType, InputMode, PLAN_VERSION, Plan, PlanSettings, PlannedInput, PlannedOutput,
    PlannedPipelineOutput, PlannedStep, Reuse, Template, TemplatePart,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The value of an input, every binding followed.
#[derive(Clone)]
enum Source {
    Literal(Literal),
    Data(DataRef),
    Step {
        step: StepPath,
        output: String,
        data_type: DataType,
    },
    Absent,
}

/// What the steps of one graph see.
struct Scope {
    prefix: Option<StepPath>,
    inputs: BTreeMap<String, Source>,
    /// Steps that all steps of this graph come after.
    after: BTreeSet<StepPath>,
}

pub(super) struct Planner<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) facts: &'a Facts,
    pub(super) words: Words<'a>,
    pub(super) steps: Vec<PlannedStep>,
    pub(super) errors: Vec<Diagnostic>,
    /// Names, paths and images that were reported as missing.
    pub(super) reported: HashSet<String>,
    /// Data that has to be looked up, by its path or name, as it is first used.
    pub(super) wanted: BTreeMap<String, DataRef>,
    /// Warnings of inputs that have no value on a cluster, by their places.
    left_out: BTreeMap<String, Diagnostic>,
}

/// Data that a plan of `pipeline` has to look up.
pub(super) fn wanted(pipeline: &Pipeline) -> BTreeMap<String, DataRef> {
    let facts = Facts::default();
    let mut planner = Planner::new(pipeline, &facts);
    planner.top(&pipeline.graph);
    planner.wanted
}

/// Optional inputs that have no value on a cluster, since they are places of this machine.
pub(super) fn left_out(pipeline: &Pipeline, facts: &Facts) -> Vec<Diagnostic> {
    let mut planner = Planner::new(pipeline, facts);
    planner.top(&pipeline.graph);
    planner.left_out.into_values().collect()
}

/// The plan, and what is wrong with it.
pub(super) fn flatten(pipeline: &Pipeline, facts: &Facts) -> (Plan, Vec<Diagnostic>) {
    let mut planner = Planner::new(pipeline, facts);
    let graph = &pipeline.graph;
    planner.top(graph);
    let outputs = planner.outputs(graph);
    let top = |index: Option<usize>| -> Option<StepPath> {
        graph
            .steps
            .get(index?)
            .and_then(|step| step.name.parse().ok())
    };
    let plan = Plan {
        version: PLAN_VERSION,
        pipeline: pipeline.name.clone(),
        display_name: pipeline.display_name.clone(),
        experiment: pipeline
            .experiment
            .clone()
            .or_else(|| facts.experiment.clone())
            .unwrap_or_else(|| pipeline.name.clone()),
        settings: PlanSettings {
            continue_on_step_failure: pipeline.settings.continue_on_step_failure,
            force_rerun: pipeline.settings.force_rerun || facts.force_rerun,
            on_init: top(pipeline.settings.on_init),
            on_finalize: top(pipeline.settings.on_finalize),
        },
        inputs: given_inputs(pipeline),
        steps: planner.steps,
        outputs,
    };
    (plan, planner.errors)
}

/// The pipeline's inputs as they were given, for people.
fn given_inputs(pipeline: &Pipeline) -> BTreeMap<String, serde_json::Value> {
    let mut inputs = BTreeMap::new();
    for decl in &pipeline.graph.inputs {
        let value = match pipeline.values.get(&decl.name).or(decl.default.as_ref()) {
            Some(Bound::Literal(literal)) => literal_json(literal, decl),
            Some(Bound::Data(data)) => match &data.location {
                Location::Local(text) | Location::Asset(text) | Location::Uri(text) => {
                    text.clone().into()
                }
            },
            _ => serde_json::Value::Null,
        };
        inputs.insert(decl.name.clone(), value);
    }
    inputs
}

fn literal_json(literal: &Literal, decl: &InputDecl) -> serde_json::Value {
    use crate::check::ParameterType;
    match (&literal.resolved, decl.input_type) {
        (_, InputType::Parameter(ParameterType::String)) => literal.text.clone().into(),
        (Resolved::Bool(value), _) => (*value).into(),
        (Resolved::Int(value), _) => (*value).into(),
        (Resolved::Float(value), _) => serde_json::Number::from_f64(*value)
            .map_or_else(|| literal.text.clone().into(), serde_json::Value::Number),
        (Resolved::Null, _) => serde_json::Value::Null,
        (Resolved::Text, _) => literal.text.clone().into(),
    }
}

impl<'a> Planner<'a> {
    fn new(pipeline: &'a Pipeline, facts: &'a Facts) -> Self {
        let datastore = pipeline.settings.default_datastore.as_deref();
        Self {
            pipeline,
            facts,
            words: Words {
                run: &facts.run,
                datastore: datastore.unwrap_or("workspaceblobstore"),
            },
            steps: Vec::new(),
            errors: Vec::new(),
            reported: HashSet::new(),
            wanted: BTreeMap::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// Plans every step of the pipeline.
    fn top(&mut self, graph: &Graph) {
        let inputs = graph
            .inputs
            .iter()
            .map(|decl| (decl.name.clone(), self.pipeline_input(decl)))
            .collect();
        let after = BTreeSet::new();
        self.graph(
            graph,
            &Scope {
                prefix: None,
                inputs,
                after,
            },
        );
    }

    fn pipeline_input(&mut self, decl: &InputDecl) -> Source {
        match self
            .pipeline
            .values
            .get(&decl.name)
            .or(decl.default.as_ref())
        {
            Some(Bound::Literal(literal)) => Source::Literal(self.typed(literal, decl)),
            Some(Bound::Data(data)) => Source::Data(data_as(data, decl)),
            _ => Source::Absent,
        }
    }

    /// The literal as `decl` reads it, so that the next layer sees that text.
    fn typed(&mut self, literal: &Literal, decl: &InputDecl) -> Literal {
        if decl.input_type == InputType::Any {
            return literal.clone();
        }
        let text = self.rendered(literal, decl);
        Literal {
            text,
            resolved: Resolved::Text,
            place: literal.place.clone(),
        }
    }

    fn rendered(&mut self, literal: &Literal, decl: &InputDecl) -> String {
        literal.for_input(decl).unwrap_or_else(|why| {
            let message = format!("the value for the input `{}`: {why}", decl.name);
            let found = Diagnostic::error(Code::WrongType, message, &literal.place);
            let help = "what a nested pipeline is given must fit all inputs on the way";
            self.errors
                .push(found.label(&decl.place, "declared here").help(help));
            literal.text.clone()
        })
    }

    fn graph(&mut self, graph: &Graph, scope: &Scope) {
        for index in &graph.order {
            let step = &graph.steps[*index];
            let Some(path) = child(scope.prefix.as_ref(), &step.name) else {
                let message = format!(
                    "the path of the step `{}` is longer than 512 characters",
                    step.name
                );
                self.errors.push(
                    Diagnostic::error(Code::TooDeep, message, &step.place)
                        .help("give the steps around it shorter names, or nest fewer of them"),
                );
                continue;
            };
            let mut after = scope.after.clone();
            for index in &step.after {
                ends(graph, *index, scope.prefix.as_ref(), &mut after);
            }
            match &step.work {
                Work::Command(command) => {
                    let planned = self.step(graph, step, command, path, after, scope);
                    self.steps.push(planned);
                }
                Work::Pipeline(inner) => {
                    let inputs = step
                        .inputs
                        .iter()
                        .map(|input| {
                            let source = self.source(graph, input, scope);
                            (input.decl.name.clone(), self.layer(source, &input.decl))
                        })
                        .collect();
                    self.graph(
                        inner,
                        &Scope {
                            prefix: Some(path),
                            inputs,
                            after,
                        },
                    );
                }
            }
        }
    }

    /// A value as it passes through the input `decl` of a nested pipeline.
    fn layer(&mut self, source: Source, decl: &InputDecl) -> Source {
        match source {
            Source::Literal(literal) => {
                if let InputType::Data(_) = decl.input_type {
                    self.mismatch(decl, &literal.place, "data", "a parameter");
                }
                Source::Literal(self.typed(&literal, decl))
            }
            Source::Data(data) => {
                if let InputType::Parameter(_) = decl.input_type {
                    self.mismatch(decl, &data.place, "a parameter", "data");
                }
                Source::Data(data_as(&data, decl))
            }
            other => other,
        }
    }

    fn mismatch(&mut self, decl: &InputDecl, place: &Place, takes: &str, given: &str) {
        let message = format!(
            "the input `{}` takes {takes}, and is given {given}",
            decl.name
        );
        let found = Diagnostic::error(Code::TypeMismatch, message, place);
        let help = "declare the inputs on the way with one type: data or a parameter";
        self.errors
            .push(found.label(&decl.place, "declared here").help(help));
    }

    /// Where the value of an input of a step of `graph` comes from.
    fn source(&mut self, graph: &Graph, input: &StepInput, scope: &Scope) -> Source {
        match &input.bound {
            None => Source::Absent,
            Some(Bound::Literal(literal)) => Source::Literal(literal.clone()),
            Some(Bound::Data(data)) => Source::Data(data.clone()),
            Some(Bound::Parent { input: name, .. }) => {
                let found = scope.inputs.get(name).cloned().unwrap_or(Source::Absent);
                match (found, &input.decl.default) {
                    (Source::Absent, Some(Bound::Literal(literal))) => {
                        Source::Literal(literal.clone())
                    }
                    (Source::Absent, Some(Bound::Data(data))) => Source::Data(data.clone()),
                    (found, _) => found,
                }
            }
            Some(Bound::Step { step, output, .. }) => {
                match maker(graph, *step, output, scope.prefix.as_ref()) {
                    Some((step, output, data_type)) => Source::Step {
                        step,
                        output,
                        data_type,
                    },
                    None => Source::Absent,
                }
            }
        }
    }

    fn step(
        &mut self,
        graph: &Graph,
        step: &Step,
        command: &CommandStep,
        path: StepPath,
        after: BTreeSet<StepPath>,
        scope: &Scope,
    ) -> PlannedStep {
        let inputs = step
            .inputs
            .iter()
            .map(|input| {
                let source = self.source(graph, input, scope);
                (input.decl.name.clone(), self.input(source, input, step))
            })
            .collect();
        let outputs = step
            .outputs
            .iter()
            .map(|(name, output)| {
                if let Some(place) = &output.export {
                    self.export_from_cluster(name, place, &step.place);
                }
                let planned = PlannedOutput {
                    data_type: output.data_type,
                    register: output.register.clone(),
                    export: output.export.clone(),
                };
                (name.clone(), planned)
            })
            .collect();
        let spec = command
            .environment
            .as_deref()
            .or(command.body.environment.as_deref());
        let mut variables: BTreeMap<String, Template> = spec
            .into_iter()
            .flat_map(|spec| &spec.variables)
            .map(|(name, value)| {
                (
                    name.clone(),
                    Template(vec![TemplatePart::Text(value.clone())]),
                )
            })
            .collect();
        variables.extend(
            command
                .variables
                .iter()
                .map(|(name, (pieces, _))| (name.clone(), template(pieces, &self.words))),
        );
        let compute = compute_of(self.pipeline, command);
        PlannedStep {
            path,
            display_name: step.display_name.clone(),
            command: template(&command.body.command, &self.words),
            code: self.code(command),
            environment: self.environment(spec, command, step),
            variables,
            inputs,
            outputs,
            after,
            resources: command.resources.clone(),
            distribution: command.distribution,
            timeout_ms: command.timeout_ms,
            grace_ms: self.facts.grace_ms,
            retry: command.retry.clone(),
            reuse: if command.deterministic {
                Reuse::Allowed {
                    extra_key: command.cache_key.clone(),
                    max_age_ms: command.cache_max_age_ms,
                }
            } else {
                Reuse::NotDeterministic
            },
            compute: compute
                .filter(|compute| self.facts.computes.contains(*compute))
                .cloned(),
            network: command.network,
            keep_warm: command.keep_warm.clone(),
        }
    }

    fn input(&mut self, source: Source, input: &StepInput, step: &Step) -> PlannedInput {
        let decl = &input.decl;
        match source {
            Source::Literal(literal) => {
                if let InputType::Data(_) = decl.input_type {
                    self.mismatch(decl, &literal.place, "data", "a parameter");
                }
                PlannedInput::Literal {
                    value: self.rendered(&literal, decl),
                }
            }
            Source::Data(data) => {
                if let InputType::Parameter(_) = decl.input_type {
                    self.mismatch(decl, &data.place, "a parameter", "data");
                }
                let data = data_as(&data, decl);
                if self.facts.cluster && is_local_only(&data) {
                    return self.local_only(&data, decl);
                }
                self.data(&data)
            }
            Source::Step {
                step,
                output,
                data_type,
            } => {
                if let InputType::Parameter(_) = decl.input_type {
                    self.mismatch(decl, &decl.place, "a parameter", "the output of a step");
                }
                PlannedInput::Step {
                    step,
                    output,
                    data_type: declared(decl).unwrap_or(data_type),
                    mode: decl.mode,
                    optional: decl.optional,
                }
            }
            Source::Absent => {
                if !decl.optional && !matches!(decl.input_type, InputType::Any | InputType::Unknown)
                {
                    let message =
                        format!("`{}` has no value for its input `{}`", step.name, decl.name);
                    let found = Diagnostic::error(Code::MissingInput, message, &step.place);
                    let help = "give it a value where the pipeline around it is used, or declare `optional: true`";
                    self.errors
                        .push(found.label(&decl.place, "declared here").help(help));
                }
                PlannedInput::Absent
            }
        }
    }

    /// A place of this machine that a command would work in, on a cluster: there is none.
    fn local_only(&mut self, data: &DataRef, decl: &InputDecl) -> PlannedInput {
        let Location::Local(path) = &data.location else {
            return PlannedInput::Absent;
        };
        if decl.optional {
            let message = format!(
                "steps on a cluster do not see `{path}` of this machine: the input `{}` has no value",
                decl.name
            );
            self.left_out.entry(path.clone()).or_insert_with(|| {
                Diagnostic::warning(Code::LocalPlace, message, &data.place)
                    .help("name a place that they see, such as `path: s3://BUCKET/PREFIX`")
            });
        } else {
            let message = format!(
                "the input `{}` is the place `{path}` of this machine, which steps on a cluster do not see",
                decl.name
            );
            let found = Diagnostic::error(Code::LocalPlace, message, &data.place);
            self.errors.push(found.label(&decl.place, "declared here").help(
                "name a place that they see, such as `path: s3://BUCKET/PREFIX`; leave `mode: direct` out where the command only reads; or declare `optional: true`",
            ));
        }
        PlannedInput::Absent
    }

    /// A copy that a cluster would have to bring to this machine.
    fn export_from_cluster(&mut self, name: &str, to: &str, place: &Place) {
        if !self.facts.cluster || to.contains("://") {
            return;
        }
        let message = format!(
            "the output `{name}` is to be copied to `{to}` of this machine, which a cluster cannot reach"
        );
        self.errors.push(
            Diagnostic::error(Code::LocalPlace, message, place).help(
                "name a place that it reaches, such as `path: s3://BUCKET/PREFIX`, or leave `path` out and call `auria-pipeline download` after the run",
            ),
        );
    }

    /// The pipeline's outputs, the assets they are registered as, and where copies go.
    fn outputs(&mut self, graph: &Graph) -> BTreeMap<String, PlannedPipelineOutput> {
        let mut outputs = BTreeMap::new();
        let mut register: BTreeMap<(StepPath, String), &AssetName> = BTreeMap::new();
        let mut export: BTreeMap<(StepPath, String), &String> = BTreeMap::new();
        for (name, output) in &graph.outputs {
            let Some((step, inner)) = &output.from else {
                continue;
            };
            let made_by = graph.steps[*step].place.clone();
            let Some((step, output, _)) = maker(graph, *step, inner, None) else {
                continue;
            };
            if let Some(asset) = self.pipeline.register.get(name) {
                register.insert((step.clone(), output.clone()), asset);
            }
            if let Some(place) = self.pipeline.export.get(name) {
                self.export_from_cluster(name, place, &made_by);
                export.insert((step.clone(), output.clone()), place);
            }
            outputs.insert(name.clone(), PlannedPipelineOutput { step, output });
        }
        if register.is_empty() && export.is_empty() {
            return outputs;
        }
        for step in &mut self.steps {
            for (name, output) in &mut step.outputs {
                let made = (step.path.clone(), name.clone());
                if let Some(asset) = register.get(&made) {
                    output.register.get_or_insert_with(|| (*asset).clone());
                }
                if let Some(place) = export.get(&made) {
                    output.export.get_or_insert_with(|| (*place).clone());
                }
            }
        }
        outputs
    }
}

fn declared(decl: &InputDecl) -> Option<DataType> {
    match decl.input_type {
        InputType::Data(data_type) => Some(data_type),
        _ => None,
    }
}

/// Whether data is a place of this machine, which a command reaches by itself.
pub(super) fn is_local_only(data: &DataRef) -> bool {
    data.mode == Some(InputMode::Direct) && matches!(data.location, Location::Local(_))
}

/// Data as the input `decl` takes it: its type and mode win where it says them.
fn data_as(data: &DataRef, decl: &InputDecl) -> DataRef {
    let mode = if decl.mode == InputMode::default() {
        data.mode
    } else {
        Some(decl.mode)
    };
    DataRef {
        data_type: declared(decl).or(data.data_type),
        mode,
        ..data.clone()
    }
}

fn child(prefix: Option<&StepPath>, name: &str) -> Option<StepPath> {
    match prefix {
        Some(prefix) => prefix.child(name).ok(),
        None => name.parse().ok(),
    }
}

/// The command step and the output that make `output` of the step `index`.
fn maker(
    graph: &Graph,
    index: usize,
    output: &str,
    prefix: Option<&StepPath>,
) -> Option<(StepPath, String, DataType)> {
    let step = graph.steps.get(index)?;
    let path = child(prefix, &step.name)?;
    match &step.work {
        Work::Command(_) => {
            let data_type = step.outputs.get(output)?.data_type;
            Some((path, output.to_owned(), data_type))
        }
        Work::Pipeline(inner) => {
            let (index, name) = inner.outputs.get(output)?.from.as_ref()?;
            maker(inner, *index, name, Some(&path))
        }
    }
}

/// The command steps after which the step `index` is done: itself, or those of a
/// pipeline that no other step of it waits for.
fn ends(graph: &Graph, index: usize, prefix: Option<&StepPath>, into: &mut BTreeSet<StepPath>) {
    let Some(step) = graph.steps.get(index) else {
        return;
    };
    let Some(path) = child(prefix, &step.name) else {
        return;
    };
    match &step.work {
        Work::Command(_) => drop(into.insert(path)),
        Work::Pipeline(inner) => {
            let needed: HashSet<usize> = inner
                .steps
                .iter()
                .flat_map(|step| step.needs.iter().copied())
                .collect();
            for index in (0..inner.steps.len()).filter(|index| !needed.contains(index)) {
                ends(inner, index, Some(&path), into);
            }
        }
    }
}

/// The compute that a step names, or its pipeline for it.
pub(super) fn compute_of<'a>(
    pipeline: &'a Pipeline,
    command: &'a CommandStep,
) -> Option<&'a String> {
    command
        .compute
        .as_ref()
        .or(pipeline.compute.as_ref())
        .or(pipeline.settings.default_compute.as_ref())
}

/// Calls `f` for every step that runs a command, also inside pipelines.
pub(super) fn each_command<'a>(graph: &'a Graph, f: &mut impl FnMut(&'a Step, &'a CommandStep)) {
    for step in &graph.steps {
        match &step.work {
            Work::Command(command) => f(step, command),
            Work::Pipeline(inner) => each_command(inner, f),
        }
    }
}
