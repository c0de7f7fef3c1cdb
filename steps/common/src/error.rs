//! The one error type of this crate. Each variant says what was attempted.

use std::path::{Path, PathBuf};

/// What went wrong, and what was being done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {path}")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A JSON file does not hold what it should.
    #[error("cannot understand {path}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file of tensors could not be read or written.
    #[error("cannot use the tensors of {path}")]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What libtorch said.
        source: tch::TchError,
    },
    /// A picture could not be decoded or encoded.
    #[error("cannot use the picture {path}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// The content of a file does not fit the program.
    #[error("{path}: {problem}")]
    Content {
        /// The file or folder.
        path: PathBuf,
        /// What does not fit, and the way out.
        problem: String,
    },
    /// Several processes that train together no longer do.
    #[error(transparent)]
    Group(#[from] crate::distributed::GroupError),
    /// A training was told to stop before its end.
    #[error("stopped at step {step}, as SIGTERM asked{}", left_behind(*.saved))]
    Terminated {
        /// How many steps are done.
        step: u64,
        /// Whether a checkpoint was written.
        saved: bool,
    },
    /// A mood that nobody knows.
    #[error(
        "there is no mood named `{name}`; the moods are {}",
        crate::mood::names()
    )]
    Mood {
        /// What was asked for.
        name: String,
    },
}

fn left_behind(saved: bool) -> &'static str {
    if saved {
        "; the same command goes on from the checkpoint of that step"
    } else {
        "; --checkpoints names a folder in which the next one would find where it was"
    }
}

impl Error {
    /// Wraps an error of reading `path`; made for `map_err`.
    pub fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Read {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Wraps an error of writing `path`; made for `map_err`.
    pub fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Wraps an error of the JSON in `path`; made for `map_err`.
    pub fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + '_ {
        move |source| Self::Json {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Wraps an error of libtorch about `path`; made for `map_err`.
    pub fn tensors(path: &Path) -> impl FnOnce(tch::TchError) -> Self + '_ {
        move |source| Self::Tensors {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Says that the content of `path` does not fit.
    pub fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }
}
