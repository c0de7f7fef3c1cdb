//! The control plane: etcd, API server, controller manager and scheduler, as processes of this
//! machine.
//!
//! Used by `up`, `down` and `fault`. Why each flag is there that is no default stands beside it.

use std::process::Command;
use std::time::Duration;

use super::layout::{
    API_PORT, API_SERVICE, CONTROLLERS_PORT, ETCD_PEER_PORT, ETCD_PORT, HOST, SCHEDULER_PORT,
    SERVICES, api, bin, pki, run,
};
use super::process::{self, Process, wait};
use super::{kubectl, node};
use crate::shell::read;

/// The parts, in the order in which they are started.
pub(crate) const PARTS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

const PATIENCE: Duration = Duration::from_secs(90);

/// Makes what certificates and kubeconfigs are missing for so many nodes.
pub(crate) fn make_certificates(nodes: u8) -> anyhow::Result<()> {
    let names = [
        HOST,
        API_SERVICE,
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    read(
        Command::new(bin("pki"))
            .arg(run().join("pki"))
            .arg(api())
            .arg(nodes.to_string())
            .args(names),
    )?;
    Ok(())
}

/// Starts what of the control plane does not run, and waits until it serves.
pub(crate) fn start() -> anyhow::Result<()> {
    start_part("etcd")?;
    start_part("kube-apiserver")?;
    // A controller manager that comes before the first roles are there ends, and so does all.
    wait(
        "the API server",
        PATIENCE,
        &["etcd", "kube-apiserver"],
        || kubectl::is_ok("/readyz"),
    )?;
    start_part("kube-controller-manager")?;
    start_part("kube-scheduler")?;
    // Without it every Pod is refused.
    wait("the service account `default`", PATIENCE, &PARTS, || {
        kubectl::is_ok("/api/v1/namespaces/default/serviceaccounts/default")
    })
}

/// Starts one part, if it does not run.
pub(crate) fn start_part(name: &str) -> anyhow::Result<Process> {
    if let Some(process) = Process::noted(name) {
        return Ok(process);
    }
    process::start(name, &command(name))
}

fn command(name: &str) -> Command {
    let mut command = Command::new(bin(name));
    let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
    let file = |name: &str, file: &str| format!("--{name}={}", pki(file).display());
    match name {
        "etcd" => {
            let client = format!("http://127.0.0.1:{ETCD_PORT}");
            let peer = format!("http://127.0.0.1:{ETCD_PEER_PORT}");
            command.args([
                // A test cluster survives the loss of its processes, not of its machine.
                "--unsafe-no-fsync".to_owned(),
                flag("name", &"e"),
                flag("data-dir", &run().join("etcd").display()),
                flag("listen-client-urls", &client),
                flag("advertise-client-urls", &client),
                flag("listen-peer-urls", &peer),
                flag("initial-advertise-peer-urls", &peer),
                flag("initial-cluster", &format!("e={peer}")),
                flag("log-level", &"warn"),
            ]);
        }
        "kube-apiserver" => {
            command.args([
                flag("etcd-servers", &format!("http://127.0.0.1:{ETCD_PORT}")),
                // Only the cluster's own bridge, never the machine's other networks.
                flag("bind-address", &HOST),
                flag("advertise-address", &HOST),
                flag("secure-port", &API_PORT),
                flag("service-cluster-ip-range", &SERVICES),
                flag("authorization-mode", &"Node,RBAC"),
                flag("enable-admission-plugins", &"NodeRestriction"),
                flag("allow-privileged", &true),
                file("client-ca-file", "ca.crt"),
                file("tls-cert-file", "apiserver.crt"),
                file("tls-private-key-file", "apiserver.key"),
                file("kubelet-client-certificate", "apiserver-kubelet.crt"),
                file("kubelet-client-key", "apiserver-kubelet.key"),
                flag("kubelet-preferred-address-types", &"InternalIP"),
                flag(
                    "service-account-issuer",
                    &"https://kubernetes.default.svc.cluster.local",
                ),
                file("service-account-key-file", "sa.pub"),
                file("service-account-signing-key-file", "sa.key"),
            ]);
        }
        "kube-controller-manager" => {
            command.args([
                flag("leader-elect", &false),
                // Accounts of their own cost each start five seconds.
                flag("use-service-account-credentials", &false),
                file("service-account-private-key-file", "sa.key"),
                file("root-ca-file", "ca.crt"),
                // It would make a folder below /usr/libexec.
                flag("flex-volume-plugin-dir", &run().join("plugins").display()),
                // A node that is lost is noticed in seconds, so that tests can wait for it.
                flag("node-monitor-period", &"1s"),
                flag("node-monitor-grace-period", &node::GRACE),
                flag("bind-address", &"127.0.0.1"),
                flag("secure-port", &CONTROLLERS_PORT),
                file("kubeconfig", "admin.kubeconfig"),
                file("authentication-kubeconfig", "admin.kubeconfig"),
                file("authorization-kubeconfig", "admin.kubeconfig"),
            ]);
        }
        _ => {
            command.args([
                flag("leader-elect", &false),
                flag("bind-address", &"127.0.0.1"),
                flag("secure-port", &SCHEDULER_PORT),
                file("kubeconfig", "scheduler.kubeconfig"),
                file("authentication-kubeconfig", "admin.kubeconfig"),
                file("authorization-kubeconfig", "admin.kubeconfig"),
            ]);
        }
    }
    command
}
