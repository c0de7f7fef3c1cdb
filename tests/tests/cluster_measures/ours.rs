//! The same work as steps of a pipeline, and where their time goes.

use super::pods::Pods;
use super::{bare, now};
use auria_core::RunId;
use auria_core::outcome::Outcome;
use auria_core::outcome::Status;
use auria_core::run::Recovered;
use auria_store::{Access, Journal, Store, StoreUrl};
use auria_tests::cluster::Cluster;
use auria_tests::{Context, installation};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a run may take.
const LONG: Duration = Duration::from_secs(400);

/// The installation, its runs, and what is seen of their Pods.
pub(crate) struct Ours {
    someone: Context,
    store: Store,
    pods: Pods,
}

/// A run that has ended.
pub(crate) struct Run {
    /// Seconds from its first Pod to its end.
    pub(crate) took: f64,
    found: Recovered,
    name: String,
    pods: Pods,
}

impl Ours {
    pub(crate) async fn new(cluster: &Cluster) -> Self {
        let variables = cluster.store();
        let settings: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (bucket, prefix) = installation::store();
        let url = StoreUrl::S3 { bucket, prefix };
        let store = Store::open_with(&url, Access::Read, &settings).await;
        let client = bare::client(cluster).await;
        Self {
            someone: installation::someone(cluster),
            store: store.expect("the store opens"),
            pods: Pods::watch(client, installation::NAMESPACE),
        }
    }

    /// Steps one after another, which hand on a file.
    pub(crate) async fn chain(&self, count: usize) -> Run {
        let mut text = "type: pipeline\nname: chain\njobs:\n".to_owned();
        for number in 0..count {
            let (command, input) = match number.checked_sub(1) {
                None => ("head -c 1000 /dev/zero > ${{outputs.o}}", String::new()),
                Some(before) => (
                    "cat ${{inputs.i}} > ${{outputs.o}}",
                    format!("    inputs: {{i: '${{{{parent.jobs.c{before}.outputs.o}}}}'}}\n"),
                ),
            };
            let _ = write!(
                text,
                "  c{number}:\n    command: {command}\n{}{input}    outputs: {{o: {{type: uri_file}}}}\n",
                environment("")
            );
        }
        self.run(&text).await
    }

    /// Steps side by side, on a compute that holds them to a number.
    pub(crate) async fn wide(&self, count: usize, compute: &str) -> Run {
        let mut text = "type: pipeline\nname: wide\njobs:\n".to_owned();
        for number in 0..count {
            let _ = write!(
                text,
                "  w{number}:\n    command: 'true'\n{}",
                environment(&format!("    compute: {compute}\n"))
            );
        }
        self.run(&text).await
    }

    async fn run(&self, text: &str) -> Run {
        self.someone.write("measured.yml", text);
        let words = [
            "submit",
            "measured.yml",
            "--detach",
            "--force-rerun",
            "--output",
            "json",
        ];
        let submitted = self.someone.run(words).exits(0).json();
        let name = submitted["run"].as_str().unwrap_or_default().to_owned();
        let id: RunId = name.parse().expect("a run's name");
        let journal = Journal::new(self.store.clone(), id);
        let begun = now();
        while journal.read_run_end().await.expect("the store").is_none() {
            assert!(
                now() - begun < LONG.as_secs_f64() * 1e3,
                "{name} does not end"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let found = journal.recover().await.expect("the store");
        let end = found.ended.as_ref().expect("it has ended");
        assert_eq!(end.status, Status::Completed, "{end:?}");
        let steps = found.outcomes.keys();
        let first = steps
            .filter_map(|step| self.pods.of_step(&name, step.as_str()))
            .map(|seen| seen.created)
            .fold(f64::INFINITY, f64::min);
        Run {
            took: (millis(end.ended.0) - first) / 1e3,
            name,
            found,
            pods: self.pods.clone(),
        }
    }
}

fn environment(more: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("    environment: {{image: 'auria.local/post:{version}'}}\n{more}")
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this century")]
fn millis(at: i64) -> f64 {
    at as f64
}

impl Run {
    /// Where the time between two steps of a chain goes, in milliseconds for each.
    pub(crate) fn parts(&self) -> Vec<(&'static str, Vec<f64>)> {
        let mut outcomes: Vec<&Arc<Outcome>> = self.found.outcomes.values().collect();
        outcomes.sort_by_key(|outcome| outcome.ended);
        let names = [
            "one's end to the next one's Pod (tell, decide, create)",
            "schedule",
            "kubelet, to the launcher's claim",
            "fetch",
            "run",
            "publish and commit",
            "all between two commands",
        ];
        let mut parts: Vec<(&'static str, Vec<f64>)> =
            names.iter().map(|name| (*name, Vec::new())).collect();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a step")]
        let measured = |value: Option<u64>| value.unwrap_or_default() as f64;
        for pair in outcomes.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let Some(seen) = self.pods.of_step(&self.name, after.step.as_str()) else {
                continue;
            };
            let (ended, started) = (
                millis(before.ended.0),
                millis(after.started.map_or(0, |at| at.0)),
            );
            let bound = seen.bound.unwrap_or(seen.created);
            let published = measured(before.timings.published_ms);
            let fetched = measured(after.timings.fetched_ms);
            let values = [
                seen.created - ended,
                bound - seen.created,
                started - bound,
                fetched,
                measured(after.timings.ran_ms),
                published,
                started + fetched - (ended - published),
            ];
            for ((_, all), value) in parts.iter_mut().zip(values) {
                all.push(value);
            }
        }
        parts
    }
}
