//! The artist on a real cluster, as docs/install.md installs it: images from the Dockerfiles,
//! manifests through kubectl, and everything else through the binary by a person who has the
//! Role `auria-user` and nothing else.
//! The cases follow each other: they share one installation and one gallery of runs.

use auria_tests::cluster::{Cluster, wait};
use auria_tests::installation::{self, NAMESPACE, PERSON, kubectl, with_token};
use auria_tests::{Context, Done};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

auria_tests::cluster_tests![
    unless installation::without_images();
    the_artist_works_where_her_pins_fit,
    exchanged_gpus_exchange_the_steps,
    a_pin_that_nothing_fits_is_refused_with_what_there_is,
    a_killed_controller_loses_nothing,
    a_run_is_canceled_from_afar,
    whoever_watches_may_stop_and_a_run_that_nobody_drives_is_handed_over_again,
    the_cluster_is_examined,
    endpoints_and_schedules_are_served,
    rights_are_the_least,
    every_overlay_is_taken,
    a_run_is_tried_again_and_deleted_by_who_may,
];

#[path = "cluster_artist/served.rs"]
mod served;

/// The controller, installed once for all cases.
fn installed(cluster: &Cluster) {
    static DONE: OnceLock<bool> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        std::panic::catch_unwind(|| {
            installation::load_images(cluster);
            let manifests = auria_tests::project().join("manifests/overlays/one-node");
            installation::install(cluster, &manifests);
        })
        .is_ok()
    });
    assert!(
        done,
        "the controller could not be installed; the first case says why"
    );
}

/// A person whom the Role `auria-user` alone lets in.
fn someone(cluster: &Cluster) -> Context {
    installed(cluster);
    installation::someone(cluster)
}

fn submit(someone: &Context, pipeline: &str, more: &[&str]) -> Done {
    let mut words = vec!["submit", pipeline, "--output", "json"];
    words.extend(more);
    someone.run(words)
}

fn artist(someone: &Context, seed: u32) -> Value {
    let file = auria_tests::project().join("pipelines.yaml");
    let seed = format!("inputs.seed={seed}");
    let words = ["--pipeline", "auria-kathi", "--set", &seed];
    let report = submit(someone, &file.display().to_string(), &words);
    report.exits(0).json()
}

/// The node of each step, as its Pod was bound.
fn node<'a>(report: &'a Value, step: &str) -> &'a str {
    report["steps"][step]["node"].as_str().unwrap_or_default()
}

fn the_artist_works_where_her_pins_fit(cluster: &Cluster) {
    let someone = someone(cluster);
    let report = artist(&someone, 64);
    assert_eq!(report["status"], "Completed", "{report:#}");
    // CUDA 12.6 has no code for the new GPU; 12.8 and 13.0 are ahead of the old driver.
    assert_eq!(node(&report, "write"), "n1", "{report:#}");
    assert_eq!(node(&report, "paint"), "n2", "{report:#}");
    assert_eq!(node(&report, "colour"), "n2", "{report:#}");
    let run = report["run"].as_str().unwrap_or_default();
    // It is written at most once a second.
    wait("the resource to say so", || {
        let shown = kubectl(cluster, &["get", "pipelineruns", run]);
        shown.contains("Completed")
    });
    someone.run(["download", run, "--to", "work"]).exits(0);
    let picture = someone.path().join("work/colour/picture/coloured.png");
    let bytes = std::fs::read(&picture).unwrap_or_default();
    assert!(bytes.starts_with(b"\x89PNG"), "{} bytes", bytes.len());
    let logs = someone.run(["logs", run, "write"]).exits(0);
    assert!(!logs.stdout.is_empty());
    let explained = someone.run(["explain", run, "write"]).exits(0).stdout;
    assert!(
        explained.contains("its launcher is in its own image"),
        "{explained}"
    );
    // Again: nothing runs.
    let again = artist(&someone, 64);
    for step in ["write", "paint", "colour"] {
        assert_eq!(again["steps"][step]["status"], "Reused", "{again:#}");
    }
}

fn exchanged_gpus_exchange_the_steps(cluster: &Cluster) {
    let someone = someone(cluster);
    cluster.xtask(&["gpus", "n1=b200", "n2=v100"]);
    let done = std::panic::catch_unwind(|| artist(&someone, 65));
    cluster.xtask(&["gpus", "n1=v100", "n2=b200"]);
    let report = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(report["status"], "Completed", "{report:#}");
    assert_eq!(node(&report, "write"), "n2", "{report:#}");
    assert_eq!(node(&report, "paint"), "n1", "{report:#}");
}

fn a_pin_that_nothing_fits_is_refused_with_what_there_is(cluster: &Cluster) {
    let someone = someone(cluster);
    cluster.xtask(&["gpus", "n2=none"]);
    let file = auria_tests::project().join("pipelines.yaml");
    let file = file.display().to_string();
    let done = std::panic::catch_unwind(|| submit(&someone, &file, &["--set", "inputs.seed=66"]));
    cluster.xtask(&["gpus", "n2=b200"]);
    let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let done = done.exits(2);
    for said in ["`colour`", "CUDA 13.0", "Tesla-V100-SXM2-16GB", "n3"] {
        assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
    }
    assert!(!done.stderr.contains("`write`"), "{}", done.stderr);
}

/// Two steps, the first of which takes its time.
const SLOW: &str = "
type: pipeline
name: slow
jobs:
  first:
    command: echo begun; sleep 8; echo done > ${{outputs.o}}
    environment: {image: 'auria.local/post:VERSION'}
    outputs: {o: {type: uri_file}}
  second:
    command: cat ${{inputs.i}}
    environment: {image: 'auria.local/post:VERSION'}
    inputs: {i: '${{parent.jobs.first.outputs.o}}'}
";

fn slow(how_long: &str) -> String {
    SLOW.replace("VERSION", env!("CARGO_PKG_VERSION"))
        .replace("sleep 8", how_long)
}

fn a_killed_controller_loses_nothing(cluster: &Cluster) {
    let someone = someone(cluster);
    someone.write("slow.yml", &slow("sleep 8"));
    let run = submit(&someone, "slow.yml", &["--detach", "--force-rerun"])
        .exits(0)
        .json();
    let run = run["run"].as_str().unwrap_or_default().to_owned();
    wait("the first step", || {
        someone
            .run(["logs", &run, "first"])
            .stdout
            .contains("begun")
    });
    let pods = [
        "delete",
        "pod",
        "--selector=app.kubernetes.io/name=auria-controller",
    ];
    let now: Vec<&str> = pods
        .iter()
        .chain(&["--grace-period=0", "--force"])
        .copied()
        .collect();
    kubectl(cluster, &now);
    // Whoever reads along or watches is not disturbed by that.
    let reads = someone.start(["logs", &run, "--follow"]);
    let report = someone
        .run(["watch", &run, "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(report["status"], "Completed", "{report:#}");
    for step in ["first", "second"] {
        assert_eq!(report["steps"][step]["attempts"], 1, "{report:#}");
    }
    let read = reads.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success(), "{read:?}");
    for line in ["first  │ begun", "second │ done"] {
        assert!(text.contains(line), "{text}");
    }
}

fn a_run_is_canceled_from_afar(cluster: &Cluster) {
    let someone = someone(cluster);
    someone.write("slow.yml", &slow("sleep 600"));
    let run = submit(&someone, "slow.yml", &["--detach", "--force-rerun"])
        .exits(0)
        .json();
    let run = run["run"].as_str().unwrap_or_default().to_owned();
    wait("the first step", || {
        someone
            .run(["logs", &run, "first"])
            .stdout
            .contains("begun")
    });
    someone.run(["cancel", &run]).exits(0);
    let report = someone
        .run(["watch", &run, "--output", "json"])
        .exits(3)
        .json();
    assert_eq!(report["status"], "Canceled", "{report:#}");
    assert_eq!(report["steps"]["first"]["status"], "Canceled", "{report:#}");
    assert_eq!(report["steps"]["second"]["attempts"], 0, "{report:#}");
}

/// Scales the controller, and waits until that holds.
fn replicas(cluster: &Cluster, count: u32) {
    let count = format!("--replicas={count}");
    kubectl(cluster, &["scale", "deployment/auria-controller", &count]);
    let rolled = [
        "rollout",
        "status",
        "deployment/auria-controller",
        "--timeout=120s",
    ];
    kubectl(cluster, &rolled);
    if count == "--replicas=0" {
        let gone = [
            "wait",
            "--for=delete",
            "pods",
            "--selector=app.kubernetes.io/name=auria-controller",
            "--timeout=60s",
        ];
        kubectl(cluster, &gone);
    }
}

fn whoever_watches_may_stop_and_a_run_that_nobody_drives_is_handed_over_again(cluster: &Cluster) {
    let someone = someone(cluster);
    someone.write("slow.yml", &slow("sleep 20"));
    let run = submit(&someone, "slow.yml", &["--detach", "--force-rerun"])
        .exits(0)
        .json();
    let run = run["run"].as_str().unwrap_or_default().to_owned();
    wait("the first step", || {
        someone
            .run(["logs", &run, "first"])
            .stdout
            .contains("begun")
    });
    // Ctrl-C stops watching, and the run goes on.
    let watches = someone.start(["watch", &run]);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let number = watches.id().to_string();
    let sent = Command::new("kill").args(["-INT", &number]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    let stopped = watches.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(130), "{said}");
    assert!(
        said.contains(&format!("auria-pipeline cancel {run}")),
        "{said}"
    );
    // Its resource goes while nobody drives it: nobody would ever take it up.
    replicas(cluster, 0);
    let freed = r#"{"metadata":{"finalizers":null}}"#;
    let resource = format!("pipelinerun/{run}");
    kubectl(cluster, &["delete", &resource, "--wait=false"]);
    kubectl(
        cluster,
        &["patch", &resource, "--type=merge", "--patch", freed],
    );
    replicas(cluster, 1);
    let report = someone
        .run(["watch", &run, "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(report["status"], "Completed", "{report:#}");
}

fn a_run_is_tried_again_and_deleted_by_who_may(cluster: &Cluster) {
    let someone = someone(cluster);
    let text = slow("true").replace("cat ${{inputs.i}}", "test -e ${{inputs.i}}.not-there");
    someone.write("fails.yml", &text);
    let failed = submit(&someone, "fails.yml", &["--force-rerun"])
        .exits(1)
        .json();
    let run = failed["run"].as_str().unwrap_or_default();
    // What finished is kept, and what failed runs again.
    let again = someone
        .run(["retry", run, "--output", "json"])
        .exits(1)
        .json();
    assert_eq!(again["steps"]["first"]["status"], "Reused", "{again:#}");
    assert_eq!(again["steps"]["second"]["attempts"], 1, "{again:#}");
    let retried = again["run"].as_str().unwrap_or_default();
    assert_ne!(retried, run);
    let whole = ["retry", run, "--from", "first", "--output", "json"];
    let whole = someone.run(whole).exits(1).json();
    assert_eq!(whole["steps"]["first"]["status"], "Completed", "{whole:#}");
    let unknown = someone.run(["retry", run, "--from", "none"]);
    assert_ne!(unknown.code, 0);
    assert!(unknown.stderr.contains("none"), "{}", unknown.stderr);
    // Who may submit and not delete, is told so.
    for words in [&["delete", retried, "--grace", "0s"][..], &["gc"]] {
        let said = someone.run(words).exits(4).stderr;
        assert!(said.contains("--role auria-admin"), "{said}");
    }
    let account = format!("--serviceaccount={NAMESPACE}:{PERSON}");
    kubectl(
        cluster,
        &[
            "create",
            "rolebinding",
            "deletes",
            "--role=auria-admin",
            &account,
        ],
    );
    // One whose outputs another uses stays.
    let kept = someone.run(["delete", run, "--grace", "0s"]).exits(2);
    assert!(kept.stderr.contains(retried), "{}", kept.stderr);
    let words = ["delete", retried, "--grace", "0s", "--output", "json"];
    let gone = someone.run(words).exits(0).json();
    assert_eq!(gone[0]["fate"], "deleted", "{gone:#}");
    someone.run(["show", retried]).exits(2);
    wait("its resource to go", || {
        let words = ["get", "pipelinerun", retried, "--ignore-not-found"];
        kubectl(cluster, &words).is_empty()
    });
    // Now nobody uses it: it is marked, and goes with a collection.
    let marked = someone
        .run(["delete", run, "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(marked[0]["fate"], "marked", "{marked:#}");
    let dry = ["gc", "--grace", "0s", "--dry-run", "--output", "json"];
    assert_eq!(someone.run(dry).exits(0).json()["dry_run"], true);
    someone.run(["delete", run, "--grace", "0s"]).exits(0);
    let collected = someone
        .run([
            "gc",
            "--older-than",
            "0s",
            "--grace",
            "0s",
            "--output",
            "json",
        ])
        .exits(0)
        .json();
    let fates = collected["runs"].as_array().cloned().unwrap_or_default();
    let whole = whole["run"].as_str().unwrap_or_default();
    let fate = fates.iter().find(|fate| fate["run"] == whole);
    assert_eq!(
        fate.map(|fate| &fate["fate"]),
        Some(&Value::from("deleted"))
    );
}

fn the_cluster_is_examined(cluster: &Cluster) {
    let someone = someone(cluster);
    let found = someone.run(["doctor"]).exits(0).stdout;
    for said in [
        "Kubernetes v1.34",
        "system:serviceaccount:auria:auria-user",
        "s3://auria/",
        "in images that begin with auria.local/",
        "init container of auria.local/launcher",
    ] {
        assert!(found.contains(said), "{said}: {found}");
    }
    // Where there is none.
    let nowhere = someone.run(["doctor", "--namespace", "default"]).exits(4);
    assert!(
        nowhere.stdout.contains("✗ controller"),
        "{}",
        nowhere.stdout
    );
}

/// Each is taken by the API server as it stands; nothing is changed by that.
fn every_overlay_is_taken(cluster: &Cluster) {
    installed(cluster);
    let manifests = auria_tests::project().join("manifests");
    let overlays = std::fs::read_dir(manifests.join("overlays")).expect("overlays");
    let overlays = overlays.map(|entry| entry.expect("one").path());
    let all: Vec<PathBuf> = overlays.chain([manifests.clone()]).collect();
    assert!(all.len() >= 5, "{all:?}");
    for folder in all {
        let folder = folder.display().to_string();
        let words = ["apply", "--dry-run=server", "-k", &folder];
        let taken = cluster.kubectl(&words);
        assert!(
            taken.contains("deployment.apps/auria-controller"),
            "{taken}"
        );
    }
    // `network: none` is kept in by one policy, and let out by no other.
    let production = manifests.join("overlays/production").display().to_string();
    let objects = cluster.kubectl(&["kustomize", &production]);
    assert!(objects.contains("operator: NotIn"), "{objects}");
}

fn endpoints_and_schedules_are_served(cluster: &Cluster) {
    served::endpoints_and_schedules(cluster, &someone(cluster));
}

fn rights_are_the_least(cluster: &Cluster) {
    let someone = someone(cluster);
    let may = |account: &str, verb: &str, what: &str, namespace: &str| {
        let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
        let words = ["auth", "can-i", verb, what, &user, "--namespace", namespace];
        cluster.try_kubectl(&words).stdout.trim() == "yes"
    };
    let controller = |verb, what| may("auria-controller", verb, what, NAMESPACE);
    for (verb, what) in [
        ("create", "pods"),
        ("watch", "pipelineruns"),
        ("list", "nodes"),
        ("update", "leases.coordination.k8s.io/auria-controller"),
        ("patch", "pipelineschedules/status"),
    ] {
        assert!(controller(verb, what), "{verb} {what}");
    }
    for (verb, what) in [
        ("list", "secrets"),
        ("get", "secrets/auria-store"),
        ("create", "roles"),
        ("delete", "nodes"),
        ("create", "deployments.apps"),
        ("get", "configmaps"),
        ("patch", "pods"),
        ("watch", "nodes"),
        ("list", "leases.coordination.k8s.io"),
        ("delete", "leases.coordination.k8s.io/auria-controller"),
        ("update", "leases.coordination.k8s.io/another"),
    ] {
        assert!(!controller(verb, what), "{verb} {what}");
    }
    assert!(!may("auria-controller", "create", "pods", "default"));
    for (verb, what) in [
        ("create", "pods"),
        ("get", "pods"),
        ("list", "pods"),
        ("delete", "pods"),
        ("get", "secrets"),
    ] {
        assert!(!may(PERSON, verb, what, NAMESPACE), "{verb} {what}");
    }
    // A step's Pod holds no token of the cluster.
    someone.write(
        "look.yml",
        &slow(
            "ls /var/run/secrets/kubernetes.io 2>&1; env | grep -c -E 'AWS_|AURIA_BROKER' || true",
        ),
    );
    let report = submit(&someone, "look.yml", &["--force-rerun"])
        .exits(0)
        .json();
    let run = report["run"].as_str().unwrap_or_default();
    let logs = someone.run(["logs", run, "first"]).exits(0).stdout;
    assert!(
        logs.contains("No such file") && logs.contains("\n0\n"),
        "{logs}"
    );
    // Somebody who is nobody here.
    let elsewhere = cluster.namespace();
    let token = elsewhere.kubectl(&["create", "token", "default"]);
    let denied = with_token(cluster, token.trim()).run(["runs"]).exits(4);
    assert!(denied.stderr.contains("forbidden"), "{}", denied.stderr);
    assert!(
        denied.stderr.contains("Role auria-user"),
        "{}",
        denied.stderr
    );
}
