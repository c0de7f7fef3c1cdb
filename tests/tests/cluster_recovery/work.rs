//! The runs that faults meet, and what must hold of them: each step has one outcome, no
//! finished step runs again, and every further attempt is explained by a fault that was made,
//! with the cause and out of the budget that are that fault's.

use super::dag::{self, Dag};
use super::kinds::Kind;
use super::stage::{Attempt, Stage};
use auria_core::RunId;
use auria_core::outcome::{Cause, Decision, Status};
use auria_core::run::Recovered;
use auria_store::{Access, Journal, Store, StoreUrl};
use auria_tests::cluster::Cluster;
use auria_tests::{Context, installation};
use rand::Rng;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// After a fault is mended, its consequences may show for so long.
const AFTERMATH_MS: i64 = 60_000;

/// How long it may take until whoever drives knows that a step was finished.
const TOLD_MS: i64 = 2_000;

/// Reads what the runs left in the store.
pub(crate) struct Vault {
    runtime: tokio::runtime::Runtime,
    store: Store,
}

impl Vault {
    pub(crate) fn open(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let variables = cluster.store();
        let settings: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (bucket, prefix) = installation::store();
        let url = StoreUrl::S3 { bucket, prefix };
        let store = runtime.block_on(Store::open_with(&url, Access::Read, &settings));
        let store = store.expect("the store opens");
        Self { runtime, store }
    }

    /// What the store holds of a run.
    pub(crate) fn look(&self, run: &str) -> Result<Recovered, String> {
        let run: RunId = run.parse().map_err(|_| format!("{run} is no run"))?;
        let journal = Journal::new(self.store.clone(), run);
        let found = self.runtime.block_on(journal.recover());
        found.map_err(|error| error.to_string())
    }
}

/// A fault that was made, and what it may explain.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) kind: Kind,
    pub(crate) from: i64,
    /// None while it is not mended.
    pub(crate) until: Option<i64>,
    pub(crate) node: Option<String>,
    pub(crate) victim: Option<Attempt>,
}

impl Made {
    /// Whether it explains that an attempt, which ran on `node` as far as that is known, ended by
    /// `cause` at `at`.
    fn explains(&self, attempt: &Attempt, node: Option<&str>, cause: Cause, at: i64) -> bool {
        let in_time = at >= self.from && self.until.is_none_or(|until| at <= until + AFTERMATH_MS);
        let of_victim = self.victim.as_ref() == Some(attempt);
        let of_node = node.is_none() || self.node.as_deref() == node;
        in_time
            && match self.kind {
                Kind::PodDeleted | Kind::PodEvicted => of_victim && cause == Cause::Evicted,
                Kind::OutOfMemory => of_victim && cause == Cause::OutOfMemory,
                Kind::NodeKilled | Kind::NodeReturns => of_node && cause == Cause::NodeLost,
                Kind::NodeDrained => of_node && cause == Cause::Evicted,
                // These cost no step an attempt.
                Kind::ImageAbsent
                | Kind::ControllerKilled
                | Kind::BothControllersKilled
                | Kind::LeaderPartitioned
                | Kind::ApiServerRestarted
                | Kind::EtcdRestarted
                | Kind::StoreRestarted
                | Kind::StoreSlow => false,
            }
    }
}

/// Milliseconds since the epoch, as the cluster's own clocks tell them: it is this machine's.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// A run that is under way.
pub(crate) struct Work {
    pub(crate) run: String,
    /// The generated pipeline; none: the artist's.
    dag: Option<Dag>,
}

impl Work {
    /// Starts the generated pipeline.
    pub(crate) fn begin_dag(
        someone: &Context,
        rng: &mut impl Rng,
        stage: &Stage,
    ) -> Result<Self, String> {
        let dag = dag::draw(rng, stage);
        someone.write("thirty.yml", &dag.text);
        let run = submit(someone, &["thirty.yml"])?;
        Ok(Self {
            run,
            dag: Some(dag),
        })
    }

    /// Starts the artist's pipeline, as it is.
    pub(crate) fn begin_artist(someone: &Context, rng: &mut impl Rng) -> Result<Self, String> {
        let file = auria_tests::project().join("pipelines.yaml");
        let seed = format!("inputs.seed={}", rng.random_range(1..1_000_000_u32));
        let words = [
            &file.display().to_string(),
            "--pipeline",
            "auria-kathi",
            "--set",
            &seed,
        ];
        let run = submit(someone, &words)?;
        Ok(Self { run, dag: None })
    }

    pub(crate) fn is_dag(&self) -> bool {
        self.dag.is_some()
    }

    /// What must hold at any time.
    pub(crate) fn check(
        &self,
        found: &Recovered,
        made: &[Made],
        stage: &Stage,
    ) -> Result<BTreeMap<Cause, u32>, String> {
        let attempt = |step: &str, number| Attempt {
            run: self.run.clone(),
            step: step.to_owned(),
            number,
        };
        let mut causes: BTreeMap<Cause, u32> = BTreeMap::new();
        let mut drawn: BTreeMap<(String, Cause), u32> = BTreeMap::new();
        for record in &found.log {
            let Decision::Granted {
                step,
                attempt: granted,
                cause,
                budget_left,
                ..
            } = &record.decision
            else {
                continue;
            };
            let before = attempt(step.as_str(), granted - 1);
            let node = node_of(found, &before);
            let explained = made
                .iter()
                .any(|made| made.explains(&before, node.as_deref(), *cause, record.at.0));
            if !explained {
                return Err(format!(
                    "{before} on {node:?} ended by {cause:?}, which no fault explains: {:?}",
                    end_of(found, &before)
                ));
            }
            let end = found.ends.iter().find(|end| same(&end.attempt, &before));
            if let Some(end) = end.filter(|end| end.cause != *cause) {
                return Err(format!(
                    "{before} ended by {cause:?}, and its end.json says {:?}: {}",
                    end.cause, end.message
                ));
            }
            *causes.entry(*cause).or_default() += 1;
            let spent = drawn.entry((step.as_str().to_owned(), *cause)).or_default();
            *spent += 1;
            let left = self.budget(*cause).checked_sub(*spent);
            if left != Some(*budget_left) {
                return Err(format!(
                    "{before} ended by {cause:?} for the {spent}. time, and {budget_left} is left of {}",
                    self.budget(*cause)
                ));
            }
        }
        for (attempt, begun, _) in stage.played(&self.run) {
            if begun > 1 {
                return Err(format!("{attempt} began {begun} times"));
            }
        }
        for (step, outcome) in &found.outcomes {
            if outcome.status != Status::Completed {
                return Err(format!(
                    "{step} of {} is {:?}: {:?} {:?}",
                    self.run, outcome.status, outcome.cause, outcome.message
                ));
            }
            let last = outcome.attempt.unwrap_or_default();
            // One that was given up may come back and finish its step while the next one runs;
            // none begins once a step is finished.
            let done = outcome.ended.0 + TOLD_MS;
            let later = found.claims.iter().find(|claim| {
                claim.attempt.step == *step
                    && claim.attempt.number != last
                    && claim.claimed.0 > done
            });
            if let Some(later) = later {
                return Err(format!(
                    "{step} of {} was finished by attempt {last}, and {} began {} ms later",
                    self.run,
                    later.attempt.number,
                    later.claimed.0 - outcome.ended.0
                ));
            }
        }
        Ok(causes)
    }

    /// What must hold once it has ended.
    pub(crate) fn check_end(
        &self,
        found: &Recovered,
        made: &[Made],
        stage: &Stage,
        someone: &Context,
    ) -> Result<BTreeMap<Cause, u32>, String> {
        let status = found.ended.as_ref().map(|end| end.status);
        if status != Some(Status::Completed) {
            let failed: Vec<String> = found
                .outcomes
                .values()
                .filter(|outcome| outcome.status != Status::Completed)
                .map(|o| format!("{} {:?} {:?} {:?}", o.step, o.status, o.cause, o.message))
                .collect();
            return Err(format!("{} is {status:?}: {failed:?}", self.run));
        }
        let causes = self.check(found, made, stage)?;
        let Some(dag) = &self.dag else {
            return (found.outcomes.len() == 4)
                .then_some(causes)
                .ok_or_else(|| format!("{} has {} outcomes of 4", self.run, found.outcomes.len()));
        };
        if found.outcomes.len() != dag::STEPS {
            return Err(format!(
                "{} has {} outcomes",
                self.run,
                found.outcomes.len()
            ));
        }
        let folder = format!("taken-{}", self.run);
        let words = ["download", &self.run, "--step", &dag.last, "--to", &folder];
        let taken = someone.run(words);
        let text = first_file(&someone.path().join(&folder)).unwrap_or_default();
        if taken.code != 0 || text.trim() != dag.value.to_string() {
            return Err(format!(
                "{} came to {text:?} instead of {}: {}",
                self.run, dag.value, taken.stderr
            ));
        }
        Ok(causes)
    }

    /// How many further attempts each cause has.
    fn budget(&self, cause: Cause) -> u32 {
        match (self.is_dag(), cause) {
            (true, Cause::OutOfMemory | Cause::Evicted | Cause::NodeLost)
            | (_, Cause::Preempted) => 20,
            (false, Cause::Evicted | Cause::NodeLost) => 5,
            _ => 0,
        }
    }
}

fn same(id: &auria_core::AttemptId, attempt: &Attempt) -> bool {
    id.step.as_str() == attempt.step && id.number == attempt.number
}

/// Where an attempt ran, as its claim or its end says.
fn node_of(found: &Recovered, attempt: &Attempt) -> Option<String> {
    let claim = found.claims.iter().find(|c| same(&c.attempt, attempt));
    let end = found.ends.iter().find(|end| same(&end.attempt, attempt));
    claim
        .map(|claim| claim.host.clone())
        .or_else(|| end.and_then(|end| end.node.clone()))
}

/// How an attempt ended, for a person.
pub(crate) fn end_of(found: &Recovered, attempt: &Attempt) -> String {
    let end = found.ends.iter().find(|end| same(&end.attempt, attempt));
    if let Some(end) = end {
        return format!("end.json: {:?}: {}", end.cause, end.message);
    }
    let lost = found.log.iter().find_map(|record| match &record.decision {
        Decision::JudgedLost {
            step,
            attempt: number,
            reason,
        } if step.as_str() == attempt.step && *number == attempt.number => Some(reason.clone()),
        _ => None,
    });
    lost.map_or_else(
        || "nothing is known of it".to_owned(),
        |reason| format!("judged lost: {reason}"),
    )
}

fn first_file(folder: &std::path::Path) -> Option<String> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let text = if path.is_dir() {
            first_file(&path)
        } else {
            std::fs::read_to_string(&path).ok()
        };
        if text.is_some() {
            return text;
        }
    }
    None
}

/// Hands a pipeline over; the run's name.
pub(crate) fn submit(someone: &Context, words: &[&str]) -> Result<String, String> {
    let mut all = vec!["submit"];
    all.extend(words);
    all.extend(["--detach", "--force-rerun", "--output", "json"]);
    let done = someone.run(all);
    if done.code != 0 {
        return Err(format!(
            "submit {words:?} ended with {}: {}",
            done.code, done.stderr
        ));
    }
    let run = done.json()["run"].as_str().map(str::to_owned);
    run.ok_or_else(|| format!("submit named no run: {}", done.stdout))
}
