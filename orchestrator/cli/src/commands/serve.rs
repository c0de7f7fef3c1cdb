//! `serve`: the API of this machine, and what drives the runs that are submitted to it. It
//! joins `server` with this machine's executors and its planning.

use crate::args::{Global, Serve};
use crate::config::Config;
use crate::drive;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::load;
use crate::machine::{self, Local};
use crate::open;
use crate::plans::Plans;
use crate::server;
use async_trait::async_trait;
use auria_core::plan::{Environment, Plan};
use auria_launcher::runtime::RuntimeRoot;
use auria_server::Listening;
use auria_server::access::{Access, limit::Limits, secret};
use auria_server::api::{Api, ApiOptions, Extras};
use auria_server::auria::Auria;
use auria_server::endpoints::Endpoints;
use auria_server::local::{Executors, LocalOptions, LocalRuns};
use auria_server::pages::Pages;
use auria_server::schedules::Schedules;
use auria_store::{Access as StoreAccess, Store};
use nix::sys::resource::{Resource, getrlimit};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, watch};

/// How long answers that are under way may go on when the server ends.
const GRACE: Duration = Duration::from_secs(3);

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
    let planner = Arc::new(Plans::here(store.clone(), global.on.clone(), config));
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

/// Connections at once: half of the files that this process may have open. The others are for
/// what it answers with, and for the runs that it drives.
fn connections() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft / 2).unwrap_or(usize::MAX)
}
