//! From a file and arguments to a plan, with all that has to be looked up on this
//! machine on the way: snapshots, programs, registered models, what can ever fit.
//! Nothing is written.

use crate::args::{Global, PipelineFile};
use crate::cluster::Controller;
use crate::cluster::serve::Namespace;
use crate::config::Config;
use crate::edge;
use crate::failure::Failure;
use crate::load::{self, Which};
use crate::machine;
use crate::open::{self, Place};
use crate::server;
use crate::target::{self, Chosen, NotChosen};
use auria_core::check::Pipeline;
use auria_core::diagnostic::{Code, Diagnostic, sort};
use auria_core::plan::{Executable, Plan};
use auria_core::planner::{self, Asset, Facts, Snapshot, Target, UriNeed};
use auria_core::{Digest, RunId};
use auria_server::api::Runs;
use auria_server::submission::new_run;
use auria_store::snapshot::{self, ScannedSnapshot};
use auria_store::{Access, StoreError, artifact, external, registry};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Time between SIGTERM and SIGKILL.
const GRACE_MS: u64 = 10_000;

/// What a run will do, and what has to be brought to the store for it.
pub struct Planned {
    /// The run's name.
    pub run: RunId,
    /// What it will do.
    pub plan: Plan,
    /// Content of local paths and of registered models.
    pub snapshots: Vec<ScannedSnapshot>,
    /// Where each snapshot came from.
    pub sources: BTreeMap<Digest, PathBuf>,
    /// Where the run is kept.
    pub place: Place,
    /// Where its steps run, as `--on` writes it.
    pub target: &'static str,
    /// Copies of registered models, until they are uploaded.
    _staged: Vec<tempfile::TempDir>,
}

/// What is said of a file while it is planned: an error where that ends it.
pub type Say<'a> = &'a mut (dyn FnMut(&[Diagnostic], &[String]) -> Result<(), Failure> + Send);

/// What a plan may draw on that somebody else sent.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// Nothing outside of this folder is read.
    pub within: &'a Path,
    /// The config that holds.
    pub config: &'a Config,
    /// Whether inputs may be read from addresses that the public does not reach.
    pub internal: bool,
    /// The cluster that the plan is for, where this program is its controller.
    pub cluster: Option<&'a Namespace>,
}

/// Reads, checks and plans the pipeline that `file` means.
///
/// # Errors
/// Exit 2 where anything is wrong with it; all of it is printed.
pub async fn plan(
    global: &Global,
    file: &PipelineFile,
    name: Option<&str>,
    force_rerun: bool,
) -> Result<Planned, Failure> {
    let output = global.output;
    let mut say = move |found: &[Diagnostic], names: &[String]| load::report(found, names, output);
    plan_within(global, file, name, force_rerun, None, &mut say).await
}

/// As [`plan`], of what somebody else sent; whatever there is to say goes to `say`.
///
/// # Errors
/// Those of `say`; where something cannot be looked up.
pub async fn plan_within(
    global: &Global,
    file: &PipelineFile,
    name: Option<&str>,
    force_rerun: bool,
    bounds: Option<Bounds<'_>>,
    say: Say<'_>,
) -> Result<Planned, Failure> {
    let which = file.pipeline.as_deref().map_or(Which::First, Which::Named);
    let within = bounds.map(|bounds| bounds.within);
    let checked = load::check_within(&file.file, which, &file.set, within)?;
    say(&checked.diagnostics, &checked.names)?;
    let Some(pipeline) = checked.pipelines.into_iter().next() else {
        return Err(Failure::usage(format!(
            "{} holds no pipeline",
            file.file.display()
        )));
    };
    if file.pipeline.is_none() && checked.names.len() > 1 && bounds.is_none() {
        eprintln!(
            "note: {} is the first of {} pipelines; --pipeline picks another: {}",
            pipeline.name,
            checked.names.len(),
            checked.names[1..].join(", ")
        );
    }
    let folder = std::path::absolute(&file.file)
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("."));
    let config = match bounds {
        Some(bounds) => bounds.config.clone(),
        None => Config::find(&folder)?,
    };
    let run = match name {
        Some(name) => name.parse().map_err(|error: auria_core::ids::NameError| {
            Failure::usage(format!("--name: {error}"))
        })?,
        None => new_run(&pipeline.name, edge::now()),
    };

    let needs = planner::needs(&pipeline);
    let mut errors = missing_files(&pipeline);
    if let Some(bounds) = bounds {
        errors.extend(out_of_bounds(&needs, bounds).await);
    }
    let mut target = Chosen::Process;
    let server = server::said(global, &config).is_some();
    if server
        && global.on.is_none()
        && let Some(image) = needs.images.first()
    {
        let message =
            "a server runs what this program plans as processes of its own machine, not in images";
        errors.push(
            Diagnostic::error(Code::NotYet, message, &image.place)
                .help("`--on process` says that these steps need none; or post the document to the server, which chooses as `submit` does (docs/serve.md)"),
        );
    }
    if let (true, Some(on)) = (server, global.on.as_deref())
        && on != "process"
    {
        return Err(Failure::usage(format!(
            "--on {on}: a server runs what this program plans as processes of its own machine"
        ))
        .help(
            "leave `--on` out; post the document to the server for it to choose (docs/serve.md)",
        ));
    }
    if !server {
        match target::choose(global, &config, &needs).await {
            Ok(chosen) => target = chosen,
            Err(NotChosen::File(found)) => errors.extend(found),
            Err(NotChosen::Failed(failure)) => return Err(failure),
        }
    }
    let on_cluster = matches!(target, Chosen::Kubernetes(_));
    let own_cluster = bounds.and_then(|bounds| bounds.cluster);
    let place = match own_cluster {
        Some(_) => open::store_url_beside(global, &config, &folder).map(Place::Store)?,
        None => Place::beside(global, &config, &folder, on_cluster).await?,
    };
    let mut facts = Facts {
        run: run.to_string(),
        folder: match bounds {
            Some(bounds) => bounds.within.to_string_lossy().into_owned(),
            None => open::current_folder()?.to_string_lossy().into_owned(),
        },
        force_rerun,
        computes: match &place {
            Place::Store(_) => config.computes.keys().cloned().collect(),
            Place::Cluster(controller) => {
                say_unknown(controller, &needs);
                controller.facts.computes.iter().cloned().collect()
            }
        },
        grace_ms: GRACE_MS,
        target: match (&target, &place) {
            (Chosen::Process, Place::Cluster(controller)) => {
                server::target(controller, &needs).await?
            }
            (Chosen::Process, Place::Store(_)) => {
                here(needs.commands.iter().map(|need| need.word.as_str()))?
            }
            (Chosen::Docker(images) | Chosen::Kubernetes(images), _) => Target::Image {
                images: images.clone(),
            },
        },
        cluster: on_cluster,
        ..Facts::default()
    };
    let mut planned = Staging {
        snapshots: Vec::new(),
        sources: BTreeMap::new(),
        staged: Vec::new(),
    };
    if errors.is_empty() {
        // What a run writes is never part of what it reads.
        let exclude: Vec<PathBuf> = place.folder().map(Path::to_owned).into_iter().collect();
        for need in &needs.uris {
            match external::pin(&need.uri).await {
                Ok(pin) => drop(facts.pins.insert(need.uri.clone(), pin)),
                Err(error) => errors.push(unpinned(&error, need)),
            }
        }
        for need in &needs.paths {
            match snapshot::scan(Path::new(&need.path), &exclude).await {
                Ok(scanned) => {
                    let is_file = Path::new(&need.path).is_file();
                    facts.snapshots.insert(
                        need.path.clone(),
                        Snapshot {
                            digest: scanned.digest,
                            is_file,
                        },
                    );
                    planned.take(
                        scanned,
                        std::path::absolute(&need.path)
                            .unwrap_or_else(|_| need.path.clone().into()),
                    );
                }
                Err(error) => errors.push(Diagnostic::error(
                    Code::UnsuitableFile,
                    error.to_string(),
                    &need.place,
                )),
            }
        }
        if !needs.assets.is_empty() {
            errors.extend(assets(&place, &needs.assets, &mut facts, &mut planned).await?);
        }
    }
    if errors.is_empty() {
        match planner::plan(&pipeline, &facts) {
            Ok(plan) => {
                say(&planner::notes(&pipeline, &facts), &checked.names)?;
                match (&place, own_cluster) {
                    (_, Some(cluster)) => check_nodes(cluster, &plan).await?,
                    (Place::Store(_), None) => check_room(&plan)?,
                    (Place::Cluster(controller), None) => controller.check(&plan).await?,
                }
                return Ok(Planned {
                    run,
                    plan,
                    snapshots: planned.snapshots,
                    sources: planned.sources,
                    place,
                    target: target.word(),
                    _staged: planned.staged,
                });
            }
            Err(found) => errors = found,
        }
    }
    sort(&mut errors);
    say(&errors, &checked.names)?;
    Err(Failure::usage("the pipeline cannot be planned"))
}

/// What somebody else's pipeline must not read.
async fn out_of_bounds(needs: &planner::Needs, bounds: Bounds<'_>) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for need in &needs.paths {
        if !load::is_within(Path::new(&need.path), bounds.within) {
            let message = format!("`{}` lies outside of what was submitted", need.path);
            errors.push(
                Diagnostic::error(Code::FileNotFound, message, &need.place)
                    .help("submit it with `auria-pipeline --server URL submit`, which brings what a pipeline needs"),
            );
        }
    }
    for need in needs.uris.iter().filter(|_| !bounds.internal) {
        if let Err(why) = crate::address::is_public(&need.uri).await {
            errors.push(Diagnostic::error(Code::UnknownObject, why, &need.place));
        }
    }
    errors
}

/// This machine, where commands begin with `words`.
///
/// # Errors
/// Where a program cannot be read.
pub fn here<'a>(words: impl Iterator<Item = &'a str>) -> Result<Target, Failure> {
    Ok(Target::Process {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        host: host_fingerprint(),
        executables: executables(words)?,
    })
}

/// Says which computes the controller does not know.
fn say_unknown(controller: &Controller, needs: &planner::Needs) {
    let named = needs.computes.keys().flatten();
    let unknown: Vec<String> = named
        .filter(|name| !controller.facts.computes.contains(name))
        .map(|name| format!("`{name}`"))
        .collect();
    if !unknown.is_empty() {
        eprintln!(
            "note: the auria.yaml of {} names no compute {}: such steps run on any node that fits",
            controller.name,
            unknown.join(", ")
        );
    }
}

struct Staging {
    snapshots: Vec<ScannedSnapshot>,
    sources: BTreeMap<Digest, PathBuf>,
    staged: Vec<tempfile::TempDir>,
}

impl Staging {
    fn take(&mut self, scanned: ScannedSnapshot, source: PathBuf) {
        if self.sources.insert(scanned.digest, source).is_none() {
            self.snapshots.push(scanned);
        }
    }
}

/// Local paths that are not there, each at its place.
pub fn missing_files(pipeline: &Pipeline) -> Vec<Diagnostic> {
    let missing = planner::needs(pipeline)
        .paths
        .into_iter()
        .filter(|need| !Path::new(&need.path).exists());
    missing
        .map(|need| load::file_not_found(&need.path, &need.place))
        .collect()
}

/// An input from outside that could not be pinned, at its place.
fn unpinned(error: &StoreError, need: &UriNeed) -> Diagnostic {
    let uri = &need.uri;
    if !external::is_read(uri) {
        let message = format!("`{uri}`: inputs are fetched from s3://, http:// and https:// alone");
        return Diagnostic::error(Code::NotYet, message, &need.place)
            .help("copy it into a folder and name that with `path: ./folder`, or say `mode: direct` to pass the URI as text");
    }
    let mut message = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        message += &format!(": {source}");
        next = source.source();
    }
    let found = Diagnostic::error(Code::UnknownObject, message, &need.place);
    found.help("inputs from outside are looked at when a run is planned, so that each attempt reads the same; `mode: direct` passes the URI as text instead")
}

/// Registered data and models: their content becomes snapshots.
async fn assets(
    place: &Place,
    needs: &[planner::AssetNeed],
    facts: &mut Facts,
    planned: &mut Staging,
) -> Result<Vec<Diagnostic>, Failure> {
    let store = place.open(Access::Read).await?.store;
    let mut errors = Vec::new();
    for need in needs {
        let text = need
            .reference
            .strip_prefix("azureml:")
            .unwrap_or(&need.reference);
        let (name, version) = text.split_once([':', '@']).unwrap_or((text, "latest"));
        let mut found = None;
        for kind in ["model", "data"] {
            if let Ok(record) = registry::show(&store, kind, name, version).await {
                found = Some(record);
                break;
            }
        }
        let Some(record) = found else {
            let message = format!("`{}` is not registered in {place}", need.reference);
            errors.push(
                Diagnostic::error(Code::UnknownAsset, message, &need.place)
                    .help("`auria-pipeline model list` lists what is; an output with `name` and `type: custom_model` registers one"),
            );
            continue;
        };
        let staged = tempfile::tempdir()
            .map_err(|error| Failure::unreachable(format!("a temporary folder: {error}")))?;
        let fetched = artifact::fetch(&store, &record.artifact, staged.path()).await?;
        let scanned = snapshot::scan(&fetched.path, &[]).await?;
        facts.assets.insert(
            need.reference.clone(),
            Asset::Snapshot {
                digest: scanned.digest,
                data_type: record.artifact.data_type,
            },
        );
        planned.take(scanned, fetched.path);
        planned.staged.push(staged);
    }
    Ok(errors)
}

/// That every step can ever fit on this machine.
fn check_room(plan: &Plan) -> Result<(), Failure> {
    let refusals = machine::misfits(plan);
    if refusals.is_empty() {
        return Ok(());
    }
    let list = refusals.join("\n  ");
    Err(Failure::usage(format!("this machine can never run\n  {list}"))
        .help("ask for less under `resources`, or run it where there is more; `auria-pipeline doctor` says what this machine has"))
}

/// That every step can ever find a node of the cluster that this program is the controller of.
async fn check_nodes(cluster: &Namespace, plan: &Plan) -> Result<(), Failure> {
    let refusals = Runs::check(cluster, plan).await;
    let refusals = refusals.map_err(Failure::unreachable)?;
    if refusals.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "this cluster can never run\n  {}",
        refusals.join("\n").replace('\n', "\n  ")
    )))
}

/// The programs that commands begin with, as the launcher will find them.
fn executables<'a>(
    words: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, Executable>, Failure> {
    let mut folders = machine::program_folders();
    folders.extend(
        edge::variable("PATH")
            .iter()
            .flat_map(std::env::split_paths),
    );
    let mut found = BTreeMap::new();
    for word in words {
        let candidates: Vec<PathBuf> = if word.contains('/') {
            vec![PathBuf::from(word)]
        } else {
            folders.iter().map(|folder| folder.join(word)).collect()
        };
        let Some(path) = candidates.into_iter().find(|path| is_executable(path)) else {
            continue;
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_or_read(&path).map_err(|error| {
            Failure::usage(format!("reading the program {}: {error}", path.display()))
        })?;
        found.insert(
            word.to_owned(),
            Executable {
                name: word.to_owned(),
                digest: hasher.finalize().into(),
            },
        );
    }
    Ok(found)
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

trait ReadAll {
    fn update_mmap_or_read(&mut self, path: &Path) -> std::io::Result<()>;
}

impl ReadAll for blake3::Hasher {
    fn update_mmap_or_read(&mut self, path: &Path) -> std::io::Result<()> {
        self.update_reader(std::fs::File::open(path)?).map(|_| ())
    }
}

/// What tells this host from others.
fn host_fingerprint() -> String {
    let id = std::fs::read_to_string("/etc/machine-id")
        .ok()
        .filter(|id| !id.trim().is_empty());
    let id = id.unwrap_or_else(edge::host);
    blake3::hash(id.trim().as_bytes()).to_hex()[..16].to_owned()
}
