//! The images of a pipeline, each brought to the engine and pinned by digest: named ones
//! are pulled where they are not there, others are built, once for each content. Keeps
//! what it built under tags of its own; never removes an image.

use super::client::{Client, told};
use super::conda;
use super::context::{Context, Pieces, is_below};
use auria_core::check::{BuildSpec, ImageSource};
use auria_launcher::container::{Engine, EngineError};
use bollard::errors::Error;
use bollard::query_parameters::{BuildImageOptionsBuilder, TagImageOptionsBuilder};
use bollard::{Docker, body_try_stream};
use futures::StreamExt;
use std::path::{Path, PathBuf};
use tokio_util::io::ReaderStream;

/// What we build is tagged here, by the digest of what it was built from.
const OURS: &str = "localhost/auria-pipeline";
/// Lines of a build's output that an error shows.
const LAST_LINES: usize = 12;
/// Characters of such a line.
const LINE: usize = 160;

/// An image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The engine does not answer, or has no such image and cannot get it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What it is built from cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The Dockerfile is not in the folder.
    #[error("`dockerfile_path: {dockerfile}` is not a file in the folder {folder}")]
    NoDockerfile {
        /// The folder.
        folder: String,
        /// As the file names it.
        dockerfile: String,
    },
    /// A step of the build failed.
    #[error("{what} cannot be built: {message}")]
    Build {
        /// What.
        what: String,
        /// What the engine says.
        message: String,
        /// The last lines of the build.
        log: Vec<String>,
    },
    /// `conda_file` needs a tool that the base does not have.
    #[error(
        "the image `{base}` carries neither micromamba, mamba nor conda, and `conda_file` needs one of them"
    )]
    NoConda {
        /// The base.
        base: String,
    },
    /// `conda_file` holds something else.
    #[error("{what}: {message}")]
    CondaFile {
        /// Which.
        what: String,
        /// What is wrong with it.
        message: String,
    },
}

impl ImageError {
    /// The last lines that a failed build said.
    #[must_use]
    pub fn log(&self) -> &[String] {
        match self {
            Self::Build { log, .. } => log,
            _ => &[],
        }
    }

    /// The way out, where there is one to name.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoConda { .. } => Some(
                "images that carry one: `mambaorg/micromamba:2`, `condaforge/miniforge3`, `continuumio/miniconda3`; or write a Dockerfile and name its folder with `build: {path: …}`",
            ),
            Self::Engine(EngineError::NoImage { .. }) => Some(
                "check its name; an image of a registry that asks for a login is taken once `docker pull` has brought it here",
            ),
            Self::NoDockerfile { .. } => Some("the path is relative to `build.path`"),
            _ => None,
        }
    }
}

/// Brings the image to the engine, and gives its reference, pinned by digest: of a
/// registry `name@sha256:…`, of this engine alone its id. `tell` hears what takes long.
///
/// # Errors
/// Where it cannot be had.
pub async fn resolve(
    client: &Client,
    source: &ImageSource,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<String, ImageError> {
    match source {
        ImageSource::Named(name) => {
            let docker = client.docker().await?;
            if let Some(pinned) = pinned(docker, name).await? {
                return Ok(pinned);
            }
            tell(&format!("pulling {name}"));
            client.pull(name).await?;
            Ok(pinned(docker, name).await?.unwrap_or_else(|| name.clone()))
        }
        ImageSource::Build(build) => from_folder(client, build, tell).await,
        ImageSource::Conda { base, file } => {
            let named = ImageSource::Named(base.clone());
            let pinned_base = Box::pin(resolve(client, &named, tell)).await?;
            let recipe = conda::Recipe::read(file)?;
            let docker = client.docker().await?;
            let from = tag_base(docker, &pinned_base).await?;
            let dockerfile = recipe.dockerfile(&from);
            let (what, pieces) = (recipe.what().to_owned(), recipe.pieces(dockerfile)?);
            let path = PathBuf::from(&what);
            let context = pack(pieces, path).await?;
            let tag = format!("{OURS}/conda:{}", &context.digest.hex()[..40]);
            if let Some(id) = pinned(docker, &tag).await? {
                return Ok(id);
            }
            tell(&format!("adding the packages of {what} to {base}"));
            let built = build(docker, context, "Dockerfile", &tag, &what).await;
            match built {
                Err(ImageError::Build { message, .. }) if conda::is_missing(&message) => {
                    Err(ImageError::NoConda { base: base.clone() })
                }
                other => other,
            }
        }
    }
}

async fn from_folder(
    client: &Client,
    spec: &BuildSpec,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<String, ImageError> {
    let BuildSpec { path, dockerfile } = spec;
    let folder = PathBuf::from(path);
    if !is_below(Path::new(dockerfile)) || !folder.join(dockerfile).is_file() {
        return Err(ImageError::NoDockerfile {
            folder: path.clone(),
            dockerfile: dockerfile.clone(),
        });
    }
    let (scanned, file) = (folder.clone(), dockerfile.clone());
    let pieces = tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces::default();
        pieces.build(&scanned, &file).map(|()| pieces)
    });
    let pieces = pieces
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| ImageError::Read {
            path: folder.clone(),
            source,
        })?;
    let context = pack(pieces, folder).await?;
    // Another Dockerfile of the same folder is another image.
    let name = auria_core::Digest::of(format!("{}\0{dockerfile}", context.digest.hex()).as_bytes());
    let tag = format!("{OURS}/build:{}", &name.hex()[..40]);
    let docker = client.docker().await?;
    if let Some(id) = pinned(docker, &tag).await? {
        return Ok(id);
    }
    tell(&format!("building {path}"));
    build(docker, context, dockerfile, &tag, path).await
}

async fn pack(pieces: Pieces, path: PathBuf) -> Result<Context, ImageError> {
    tokio::task::spawn_blocking(move || pieces.pack())
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| ImageError::Read { path, source })
}

/// Builds an image, and gives its id.
async fn build(
    docker: &Docker,
    context: Context,
    dockerfile: &str,
    tag: &str,
    what: &str,
) -> Result<String, ImageError> {
    let options = BuildImageOptionsBuilder::default()
        .dockerfile(dockerfile)
        .t(tag)
        .rm(true)
        .forcerm(true)
        .build();
    let archive = tokio::fs::File::from_std(context.archive);
    let body = body_try_stream(ReaderStream::with_capacity(archive, 1 << 16));
    let mut lines = docker.build_image(options, None, Some(body));
    let mut log: Vec<String> = Vec::new();
    let failed = |message: String, log: Vec<String>| ImageError::Build {
        what: what.to_owned(),
        message: short(&message),
        log,
    };
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => {
                if let Some(error) = line.error_detail {
                    return Err(failed(error.message.unwrap_or_default(), log));
                }
                let text = line.stream.unwrap_or_default();
                let said = text.lines().map(str::trim_end).filter(|line| {
                    // The builder's own talk.
                    let own = line.starts_with(" --->") || line.starts_with("Removing inter");
                    !line.is_empty() && !own
                });
                log.extend(said.map(|line| line.chars().take(LINE).collect::<String>()));
                let surplus = log.len().saturating_sub(LAST_LINES);
                log.drain(..surplus);
            }
            Err(
                Error::DockerStreamError { error: message }
                | Error::DockerResponseServerError { message, .. },
            ) => return Err(failed(message, log)),
            Err(error) => return Err(told(error).into()),
        }
    }
    let built = pinned(docker, tag).await?;
    built.ok_or_else(|| failed("the engine names no image that came of it".to_owned(), log))
}

/// What the engine says of a build that failed, without the whole command.
fn short(message: &str) -> String {
    let message = message.trim();
    match message.rsplit_once("returned a non-zero code: ") {
        Some((_, code)) => format!("a command of it exited with {code}"),
        None => message.chars().take(400).collect(),
    }
}

/// Gives an image a name of ours, by which a Dockerfile can begin with exactly it.
async fn tag_base(docker: &Docker, pinned: &str) -> Result<String, ImageError> {
    let digest = auria_core::Digest::of(pinned.as_bytes()).hex();
    let (repository, tag) = (format!("{OURS}/base"), digest[..40].to_owned());
    let options = TagImageOptionsBuilder::default()
        .repo(&repository)
        .tag(&tag)
        .build();
    docker
        .tag_image(pinned, Some(options))
        .await
        .map_err(told)?;
    Ok(format!("{repository}:{tag}"))
}

/// The reference of an image that is there, pinned; none where it is not.
async fn pinned(docker: &Docker, name: &str) -> Result<Option<String>, ImageError> {
    let found = match docker.inspect_image(name).await {
        Ok(found) => found,
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => return Ok(None),
        Err(error) => return Err(told(error).into()),
    };
    let repository = repository(name);
    let digest = found.repo_digests.into_iter().flatten().find(|digest| {
        digest.split_once('@').is_some_and(|(name, _)| {
            name == repository || name.ends_with(&format!("/{repository}"))
        })
    });
    // What has no name at a registry is known by its id.
    let local = name.starts_with("localhost/") || name.starts_with("sha256:");
    if let (Some(digest), false) = (digest, local) {
        return Ok(Some(digest));
    }
    Ok(found.id.map(|id| {
        if id.starts_with("sha256:") {
            id
        } else {
            format!("sha256:{id}")
        }
    }))
}

/// An image's name without tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::repository;

    #[test]
    fn names_lose_tag_and_digest() {
        assert_eq!(repository("python:3.12"), "python");
        assert_eq!(repository("host:5000/x/python"), "host:5000/x/python");
        assert_eq!(repository("x/python:3@sha256:12"), "x/python");
    }
}
