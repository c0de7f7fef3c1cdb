//! Pods without anything of ours: the least that a cluster takes.

use super::now;
use super::pods::Pods;
use auria_tests::cluster::Cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

/// A namespace for them, and a port of this machine that they can tell of their beginning.
pub(crate) struct Bare {
    pods: Api<Pod>,
    seen: Pods,
    begins: TcpListener,
}

/// The cluster, as its administrator reaches it.
pub(crate) async fn client(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("its kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.expect("its config")).expect("a client")
}

impl Bare {
    pub(crate) async fn new(cluster: &Cluster, namespace: &str) -> Self {
        let client = client(cluster).await;
        let begins = TcpListener::bind(("10.213.0.1", 0)).await;
        Self {
            pods: Api::namespaced(client.clone(), namespace),
            seen: Pods::watch(client, namespace),
            begins: begins.expect("the cluster's bridge is there"),
        }
    }

    async fn create(&self, name: &str, script: &str) {
        let version = env!("CARGO_PKG_VERSION");
        let pod = json!({
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "main",
                    "image": format!("auria.local/post:{version}"),
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["bash", "-c", script],
                }],
            },
        });
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let made = self.pods.create(&PostParams::default(), &pod).await;
        made.expect("the API server takes it");
    }

    /// Milliseconds from a Pod's creation to its process.
    pub(crate) async fn start_of(&self, number: usize) -> f64 {
        let address = self.begins.local_addr().expect("it has one");
        let (host, port) = (address.ip(), address.port());
        let name = format!("start-{number}");
        let begun = now();
        let script = format!("exec 3<>/dev/tcp/{host}/{port}; echo {name} >&3");
        self.create(&name, &script).await;
        loop {
            let (stream, _) = self.begins.accept().await.expect("a process calls");
            let at = now();
            let mut line = String::new();
            let _ = BufReader::new(stream).read_line(&mut line).await;
            if line.trim() == name {
                // Not beside the next one.
                self.seen.until(&[name], 1).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                return at - begun;
            }
        }
    }

    /// Seconds for one after another, each created when the one before is seen Succeeded.
    pub(crate) async fn chain(&self, count: usize, of: &str) -> f64 {
        let begun = now();
        for number in 0..count {
            let name = format!("{of}-{number}");
            self.create(&name, "true").await;
            self.seen.until(&[name], 1).await;
        }
        (now() - begun) / 1e3
    }

    /// Seconds for many, so many of them at once.
    pub(crate) async fn wide(&self, count: usize, at_once: usize) -> f64 {
        let names: Vec<String> = (0..count).map(|number| format!("wide-{number}")).collect();
        let begun = now();
        for (place, name) in names.iter().enumerate() {
            if let Some(ended) = (place + 1).checked_sub(at_once) {
                self.seen.until(&names, ended).await;
            }
            self.create(name, "true").await;
        }
        self.seen.until(&names, count).await;
        (now() - begun) / 1e3
    }
}
