//! Where a test cluster's files lie, and every address, port and name that it takes on the
//! machine: nothing of the kind stands anywhere else.
//!
//! Used by all of `cluster`.

use std::path::PathBuf;

use crate::shell::installs;

/// The Kubernetes that `tests/cluster/go.mod` pins.
pub(crate) const KUBERNETES: &str = "1.34.4";

/// The bridge that joins the nodes; the machine's own address on it is [`HOST`].
pub(crate) const BRIDGE: &str = "auria0";
/// Without an address of its own a bridge takes that of a port, and changes it when a node dies:
/// all other nodes then lose the API server for a dozen seconds.
pub(crate) const BRIDGE_MAC: &str = "02:a5:71:a0:00:01";
/// The machine's address on the bridge: the API server and the object store listen there.
pub(crate) const HOST: &str = "10.213.0.1";
/// The network of the nodes.
pub(crate) const NODES: &str = "10.213.0.0/24";
/// The network of all Pods; node `nI` has `10.214.I.0/24`.
pub(crate) const PODS: &str = "10.214.0.0/16";
/// The network of Services.
pub(crate) const SERVICES: &str = "10.215.0.0/16";
/// The first address of [`SERVICES`], which is the API server's.
pub(crate) const API_SERVICE: &str = "10.215.0.1";
/// Where Pods would ask for names, if a server were there.
pub(crate) const DNS_SERVICE: &str = "10.215.0.10";

/// The API server's port on [`HOST`].
pub(crate) const API_PORT: u16 = 6443;
/// The object store's S3 port on [`HOST`].
pub(crate) const S3_PORT: u16 = 8333;
/// The object store's other ports on [`HOST`], by the flags of `weed mini`. What listens there
/// asks for no key, so that nodes let nothing pass to them.
pub(crate) const STORE_PORTS: [(&str, u16); 9] = [
    ("master.port", STORE_MASTER_PORT),
    ("master.port.grpc", 18330),
    ("filer.port", 8331),
    ("filer.port.grpc", 18331),
    ("volume.port", 8332),
    ("volume.port.grpc", 18332),
    ("s3.port.grpc", 18333),
    ("admin.port", 8334),
    ("admin.port.grpc", 18334),
];
/// The one that tells whether the store can take something.
pub(crate) const STORE_MASTER_PORT: u16 = 8330;
/// Ports of the control plane on 127.0.0.1.
pub(crate) const ETCD_PORT: u16 = 22379;
pub(crate) const ETCD_PEER_PORT: u16 = 22380;
pub(crate) const CONTROLLERS_PORT: u16 = 22357;
pub(crate) const SCHEDULER_PORT: u16 = 22359;

/// The bucket that the object store makes.
pub(crate) const BUCKET: &str = "auria";
/// The image of the process that keeps a Pod's namespaces.
pub(crate) const PAUSE: &str = "test.local/pause:1";
/// An image with a shell, for tests of the cluster itself.
pub(crate) const BUSYBOX: &str = "test.local/busybox:1";

/// More nodes would need other addresses.
pub(crate) const MOST_NODES: u8 = 9;

/// A node's number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node(pub(crate) u8);

impl Node {
    /// Its name in the cluster.
    pub(crate) fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// Its address on the bridge.
    pub(crate) fn address(self) -> String {
        format!("10.213.0.1{}", self.0)
    }

    /// The network of its Pods.
    pub(crate) fn pods(self) -> String {
        format!("10.214.{}.0/24", self.0)
    }

    /// The machine's end of its cable.
    pub(crate) fn link(self) -> String {
        format!("auria-n{}", self.0)
    }

    /// Its cgroup in each hierarchy.
    pub(crate) fn cgroup(self) -> String {
        format!("auria-n{}", self.0)
    }

    /// Where its disk is.
    pub(crate) fn folder(self) -> PathBuf {
        run().join("nodes").join(self.name())
    }

    /// The node of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let number: u8 = name.strip_prefix('n')?.parse().ok()?;
        (1..=MOST_NODES).contains(&number).then_some(Self(number))
    }
}

/// The cluster's folder, `target/cluster`.
pub(crate) fn home() -> PathBuf {
    installs().join("cluster")
}

/// The programs that were built.
pub(crate) fn bin(name: &str) -> PathBuf {
    home().join("bin").join(name)
}

/// Images for every node, see `images`.
pub(crate) fn images() -> PathBuf {
    home().join("images")
}

/// All state: what `reset` wipes.
pub(crate) fn run() -> PathBuf {
    home().join("run")
}

/// Certificates and kubeconfigs.
pub(crate) fn pki(name: &str) -> PathBuf {
    run().join("pki").join(name)
}

/// A program's output.
pub(crate) fn log(name: &str) -> PathBuf {
    run().join("log").join(format!("{name}.log"))
}

/// The administrator's kubeconfig, for users.
pub(crate) fn kubeconfig() -> PathBuf {
    home().join("kubeconfig")
}

/// The config of `auria-pipeline` for this cluster.
pub(crate) fn config() -> PathBuf {
    home().join("auria.yaml")
}

/// The object store's address and keys, as variables of a shell; private.
pub(crate) fn store_env() -> PathBuf {
    home().join("store.env")
}

/// The API server's address.
pub(crate) fn api() -> String {
    format!("https://{HOST}:{API_PORT}")
}

/// The object store's address.
pub(crate) fn s3() -> String {
    format!("http://{HOST}:{S3_PORT}")
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn a_node_has_a_name_and_addresses() {
        let node = Node::named("n2").unwrap();
        assert_eq!(
            (node.name(), node.address()),
            ("n2".into(), "10.213.0.12".into())
        );
        assert_eq!(node.pods(), "10.214.2.0/24");
        assert!(node.link().len() < 16, "a link's name has 15 bytes at most");
        for wrong in ["n0", "n10", "x1", "n", "n-1"] {
            assert_eq!(Node::named(wrong), None, "{wrong}");
        }
    }
}
