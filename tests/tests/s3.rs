//! Runs kept in a real S3 server (SeaweedFS), which every store's promises hold on.

use auria_store::testing::Weed;
use auria_tests::Context;

const PIPELINE: &str = "
type: pipeline
name: two
jobs:
  hello:
    command: sleep 1; echo hello > ${{outputs.text}}
    outputs: {text: {type: uri_file}}
  shout:
    command: tr a-z A-Z < ${{inputs.text}}
    inputs: {text: '${{parent.jobs.hello.outputs.text}}'}
";

async fn context(prefix: &str) -> (Weed, Context) {
    // A silent skip could not fail: the test command installs it first.
    let weed = Weed::start()
        .await
        .expect("SeaweedFS: `cargo xtask weed` installs it");
    let mut context = Context::new().with_store(&weed.url(prefix).to_string());
    for (name, value) in weed.env() {
        context = context.with_variable(name, &value);
    }
    (weed, context)
}

#[tokio::test]
async fn a_run_is_killed_resumed_and_reused_on_s3() {
    let (_weed, context) = context("runs").await;
    context.write("pipelines.yaml", PIPELINE);
    let mut child = context.start(["submit", "--name", "k"]);
    while context.run(["logs", "k"]).code != 0 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    let report = context
        .run(["resume", "k", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(report["status"], "Completed");
    assert_eq!(report["steps"]["hello"]["attempts"], 1);
    assert_eq!(
        context.run(["logs", "k", "shout"]).exits(0).stdout,
        "HELLO\n"
    );
    let again = context.run(["submit", "--output", "json"]).exits(0).json();
    assert_eq!(again["steps"]["hello"]["status"], "Reused");
}

#[tokio::test]
async fn auria_works_on_s3() {
    let (_weed, context) = context("kathi").await;
    let file = auria_tests::project().join("pipelines.yaml");
    let gallery = format!(
        "inputs.gallery={}",
        context.path().join("gallery").display()
    );
    let args = [
        "submit",
        &file.to_string_lossy(),
        "--set",
        "inputs.seed=7",
        "--set",
        &gallery,
        "--output",
        "json",
    ];
    let report = context.run(args).exits(0).json();
    assert_eq!(report["status"], "Completed");
    assert!(
        report["outputs"]["picture"]["uri"]
            .as_str()
            .is_some_and(|uri| uri.starts_with("s3://"))
    );
    let to = context.path().join("work");
    context
        .run([
            "download",
            "latest",
            "--step",
            "colour",
            "--to",
            &to.to_string_lossy(),
        ])
        .exits(0);
    let png = std::fs::read(to.join("colour/picture/coloured.png")).expect("the picture");
    assert!(png.starts_with(b"\x89PNG"));
}
