//! Inputs and outputs as they are declared and given. What a binding refers to is
//! resolved in `bind`.

use super::Checker;
use super::expression::{self, Expression};
use super::fields::{INPUT, OUTPUT, Status};
use super::found::Found;
use super::literal::number_of;
use super::read::{Object, entry_place, object, refused};
use super::types::{Bound, DataRef, InputDecl, InputType, Literal, Location, ParameterType};
use crate::diagnostic::suggest::nearest;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Entry, Node, Place, resolve_path};
use crate::plan::{AssetName, DataType, InputMode};

/// An output as it is declared or given.
pub(crate) struct OutputSpec {
    pub(crate) data_type: Option<DataType>,
    pub(crate) register: Option<AssetName>,
    /// Where it is copied to.
    pub(crate) export: Option<String>,
    /// A binding, with where it stands.
    pub(crate) binding: Option<(Expression, Place)>,
    pub(crate) place: Place,
}

impl Checker<'_> {
    /// An input as a component or a pipeline declares it, or as an inline job
    /// gives it: a single value says no type.
    pub(crate) fn input_decl(&mut self, entry: &Entry) -> InputDecl {
        let mut decl = InputDecl {
            name: entry.key.to_string(),
            input_type: InputType::Any,
            optional: false,
            default: None,
            min: None,
            max: None,
            choices: Vec::new(),
            mode: InputMode::Download,
            place: entry.key_place.clone(),
        };
        if self.out.is_full() {
            decl.input_type = InputType::Unknown;
            return decl;
        }
        self.input_name(entry);
        if entry.value.as_mapping().is_none() {
            if entry.value.as_sequence().is_some() {
                let message = format!(
                    "the input `{}` must be a single value or a mapping, not a list",
                    entry.key
                );
                self.out.push(
                    Diagnostic::error(Code::WrongType, message, &entry.key_place).help(
                        "write the list as text, `\"a,b\"`, or as a file that the command reads",
                    ),
                );
                decl.input_type = InputType::Unknown;
            }
            return decl;
        }
        let Some(input) = object(&entry.value, &entry.key_place, &INPUT, &mut self.out) else {
            return decl;
        };
        decl.input_type = input_type(&input);
        // Where it says something wrong, that is the one thing to say.
        decl.optional = input
            .boolean("optional")
            .unwrap_or_else(|| input.has("optional"));
        decl.mode = input.text("mode").map_or(InputMode::Download, input_mode);
        decl.min = input.number("min");
        decl.max = input.number("max");
        let choices = input
            .node("enum")
            .and_then(Node::as_sequence)
            .unwrap_or_default();
        decl.choices = choices.iter().filter_map(Literal::of).collect();
        self.range(&mut decl, &input);
        if let Some(default) = input.get("default") {
            decl.default = self.default(&decl, default);
        }
        decl
    }

    /// That some value can lie between `min` and `max`, and that they belong to a number.
    fn range(&mut self, decl: &mut InputDecl, input: &Object<'_>) {
        if let (Some(min), Some(max), Some(entry)) = (decl.min, decl.max, input.get("min"))
            && min > max
        {
            let message = format!("`min`, {min}, is greater than `max`, {max}: no value fits");
            let mut found = Diagnostic::error(Code::EmptyRange, message, entry_place(entry))
                .help("write the smaller number behind `min`");
            if let Some(max) = input.get("max") {
                found = found.label(entry_place(max), "the greatest value");
            }
            self.out.push(found);
            (decl.min, decl.max) = (None, None);
        }
        let InputType::Parameter(declared) = decl.input_type else {
            return;
        };
        let listed = input
            .node("enum")
            .and_then(Node::as_sequence)
            .unwrap_or_default();
        for choice in listed.iter().filter_map(Literal::of) {
            if let Err(why) = choice.as_type(declared) {
                let message = format!("`enum` of the input `{}`: {why}", decl.name);
                let found = Diagnostic::error(Code::WrongType, message, &choice.place)
                    .help("write only values of the input's `type`");
                self.out.push(found);
            }
        }
    }

    fn input_name(&mut self, entry: &Entry) {
        let mut bytes = entry.key.bytes();
        let good = matches!(bytes.next(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_'))
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !good {
            let message = format!("`{}` cannot be the name of an input or output", entry.key);
            self.out.push(
                Diagnostic::error(Code::BadName, message, &entry.key_place)
                    .help(name_help(&entry.key)),
            );
        }
    }

    /// The default of an input, checked against its own type.
    fn default(&mut self, decl: &InputDecl, entry: &Entry) -> Option<Bound> {
        let literal = Literal::of(&entry.value)?;
        if let InputType::Data(data_type) = decl.input_type {
            let location = self.location(&literal.text, &entry.value, &literal.place)?;
            let place = literal.place;
            return Some(Bound::Data(DataRef {
                location,
                data_type: Some(data_type),
                mode: None,
                place,
            }));
        }
        self.literal_fits(&literal, decl, &literal.place, "the default of");
        Some(Bound::Literal(literal))
    }

    /// Reports where `literal` is no value of `decl`.
    pub(crate) fn literal_fits(
        &mut self,
        literal: &Literal,
        decl: &InputDecl,
        place: &Place,
        of: &str,
    ) -> bool {
        let Err(why) = literal.for_input(decl) else {
            return true;
        };
        let InputType::Parameter(declared) = decl.input_type else {
            return true;
        };
        let outside = |number: f64| {
            decl.min.is_some_and(|min| number < min) || decl.max.is_some_and(|max| number > max)
        };
        let number = number_of(&literal.text, &literal.resolved);
        let (code, help) = if literal.as_type(declared).is_err() {
            let help = match declared {
                ParameterType::Boolean => "write `true` or `false`",
                ParameterType::Integer => {
                    "write digits alone, or declare `type: number` or `string`"
                }
                ParameterType::Number => {
                    "write a number such as `3`, `0.5` or `1e-3`, or declare `type: string`"
                }
                ParameterType::String => "write text",
            };
            (Code::WrongType, help.to_owned())
        } else if number.is_some_and(outside) {
            let help = match (decl.min, decl.max) {
                (Some(min), Some(max)) => format!("write a number from {min} to {max}"),
                (Some(min), None) => format!("write a number of at least {min}"),
                (_, max) => format!("write a number of at most {}", max.unwrap_or(f64::INFINITY)),
            };
            (Code::OutOfRange, help)
        } else {
            let words = decl.choices.iter().map(|choice| choice.text.as_str());
            let help = match nearest(&literal.text, words) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "write one of them, or add this value to `enum`".to_owned(),
            };
            (Code::NotInEnum, help)
        };
        let message = format!("{of} the input `{}`: {why}", decl.name);
        let mut diagnostic = Diagnostic::error(code, message, place).help(help);
        if place != &decl.place && of != "the default of" {
            diagnostic = diagnostic.label(&decl.place, "declared here");
        }
        self.out.push(diagnostic);
        false
    }

    /// The value that an input object holds by itself: `value`, `path`, `default`.
    /// A path that is a binding is not one of them.
    pub(crate) fn own_value(&mut self, entry: &Entry) -> Option<Bound> {
        let node = &entry.value;
        if node.as_mapping().is_none() {
            return Literal::of(node)
                .filter(|_| !node.is_null())
                .map(Bound::Literal);
        }
        // The keys were checked when the declaration was read.
        let input = object(node, &entry.key_place, &INPUT, &mut Found::default())?;
        if let Some(value) = input.node("value").and_then(Literal::of) {
            return Some(Bound::Literal(value));
        }
        let data_type = match input_type(&input) {
            InputType::Data(data_type) => Some(data_type),
            _ => None,
        };
        let path = input.node("path")?;
        let location = self.location(path.as_text()?, path, path.shown_at())?;
        let mode = input.text("mode").map(input_mode);
        Some(Bound::Data(DataRef {
            location,
            data_type,
            mode,
            place: path.shown_at().clone(),
        }))
    }

    /// Where data is that `text` names.
    pub(crate) fn location(&mut self, text: &str, node: &Node, place: &Place) -> Option<Location> {
        if text.contains("${{") {
            let what = "an expression inside a path of data";
            self.out.push(refused(
                what,
                Status::NotYet("write the path itself"),
                place,
            ));
            return None;
        }
        if text.starts_with("azureml://registries/") {
            let status = Status::AzureOnly("copy the data, and name the copy");
            self.out
                .push(refused("a registry of Azure ML", status, place));
            return None;
        }
        if text.starts_with("azureml://") {
            let status = Status::NotYet("name a local path, or the object's own URI (`s3://…`)");
            self.out
                .push(refused("a datastore of Azure ML", status, place));
            return None;
        }
        if text.starts_with("azureml:") {
            return Some(Location::Asset(text.to_owned()));
        }
        if text.contains("://") && !text.starts_with("file://") {
            return Some(Location::Uri(text.to_owned()));
        }
        let path = resolve_path(node.place.source().base(), text);
        // What a component names may be given otherwise by those who use it.
        if self.stack.is_empty() {
            self.names_file(&path, place);
        }
        Some(Location::Local(path))
    }

    /// An output as it is declared or given.
    pub(crate) fn output_spec(&mut self, entry: &Entry) -> OutputSpec {
        self.input_name(entry);
        let mut spec = OutputSpec {
            data_type: None,
            register: None,
            export: None,
            binding: None,
            place: entry.key_place.clone(),
        };
        if self.out.is_full() {
            return spec;
        }
        let node = &entry.value;
        if node.is_null() {
            return spec;
        }
        if node.as_scalar().is_some() {
            self.output_path(entry, &mut spec);
            return spec;
        }
        if entry.value.as_sequence().is_some() {
            let message = format!(
                "the output `{}` must be a binding or a mapping, not a list",
                entry.key
            );
            self.out.push(
                Diagnostic::error(Code::WrongType, message, &entry.key_place).help(format!(
                    "write an output for each, such as `{}: {{type: uri_folder}}`; a folder may hold many files",
                    entry.key
                )),
            );
            return spec;
        }
        if let Some(kind) = node.get("type").and_then(Node::as_text)
            && matches!(kind, "string" | "integer" | "number" | "boolean")
        {
            let status = Status::NotYet("write the value into a file of an output");
            let place = node
                .get("type")
                .map_or(&entry.key_place, Node::shown_at)
                .clone();
            self.out.push(refused(
                &format!("an output of type `{kind}`"),
                status,
                &place,
            ));
            return spec;
        }
        let Some(output) = object(node, &entry.key_place, &OUTPUT, &mut self.out) else {
            return spec;
        };
        spec.data_type = output.text("type").and_then(data_type);
        if let Some(path) = output.get("path") {
            self.output_path(path, &mut spec);
        }
        if let Some(name) = output.get("name") {
            spec.register = self.asset_name(&output, name, spec.data_type);
        } else if let Some(version) = output.get("version") {
            let message = format!("the output `{}` has a `version` but no `name`", entry.key);
            self.out.push(
                Diagnostic::error(Code::MissingKey, message, &version.key_place)
                    .help("`name` and `version` together register the output as an asset"),
            );
        }
        spec
    }

    fn asset_name(
        &mut self,
        output: &Object<'_>,
        name: &Entry,
        data_type: Option<DataType>,
    ) -> Option<AssetName> {
        let text = name.value.as_text()?;
        let good = !text.is_empty()
            && text.len() <= 255
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if !good {
            let message = format!("`{text}` cannot be the name of an asset");
            self.out.push(
                Diagnostic::error(Code::BadName, message, entry_place(name))
                    .help("letters, digits, `-`, `_` and `.`, beginning with a letter or digit"),
            );
            return None;
        }
        let is_model = matches!(
            data_type,
            Some(DataType::CustomModel | DataType::MlflowModel | DataType::TritonModel)
        );
        Some(AssetName {
            kind: if is_model { "model" } else { "data" }.to_owned(),
            name: text.to_owned(),
            version: output.owned("version"),
        })
    }

    fn output_path(&mut self, entry: &Entry, spec: &mut OutputSpec) {
        let Some(text) = entry.value.as_text() else {
            return;
        };
        let place = entry.value.expression_place(0);
        match expression::whole(text) {
            Ok(Some(found)) => spec.binding = Some((found, place)),
            Ok(None) if is_default_place(text) => {}
            Ok(None) if is_run_place(text) => {
                let message = "outputs are kept in the run's store, not at this path";
                self.out.push(
                    Diagnostic::warning(Code::Ignored, message, entry_place(entry))
                        .help("`auria-pipeline download RUN` copies a run's outputs anywhere"),
                );
            }
            Ok(None) => spec.export = self.export_place(text, entry),
            Err(_) => self.malformed(&entry.value, 0),
        }
    }

    /// Where a copy of an output goes that `text` names.
    fn export_place(&mut self, text: &str, entry: &Entry) -> Option<String> {
        let place = entry_place(entry);
        if text.contains("${{") {
            let status = Status::NotYet("write the place itself");
            let what = "an expression inside the place of an output";
            self.out.push(refused(what, status, place));
            return None;
        }
        if text.starts_with("azureml://") {
            let status = Status::NotYet("name a local path, or an object's own URI (`s3://…`)");
            self.out
                .push(refused("a datastore of Azure ML", status, place));
            return None;
        }
        match text.split_once("://") {
            None => Some(resolve_path(entry.value.place.source().base(), text)),
            Some(("s3" | "file", _)) => Some(text.to_owned()),
            Some((scheme, _)) => {
                let message = format!("an output cannot be copied to `{scheme}://…`");
                self.out.push(
                    Diagnostic::error(Code::BadPlace, message, place)
                        .help("name a local path, or `s3://BUCKET/PREFIX`"),
                );
                None
            }
        }
    }

    /// Reports an expression that is not closed.
    pub(crate) fn malformed(&mut self, node: &Node, nth: usize) {
        let message = "this expression, `${{`, is not closed by `}}`";
        let place = node.mark_place("${{", nth);
        self.out.push(
            Diagnostic::error(Code::UnclosedExpression, message, &place).help(
                "write `${{inputs.NAME}}` in a command, `${{parent.inputs.NAME}}` in a binding",
            ),
        );
    }
}

/// How an input or output can be called that is called `text`.
fn name_help(text: &str) -> String {
    let rule = "letters, digits and `_`, not beginning with a digit";
    if let Some((before, _)) = text
        .split_once([' ', '{', '['])
        .filter(|_| text.contains(['{', '[']))
    {
        return format!("is a `:` missing behind `{before}`? A name has {rule}");
    }
    match as_name(text) {
        Some(meant) => format!("a name has {rule}: `{meant}`"),
        None => format!("a name has {rule}"),
    }
}

/// `text` as an input or output could be called.
fn as_name(text: &str) -> Option<String> {
    let name = text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    good.then_some(name)
}

/// Whether a path of an output is the one that it would have anyway.
fn is_default_place(text: &str) -> bool {
    let dense: String = text.split_whitespace().collect();
    dense == "azureml://datastores/${{default_datastore}}/paths/azureml/${{name}}/${{output_name}}"
}

/// Whether a path of an output is another place for each run.
fn is_run_place(text: &str) -> bool {
    let dense: String = text.split_whitespace().collect();
    dense.starts_with("azureml://datastores/") && dense.contains("${{name}}")
}

/// What `type` says; without one an input with a `path` is a folder.
fn input_type(input: &Object<'_>) -> InputType {
    match input.text("type") {
        Some("string") => InputType::Parameter(ParameterType::String),
        Some("integer") => InputType::Parameter(ParameterType::Integer),
        Some("number") => InputType::Parameter(ParameterType::Number),
        Some("boolean") => InputType::Parameter(ParameterType::Boolean),
        Some(text) => data_type(text).map_or(InputType::Unknown, InputType::Data),
        None if input.has("type") => InputType::Unknown,
        None => InputType::Any,
    }
}

/// The type of data called `text`.
pub(crate) fn data_type(text: &str) -> Option<DataType> {
    Some(match text {
        "uri_file" => DataType::UriFile,
        "uri_folder" => DataType::UriFolder,
        "mltable" => DataType::Mltable,
        "custom_model" => DataType::CustomModel,
        "mlflow_model" => DataType::MlflowModel,
        "triton_model" => DataType::TritonModel,
        _ => return None,
    })
}

/// Mounts are copies here.
fn input_mode(text: &str) -> InputMode {
    if text == "direct" {
        InputMode::Direct
    } else {
        InputMode::Download
    }
}
