//! What can go wrong with a store, sorted by what the person at the terminal
//! can do about it. It never decides whether to try again: the callers do.

use crate::StorePath;
use std::error::Error as StdError;
use std::path::PathBuf;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// A store could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The text names no store.
    #[error("`{text}` is not a store: {why}")]
    InvalidUrl {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The text cannot be a name.
    #[error("`{text}` is not the {what}: {why}")]
    InvalidName {
        /// What it was to name.
        what: String,
        /// The text.
        text: String,
        /// What a name must be.
        why: String,
    },
    /// A kind of store that this program does not open.
    #[error("a store at {scheme}:// cannot be opened yet")]
    NotYet {
        /// `gs` or `az`.
        scheme: String,
    },
    /// No answer, or none that could be used.
    #[error("the store does not answer: {doing}")]
    Unreachable {
        /// What was attempted.
        doing: String,
        /// What was seen.
        #[source]
        source: Source,
    },
    /// The disk or the quota is full.
    #[error("the store is full: {doing}")]
    Full {
        /// What was attempted.
        doing: String,
        /// What was seen.
        #[source]
        source: Source,
    },
    /// The store cannot keep what this program promises.
    #[error("the store {store} cannot hold runs: {why}")]
    Refused {
        /// Which.
        store: String,
        /// What it does wrong.
        why: String,
        /// The way out.
        help: String,
    },
    /// The credentials or permissions do not suffice.
    #[error("the store denies access: {doing}")]
    Denied {
        /// What was attempted.
        doing: String,
        /// What was seen.
        #[source]
        source: Source,
    },
    /// It is not there.
    #[error("not found in the store: {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// Bytes or a record are not what was written.
    #[error("{what} is damaged: expected {expected}, found {found}")]
    Corrupt {
        /// Which file or record.
        what: String,
        /// What the manifest or the record's type says.
        expected: String,
        /// What was read.
        found: String,
    },
    /// Another has it already.
    #[error("{what} exists already{}", note(.by))]
    Conflict {
        /// What was to be created.
        what: String,
        /// Whose it is; may be empty.
        by: String,
    },
    /// A server declines what it is asked for, in its own words.
    #[error("{why}")]
    Declined {
        /// What it said.
        why: String,
        /// [`ErrorKind::NotFound`], [`ErrorKind::Conflict`] or [`ErrorKind::Usage`].
        kind: ErrorKind,
    },
    /// More than one run begins with the text.
    #[error("`{text}` may be any of {}", .matches.join(", "))]
    Ambiguous {
        /// The text.
        text: String,
        /// The runs, newest first.
        matches: Vec<String>,
    },
    /// A file or folder of this machine that cannot be put into the store or
    /// taken from it as it is.
    #[error("{}: {why}", .path.display())]
    Unsuitable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        why: String,
    },
    /// A file of this machine could not be read or written.
    #[error("cannot {doing} {}", .path.display())]
    Local {
        /// What was attempted: "read", "write", "list".
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// What was seen.
        #[source]
        source: std::io::Error,
    },
    /// A record cannot be written as JSON.
    #[error("cannot write {what} as JSON")]
    Unwritable {
        /// Which record.
        what: String,
        /// What was seen.
        #[source]
        source: serde_json::Error,
    },
}

/// A [`StoreError`] without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// [`StoreError::InvalidUrl`], [`StoreError::InvalidName`], [`StoreError::NotYet`].
    Usage,
    /// [`StoreError::Unreachable`].
    Unreachable,
    /// [`StoreError::Full`], and a local disk that is full.
    Full,
    /// [`StoreError::Refused`].
    Refused,
    /// [`StoreError::Denied`].
    Denied,
    /// [`StoreError::NotFound`].
    NotFound,
    /// [`StoreError::Corrupt`].
    Corrupt,
    /// [`StoreError::Conflict`], [`StoreError::Ambiguous`].
    Conflict,
    /// [`StoreError::Unsuitable`], [`StoreError::Local`], [`StoreError::Unwritable`].
    Local,
}

fn note(by: &str) -> String {
    if by.is_empty() {
        String::new()
    } else {
        format!(" ({by})")
    }
}

impl StoreError {
    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidUrl { .. } | Self::InvalidName { .. } | Self::NotYet { .. } => {
                ErrorKind::Usage
            }
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Full { .. } => ErrorKind::Full,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Conflict { .. } | Self::Ambiguous { .. } => ErrorKind::Conflict,
            Self::Declined { kind, .. } => *kind,
            Self::Local { source, .. } if is_full_disk(source) => ErrorKind::Full,
            Self::Unsuitable { .. } | Self::Local { .. } | Self::Unwritable { .. } => {
                ErrorKind::Local
            }
        }
    }

    /// A short stable name for scripts and for `--output json`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "store-url",
            Self::InvalidName { .. } => "name",
            Self::NotYet { .. } => "not-yet",
            Self::Unreachable { .. } => "store-unreachable",
            Self::Full { .. } => "store-full",
            Self::Refused { .. } => "store-refused",
            Self::Denied { .. } => "store-denied",
            Self::NotFound { .. } => "not-found",
            Self::Corrupt { .. } => "store-corrupt",
            Self::Conflict { .. } => "exists",
            Self::Declined { kind, .. } => match kind {
                ErrorKind::NotFound => "not-found",
                ErrorKind::Conflict => "exists",
                _ => "declined",
            },
            Self::Ambiguous { .. } => "ambiguous",
            Self::Unsuitable { .. } => "unsuitable-file",
            Self::Local { source, .. } if is_full_disk(source) => "disk-full",
            Self::Local { .. } => "local-file",
            Self::Unwritable { .. } => "record",
        }
    }

    /// The way out, where there is one to tell.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::InvalidUrl { .. } => Some("a store is a folder or `s3://BUCKET/PREFIX`".into()),
            Self::NotYet { .. } => Some("use a folder or `s3://BUCKET/PREFIX`".into()),
            Self::Unreachable { .. } => {
                Some("check the address (AWS_ENDPOINT_URL) and the network; a run that had begun goes on with `auria-pipeline resume`".into())
            }
            Self::Full { .. } => {
                Some("make room, then go on with `auria-pipeline resume`".into())
            }
            Self::Refused { help, .. } => Some(help.clone()),
            Self::Denied { .. } => {
                Some("check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the permissions of the folder".into())
            }
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    pub(crate) fn local(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Local {
            doing,
            path: path.into(),
            source,
        }
    }

    pub(crate) fn corrupt(
        what: impl ToString,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Corrupt {
            what: what.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

/// Sorts what object_store says while `verb`ing `path`.
pub(crate) fn sort_error(verb: &str, path: &StorePath, error: object_store::Error) -> StoreError {
    use object_store::Error as E;
    let doing = format!("{verb} {path}");
    match error {
        E::NotFound { .. } => StoreError::NotFound {
            what: path.to_string(),
        },
        E::AlreadyExists { .. } | E::Precondition { .. } => StoreError::Conflict {
            what: path.to_string(),
            by: String::new(),
        },
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => StoreError::Denied {
            doing,
            source: Box::new(error),
        },
        error => match find_io(&error) {
            Some(io) if is_full_disk(io) => StoreError::Full {
                doing,
                source: Box::new(error),
            },
            Some(io) if is_denied(io) => StoreError::Denied {
                doing,
                source: Box::new(error),
            },
            // Without keys, the client asks the metadata service of a cloud's machine.
            _ if error.to_string().contains("169.254.169.254") => StoreError::Denied {
                doing: format!("{doing} (no credentials were found)"),
                source: Box::new(error),
            },
            _ if says_full(&error) => StoreError::Full {
                doing,
                source: Box::new(error),
            },
            _ => StoreError::Unreachable {
                doing,
                source: Box::new(error),
            },
        },
    }
}

/// [`sort_error`] for what asks for no condition: a store that speaks of a conflict
/// there is busy with another request, and takes this one a little later.
pub(crate) fn sort_plain(verb: &str, path: &StorePath, error: object_store::Error) -> StoreError {
    use object_store::Error as E;
    match error {
        E::AlreadyExists { source, .. } | E::Precondition { source, .. } => {
            StoreError::Unreachable {
                doing: format!("{verb} {path}"),
                source,
            }
        }
        error => sort_error(verb, path, error),
    }
}

/// The I/O error at the bottom of `error`, where one is.
pub(crate) fn find_io<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a std::io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

fn is_full_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind(),
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge
    )
}

fn is_denied(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(error.kind(), K::PermissionDenied | K::ReadOnlyFilesystem)
}

/// Whether an object store's error says that it is full.
#[must_use]
pub fn is_full(error: &object_store::Error) -> bool {
    find_io(error).is_some_and(is_full_disk) || says_full(error)
}

/// What S3's relatives answer when they are full: status 507, or one of these codes.
fn says_full(error: &object_store::Error) -> bool {
    let text = error.to_string();
    [
        "XMinioStorageFull",
        "QuotaExceeded",
        "InsufficientStorage",
        "507 Insufficient",
        "no space left",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::{ErrorKind, sort_error};
    use crate::StorePath;
    use std::io;

    fn sorted(kind: io::ErrorKind) -> ErrorKind {
        let source = Box::new(io::Error::from(kind));
        sort_error(
            "write",
            &StorePath::from("a/b"),
            object_store::Error::Generic {
                store: "test",
                source,
            },
        )
        .kind()
    }

    #[test]
    fn io_errors_are_sorted_by_what_can_be_done() {
        assert_eq!(sorted(io::ErrorKind::StorageFull), ErrorKind::Full);
        assert_eq!(sorted(io::ErrorKind::QuotaExceeded), ErrorKind::Full);
        assert_eq!(sorted(io::ErrorKind::PermissionDenied), ErrorKind::Denied);
        assert_eq!(sorted(io::ErrorKind::ReadOnlyFilesystem), ErrorKind::Denied);
        assert_eq!(
            sorted(io::ErrorKind::ConnectionRefused),
            ErrorKind::Unreachable
        );
    }
}
