//! Makes runs of what is submitted to a server or a controller, as `submit` makes them: a
//! document or a snapshot becomes a plan in a folder of its own, which it cannot leave.

use crate::args::{Global, OutputFormat, PipelineFile};
use crate::cluster::serve::Namespace;
use crate::commands::submit;
use crate::config::Config;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::load::{self, Which};
use crate::planning::{self, Bounds};
use crate::target::KUBERNETES;
use async_trait::async_trait;
use auria_core::check::{Bound, InputDecl, InputType, Location, ParameterType};
use auria_core::diagnostic::Diagnostic;
use auria_core::plan::DataType;
use auria_core::planner::Target;
use auria_server::submission::{
    Files, InputFacts, InputKind, NotSubmitted, Planner, Submission, TargetFacts,
};
use auria_store::runs::{self, RunJson, RunState, Submitter};
use auria_store::{ErrorKind, Store, snapshot};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Submissions that are planned at once: each reads and hashes files.
const PLANNED_AT_ONCE: usize = 4;

/// Plans submissions as `submit` does.
pub struct Plans {
    global: Global,
    config: Config,
    store: Store,
    turns: Semaphore,
    /// The cluster whose nodes run the steps, where they do.
    cluster: Option<Arc<Namespace>>,
}

impl Plans {
    /// For runs of this machine, on the target `on` where one is said.
    pub fn here(store: Store, on: Option<String>, config: Config) -> Self {
        Self::of(store, on, config, None)
    }

    /// For runs of a cluster: of `config`, its computes count alone.
    pub fn on_cluster(store: Store, mut config: Config, cluster: Arc<Namespace>) -> Self {
        let computes = &mut config.computes;
        computes.retain(|_, compute| compute.target == KUBERNETES);
        Self::of(store, Some(KUBERNETES.to_owned()), config, Some(cluster))
    }

    fn of(
        store: Store,
        on: Option<String>,
        config: Config,
        cluster: Option<Arc<Namespace>>,
    ) -> Self {
        Self {
            global: Global {
                store: Some(store.url().to_string()),
                on,
                context: None,
                namespace: None,
                server: None,
                output: OutputFormat::Text,
            },
            config: Config {
                server: None,
                ..config
            },
            store,
            turns: Semaphore::new(PLANNED_AT_ONCE),
            cluster,
        }
    }
}

#[async_trait]
impl Planner for Plans {
    async fn submit(&self, submission: Submission) -> Result<RunJson, NotSubmitted> {
        let found = self.found(&submission).await?;
        if let Some(run) = found.as_ref().filter(|run| run.state == RunState::Ready) {
            return Ok(run.clone());
        }
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(unavailable("the server ends"));
        };
        let folder = tempfile::tempdir().map_err(|error| unavailable(&error))?;
        let file = self.bring(&submission.files, folder.path()).await?;
        let mut said: Vec<Diagnostic> = Vec::new();
        let mut say = |found: &[Diagnostic], _names: &[String]| {
            said.extend_from_slice(found);
            if found.iter().any(Diagnostic::is_error) {
                return Err(Failure::usage("the pipeline is not valid"));
            }
            Ok(())
        };
        let file = PipelineFile {
            file,
            pipeline: submission.pipeline.clone(),
            set: submission.set.clone(),
        };
        let bounds = Bounds {
            within: folder.path(),
            config: &self.config,
            internal: submission.internal,
            cluster: self.cluster.as_deref(),
        };
        let name = submission.run.as_str();
        let planned = planning::plan_within(
            &self.global,
            &file,
            Some(name),
            submission.force_rerun,
            Some(bounds),
            &mut say,
        );
        let planned = planned.await;
        let mut planned = match planned {
            Ok(planned) => planned,
            Err(failure) => return Err(self.refused(&failure, &said, folder.path())),
        };
        if let Some(experiment) = &submission.experiment {
            planned.plan.experiment.clone_from(experiment);
        }
        // The folder is gone when the run goes on.
        planned.sources.clear();
        let by = Submitter {
            user: submission.by.clone(),
            host: edge::host(),
        };
        let made = match found {
            // An earlier server was killed while it brought what the run needs.
            Some(run) => submit::finish(&self.store, &planned, run).await,
            None => submit::create(&self.store, planned, by, submission.nonce.clone()).await,
        };
        made.map_err(|failure| match failure.code {
            exit::USAGE => NotSubmitted::Taken {
                message: failure.to_string(),
            },
            _ => unavailable(&failure),
        })
    }

    async fn inputs(
        &self,
        files: &Files,
        pipeline: Option<&str>,
        set: &[String],
    ) -> Result<Vec<InputFacts>, NotSubmitted> {
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(unavailable("the server ends"));
        };
        let folder = tempfile::tempdir().map_err(|error| unavailable(&error))?;
        let file = self.bring(files, folder.path()).await?;
        let which = pipeline.map_or(Which::First, Which::Named);
        let checked = load::check_within(&file, which, set, Some(folder.path()));
        let checked = checked.map_err(|failure| invalid(failure.to_string()))?;
        let found = checked.pipelines.first();
        let found = found.ok_or_else(|| invalid("the pipeline is not valid".to_owned()))?;
        let inputs = found.graph.inputs.iter();
        Ok(inputs
            .map(|decl| facts(decl, found.values.get(&decl.name)))
            .collect())
    }

    async fn target(&self, words: BTreeSet<String>) -> Result<TargetFacts, String> {
        if self.cluster.is_some() {
            return Err(
                "steps run in Pods of this cluster: submit with `--on kubernetes`".to_owned(),
            );
        }
        let target = planning::here(words.iter().map(String::as_str));
        match target.map_err(|failure| failure.to_string())? {
            Target::Process {
                os,
                arch,
                host,
                executables,
            } => Ok(TargetFacts {
                target: "process".to_owned(),
                os,
                arch,
                host,
                executables,
            }),
            Target::Image { .. } => Err("this machine runs processes".to_owned()),
        }
    }
}

impl Plans {
    /// The run that an earlier try of this submission made.
    async fn found(&self, submission: &Submission) -> Result<Option<RunJson>, NotSubmitted> {
        match runs::read(&self.store, &submission.run).await {
            Ok(run) if run.nonce == submission.nonce => Ok(Some(run)),
            Ok(run) => Err(NotSubmitted::Taken {
                message: format!(
                    "there is a run {} already; give another name, or none",
                    run.run
                ),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Brings the files of a submission into `folder`; where the pipeline file is then.
    async fn bring(&self, files: &Files, folder: &Path) -> Result<PathBuf, NotSubmitted> {
        match files {
            Files::Text(text) => {
                let path = folder.join("pipelines.yaml");
                let written = tokio::fs::write(&path, text).await;
                written.map_err(|error| unavailable(&error))?;
                Ok(path)
            }
            Files::Snapshot { digest, file } => {
                let inside = Path::new(file).components();
                if !inside
                    .clone()
                    .all(|part| matches!(part, Component::Normal(_)))
                {
                    return Err(invalid(format!("`{file}` is no file of a snapshot")));
                }
                let fetched = snapshot::fetch(&self.store, digest, DataType::UriFolder, folder);
                fetched.await.map_err(|error| match error.kind() {
                    ErrorKind::NotFound | ErrorKind::Corrupt => invalid(error.to_string()),
                    _ => unavailable(&error),
                })?;
                Ok(folder.join(file))
            }
        }
    }

    /// What is wrong, without the folder that the caller does not know.
    fn refused(&self, failure: &Failure, said: &[Diagnostic], folder: &Path) -> NotSubmitted {
        let prefix = format!("{}/", folder.display());
        let text = failure.to_string().replace(&prefix, "");
        if failure.code != exit::USAGE {
            return unavailable(&text);
        }
        let diagnostics = serde_json::to_string(said).unwrap_or_default();
        let diagnostics = serde_json::from_str(&diagnostics.replace(&prefix, ""));
        NotSubmitted::Invalid {
            message: text,
            diagnostics: diagnostics.unwrap_or_default(),
        }
    }
}

/// What is told of an input, and of the value that it has in the pipeline.
fn facts(decl: &InputDecl, value: Option<&Bound>) -> InputFacts {
    let shown = |bound: &Bound| match bound {
        Bound::Literal(literal) => Some(literal.text.clone()),
        Bound::Data(data) => Some(match &data.location {
            // As its author wrote it: the folder that it lies in now is nobody's.
            Location::Local(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
            Location::Asset(name) | Location::Uri(name) => name.clone(),
        }),
        Bound::Parent { .. } | Bound::Step { .. } => None,
    };
    let value = value.or(decl.default.as_ref());
    let kind = match (decl.input_type, value) {
        (InputType::Parameter(ParameterType::Integer), _) => InputKind::Integer,
        (InputType::Parameter(ParameterType::Number), _) => InputKind::Number,
        (InputType::Parameter(ParameterType::Boolean), _) => InputKind::Boolean,
        (InputType::Data(_), _) | (_, Some(Bound::Data(_))) => InputKind::Data,
        _ => InputKind::Text,
    };
    InputFacts {
        name: decl.name.clone(),
        kind,
        optional: decl.optional,
        default: value.and_then(shown),
        min: decl.min,
        max: decl.max,
        choices: decl.choices.iter().map(|one| one.text.clone()).collect(),
    }
}

fn invalid(message: String) -> NotSubmitted {
    NotSubmitted::Invalid {
        message,
        diagnostics: serde_json::Value::Array(Vec::new()),
    }
}

fn unavailable(why: &(impl std::fmt::Display + ?Sized)) -> NotSubmitted {
    NotSubmitted::Unavailable {
        message: why.to_string(),
    }
}
