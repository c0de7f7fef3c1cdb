//! Endpoints and schedules of the controller, through the command line of a person and through
//! tokens of others, with their resources as kubectl shows them.

use auria_tests::Context;
use auria_tests::cluster::{Cluster, wait};
use auria_tests::installation::{NAMESPACE, kubectl};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A step that says a word.
const SAID: &str = "
type: pipeline
name: said
inputs: {word: hello}
outputs: {said: {type: uri_file}}
jobs:
  say:
    command: echo ${{inputs.word}} > ${{outputs.o}}
    environment: {image: 'auria.local/post:VERSION'}
    inputs: {word: '${{parent.inputs.word}}'}
    outputs: {o: '${{parent.outputs.said}}'}
";

/// A resource as JSON; null where there is none.
fn resource(cluster: &Cluster, kind: &str, name: &str) -> Value {
    let shown = kubectl(
        cluster,
        &["get", kind, name, "--output=json", "--ignore-not-found"],
    );
    serde_json::from_str(&shown).unwrap_or_default()
}

pub(crate) fn endpoints_and_schedules(cluster: &Cluster, someone: &Context) {
    someone.write(
        "said.yml",
        &SAID.replace("VERSION", env!("CARGO_PKG_VERSION")),
    );
    endpoint(cluster, someone);
    schedule(cluster, someone);
    others(cluster);
    // It goes, and its resource with it.
    someone.run(["endpoint", "delete", "hello"]).exits(0);
    wait("the resource to go", || {
        resource(cluster, "pipelineendpoints", "hello").is_null()
    });
}

fn endpoint(cluster: &Cluster, someone: &Context) {
    let words = ["endpoint", "create", "hello", "--from", "said.yml"];
    someone.run(words).exits(0);
    let words = ["endpoint", "invoke", "hello", "--input", "word=hi"];
    let more = ["--wait", "100s", "--output", "json"];
    let job = someone.run([&words[..], &more].concat()).exits(0).json();
    // Whoever drives it, it was waited for.
    assert_eq!(job["properties"]["status"], "Completed", "{job:#}");
    assert_eq!(job["properties"]["deployment"], "default", "{job:#}");
    let run = job["name"].as_str().unwrap_or_default();
    let report = someone.run(["show", run, "--output", "json"]).exits(0);
    let report = report.json();
    assert_eq!(report["experiment"], "hello", "{report:#}");
    assert_eq!(report["inputs"]["word"], "hi", "{report:#}");
    wait("the resource of the endpoint", || {
        let found = resource(cluster, "pipelineendpoints", "hello");
        found["spec"]["default"] == "default" && found["status"]["deployments"] == "default:1"
    });
    let words = ["deployment", "create", "--endpoint", "hello", "--name"];
    let more = ["green", "--from", "said.yml", "--default"];
    someone.run([&words[..], &more].concat()).exits(0);
    wait("the resource to follow", || {
        let found = resource(cluster, "pipelineendpoints", "hello");
        found["spec"]["default"] == "green"
            && found["status"]["deployments"] == "default:1, green:1"
    });
}

fn schedule(cluster: &Cluster, someone: &Context) {
    let words = ["schedule", "create", "Often", "--cron", "* * * * *"];
    let more = ["--time-zone", "Europe/Berlin", "--from", "said.yml"];
    someone.run([&words[..], &more].concat()).exits(0);
    let name = || {
        let all = kubectl(cluster, &["get", "pipelineschedules", "--output=name"]);
        let name = all.lines().next().unwrap_or_default().to_owned();
        name.rsplit('/').next().unwrap_or_default().to_owned()
    };
    wait("the resource of the schedule", || !name().is_empty());
    let name = name();
    // A cluster takes no capitals.
    assert!(name.starts_with("often-"), "{name}");
    let found = || resource(cluster, "pipelineschedules", &name);
    assert_eq!(found()["spec"]["trigger"], "cron * * * * *");
    assert_eq!(found()["spec"]["timeZone"], "Europe/Berlin");
    let taken = someone.run(["schedule", "trigger", "Often", "--output", "json"]);
    let taken = taken.exits(0).json();
    let run = taken["run"].as_str().unwrap_or_default();
    let report = someone.run(["watch", run, "--output", "json"]).exits(0);
    assert_eq!(report.json()["status"], "Completed");
    // The clock fires it too.
    wait("a tick", || found()["status"]["lastRun"].is_string());
    let columns = kubectl(cluster, &["get", "pipelineschedules"]);
    for column in ["TRIGGER", "ZONE", "ENABLED", "NEXT", "LAST", "RUN"] {
        assert!(columns.contains(column), "{columns}");
    }
    let fired = found();
    let fired = fired["status"]["lastRun"].as_str().unwrap_or_default();
    let report = someone.run(["watch", fired, "--output", "json"]).exits(0);
    assert_eq!(report.json()["status"], "Completed");
    someone.run(["schedule", "disable", "Often"]).exits(0);
    wait("it to be shown as disabled", || {
        found()["spec"]["enabled"] == false
    });
    // What is done to the resource by hand is undone.
    let patch = r#"{"spec":{"enabled":true}}"#;
    let words = ["patch", "pipelineschedules", &name, "--type=merge", "-p"];
    kubectl(cluster, &[&words[..], &[patch]].concat());
    wait("the store's word", || found()["spec"]["enabled"] == false);
    kubectl(cluster, &["delete", "pipelineschedules", &name]);
    wait("the resource to be there again", || !found().is_null());
    cluster.apply(&json!({
        "apiVersion": "pipelines.auria.dev/v1alpha1", "kind": "Schedule",
        "metadata": {"name": "stray", "namespace": NAMESPACE},
        "spec": {"name": "stray", "trigger": "", "timeZone": "", "enabled": true, "by": ""},
    }));
    wait("what stands for nothing to go", || {
        resource(cluster, "pipelineschedules", "stray").is_null()
    });
    someone.run(["schedule", "delete", "Often"]).exits(0);
    wait("the resource to go", || found().is_null());
}

/// Asks for a URL with a token, an authority and perhaps a body, and prints the answer.
const CLIENT: &str = r#"
import ssl, sys, urllib.error, urllib.request
url, token, authority, *body = sys.argv[1:]
request = urllib.request.Request(url, data=body[0].encode() if body else None, headers={
    "authorization": "Bearer " + token, "content-type": "application/json"})
try:
    context = ssl.create_default_context(cafile=authority)
    print(urllib.request.urlopen(request, context=context, timeout=60).read().decode())
except urllib.error.HTTPError as refused:
    print(refused.code, refused.read().decode())
    sys.exit(1)
"#;

/// A way to the API, as an Ingress would be one, for who has a token alone.
struct Forward {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Forward {
    fn open(cluster: &Cluster) -> Self {
        let program = cluster.home().join("bin/kubectl");
        let mut child = Command::new(&program)
            .env("KUBECONFIG", cluster.kubeconfig())
            .args(["--namespace", NAMESPACE, "port-forward"])
            .args(["deployment/auria-controller", ":8444"])
            .stdout(Stdio::piped())
            // A client that does not wait for the end of a stream is no news.
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("its output"));
        let _ = out.read_line(&mut line);
        // It says each connection; a pipe that nobody reads would end it.
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(drop));
        let port = line.split_whitespace().find_map(|word| {
            let port = word.strip_prefix("127.0.0.1:")?;
            port.parse::<u16>().ok()
        });
        let port = port.unwrap_or_else(|| panic!("no port: {line}"));
        let words = ["get", "configmap", "auria-controller-ca"];
        let output = [r"--output=jsonpath={.data.ca\.crt}"];
        let authority = kubectl(cluster, &[&words[..], &output].concat());
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.crt"), authority).expect("the authority");
        Self {
            child,
            url: format!("https://127.0.0.1:{port}"),
            folder,
        }
    }

    /// What is answered at `path`, to a body where there is one; the status and the words where
    /// that is refused.
    fn ask(&self, token: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut command = Command::new("python3");
        command
            .args(["-c", CLIENT, &format!("{}{path}", self.url), token])
            .arg(self.folder.path().join("ca.crt"))
            .args(body.map(Value::to_string));
        let done = command.output().expect("python3 starts");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            return Err(said + &String::from_utf8_lossy(&done.stderr));
        }
        serde_json::from_str(&said).map_err(|error| error.to_string())
    }
}

/// Callers with a token alone: one that may invoke one endpoint, and one that may do nothing.
fn others(cluster: &Cluster) {
    let token = |name: &str| {
        kubectl(cluster, &["create", "serviceaccount", name]);
        let words = ["create", "token", name, "--audience=auria-pipeline"];
        kubectl(cluster, &words).trim().to_owned()
    };
    let (guest, nobody) = (token("guest"), token("nobody"));
    let role = [
        "create",
        "role",
        "guest",
        "--verb=create",
        "--resource=pipelineendpoints.pipelines.auria.dev/invoke",
        "--resource-name=hello",
    ];
    kubectl(cluster, &role);
    let binding = ["create", "rolebinding", "guest", "--role=guest"];
    let account = format!("--serviceaccount={NAMESPACE}:guest");
    kubectl(cluster, &[&binding[..], &[&account]].concat());
    // Roles are known a moment later, and refusals are remembered for a moment.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let forward = Forward::open(cluster);
    let word = |word: &str| json!({"properties": {"InputData": {"word": {"JobInputType": "Literal", "Value": word}}}});
    let jobs = "/api/v1/endpoints/hello/jobs";
    let invoked = forward.ask(&guest, &format!("{jobs}?wait=20s"), Some(&word("guest")));
    let job = invoked.expect("it may invoke");
    assert_eq!(job["properties"]["status"], "Completed", "{job:#}");
    let own = format!("{jobs}/{}", job["name"].as_str().unwrap_or_default());
    forward.ask(&guest, &own, None).expect("its own job");
    // The other shape, below no base.
    let first = "/pipelines/v1.0/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/PipelineRuns/PipelineSubmit/hello";
    let body = json!({"ExperimentName": "guests", "ParameterAssignments": {"word": "first"}});
    let submitted = forward.ask(&guest, first, Some(&body));
    let submitted = submitted.expect("it may submit");
    assert!(submitted["Id"].is_string(), "{submitted:#}");
    // And no more than that: no shell, no list, no other endpoint, nothing of schedules.
    let other = "/api/v1/endpoints/other/jobs";
    let forbidden: [(&str, &str, Option<Value>); 7] = [
        (&guest, "/api/v1/endpoints", None),
        (&guest, "/api/v1/schedules", None),
        (&guest, other, Some(word("x"))),
        (&guest, "/api/v1/endpoints", Some(json!({"name": "mine"}))),
        (&nobody, jobs, Some(word("x"))),
        (&nobody, &own, None),
        (&nobody, "/api/v1/schedules", None),
    ];
    for (token, path, body) in forbidden {
        let said = forward.ask(token, path, body.as_ref()).expect_err(path);
        assert!(said.starts_with("403 "), "{path}: {said}");
    }
    let shell = forward.ask(&guest, jobs, Some(&word("$(id)")));
    let said = shell.expect_err("a value for a shell");
    assert!(said.starts_with("422 "), "{said}");
    let forged = forward.ask("nonsense", "/api/v1/endpoints", None);
    let said = forged.expect_err("a forged token");
    assert!(said.starts_with("401 "), "{said}");
}
