//! Where a store is: a folder, or a bucket and a prefix. It only reads text and
//! never looks whether the store is there.

use crate::{StoreError, StorePath};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix (may be empty) of a bucket of S3 or of what speaks its language.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix, without `/` at its ends.
        prefix: String,
    },
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let invalid = |why: &str| StoreError::InvalidUrl {
            text: text.to_owned(),
            why: why.to_owned(),
        };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Folder(PathBuf::from(text)));
        };
        match scheme {
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(invalid("there is no bucket in it"));
                }
                if !bucket
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
                {
                    return Err(invalid(
                        "a bucket's name has letters, digits, `.`, `-` and `_` alone",
                    ));
                }
                let prefix = prefix.trim_matches('/');
                StorePath::parse(prefix).map_err(|error| invalid(&error.to_string()))?;
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                })
            }
            "file" => {
                let url = ::url::Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
                let path = url
                    .to_file_path()
                    .map_err(|()| invalid("it names no folder of this machine"))?;
                Ok(Self::Folder(path))
            }
            "gs" | "az" => Err(StoreError::NotYet {
                scheme: scheme.to_owned(),
            }),
            _ => Err(invalid("its scheme is not known")),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl StoreUrl {
    /// The folder, where it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::S3 { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StoreUrl;
    use crate::StoreError;

    #[test]
    fn urls_are_read() {
        let folder = "some/.auria".parse::<StoreUrl>().unwrap();
        assert_eq!(folder.folder().unwrap().to_str(), Some("some/.auria"));
        assert_eq!(
            "file:///a%20b".parse::<StoreUrl>().unwrap().to_string(),
            "/a b"
        );
        for text in ["s3://bucket", "s3://bucket/a/b"] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        assert_eq!(
            "s3://bucket/a/".parse::<StoreUrl>().unwrap().to_string(),
            "s3://bucket/a"
        );
        for bad in [
            "",
            "s3://",
            "s3:///x",
            "s3://b/a//c",
            "s3://b/../c",
            "ftp://x",
            "s3://a b",
        ] {
            assert!(
                matches!(bad.parse::<StoreUrl>(), Err(StoreError::InvalidUrl { .. })),
                "{bad}"
            );
        }
        assert!(matches!(
            "gs://b/x".parse::<StoreUrl>(),
            Err(StoreError::NotYet { .. })
        ));
    }
}
