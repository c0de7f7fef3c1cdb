//! What an input is bound to, and whether that fits it.

use super::Checker;
use super::expression::{self, Expression, Malformed, meant};
use super::fields::Status;
use super::graph::{Binding, Said, Scope};
use super::read::refused;
use super::types::{Bound, InputDecl, InputType, Work};
use crate::diagnostic::suggest::did_you_mean;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Entry, Node, Place};
use crate::plan::DataType;

impl Checker<'_> {
    /// What `entry` binds `decl` to.
    pub(super) fn bind(
        &mut self,
        entry: &Entry,
        decl: &InputDecl,
        scope: &Scope<'_, '_>,
        said: &mut Said,
    ) -> Binding {
        if self.out.is_full() {
            return Binding::Wrong;
        }
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
            Err(Malformed::Unclosed(nth)) => {
                self.malformed(node, nth);
                Binding::Wrong
            }
            Err(_) => {
                self.malformed(node, 0);
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
        self.looks_bound(entry);
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

    /// Warns where a text looks like a binding that lost its brackets.
    fn looks_bound(&mut self, entry: &Entry) {
        let node = entry.value.get("path").unwrap_or(&entry.value);
        let Some(text) = node.as_text() else {
            return;
        };
        let inner = text
            .trim()
            .trim_start_matches(['$', '{', '(', '['])
            .trim_start();
        let path = ["parent.inputs.", "parent.jobs.", "parent.outputs."];
        if text.len() > 200 || !path.iter().any(|path| inner.starts_with(path)) {
            return;
        }
        let inner = inner.trim_end_matches(['}', ')', ']']).trim_end();
        let message = format!("`{text}` is passed as text: it is no binding");
        self.out.push(
            Diagnostic::warning(Code::LiteralBinding, message, node.shown_at())
                .help(format!("a binding is written `${{{{{inner}}}}}`")),
        );
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
                let help = match literal.text.contains('/') {
                    false => format!(
                        "write `{name}: {{type: {}, path: ./…}}`",
                        data_type.as_str()
                    ),
                    true => format!(
                        "write `{name}: {{type: {}, path: {}}}`",
                        data_type.as_str(),
                        literal.text
                    ),
                };
                self.out.push(
                    Diagnostic::error(Code::TypeMismatch, message, place)
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
                    Diagnostic::error(Code::TypeMismatch, message, place)
                        .label(&decl.place, "declared here")
                        .help("give it a single value; to read a file, declare the input as `type: uri_file`"),
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
            let help = "the command gets it as it is: see that it expects this, or declare the type that is given";
            self.out.push(
                Diagnostic::warning(Code::TypeMismatch, message, place)
                    .label(&decl.place, "declared here")
                    .help(help),
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
                let meant = match found {
                    Expression::Other(text) => meant(text),
                    _ => None,
                };
                let help = match meant {
                    Some(meant) => format!("did you mean `${{{{{meant}}}}}`?"),
                    None => "an input is bound to `${{parent.inputs.NAME}}` or `${{parent.jobs.STEP.outputs.NAME}}`".to_owned(),
                };
                self.out
                    .push(Diagnostic::error(Code::BadBinding, message, place).help(help));
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
            if self.again(Code::UnknownInput, name, place, said) {
                return Binding::Wrong;
            }
            let mut known: Vec<&str> = scope.inputs.keys().copied().collect();
            known.sort_unstable();
            let message = format!("the pipeline has no input `{name}`");
            let help = did_you_mean(name, known).unwrap_or_else(|| {
                format!("declare it: under `inputs:` of the pipeline write `{name}: …`")
            });
            let found = Diagnostic::error(Code::UnknownInput, message, place).help(help);
            self.first(found, Code::UnknownInput, name, said);
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
                if !self.again(Code::MissingInput, name, place, said) {
                    let found = Diagnostic::error(Code::MissingInput, message, &parent.place)
                        .help(format!(
                            "give it one in the file, or with `--set inputs.{name}=…`"
                        ))
                        .label(place, "needed here");
                    self.first(found, Code::MissingInput, name, said);
                }
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
                    Diagnostic::error(Code::TypeMismatch, message, place)
                        .label(&decl.place, "declared here")
                        .label(&parent.place, "given from here")
                        .help("declare both with the same type: data (`uri_file`, `uri_folder`) or a parameter (`string`, `number`)"),
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
            let both = format!("{name}.{output}");
            if job.known && !self.again(Code::UnknownOutput, &both, place, said) {
                let message = format!("the step `{name}` has no output `{output}`");
                let help = did_you_mean(output, job.outputs.keys().map(String::as_str))
                    .unwrap_or_else(|| format!("declare it: `outputs: {{{output}: {{type: uri_folder}}}}` at the step `{name}`"));
                let found = Diagnostic::error(Code::UnknownOutput, message, place)
                    .label(&job.place, "this step")
                    .help(help);
                self.first(found, Code::UnknownOutput, &both, said);
            }
            return Binding::Wrong;
        };
        if let InputType::Parameter(_) = decl.input_type {
            let message = format!(
                "the input `{}` takes a parameter, and is given the output of a step",
                decl.name
            );
            self.out.push(
                Diagnostic::error(Code::TypeMismatch, message, place)
                    .label(&decl.place, "declared here")
                    .label(out_place, "given from here")
                    .help("outputs are files: declare the input as `type: uri_file` or `uri_folder`, and read it in the command"),
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
                Diagnostic::error(Code::UnboundOutput, message, place)
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
}

fn is_binding(node: &Node) -> bool {
    node.as_text().is_some_and(|text| text.contains("${{"))
}
