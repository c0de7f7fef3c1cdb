//! The installation that faults are made in, and the runs that are always under way there.

use super::kinds::Kind;
use super::stage::{Attempt, Stage};
use super::work::{Made, Vault, Work, now};
use auria_core::outcome::Cause;
use auria_tests::cluster::Cluster;
use auria_tests::{Context, installation};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the cluster may take to be whole again.
const MENDS: Duration = Duration::from_secs(180);
/// How long a run may take to end once no more faults are made.
const ENDS: Duration = Duration::from_secs(300);

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) someone: Context,
    pub(crate) stage: Stage,
    pub(crate) vault: Vault,
    pub(crate) rng: StdRng,
    made: Vec<Made>,
    works: Vec<Work>,
    /// Runs that ended as they should: generated ones, and the artist's.
    pub(crate) ended: (u32, u32),
    /// Further attempts, by cause.
    pub(crate) causes: BTreeMap<Cause, u32>,
}

/// An attempt that runs, and stays where it is until it is released.
pub(crate) struct Victim {
    pub(crate) attempt: Attempt,
    pub(crate) pod: String,
    pub(crate) node: String,
}

/// Waits until there is something. What fails on the way, as while the cluster is not whole, is
/// tried again, and is what is said in the end.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        let found = look();
        if let Ok(Some(found)) = found {
            return Ok(found);
        }
        if begun.elapsed() > patience {
            let why = found.err().unwrap_or_default();
            return Err(format!("waited {patience:?} for {what}; {why}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl World {
    /// Installs the controller.
    pub(crate) fn new(cluster: &Cluster, seed: u64) -> Self {
        installation::load_images(cluster);
        let manifests = auria_tests::project().join("tests/tests/cluster_recovery");
        installation::install(cluster, &manifests);
        Self {
            cluster: cluster.clone(),
            someone: installation::someone(cluster),
            stage: Stage::open(),
            vault: Vault::open(cluster),
            rng: StdRng::seed_from_u64(seed),
            made: Vec::new(),
            works: Vec::new(),
            ended: (0, 0),
            causes: BTreeMap::new(),
        }
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> String {
        installation::kubectl(&self.cluster, words)
    }

    /// Notes a fault, before it is made.
    pub(crate) fn made(&mut self, kind: Kind, node: Option<&str>, victim: Option<&Attempt>) {
        self.made.push(Made {
            kind,
            from: now(),
            until: None,
            node: node.map(str::to_owned),
            victim: victim.cloned(),
        });
    }

    /// The last fault is over, as far as that lies with who made it.
    pub(crate) fn mended(&mut self) {
        if let Some(made) = self.made.last_mut() {
            made.until = Some(now());
        }
    }

    /// Checks the runs as they stand; those that have ended make room for new ones.
    pub(crate) fn go_on(&mut self) -> Result<(), String> {
        let mut works = std::mem::take(&mut self.works);
        let mut still = Vec::new();
        for work in works.drain(..) {
            if !self.has_ended(&work)? {
                still.push(work);
            }
        }
        if !still.iter().any(Work::is_dag) {
            still.push(Work::begin_dag(&self.someone, &mut self.rng, &self.stage)?);
        }
        if still.iter().all(Work::is_dag) {
            still.push(Work::begin_artist(&self.someone, &mut self.rng)?);
        }
        self.works = still;
        Ok(())
    }

    fn has_ended(&mut self, work: &Work) -> Result<bool, String> {
        let found = until("what the store holds", MENDS, || {
            self.vault.look(&work.run).map(Some)
        })?;
        if found.ended.is_none() {
            work.check(&found, &self.made, &self.stage)?;
            return Ok(false);
        }
        let causes = work.check_end(&found, &self.made, &self.stage, &self.someone)?;
        for (cause, count) in causes {
            *self.causes.entry(cause).or_default() += count;
        }
        if work.is_dag() {
            self.ended.0 += 1;
        } else {
            self.ended.1 += 1;
        }
        Ok(true)
    }

    /// Lets all runs come to their end.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        for work in std::mem::take(&mut self.works) {
            let begun = Instant::now();
            while !self.has_ended(&work)? {
                if begun.elapsed() > ENDS {
                    let shown = self.someone.run(["show", &work.run]);
                    return Err(format!("{} does not end:\n{}", work.run, shown.stdout));
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        Ok(())
    }

    /// An attempt of the generated pipeline that runs now.
    pub(crate) fn victim(&mut self) -> Result<Victim, String> {
        let begun = Instant::now();
        loop {
            self.go_on()?;
            let mut waiting = self.stage.waiting();
            waiting.retain(|attempt| self.works.iter().any(|work| work.run == attempt.run));
            waiting.shuffle(&mut self.rng);
            for attempt in waiting {
                if !self.stage.hold(&attempt) {
                    continue;
                }
                if let Some((pod, node)) = self.pod_of(&attempt) {
                    return Ok(Victim { attempt, pod, node });
                }
                self.stage.release(&attempt, "go");
            }
            if begun.elapsed() > MENDS {
                return Err("no step begins".to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The Pod of an attempt and its node, where it runs and nobody takes it away.
    fn pod_of(&self, attempt: &Attempt) -> Option<(String, String)> {
        let selector = format!("--selector=pipelines.auria.dev/run={}", attempt.run);
        let pods = self.cluster.get(&["pods", "--namespace=auria", &selector]);
        let number = attempt.number.to_string();
        let found = pods["items"].as_array()?.iter().find(|pod| {
            let annotations = &pod["metadata"]["annotations"];
            annotations["pipelines.auria.dev/step"] == attempt.step.as_str()
                && annotations["pipelines.auria.dev/attempt"] == number.as_str()
        })?;
        let is_well = found["status"]["phase"] == "Running"
            && found["metadata"]["deletionTimestamp"] == Value::Null;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (pod, node) = (
            text(&found["metadata"]["name"])?,
            text(&found["spec"]["nodeName"])?,
        );
        is_well.then_some((pod, node))
    }

    /// The controller's Pod that drives.
    pub(crate) fn leader(&self) -> Result<String, String> {
        let words = [
            "get",
            "lease",
            installation::LEASE,
            "--namespace=auria",
            "--output=jsonpath={.spec.holderIdentity}",
        ];
        let done = self.cluster.try_kubectl(&words);
        let holder = done.stdout.trim().to_owned();
        if done.code == 0 && !holder.is_empty() {
            return Ok(holder);
        }
        Err(format!("nobody leads: {}", done.stderr))
    }

    /// The controller's Pods.
    pub(crate) fn controllers(&self) -> Vec<String> {
        let pods = self.kubectl(&[
            "get",
            "pods",
            "--selector=app.kubernetes.io/name=auria-controller",
            "--output=jsonpath={.items[*].metadata.name}",
        ]);
        pods.split_whitespace().map(str::to_owned).collect()
    }

    /// Replaces what was killed often: the kubelet waits ever longer before it starts it again.
    pub(crate) fn renew(&self, pods: &[String]) {
        for pod in pods {
            let words = [
                "get",
                "pod",
                pod,
                "--namespace=auria",
                "--output=jsonpath={.status.containerStatuses[0].restartCount}",
            ];
            let count = self.cluster.try_kubectl(&words).stdout;
            if count.trim().parse::<u32>().is_ok_and(|count| count >= 2) {
                self.kubectl(&["delete", "pod", pod]);
            }
        }
    }

    /// Waits until nodes and both replicas are there, and one of them drives.
    pub(crate) fn whole(&self) -> Result<(), String> {
        until("the cluster to be whole", MENDS, || {
            for node in ["n1", "n2", "n3"] {
                if self.cluster.ready(node) != "True" {
                    return Err(format!("{node} is not ready"));
                }
            }
            let words = [
                "get",
                "deployment",
                "auria-controller",
                "--namespace=auria",
                "--output=jsonpath={.status.readyReplicas} {.status.replicas}",
            ];
            let ready = self.cluster.try_kubectl(&words);
            if ready.stdout.trim() != "2 2" {
                return Err(format!("replicas: {} {}", ready.stdout, ready.stderr));
            }
            let leader = self.leader()?;
            if !self.controllers().contains(&leader) {
                return Err(format!("{leader} led, and is gone"));
            }
            Ok(Some(()))
        })
    }
}
