//! Bindings between the steps of one graph, their order, and cycles.

use super::Checker;
use super::expression::{self, Expression};
use super::fields::Status;
use super::job::Pending;
use super::read::{Object, refused};
use super::suggest::{did_you_mean, nearest};
use super::types::{
    Bound, Graph, GraphOutput, InputDecl, InputType, Step, StepInput, StepOutput, Work,
};
use crate::diagnostic::Diagnostic;
use crate::document::{Entry, Node, Place};
use crate::plan::DataType;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

/// What the bindings of one graph can name.
struct Scope<'s, 'a> {
    inputs: HashMap<&'s str, &'s InputDecl>,
    /// Values of the graph's inputs, where the graph is a whole pipeline.
    values: &'s BTreeMap<String, Bound>,
    /// Whether that is so.
    top: bool,
    steps: HashMap<&'s str, usize>,
    pending: &'s [Pending<'a>],
    outputs: &'s BTreeMap<String, GraphOutput>,
}

/// An error about one name is said once, with the other places as labels.
type Said = HashMap<(&'static str, String), usize>;

/// How something was bound.
enum Binding {
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

    fn unknown_step(&mut self, name: &str, place: &Place, scope: &Scope<'_, '_>, said: &mut Said) {
        let help = did_you_mean(name, scope.steps.keys().copied().collect::<BTreeSet<_>>());
        let found = Diagnostic::error("unknown-step", format!("there is no step `{name}`"), place);
        self.once(found.maybe_help(help), name, said);
    }

    /// Reports what is wrong with a name, once for all places that use it.
    fn once(&mut self, found: Diagnostic, name: &str, said: &mut Said) {
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

    /// What `entry` binds `decl` to.
    fn bind(
        &mut self,
        entry: &Entry,
        decl: &InputDecl,
        scope: &Scope<'_, '_>,
        said: &mut Said,
    ) -> Binding {
        let node = match entry.value.as_mapping() {
            Some(mapping) => match mapping.get("path") {
                Some(path) if is_binding(&path.value) => &path.value,
                _ => match mapping.get("value") {
                    Some(value) if is_binding(&value.value) => &value.value,
                    _ => return self.own(entry, decl),
                },
            },
            None => &entry.value,
        };
        let Some(text) = node.as_text().filter(|_| is_binding(node)) else {
            return self.own(entry, decl);
        };
        match expression::whole(text) {
            Err(_) => {
                self.malformed(node);
                Binding::Wrong
            }
            Ok(None) => {
                let status = Status::NotYet("bind the whole value, and join texts in the command");
                self.out.push(refused(
                    "text around a binding",
                    status,
                    &node.expression_place(0),
                ));
                Binding::Wrong
            }
            Ok(Some(found)) => {
                self.bind_expression(&found, &node.expression_place(0), decl, scope, said)
            }
        }
    }

    /// A value that is written where it is given.
    fn own(&mut self, entry: &Entry, decl: &InputDecl) -> Binding {
        if decl.input_type == InputType::Unknown {
            return Binding::Wrong;
        }
        let before = self.errors();
        let Some(bound) = self.own_value(entry) else {
            return if self.errors() > before {
                Binding::Wrong
            } else {
                Binding::Nothing
            };
        };
        if self.value_fits(&bound, decl, None) {
            Binding::To(bound)
        } else {
            Binding::Wrong
        }
    }

    /// Whether a value fits `decl`; `at` is the binding that brings it, if any.
    fn value_fits(&mut self, bound: &Bound, decl: &InputDecl, at: Option<&Place>) -> bool {
        match (bound, decl.input_type) {
            (Bound::Literal(literal), InputType::Parameter(_)) => {
                let place = at.unwrap_or(&literal.place).clone();
                self.literal_fits(literal, decl, &place, "the value for")
            }
            (Bound::Literal(literal), InputType::Data(data_type)) => {
                let place = at.unwrap_or(&literal.place);
                let name = &decl.name;
                let message = format!(
                    "the input `{name}` takes data, and is given `{}`",
                    literal.text
                );
                let help = format!("write `{name}: {{type: {}, path: …}}`", data_type.as_str());
                self.out.push(
                    Diagnostic::error("type-mismatch", message, place)
                        .help(help)
                        .label(&decl.place, "declared here"),
                );
                false
            }
            (Bound::Data(data), InputType::Parameter(_)) => {
                let message = format!(
                    "the input `{}` takes a parameter, and is given data",
                    decl.name
                );
                let place = at.unwrap_or(&data.place);
                self.out.push(
                    Diagnostic::error("type-mismatch", message, place)
                        .label(&decl.place, "declared here"),
                );
                false
            }
            (Bound::Data(data), InputType::Data(wanted)) => {
                if let Some(given) = data.data_type {
                    self.compare(given, wanted, decl, at.unwrap_or(&data.place));
                }
                true
            }
            _ => true,
        }
    }

    /// Warns where a file meets a folder.
    fn compare(&mut self, given: DataType, wanted: DataType, decl: &InputDecl, place: &Place) {
        let is_file = |data_type| data_type == DataType::UriFile;
        if is_file(given) != is_file(wanted) {
            let message = format!(
                "the input `{}` is a {}, and is given a {}",
                decl.name,
                wanted.as_str(),
                given.as_str()
            );
            self.out.push(
                Diagnostic::warning("type-mismatch", message, place)
                    .label(&decl.place, "declared here"),
            );
        }
    }

    fn bind_expression(
        &mut self,
        found: &Expression,
        place: &Place,
        decl: &InputDecl,
        scope: &Scope<'_, '_>,
        said: &mut Said,
    ) -> Binding {
        match found {
            Expression::ParentInput(name) | Expression::Input(name) => {
                self.bind_parent(name, place, decl, scope, said)
            }
            Expression::JobOutput(step, output) => {
                self.bind_step(step, output, place, decl, scope, said)
            }
            Expression::SearchSpace(_) => {
                self.out.push(refused(
                    "`search_space`",
                    Status::NotYet("give the value itself"),
                    place,
                ));
                Binding::Wrong
            }
            Expression::Name | Expression::DefaultDatastore => {
                let status = Status::NotYet("use the expression in the command");
                self.out.push(refused(
                    "this expression as the value of an input",
                    status,
                    place,
                ));
                Binding::Wrong
            }
            Expression::ParentOutput(_)
            | Expression::Output(_)
            | Expression::OutputName
            | Expression::Other(_) => {
                let message = format!("`{}` is not a binding for an input", place.text());
                self.out.push(
                    Diagnostic::error("bad-binding", message, place)
                        .help("known here: `parent.inputs.NAME`, `parent.jobs.STEP.outputs.NAME`"),
                );
                Binding::Wrong
            }
        }
    }

    fn bind_parent(
        &mut self,
        name: &str,
        place: &Place,
        decl: &InputDecl,
        scope: &Scope<'_, '_>,
        said: &mut Said,
    ) -> Binding {
        let Some(parent) = scope.inputs.get(name) else {
            let mut known: Vec<&str> = scope.inputs.keys().copied().collect();
            known.sort_unstable();
            let message = format!("the pipeline has no input `{name}`");
            let found = Diagnostic::error("unknown-input", message, place)
                .maybe_help(did_you_mean(name, known));
            self.once(found, name, said);
            return Binding::Wrong;
        };
        let bound = Bound::Parent {
            input: name.to_owned(),
            place: place.clone(),
        };
        if parent.input_type == InputType::Unknown || decl.input_type == InputType::Unknown {
            return Binding::To(bound);
        }
        if let Some(value) = scope.values.get(name) {
            return if self.value_fits(value, decl, Some(place)) {
                Binding::To(bound)
            } else {
                Binding::Wrong
            };
        }
        if scope.top && parent.default.is_none() {
            // An inline job says no more of an input than what is bound to it.
            let may_lack = decl.optional || (parent.optional && decl.input_type == InputType::Any);
            let needs_value = !may_lack && decl.default.is_none();
            if needs_value {
                let message = format!("the pipeline's input `{name}` has no value");
                let found = Diagnostic::error("missing-input", message, &parent.place)
                    .help(format!(
                        "give it one in the file, or with `--set inputs.{name}=…`"
                    ))
                    .label(place, "needed here");
                self.once(found, name, said);
                return Binding::Wrong;
            }
        }
        match (parent.input_type, decl.input_type) {
            (InputType::Parameter(_), InputType::Data(_))
            | (InputType::Data(_), InputType::Parameter(_)) => {
                let (takes, given) = match decl.input_type {
                    InputType::Data(_) => ("data", "a parameter"),
                    _ => ("a parameter", "data"),
                };
                let message = format!(
                    "the input `{}` takes {takes}, and is given {given}",
                    decl.name
                );
                self.out.push(
                    Diagnostic::error("type-mismatch", message, place)
                        .label(&decl.place, "declared here")
                        .label(&parent.place, "given from here"),
                );
                Binding::Wrong
            }
            (InputType::Data(given), InputType::Data(wanted)) => {
                self.compare(given, wanted, decl, place);
                Binding::To(bound)
            }
            _ => Binding::To(bound),
        }
    }

    fn bind_step(
        &mut self,
        name: &str,
        output: &str,
        place: &Place,
        decl: &InputDecl,
        scope: &Scope<'_, '_>,
        said: &mut Said,
    ) -> Binding {
        let Some(step) = scope.steps.get(name).copied() else {
            self.unknown_step(name, place, scope, said);
            return Binding::Wrong;
        };
        let job = &scope.pending[step];
        let Some((declared, spec, out_place)) = job.outputs.get(output) else {
            if job.known {
                let message = format!("the step `{name}` has no output `{output}`");
                let help = did_you_mean(output, job.outputs.keys().map(String::as_str));
                let found = Diagnostic::error("unknown-output", message, place).maybe_help(help);
                self.once(found, &format!("{name}.{output}"), said);
            }
            return Binding::Wrong;
        };
        if let InputType::Parameter(_) = decl.input_type {
            let message = format!(
                "the input `{}` takes a parameter, and is given the output of a step",
                decl.name
            );
            self.out.push(
                Diagnostic::error("type-mismatch", message, place)
                    .label(&decl.place, "declared here")
                    .label(out_place, "given from here"),
            );
            return Binding::Wrong;
        }
        if let Some(Work::Pipeline(graph)) = &job.work
            && graph
                .outputs
                .get(output)
                .is_some_and(|output| output.from.is_none())
        {
            let message = format!("no step inside `{name}` makes its output `{output}`");
            let help =
                format!("bind an output of a step inside to `${{{{parent.outputs.{output}}}}}`");
            self.out.push(
                Diagnostic::error("unbound-output", message, place)
                    .help(help)
                    .label(out_place, "declared here"),
            );
            return Binding::Wrong;
        }
        let given = spec.as_ref().and_then(|spec| spec.data_type).or(*declared);
        if let (InputType::Data(wanted), Some(given)) = (decl.input_type, given) {
            self.compare(given, wanted, decl, place);
        }
        Binding::To(Bound::Step {
            step,
            output: output.to_owned(),
            place: place.clone(),
        })
    }

    /// Dependencies first, otherwise the order of the file; cycles are reported.
    fn order(&mut self, steps: &[Step], edges: &[Vec<(usize, Place)>]) -> Vec<usize> {
        let mut waits: Vec<usize> = vec![0; steps.len()];
        let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
        for (at, own) in edges.iter().enumerate() {
            let needs: BTreeSet<usize> = own.iter().map(|(need, _)| *need).collect();
            waits[at] = needs.len();
            needs.into_iter().for_each(|need| dependents[need].push(at));
        }
        let mut ready: BinaryHeap<Reverse<usize>> = waits
            .iter()
            .enumerate()
            .filter(|(_, waits)| **waits == 0)
            .map(|(at, _)| Reverse(at))
            .collect();
        let mut order = Vec::with_capacity(steps.len());
        let mut done = vec![false; steps.len()];
        loop {
            while let Some(Reverse(at)) = ready.pop() {
                done[at] = true;
                order.push(at);
                for dependent in &dependents[at] {
                    waits[*dependent] = waits[*dependent].saturating_sub(1);
                    if waits[*dependent] == 0 && !done[*dependent] {
                        ready.push(Reverse(*dependent));
                    }
                }
            }
            let Some(start) = done.iter().position(|done| !done) else {
                return order;
            };
            // Cut the cycle, so that others behind it are found as well.
            let cycle = find_cycle(start, edges, &done);
            self.cycle(steps, &cycle);
            for (at, _) in cycle {
                done[at] = true;
                ready.push(Reverse(at));
            }
        }
    }

    fn cycle(&mut self, steps: &[Step], cycle: &[(usize, &Place)]) {
        let Some((first, place)) = cycle.first() else {
            return;
        };
        let message = if cycle.len() == 1 {
            format!("the step `{}` needs itself", steps[*first].name)
        } else {
            // Along the data: the last of the cycle takes from the first.
            let along = std::iter::once(first).chain(cycle.iter().rev().map(|(step, _)| step));
            let names: Vec<&str> = along.map(|step| steps[*step].name.as_str()).collect();
            format!("the steps need each other: {}", names.join(" → "))
        };
        let mut found = Diagnostic::error("cycle", message, place);
        for (step, place) in cycle[1..].iter().take(8) {
            found = found.label(place, format!("`{}` needs this", steps[*step].name));
        }
        self.out.push(found.help("take one of these bindings away"));
    }
}

/// A cycle among the steps that are not done, each with the binding by which it
/// needs the next, and the last the first. `start` is not done.
///
/// Each such step needs another one: walking along these needs comes back to a
/// step that was seen.
fn find_cycle<'e>(
    start: usize,
    edges: &'e [Vec<(usize, Place)>],
    done: &[bool],
) -> Vec<(usize, &'e Place)> {
    let mut seen = HashMap::new();
    let mut path: Vec<(usize, &Place)> = Vec::new();
    let mut at = start;
    while !seen.contains_key(&at) {
        seen.insert(at, path.len());
        let Some((need, place)) = edges[at].iter().find(|(need, _)| !done[*need]) else {
            return path;
        };
        path.push((at, place));
        at = *need;
    }
    path.split_off(seen[&at])
}

fn is_binding(node: &Node) -> bool {
    node.as_text().is_some_and(|text| text.contains("${{"))
}
