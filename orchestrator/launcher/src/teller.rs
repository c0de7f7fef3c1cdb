//! Tells the broker how the attempt goes: phases, trouble, lines of the log, in order and
//! in batches, and now and then that this launcher lives. The work never waits for it.
//! Where the broker is behind, lines are left out; the log in the store is whole.

use crate::serve::Hub;
use crate::wire::Line;
use auria_core::protocol::{News, Said};
use auria_core::run::AttemptNews;
use auria_store::remote::Remote;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes of one batch, about.
const BATCH: usize = 256 * 1024;
/// How long lines wait for others.
const GATHER: Duration = Duration::from_millis(30);
/// At least so often it says that it lives, by which its session is renewed.
const ALIVE: Duration = Duration::from_secs(60);
/// How long the last batch may take.
const LAST: Duration = Duration::from_secs(2);
/// Between tries while the broker does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// The task that tells; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Teller {
    over: watch::Sender<bool>,
    task: JoinSet<()>,
}

impl Teller {
    /// Tells `remote` what `hub` hears, from the claim on.
    pub(crate) fn start(hub: Hub, remote: Remote) -> Self {
        let (over, ending) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(tell(hub, remote, ending));
        Self { over, task }
    }

    /// Lets it tell what was said until now, briefly.
    pub(crate) async fn finish(mut self) {
        self.over.send_replace(true);
        let _ = tokio::time::timeout(LAST, self.task.join_next()).await;
    }
}

async fn tell(hub: Hub, remote: Remote, mut ending: watch::Receiver<bool>) {
    let mut heard = hub.listen();
    let mut claimed = false;
    loop {
        let mut said = Vec::new();
        let first = tokio::select! {
            line = heard.recv() => line,
            () = tokio::time::sleep(ALIVE) => Some("".into()),
            () = over(&mut ending) => {
                drain(&mut heard, &mut said, &mut claimed, BATCH);
                if claimed && !said.is_empty() {
                    let _ = remote.tell(&News { said }).await;
                }
                return;
            }
        };
        let Some(first) = first else {
            // It was dropped because it did not keep up: it hears the current state anew.
            heard = hub.listen();
            continue;
        };
        take(&first, &mut said, &mut claimed);
        let urgent = said.iter().any(|said| matches!(said, Said::News { .. }));
        if !urgent && !first.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = over(&mut ending) => {}
            }
        }
        drain(&mut heard, &mut said, &mut claimed, BATCH);
        if claimed && (!said.is_empty() || first.is_empty()) {
            send(&remote, said, &mut ending).await;
        }
    }
}

async fn over(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|over| *over).await;
}

/// Sends a batch until it is heard or superseded: lines are not sent twice, news are.
async fn send(remote: &Remote, mut said: Vec<Said>, ending: &mut watch::Receiver<bool>) {
    let begun = Instant::now();
    loop {
        let batch = News { said };
        let told = remote.tell(&batch).await;
        said = batch.said;
        let Err(error) = told else { return };
        if !error.is_transient() || *ending.borrow() {
            tracing::warn!("the broker did not hear what was said: {error}");
            return;
        }
        if begun.elapsed() < PAUSE {
            tracing::warn!("the broker does not hear what is said: {error}");
        }
        said.retain(|said| matches!(said, Said::News { .. }));
        if said.is_empty() {
            // The queue goes on to fill meanwhile, and leaves lines out.
            tokio::time::sleep(PAUSE).await;
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn drain(
    heard: &mut mpsc::Receiver<Arc<str>>,
    said: &mut Vec<Said>,
    claimed: &mut bool,
    most: usize,
) {
    let mut bytes = 0;
    while bytes < most
        && let Ok(line) = heard.try_recv()
    {
        bytes += line.len();
        take(&line, said, claimed);
    }
}

/// What the broker cannot see itself in the store.
fn take(line: &str, said: &mut Vec<Said>, claimed: &mut bool) {
    match serde_json::from_str::<Line>(line) {
        Ok(Line::News { news }) => {
            *claimed |= matches!(news, AttemptNews::Claimed { .. });
            if matches!(news, AttemptNews::Phase { .. } | AttemptNews::Store { .. }) {
                said.push(Said::News { news });
            }
        }
        Ok(Line::Log { lines }) => match said.last_mut() {
            Some(Said::Log { lines: before }) => before.extend(lines),
            _ => said.push(Said::Log { lines }),
        },
        Ok(Line::Hello { .. }) | Err(_) => {}
    }
}
