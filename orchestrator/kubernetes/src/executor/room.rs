//! How many Pods each compute may have at once (`max_instances`), over all runs. An attempt
//! takes its place before its Pod is made and keeps it until that has ended or is gone.
//! What the cluster has is counted by the tracker's watch: nobody is let in before that has
//! seen all there is.

use auria_core::{AttemptId, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A place whose Pod the watch has not seen by then was taken for one that never came.
const UNSEEN_MS: u64 = 3 * 60 * 1000;

/// The places of all computes. Bounded by the Pods of the namespace.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The watch has seen all that was there before.
    counted: bool,
    taken: HashMap<String, HashMap<AttemptId, Place>>,
}

/// What an attempt takes.
#[derive(Debug)]
struct Place {
    /// Pods: several of a distributed step.
    pods: u32,
    /// Since when it waits for them; none where the watch sees them.
    since: Option<Timestamp>,
}

impl Rooms {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the places of an attempt's `pods`, of `most`; it may have them already.
    ///
    /// # Errors
    /// Where there is none: why, for people.
    pub(super) fn take(
        &self,
        compute: &str,
        attempt: &AttemptId,
        pods: u32,
        most: u32,
        now: Timestamp,
    ) -> Result<(), String> {
        let mut state = self.state();
        if !state.counted {
            return Err(format!(
                "the Pods of the compute `{compute}`, which may have {most} at once, are being counted"
            ));
        }
        let taken = state.taken.entry(compute.to_owned()).or_default();
        let is_fresh = |since: Timestamp| now.millis_since(since) < UNSEEN_MS;
        taken.retain(|_, place| place.since.is_none_or(is_fresh));
        if taken.contains_key(attempt) {
            return Ok(());
        }
        let there: u64 = taken.values().map(|place| u64::from(place.pods)).sum();
        if there + u64::from(pods) > u64::from(most) {
            let asks = match pods {
                1 => String::new(),
                _ => format!("; the step is {pods}"),
            };
            return Err(format!(
                "the compute `{compute}` has {there} Pods, and may have {most} at once (max_instances){asks}"
            ));
        }
        let since = Some(now);
        taken.insert(attempt.clone(), Place { pods, since });
        Ok(())
    }

    /// A Pod of the attempt is there, whoever made it.
    pub(super) fn seen(&self, compute: &str, attempt: &AttemptId, pods: u32) {
        let mut state = self.state();
        let taken = state.taken.entry(compute.to_owned()).or_default();
        taken.insert(attempt.clone(), Place { pods, since: None });
    }

    /// Its Pod has ended, is gone, or was not made.
    pub(super) fn leave(&self, attempt: &AttemptId) {
        self.state().taken.retain(|_, taken| {
            taken.remove(attempt);
            !taken.is_empty()
        });
    }

    /// All Pods that there were have been seen.
    pub(super) fn counted(&self) {
        self.state().counted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::Rooms;
    use auria_core::{AttemptId, Timestamp};

    const NOW: Timestamp = Timestamp(0);

    fn attempt(step: &str) -> AttemptId {
        AttemptId {
            run: "r".parse().unwrap(),
            step: step.parse().unwrap(),
            number: 1,
        }
    }

    #[test]
    fn nobody_is_let_in_before_all_are_counted_nor_beyond_the_most() {
        let rooms = Rooms::default();
        let (old, one, two) = (attempt("old"), attempt("one"), attempt("two"));
        assert!(
            rooms
                .take("gpu", &one, 1, 2, NOW)
                .unwrap_err()
                .contains("counted")
        );
        rooms.seen("gpu", &old, 1);
        rooms.counted();
        rooms.take("gpu", &one, 1, 2, NOW).unwrap();
        // Its own place is not taken twice.
        rooms.take("gpu", &one, 1, 2, NOW).unwrap();
        let full = rooms.take("gpu", &two, 1, 2, NOW).unwrap_err();
        assert!(
            full.contains("`gpu` has 2 Pods") && full.contains("max_instances"),
            "{full}"
        );
        rooms.take("other", &two, 1, 1, NOW).unwrap();
        // All Pods of a distributed step, or none.
        let group = attempt("group");
        rooms.take("other", &group, 2, 2, NOW).unwrap_err();
        rooms.take("other", &group, 2, 3, NOW).unwrap();
        rooms.leave(&group);
        rooms.leave(&two);
        rooms.leave(&old);
        rooms.take("gpu", &two, 1, 2, NOW).unwrap();
        // One whose Pod never came keeps its place no longer than it may take.
        let later = Timestamp(i64::try_from(super::UNSEEN_MS).unwrap());
        rooms.seen("gpu", &one, 1);
        rooms.take("gpu", &old, 1, 2, later).unwrap();
        assert!(rooms.take("gpu", &two, 1, 2, later).is_err());
    }
}
