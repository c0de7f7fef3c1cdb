//! `conda_file`: the recipe of an image that adds the packages of a conda environment
//! file to a base, with the micromamba, mamba or conda that the base carries. Writes a
//! Dockerfile and gathers what it needs; builds nothing.

use super::context::Pieces;
use super::images::ImageError;
use auria_core::check::CondaFile;
use auria_core::document::{self, Node, Source};
use std::path::{Path, PathBuf};

/// Where the environment is in the image.
const PREFIX: &str = "/opt/auria-pipeline/env";
/// Where its file is, with what the file names beside it.
const FOLDER: &str = "/opt/auria-pipeline/conda";
/// The exit status of a build whose base has no tool.
const NO_TOOL: i32 = 97;
/// A larger file is no environment file.
const MAX_BYTES: u64 = 1 << 20;

/// A conda environment file, read.
#[derive(Debug)]
pub(super) struct Recipe {
    what: String,
    text: String,
    folder: PathBuf,
    /// Local channels, wheels and requirement files that it names, relative to `folder`.
    beside: Vec<PathBuf>,
}

impl Recipe {
    pub(super) fn read(file: &CondaFile) -> Result<Self, ImageError> {
        let (what, text, folder) = match file {
            CondaFile::Path(path) => {
                let failed = |source| ImageError::Read {
                    path: path.into(),
                    source,
                };
                let length = std::fs::metadata(path).map_err(failed)?.len();
                if length > MAX_BYTES {
                    return Err(ImageError::CondaFile {
                        what: path.clone(),
                        message: format!("it has {length} bytes: no environment file is that long"),
                    });
                }
                let text = std::fs::read_to_string(path).map_err(failed)?;
                let folder = Path::new(path).parent().map(Path::to_owned);
                (path.clone(), text, folder.unwrap_or_default())
            }
            CondaFile::Inline { text, folder } => (
                "`conda_file`".to_owned(),
                text.clone(),
                PathBuf::from(folder),
            ),
        };
        let wrong = |message: &str| ImageError::CondaFile {
            what: what.clone(),
            message: message.to_owned(),
        };
        let documents = document::parse_source(&Source::new(what.clone(), text.clone()))
            .map_err(|found| wrong(&found[0].message))?;
        let root = &documents
            .first()
            .ok_or_else(|| wrong("it is empty: it needs `dependencies`"))?
            .root;
        if root
            .get("dependencies")
            .and_then(Node::as_sequence)
            .is_none()
        {
            return Err(wrong(
                "it has no list `dependencies`: it is no conda environment file",
            ));
        }
        let beside = beside(root);
        Ok(Self {
            what,
            text,
            folder,
            beside,
        })
    }

    /// The file, for people.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// The Dockerfile that begins with the image `from`.
    pub(super) fn dockerfile(&self, from: &str) -> String {
        let script = format!(
            "set -e; cd {FOLDER}; \
             PATH=\"$PATH:/opt/conda/bin:/opt/conda/condabin:/usr/local/bin:/bin:/usr/bin\"; \
             for tool in \"$MAMBA_EXE\" micromamba mamba \"$CONDA_EXE\" conda; do \
             [ -n \"$tool\" ] && command -v \"$tool\" >/dev/null 2>&1 || continue; \
             case \"$tool\" in *micromamba) \"$tool\" create --yes --prefix {PREFIX} --file environment.yml ;; \
             *) \"$tool\" env create --prefix {PREFIX} --file environment.yml ;; esac; exit; done; \
             exit {NO_TOOL}"
        );
        let script = serde_json::Value::from(script);
        format!(
            "FROM {from}\nUSER 0:0\nCOPY . {FOLDER}/\nRUN [\"sh\", \"-c\", {script}]\n\
             ENV PATH={PREFIX}/bin:$PATH CONDA_PREFIX={PREFIX} CONDA_DEFAULT_ENV={PREFIX}\n"
        )
    }

    /// What the build needs: the file, and what it names beside it.
    pub(super) fn pieces(&self, dockerfile: String) -> Result<Pieces, ImageError> {
        let mut pieces = Pieces::default();
        pieces.text("Dockerfile", dockerfile);
        pieces.text("environment.yml", self.text.clone());
        for name in &self.beside {
            let path = self.folder.join(name);
            pieces
                .tree(&path, name)
                .map_err(|source| ImageError::Read { path, source })?;
        }
        Ok(pieces)
    }
}

/// Whether a build failed since its base carries no tool.
pub(super) fn is_missing(message: &str) -> bool {
    message.ends_with(&format!("exited with {NO_TOOL}"))
        || message.ends_with(&format!("status {NO_TOOL}"))
}

/// The files and folders that an environment file names by a relative path: channels,
/// and of `pip:` requirement files, wheels and source folders.
fn beside(root: &Node) -> Vec<PathBuf> {
    let texts = |node: Option<&Node>| -> Vec<String> {
        let items = node.and_then(Node::as_sequence).unwrap_or_default();
        let texts = items.iter().filter_map(Node::as_text);
        texts.map(str::to_owned).collect()
    };
    let mut named = texts(root.get("channels"));
    let dependencies = root.get("dependencies").and_then(Node::as_sequence);
    for dependency in dependencies.unwrap_or_default() {
        for line in texts(dependency.get("pip")) {
            let option = [
                "-r",
                "--requirement",
                "-c",
                "--constraint",
                "-e",
                "--editable",
            ]
            .iter()
            .chain(&["--find-links", "-f"])
            .find_map(|option| line.strip_prefix(option));
            match option {
                Some(rest) => {
                    let path = rest.trim_start_matches(['=', ' ']);
                    named.push(if path.starts_with(['.', '/']) {
                        path.to_owned()
                    } else {
                        format!("./{path}")
                    });
                }
                None => named.push(line),
            }
        }
    }
    let mut paths: Vec<PathBuf> = named
        .iter()
        .filter(|text| text.starts_with("./") && !text.contains("://"))
        .map(|text| Path::new(text).components().skip(1).collect())
        .filter(|path: &PathBuf| {
            super::context::is_below(path) && path.components().next().is_some()
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::{Recipe, is_missing};
    use auria_core::check::CondaFile;
    use std::path::PathBuf;

    fn inline(text: &str) -> Result<Recipe, String> {
        let file = CondaFile::Inline {
            text: text.to_owned(),
            folder: "f".to_owned(),
        };
        Recipe::read(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_file_names_beside_it_goes_along() {
        let recipe = inline(
            "channels: [./channel, conda-forge]\n\
             dependencies:\n- python=3.12\n- pip\n- pip: [numpy, ./wheels/x.whl, -r req.txt, '--find-links=./w', '-f /w', '--find-links=file:///w']\n",
        )
        .unwrap();
        let named: Vec<PathBuf> = ["channel", "req.txt", "w", "wheels/x.whl"]
            .map(PathBuf::from)
            .into();
        assert_eq!(recipe.beside, named);
        let dockerfile = recipe.dockerfile("base:1");
        assert!(dockerfile.starts_with("FROM base:1\n"), "{dockerfile}");
    }

    #[test]
    fn another_file_is_refused() {
        assert!(inline("name: x").unwrap_err().contains("`dependencies`"));
        assert!(inline("a: [").is_err());
    }

    #[test]
    fn a_base_without_a_tool_is_told_from_a_failed_build() {
        assert!(is_missing("a command of it exited with 97"));
        assert!(is_missing(
            "building at STEP \"RUN …\": while running runtime: exit status 97"
        ));
        assert!(!is_missing("a command of it exited with 1"));
    }
}
