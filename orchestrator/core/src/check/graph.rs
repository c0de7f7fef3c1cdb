//! One graph: its jobs become steps, with their bindings (`bind`) and their order
//! (`order`).

use super::Checker;
use super::expression::Expression;
use super::job::Pending;
use super::read::Object;
use super::types::{
    Bound, Graph, GraphOutput, InputDecl, InputType, Step, StepInput, StepOutput, Work,
};
use crate::diagnostic::suggest::{did_you_mean, nearest, or_none};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Entry, Node, Place};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What the bindings of one graph can name.
pub(super) struct Scope<'s, 'a> {
    pub(super) inputs: HashMap<&'s str, &'s InputDecl>,
    /// Values of the graph's inputs, where the graph is a whole pipeline.
    pub(super) values: &'s BTreeMap<String, Bound>,
    /// Whether that is so.
    pub(super) top: bool,
    pub(super) steps: HashMap<&'s str, usize>,
    pub(super) pending: &'s [Pending<'a>],
    pub(super) outputs: &'s BTreeMap<String, GraphOutput>,
}

/// An error about one name is said once, with the other places as labels.
pub(super) type Said = HashMap<(Code, String), usize>;

/// How something was bound.
pub(super) enum Binding {
    To(Bound),
    /// It has no value.
    Nothing,
    /// It is wrong, and that was said.
    Wrong,
}

impl Checker<'_> {
    /// The graph of the `jobs` of `from`.
    pub(crate) fn graph(
        &mut self,
        from: &Object<'_>,
        inputs: Vec<Arc<InputDecl>>,
        mut outputs: BTreeMap<String, GraphOutput>,
        values: &BTreeMap<String, Bound>,
    ) -> Graph {
        let top = self.top_level;
        self.top_level = false;
        let names = from.entries("jobs").map(|entry| entry.key.to_string());
        self.outer.push(names.collect());
        let pending: Vec<Pending<'_>> = from.entries("jobs").map(|entry| self.job(entry)).collect();
        self.outer.pop();
        if let Some(jobs) = from.get("jobs")
            && pending.is_empty()
        {
            let message = "`jobs` is empty: a pipeline needs a step";
            self.out.push(
                Diagnostic::error(Code::EmptyJobs, message, &jobs.key_place)
                    .help("write a step: `jobs: {hello: {command: echo hello}}`"),
            );
        }
        let scope = Scope {
            inputs: inputs
                .iter()
                .map(|decl| (decl.name.as_str(), &**decl))
                .collect(),
            values,
            top,
            steps: pending
                .iter()
                .enumerate()
                .map(|(at, job)| (job.name.as_str(), at))
                .collect(),
            pending: &pending,
            outputs: &outputs,
        };
        let mut said = Said::new();
        let mut edges: Vec<Vec<(usize, Place)>> = Vec::with_capacity(pending.len());
        let mut steps = Vec::with_capacity(pending.len());
        let mut produced: Vec<(String, usize, String, Place)> = Vec::new();
        for (at, job) in pending.iter().enumerate() {
            let step = self.step(at, job, &scope, &mut said, &mut produced);
            let mut own: Vec<(usize, Place)> = step
                .inputs
                .iter()
                .filter_map(|input| match &input.bound {
                    Some(Bound::Step { step, place, .. }) => Some((*step, place.clone())),
                    _ => None,
                })
                .collect();
            let named = job.depends_on.iter().map(|node| node.shown_at().clone());
            own.extend(step.after.iter().copied().zip(named));
            edges.push(own);
            steps.push(step);
        }
        for (name, step, output, place) in produced {
            self.produce(&mut outputs, &name, step, output, &place);
        }
        let order = self.order(&steps, &edges);
        for (step, own) in steps.iter_mut().zip(&edges) {
            let needs: BTreeSet<usize> = own.iter().map(|(need, _)| *need).collect();
            step.needs = needs.into_iter().collect();
        }
        let commands = steps.iter().map(|step| match &step.work {
            Work::Command(_) => 1,
            Work::Pipeline(inner) => inner.commands,
        });
        let commands = commands.fold(0usize, usize::saturating_add);
        Graph {
            inputs,
            outputs,
            steps,
            order,
            commands,
        }
    }

    fn produce(
        &mut self,
        outputs: &mut BTreeMap<String, GraphOutput>,
        name: &str,
        step: usize,
        output: String,
        place: &Place,
    ) {
        let Some(slot) = outputs.get_mut(name) else {
            return;
        };
        if slot.from.is_some() {
            let message = format!("two outputs are bound to the pipeline's output `{name}`");
            self.out.push(
                Diagnostic::error(Code::DuplicateOutput, message, place)
                    .label(&slot.place, "declared here")
                    .help(
                        "an output has one maker: declare a second output, and bind this one to it",
                    ),
            );
        } else {
            slot.from = Some((step, output));
        }
    }

    fn step(
        &mut self,
        at: usize,
        job: &Pending<'_>,
        scope: &Scope<'_, '_>,
        said: &mut Said,
        produced: &mut Vec<(String, usize, String, Place)>,
    ) -> Step {
        let mut inputs = Vec::with_capacity(job.inputs.len());
        for (decl, given) in &job.inputs {
            let bound = match given {
                Some(entry) => self.bind(entry, decl, scope, said),
                None => Binding::Nothing,
            };
            let bound = match bound {
                Binding::To(bound) => Some(bound),
                Binding::Nothing => {
                    self.require(job, decl, *given);
                    decl.default.clone()
                }
                Binding::Wrong => None,
            };
            inputs.push(StepInput {
                decl: Arc::clone(decl),
                bound,
            });
        }
        let mut outputs = BTreeMap::new();
        for (name, (declared, spec, place)) in &job.outputs {
            let mut data_type = spec.as_ref().and_then(|spec| spec.data_type).or(*declared);
            if let Some((found, place)) = spec.as_ref().and_then(|spec| spec.binding.as_ref())
                && let Some(target) = self.output_binding(found, place, scope)
            {
                data_type = data_type.or(scope
                    .outputs
                    .get(&target)
                    .and_then(|output| output.data_type));
                produced.push((target, at, name.clone(), place.clone()));
            }
            let register = spec.as_ref().and_then(|spec| spec.register.clone());
            let export = spec.as_ref().and_then(|spec| spec.export.clone());
            let data_type = data_type.unwrap_or_default();
            outputs.insert(
                name.clone(),
                StepOutput {
                    data_type,
                    register,
                    export,
                    place: place.clone(),
                },
            );
        }
        let mut after = Vec::new();
        for node in &job.depends_on {
            if let Some(step) = self.depends_on(node, scope, said) {
                after.push(step);
            }
        }
        Step {
            name: job.name.clone(),
            place: job.place.clone(),
            display_name: job.display_name.clone(),
            inputs,
            outputs,
            needs: Vec::new(),
            after,
            work: job
                .work
                .clone()
                .unwrap_or_else(|| Work::Pipeline(Arc::default())),
        }
    }

    /// Reports an input without a value that needs one.
    fn require(&mut self, job: &Pending<'_>, decl: &InputDecl, given: Option<&Entry>) {
        if decl.optional || decl.default.is_some() || decl.input_type == InputType::Unknown {
            return;
        }
        let place = given.map_or(&job.place, |entry| &entry.key_place);
        let message = format!("`{}` has no value for its input `{}`", job.name, decl.name);
        let mut found = Diagnostic::error(Code::MissingInput, message, place);
        if given.is_none() {
            found = found.label(&decl.place, "declared here");
        }
        let name = &decl.name;
        let help = match decl.input_type {
            InputType::Data(data_type) => format!(
                "under `inputs:` of `{}` write `{name}: {{type: {}, path: ./…}}` or a binding, `{name}: ${{{{parent.inputs.{name}}}}}`",
                job.name,
                data_type.as_str()
            ),
            _ => format!(
                "under `inputs:` of `{}` write `{name}: …`, or declare a `default` or `optional: true`",
                job.name
            ),
        };
        self.out.push(found.help(help));
    }

    fn depends_on(&mut self, node: &Node, scope: &Scope<'_, '_>, said: &mut Said) -> Option<usize> {
        let name = node.as_text()?;
        let found = scope.steps.get(name).copied();
        if found.is_none() {
            self.unknown_step(name, node.shown_at(), scope, said);
        }
        found
    }

    pub(super) fn unknown_step(
        &mut self,
        name: &str,
        place: &Place,
        scope: &Scope<'_, '_>,
        said: &mut Said,
    ) {
        if self.again(Code::UnknownStep, name, place, said) || self.out.is_full() {
            return;
        }
        if self.outer.iter().any(|names| names.contains(name)) {
            let message = format!("the step `{name}` stands outside of this pipeline");
            let found = Diagnostic::error(Code::OutOfScope, message, place).help(format!(
                "declare an input of this pipeline, give it `${{{{parent.jobs.{name}.outputs.…}}}}` outside, and name it here as `${{{{parent.inputs.…}}}}`"
            ));
            self.first(found, Code::UnknownStep, name, said);
            return;
        }
        let inside = scope.pending.iter().find_map(|job| match &job.work {
            Some(Work::Pipeline(graph)) => {
                let step = graph.steps.iter().find(|step| step.name == name)?;
                Some((job, step))
            }
            _ => None,
        });
        if let Some((job, step)) = inside {
            let outer = &job.name;
            let message =
                format!("the step `{name}` stands inside `{outer}`, and has no name here");
            let found = Diagnostic::error(Code::OutOfScope, message, place)
                .label(&step.place, "this step")
                .help(format!(
                    "bind its output to an output of `{outer}`, and name that: `${{{{parent.jobs.{outer}.outputs.…}}}}`"
                ));
            self.first(found, Code::UnknownStep, name, said);
            return;
        }
        let known = scope.pending.iter().map(|job| job.name.as_str());
        let help = did_you_mean(name, known);
        let found = Diagnostic::error(
            Code::UnknownStep,
            format!("there is no step `{name}`"),
            place,
        )
        .help(or_none(help));
        self.first(found, Code::UnknownStep, name, said);
    }

    /// Whether it was said before what is wrong with a name; then `place` is added.
    pub(super) fn again(&mut self, code: Code, name: &str, place: &Place, said: &Said) -> bool {
        let Some(at) = said.get(&(code, name.to_owned())) else {
            return false;
        };
        // A name that is used a thousand times needs no thousand labels.
        if let Some(first) = self.out.get_mut(*at)
            && first.labels.len() < 8
        {
            first.labels.push(crate::diagnostic::Label {
                place: place.clone(),
                message: "also here".to_owned(),
            });
        }
        true
    }

    /// Reports what is wrong with a name, so that [`again`](Self::again) knows it.
    pub(super) fn first(&mut self, found: Diagnostic, code: Code, name: &str, said: &mut Said) {
        said.insert((code, name.to_owned()), self.out.len());
        self.out.push(found);
    }

    /// The graph's output that a step's output is bound to.
    fn output_binding(
        &mut self,
        found: &Expression,
        place: &Place,
        scope: &Scope<'_, '_>,
    ) -> Option<String> {
        let (Expression::ParentOutput(name) | Expression::Output(name)) = found else {
            let message = format!("`{}` is not a binding for an output", place.text());
            let help = "write `${{parent.outputs.NAME}}`, an output of the pipeline; a step that needs this output names it in its own `inputs`";
            self.out
                .push(Diagnostic::error(Code::BadBinding, message, place).help(help));
            return None;
        };
        if scope.outputs.contains_key(name) {
            return Some(name.clone());
        }
        let known = || scope.outputs.keys().map(String::as_str);
        let declare = format!("declare it: `outputs: {{{name}: {{type: uri_folder}}}}`");
        let help = did_you_mean(name, known()).unwrap_or(declare);
        let message = format!("the pipeline has no output `{name}`");
        self.out
            .push(Diagnostic::error(Code::UnknownOutput, message, place).help(help));
        // The one that was meant is not without a maker as well.
        nearest(name, known()).map(str::to_owned)
    }
}
