//! What the tests of this crate share that need a real cluster: where it is, a namespace
//! for each case, and an image whose launcher is a shell that does what its token says.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

use auria_core::run::AttemptNews;
use auria_core::{AttemptId, Timestamp, last_word};
use auria_engine::relay::{BrokerAccess, TicketIssuer};
use auria_kubernetes::pod::LauncherSource;
use auria_kubernetes::resource::PipelineRun;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use libtest_mimic::Failed;
use serde_json::json;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// No case waits longer for one thing, also on a busy machine.
pub const LONG: Duration = Duration::from_secs(90);
/// A shell that does what its token says.
pub const IMAGE: &str = "test.local/told:2";
/// The same without a launcher.
pub const BARE: &str = "test.local/bare:1";

/// `target/cluster` of the project, where a cluster runs.
#[expect(clippy::disallowed_methods, reason = "a program's main")]
pub fn home() -> PathBuf {
    std::env::var_os("AURIA_TEST_CLUSTER").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cluster"),
        PathBuf::from,
    )
}

/// The same, where its API answers. One that was started for the tests may still mend from
/// what the last of them broke: it is waited for, and where it does not come, this program
/// fails rather than leave its cases out.
///
/// # Errors
/// Why there is none.
#[expect(clippy::disallowed_methods, reason = "a program's main")]
pub fn cluster() -> Result<PathBuf, String> {
    let home = home();
    let is_promised = std::env::var_os("AURIA_TEST_CLUSTER").is_some();
    let patience = if is_promised { LONG } else { Duration::ZERO };
    let begun = Instant::now();
    loop {
        let kubectl = Command::new(home.join("bin/kubectl"))
            .args(["--kubeconfig".as_ref(), home.join("kubeconfig").as_os_str()])
            .args(["get", "--raw", "/readyz", "--request-timeout=5s"])
            .output();
        if kubectl.is_ok_and(|done| done.status.success()) {
            return Ok(home);
        }
        if begun.elapsed() >= patience {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(
        !is_promised,
        "there should be a cluster in {}",
        home.display()
    );
    Err("there is no test cluster: `cargo xtask cluster up`".to_owned())
}

/// Puts the image of these tests onto the cluster's nodes.
pub fn load(home: &Path) {
    let script = b"#!/bin/sh\nexec /bin/sh -c \"$AURIA_BROKER_TOKEN\"\n";
    let mut layer = busybox();
    append(&mut layer, LAUNCHER, 0o755, script);
    put(home, IMAGE, layer);
}

/// Puts an image onto them that knows nothing of a launcher.
pub fn load_bare(home: &Path) {
    put(home, BARE, busybox());
}

/// Puts an image onto them that holds a launcher and nothing else; its name.
pub fn load_launcher(home: &Path, launcher: &Path) -> String {
    let bytes = std::fs::read(launcher).unwrap();
    // One name: the next takes its place on every node, and no archive piles up.
    let name = "test.local/launcher:1".to_owned();
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, LAUNCHER, 0o755, &bytes);
    put(home, &name, layer);
    name
}

const LAUNCHER: &str = "auria/bin/auria-launcher";

/// Loads an image of one layer.
fn put(home: &Path, name: &str, layer: tar::Builder<Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    image(&archive, name, layer.into_inner().unwrap());
    let done = Command::new(xtask(home))
        .args(["cluster".as_ref(), "load".as_ref(), archive.as_os_str()])
        .status()
        .expect("xtask is there");
    assert!(done.success(), "the image is not loaded");
}

#[expect(clippy::disallowed_methods, reason = "a test's own program")]
fn xtask(home: &Path) -> PathBuf {
    std::env::var_os("AURIA_TEST_XTASK").map_or_else(|| home.join("../debug/xtask"), PathBuf::from)
}

/// `cargo xtask cluster fault` with these words.
pub fn fault(words: &[&str]) {
    let done = Command::new(xtask(&home()))
        .args(["cluster", "fault"])
        .args(words)
        .status()
        .expect("xtask is there");
    assert!(done.success(), "xtask cluster fault {words:?}");
}

/// Mends what a test broke, also where it has failed.
pub struct Mended(pub &'static [&'static str]);

impl Drop for Mended {
    fn drop(&mut self) {
        fault(self.0);
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, bytes).unwrap();
}

/// A layer with a shell and what goes with it.
fn busybox() -> tar::Builder<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox")
        .or_else(|_| std::fs::read("/usr/bin/busybox"))
        .expect("there is busybox");
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "bin/busybox", 0o755, &busybox);
    for name in [
        "sh", "sleep", "tail", "echo", "cat", "kill", "id", "df", "grep", "touch", "ls", "nc",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer
            .append_link(&mut header, format!("bin/{name}"), "/bin/busybox")
            .unwrap();
    }
    layer
}

/// A docker archive of one layer.
fn image(archive: &Path, image: &str, layer: Vec<u8>) {
    let digest = sha256(&layer);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    })
    .to_string();
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest = json!([{"Config": name, "RepoTags": [image], "Layers": ["layer.tar"]}]);
    let mut image = tar::Builder::new(Vec::new());
    append(&mut image, "layer.tar", 0o644, &layer);
    append(&mut image, &name, 0o644, config.as_bytes());
    append(
        &mut image,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    );
    std::fs::write(archive, image.into_inner().unwrap()).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Hands out what a test wants done as the token.
#[derive(Default)]
pub struct Told(pub Mutex<BTreeMap<AttemptId, String>>);

impl TicketIssuer for Told {
    fn issue(&self, attempt: &AttemptId) -> BrokerAccess {
        BrokerAccess {
            url: "https://broker.test".to_owned(),
            token: self.0.lock().unwrap()[attempt].clone(),
            authority: "none".to_owned(),
        }
    }

    fn last_word(&self, _attempt: &AttemptId, word: &str) -> Option<AttemptNews> {
        let (_, news) = last_word::open(word, |said| Some(format!("{said}/test")))?;
        Some(news)
    }
}

/// Runs a case in a namespace of its own, which goes with all in it.
pub fn case<F: Future<Output = ()>>(case: impl FnOnce(Client, String) -> F) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, namespace) = space().await;
        let ran = futures::FutureExt::catch_unwind(AssertUnwindSafe(case(
            client.clone(),
            namespace.clone(),
        )));
        let ended = ran.await;
        // Nobody drives these any more, and their finalizers would keep the namespace.
        let runs: Api<PipelineRun> = Api::namespaced(client.clone(), &namespace);
        for run in runs
            .list(&ListParams::default())
            .await
            .into_iter()
            .flatten()
        {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let name = run.name_any();
            let _ = runs.patch(&name, &PatchParams::default(), &patch).await;
        }
        let namespaces: Api<Namespace> = Api::all(client);
        let _ = namespaces
            .delete(&namespace, &DeleteParams::default())
            .await;
        ended.map_err(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Failed::from(said.unwrap_or_default())
        })
    })
}

async fn space() -> (Client, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let home = cluster().unwrap();
    let kubeconfig = Kubeconfig::read_from(home.join("kubeconfig")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let namespace = format!("kubernetes-{}-{number}", std::process::id());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
    namespaces
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let began = Instant::now();
    while accounts.get_opt("default").await.unwrap().is_none() {
        assert!(began.elapsed() < LONG, "no service account");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (client, namespace)
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

/// Our images carry the launcher.
pub fn launcher() -> LauncherSource {
    LauncherSource {
        image: None,
        carried_by: vec!["test.local/".to_owned()],
        image_volumes: false,
    }
}
