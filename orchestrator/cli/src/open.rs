//! Where runs are kept: which store holds, opened, and which run is meant.

use crate::args::Global;
use crate::config::Config;
use crate::edge;
use crate::failure::Failure;
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
            _ => Self::unreachable(error.to_string()),
        };
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
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
    let said = global
        .store
        .clone()
        .or_else(|| edge::variable("AURIA_STORE"))
        .or_else(|| config.store.clone());
    match said {
        Some(text) => parse(&text),
        None => parse(&folder.join(DEFAULT_FOLDER).to_string_lossy()),
    }
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

/// Opens the store of a command without a pipeline file.
///
/// # Errors
/// Where it cannot be opened; a folder that holds no runs is exit 2.
pub async fn existing(global: &Global, access: Access) -> Result<Store, Failure> {
    let folder = current_folder()?;
    let config = Config::find(&folder)?;
    let url = store_url_upward(global, &config, &folder)?;
    if let Some(path) = url.folder()
        && !path.is_dir()
    {
        return Err(
            Failure::usage(format!("there are no runs in {}", path.display()))
                .help("run `auria-pipeline submit` first, or say where they are: `--store FOLDER`"),
        );
    }
    Ok(Store::open(&url, access).await?)
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
