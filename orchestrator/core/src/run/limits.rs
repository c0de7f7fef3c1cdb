//! Bounds and waits that the machine's config sets and that no record holds.

use super::retry::backoff_ms;

/// What bounds a run on its target. None of it changes what a run means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts that are asked of the executor or run, at most. Those that wait
    /// for room in the executor count.
    pub max_starts: usize,
    /// Questions to the reuse index at a time.
    pub max_lookups: usize,
    /// Time for publishing after a stop, from the compute's config.
    pub publish_grace_ms: u64,
    /// A stop whose end is not seen this long after both graces is repeated.
    pub stop_margin_ms: u64,
    /// How often an executor may be unavailable for one attempt before the step
    /// counts as refused. Each time the wait doubles, up to `stall_max_ms`.
    pub max_unavailable: u32,
    /// How often a launcher may be gone before its claim until the attempt
    /// counts as ended by a lost node.
    pub max_unclaimed: u32,
    /// Wait after the first of those.
    pub stall_ms: u64,
    /// No such wait is longer.
    pub stall_max_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_starts: 256,
            max_lookups: 64,
            publish_grace_ms: 30_000,
            stop_margin_ms: 10_000,
            max_unavailable: 60,
            max_unclaimed: 5,
            stall_ms: 1_000,
            stall_max_ms: 60_000,
        }
    }
}

impl Limits {
    /// Wait before the next start, after `stalls` that came to nothing.
    pub(super) fn stall_wait_ms(&self, stalls: u32) -> u64 {
        backoff_ms(
            self.stall_ms,
            2.0,
            self.stall_max_ms,
            stalls.saturating_sub(1),
        )
    }
}
