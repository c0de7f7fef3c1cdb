//! The digest of a file whose parts pass at once and in any order. BLAKE3 is a
//! tree: each part is hashed where it passes, and what the parts come to is joined
//! at the end. Nothing is read a second time.

use super::PART;
use auria_core::Digest;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

/// Hashes one part of a larger file.
#[derive(Debug)]
pub(super) struct PartHasher(blake3::Hasher);

impl PartHasher {
    /// For the part that begins at byte `offset`, a multiple of its size, which is
    /// a power of two.
    pub(super) fn at(offset: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset);
        Self(hasher)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// What the part adds to the whole; it must not be empty.
    pub(super) fn finish(&self) -> ChainingValue {
        self.0.finalize_non_root()
    }
}

/// The digest of a file of `size` bytes in at least two parts of `part` bytes each,
/// the last of which may be shorter.
pub(super) fn join(parts: &[ChainingValue], part: u64, size: u64) -> Digest {
    debug_assert!(part.is_power_of_two() && part >= PART && size > part);
    let (left, right) = halves(parts, part, size);
    merge_subtrees_root(&left, &right, Mode::Hash).into()
}

fn halves(parts: &[ChainingValue], part: u64, size: u64) -> (ChainingValue, ChainingValue) {
    let left = left_subtree_len(size);
    // `left` is a power of two, and no smaller than a part since there are two.
    let (before, after) = parts.split_at(usize::try_from(left / part).unwrap_or(usize::MAX));
    (node(before, part, left), node(after, part, size - left))
}

fn node(parts: &[ChainingValue], part: u64, size: u64) -> ChainingValue {
    match parts {
        [only] => *only,
        many => {
            let (left, right) = halves(many, part, size);
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PART, PartHasher, join};
    use auria_core::Digest;

    #[test]
    fn parts_in_any_order_come_to_the_digest_of_the_whole() {
        let all: Vec<u8> = (0..9 * PART + 5)
            .map(|at| (at % 251) as u8 ^ (at >> 13) as u8)
            .collect();
        for size in [
            PART + 1,
            2 * PART - 1,
            2 * PART,
            3 * PART,
            4 * PART + 1024,
            7 * PART + 3,
            8 * PART,
            9 * PART + 5,
        ] {
            let whole = &all[..size as usize];
            let mut parts = vec![[0; 32]; size.div_ceil(PART) as usize];
            for (number, bytes) in whole.chunks(PART as usize).enumerate().rev() {
                let mut hasher = PartHasher::at(number as u64 * PART);
                bytes.chunks(1_000_003).for_each(|some| hasher.update(some));
                parts[number] = hasher.finish();
            }
            assert_eq!(join(&parts, PART, size), Digest::of(whole), "{size}");
        }
    }
}
