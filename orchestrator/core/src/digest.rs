//! Content digests: blake3, written `blake3:<64 hex digits>`, and the canonical
//! JSON over which keys are computed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A blake3 digest of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no `blake3:<64 hex digits>`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest: expected `blake3:` and 64 hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of `value` as canonical JSON (see [`canonical_json`]).
    ///
    /// # Errors
    /// Where `value` cannot be written as JSON (a map whose keys are not strings).
    pub fn of_json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::of(canonical_json(value)?.as_bytes()))
    }

    /// The 64 hexadecimal digits alone, as they stand in paths.
    #[must_use]
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("blake3:").unwrap_or(text);
        blake3::Hash::from_hex(hex)
            .map(Self::from)
            .map_err(|_| DigestError(text.to_owned()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// JSON with object keys sorted by their UTF-8 bytes and no white space, so that
/// equal values give equal bytes.
///
/// # Errors
/// Where `value` cannot be written as JSON.
pub fn canonical_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    fn sort(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(map) => {
                let mut entries: Vec<_> = map.into_iter().collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries
                    .into_iter()
                    .map(|(key, value)| (key, sort(value)))
                    .collect()
            }
            serde_json::Value::Array(items) => items.into_iter().map(sort).collect(),
            other => other,
        }
    }
    serde_json::to_string(&sort(serde_json::to_value(value)?))
}

#[cfg(test)]
mod tests {
    use super::{Digest, canonical_json};

    #[test]
    fn equal_values_give_equal_bytes() {
        let a = serde_json::json!({"b": [1, {"z": 1, "a": 2}], "a": null});
        let b = serde_json::json!({"a": null, "b": [1, {"a": 2, "z": 1}]});
        assert_eq!(
            canonical_json(&a).unwrap(),
            r#"{"a":null,"b":[1,{"a":2,"z":1}]}"#
        );
        assert_eq!(Digest::of_json(&a).unwrap(), Digest::of_json(&b).unwrap());
    }

    #[test]
    fn reads_back_what_it_writes() {
        let digest = Digest::of(b"auria");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("blake3:12".parse::<Digest>().is_err());
    }
}
