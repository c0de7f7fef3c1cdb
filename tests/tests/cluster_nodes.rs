//! The test cluster itself: its nodes, what they advertise, and that Pods run where they fit.

use auria_tests::cluster::Cluster;
use serde_json::{Value, json};

auria_tests::cluster_tests![
    three_nodes_are_ready_with_their_gpus,
    a_pod_runs_where_its_cuda_fits,
    exchanged_labels_exchange_the_placement,
    a_pod_reaches_the_object_store_and_another_nodes_pod,
    kubectl_reads_logs_and_runs_commands,
];

fn needs_cuda_13() -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{
            "key": "nvidia.com/cuda.runtime-version.major", "operator": "Gt", "values": ["12"],
        }]}],
    }}}})
}

fn one_gpu() -> Value {
    json!({"nvidia.com/gpu": 1})
}

fn three_nodes_are_ready_with_their_gpus(cluster: &Cluster) {
    let nodes = cluster.get(&["nodes"]);
    let seen: Vec<Value> = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| {
            let labels = &node["metadata"]["labels"];
            json!([
                node["metadata"]["name"],
                cluster.ready(node["metadata"]["name"].as_str().unwrap_or_default()),
                labels["nvidia.com/gpu.product"],
                labels["nvidia.com/cuda.runtime-version.full"],
                labels["nvidia.com/gpu.compute.major"],
                node["status"]["allocatable"]["nvidia.com/gpu"],
            ])
        })
        .collect();
    assert_eq!(
        json!(seen),
        json!([
            ["n1", "True", "Tesla-V100-SXM2-16GB", "12.6", "7", "1"],
            ["n2", "True", "NVIDIA-B200", "13.0", "10", "2"],
            ["n3", "True", null, null, null, null],
        ])
    );
}

fn a_pod_runs_where_its_cuda_fits(cluster: &Cluster) {
    let namespace = cluster.namespace();
    namespace.run("new", "echo done", &one_gpu(), &needs_cuda_13());
    namespace.wait_for_phase("new", "Succeeded");
    assert_eq!(namespace.pod("new")["spec"]["nodeName"], "n2");
    // Three of the two GPUs of n2: the third waits, and the scheduler says why.
    for name in ["a", "b", "c"] {
        namespace.run(name, "sleep 600", &one_gpu(), &needs_cuda_13());
    }
    namespace.wait_for_phase("a", "Running");
    namespace.wait_for_phase("b", "Running");
    let why = || {
        let pod = namespace.pod("c");
        let condition = pod["status"]["conditions"][0].clone();
        (condition["reason"] == "Unschedulable")
            .then(|| condition["message"].as_str().unwrap_or_default().to_owned())
    };
    auria_tests::cluster::wait("the scheduler's word on c", || why().is_some());
    let said = why().unwrap_or_default();
    assert!(said.contains("Insufficient nvidia.com/gpu"), "{said}");
    namespace.kubectl(&["delete", "pod", "a", "--grace-period=0", "--force"]);
    namespace.wait_for_phase("c", "Running");
}

fn exchanged_labels_exchange_the_placement(cluster: &Cluster) {
    let namespace = cluster.namespace();
    cluster.xtask(&["gpus", "n1=b200", "n2=none", "n3=v100"]);
    let begun = std::panic::catch_unwind(|| {
        namespace.run("new", "echo done", &one_gpu(), &needs_cuda_13());
        namespace.wait_for_phase("new", "Succeeded");
        let node = namespace.pod("new")["spec"]["nodeName"].clone();
        let n2 = cluster.get(&["node", "n2"]);
        (node, n2)
    });
    cluster.xtask(&["gpus", "n1=v100", "n2=b200", "n3=none"]);
    let (node, n2) = begun.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(node, "n1");
    assert_eq!(
        n2["metadata"]["labels"]["nvidia.com/gpu.product"],
        Value::Null
    );
    assert_eq!(n2["status"]["allocatable"]["nvidia.com/gpu"], Value::Null);
    three_nodes_are_ready_with_their_gpus(cluster);
}

fn a_pod_reaches_the_object_store_and_another_nodes_pod(cluster: &Cluster) {
    let namespace = cluster.namespace();
    let on = |node: &str| json!({"nodeName": node});
    let serve = "mkdir /www && echo here > /www/index.html && httpd -f -p 80 -h /www";
    namespace.run("server", serve, &Value::Null, &on("n1"));
    namespace.wait_for_phase("server", "Running");
    let address = namespace.pod("server")["status"]["podIP"].clone();
    let address = address.as_str().unwrap_or_default();
    let store = cluster.store();
    let endpoint = store
        .iter()
        .find_map(|(name, value)| {
            value
                .strip_prefix("http://")
                .filter(|_| name == "AWS_ENDPOINT_URL")
        })
        .unwrap_or_default();
    let (host, port) = endpoint.split_once(':').unwrap_or_default();
    let ask = |host: &str, port: &str| {
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {host} {port}")
    };
    // What of the store asks for no key is closed to Pods: the filer would give everything.
    let filer = format!("busybox nc -w 3 {host} 8331 </dev/null && echo open");
    let script = format!(
        "{}; {}; {filer} || true",
        ask(address, "80"),
        ask(host, port)
    );
    namespace.run("client", &script, &Value::Null, &on("n2"));
    namespace.wait_for_phase("client", "Succeeded");
    let said = namespace.kubectl(&["logs", "client"]);
    assert!(said.contains("\nhere\n"), "{said}");
    assert!(!said.contains("\nopen\n"), "{said}");
    assert!(
        said.contains("AccessDenied") || said.contains("ListAllMyBucketsResult"),
        "{said}"
    );
}

fn kubectl_reads_logs_and_runs_commands(cluster: &Cluster) {
    let namespace = cluster.namespace();
    namespace.run("pod", "echo begun; sleep 600", &Value::Null, &Value::Null);
    namespace.wait_for_phase("pod", "Running");
    auria_tests::cluster::wait("its log", || {
        namespace.kubectl(&["logs", "pod"]) == "begun\n"
    });
    let id = namespace.kubectl(&["exec", "pod", "--", "id", "-u"]);
    assert_eq!(id, "0\n");
    let version = cluster.kubectl(&["version", "--output=json"]);
    assert_eq!(
        version.matches("\"gitVersion\": \"v1.34.4\"").count(),
        2,
        "{version}"
    );
}
