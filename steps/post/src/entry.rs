//! An entry: the record of one work in a gallery, as `entry.json` holds it.
//!
//! Written by [`crate::work`], read back by [`crate::gallery`] and shown by [`crate::page`]. The
//! key is computed from the poem and the pictures alone: when or by which run a work was posted
//! never changes it.

use serde::{Deserialize, Serialize};

/// File name of the entry's record.
pub const ENTRY_FILE: &str = "entry.json";
/// File name of the painting as the painter left it.
pub const PAINTING_FILE: &str = "painting.png";
/// File name of the painting coloured in its mood.
pub const COLOURED_FILE: &str = "coloured.png";

/// One work in the gallery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Digest of the poem and the pictures, 64 hexadecimal digits: see [`key`].
    pub key: String,
    /// When the work was first posted, RFC 3339 in UTC with milliseconds.
    pub created: String,
    /// The run that posted it, where one did.
    pub run: Option<String>,
    /// The poem, line by line.
    pub lines: Vec<String>,
    /// The mood that the work was asked for, or that the poem has.
    pub mood: Option<String>,
    /// What the poem was asked to be about.
    pub topic: Option<String>,
    /// The seed that the poem was written from.
    pub seed: Option<u64>,
    /// The artwork that lent its colours.
    pub artwork: Option<String>,
    /// The poem and how the work was made, ready to be posted as text.
    pub caption: String,
    /// What the picture is, for those who do not see it.
    pub alt: String,
    /// The painting in its mood.
    pub coloured: Picture,
    /// The painting as the painter left it.
    pub painting: Picture,
}

/// A picture of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// File name beside `entry.json`.
    pub file: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// `blake3:` and the digest of the file.
    pub digest: String,
}

/// The key of a work: the BLAKE3 digest of the poem and both pictures, each with its length before
/// it, so that no two works can share a key by shifting bytes from one part to the next.
#[must_use]
pub fn key(poem: &str, painting: &[u8], coloured: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"auria-entry-1");
    for part in [poem.as_bytes(), painting, coloured] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_byte_that_moves_between_parts_is_another_work() {
        assert_ne!(key("ab", b"c", b"d"), key("a", b"bc", b"d"));
        assert_ne!(key("a", b"bc", b"d"), key("a", b"b", b"cd"));
        assert_eq!(key("a", b"b", b"c"), key("a", b"b", b"c"));
        assert_eq!(key("", b"", b"").len(), 64);
    }
}
