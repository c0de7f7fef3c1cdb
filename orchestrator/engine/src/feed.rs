//! What a run's driver tells its readers: one stream of changes for `watch`, the API and
//! whatever else shows a run. A reader that comes late, or is slow, is first told of every
//! step as it stands; nobody waits for a reader. It reads no store and decides nothing.

use crate::driver::Observer;
use auria_core::run::{RunChange, RunState, StepRow};
use auria_core::{AttemptId, RunId, StepPath, Timestamp};
use futures::Stream;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::{self, error::RecvError};

/// Changes that a slow reader may be behind before it is told everything anew.
const BEHIND: usize = 1024;

/// The changes of one run. Clones share it.
#[derive(Clone, Debug)]
pub struct Feed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    run: RunId,
    stand: Mutex<Stand>,
}

/// What is known now.
#[derive(Debug)]
struct Stand {
    run: Option<RunChange>,
    steps: BTreeMap<StepPath, StepRow>,
    end: Option<RunChange>,
    /// Gone with the end, so that readers see that nothing follows.
    changes: Option<broadcast::Sender<RunChange>>,
}

impl Feed {
    /// The feed of a run that has not been seen yet.
    #[must_use]
    pub fn new(run: RunId) -> Self {
        let stand = Stand {
            run: None,
            steps: BTreeMap::new(),
            end: None,
            changes: Some(broadcast::Sender::new(BEHIND)),
        };
        let stand = Mutex::new(stand);
        Self {
            inner: Arc::new(Inner { run, stand }),
        }
    }

    /// Of which run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.inner.run
    }

    fn stand(&self) -> std::sync::MutexGuard<'_, Stand> {
        let stand = self.inner.stand.lock();
        stand.unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells readers what `state` says of the steps that its last event touched.
    pub fn tell(&self, state: &RunState) {
        let mut stand = self.stand();
        let view = state.view();
        let run = RunChange::Run {
            status: view.status,
            problems: view.problems.to_vec(),
        };
        if stand.run.as_ref() != Some(&run) {
            stand.run = Some(run.clone());
            stand.send(run);
        }
        for view in state.changed() {
            let row = StepRow::of(&view);
            if stand.steps.get(&row.step) != Some(&row) {
                stand.steps.insert(row.step.clone(), row.clone());
                stand.send(RunChange::Step(row));
            }
        }
        if let (Some(end), None) = (view.end, &stand.end) {
            let end = RunChange::End { end: end.clone() };
            stand.end = Some(end.clone());
            stand.send(end);
            stand.changes = None;
        }
    }

    /// Tells readers what a step's command said.
    pub fn line(&self, attempt: &AttemptId, line: &str) {
        self.stand().send(RunChange::Line {
            step: attempt.step.clone(),
            attempt: attempt.number,
            line: line.to_owned(),
        });
    }

    /// Every step as it stands, then what changes, to the run's end or as long as it is
    /// driven from here.
    pub fn follow(&self) -> impl Stream<Item = RunChange> + Send + use<> {
        let (first, changes) = self.stand().whole();
        let weak = Arc::downgrade(&self.inner);
        let begun = (first.into_iter(), changes, weak);
        futures::stream::unfold(begun, |(mut told, changes, weak)| async move {
            if let Some(change) = told.next() {
                return Some((change, (told, changes, weak)));
            }
            let mut changes = changes?;
            match changes.recv().await {
                Ok(change) => Some((change, (told, Some(changes), weak))),
                Err(RecvError::Closed) => None,
                Err(RecvError::Lagged(_)) => {
                    let feed = Self {
                        inner: weak.upgrade()?,
                    };
                    let (whole, changes) = feed.stand().whole();
                    let mut told = whole.into_iter();
                    let change = told.next()?;
                    Some((change, (told, changes, weak)))
                }
            }
        })
    }
}

impl Stand {
    fn send(&self, change: RunChange) {
        if let Some(changes) = &self.changes {
            // Nobody listens: nothing is lost.
            let _ = changes.send(change);
        }
    }

    /// Everything as it stands, and what will tell what follows.
    fn whole(&self) -> (Vec<RunChange>, Option<broadcast::Receiver<RunChange>>) {
        let steps = self.steps.values().cloned().map(RunChange::Step);
        let whole = self.run.iter().cloned().chain(steps);
        let whole = whole.chain(self.end.clone()).collect();
        let changes = self.changes.as_ref().map(broadcast::Sender::subscribe);
        (whole, changes)
    }
}

impl Observer for Feed {
    fn changed(&mut self, state: &RunState, _now: Timestamp) {
        self.tell(state);
    }

    fn line(&mut self, attempt: &AttemptId, line: &str) {
        Feed::line(self, attempt, line);
    }
}

/// Two observers as one.
#[derive(Debug)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Observer, B: Observer> Observer for Both<A, B> {
    fn changed(&mut self, state: &RunState, now: Timestamp) {
        self.0.changed(state, now);
        self.1.changed(state, now);
    }

    fn line(&mut self, attempt: &AttemptId, line: &str) {
        self.0.line(attempt, line);
        self.1.line(attempt, line);
    }
}
