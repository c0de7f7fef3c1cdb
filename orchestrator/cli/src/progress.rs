//! Shows a run as it goes: keeps the rows, and draws them as a tree on a terminal
//! or as one line a change elsewhere.

use crate::edge::{self, Terminal};
use crate::terminal::{Lines, Paint, Row, Rows, Tree};
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use auria_core::run::{RunChange, RunState, StepRow};
use auria_core::{AttemptId, RunId, StepPath, Timestamp};
use auria_engine::driver::Observer;
use std::io::Stderr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two frames.
const FRAME: Duration = Duration::from_millis(100);

/// Between two frames where nothing changed: times go on.
const IDLE_FRAMES: u32 = 5;

struct Inner {
    rows: Rows,
    status: Status,
    show: Show,
    dirty: bool,
    /// The run's last state, once it has ended.
    last: Option<Box<RunState>>,
}

enum Show {
    Tree(Tree<Stderr>),
    Lines(Lines<Stderr>),
}

/// What is shown of a run. Clones show the same.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<Mutex<Inner>>,
}

/// Draws frames until it is finished.
pub struct Frames {
    progress: Progress,
    task: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show `run`. Must be called in a Tokio runtime.
    pub fn begin(run: &RunId, plan: &Plan, begun: Timestamp) -> (Self, Frames) {
        let terminal = Terminal::of_stderr();
        let paint = Paint::new(terminal.colour);
        let show = if terminal.live {
            Show::Tree(Tree::new(std::io::stderr(), paint, run.to_string(), begun))
        } else {
            Show::Lines(Lines::new(std::io::stderr(), paint, begun))
        };
        let rows = Rows::new(plan.steps.iter().map(|step| step.path.clone()));
        let inner = Inner {
            rows,
            status: Status::NotStarted,
            show,
            dirty: true,
            last: None,
        };
        let progress = Self {
            inner: Arc::new(Mutex::new(inner)),
        };
        let drawn = progress.clone();
        let task = terminal.live.then(|| {
            #[expect(
                clippy::disallowed_methods,
                reason = "Frames owns the task, ends it and awaits it"
            )]
            tokio::spawn(async move {
                let mut idle = 0;
                let mut ticks = tokio::time::interval(FRAME);
                loop {
                    ticks.tick().await;
                    idle += 1;
                    if drawn.draw(idle >= IDLE_FRAMES) {
                        idle = 0;
                    }
                }
            })
        });
        let frames = Frames {
            progress: progress.clone(),
            task,
        };
        (progress, frames)
    }

    fn draw(&self, anyway: bool) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        let due = inner.dirty || anyway;
        if let (Show::Tree(tree), true) = (&mut inner.show, due) {
            tree.draw(
                &inner.rows,
                inner.status,
                Terminal::of_stderr(),
                edge::now(),
            );
            inner.dirty = false;
        }
        due
    }

    /// A message above the tree, or between the lines.
    pub fn note(&self, text: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut inner.show {
            Show::Tree(tree) => tree.note(text),
            Show::Lines(lines) => lines.note(text),
        }
        inner.dirty = true;
    }

    /// Takes what `state` says of the steps that its last event touched.
    pub fn update(&self, state: &RunState, now: Timestamp) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        inner.status = state.status();
        inner.dirty = true;
        if state.is_over() {
            inner.last = Some(Box::new(state.clone()));
        }
        for view in state.changed() {
            inner.put(StepRow::of(&view), now);
        }
    }

    /// Takes a change that another process tells.
    pub fn take(&self, change: RunChange, now: Timestamp) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            RunChange::Run { status, .. } => inner.status = status,
            RunChange::Step(row) => inner.put(row, now),
            RunChange::Line { step, line, .. } => inner.rows.line(&step, &line),
            RunChange::End { end } => inner.status = end.status,
        }
        inner.dirty = true;
    }

    /// The run's last state, where it has ended. Once.
    pub fn last(&self) -> Option<Box<RunState>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last.take()
    }

    /// Takes the last line of a step's log.
    pub fn line(&self, step: &StepPath, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.rows.line(step, line);
        inner.dirty = true;
    }
}

impl Inner {
    fn put(&mut self, step: StepRow, now: Timestamp) {
        let path = step.step.clone();
        let changed = self.rows.put(Row {
            path: step.step,
            status: step.status,
            started: step.started,
            ended: step.ended,
            attempts: step.attempts,
            note: step.note,
            line: None,
        });
        if let (Show::Lines(lines), true, Some(row)) =
            (&mut self.show, changed, self.rows.get(&path))
        {
            lines.changed(&self.rows, row, now);
        }
    }
}

impl Observer for Progress {
    fn changed(&mut self, state: &RunState, now: Timestamp) {
        self.update(state, now);
    }

    fn line(&mut self, attempt: &AttemptId, line: &str) {
        Progress::line(self, &attempt.step, line);
    }
}

impl Frames {
    /// Draws the last frame, or takes the tree away where a report follows it.
    pub async fn finish(mut self, erase: bool) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Aborted: it ends with that.
            let _ = task.await;
        }
        self.progress.draw(true);
        if erase {
            let mut inner = self
                .progress
                .inner
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Show::Tree(tree) = &mut inner.show {
                tree.erase();
            }
        }
    }
}
