//! Names that stand in paths, records and messages: runs, steps, attempts.
//! A value of these types is always safe as one path segment of a store.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A text that cannot be the name asked for, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {why}")]
pub struct NameError {
    /// What it was to name: "run name", "step path".
    pub what: &'static str,
    /// The text.
    pub text: String,
    /// What a name must be.
    pub why: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type! {
    /// The name of a run: `<pipeline>-<sortable time><random>`, or what `--name` said.
    /// Lower-case letters, digits, `-` and `_`, at most 50, beginning with a letter or digit.
    RunId, check_run
}
name_type! {
    /// A step's place in its pipeline: `write`, `outer.inner`, `loop.3.inner`. A part is
    /// either an identifier (`[a-z_][a-z0-9_]*`) or the number of an iteration.
    StepPath, check_step
}
name_type! {
    /// What one claim of an attempt is told from another by: 16 lower-case hex digits,
    /// drawn by the launcher.
    Nonce, check_nonce
}

fn check_run(text: &str) -> Result<(), NameError> {
    let fail = |why| {
        Err(NameError {
            what: "run name",
            text: text.to_owned(),
            why,
        })
    };
    if text.is_empty() || text.len() > 50 {
        return fail("it must have 1 to 50 characters");
    }
    if text == "latest" {
        return fail("`latest` always means the newest run");
    }
    if !text
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    {
        return fail("only lower-case letters, digits, `-` and `_` may stand in it");
    }
    if !text.as_bytes()[0].is_ascii_alphanumeric() {
        return fail("it must begin with a letter or a digit");
    }
    Ok(())
}

fn check_step(text: &str) -> Result<(), NameError> {
    let fail = |why| {
        Err(NameError {
            what: "step path",
            text: text.to_owned(),
            why,
        })
    };
    if text.is_empty() || text.len() > 512 {
        return fail("it must have 1 to 512 characters");
    }
    for (i, part) in text.split('.').enumerate() {
        let number = i > 0 && !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !number && !is_identifier(part) {
            return fail(
                "each part must be an identifier of `a-z`, `0-9` and `_` that does not begin with a digit",
            );
        }
    }
    Ok(())
}

fn check_nonce(text: &str) -> Result<(), NameError> {
    if text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(NameError {
        what: "nonce",
        text: text.to_owned(),
        why: "it must be 16 lower-case hexadecimal digits",
    })
}

/// Whether `text` is a lower-case identifier: `[a-z_][a-z0-9_]*`.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    matches!(bytes.next(), Some(b'a'..=b'z' | b'_'))
        && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

impl StepPath {
    /// The path of the step `name` inside this one.
    ///
    /// # Errors
    /// Where `name` is no part of a path.
    pub fn child(&self, name: &str) -> Result<Self, NameError> {
        format!("{}.{name}", self.0).parse()
    }

    /// As people read it: `loop[3].inner` for `loop.3.inner`.
    #[must_use]
    pub fn display(&self) -> String {
        let mut text = String::new();
        for (i, part) in self.0.split('.').enumerate() {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                text.push_str(&format!("[{part}]"));
            } else {
                if i > 0 {
                    text.push('.');
                }
                text.push_str(part);
            }
        }
        text
    }
}

/// One attempt at one step of one run. Numbers begin with 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// The number of the attempt, from 1.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.step, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::{RunId, StepPath};

    #[test]
    fn names_are_checked() {
        for good in ["kathi-20260102t030405678abcd", "a", "7"] {
            good.parse::<RunId>().unwrap();
        }
        for bad in ["", "latest", "A", "-a", "a/b", "a.b", &"x".repeat(51)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
        for good in ["write", "outer.inner", "loop.3.inner", "_x"] {
            good.parse::<StepPath>().unwrap();
        }
        for bad in ["", "3", "a..b", "a.", "A", "a/b", ".", "..", "a.-1"] {
            assert!(bad.parse::<StepPath>().is_err(), "{bad}");
        }
        assert_eq!(
            "loop.3.inner".parse::<StepPath>().unwrap().display(),
            "loop[3].inner"
        );
    }
}
