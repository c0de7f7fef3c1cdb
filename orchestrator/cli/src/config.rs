//! The config file `auria.yaml`: the store, the default target, the computes.
//! Looked for upward from the pipeline file, then in the user's config folder;
//! `AURIA_STORE` and `AURIA_TARGET` come before it, flags before those. Which server is asked,
//! and with which token, is said by the user's own config alone: other files may be anybody's.

use crate::failure::Failure;
use auria_kubernetes::compute::{self, Compute};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Name of the config file.
pub const FILE_NAME: &str = "auria.yaml";

/// A larger file is no config.
const MAX_BYTES: u64 = 1 << 20;

/// What `auria.yaml` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where runs are kept: a folder (relative to the config file), or s3://BUCKET/PREFIX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The default target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The cluster: a context of the kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Where the controller is on the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The server that keeps and drives runs; counts in the user's own config alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The file that holds the token for it, relative to the config file; counts in the user's
    /// own config alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// Computes, by the name that pipelines use.
    pub computes: BTreeMap<String, Compute>,
    /// The file that this came from.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl Config {
    /// The config that holds for files in `folder`.
    ///
    /// # Errors
    /// Where a config file is there but cannot be read, with its line and column.
    pub fn find(folder: &Path) -> Result<Self, Failure> {
        let mut upward = folder.ancestors().map(|folder| folder.join(FILE_NAME));
        let user = crate::edge::config_folder().map(|folder| folder.join(FILE_NAME));
        let own = user.filter(|path| path.is_file());
        if let Some(path) = upward.find(|path| path.is_file()) {
            let mut found = Self::read(&path)?;
            if own.as_ref().is_some_and(|own| is_same(own, &path)) {
                return Ok(found);
            }
            // Whoever wrote the files of a project must not say where this user's token goes,
            // nor which file is sent as one.
            if found.server.take().is_some() | found.token_file.take().is_some() {
                say_ignored(&path);
            }
            if let Some(own) = &own {
                let own = Self::read(own)?;
                (found.server, found.token_file) = (own.server, own.token_file);
            }
            return Ok(found);
        }
        own.map_or_else(|| Ok(Self::default()), |own| Self::read(&own))
    }

    /// The config in the file `path`.
    ///
    /// # Errors
    /// Where it cannot be read, with line and column.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        let length = path
            .metadata()
            .map_err(|e| unreadable(e.to_string()))?
            .len();
        if length > MAX_BYTES {
            return Err(unreadable(format!(
                "a config file has at most {MAX_BYTES} bytes, this one has {length}"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        let mut config = if text.trim().is_empty() {
            Self::default()
        } else {
            serde_saphyr::from_str::<Self>(&text).map_err(|e| unreadable(e.to_string()))?
        };
        if let (Some(store), Some(folder)) = (&config.store, path.parent())
            && !store.contains("://")
        {
            config.store = Some(folder.join(store).to_string_lossy().into_owned());
        }
        if let (Some(file), Some(folder)) = (&config.token_file, path.parent()) {
            config.token_file = Some(folder.join(file).to_string_lossy().into_owned());
        }
        config.file = Some(path.to_owned());
        Ok(config)
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Says once that a project's config names a server.
fn say_ignored(path: &Path) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        eprintln!(
            "note: `server` and `token_file` in {} are ignored: they count in your own config (~/.config/auria-pipeline/{FILE_NAME}), AURIA_SERVER, AURIA_TOKEN or `--server`",
            path.display()
        );
    });
}

/// The schema of `auria.yaml`.
pub fn json_schema() -> serde_json::Value {
    let text =
        |description: &str| serde_json::json!({"type": "string", "description": description});
    let map =
        |of: serde_json::Value| serde_json::json!({"type": "object", "additionalProperties": of});
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "auria.yaml",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "store": text("Where runs are kept: a folder, relative to this file, or s3://BUCKET/PREFIX."),
            "target": text("The default target: process, docker, kubernetes, or a compute's name."),
            "context": text("The cluster: a context of the kubeconfig; by default its current one."),
            "namespace": text("Where the controller is on the cluster; by default auria."),
            "server": text("The server that keeps and drives runs, such as https://HOST; counts in the user's own config alone."),
            "token_file": text("The file that holds the token for it, relative to this file; counts in the user's own config alone."),
            "computes": map(compute::json_schema())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn a_relative_store_is_beside_the_config_and_a_typo_has_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auria.yaml");
        std::fs::write(
            &file,
            "store: runs\ncomputes:\n  gpu:\n    target: process\n",
        )
        .unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let config = Config::find(&inner).unwrap();
        assert_eq!(
            config.store.unwrap(),
            folder.path().join("runs").to_string_lossy()
        );
        assert_eq!(config.computes["gpu"].target, "process");

        std::fs::write(&file, "store: runs\ntargt: process\n").unwrap();
        let message = Config::find(&inner).unwrap_err().to_string();
        assert!(
            message.contains("auria.yaml") && message.contains("line 2"),
            "{message}"
        );
    }
}
