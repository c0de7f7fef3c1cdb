//! Names that users give to what a server keeps (endpoints, deployments, schedules), and how
//! its records are written.

use serde::Serialize;

/// Whether `text` may be such a name: 1 to 63 letters, digits, `-` and `_`, beginning with a
/// letter or digit. It is a part of paths and of URLs as it is.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// A record as people can read it.
pub(crate) fn json(record: &impl Serialize) -> Vec<u8> {
    // Records of this crate are maps with text keys: that cannot fail.
    let mut bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
