//! What the programs of a node are told: the configurations of containerd, CNI, kubelet and
//! kube-proxy.
//!
//! Used by `node`. Each field that is no default has its reason beside it.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::layout::{DNS_SERVICE, Node, PAUSE, PODS, pki, run};
use super::machine::CNI_PLUGINS;

/// Where containerd listens, in a node.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Writes the configurations of `node` into its folder.
pub(crate) fn write(node: Node) -> anyhow::Result<()> {
    let folder = node.folder();
    for name in [
        "cni",
        "kubelet",
        "containerd",
        "pod-logs",
        "plugins",
        "imported",
    ] {
        fs::create_dir_all(folder.join(name))
            .with_context(|| format!("cannot make {name} in {}", folder.display()))?;
    }
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("containerd.toml", containerd(&folder))?;
    put("cni/10-pods.conflist", format!("{:#}\n", pod_network(node)))?;
    put("kubelet.json", format!("{:#}\n", kubelet(node, &folder)))?;
    put("kube-proxy.json", format!("{:#}\n", kube_proxy()))?;
    put("resolv.conf", String::new())
}

fn containerd(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd"
oom_score = 0
# It would make folders in /opt.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
# Machines without CAP_SYS_RESOURCE cannot lower it, and no sandbox would start.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{folder}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#
    )
}

/// Addresses of Pods are routed: nothing is masked.
fn pod_network(node: Node) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pods()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    // Gone with the node, as its Pods are.
                    "dataDir": "/run/cni-ipam",
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(node: Node, folder: &Path) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.cgroup()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": folder.join("resolv.conf"),
        // It would make a folder below /usr/libexec.
        "volumePluginDir": folder.join("plugins"),
        "readOnlyPort": 0,
        "registerNode": true,
        // With these a node that is lost is noticed in `node::GRACE`.
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 4,
        "syncFrequency": "10s",
        // Images come from archives; one that was collected could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // The nodes share the machine's disk and memory: a full disk must not evict at random.
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "serializeImagePulls": false,
        "protectKernelDefaults": false,
    })
}

fn kube_proxy() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": pki("proxy.kubeconfig")},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // A network namespace that is not the first may not write these.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    })
}

/// Where a node's programs write what they print.
pub(crate) fn log(node: Node, program: &str) -> std::path::PathBuf {
    run()
        .join("log")
        .join(format!("{}-{program}.log", node.name()))
}
