//! Deleting runs, and what nobody needs any more. Called by `delete` and `gc`; it
//! deletes nothing that a run, an asset or a submission may still take.
//!
//! Nothing here holds a lock. Whoever takes something writes down that it does (a
//! reference, a `run.json`) and then looks whether it is being deleted; whoever
//! deletes writes down that it does (a tombstone) and then looks whether it is
//! taken. So one of the two sees the other. Between tombstone and deletion lies a
//! grace, by the store's own clock, for those who read without a reference. What
//! becomes of a tombstone is decided once, by the first who creates its verdict.

#[cfg(feature = "direct")]
mod bucket;
mod collect;
mod deletion;
mod grave;
mod uploads;
mod users;

pub use collect::{Collect, Collected, Progress, RunFate, collect};
pub use deletion::{Finished, Marked, finish, is_going, mark, rescue, still_there};
pub use grave::is_kept;
pub use users::{Assets, User, UserKind};

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::time::Duration;

pub(crate) use grave::settle;

/// Between a tombstone and the deletion, where nothing else is said.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);

/// What a deletion frees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Freed {
    pub(crate) fn count(&mut self, meta: &ObjectMeta) {
        self.objects += 1;
        self.bytes += meta.size;
    }
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}
