//! The one source of chance in a schedule: a seed is all that it depends on.

use std::ops::RangeInclusive;

/// A seeded sequence of choices (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to `bound`, and not `bound` itself.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(super) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (from, to) = range.into_inner();
        from + self.next() % (to.saturating_sub(from) + 1)
    }

    /// True this often in a thousand times.
    pub(super) fn permille(&mut self, times: u64) -> bool {
        times > 0 && self.next() % 1000 < times
    }

    pub(super) fn percent(&mut self, times: u64) -> bool {
        self.permille(times * 10)
    }

    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    /// Another sequence, which this one does not depend on.
    pub(super) fn split(&mut self) -> Self {
        Self(self.next())
    }
}
