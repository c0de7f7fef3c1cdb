//! The controller on the test cluster, as docs/install.md installs it: images from the
//! Dockerfiles, manifests through kubectl, and people who have the Role `auria-user` alone.
//! Used by the tests that need all of it; there is one installation at a time.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Context;
use crate::cluster::Cluster;
use crate::engine::{self, Engine, Kind};

/// Where it is.
pub const NAMESPACE: &str = "auria";
/// The service account that stands for a person.
pub const PERSON: &str = "kathi";
/// The Lease whose holder's name is that of the Pod that drives.
pub const LEASE: &str = "auria-controller";

/// An engine that builds images, and its client.
const DOCKER: Kind = Kind::Docker {
    live_restore: false,
};

/// Why images cannot be built here, where they cannot.
#[must_use]
pub fn without_images() -> Option<String> {
    let client = || Command::new("docker").arg("--version").output().is_ok();
    engine::missing(DOCKER)
        .or_else(|| (!client()).then(|| "there is no program `docker`".to_owned()))
}

/// The store of this test program.
#[must_use]
pub fn store() -> (String, String) {
    ("auria".to_owned(), std::process::id().to_string())
}

/// Gives the project's images to all nodes.
///
/// # Panics
/// Where they cannot be built.
pub fn load_images(cluster: &Cluster) {
    let target = auria_target();
    let archive = target.join("images/all.tar");
    let stamp = target.join("images/all.of");
    let of = programs_digest();
    let is_there = archive.is_file() && of.is_some() && of == std::fs::read_to_string(&stamp).ok();
    if !is_there {
        let _ = std::fs::remove_file(&stamp);
        build_images(&archive);
        if let Some(of) = of {
            std::fs::write(&stamp, of).expect("what the images are of");
        }
    }
    cluster.xtask(&["load", &archive.display().to_string()]);
}

/// Builds the images from the Dockerfiles on a local base, with an engine of its own.
fn build_images(archive: &Path) {
    let engine = Engine::start(DOCKER);
    engine.import(&engine::root("bookworm"), "test.local/bookworm:1");
    let built = Command::new(crate::program("xtask"))
        .current_dir(crate::project())
        .args(["images", "--no-build", "--base", "test.local/bookworm:1"])
        .arg("--save")
        .arg(archive)
        .env("DOCKER_HOST", engine.address())
        .status();
    assert!(built.is_ok_and(|status| status.success()), "images");
}

fn auria_target() -> PathBuf {
    let programs = crate::programs();
    programs.parent().map(Path::to_owned).unwrap_or(programs)
}

/// What the images are made of, where all of it is known to be built: then images of the same
/// programs need not be built again for each test program of one `cargo xtask test`.
fn programs_digest() -> Option<String> {
    let launcher = std::env::var_os("AURIA_TEST_LAUNCHER").map(PathBuf::from)?;
    let names = [
        "auria-haiku",
        "auria-paint",
        "auria-style",
        "auria-post",
        "auria-pipeline",
    ];
    let mut files: Vec<PathBuf> = names.iter().map(|name| crate::program(name)).collect();
    files.push(launcher);
    let dockerfiles = std::fs::read_dir(crate::project().join("dockerfiles")).ok()?;
    files.extend(dockerfiles.flatten().map(|entry| entry.path()));
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.as_os_str().as_encoded_bytes());
        hasher.update(blake3::hash(&std::fs::read(&file).ok()?).as_bytes());
    }
    Some(hasher.finalize().to_hex().to_string())
}

/// Takes away what an earlier test left.
pub fn clear(cluster: &Cluster) {
    // Its controller may be gone, and then nobody takes the finalizers away.
    let runs = [
        "get",
        "pipelineruns",
        "--output=name",
        "--namespace",
        NAMESPACE,
    ];
    for run in cluster.try_kubectl(&runs).stdout.lines() {
        let freed = r#"{"metadata":{"finalizers":null}}"#;
        let words = [
            "patch",
            run,
            "--type=merge",
            "--patch",
            freed,
            "--namespace",
            NAMESPACE,
        ];
        let _ = cluster.try_kubectl(&words);
    }
    let words = [
        "delete",
        "namespace",
        NAMESPACE,
        "--ignore-not-found",
        "--timeout=90s",
    ];
    let _ = cluster.try_kubectl(&words);
}

/// What docs/install.md says, step by step, with the manifests of this folder. What an earlier
/// test left is taken away.
///
/// # Panics
/// Where the controller does not come.
pub fn install(cluster: &Cluster, manifests: &Path) {
    clear(cluster);
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    let (bucket, prefix) = store();
    let mut secret = vec![
        "create".to_owned(),
        "secret".to_owned(),
        "generic".to_owned(),
        "auria-store".to_owned(),
        format!("--from-literal=AURIA_STORE=s3://{bucket}/{prefix}"),
    ];
    for (name, value) in cluster.store() {
        secret.push(format!("--from-literal={name}={value}"));
    }
    let secret: Vec<&str> = secret.iter().map(String::as_str).collect();
    kubectl(cluster, &secret);
    cluster.kubectl(&["apply", "-k", &manifests.display().to_string()]);
    kubectl(cluster, &["create", "serviceaccount", PERSON]);
    let account = format!("--serviceaccount={NAMESPACE}:{PERSON}");
    kubectl(
        cluster,
        &[
            "create",
            "rolebinding",
            PERSON,
            "--role=auria-user",
            &account,
        ],
    );
    kubectl(
        cluster,
        &["rollout", "restart", "deployment/auria-controller"],
    );
    rolled_out(cluster);
}

/// Waits until the controller is as its Deployment says.
///
/// # Panics
/// Where it does not come to that.
pub fn rolled_out(cluster: &Cluster) {
    let rolled = [
        "rollout",
        "status",
        "deployment/auria-controller",
        "--timeout=120s",
    ];
    kubectl(cluster, &rolled);
}

/// kubectl in the controller's namespace; what it printed.
///
/// # Panics
/// Where it fails.
pub fn kubectl(cluster: &Cluster, words: &[&str]) -> String {
    let words: Vec<&str> = ["--namespace", NAMESPACE]
        .iter()
        .chain(words)
        .copied()
        .collect();
    cluster.kubectl(&words)
}

/// A person whom the Role `auria-user` alone lets in, with a kubeconfig and nothing of the
/// store's.
///
/// # Panics
/// Where the cluster gives no token.
#[must_use]
pub fn someone(cluster: &Cluster) -> Context {
    let token = kubectl(cluster, &["create", "token", PERSON, "--duration=4h"]);
    with_token(cluster, token.trim())
}

/// Whoever shows this token to the cluster.
#[must_use]
pub fn with_token(cluster: &Cluster, token: &str) -> Context {
    let admin = std::fs::read_to_string(cluster.kubeconfig()).unwrap_or_default();
    let context = Context::new()
        .with_variable("AURIA_TARGET", "kubernetes")
        .without_store();
    let path = context.write("kubeconfig", &stranger(&admin, token));
    context.with_variable("KUBECONFIG", &path.display().to_string())
}

/// The kubeconfig of whoever holds `token`.
fn stranger(admin: &str, token: &str) -> String {
    let mut config: Value = serde_json::from_str(admin).unwrap_or_default();
    config["users"][0]["user"] = serde_json::json!({"token": token});
    config.to_string()
}
