//! What commands are made of: the command itself, code, environment, variables,
//! resources, limits, retries, cache.

use super::Checker;
use super::expression::{Expression, Malformed, Piece, pieces};
use super::fields::{
    BACKOFF, BUILD, CACHE, CUDA, ENVIRONMENT, GPU, LIMITS, RESOURCES, RETRY, Status,
};
use super::loaded::File;
use super::quantity;
use super::read::{Object, entry_place, object, refused};
use super::suggest::did_you_mean;
use super::types::{CodeRef, CommandBody, EnvironmentSpec};
use crate::diagnostic::Diagnostic;
use crate::document::{Entry, Node, Place, resolve_path};
use crate::plan::{CudaPin, RetryPolicy};
use crate::resources::{GpuRequest, Resources};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The names that a command or a variable may use, and which of them may lack a value.
pub(crate) struct Names<'a> {
    pub(crate) inputs: Vec<&'a str>,
    pub(crate) optional: HashSet<&'a str>,
    pub(crate) outputs: Vec<&'a str>,
}

impl Checker<'_> {
    /// Command, code and environment of a job or component.
    pub(crate) fn body(
        &mut self,
        from: &Object<'_>,
        names: &Names<'_>,
    ) -> Option<Arc<CommandBody>> {
        let environment = from
            .get("environment")
            .and_then(|entry| self.environment(entry));
        let code = from.get("code").and_then(|entry| self.code(entry));
        let Some(entry) = from.get("command") else {
            if from.lacks("command") {
                let message = "there is no `command` to run";
                self.out
                    .push(Diagnostic::error("missing-key", message, from.place()));
            }
            return None;
        };
        if entry
            .value
            .as_text()
            .is_some_and(|text| text.trim().is_empty())
        {
            let message = "the command is empty";
            self.out.push(Diagnostic::error(
                "missing-key",
                message,
                entry_place(entry),
            ));
            return None;
        }
        let command = self.template(&entry.value, names, "the command")?;
        Some(Arc::new(CommandBody {
            command,
            place: Some(entry.value.shown_at().clone()),
            code,
            environment,
        }))
    }

    fn code(&mut self, entry: &Entry) -> Option<CodeRef> {
        let text = entry.value.as_text()?;
        let place = entry.value.shown_at();
        if text.starts_with("azureml:") {
            let status = Status::AzureOnly("name a local folder");
            self.out.push(refused(
                "code that is registered in Azure ML",
                status,
                place,
            ));
            return None;
        }
        if text.starts_with("git+") || (text.contains("://") && !text.starts_with("file://")) {
            let status = Status::NotYet("clone it, and name the folder");
            self.out
                .push(refused("code from another place", status, place));
            return None;
        }
        if text.contains("${{") {
            let status = Status::NotYet("write the path itself");
            self.out
                .push(refused("an expression in `code`", status, place));
            return None;
        }
        let path = resolve_path(entry.value.place.source().base(), text);
        Some(CodeRef {
            path,
            place: place.clone(),
        })
    }

    /// Text with expressions, each of which must name something.
    pub(crate) fn template(
        &mut self,
        node: &Node,
        names: &Names<'_>,
        what: &str,
    ) -> Option<Vec<Piece>> {
        let parts = match pieces(node.as_text()?) {
            Ok(parts) => parts,
            Err(error) => {
                let (message, place) = match error {
                    Malformed::Unclosed(nth) => {
                        ("`${{` is not closed by `}}`", node.expression_place(nth))
                    }
                    Malformed::UnclosedOptional => {
                        ("`$[[` is not closed by `]]`", node.shown_at().clone())
                    }
                    Malformed::NestedOptional => (
                        "`$[[` stands inside another optional part",
                        node.shown_at().clone(),
                    ),
                };
                self.out
                    .push(Diagnostic::error("bad-expression", message, &place));
                return None;
            }
        };
        let before = self.errors();
        let mut said = HashSet::new();
        self.pieces(&parts, node, names, what, false, &mut said);
        (self.errors() == before).then_some(parts)
    }

    fn pieces<'p>(
        &mut self,
        parts: &'p [Piece],
        node: &Node,
        names: &Names<'_>,
        what: &str,
        optional: bool,
        said: &mut HashSet<&'p Expression>,
    ) {
        for part in parts {
            match part {
                Piece::Text(_) => {}
                Piece::Optional(inner) => self.pieces(inner, node, names, what, true, said),
                Piece::Expression(expression, nth) => {
                    if said.insert(expression)
                        && let Some(found) = wrong(expression, names, what, optional)
                    {
                        let mut diagnostic = found;
                        diagnostic.place = Some(node.expression_place(*nth));
                        self.out.push(diagnostic);
                    }
                }
            }
        }
    }

    pub(crate) fn variables(
        &mut self,
        from: &Object<'_>,
        names: &Names<'_>,
    ) -> BTreeMap<String, (Vec<Piece>, Place)> {
        let mut variables = BTreeMap::new();
        for entry in from.entries("environment_variables") {
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                let message = format!("`{}` cannot be the name of a variable", entry.key);
                self.out
                    .push(Diagnostic::error("bad-name", message, &entry.key_place));
                continue;
            }
            let Some(_) = entry.value.as_scalar() else {
                let message = format!(
                    "the variable `{}` must be a single value, not {}",
                    entry.key,
                    entry.value.kind()
                );
                self.out
                    .push(Diagnostic::error("wrong-type", message, &entry.key_place));
                continue;
            };
            if let Some(parts) = self.template(&entry.value, names, "a variable") {
                variables.insert(
                    entry.key.to_string(),
                    (parts, entry.value.shown_at().clone()),
                );
            }
        }
        variables
    }

    /// `environment`: a name, a file, or written in place.
    pub(crate) fn environment(&mut self, entry: &Entry) -> Option<Arc<EnvironmentSpec>> {
        let place = entry_place(entry).clone();
        let Some(text) = entry.value.as_text() else {
            return self.inline_environment(&entry.value, &place).map(Arc::new);
        };
        if text.starts_with("azureml:") {
            return Some(Arc::new(EnvironmentSpec {
                asset: Some(text.to_owned()),
                image: None,
                to_build: None,
                cuda: None,
                variables: BTreeMap::new(),
                place,
            }));
        }
        if let Some(file) = text.strip_prefix("file:") {
            let loaded = self.loaded;
            let path = resolve_path(entry.value.place.source().base(), file);
            return match loaded.get(&path) {
                Some(File::Documents(documents)) => {
                    let root = &documents.first()?.root;
                    self.inline_environment(root, &root.place).map(Arc::new)
                }
                Some(File::Broken(found)) => {
                    self.broken_file(&path, found);
                    None
                }
                Some(File::Unreadable(reason)) => {
                    self.unreadable(text, reason, &place);
                    None
                }
                None => {
                    self.unreadable(text, "it was not loaded", &place);
                    None
                }
            };
        }
        let message = format!("`{text}` is not an environment");
        self.out.push(
            Diagnostic::error("unknown-environment", message, &place)
                .help("write `azureml:NAME:VERSION`, or a mapping with `image:`"),
        );
        None
    }

    fn inline_environment(&mut self, node: &Node, place: &Place) -> Option<EnvironmentSpec> {
        let from = object(node, place, &ENVIRONMENT, &mut self.out)?;
        let mut to_build = None;
        if from.has("conda_file") {
            to_build = Some("conda_file");
        }
        if let Some(build) = from.get("build") {
            object(&build.value, &build.key_place, &BUILD, &mut self.out);
            to_build = Some("build");
            if let Some(image) = from.get("image") {
                let message = "an environment has either an `image` or a `build`";
                self.out.push(
                    Diagnostic::error("exclusive-keys", message, &build.key_place)
                        .label(&image.key_place, "the image"),
                );
            }
        }
        let variables = from
            .entries("variables")
            .filter_map(|entry| Some((entry.key.to_string(), entry.value.as_text()?.to_owned())))
            .collect();
        Some(EnvironmentSpec {
            asset: None,
            image: from.owned("image"),
            to_build,
            cuda: from.get("cuda").and_then(|entry| self.cuda(entry)),
            variables,
            place: place.clone(),
        })
    }

    fn cuda(&mut self, entry: &Entry) -> Option<CudaPin> {
        let (version, minor_compatible) = match entry.value.as_mapping() {
            Some(_) => {
                let from = object(&entry.value, &entry.key_place, &CUDA, &mut self.out)?;
                let Some(version) = from.get("version") else {
                    if from.lacks("version") {
                        let message = "`cuda` needs a `version`";
                        self.out
                            .push(Diagnostic::error("missing-key", message, &entry.key_place));
                    }
                    return None;
                };
                (version, from.text("compat") == Some("minor"))
            }
            None => (entry, false),
        };
        let text = version.value.as_text()?;
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Some(CudaPin {
                major,
                minor,
                minor_compatible,
            }),
            _ => {
                let message = format!("`{text}` is not a CUDA version such as \"12.6\"");
                self.out.push(Diagnostic::error(
                    "wrong-type",
                    message,
                    entry_place(version),
                ));
                None
            }
        }
    }

    /// `resources`, over those in `base`.
    pub(crate) fn resources(&mut self, from: &Object<'_>, base: &Resources) -> Resources {
        let mut resources = Resources {
            instances: 1,
            ..base.clone()
        };
        let Some(entry) = from.get("resources") else {
            return resources;
        };
        let Some(asked) = object(&entry.value, &entry.key_place, &RESOURCES, &mut self.out) else {
            return resources;
        };
        if let Some(gpus) = asked.integer("gpus") {
            resources.gpus = u32::try_from(gpus).unwrap_or(u32::MAX);
        }
        if let Some(entry) = asked.get("cpus") {
            match entry.value.as_text().and_then(quantity::cpu_millis) {
                Some(millis) => resources.cpu_millis = Some(millis),
                None => {
                    let message = "`cpus` must be an amount such as 2, 0.5 or 500m";
                    self.out
                        .push(Diagnostic::error("wrong-type", message, entry_place(entry)));
                }
            }
        }
        resources.memory_bytes = asked.bytes("memory").or(resources.memory_bytes);
        resources.ephemeral_storage_bytes = asked
            .bytes("ephemeral_storage")
            .or(resources.ephemeral_storage_bytes);
        resources.shm_bytes = asked.bytes("shm_size").or(resources.shm_bytes);
        resources.instance_type = asked.owned("instance_type").or(resources.instance_type);
        if let Some(count) = asked
            .get("instance_count")
            .filter(|_| asked.integer("instance_count") > Some(1))
        {
            let status = Status::NotYet("one instance");
            self.out.push(refused(
                "a step of several instances",
                status,
                entry_place(count),
            ));
        }
        if let Some(entry) = asked.get("gpu")
            && let Some(gpu) = object(&entry.value, &entry.key_place, &GPU, &mut self.out)
        {
            resources.gpu = Some(GpuRequest {
                model: gpu.owned("model"),
                memory_bytes: gpu.bytes("memory"),
                mig: gpu.owned("mig"),
            });
        }
        resources
    }

    pub(crate) fn timeout(&mut self, from: &Object<'_>) -> Option<u64> {
        let entry = from.get("limits")?;
        object(&entry.value, &entry.key_place, &LIMITS, &mut self.out)?.duration("timeout")
    }

    pub(crate) fn retry(&mut self, from: &Object<'_>) -> RetryPolicy {
        let mut policy = RetryPolicy::default();
        let count = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        let Some(entry) = from.get("retry") else {
            return policy;
        };
        if entry.value.as_mapping().is_none() {
            policy.exit = from
                .integer("retry")
                .map_or(0, |attempts| count(attempts - 1));
            return policy;
        }
        let Some(retry) = object(&entry.value, &entry.key_place, &RETRY, &mut self.out) else {
            return policy;
        };
        if let Some(attempts) = retry.integer("attempts") {
            policy.exit = count(attempts - 1);
            if let Some(both) = retry.get("exit") {
                let message = "`attempts` and `exit` say the same thing: write one of them";
                self.out.push(Diagnostic::error(
                    "exclusive-keys",
                    message,
                    &both.key_place,
                ));
            }
        }
        for (key, budget) in [
            ("exit", &mut policy.exit),
            ("out_of_memory", &mut policy.out_of_memory),
            ("image", &mut policy.image),
            ("preempted", &mut policy.preempted),
            ("evicted", &mut policy.evicted),
            ("node_lost", &mut policy.node_lost),
        ] {
            if let Some(value) = retry.integer(key) {
                *budget = count(value);
            }
        }
        if let Some(entry) = retry.get("backoff") {
            self.backoff(entry, retry.duration("backoff"), &mut policy);
        }
        policy
    }

    fn backoff(&mut self, entry: &Entry, initial: Option<u64>, policy: &mut RetryPolicy) {
        if let Some(initial) = initial {
            policy.backoff_ms = initial;
        } else if let Some(backoff) =
            object(&entry.value, &entry.key_place, &BACKOFF, &mut self.out)
        {
            policy.backoff_ms = backoff.duration("initial").unwrap_or(policy.backoff_ms);
            policy.backoff_max_ms = backoff.duration("max").unwrap_or(policy.backoff_max_ms);
            if let Some(factor) = backoff.get("factor") {
                match backoff.number("factor") {
                    Some(value) if value.is_finite() && value >= 1.0 => {
                        policy.backoff_factor = value
                    }
                    _ => {
                        let message = "`factor` must be a number of at least 1";
                        self.out.push(Diagnostic::error(
                            "out-of-range",
                            message,
                            entry_place(factor),
                        ));
                    }
                }
            }
        }
        policy.backoff_max_ms = policy.backoff_max_ms.max(policy.backoff_ms);
    }

    /// `cache.key` and `cache.max_age` in milliseconds.
    pub(crate) fn cache(&mut self, from: &Object<'_>) -> (Option<String>, Option<u64>) {
        let Some(entry) = from.get("cache") else {
            return (None, None);
        };
        match object(&entry.value, &entry.key_place, &CACHE, &mut self.out) {
            Some(cache) => (cache.owned("key"), cache.duration("max_age")),
            None => (None, None),
        }
    }

    /// The name of a compute or datastore, without `azureml:`.
    pub(crate) fn compute(&mut self, from: &Object<'_>, key: &str) -> Option<String> {
        let node = from.node(key)?;
        let text = node.as_text()?;
        if text.contains("${{") {
            let what = format!("an expression in `{key}`");
            self.out.push(refused(
                &what,
                Status::NotYet("write its name"),
                &node.expression_place(0),
            ));
            return None;
        }
        Some(text.strip_prefix("azureml:").unwrap_or(text).to_owned())
    }
}

/// What is wrong with an expression in a command or a variable; its place is added later.
fn wrong(
    expression: &Expression,
    names: &Names<'_>,
    what: &str,
    optional: bool,
) -> Option<Diagnostic> {
    use crate::diagnostic::Severity::{Error, Warning};
    let error = |code, message| Some(Diagnostic::new(Error, code, message, None));
    match expression {
        Expression::Input(name) if !names.inputs.contains(&name.as_str()) => {
            let help = did_you_mean(name, names.inputs.iter().copied());
            let found = Diagnostic::new(
                Error,
                "unknown-input",
                format!("{what} uses an input `{name}` that the step does not have"),
                None,
            );
            Some(found.maybe_help(help))
        }
        Expression::Input(name) if !optional && names.optional.contains(name.as_str()) => {
            let message = format!("the optional input `{name}` may have no value here");
            let help = format!(
                "write `$[[--{name} ${{{{inputs.{name}}}}}]]`: that part is dropped without a value"
            );
            Some(Diagnostic::new(Warning, "optional-input", message, None).help(help))
        }
        Expression::Output(name) if !names.outputs.contains(&name.as_str()) => {
            let help = did_you_mean(name, names.outputs.iter().copied());
            let found = Diagnostic::new(
                Error,
                "unknown-output",
                format!("{what} uses an output `{name}` that the step does not have"),
                None,
            );
            Some(found.maybe_help(help))
        }
        Expression::Input(_)
        | Expression::Output(_)
        | Expression::Name
        | Expression::DefaultDatastore => None,
        Expression::ParentInput(name) => error(
            "bad-expression",
            format!("{what} cannot reach the pipeline's input `{name}`"),
        )
        .map(|found| found.help("bind it to an input of the step, and use `${{inputs.…}}`")),
        Expression::ParentOutput(_) | Expression::JobOutput(..) => error(
            "bad-expression",
            format!("{what} can use the step's own inputs and outputs alone"),
        )
        .map(|found| found.help("bind it to an input of the step, and use `${{inputs.…}}`")),
        Expression::SearchSpace(_) => error(
            "not-yet",
            "`search_space` belongs to sweeps, which are not built yet".to_owned(),
        ),
        Expression::OutputName | Expression::Other(_) => {
            let text = match expression {
                Expression::Other(text) => text.as_str(),
                _ => "output_name",
            };
            error(
                "bad-expression",
                format!("`{text}` is not an expression that {what} can use"),
            )
            .map(|found| {
                found.help("known here: `inputs.NAME`, `outputs.NAME`, `name`, `default_datastore`")
            })
        }
    }
}
