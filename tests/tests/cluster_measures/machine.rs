//! What the API server counted, and what the controller's process took.

use auria_tests::cluster::Cluster;
use auria_tests::installation;

/// Requests that the API server has answered.
pub(crate) fn requests(cluster: &Cluster) -> f64 {
    let text = cluster.kubectl(&["get", "--raw", "/metrics"]);
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// What the controller's process has taken so far.
pub(crate) struct Used {
    /// Seconds of processors.
    pub(crate) cpu: f64,
    /// MiB of memory, at most.
    pub(crate) memory: f64,
}

impl Used {
    pub(crate) fn of_controller(cluster: &Cluster) -> Self {
        let words = [
            "get",
            "pods",
            "--selector=app.kubernetes.io/name=auria-controller",
            "--output=jsonpath={.items[*].metadata.name}",
        ];
        let pods = installation::kubectl(cluster, &words);
        let mut used = Self {
            cpu: 0.0,
            memory: 0.0,
        };
        for pod in pods.split_whitespace() {
            for pid in auria_tests::cluster::processes_with(&format!("POD_NAME={pod}")) {
                let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
                let stat = read("stat").unwrap_or_default();
                // The name in brackets may hold anything; user and system time stand 12 and 13
                // fields behind it, in hundredths of seconds.
                let fields: Vec<&str> = stat
                    .rsplit_once(')')
                    .map(|(_, rest)| rest.split_whitespace().collect())
                    .unwrap_or_default();
                let ticks = [11, 12]
                    .iter()
                    .filter_map(|place| fields.get(*place)?.parse::<f64>().ok());
                used.cpu += ticks.sum::<f64>() / 100.0;
                let status = read("status").unwrap_or_default();
                let most = status.lines().find_map(|line| {
                    let kib = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?;
                    kib.trim().parse::<f64>().ok()
                });
                used.memory += most.unwrap_or(0.0) / 1024.0;
            }
        }
        used
    }
}
