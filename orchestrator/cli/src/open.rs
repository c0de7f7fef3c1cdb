//! Where runs are kept: which store holds, opened, and which run is meant. On a cluster it
//! is the store behind the controller.

use crate::args::Global;
use crate::cluster::{self, Controller, Standing};
use crate::config::Config;
use crate::edge;
use crate::failure::Failure;
use crate::server;
use auria_store::runs::{self, RunJson};
use auria_store::{Access, ErrorKind, Store, StoreError, StoreUrl};
use std::path::{Path, PathBuf};

/// The folder that holds runs where nothing else is said.
pub const DEFAULT_FOLDER: &str = ".auria";

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let help = error.help();
        let failure = match error.kind() {
            ErrorKind::NotFound | ErrorKind::Usage | ErrorKind::Conflict => {
                Self::usage(error.to_string())
            }
            _ => Self::unreachable(chain(&error)),
        };
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

/// An error with what caused it: `does not answer` alone helps nobody.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// The current folder.
///
/// # Errors
/// Where it is gone.
pub fn current_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::usage(format!("the current folder cannot be read: {error}")))
}

/// The URL of the store for a pipeline file in `folder`.
///
/// # Errors
/// Where what was said is no store.
pub fn store_url_beside(
    global: &Global,
    config: &Config,
    folder: &Path,
) -> Result<StoreUrl, Failure> {
    match said(global, config) {
        Some(text) => parse(&text),
        None => parse(&folder.join(DEFAULT_FOLDER).to_string_lossy()),
    }
}

/// The store that somebody named.
fn said(global: &Global, config: &Config) -> Option<String> {
    let flag = global.store.clone();
    flag.or_else(|| edge::variable("AURIA_STORE"))
        .or_else(|| config.store.clone())
}

/// The URL of the store for a command without a pipeline file.
///
/// # Errors
/// Where what was said is no store.
pub fn store_url_upward(
    global: &Global,
    config: &Config,
    folder: &Path,
) -> Result<StoreUrl, Failure> {
    let nearest = folder
        .ancestors()
        .find(|folder| folder.join(DEFAULT_FOLDER).is_dir());
    store_url_beside(global, config, nearest.unwrap_or(folder))
}

fn parse(text: &str) -> Result<StoreUrl, Failure> {
    let url = text.parse::<StoreUrl>().and_then(|url| match url {
        // Launchers work elsewhere: they need the whole path.
        StoreUrl::Folder(folder) => {
            std::path::absolute(&folder)
                .map(StoreUrl::Folder)
                .map_err(|source| StoreError::Local {
                    doing: "find",
                    path: folder,
                    source,
                })
        }
        other => Ok(other),
    });
    url.map_err(|error| {
        Failure::usage(format!("--store {text}: {error}"))
            .help("a store is a folder (`--store runs`) or `s3://BUCKET/PREFIX`")
    })
}

/// Where runs are kept.
pub enum Place {
    /// A store that this process opens by itself.
    Store(StoreUrl),
    /// The store behind a controller.
    Cluster(Box<Controller>),
}

impl Place {
    /// The place for a pipeline file in `folder`, whose steps run on a cluster or not.
    ///
    /// # Errors
    /// Where what was said is no store, or the controller cannot be reached.
    pub async fn beside(
        global: &Global,
        config: &Config,
        folder: &Path,
        on_cluster: bool,
    ) -> Result<Self, Failure> {
        if server::said(global, config).is_some() {
            let server = cluster::controller(global, config).await?;
            return Ok(Self::Cluster(Box::new(server)));
        }
        if !on_cluster {
            return store_url_beside(global, config, folder).map(Self::Store);
        }
        Self::cluster(Standing::User, global, config).await
    }

    /// The store behind a cluster's controller.
    async fn cluster(
        standing: Standing,
        global: &Global,
        config: &Config,
    ) -> Result<Self, Failure> {
        let said = said(global, config);
        let said = said.map(|text| parse(&text)).transpose()?;
        if let Some(folder) = said.as_ref().and_then(StoreUrl::folder) {
            return Err(Failure::usage(format!(
                "the store {} is a folder of this machine, which a cluster does not reach",
                folder.display()
            ))
            .help("leave `--store` out: runs on a cluster are kept in the store that its controller has"));
        }
        let controller = cluster::controller_as(standing, global, config).await?;
        let its = controller.store.url();
        match said {
            Some(said) if said != *its => Err(Failure::usage(format!(
                "{} keeps runs in {its}, and not in {said}",
                controller.name
            ))
            .help("leave `--store` out")),
            _ => Ok(Self::Cluster(Box::new(controller))),
        }
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Store(url) => url.folder(),
            Self::Cluster(_) => None,
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn open(&self, access: Access) -> Result<Opened, Failure> {
        Ok(match self {
            Self::Store(url) => Opened {
                store: Store::open(url, access).await?,
                controller: None,
            },
            Self::Cluster(controller) => Opened {
                store: controller.store.clone(),
                controller: Some(Controller::clone(controller)),
            },
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(url) => write!(f, "{url}"),
            Self::Cluster(controller) => write!(f, "{}", controller.store.url()),
        }
    }
}

/// A store that is open.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The controller that it is behind.
    pub controller: Option<Controller>,
}

/// Opens the store of a command without a pipeline file.
///
/// # Errors
/// Where it cannot be opened; a folder that holds no runs is exit 2.
pub async fn existing(global: &Global, access: Access) -> Result<Opened, Failure> {
    existing_as(Standing::User, global, access).await
}

/// As [`existing`], where on a cluster it is asked in the name of who may delete.
///
/// # Errors
/// As [`existing`].
pub async fn to_delete(global: &Global) -> Result<Opened, Failure> {
    existing_as(Standing::Admin, global, Access::Write).await
}

async fn existing_as(
    standing: Standing,
    global: &Global,
    access: Access,
) -> Result<Opened, Failure> {
    let folder = current_folder()?;
    let config = Config::find(&folder)?;
    if cluster::is_meant(global, &config) {
        let place = match server::said(global, &config) {
            Some(_) => Place::beside(global, &config, &folder, true).await?,
            None => Place::cluster(standing, global, &config).await?,
        };
        return place.open(access).await;
    }
    let url = store_url_upward(global, &config, &folder)?;
    if let Some(path) = url.folder()
        && !path.is_dir()
    {
        return Err(
            Failure::usage(format!("there are no runs in {}", path.display()))
                .help("run `auria-pipeline submit` first, or say where they are: `--store FOLDER`"),
        );
    }
    Place::Store(url).open(access).await
}

/// As [`existing`], where there need be no runs yet.
///
/// # Errors
/// Where it cannot be opened.
pub async fn new_or_existing(global: &Global, access: Access) -> Result<Opened, Failure> {
    let folder = current_folder()?;
    let config = Config::find(&folder)?;
    if cluster::is_meant(global, &config) {
        return existing(global, access).await;
    }
    let url = store_url_upward(global, &config, &folder)?;
    Place::Store(url).open(access).await
}

/// The run that `word` means: a name, a unique prefix, or `latest`.
///
/// # Errors
/// Where there is none, or several.
pub async fn run(store: &Store, word: &str) -> Result<RunJson, Failure> {
    let url = store.url();
    let list = format!("`auria-pipeline runs --store {url}` lists them");
    match runs::resolve(store, word).await {
        Ok(id) => Ok(runs::read(store, &id).await?),
        Err(StoreError::NotFound { .. }) if word == "latest" => {
            Err(Failure::usage(format!("there is no run in {url} yet"))
                .help("`auria-pipeline submit` starts one"))
        }
        Err(StoreError::NotFound { .. }) => Err(Failure::usage(format!(
            "no run in {url} is called `{word}` or begins with it"
        ))
        .help(list)),
        Err(StoreError::Ambiguous { matches, .. }) => {
            let names = matches
                .iter()
                .take(5)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            Err(Failure::usage(format!(
                "`{word}` is the beginning of {} runs: {names}",
                matches.len()
            ))
            .help("say a few more letters"))
        }
        Err(error) => Err(error.into()),
    }
}
