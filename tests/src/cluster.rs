//! The test cluster, for tests: kubectl, namespaces of their own, and faults. It is started by
//! `cargo xtask test cluster`, or by hand with `cargo xtask cluster up`; here it is only used.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Done;

/// How long something may take that takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    home: PathBuf,
    xtask: PathBuf,
}

/// A namespace that is deleted with all in it when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

/// Something that is broken until [`Broken::mend`], or until this is dropped.
#[derive(Debug)]
pub struct Broken {
    cluster: Cluster,
    mending: Option<Vec<String>>,
}

impl Cluster {
    /// The cluster that runs.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub fn find() -> Result<Self, String> {
        let home = std::env::var_os("AURIA_TEST_CLUSTER").map_or_else(
            || {
                let programs = crate::programs();
                programs.parent().unwrap_or(&programs).join("cluster")
            },
            PathBuf::from,
        );
        let xtask = std::env::var_os("AURIA_TEST_XTASK")
            .map_or_else(|| crate::programs().join("xtask"), PathBuf::from);
        let cluster = Self { home, xtask };
        if !cluster.home.join("kubeconfig").is_file() || !cluster.xtask.is_file() {
            return Err(
                "there is no test cluster: `cargo xtask test cluster` starts one where the machine can"
                    .to_owned(),
            );
        }
        // One that was started for the tests may still mend from what the last of them broke.
        let patience = match std::env::var_os("AURIA_TEST_CLUSTER") {
            Some(_) => PATIENCE,
            None => Duration::ZERO,
        };
        let begun = Instant::now();
        loop {
            let status = cluster.xtask(&["status", "--output", "json"]).json();
            if status["state"] == "up" {
                return Ok(cluster);
            }
            if begun.elapsed() >= patience {
                return Err(format!(
                    "the test cluster is {}: `cargo xtask cluster up`",
                    status["state"].as_str().unwrap_or("in no known state")
                ));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// `target/cluster` of the project that holds it.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    /// The variables with which programs reach the object store.
    ///
    /// # Panics
    /// Where the cluster has none.
    #[must_use]
    pub fn store(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.home.join("store.env")).expect("its keys");
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// `cargo xtask cluster` with these words.
    ///
    /// # Panics
    /// Where it fails.
    pub fn xtask(&self, words: &[&str]) -> Done {
        let done = self.try_xtask(words);
        assert_eq!(done.code, 0, "xtask cluster {words:?}: {}", done.stderr);
        done
    }

    fn try_xtask(&self, words: &[&str]) -> Done {
        let mut command = Command::new(&self.xtask);
        command.arg("cluster").args(words);
        run(command, None)
    }

    /// Breaks something, as `cargo xtask cluster fault` with these words does, until it is
    /// mended or the result is dropped: a failed test leaves the cluster whole.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use = "what is dropped is mended"]
    pub fn fault(&self, words: &[&str]) -> Broken {
        let mending = match words[0] {
            "kill-node" => "start-node",
            "cut-node" => "join-node",
            "kill-kubelet" => "start-kubelet",
            "kill" => "start",
            "freeze" => "thaw",
            other => panic!("nothing mends {other}"),
        };
        self.xtask(&[&["fault"], words].concat());
        let words = [&["fault", mending], &words[1..]].concat();
        Broken {
            cluster: self.clone(),
            mending: Some(words.into_iter().map(str::to_owned).collect()),
        }
    }

    /// A node as the cluster's own machinery sees it: the numbers of its processes, null for
    /// those that do not run.
    ///
    /// # Panics
    /// Where there is no such node.
    #[must_use]
    pub fn node(&self, name: &str) -> Value {
        let status = self.xtask(&["status", "--output", "json"]).json();
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let found = nodes.into_iter().find(|node| node["name"] == name);
        found.expect("a node of this name")
    }

    /// kubectl with these words, as the administrator.
    #[must_use]
    pub fn try_kubectl(&self, words: &[&str]) -> Done {
        self.kubectl_with(words, None)
    }

    /// kubectl with these words; what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn kubectl(&self, words: &[&str]) -> String {
        let done = self.try_kubectl(words);
        assert_eq!(done.code, 0, "kubectl {words:?}: {}", done.stderr);
        done.stdout
    }

    /// An object, or a list, as JSON.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn get(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = ["get", "--output=json"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        serde_json::from_str(&self.kubectl(&words)).expect("JSON")
    }

    /// Creates or changes an object.
    ///
    /// # Panics
    /// Where the API server refuses it.
    pub fn apply(&self, object: &Value) {
        let done = self.kubectl_with(&["apply", "-f", "-"], Some(&object.to_string()));
        assert_eq!(done.code, 0, "{}", done.stderr);
    }

    /// Asks the eviction API to remove a Pod; the API's answer.
    #[must_use]
    pub fn evict(&self, namespace: &str, pod: &str) -> Done {
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        self.kubectl_with(
            &["create", "--raw", &path, "-f", "-"],
            Some(&eviction.to_string()),
        )
    }

    /// Empties a node, as before its maintenance. [`Self::uncordon`] takes it back.
    ///
    /// # Panics
    /// Where it fails.
    pub fn drain(&self, node: &str) {
        self.kubectl(&[
            "drain",
            node,
            "--force",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=60s",
        ]);
    }

    /// Lets a node take Pods again.
    ///
    /// # Panics
    /// Where it fails.
    pub fn uncordon(&self, node: &str) {
        self.kubectl(&["uncordon", node]);
    }

    /// What the condition Ready of a node says: `True`, `False` or `Unknown`.
    #[must_use]
    pub fn ready(&self, node: &str) -> String {
        let words = [
            "get",
            "node",
            node,
            "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        ];
        self.try_kubectl(&words).stdout
    }

    /// A namespace for one test.
    ///
    /// # Panics
    /// Where it does not come.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        self.kubectl(&["create", "namespace", &name]);
        let namespace = Namespace {
            cluster: self.clone(),
            name,
        };
        // Pods are refused until it is there.
        wait("the service account", || {
            namespace
                .try_kubectl(&["get", "serviceaccount", "default"])
                .code
                == 0
        });
        namespace
    }

    fn kubectl_with(&self, words: &[&str], input: Option<&str>) -> Done {
        let mut command = Command::new(self.home.join("bin/kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(words)
            .env("KUBERC", "off");
        run(command, input)
    }
}

impl Broken {
    /// Mends it.
    ///
    /// # Panics
    /// Where that fails.
    pub fn mend(self) {
        self.mend_with(&[]);
    }

    /// Mends it with further words, such as `--wiped` for a node.
    ///
    /// # Panics
    /// Where that fails.
    pub fn mend_with(mut self, more: &[&str]) {
        let words = self.mending.take().unwrap_or_default();
        let words: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        self.cluster.xtask(&words);
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if let Some(words) = self.mending.take() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let done = self.cluster.try_xtask(&words);
            if done.code != 0 {
                eprintln!("xtask cluster {words:?}: {}", done.stderr);
            }
        }
    }
}

impl Namespace {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kubectl in this namespace.
    #[must_use]
    pub fn try_kubectl(&self, words: &[&str]) -> Done {
        let words: Vec<&str> = ["--namespace", &self.name]
            .iter()
            .chain(words)
            .copied()
            .collect();
        self.cluster.try_kubectl(&words)
    }

    /// kubectl in this namespace; what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn kubectl(&self, words: &[&str]) -> String {
        let done = self.try_kubectl(words);
        assert_eq!(done.code, 0, "kubectl {words:?}: {}", done.stderr);
        done.stdout
    }

    /// Starts a Pod that runs a shell's `script`; `more` is merged into its spec, and `limits`
    /// are its container's.
    ///
    /// # Panics
    /// Where the API server refuses it.
    pub fn run(&self, pod: &str, script: &str, limits: &Value, more: &Value) {
        let mut spec = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "containers": [{
                "name": "main",
                "image": "test.local/busybox:1",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", script],
                "resources": {"limits": limits},
            }],
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        self.cluster.apply(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "namespace": self.name},
            "spec": spec,
        }));
    }

    /// A Pod as JSON; null where there is none.
    ///
    /// # Panics
    /// Where the cluster does not answer for long, or kubectl prints no JSON.
    #[must_use]
    pub fn pod(&self, pod: &str) -> Value {
        let words = ["get", "pod", pod, "--output=json", "--ignore-not-found"];
        // No answer is not the answer that there is none.
        let text = wait_or(
            || {
                let done = self.try_kubectl(&words);
                (done.code == 0).then_some(done.stdout).ok_or(done.stderr)
            },
            |error| format!("an answer on {pod}: {error}"),
        );
        if text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits until a Pod's phase is this one.
    ///
    /// # Panics
    /// Where it does not come to pass.
    pub fn wait_for_phase(&self, pod: &str, phase: &str) {
        wait_or(
            || {
                let now = self.pod(pod);
                (now["status"]["phase"] == phase).then_some(()).ok_or(now)
            },
            |now| format!("{pod} is not {phase}: {:#}", now["status"]),
        );
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let words = ["delete", "namespace", &self.name, "--wait=false"];
        let _ = self.cluster.try_kubectl(&words);
        // A Pod of a node that was lost would keep it for ever.
        let words = ["delete", "pods", "--all", "--force", "--grace-period=0"];
        let _ = self.try_kubectl(&words);
    }
}

/// Waits until `holds`.
///
/// # Panics
/// Where it does not come to pass.
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    wait_or(|| holds().then_some(()).ok_or(()), |()| what.to_owned());
}

/// The processes of this machine, and of its containers, that have this variable: `NAME=VALUE`.
#[must_use]
pub fn processes_with(variable: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let is_it = environment
            .split(|byte| *byte == 0)
            .any(|one| one == variable.as_bytes());
        let pid = entry.file_name().to_str()?.parse().ok()?;
        is_it.then_some(pid)
    });
    found.collect()
}

fn wait_or<T, N>(mut look: impl FnMut() -> Result<T, N>, say: impl Fn(N) -> String) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(now) => assert!(begun.elapsed() < PATIENCE, "waited for: {}", say(now)),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn run(mut command: Command, input: Option<&str>) -> Done {
    let mut child = command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        pipe.write_all(input.as_bytes()).expect("it reads");
    }
    let output = child.wait_with_output().expect("it ends");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The main function of a test program of the cluster: its cases one after another, or all of
/// them skipped, with the reason, where there is no cluster. `unless WHY;` before them is an
/// `Option<String>` that says why they cannot run here all the same.
#[macro_export]
macro_rules! cluster_tests {
    ($($name:ident),* $(,)?) => {
        $crate::cluster_tests![unless None; $($name),*];
    };
    (unless $why:expr; $($name:ident),* $(,)?) => {
        fn main() -> std::process::ExitCode {
            let mut arguments = libtest_mimic::Arguments::from_args();
            arguments.test_threads = Some(1);
            let found = $crate::cluster::Cluster::find();
            // Who started a cluster for the tests must not be told that they were skipped.
            if let (Err(why), Some(_)) = (&found, std::env::var_os("AURIA_TEST_CLUSTER")) {
                eprintln!("there should be a cluster: {why}");
                return std::process::ExitCode::FAILURE;
            }
            let why_not: Option<String> = $why;
            let found = match why_not {
                Some(why) => Err(why),
                None => found,
            };
            let mut trials = Vec::new();
            $(
                if let Err(why) = &found {
                    eprintln!("skipped: {}: {why}", stringify!($name));
                }
                let cluster = found.clone();
                let run = move || {
                    $name(&cluster?);
                    Ok::<(), libtest_mimic::Failed>(())
                };
                trials.push(
                    libtest_mimic::Trial::test(stringify!($name), run)
                        .with_ignored_flag(found.is_err()),
                );
            )*
            libtest_mimic::run(&arguments, trials).exit_code()
        }
    };
}
