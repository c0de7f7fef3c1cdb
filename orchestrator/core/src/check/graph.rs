//! One graph: its jobs become steps, with their bindings (`bind`) and their order
//! (`order`).

use super::Checker;
use super::expression::Expression;
use super::job::Pending;
use super::read::Object;
use super::suggest::{did_you_mean, nearest};
use super::types::{
    Bound, Graph, GraphOutput, InputDecl, InputType, Step, StepInput, StepOutput, Work,
};
use crate::diagnostic::Diagnostic;
use crate::document::{Entry, Node, Place};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
pub(super) type Said = HashMap<(&'static str, String), usize>;

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
        inputs: Vec<InputDecl>,
        mut outputs: BTreeMap<String, GraphOutput>,
        values: &BTreeMap<String, Bound>,
    ) -> Graph {
        let top = self.top_level;
        self.top_level = false;
        let pending: Vec<Pending<'_>> = from.entries("jobs").map(|entry| self.job(entry)).collect();
        if let Some(jobs) = from.get("jobs")
            && pending.is_empty()
        {
            let message = "`jobs` is empty: a pipeline needs a step";
            self.out
                .push(Diagnostic::error("missing-key", message, &jobs.key_place));
        }
        let scope = Scope {
            inputs: inputs
                .iter()
                .map(|decl| (decl.name.as_str(), decl))
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
                Diagnostic::error("duplicate-output", message, place)
                    .label(&slot.place, "declared here"),
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
                decl: decl.clone(),
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
            let data_type = data_type.unwrap_or_default();
            outputs.insert(
                name.clone(),
                StepOutput {
                    data_type,
                    register,
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
                .unwrap_or_else(|| Work::Pipeline(std::sync::Arc::default())),
        }
    }

    /// Reports an input without a value that needs one.
    fn require(&mut self, job: &Pending<'_>, decl: &InputDecl, given: Option<&Entry>) {
        if decl.optional || decl.default.is_some() || decl.input_type == InputType::Unknown {
            return;
        }
        let place = given.map_or(&job.place, |entry| &entry.key_place);
        let message = format!("`{}` has no value for its input `{}`", job.name, decl.name);
        let mut found = Diagnostic::error("missing-input", message, place);
        if given.is_none() {
            found = found.label(&decl.place, "declared here");
        }
        self.out
            .push(found.help("give it a value, or declare a `default` or `optional: true`"));
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
        let help = did_you_mean(name, scope.steps.keys().copied().collect::<BTreeSet<_>>());
        let found = Diagnostic::error("unknown-step", format!("there is no step `{name}`"), place);
        self.once(found.maybe_help(help), name, said);
    }

    /// Reports what is wrong with a name, once for all places that use it.
    pub(super) fn once(&mut self, found: Diagnostic, name: &str, said: &mut Said) {
        let Some(place) = found.place.clone() else {
            return;
        };
        match said.get(&(found.code, name.to_owned())) {
            Some(at) => {
                let first = &mut self.out[*at];
                // A name that is used a thousand times needs no thousand labels.
                if first.labels.len() < 8 {
                    first.labels.push(crate::diagnostic::Label {
                        place,
                        message: "also here".to_owned(),
                    });
                }
            }
            None => {
                said.insert((found.code, name.to_owned()), self.out.len());
                self.out.push(found);
            }
        }
    }

    /// The graph's output that a step's output is bound to.
    fn output_binding(
        &mut self,
        found: &Expression,
        place: &Place,
        scope: &Scope<'_, '_>,
    ) -> Option<String> {
        let (Expression::ParentOutput(name) | Expression::Output(name)) = found else {
            let message =
                "an output is bound to an output of the pipeline: `${{parent.outputs.NAME}}`";
            self.out
                .push(Diagnostic::error("bad-binding", message, place));
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
            .push(Diagnostic::error("unknown-output", message, place).help(help));
        // The one that was meant is not without a maker as well.
        nearest(name, known()).map(str::to_owned)
    }
}
