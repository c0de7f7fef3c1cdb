//! `serve`: the API of this machine, and what drives the runs that are submitted to it. It
//! joins `server` with this machine's executors and its planning.

use crate::args::{Global, OutputFormat, PipelineFile, Serve};
use crate::commands::submit;
use crate::config::Config;
use crate::drive;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::load::{self, Which};
use crate::machine::{self, Local};
use crate::open;
use crate::planning::{self, Bounds};
use crate::server;
use async_trait::async_trait;
use auria_core::check::{Bound, InputDecl, InputType, Location, ParameterType};
use auria_core::diagnostic::Diagnostic;
use auria_core::plan::{DataType, Environment, Plan};
use auria_core::planner::Target;
use auria_launcher::runtime::RuntimeRoot;
use auria_server::Listening;
use auria_server::access::{Access, limit::Limits, secret};
use auria_server::api::{Api, ApiOptions, Extras};
use auria_server::auria::Auria;
use auria_server::endpoints::Endpoints;
use auria_server::local::{Executors, LocalOptions, LocalRuns};
use auria_server::pages::Pages;
use auria_server::schedules::Schedules;
use auria_server::submission::{
    Files, InputFacts, InputKind, NotSubmitted, Planner, Submission, TargetFacts,
};
use auria_store::runs::{self, RunJson, RunState, Submitter};
use auria_store::{Access as StoreAccess, ErrorKind, Store, snapshot};
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore, watch};

/// How long answers that are under way may go on when the server ends.
const GRACE: Duration = Duration::from_secs(3);
/// Submissions that are planned at once: each reads and hashes files.
const PLANNED_AT_ONCE: usize = 4;

/// Answers until it is asked to end.
///
/// # Errors
/// Where the address or the store cannot be used.
pub async fn serve(global: &Global, args: &Serve) -> Result<u8, Failure> {
    if !args.listen.ip().is_loopback() && !args.expose {
        return Err(Failure::usage(format!(
            "{} is reached from other machines, and tokens would go there in the clear",
            args.listen
        ))
        .help("put a proxy with TLS in front and add `--expose`, or listen on 127.0.0.1"));
    }
    if args.runs == 0 {
        return Err(Failure::usage("--runs 0: nothing would ever run").help("use 1 or more"));
    }
    let folder = open::current_folder()?;
    let config = Config::find(&folder)?;
    let url = open::store_url_upward(global, &config, &folder)?;
    let listener = TcpListener::bind(args.listen).map_err(|error| {
        Failure::unreachable(format!("listening on {}: {error}", args.listen))
            .help("`--listen 127.0.0.1:0` takes any port that is free")
    })?;
    let store = Store::open(&url, StoreAccess::Write).await?;
    let runtime = drive::runtime()?;
    let here = Here {
        process: Arc::new(Local::Process(machine::serving(
            &store,
            runtime.clone(),
            args.warm_memory,
        )?)),
        docker: OnceCell::new(),
        store: store.clone(),
        runtime: runtime.clone(),
        computes: config.computes.keys().cloned().collect(),
    };
    let runs = Arc::new(LocalRuns::new(LocalOptions {
        store: store.clone(),
        executors: here,
        runtime: runtime.path().to_owned(),
        at_once: args.runs,
        queue: args.queue,
        name: format!("server {} on {}", std::process::id(), edge::host()),
        now: edge::now,
    }));
    let planner = Arc::new(Plans {
        global: Global {
            store: Some(url.to_string()),
            on: global.on.clone(),
            context: None,
            namespace: None,
            server: None,
            output: OutputFormat::Text,
        },
        config: Config {
            server: None,
            ..config
        },
        store: store.clone(),
        turns: Semaphore::new(PLANNED_AT_ONCE),
    });
    let own = secret();
    let access = Arc::new(Access::new(store.clone(), &own, edge::user(), edge::now));
    let mut extras = Extras::none(edge::now);
    extras.queue = Some(runs.clone());
    extras.planner = Some(planner);
    let api = Api::with(
        ApiOptions {
            store: store.clone(),
            vouch: access.clone(),
            runs: runs.clone(),
            sign: false,
            store_authorities: None,
        },
        extras,
    );
    let taken = runs.recover().await?;
    let endpoints = Endpoints::new(api.clone(), access.clone());
    let schedules = Schedules::new(api.clone(), access.clone());
    let beside = access
        .routes()
        .merge(endpoints.routes())
        .merge(schedules.routes());
    let router = api.router_with(beside, endpoints.published());
    let pages = Pages::new(
        api.clone(),
        access.clone(),
        endpoints.clone(),
        schedules.clone(),
    );
    let mut router = router.merge(pages.router());
    let auria = args
        .auria
        .as_deref()
        .map(|endpoint| Auria::new(api.clone(), endpoints.clone(), endpoint, &args.auria_works));
    if let Some(auria) = &auria {
        router = router.merge(auria.router());
    }
    let limits = Limits::new(access.clone());
    let mut port = Listening::plain(listener, limits.around(router), connections())
        .map_err(|error| Failure::unreachable(format!("listening on {}: {error}", args.listen)))?;
    let left = OwnToken::leave(port.address(), &own)?;
    eprintln!("serves {url} at http://{}", port.address());
    if args.auria.is_some() {
        eprintln!("Auria's page: http://{}/auria", port.address());
    }
    if taken > 0 {
        eprintln!("takes up {}", load::count(taken, "run"));
    }
    let asked = asked_to_end()?;
    let (ends, ending) = watch::channel(false);
    let mut ends_too = ends.subscribe();
    let drives = async {
        let studio = async {
            // It has no end of its own.
            if let Some(auria) = &auria {
                tokio::select! {
                    () = auria.run() => {}
                    _ = ends_too.wait_for(|ended| *ended) => {}
                }
            }
        };
        tokio::join!(runs.clone().run(), schedules.run(ending), studio);
    };
    tokio::pin!(drives);
    let failed = tokio::select! {
        () = &mut drives => None,
        ended = port.ended() => Some(ended),
        () = asked => None,
    };
    drop(left);
    // Steps go on, and the next server finds them.
    let _ = ends.send(true);
    runs.end();
    let ending = async {
        tokio::join!(drives, async {
            match &failed {
                Some(_) => Ok(()),
                // Cut off by the grace alone: there is nobody to tell.
                None => port.stop(GRACE).await,
            }
        })
    };
    let again = asked_to_end()?;
    tokio::select! {
        ended = ending => drop(ended),
        // Asked twice, it ends at once; the next server finds the runs all the same.
        () = again => {}
    }
    match failed {
        Some(ended) => Err(Failure::unreachable(format!(
            "the port ended: {}",
            ended.map_or_else(
                |error| error.to_string(),
                |()| "nobody asked it to".to_owned()
            )
        ))),
        None => {
            eprintln!("ended; runs that have not ended go on with the next `auria-pipeline serve`");
            Ok(exit::DONE)
        }
    }
}

/// Waits for SIGTERM, SIGHUP (its terminal is gone) or Ctrl-C.
fn asked_to_end() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let open = |kind| {
        signal(kind)
            .map_err(|error| Failure::unreachable(format!("listening for signals: {error}")))
    };
    let (mut terminate, mut interrupt, mut hangup) = (
        open(SignalKind::terminate())?,
        open(SignalKind::interrupt())?,
        open(SignalKind::hangup())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// The token of this user, for the programs of this user on this machine; gone with the server.
struct OwnToken(PathBuf);

impl OwnToken {
    fn leave(address: SocketAddr, token: &str) -> Result<Self, Failure> {
        use std::io::Write;
        let path = server::token_file(&address.to_string())?;
        // That of a server that was killed: its token counts for nothing any more.
        let _ = std::fs::remove_file(&path);
        let made = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{token}"));
        made.map_err(|error| Failure::unreachable(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for OwnToken {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// This machine's executors: that of processes, and that of containers where a run needs it.
struct Here {
    process: Arc<Local>,
    docker: OnceCell<Arc<Local>>,
    store: Store,
    runtime: RuntimeRoot,
    computes: Vec<String>,
}

#[async_trait]
impl Executors for Here {
    type Executor = Local;

    async fn of(&self, plan: &Plan) -> Result<Arc<Local>, String> {
        let contained = |env: &Environment| matches!(env, Environment::Image { .. });
        if !plan.steps.iter().any(|step| contained(&step.environment)) {
            return Ok(self.process.clone());
        }
        let made = self.docker.get_or_try_init(|| async {
            let made = machine::executor(&self.store, self.runtime.clone(), plan).await;
            made.map(Arc::new)
        });
        made.await.cloned().map_err(|failure| failure.to_string())
    }

    fn misfits(&self, plan: &Plan) -> Vec<String> {
        machine::misfits(plan)
    }

    fn computes(&self) -> Vec<String> {
        self.computes.clone()
    }
}

/// Plans submissions as `submit` does.
struct Plans {
    global: Global,
    config: Config,
    store: Store,
    turns: Semaphore,
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

/// Connections at once: half of the files that this process may have open. The others are for
/// what it answers with, and for the runs that it drives.
fn connections() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft / 2).unwrap_or(usize::MAX)
}
