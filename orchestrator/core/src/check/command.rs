//! What commands are made of: the command itself, code, environment, variables,
//! resources, limits, retries, cache.

use super::Checker;
use super::expression::{Expression, Malformed, Piece, meant, pieces};
use super::fields::{
    BACKOFF, BUILD, CACHE, CUDA, ENVIRONMENT, GPU, KEEP_WARM, LIMITS, RESOURCES, RETRY, Status,
};
use super::loaded::File;
use super::quantity;
use super::read::{Object, entry_place, object, refused, shown};
use super::types::{BuildSpec, CodeRef, CommandBody, CondaFile, EnvironmentSpec, InputDecl};
use crate::diagnostic::suggest::{did_you_mean, or_none};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Entry, Node, Place, resolve_path};
use crate::plan::{CudaPin, KeepWarm, RetryPolicy};
use crate::resources::{GpuRequest, Resources};
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The names that a command or a variable may use, and which of them may lack a value.
pub(crate) struct Names<'a> {
    inputs: Vec<&'a str>,
    has_input: HashSet<&'a str>,
    optional: HashSet<&'a str>,
    outputs: Vec<&'a str>,
    has_output: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(inputs: &[&'a InputDecl], outputs: &[&'a str]) -> Self {
        let absent = |input: &&&InputDecl| input.optional && input.default.is_none();
        let name = |input: &&'a InputDecl| input.name.as_str();
        Self {
            inputs: inputs.iter().map(name).collect(),
            has_input: inputs.iter().map(name).collect(),
            optional: inputs.iter().filter(absent).map(name).collect(),
            outputs: outputs.to_vec(),
            has_output: outputs.iter().copied().collect(),
        }
    }
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
                self.out.push(
                    Diagnostic::error(Code::MissingKey, message, from.place())
                        .help("write `command: …`, or name a component: `component: ./file.yml`"),
                );
            }
            return None;
        };
        if entry
            .value
            .as_text()
            .is_some_and(|text| text.trim().is_empty())
        {
            let message = "the command is empty";
            self.out.push(
                Diagnostic::error(Code::EmptyCommand, message, entry_place(entry))
                    .help("write what the step runs; `true` does nothing, and succeeds"),
            );
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
        self.names_file(&path, place);
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
                let found = match error {
                    Malformed::Unclosed(nth) => {
                        self.malformed(node, nth);
                        return None;
                    }
                    Malformed::UnclosedOptional(nth) => {
                        let place = node.mark_place("$[[", nth);
                        let message = "this optional part, `$[[`, is not closed by `]]`";
                        Diagnostic::error(Code::UnclosedExpression, message, &place)
                            .help("write `$[[--flag ${{inputs.NAME}}]]`")
                    }
                    Malformed::NestedOptional(nth) => {
                        let place = node.mark_place("$[[", nth);
                        let message = "an optional part, `$[[`, stands inside another one";
                        Diagnostic::error(Code::BadExpression, message, &place)
                            .help("close the first one by `]]` before the second one begins")
                    }
                };
                self.out.push(found);
                return None;
            }
        };
        let before = self.errors();
        let mut said = HashSet::new();
        let places = OnceCell::new();
        self.pieces(&parts, node, names, what, false, &mut said, &places);
        (self.errors() == before).then_some(parts)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one walk through a text, and what it has found so far"
    )]
    fn pieces<'p>(
        &mut self,
        parts: &'p [Piece],
        node: &Node,
        names: &Names<'_>,
        what: &str,
        optional: bool,
        said: &mut HashSet<&'p Expression>,
        places: &OnceCell<Vec<Place>>,
    ) {
        for part in parts {
            match part {
                Piece::Text(_) => {}
                Piece::Optional(inner) => self.pieces(inner, node, names, what, true, said, places),
                Piece::Expression(expression, nth) => {
                    if !self.out.is_full()
                        && said.insert(expression)
                        && let Some(mut found) = wrong(expression, names, what, optional)
                    {
                        let places = places.get_or_init(|| node.expression_places());
                        found.place = places.get(*nth).or(Some(node.shown_at())).cloned();
                        self.out.push(found);
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
                self.out.push(
                    Diagnostic::error(Code::BadName, message, &entry.key_place)
                        .help("letters, digits and `_`; the value goes behind the `:`"),
                );
                continue;
            }
            let Some(_) = entry.value.as_scalar() else {
                let message = format!(
                    "the variable `{}` must be a single value, not {}",
                    entry.key,
                    entry.value.kind()
                );
                self.out.push(
                    Diagnostic::error(Code::WrongType, message, &entry.key_place)
                        .help("write it as text in quotes; a program can read JSON from it"),
                );
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
                build: None,
                conda: None,
                cuda: None,
                variables: BTreeMap::new(),
                place,
            }));
        }
        if let Some(file) = text.strip_prefix("file:") {
            let loaded = self.loaded;
            let path = resolve_path(entry.value.place.source().base(), file);
            return match loaded.get(&path) {
                Some(File::Read(parsed)) => {
                    self.broken_file(&path, &parsed.errors);
                    let document = parsed.documents.first()?;
                    let from = self.out.len();
                    let root = &document.root;
                    let start = root.place.range().start;
                    let top = Place::new(&document.source, start..start);
                    let spec = self.inline_environment(root, &top).map(Arc::new);
                    if document.unfinished.is_some() {
                        self.keep_certain(from, &document.source);
                        return None;
                    }
                    spec
                }
                Some(File::Unreadable(reason)) => {
                    self.unreadable(text, reason, &place);
                    None
                }
                None => {
                    self.unreadable(text, &loaded.why_not(), &place);
                    None
                }
            };
        }
        let message = format!("`{text}` is not an environment");
        self.out.push(
            Diagnostic::error(Code::UnknownEnvironment, message, &place).help(format!(
                "an image is written `environment: {{image: \"{text}\"}}`; others: `azureml:NAME:VERSION`, `file:./environment.yml`"
            )),
        );
        None
    }

    fn inline_environment(&mut self, node: &Node, place: &Place) -> Option<EnvironmentSpec> {
        let from = object(node, place, &ENVIRONMENT, &mut self.out)?;
        let conda = from.get("conda_file").map(conda_file);
        let mut folder = None;
        if let Some(build) = from.get("build") {
            folder = self.build(build);
            let others = [
                (
                    "image",
                    "an environment has either an `image` or a `build`",
                    "the image",
                    "take one of them away: a build makes the image",
                ),
                (
                    "conda_file",
                    "an environment has either a `conda_file` or a `build`",
                    "the file",
                    "take one of them away: a Dockerfile can install the packages",
                ),
            ];
            for (key, message, label, help) in others {
                if let Some(other) = from.get(key) {
                    self.out.push(
                        Diagnostic::error(Code::ExclusiveKeys, message, &build.key_place)
                            .label(&other.key_place, label)
                            .help(help),
                    );
                }
            }
        }
        let variables = from
            .entries("variables")
            .filter_map(|entry| Some((entry.key.to_string(), entry.value.as_text()?.to_owned())))
            .collect();
        Some(EnvironmentSpec {
            asset: None,
            image: from.owned("image"),
            build: folder,
            conda,
            cuda: from.get("cuda").and_then(|entry| self.cuda(entry)),
            variables,
            place: place.clone(),
        })
    }

    /// `build`: a folder and the Dockerfile in it.
    fn build(&mut self, entry: &Entry) -> Option<BuildSpec> {
        let from = object(&entry.value, &entry.key_place, &BUILD, &mut self.out)?;
        let Some(path) = from.get("path") else {
            if from.lacks("path") {
                let message = "`build` needs a `path`: the folder with the Dockerfile";
                self.out.push(
                    Diagnostic::error(Code::MissingKey, message, &entry.key_place)
                        .help("write `build: {path: ./folder}`"),
                );
            }
            return None;
        };
        let text = path.value.as_text()?;
        if text.contains("://") && !text.starts_with("file://") {
            let status = Status::NotYet("clone it, and name the folder");
            let place = path.value.shown_at();
            self.out
                .push(refused("building from another place", status, place));
            return None;
        }
        let folder = resolve_path(path.value.place.source().base(), text);
        self.names_file(&folder, path.value.shown_at());
        Some(BuildSpec {
            path: folder,
            dockerfile: from
                .owned("dockerfile_path")
                .unwrap_or_else(|| "Dockerfile".to_owned()),
        })
    }

    fn cuda(&mut self, entry: &Entry) -> Option<CudaPin> {
        let (version, minor_compatible) = match entry.value.as_mapping() {
            Some(_) => {
                let from = object(&entry.value, &entry.key_place, &CUDA, &mut self.out)?;
                let Some(version) = from.get("version") else {
                    if from.lacks("version") {
                        let message = "`cuda` needs a `version`";
                        self.out.push(
                            Diagnostic::error(Code::MissingKey, message, &entry.key_place)
                                .help("write `cuda: {version: \"12.6\"}`"),
                        );
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
                let message = format!("`{text}` is not a CUDA version");
                self.out.push(
                    Diagnostic::error(Code::BadVersion, message, entry_place(version))
                        .help("write major and minor, in quotes: `\"12.6\"`"),
                );
                None
            }
        }
    }

    /// `resources`, over those in `base`.
    pub(crate) fn resources(&mut self, from: &Object<'_>, base: &Resources) -> Resources {
        let mut resources = Resources {
            instances: base.instances.max(1),
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
                    let message = format!(
                        "`cpus` must be an amount of CPUs, not {}",
                        shown(&entry.value)
                    );
                    self.out.push(
                        Diagnostic::error(Code::BadAmount, message, entry_place(entry))
                            .help("write CPUs or thousandths of them: `2`, `0.5`, `500m`"),
                    );
                }
            }
        }
        resources.memory_bytes = asked.bytes("memory").or(resources.memory_bytes);
        resources.ephemeral_storage_bytes = asked
            .bytes("ephemeral_storage")
            .or(resources.ephemeral_storage_bytes);
        resources.shm_bytes = asked.bytes("shm_size").or(resources.shm_bytes);
        resources.instance_type = asked.owned("instance_type").or(resources.instance_type);
        if let Some(count) = asked.integer("instance_count") {
            resources.instances = u32::try_from(count).unwrap_or(u32::MAX);
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
                self.out.push(
                    Diagnostic::error(Code::ExclusiveKeys, message, &both.key_place)
                        .help("`attempts` counts the first one too: `attempts: 3` is `exit: 2`"),
                );
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
                        self.out.push(
                            Diagnostic::error(Code::OutOfRange, message, entry_place(factor))
                                .help("`1` waits as long each time, `2` twice as long each time"),
                        );
                    }
                }
            }
        }
        policy.backoff_max_ms = policy.backoff_max_ms.max(policy.backoff_ms);
    }

    /// `keep_warm`, in both of its forms.
    pub(crate) fn keep_warm(&mut self, from: &Object<'_>) -> Option<KeepWarm> {
        let entry = from.get("keep_warm")?;
        if entry.value.as_mapping().is_none() {
            if entry.value.as_text() == Some("pod") {
                let status = Status::NotYet("write `process`, which a server on one machine keeps");
                let what = "`keep_warm: pod`";
                self.out.push(refused(what, status, entry_place(entry)));
            }
            return Some(KeepWarm::default());
        }
        let warm = object(&entry.value, &entry.key_place, &KEEP_WARM, &mut self.out)?;
        Some(KeepWarm {
            start: warm.owned("process"),
        })
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
        Expression::Input(name) if !names.has_input.contains(name.as_str()) => {
            let help = did_you_mean(name, names.inputs.iter().copied());
            let found = Diagnostic::new(
                Error,
                Code::UnknownInput,
                format!("{what} uses an input `{name}` that the step does not have"),
                None,
            );
            Some(found.help(or_none(help)))
        }
        Expression::Input(name) if !optional && names.optional.contains(name.as_str()) => {
            let message = format!("the optional input `{name}` may have no value here");
            let help = format!(
                "write `$[[--{name} ${{{{inputs.{name}}}}}]]`: that part is dropped without a value"
            );
            Some(Diagnostic::new(Warning, Code::OptionalInput, message, None).help(help))
        }
        Expression::Output(name) if !names.has_output.contains(name.as_str()) => {
            let help = did_you_mean(name, names.outputs.iter().copied());
            let found = Diagnostic::new(
                Error,
                Code::UnknownOutput,
                format!("{what} uses an output `{name}` that the step does not have"),
                None,
            );
            Some(found.help(or_none(help)))
        }
        Expression::Input(_)
        | Expression::Output(_)
        | Expression::Name
        | Expression::DefaultDatastore => None,
        Expression::ParentInput(name) => error(
            Code::BadExpression,
            format!("{what} cannot reach the pipeline's input `{name}`"),
        )
        .map(|found| found.help("bind it to an input of the step, and use `${{inputs.…}}`")),
        Expression::ParentOutput(_) | Expression::JobOutput(..) => error(
            Code::BadExpression,
            format!("{what} can use the step's own inputs and outputs alone"),
        )
        .map(|found| found.help("bind it to an input of the step, and use `${{inputs.…}}`")),
        Expression::SearchSpace(_) => error(
            Code::NotYet,
            "`search_space` belongs to sweeps, which are not built yet".to_owned(),
        )
        .map(|found| found.help("instead: write the value itself")),
        Expression::OutputName | Expression::Other(_) => {
            let text = match expression {
                Expression::Other(text) => text.as_str(),
                _ => "output_name",
            };
            error(
                Code::BadExpression,
                format!("`{text}` is not an expression that {what} can use"),
            )
            .map(|found| {
                let named = names
                    .has_input
                    .get(text)
                    .map(|name| format!("inputs.{name}"));
                let meant =
                    named.or_else(|| meant(text).filter(|meant| !meant.starts_with("parent.")));
                found.help(match meant {
                    Some(meant) => format!("did you mean `${{{{{meant}}}}}`?"),
                    None => {
                        "known here: `inputs.NAME`, `outputs.NAME`, `name`, `default_datastore`"
                            .to_owned()
                    }
                })
            })
        }
    }
}

/// `conda_file`: a path, or written in place.
fn conda_file(entry: &Entry) -> CondaFile {
    let base = entry.value.place.source().base();
    match entry.value.as_text() {
        Some(path) => CondaFile::Path(resolve_path(base, path)),
        None => CondaFile::Inline {
            text: entry.value.to_json().to_string(),
            folder: resolve_path(base, "."),
        },
    }
}
