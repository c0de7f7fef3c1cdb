//! The faults of the test cluster do what they say, and what is mended works again: those that
//! `cluster_recovery` does not make while pipelines run.

use auria_store::{Access, Store, StorePath, StoreUrl};
use auria_tests::cluster::{Cluster, Namespace, wait};
use serde_json::{Value, json};
use std::time::Duration;

auria_tests::cluster_tests![
    a_node_that_comes_back_with_a_new_disk_has_the_images,
    a_node_that_is_cut_off_goes_on,
    a_kubelet_that_comes_back_finds_its_pods_running,
    a_frozen_api_server_makes_who_asks_wait,
    a_frozen_store_makes_who_asks_wait,
    an_evicted_pod_is_told_and_a_budget_refuses,
];

/// Counts up in its log, ten times a second.
const COUNT: &str =
    "trap 'echo told; exit 7' TERM; i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done";

fn on(node: &str) -> Value {
    json!({"nodeName": node})
}

/// A Pod that counts, on this node.
fn counting(namespace: &Namespace, pod: &str, node: &str) {
    namespace.run(pod, COUNT, &Value::Null, &on(node));
    namespace.wait_for_phase(pod, "Running");
    wait("its first lines", || last_count(namespace, pod) > 2);
}

fn last_count(namespace: &Namespace, pod: &str) -> u32 {
    let done = namespace.try_kubectl(&["logs", pod, "--tail=1"]);
    done.stdout.trim().parse().unwrap_or(0)
}

/// The container that runs, and how often it was started again.
fn container(namespace: &Namespace, pod: &str) -> (Value, Value) {
    let status = &namespace.pod(pod)["status"]["containerStatuses"][0];
    (
        status["containerID"].clone(),
        status["restartCount"].clone(),
    )
}

fn wait_for_ready(cluster: &Cluster, node: &str, status: &str) {
    wait(&format!("{node} to be Ready={status}"), || {
        cluster.ready(node) == status
    });
}

fn a_node_that_comes_back_with_a_new_disk_has_the_images(cluster: &Cluster) {
    let namespace = cluster.namespace();
    let disk = cluster.home().join("run/nodes/n3");
    std::fs::write(disk.join("mark"), "").expect("a file on its disk");
    let broken = cluster.fault(&["kill-node", "n3"]);
    broken.mend_with(&["--wiped"]);
    assert!(!disk.join("mark").exists());
    namespace.run("next", "echo done", &Value::Null, &on("n3"));
    namespace.wait_for_phase("next", "Succeeded");
}

fn a_node_that_is_cut_off_goes_on(cluster: &Cluster) {
    let namespace = cluster.namespace();
    counting(&namespace, "pod", "n3");
    let before = last_count(&namespace, "pod");
    let container_before = container(&namespace, "pod");
    let broken = cluster.fault(&["cut-node", "n3"]);
    wait_for_ready(cluster, "n3", "Unknown");
    assert_ne!(cluster.node("n3")["kubelet"], Value::Null);
    broken.mend();
    wait_for_ready(cluster, "n3", "True");
    // It counted while nobody could see it: eight seconds and more, ten lines each.
    wait("its log", || last_count(&namespace, "pod") > before + 60);
    assert_eq!(container(&namespace, "pod"), container_before);
}

fn a_kubelet_that_comes_back_finds_its_pods_running(cluster: &Cluster) {
    let namespace = cluster.namespace();
    counting(&namespace, "pod", "n3");
    let before = container(&namespace, "pod");
    let broken = cluster.fault(&["kill-kubelet", "n3"]);
    let node = cluster.node("n3");
    assert_eq!(node["kubelet"], Value::Null);
    assert_ne!(node["containerd"], Value::Null);
    wait_for_ready(cluster, "n3", "Unknown");
    broken.mend();
    wait_for_ready(cluster, "n3", "True");
    assert_eq!(container(&namespace, "pod"), before);
    let now = last_count(&namespace, "pod");
    wait("it to go on", || last_count(&namespace, "pod") > now);
}

fn a_frozen_api_server_makes_who_asks_wait(cluster: &Cluster) {
    let broken = cluster.fault(&["freeze", "apiserver"]);
    let done = cluster.try_kubectl(&["get", "nodes", "--request-timeout=2s"]);
    assert_ne!(done.code, 0, "{}", done.stdout);
    broken.mend();
    cluster.kubectl(&["get", "nodes"]);
}

/// Does something with the cluster's object store, at most for so long.
fn store<T>(
    cluster: &Cluster,
    patience: Duration,
    work: impl AsyncFnOnce(Store) -> T,
) -> Option<T> {
    let variables = cluster.store();
    let settings: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let url = StoreUrl::S3 {
        bucket: "auria".into(),
        prefix: "cluster-faults".into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let work = async {
            let store = Store::open_with(&url, Access::Read, &settings).await;
            work(store.expect("the store opens")).await
        };
        tokio::time::timeout(patience, work).await.ok()
    })
}

const MINUTE: Duration = Duration::from_secs(60);

fn a_frozen_store_makes_who_asks_wait(cluster: &Cluster) {
    let ask = |patience| {
        store(cluster, patience, async |store| {
            let _ = store.read(&StorePath::from("none")).await;
        })
    };
    assert!(ask(MINUTE).is_some());
    let broken = cluster.fault(&["freeze", "store"]);
    assert!(ask(Duration::from_secs(2)).is_none());
    broken.mend();
    assert!(ask(MINUTE).is_some());
}

fn an_evicted_pod_is_told_and_a_budget_refuses(cluster: &Cluster) {
    let namespace = cluster.namespace();
    counting(&namespace, "pod", "n3");
    let budget = |least: u8| {
        cluster.apply(&json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "budget", "namespace": namespace.name()},
            "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "pod"}}},
        }));
    };
    namespace.kubectl(&["label", "pod", "pod", "app=pod"]);
    budget(1);
    wait("the budget to be counted", || {
        let words = [
            "get",
            "pdb",
            "budget",
            "--output=jsonpath={.status.currentHealthy}",
        ];
        namespace.try_kubectl(&words).stdout == "1"
    });
    let refused = cluster.evict(namespace.name(), "pod");
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("disruption budget"),
        "{}",
        refused.stderr
    );
    namespace.kubectl(&["delete", "pdb", "budget"]);
    // A finalizer keeps what is left of it to look at.
    let keep = r#"{"metadata":{"finalizers":["test.local/keep"]}}"#;
    namespace.kubectl(&["patch", "pod", "pod", "--type=merge", "-p", keep]);
    let done = cluster.evict(namespace.name(), "pod");
    assert_eq!(done.code, 0, "{}", done.stderr);
    namespace.wait_for_phase("pod", "Failed");
    let status = namespace.pod("pod")["status"].clone();
    assert!(
        status["conditions"]
            .to_string()
            .contains("EvictionByEvictionAPI"),
        "{status:#}"
    );
    let end = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(end["exitCode"], 7, "it was told to end: {end}");
    let free = r#"{"metadata":{"finalizers":null}}"#;
    namespace.kubectl(&["patch", "pod", "pod", "--type=merge", "-p", free]);
    wait("it to be gone", || namespace.pod("pod").is_null());
}
