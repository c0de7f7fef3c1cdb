//! One pass of `gc` over a whole store: ends deletions, marks old runs, and removes
//! attempts that lost, checkpoints that nobody restores, snapshots that no run names
//! and what was cut short. Safe beside everything else, other collections included.

use super::deletion::{self, Finished, Marked, Stage};
use super::grave::{Clock, Grave, Verdict};
use super::users::users;
use super::{Assets, Freed, User, uploads};
use crate::store::REQUESTS;
use crate::{Journal, Store, StoreError, StorePath, layout, runs, served};
use auria_core::outcome::Outcome;
use auria_core::{Digest, Nonce, RunId, StepPath};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A deletion of a snapshot that was decided so long ago and has not ended was cut short.
const DEAD: Duration = Duration::from_secs(10 * 60);

/// Verdicts are kept for those who still hold a tombstone; nobody does for so long.
const VERDICTS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What to collect.
#[derive(Clone, Debug)]
pub struct Collect {
    /// Runs that ended longer ago are deleted too; none: no run is.
    pub older_than: Option<Duration>,
    /// How long a tombstone stands, and how old remains must be.
    pub grace: Duration,
    /// Writes that were begun longer ago are taken for cut short: longer than any
    /// that goes on.
    pub uploads: Duration,
    /// Only say what would be freed.
    pub dry_run: bool,
    /// Who asks, for people.
    pub by: String,
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Runs that were deleted, marked, or could not be.
    pub runs: Vec<RunFate>,
    /// Outputs of attempts that lost, and checkpoints of steps that ended well.
    pub attempts: Freed,
    /// Snapshots that no run names.
    pub snapshots: Freed,
    /// Snapshots that go once their tombstone has stood long enough.
    pub snapshots_marked: u64,
    /// Writes that were cut short.
    pub uploads: Freed,
    /// Remains of deletions.
    pub remains: Freed,
}

impl Collected {
    /// All that is freed.
    #[must_use]
    pub fn freed(&self) -> Freed {
        let mut all = Freed::default();
        for run in &self.runs {
            all += run.freed;
        }
        for part in [self.attempts, self.snapshots, self.uploads, self.remains] {
            all += part;
        }
        all
    }
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFate {
    /// Which.
    pub run: RunId,
    /// `deleted`, `marked` or `kept`.
    pub fate: Cow<'static, str>,
    /// Until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// Why it is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<User>,
    /// What it freed.
    pub freed: Freed,
}

impl RunFate {
    fn new(run: &RunId, fate: &'static str) -> Self {
        Self {
            run: run.clone(),
            fate: Cow::Borrowed(fate),
            left_ms: None,
            used_by: Vec::new(),
            freed: Freed::default(),
        }
    }
}

/// What a collection tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// What it does at this moment, for people.
    Doing(&'a str),
    /// This run is gone: what else stands for it may go too.
    Deleted(&'a RunId),
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doing(what) => f.write_str(what),
            Self::Deleted(run) => write!(f, "deleted {run}"),
        }
    }
}

/// Collects. `told` hears what is being done; each run that is gone at once, whatever fails
/// after that.
///
/// # Errors
/// Where the store cannot be read or written; what was done until then stays done.
pub async fn collect(
    store: &Store,
    what: &Collect,
    told: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<Collected, StoreError> {
    let mut pass = Pass {
        store,
        what,
        clock: Clock::read(store).await?,
        found: Collected {
            dry_run: what.dry_run,
            ..Collected::default()
        },
    };
    told(Progress::Doing("reading the runs"));
    let known = pass.known().await?;
    pass.runs(&known, told).await?;
    let gone: BTreeSet<&RunId> = pass
        .found
        .runs
        .iter()
        .filter(|fate| fate.fate == "deleted")
        .map(|fate| &fate.run)
        .collect();
    let left: Vec<RunId> = known
        .runs
        .iter()
        .filter(|run| !gone.contains(run))
        .cloned()
        .collect();
    for (number, run) in left.iter().enumerate() {
        if number % 100 == 0 {
            let (number, all) = (number + 1, left.len());
            let doing = format!("looking at attempts: run {number} of {all}");
            told(Progress::Doing(&doing));
        }
        pass.attempts(run).await?;
    }
    told(Progress::Doing("looking at snapshots"));
    pass.snapshots(&known).await?;
    told(Progress::Doing("looking for what was cut short"));
    pass.found.uploads = uploads::sweep(store, pass.clock, what.uploads, what.dry_run).await?;
    pass.remains(&known).await?;
    Ok(pass.found)
}

/// The folders below `runs/`.
struct Known {
    /// Those with a `run.json`.
    runs: Vec<RunId>,
    /// The others.
    rest: Vec<String>,
}

/// A run that may be deleted.
struct Candidate {
    run: RunId,
    /// The tombstone that stood then.
    tombstone: Option<Nonce>,
    /// How far it was then.
    stage: Stage,
}

struct Pass<'a> {
    store: &'a Store,
    what: &'a Collect,
    clock: Clock,
    found: Collected,
}

impl Pass<'_> {
    async fn known(&self) -> Result<Known, StoreError> {
        let names = self.store.list_folders(&layout::runs()).await?;
        let looked: Vec<(String, Option<RunId>)> = futures::stream::iter(names)
            .map(|name| async move {
                let run = match name.parse::<RunId>() {
                    Ok(run) if self.store.exists(&layout::run_json(&run)).await? => Some(run),
                    _ => None,
                };
                Ok((name, run))
            })
            .buffered(REQUESTS)
            .try_collect()
            .await?;
        let mut known = Known {
            runs: Vec::new(),
            rest: Vec::new(),
        };
        for (name, run) in looked {
            match run {
                Some(run) => known.runs.push(run),
                None => known.rest.push(name),
            }
        }
        Ok(known)
    }

    async fn runs(
        &mut self,
        known: &Known,
        told: &(dyn Fn(Progress<'_>) + Send + Sync),
    ) -> Result<(), StoreError> {
        // A run that was being deleted when its `run.json` had gone already.
        let cut_short = known.rest.iter().filter_map(|name| name.parse().ok());
        let all = known.runs.iter().cloned().chain(cut_short);
        let looked: Vec<Option<Candidate>> = futures::stream::iter(all)
            .map(|run| self.candidate(run))
            .buffered(REQUESTS)
            .try_collect()
            .await?;
        let mut left: Vec<Candidate> = looked.into_iter().flatten().collect();
        // After that: what has ended of these registers nothing any more.
        let assets = Assets::read(self.store).await?;
        let mut fates: BTreeMap<RunId, RunFate> = BTreeMap::new();
        // What one run used may go once it is gone itself.
        loop {
            let mut deleted = false;
            let mut waiting = Vec::new();
            for candidate in left {
                let Some(fate) = self.run(&candidate, &assets).await? else {
                    continue;
                };
                let run = candidate.run.clone();
                if fate.fate == "deleted" {
                    if !self.what.dry_run {
                        told(Progress::Deleted(&run));
                    }
                    deleted = true;
                } else {
                    waiting.push(candidate);
                }
                fates.insert(run, fate);
            }
            left = waiting;
            if !deleted || self.what.dry_run || left.is_empty() {
                break;
            }
        }
        self.found.runs = fates.into_values().collect();
        Ok(())
    }

    /// The run, where it is marked or old enough.
    async fn candidate(&self, run: RunId) -> Result<Option<Candidate>, StoreError> {
        let marked = Grave::of_run(&run).read(self.store, self.clock).await?;
        let tombstone = marked.map(|(tombstone, _)| tombstone.nonce);
        let is_one = tombstone.is_some() || self.is_old(&run).await?;
        if !is_one {
            return Ok(None);
        }
        let stage = Stage::of(self.store, &run).await?;
        Ok(Some(Candidate {
            run,
            tombstone,
            stage,
        }))
    }

    /// What becomes of one run; none where it simply stays.
    async fn run(
        &self,
        candidate: &Candidate,
        assets: &Assets,
    ) -> Result<Option<RunFate>, StoreError> {
        let (store, run) = (self.store, &candidate.run);
        let marked = Grave::of_run(run).read(store, self.clock).await?;
        let stands = marked.as_ref().map(|(tombstone, _)| &tombstone.nonce);
        let changed = candidate.tombstone.is_some() && stands != candidate.tombstone.as_ref();
        if changed || (marked.is_none() && !self.is_old(run).await?) {
            return Ok(None);
        }
        if self.what.dry_run {
            let used_by = users(store, run, assets).await?;
            let mut fate = RunFate::new(
                run,
                if used_by.is_empty() {
                    "deleted"
                } else {
                    "kept"
                },
            );
            if used_by.is_empty() {
                fate.freed = store
                    .delete_where(&layout::run(run), true, |_| true)
                    .await?;
            }
            fate.used_by = used_by;
            return Ok(Some(fate));
        }
        if marked.is_none() {
            let record = runs::read(store, run).await?;
            let by = &self.what.by;
            match deletion::mark(store, &record, assets, by, self.what.grace).await? {
                Marked::Yes => {}
                Marked::NotEnded => return Ok(None),
                Marked::InUse(used_by) => {
                    let fate = RunFate::new(run, "kept");
                    return Ok(Some(RunFate { used_by, ..fate }));
                }
            }
        }
        Ok(
            match deletion::finish_at(store, run, candidate.stage, assets, self.clock).await? {
                Finished::NotMarked => None,
                Finished::Waits(left) => Some(RunFate {
                    left_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                    ..RunFate::new(run, "marked")
                }),
                Finished::Kept(used_by) => Some(RunFate {
                    used_by,
                    ..RunFate::new(run, "kept")
                }),
                Finished::Deleted(freed) => Some(RunFate {
                    freed,
                    ..RunFate::new(run, "deleted")
                }),
            },
        )
    }

    /// Whether the run is to be deleted for its age.
    async fn is_old(&self, run: &RunId) -> Result<bool, StoreError> {
        let Some(age) = self.what.older_than else {
            return Ok(false);
        };
        let end = self.store.head(&layout::run_end(run)).await?;
        Ok(end.is_some_and(|meta| self.clock.age(&meta) >= age))
    }

    /// Of a run that has ended: outputs of attempts that lost, and checkpoints of
    /// steps that ended well. Logs and metrics of every attempt stay.
    async fn attempts(&mut self, run: &RunId) -> Result<(), StoreError> {
        let store = self.store;
        let end = store.head(&layout::run_end(run)).await?;
        if end.is_none_or(|meta| self.clock.age(&meta) < self.what.grace) {
            return Ok(());
        }
        let outcomes = Journal::new(store.clone(), run.clone())
            .outcomes_left()
            .await?;
        let dry_run = self.what.dry_run;
        for (folder, loses) in [
            (
                layout::run_data(run),
                is_lost as fn(&[String], &Outcome) -> bool,
            ),
            (layout::run_checkpoints(run), is_restored_by_nobody),
        ] {
            let freed = store
                .delete_where(&folder, dry_run, |path| {
                    is_chosen(&folder, path, &outcomes, loses)
                })
                .await?;
            if freed.objects > 0 && !dry_run {
                store.remove_empty_folders(&folder).await;
            }
            self.found.attempts += freed;
        }
        Ok(())
    }

    async fn snapshots(&mut self, known: &Known) -> Result<(), StoreError> {
        let store = self.store;
        let digests: Vec<Digest> = store
            .list_folders(&layout::snapshots())
            .await?
            .iter()
            .filter_map(|name| format!("blake3:{name}").parse().ok())
            .collect();
        let named = self.named(&known.runs).await?;
        let mut ripe = Vec::new();
        for digest in &digests {
            let grave = Grave::of_snapshot(digest);
            let stands = grave.read(store, self.clock).await?;
            if named.contains(digest) {
                // Where its deletion was decided and cut short, whoever names it waits until
                // that is ended.
                if let (Some((tombstone, _)), false) = (stands, self.what.dry_run)
                    && grave.keep(store, &tombstone).await? == Verdict::Delete
                {
                    ripe.push((*digest, tombstone));
                }
                continue;
            }
            if self.what.dry_run {
                self.found.snapshots += store
                    .delete_where(&layout::snapshot(digest), true, |_| true)
                    .await?;
                continue;
            }
            let (tombstone, age) = match stands {
                Some(stands) => stands,
                None => {
                    let (by, grace) = (&self.what.by, self.what.grace);
                    (grave.mark(store, None, by, grace).await?, Duration::ZERO)
                }
            };
            if age >= Duration::from_millis(tombstone.grace_ms) {
                ripe.push((*digest, tombstone));
            } else {
                self.found.snapshots_marked += 1;
            }
        }
        if ripe.is_empty() {
            return Ok(());
        }
        // Read again, now that the tombstones stand: runs that were submitted meanwhile.
        let again = self.known().await?;
        let named = self.named(&again.runs).await?;
        for (digest, tombstone) in ripe {
            let grave = Grave::of_snapshot(&digest);
            let verdict = if named.contains(&digest) {
                Verdict::Keep
            } else {
                Verdict::Delete
            };
            let (verdict, first) = grave.decide_first(store, &tombstone, verdict).await?;
            if verdict == Verdict::Keep {
                store.delete(grave.path()).await?;
                continue;
            }
            // One collector deletes: a second, slower one would take away what was
            // uploaded anew since the first was done.
            if !first && grave.decided_for(store, &tombstone, self.clock).await? < DEAD {
                self.found.snapshots_marked += 1;
                continue;
            }
            let folder = layout::snapshot(&digest);
            // The manifest first: without it there is no snapshot.
            let manifest = layout::snapshot_manifest(&digest);
            for first in [true, false] {
                self.found.snapshots += store
                    .delete_where(&folder, false, |path| {
                        path != grave.path() && (*path == manifest) == first
                    })
                    .await?;
            }
            store.delete(grave.path()).await?;
            store.remove_empty_folders(&folder).await;
        }
        Ok(())
    }

    /// Every snapshot that a run names.
    async fn named(&self, runs: &[RunId]) -> Result<BTreeSet<Digest>, StoreError> {
        #[derive(Deserialize)]
        struct Names {
            snapshots: BTreeSet<Digest>,
        }
        #[derive(Deserialize)]
        struct Published {
            #[serde(default)]
            snapshots: BTreeSet<Digest>,
        }
        let store = self.store;
        let mut all = BTreeSet::new();
        let mut found = futures::stream::iter(runs)
            .map(|run| async move { store.read_json::<Names>(&layout::run_json(run)).await })
            .buffer_unordered(REQUESTS);
        while let Some(names) = found.try_next().await? {
            all.extend(names.into_iter().flat_map(|names| names.snapshots));
        }
        // What is published, too: a run of it may be asked for at any time.
        for published in [served::endpoints(), served::schedules()] {
            for meta in store.list(&published).await? {
                let parts: Vec<_> = meta.location.parts().collect();
                let holds = parts
                    .get(2)
                    .is_some_and(|part| ["deployments", "log"].contains(&part.as_ref()));
                if holds && let Some(names) = store.read_json::<Published>(&meta.location).await? {
                    all.extend(names.snapshots);
                }
            }
        }
        Ok(all)
    }

    /// What deletions and probes left that were cut short.
    async fn remains(&mut self, known: &Known) -> Result<(), StoreError> {
        let (grace, dry_run) = (self.what.grace, self.what.dry_run);
        let mut freed = Freed::default();
        for name in &known.rest {
            let folder = layout::runs().join(name.as_str());
            // What is there without a `run.json`: references of those who came late.
            if !self.store.exists(&folder.clone().join("tombstone")).await? {
                freed += self.older(&folder, grace).await?;
            }
        }
        for folder in ["probe", "clock"] {
            freed += self.older(&StorePath::from(folder), grace).await?;
        }
        freed += self
            .older(&layout::verdicts(), grace.max(VERDICTS_KEPT))
            .await?;
        let runs: BTreeSet<&RunId> = known.runs.iter().collect();
        for meta in self.store.list(&layout::recent_runs()).await? {
            let run = layout::run_of_recent(&meta.location);
            let known = run.is_some_and(|run| runs.contains(&run));
            if !known && self.clock.age(&meta) >= grace {
                freed.count(&meta);
                if !dry_run {
                    self.store.delete(&meta.location).await?;
                }
            }
        }
        self.found.remains = freed;
        Ok(())
    }

    /// Removes what is below `folder` and at least so old.
    async fn older(&self, folder: &StorePath, age: Duration) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        let found = self.store.list(folder).await?;
        // A run that came to be there since its folder was looked at.
        let run_json = folder.clone().join("run.json");
        if found.iter().any(|meta| meta.location == run_json) {
            return Ok(freed);
        }
        for meta in found {
            if self.clock.age(&meta) >= age {
                freed.count(&meta);
                if !self.what.dry_run {
                    self.store.delete(&meta.location).await?;
                }
            }
        }
        if freed.objects > 0 && !self.what.dry_run {
            self.store.remove_empty_folders(folder).await;
        }
        Ok(freed)
    }
}

/// Whether what lies at `path`, `<folder>/<step>/<n>-<nonce>/…`, goes.
fn is_chosen(
    folder: &StorePath,
    path: &StorePath,
    outcomes: &BTreeMap<StepPath, Arc<Outcome>>,
    loses: fn(&[String], &Outcome) -> bool,
) -> bool {
    let Some(parts) = path.prefix_match(folder) else {
        return false;
    };
    let parts: Vec<String> = parts.take(3).map(|part| part.as_ref().to_owned()).collect();
    let outcome = parts
        .first()
        .and_then(|step| step.parse::<StepPath>().ok())
        .and_then(|step| outcomes.get(&step));
    outcome.is_some_and(|outcome| loses(&parts, outcome))
}

/// Outputs of an attempt that the outcome does not name.
fn is_lost(parts: &[String], outcome: &Outcome) -> bool {
    let [_, attempt, what] = parts else {
        return false;
    };
    let names = match (outcome.attempt, &outcome.nonce) {
        (Some(number), Some(nonce)) => *attempt == format!("{number}-{nonce}"),
        _ => false,
    };
    !names && matches!(what.as_str(), "outputs" | "manifests")
}

fn is_restored_by_nobody(_parts: &[String], outcome: &Outcome) -> bool {
    outcome.status.is_success()
}
