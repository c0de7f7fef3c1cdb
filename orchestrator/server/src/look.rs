//! The state of a run as the store holds it, for those who only look. It drives nothing:
//! what the state would have done next is thrown away.

use auria_core::run::{Limits, RunState};
use auria_core::{AttemptId, Timestamp};
use auria_store::runs::RunJson;
use auria_store::{Journal, StoreError};
use std::collections::BTreeSet;

/// The state of `run`. Where it is `driven`, what has claimed and has not ended counts as
/// running: its driver would have said otherwise by now.
///
/// # Errors
/// Where the store cannot be read.
pub async fn look(
    journal: &Journal,
    run: &RunJson,
    driven: bool,
    now: Timestamp,
) -> Result<RunState, StoreError> {
    let mut found = journal.recover().await?;
    if driven && found.ended.is_none() {
        let ended: BTreeSet<&AttemptId> = found.ends.iter().map(|end| &end.attempt).collect();
        let live = found.claims.iter().map(|claim| &claim.attempt);
        found.live = live
            .filter(|id| !ended.contains(id) && !found.outcomes.contains_key(&id.step))
            .cloned()
            .collect();
    }
    let epoch = found.log.iter().map(|record| record.epoch).max();
    let (state, _) = RunState::recover(
        run.plan.clone(),
        run.run.clone(),
        epoch.unwrap_or(0),
        found,
        Limits::default(),
        now,
    );
    Ok(state)
}
