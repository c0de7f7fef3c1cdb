//! Those who delete runs and collect what nobody needs, by the real
//! [`housekeeping`], at any time and several at once. What they may remove is
//! looked at by `removal`.

use super::objects;
use super::points::Actor;
use super::world::{Death, Pid, Shared};
use auria_core::RunId;
use auria_store::housekeeping::{self, Assets, Collect, Finished, Marked};
use auria_store::{Store, StoreError, runs};
use std::time::Duration;

/// One who deletes or collects.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub(super) at_ms: u64,
    /// So long after the first run has ended.
    pub(super) after_first: bool,
    pub(super) task: Task,
    pub(super) grace_ms: u64,
    pub(super) death: Option<Death>,
}

/// What a keeper is there for.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// `delete`, asked again until the run is gone or taken.
    Delete(RunId),
    /// `gc`, so many times, and with runs that ended longer ago.
    Collect {
        times: u32,
        older_than_ms: Option<u64>,
        pause_ms: u64,
    },
}

/// One who wants a run deleted asks this often.
const ASKS: u32 = 120;
/// Between two times.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A deletion of a snapshot that was cut short counts as that after ten minutes.
const CUT_SHORT: Duration = Duration::from_secs(11 * 60);

/// Does what `keeper` is there for; one that is killed is called again.
pub(super) async fn keep(world: Shared, mut keeper: Keeper) {
    if keeper.after_first {
        first_ended(&world).await;
    }
    tokio::time::sleep(Duration::from_millis(keeper.at_ms)).await;
    for call in 1..=2 {
        let name = match &keeper.task {
            Task::Delete(run) => format!("delete {run}.{call}"),
            Task::Collect { .. } => format!("gc.{call}"),
        };
        let pid = {
            let mut world = world.lock();
            let death = keeper.death.take().filter(|_| !world.calm);
            world.begin(Actor::Keeper, name, death)
        };
        let store = objects::store(&world, pid);
        tokio::select! {
            biased;
            () = work(&store, &keeper) => {
                world.lock().end(pid);
                return;
            }
            () = killed(&world, pid) => {}
        }
    }
}

/// Waits until the first run has ended, for a minute at most.
pub(super) async fn first_ended(world: &Shared) {
    for _ in 0..600 {
        let ended = world
            .lock()
            .truths
            .values()
            .next()
            .is_none_or(|truth| truth.end.is_some());
        if ended {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn killed(world: &Shared, pid: Pid) {
    while world.lock().is_alive(pid) {
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn work(store: &Store, keeper: &Keeper) {
    match &keeper.task {
        Task::Delete(run) => delete(store, run, keeper.grace_ms).await,
        Task::Collect {
            times,
            older_than_ms,
            pause_ms,
        } => {
            for time in 0..*times {
                if time > 0 {
                    tokio::time::sleep(Duration::from_millis(*pause_ms)).await;
                }
                // What goes wrong is for the next time.
                let _ = collect(store, *older_than_ms, keeper.grace_ms).await;
            }
        }
    }
}

async fn delete(store: &Store, run: &RunId, grace_ms: u64) {
    for _ in 0..ASKS {
        match delete_once(store, run, Duration::from_millis(grace_ms)).await {
            Ok(true) => return,
            Ok(false) | Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// What the command does; whether there is nothing left to ask for.
async fn delete_once(store: &Store, run: &RunId, grace: Duration) -> Result<bool, StoreError> {
    let record = runs::read(store, run).await?;
    let assets = Assets::read(store).await?;
    match housekeeping::mark(store, &record, &assets, "someone", grace).await? {
        Marked::Yes => {}
        Marked::InUse(_) => return Ok(true),
        Marked::NotEnded => return Ok(false),
    }
    Ok(match housekeeping::finish(store, run).await? {
        Finished::Deleted(_) | Finished::Kept(_) => true,
        Finished::NotMarked | Finished::Waits(_) => false,
    })
}

async fn collect(
    store: &Store,
    older_than_ms: Option<u64>,
    grace_ms: u64,
) -> Result<(), StoreError> {
    let what = Collect {
        older_than: older_than_ms.map(Duration::from_millis),
        grace: Duration::from_millis(grace_ms),
        uploads: Duration::from_secs(3600),
        dry_run: false,
        by: "gc".into(),
    };
    housekeeping::collect(store, &what, &|_| {}).await.map(drop)
}

/// Once all is quiet: what was begun is ended, and nothing that is half deleted stays.
pub(super) async fn tidy_up(world: &Shared, store: &Store) {
    let grace_ms = {
        let world = world.lock();
        let Some(grace_ms) = world.longest_grace_ms else {
            return;
        };
        grace_ms
    };
    for wait in [CUT_SHORT, CUT_SHORT, Duration::from_millis(grace_ms)] {
        tokio::time::sleep(wait).await;
        if let Err(error) = collect(store, None, grace_ms).await {
            world.lock().violated(format!("collecting: {error}"));
            return;
        }
    }
    let mut world = world.lock();
    let left = world.objects.keys().find(|path| {
        let run = path
            .strip_prefix("runs/")
            .and_then(|rest| rest.split('/').next());
        let whole =
            run.is_none_or(|run| world.objects.contains_key(&format!("runs/{run}/run.json")));
        path.ends_with("/tombstone") || !whole
    });
    if let Some(left) = left.cloned() {
        world.violated(format!("{left} is left of a deletion"));
    }
}
