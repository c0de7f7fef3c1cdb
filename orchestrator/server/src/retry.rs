//! A new run of an old one's plan, which keeps what finished: for the command line and the
//! API alike. It starts nothing.

use auria_core::outcome::{Outcome, ReuseSource, Status, Timings};
use auria_core::plan::{Plan, PlannedInput};
use auria_core::{Digest, Nonce, RunId, StepPath, Timestamp};
use auria_store::artifact::{self, Depth};
use auria_store::runs::{self, RunJson, RunState};
use auria_store::{ErrorKind, Journal, Store, StoreError, housekeeping, layout, snapshot};
use std::collections::BTreeSet;

/// A run that is ready.
#[derive(Debug)]
pub struct Retried {
    /// The run.
    pub run: RunJson,
    /// Finished steps that it keeps.
    pub kept: usize,
    /// Why some are not kept, for people.
    pub notes: Vec<String>,
}

/// A run that cannot be tried again.
#[derive(Debug, thiserror::Error)]
pub enum NotRetried {
    /// It has not ended.
    #[error("run {run} has not ended")]
    Running {
        /// Which.
        run: RunId,
    },
    /// What it ran is gone.
    #[error("the code or an input of run {run} is not in the store any more ({digest})")]
    Gone {
        /// Which.
        run: RunId,
        /// The snapshot.
        digest: Digest,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes `run` of `old`, in which the steps `from`, and those that need them, run again. Asked
/// again with the same `nonce`, it is the same run.
///
/// # Errors
/// Where it has not ended, what it ran is gone, or the store fails.
pub async fn retry(
    store: &Store,
    old: &RunJson,
    from: Vec<StepPath>,
    run: RunId,
    nonce: Nonce,
    now: Timestamp,
) -> Result<Retried, NotRetried> {
    let journal = Journal::new(store.clone(), old.run.clone());
    if journal.read_run_end().await?.is_none() {
        return Err(NotRetried::Running {
            run: old.run.clone(),
        });
    }
    let again = with_dependents(&old.plan, from);
    let mut run = RunJson {
        run,
        nonce,
        state: RunState::Preparing,
        created: now,
        retry_of: Some(old.run.clone()),
        ..old.clone()
    };
    match runs::create(store, &run).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Conflict => {
            let found = runs::read(store, &run.run).await?;
            if found.nonce != run.nonce {
                return Err(error.into());
            }
            if found.state == RunState::Ready {
                return Ok(Retried {
                    run: found,
                    kept: 0,
                    notes: Vec::new(),
                });
            }
            run = found;
        }
        Err(error) => return Err(error.into()),
    }
    for digest in &run.snapshots {
        if !snapshot::exists(store, digest).await? {
            return Err(NotRetried::Gone {
                run: old.run.clone(),
                digest: *digest,
            });
        }
    }
    let (mut kept, mut notes) = (0, Vec::new());
    for outcome in journal.read_outcomes().await?.values() {
        if outcome.status.is_success()
            && !again.contains(&outcome.step)
            && keep(store, old, &run, outcome, now, &mut notes).await?
        {
            kept += 1;
        }
    }
    runs::mark_ready(store, &mut run).await?;
    Ok(Retried { run, kept, notes })
}

/// Lets a finished step of `old` stand in `run`; says whether its outputs are there.
/// The reference comes first, then the look, then the commit.
async fn keep(
    store: &Store,
    old: &RunJson,
    run: &RunJson,
    outcome: &Outcome,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Result<bool, StoreError> {
    let source = outcome.reused_from.clone().unwrap_or_else(|| ReuseSource {
        run: old.run.clone(),
        step: outcome.step.clone(),
    });
    let reference = serde_json::json!({"run": run.run, "step": outcome.step, "at": now});
    store
        .write_json(&layout::reference(&source.run, &run.run), &reference)
        .await?;
    for made in outcome.outputs.values() {
        match artifact::verify(store, made, Depth::Sizes).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                notes.push(format!("{} runs again: {error}", outcome.step.display()));
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    if !housekeeping::still_there(store, &source.run).await? {
        return Ok(false);
    }
    let kept = Outcome {
        run: run.run.clone(),
        status: Status::Reused,
        attempt: None,
        nonce: None,
        attempts: 0,
        reused_from: Some(source),
        timings: Timings::default(),
        started: None,
        ended: now,
        ..outcome.clone()
    };
    Journal::new(store.clone(), run.run.clone())
        .commit(&kept)
        .await?;
    Ok(true)
}

/// `steps` and every step that needs one of them.
fn with_dependents(plan: &Plan, steps: Vec<StepPath>) -> BTreeSet<StepPath> {
    let mut again: BTreeSet<StepPath> = steps.into_iter().collect();
    // Dependencies stand before dependents in a plan.
    for step in &plan.steps {
        let needs = step
            .inputs
            .values()
            .any(|input| matches!(input, PlannedInput::Step { step, .. } if again.contains(step)));
        if needs || step.after.iter().any(|after| again.contains(after)) {
            again.insert(step.path.clone());
        }
    }
    again
}
