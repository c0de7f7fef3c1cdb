//! `serve`, through the binary: the API, the command line over it, tokens, and what is left
//! when the server is killed.

use auria_tests::Context;
use auria_tests::server::{Answer, Server, over, token};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const TWO: &str = "
type: pipeline
name: two
inputs:
  who: world
outputs:
  loud: {type: uri_file}
jobs:
  hello:
    command: echo \"hello ${{inputs.who}}\" > ${{outputs.text}}; echo said hello
    inputs: {who: '${{parent.inputs.who}}'}
    outputs: {text: {type: uri_file}}
  shout:
    command: tr a-z A-Z < ${{inputs.text}} > ${{outputs.loud}}
    inputs: {text: '${{parent.jobs.hello.outputs.text}}'}
    outputs: {loud: '${{parent.outputs.loud}}'}
";

/// A pipeline whose step notes each time that its command runs, and takes so long.
fn slow(context: &Context, seconds: u32) -> String {
    let ran = context.path().join("ran");
    format!(
        "type: pipeline\nname: slow\nsettings: {{force_rerun: true}}\njobs:\n  wait:\n    command: \"echo begun; \
         echo x >> {}; sleep {seconds}; echo waited\"\n",
        ran.display()
    )
}

fn lines(context: &Context) -> usize {
    let ran = std::fs::read_to_string(context.path().join("ran"));
    ran.map(|text| text.lines().count()).unwrap_or(0)
}

fn queued(context: &Context) -> usize {
    let left = std::fs::read_dir(std::path::Path::new(context.store()).join("queue"));
    left.map(Iterator::count).unwrap_or(0)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_document_is_submitted_and_its_run_is_read_over_http() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    let body = json!({"document": TWO, "set": ["inputs.who=Auria"], "experiment": "e"});
    let taken = server.ask("POST", "/api/v1/runs", Some(&body)).is(202);
    let run = taken.json()["run"].as_str().expect("a run").to_owned();
    assert!(
        taken
            .head
            .contains(&format!("location: /api/v1/runs/{run}")),
        "{}",
        taken.head
    );
    assert!(run.starts_with("two-"), "{run}");

    // Its changes, to the end.
    let path = format!("/api/v1/runs/{run}");
    let shown = server.ended(&run);
    assert_eq!(shown["status"], "Completed", "{shown}");
    assert_eq!(shown["experiment"], "e");
    assert_eq!(shown["inputs"]["who"], "Auria");

    let logs = server
        .ask("GET", &format!("{path}/logs?step=hello"), None)
        .ok();
    assert_eq!(logs.text(), "said hello\n");
    assert!(
        logs.head
            .contains("content-security-policy: default-src 'none'; sandbox")
    );
    let all = server
        .ask("GET", &format!("{path}/logs?follow=true"), None)
        .ok();
    assert_eq!(all.text(), "hello | said hello\n");

    let made = server
        .ask("GET", &format!("{path}/outputs"), None)
        .ok()
        .json();
    assert_eq!(made["outputs"]["loud"]["bytes"], 12, "{made}");
    let loud = server
        .ask("GET", &format!("{path}/outputs/loud"), None)
        .ok();
    assert_eq!(loud.text(), "HELLO AURIA\n");
    assert!(
        loud.head.contains("content-disposition: attachment"),
        "{}",
        loud.head
    );
    let text = server
        .ask("GET", &format!("{path}/steps/hello/outputs/text"), None)
        .ok();
    assert_eq!(text.text(), "hello Auria\n");
    assert_eq!(
        server
            .ask("GET", &format!("{path}/metrics"), None)
            .ok()
            .json(),
        json!({})
    );

    // What finished is kept.
    let again = server
        .ask("POST", &format!("{path}/retry"), Some(&json!({})))
        .is(202)
        .json();
    let again = server.ended(again["run"].as_str().expect("a run"));
    assert_eq!(again["steps"]["hello"]["status"], "Reused", "{again}");

    let list = server.ask("GET", "/api/v1/runs?limit=1", None).ok().json();
    assert_eq!(list["runs"][0]["run"], again["run"], "{list}");
    let next = list["next"].as_str().expect("a second page");
    let rest = server
        .ask("GET", &format!("/api/v1/runs?limit=5&after={next}"), None)
        .ok()
        .json();
    assert_eq!(rest["runs"][0]["run"], run.as_str(), "{rest}");
    assert_eq!(rest["next"], Value::Null);

    server.ask("GET", "/api/v1/runs/nothing", None).problem(404);
    server.ask("GET", "/api/v1/runs?limit=0", None).problem(400);
    server
        .ask("GET", "/api/v1/runs?limits=0", None)
        .problem(400);
    server
        .ask("GET", &format!("{path}/outputs/nothing"), None)
        .problem(404);
    let wrong = json!({"document": "type: pipeline\nname: x\njobs: {a: {comand: ls}}\n"});
    let problem = server
        .ask("POST", "/api/v1/runs", Some(&wrong))
        .problem(422);
    assert_eq!(problem["diagnostics"][0]["line"], 3, "{problem}");
    assert_eq!(
        problem["diagnostics"][0]["file"], "pipelines.yaml",
        "{problem}"
    );
    let large = json!({"document": "x".repeat(9 << 20)});
    server
        .ask("POST", "/api/v1/runs", Some(&large))
        .problem(413);
    let outside = "type: pipeline\nname: x\njobs: {a: {command: ls, code: /etc}}\n";
    let problem = server.ask("POST", "/api/v1/runs", Some(&json!({"document": outside})));
    assert!(problem.problem(422).to_string().contains("outside"));
}

#[test]
fn the_command_line_works_over_a_server() {
    let context = Context::new();
    context.write("code/say.sh", "echo from a snapshot\n");
    context.write(
        "pipelines.yaml",
        "type: pipeline\nname: far\njobs:\n  say:\n    code: ./code\n    command: sh say.sh | tee ${{outputs.text}}\n    \
         outputs: {text: {type: uri_file}}\n",
    );
    let server = Server::start(&context, &[]);
    let report = over(
        &context,
        &server,
        &["submit", "--name", "far", "--output", "json"],
    );
    let report = report.exits(0).json();
    assert_eq!(report["status"], "Completed", "{report}");
    let listed = over(&context, &server, &["runs", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(listed[0]["run"], "far", "{listed}");
    let shown = over(&context, &server, &["show", "far", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(shown["status"], "Completed");
    assert_eq!(
        over(&context, &server, &["logs", "far", "say"])
            .exits(0)
            .stdout,
        "from a snapshot\n"
    );
    over(&context, &server, &["watch", "far"]).exits(0);
    over(&context, &server, &["download", "far", "--to", "got"]).exits(0);
    let got = std::fs::read_to_string(context.path().join("got/say/text/text")).expect("the file");
    assert_eq!(got, "from a snapshot\n");

    // Reuse is told by the server's own programs: the same run again runs nothing.
    let again = over(&context, &server, &["submit", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(again["steps"]["say"]["status"], "Reused", "{again}");

    context.write("slow.yaml", &slow(&context, 60));
    over(
        &context,
        &server,
        &["submit", "slow.yaml", "--name", "slow", "--detach"],
    )
    .exits(0);
    until("the step", || lines(&context) == 1);
    over(&context, &server, &["cancel", "slow"]).exits(0);
    let watched = over(&context, &server, &["watch", "slow"]);
    watched.exits(3);

    // The server's own user needs no token on this machine.
    let mut command = context.command(["runs", "--output", "json"]);
    command
        .env("AURIA_SERVER", &server.url)
        .env_remove("AURIA_TOKEN");
    assert!(command.output().expect("runs").status.success());
    let mut command = context.command(["runs"]);
    command
        .env("AURIA_SERVER", &server.url)
        .env("AURIA_TOKEN", "nothing");
    assert_eq!(command.output().expect("runs").status.code(), Some(4));
}

#[test]
fn a_server_that_was_killed_takes_its_runs_over_and_repeats_none() {
    let context = Context::new();
    let mut server = Server::start(&context, &["--runs", "1"]);
    let body = json!({"document": slow(&context, 3)});
    let (own, other) = (server.token.clone(), token(&context, "test", "submit"));
    let submit = |server: &Server, token: &str, key: &str| {
        let headers = [("idempotency-key", key)];
        let taken = server
            .ask_as(token, "POST", "/api/v1/runs", Some(&body), &headers)
            .is(202);
        taken.json()
    };
    let first = submit(&server, &own, "one");
    until("the first step", || lines(&context) == 1);
    let second = submit(&server, &own, "two");
    let third = submit(&server, &own, "three");
    assert_eq!(
        second["queue"],
        json!({"ahead": 0, "waiting": 1}),
        "{second}"
    );
    assert_eq!(third["queue"], json!({"ahead": 1, "waiting": 2}), "{third}");
    server.child.kill().expect("it lives");
    server.child.wait().expect("its end");

    let server = Server::start(&context, &["--runs", "1"]);
    // The same key is the same run, whoever answers.
    assert_eq!(submit(&server, &own, "two")["run"], second["run"]);
    // Keys are a token's own: another of the same name has others.
    let fourth = submit(&server, &other, "two");
    assert_ne!(fourth["run"], second["run"]);
    let other = json!({"document": TWO});
    let headers = [("idempotency-key", "two")];
    let used = server.ask_as(&own, "POST", "/api/v1/runs", Some(&other), &headers);
    assert_eq!(used.problem(422)["type"], "auria:key-used");
    for run in [&first, &second, &third, &fourth] {
        let shown = server.ended(run["run"].as_str().expect("a run"));
        assert_eq!(shown["status"], "Completed", "{shown}");
    }
    assert_eq!(lines(&context), 4, "each command ran once");
    // A mark goes after the run's end stands.
    until("the queue to be empty", || queued(&context) == 0);
}

#[test]
fn ctrl_c_leaves_runs_to_the_next_server() {
    let context = Context::new();
    let mut server = Server::start(&context, &[]);
    let body = json!({"document": slow(&context, 3)});
    let taken = server
        .ask("POST", "/api/v1/runs", Some(&body))
        .is(202)
        .json();
    until("the step", || lines(&context) == 1);
    server.signal(Signal::SIGINT);
    assert_eq!(server.child.wait().expect("its end").code(), Some(0));
    let server = Server::start(&context, &[]);
    let shown = server.ended(taken["run"].as_str().expect("a run"));
    assert_eq!(shown["status"], "Completed", "{shown}");
    assert_eq!(lines(&context), 1, "it ran once");
}

#[test]
fn tokens_are_scoped_expire_and_are_revoked() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    let make = |scope: &str, expires: &str| {
        let args = [
            "token",
            "create",
            scope,
            "--scope",
            scope,
            "--expires",
            expires,
            "--output",
            "json",
        ];
        let made = context.run(args).exits(0).json();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&made["token"]), text(&made["record"]["id"]))
    };
    let (reads, id) = make("read", "1h");
    let body = json!({"document": TWO});
    let ask = |token: &str, method: &str, path: &str, body: Option<&Value>| {
        server.ask_as(token, method, path, body, &[])
    };
    ask(&reads, "GET", "/api/v1/runs", None).is(200);
    ask(&reads, "POST", "/api/v1/runs", Some(&body)).problem(403);
    ask(&reads, "GET", "/api/v1/tokens", None).problem(403);
    ask(
        &reads,
        "GET",
        &format!("/api/v1/store/object?path=access/tokens/{id}.json"),
        None,
    )
    .problem(400);
    let hidden = server.ask_as(
        &reads,
        "GET",
        &format!("/api/v1/store/object?path=access/tokens/{id}.json"),
        None,
        &[("auria-protocol", "1")],
    );
    hidden.problem(403);
    for path in [
        "list?prefix=",
        "list?prefix=access",
        "list?prefix=ACCESS",
        "folders?prefix=",
    ] {
        let path = format!("/api/v1/store/{path}");
        let headers = [("auria-protocol", "1")];
        let listed = server.ask_as(&reads, "GET", &path, None, &headers);
        assert!(matches!(listed.status, 400 | 403), "{path}: {listed:?}");
    }
    let headers = [("auria-protocol", "1")];
    server
        .ask_as(
            &reads,
            "GET",
            "/api/v1/store/list?prefix=runs",
            None,
            &headers,
        )
        .is(200);
    let (invokes, _) = make("invoke:kathi", "never");
    ask(&invokes, "GET", "/api/v1/runs", None).problem(403);
    let (short, _) = make("read", "1s");
    std::thread::sleep(Duration::from_millis(1100));
    ask(&short, "GET", "/api/v1/runs", None).problem(401);
    for nobody in ["", "nothing", "auria_0123456789ab_00"] {
        ask(nobody, "GET", "/api/v1/runs", None).problem(401);
    }
    context
        .run(["token", "create", "x", "--scope", "write"])
        .exits(2);

    // Revoked by the API, it counts for nothing within moments.
    let gone = server
        .ask("DELETE", &format!("/api/v1/tokens/{id}"), None)
        .is(200);
    assert_eq!(gone.json()["revoked"], true);
    let begun = Instant::now();
    until("the revocation", || {
        ask(&reads, "GET", "/api/v1/runs", None).status == 401
    });
    assert!(begun.elapsed() < Duration::from_secs(20));
    let deeds = server
        .ask("GET", "/api/v1/audit", None)
        .ok()
        .json()
        .to_string();
    assert!(
        deeds.contains("token.revoke") && deeds.contains("token.create"),
        "{deeds}"
    );

    // Guessing ends soon, and holds up nobody who has a token, be it a new one.
    let guessed = (0..40).map(|number| {
        let guess = format!("auria_guess{number}");
        ask(&guess, "GET", "/healthz", None);
        ask(&guess, "GET", "/api/v1/runs", None).status
    });
    assert!(guessed.collect::<Vec<_>>().contains(&429));
    server.ask("GET", "/api/v1/runs", None).is(200);
    let (fresh, _) = make("read", "1h");
    ask(&fresh, "GET", "/api/v1/runs", None).is(200);
    context
        .run(["token", "create", "a\u{1b}[2J", "--scope", "read"])
        .exits(2);

    // No secret stands anywhere in the store.
    let tokens = [&reads, &invokes, &short, &server.token];
    let mut folders = vec![std::path::PathBuf::from(context.store())];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = std::fs::read(entry.path()).expect("a file");
            let text = String::from_utf8_lossy(&text).into_owned();
            for token in tokens {
                let secret = token.rsplit('_').next().expect("a secret");
                assert!(!text.contains(secret), "{}", entry.path().display());
            }
        }
    }
}

#[test]
fn who_may_do_everything_deletes_and_collects_and_is_noted() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    context.write("two.yml", TWO);
    let run = |name: &str| {
        let words = ["submit", "two.yml", "--name", name, "--force-rerun"];
        over(&context, &server, &words).exits(0);
    };
    for name in ["one", "other", "old"] {
        run(name);
    }
    let made = over(
        &context,
        &server,
        &[
            "token", "create", "sue", "--scope", "submit", "--output", "json",
        ],
    );
    let made = made.exits(0).json();
    let submits = made["token"].as_str().expect("a token");
    let body = json!({"grace_ms": 0});
    for path in ["/api/v1/runs/one/delete", "/api/v1/gc"] {
        let denied = server.ask_as(submits, "POST", path, Some(&body), &[]);
        let problem = denied.problem(403);
        let said = problem["detail"].as_str().unwrap_or_default();
        assert!(said.contains("admin"), "{problem}");
    }
    assert_eq!(server.ask("GET", "/api/v1/runs/one", None).ok().status, 200);

    // What can be deleted is, though something else of the same words is not there any more.
    server
        .ask("POST", "/api/v1/runs/one/delete", Some(&body))
        .ok();
    let unknown = over(&context, &server, &["delete", "one", "other"]).exits(2);
    assert!(unknown.stderr.contains("`one`"), "{}", unknown.stderr);
    let words = ["delete", "other", "--grace", "0s", "--output", "json"];
    let gone = over(&context, &server, &words).exits(0).json();
    assert_eq!(gone[0]["fate"], "deleted", "{gone}");
    server.ask("GET", "/api/v1/runs/other", None).problem(404);

    let words = ["gc", "--older-than", "0s", "--grace", "0s", "--dry-run"];
    let dry = over(&context, &server, &words).exits(0).stdout;
    assert!(dry.contains("run old  would be deleted"), "{dry}");
    let words = [
        "gc",
        "--older-than",
        "0s",
        "--grace",
        "0s",
        "--output",
        "json",
    ];
    let collected = over(&context, &server, &words).exits(0).json();
    assert_eq!(collected["runs"][0]["run"], "old", "{collected}");
    assert_eq!(collected["runs"][0]["fate"], "deleted", "{collected}");
    server
        .ask("GET", "/api/v1/gc/0123456789abcdef", None)
        .problem(404);

    let deeds = server.ask("GET", "/api/v1/audit", None).ok().json();
    let deeds = deeds.as_array().cloned().unwrap_or_default();
    for name in ["one", "other", "old"] {
        let noted = deeds
            .iter()
            .any(|deed| deed["what"] == "delete" && deed["to"] == name && deed["who"] == "test");
        assert!(noted, "{name}: {deeds:?}");
    }
}

#[test]
fn only_loopback_is_listened_on_unless_it_is_said() {
    let context = Context::new();
    let refused = context.run(["serve", "--listen", "0.0.0.0:0"]).exits(2);
    assert!(refused.stderr.contains("--expose"), "{}", refused.stderr);
}

#[test]
fn an_endpoint_serves_deployments_in_the_shapes_of_azure_ml() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    context.write("pipelines.yaml", TWO);
    context.write("blue/two.yml", &TWO.replace("said hello", "said blue"));
    context.write("blue/code/x.txt", "x");
    context.write(
        "endpoint.yml",
        "$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json\n\
         name: kathi\ndescription: a poem\nauth_mode: aad_token\n",
    );
    context.write(
        "deployment.yml",
        "name: blue\nendpoint_name: kathi\ntype: pipeline\ncomponent: ./blue/two.yml\n\
         settings: {continue_on_step_failure: false}\n",
    );
    over(
        &context,
        &server,
        &[
            "endpoint",
            "create",
            "--file",
            "endpoint.yml",
            "--from",
            "pipelines.yaml",
        ],
    )
    .exits(0);
    over(&context, &server, &["endpoint", "create", "kathi"]).exits(2);
    over(
        &context,
        &server,
        &["deployment", "create", "--file", "deployment.yml"],
    )
    .exits(0);
    let shown = over(
        &context,
        &server,
        &["endpoint", "show", "kathi", "--output", "json"],
    )
    .exits(0)
    .json();
    assert_eq!(
        shown["deployments"],
        json!({"blue": 1, "default": 1}),
        "{shown}"
    );
    assert_eq!(shown["default"], "default");

    let made = context.run([
        "token",
        "create",
        "page",
        "--scope",
        "invoke:kathi",
        "--output",
        "json",
    ]);
    let page = made.exits(0).json()["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let invoke = |token: &str, query: &str, who: &str, headers: &[(&str, &str)]| {
        let body = json!({"properties": {"InputData":
            {"who": {"JobInputType": "Literal", "Value": who}}}});
        let path = format!("/api/v1/endpoints/kathi/jobs{query}");
        server.ask_as(token, "POST", &path, Some(&body), headers)
    };
    let key = [("idempotency-key", "order-7")];
    let job = invoke(&page, "?wait=60s", "Kathi", &key).is(200);
    let job = job.json();
    assert_eq!(job["properties"]["status"], "Completed", "{job}");
    assert_eq!(job["properties"]["deployment"], "default");
    let run = job["name"].as_str().expect("a run").to_owned();
    let again = invoke(&page, "", "Kathi", &key).is(202).json();
    assert_eq!(again["name"], run.as_str());
    invoke(&page, "", "Other", &key).problem(422);
    // Values become part of a command; who may do no more than invoke writes none.
    for who in ["x'; touch y; '", "$(id)", "a`b`", "a\nb", "a & b", "a > b"] {
        let refused = invoke(&page, "", who, &[]).problem(422);
        assert!(
            refused["detail"].as_str().expect("why").contains("shell"),
            "{refused}"
        );
    }
    invoke(&server.token, "", "a & b", &[]).is(202);
    let path = format!("/api/v1/endpoints/kathi/jobs/{run}");
    let shown = server.ask_as(&page, "GET", &path, None, &[]).is(200).json();
    let href = shown["properties"]["outputs"]["loud"]["href"]
        .as_str()
        .expect("an address");
    assert_eq!(
        server.ask_as(&page, "GET", href, None, &[]).is(200).text(),
        "HELLO KATHI\n"
    );

    // Another deployment, by the header.
    let blue = [("azureml-model-deployment", "blue")];
    let job = invoke(&server.token, "?wait=60s", "Kathi", &blue)
        .is(200)
        .json();
    assert_eq!(job["properties"]["deployment"], "blue", "{job}");
    let logs = format!(
        "/api/v1/runs/{}/logs?step=hello",
        job["name"].as_str().expect("a run")
    );
    assert_eq!(server.ask("GET", &logs, None).ok().text(), "said blue\n");
    invoke(&page, "", "Kathi", &[("azureml-model-deployment", "red")]).problem(404);

    // Who may invoke sees its own jobs, and nothing else; and is not used to fetch.
    let other = format!(
        "/api/v1/endpoints/kathi/jobs/{}",
        job["name"].as_str().expect("a run")
    );
    server.ask_as(&page, "GET", &other, None, &[]).problem(404);
    server
        .ask_as(&page, "GET", "/api/v1/endpoints", None, &[])
        .problem(403);
    server
        .ask_as(&page, "GET", &format!("/api/v1/runs/{run}"), None, &[])
        .problem(403);
    let export = json!({"properties": {"OutputData": {"loud": {"JobOutputType": "UriFile", "Uri": "s3://x/y"}}}});
    server
        .ask_as(
            &page,
            "POST",
            "/api/v1/endpoints/kathi/jobs",
            Some(&export),
            &[],
        )
        .problem(422);
    let unknown = json!({"properties": {"InputData": {"nothing": {"Value": "x"}}}});
    let problem = server.ask_as(
        &page,
        "POST",
        "/api/v1/endpoints/kathi/jobs",
        Some(&unknown),
        &[],
    );
    assert!(
        problem.problem(422)["diagnostics"]
            .to_string()
            .contains("no input")
    );

    // A published pipeline of the first kind.
    let v1 = json!({"ExperimentName": "auria", "ParameterAssignments": {"who": "v1"}});
    let path = "/pipelines/v1.0/subscriptions/s/resourceGroups/g/PipelineRuns/PipelineSubmit/kathi";
    let taken = server
        .ask_as(&page, "POST", path, Some(&v1), &[])
        .is(200)
        .json();
    let shown = server.ended(taken["Id"].as_str().expect("an Id"));
    assert_eq!(
        (
            shown["experiment"].as_str(),
            shown["inputs"]["who"].as_str()
        ),
        (Some("auria"), Some("v1"))
    );
    server.ask_as("", "POST", path, Some(&v1), &[]).problem(401);

    over(
        &context,
        &server,
        &["deployment", "delete", "kathi", "default"],
    )
    .exits(0);
    invoke(&page, "", "Kathi", &[]).problem(404);
    over(&context, &server, &["endpoint", "delete", "kathi"]).exits(0);
    over(&context, &server, &["endpoint", "show", "kathi"]).exits(2);
}

#[test]
fn a_schedule_fires_each_tick_once_and_catches_up() {
    let context = Context::new();
    let mut server = Server::start(&context, &[]);
    context.write("pipelines.yaml", TWO);
    // A trigger of seconds is none: the ticks lie in the past, and come with the start time.
    let begun = std::time::SystemTime::now() - Duration::from_secs(150);
    let begun = begun
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let start = format_time(begun);
    let body = json!({"name": "often", "document": TWO, "missed": "all",
        "set": ["inputs.who=day ${{creation_context.trigger_day}}"], "trigger":
        {"type": "recurrence", "frequency": "minute", "interval": 1, "start_time": start}});
    let made = server
        .ask("POST", "/api/v1/schedules", Some(&body))
        .is(201)
        .json();
    assert_eq!(made["next"].as_array().map(Vec::len), Some(5), "{made}");
    server
        .ask("POST", "/api/v1/schedules", Some(&body))
        .problem(409);
    let fired = |server: &Server| {
        let shown = server
            .ask("GET", "/api/v1/schedules/often", None)
            .ok()
            .json();
        shown["ticks"].as_array().cloned().unwrap_or_default()
    };
    // The next minute comes within one.
    until("a tick", || !fired(&server).is_empty());
    let first = fired(&server)[0].clone();
    let shown = server.ended(first["run"].as_str().expect("a run"));
    assert_eq!(shown["status"], "Completed", "{shown}");
    // The day of the tick, whenever it was fired.
    let due = first["due"].as_str().expect("a time");
    let day = due.get(..10).expect("a day").replace('-', "");
    assert_eq!(shown["inputs"]["who"], format!("day {day}"), "{shown}");
    server.child.kill().expect("it lives");
    server.child.wait().expect("its end");

    // Two servers on one store, after a tick that neither was there for.
    std::thread::sleep(Duration::from_secs(61));
    let server = Server::start(&context, &[]);
    let second = Server::start(&context, &[]);
    until("the missed tick", || fired(&server).len() >= 2);
    let ticks = fired(&second);
    let mut runs: Vec<_> = ticks.iter().map(|tick| tick["run"].to_string()).collect();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), ticks.len(), "{ticks:?}");
    let count = |server: &Server| {
        let list = server
            .ask("GET", "/api/v1/runs?limit=500", None)
            .ok()
            .json();
        list["runs"].as_array().map_or(0, Vec::len)
    };
    until("the runs", || count(&server) == fired(&server).len());

    let taken = over(
        &context,
        &server,
        &["schedule", "trigger", "often", "--output", "json"],
    );
    let taken = taken.exits(0).json();
    assert_eq!(
        server.ended(taken["run"].as_str().expect("a run"))["status"],
        "Completed"
    );
    over(&context, &server, &["schedule", "disable", "often"]).exits(0);
    let shown = over(
        &context,
        &server,
        &["schedule", "show", "often", "--output", "json"],
    );
    assert_eq!(shown.exits(0).json()["enabled"], Value::Null);
    over(&context, &server, &["schedule", "delete", "often"]).exits(0);

    context.write(
        "schedule.yml",
        "$schema: https://azuremlschemas.azureedge.net/latest/schedule.schema.json\nname: daily\n\
         trigger:\n  type: recurrence\n  frequency: day\n  interval: 1\n  schedule: {hours: [6], minutes: [0]}\n  \
         time_zone: W. Europe Standard Time\ncreate_job:\n  type: pipeline\n  job: ./pipelines.yaml\n  \
         inputs: {who: clock}\n",
    );
    let made = over(
        &context,
        &server,
        &[
            "schedule",
            "create",
            "--file",
            "schedule.yml",
            "--output",
            "json",
        ],
    );
    let made = made.exits(0).json();
    assert_eq!(
        made["definition"]["set"],
        json!(["inputs.who=clock"]),
        "{made}"
    );
    let wrong = [
        "schedule",
        "create",
        "x",
        "--cron",
        "0 0 * * *",
        "--time-zone",
        "Nowhere",
        "--from",
        "pipelines.yaml",
    ];
    let wrong = over(&context, &server, &wrong);
    assert!(
        wrong.code != 0 && wrong.stderr.contains("Nowhere"),
        "{wrong:?}"
    );
}

#[test]
fn a_tick_is_skipped_or_takes_the_place_of_an_earlier_run_as_its_schedule_says() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    let document = slow(&context, 300);
    for policy in ["forbid", "replace"] {
        let body = json!({"name": policy, "document": document, "concurrency": policy,
            "trigger": {"type": "recurrence", "frequency": "minute", "interval": 1}});
        server.ask("POST", "/api/v1/schedules", Some(&body)).is(201);
    }
    let ticks = |name: &str| {
        let path = format!("/api/v1/schedules/{name}");
        let mut ticks = server.ask("GET", &path, None).ok().json()["ticks"].take();
        let ticks = ticks.as_array_mut().map(std::mem::take);
        let mut ticks = ticks.unwrap_or_default();
        ticks.reverse();
        ticks
    };
    let begun = Instant::now();
    while ["forbid", "replace"]
        .iter()
        .any(|name| ticks(name).len() < 2)
    {
        assert!(begun.elapsed() < Duration::from_secs(150), "two ticks");
        std::thread::sleep(Duration::from_millis(500));
    }
    let status = |tick: &Value| {
        let path = format!("/api/v1/runs/{}", tick["run"].as_str().expect("a run"));
        server.ask("GET", &path, None).ok().json()["status"].clone()
    };
    let forbid = ticks("forbid");
    assert_eq!(status(&forbid[0]), "Running");
    assert_eq!(forbid[1]["run"], Value::Null, "{forbid:?}");
    let why = forbid[1]["skipped"].as_str().expect("why");
    assert!(why.contains("goes on"), "{why}");
    let replace = ticks("replace");
    until("the earlier run to be canceled", || {
        status(&replace[0]) == "Canceled"
    });
    until("the later run", || status(&replace[1]) == "Running");
    // Steps outlive their server, and would keep their share of this machine from others.
    for (name, tick) in [("forbid", &forbid[0]), ("replace", &replace[1])] {
        let path = format!("/api/v1/schedules/{name}");
        server.ask("DELETE", &path, None).ok();
        let run = tick["run"].as_str().expect("a run");
        let path = format!("/api/v1/runs/{run}/cancel");
        server.ask("POST", &path, None).is(202);
        server.ended(run);
    }
}

/// Seconds since the epoch as a time in UTC (after Howard Hinnant's civil_from_days).
fn format_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[test]
fn pages_show_runs_and_run_nothing_of_what_users_wrote() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    let evil = TWO
        .replace("said hello", "'<script>alert(1)</script>'")
        .replace("who: world", "who: '<b>x</b>'");
    let taken = server
        .ask("POST", "/api/v1/runs", Some(&json!({"document": evil})))
        .is(202)
        .json();
    let run = taken["run"].as_str().expect("a run");
    server.ended(run);

    let asked = server.ask_as("", "GET", "/", None, &[]).is(303);
    assert!(asked.head.contains("location: /login"), "{}", asked.head);
    let enter = |token: &str, headers: &[(&str, &str)]| {
        let host = server.url.strip_prefix("http://").expect("a URL");
        let mut stream = TcpStream::connect(host).expect("the server");
        let body = format!("token={token}");
        let more: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        write!(
            stream,
            "POST /login HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("the request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        Answer::read(&bytes)
    };
    enter("nothing", &[]).is(401);
    enter(&server.token, &[("origin", "http://elsewhere.example")]).is(403);
    enter(&server.token, &[("sec-fetch-site", "cross-site")]).is(403);
    // A browser says where a form is from, and names no origin where pages keep it to themselves.
    let own = [("origin", "null"), ("sec-fetch-site", "same-origin")];
    enter(&server.token, &own).is(303);
    let entered = enter(&server.token, &[("origin", &server.url)]).is(303);
    assert!(
        entered.head.contains("httponly; samesite=strict"),
        "{}",
        entered.head
    );
    let cookie = entered
        .head
        .split("set-cookie: ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let cookie = cookie.expect("a cookie").to_owned();
    assert!(!cookie.contains(&server.token));

    let look = |path: &str| {
        server
            .ask_as("", "GET", path, None, &[("cookie", &cookie)])
            .is(200)
    };
    let list = look("/");
    assert!(
        list.head
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        list.head
    );
    assert!(list.text().contains(run), "{}", list.text());
    let shown = look(&format!("/run/{run}")).text();
    assert!(
        shown.contains("<svg") && shown.contains("Completed"),
        "{shown}"
    );
    assert!(
        !shown.contains("<b>x</b>") && shown.contains("&lt;b&gt;"),
        "{shown}"
    );
    look(&format!("/run/{run}/logs?step=hello"));
    let logs = look(&format!("/run/{run}/logs/text?step=hello"));
    assert!(
        logs.head.contains("text/plain") && logs.head.contains("sandbox"),
        "{}",
        logs.head
    );
    server
        .ask_as("", "GET", "/run/nothing", None, &[("cookie", &cookie)])
        .is(404);
    server.ask_as("", "GET", "/style.css", None, &[]).is(200);
}

#[test]
fn a_name_is_one_runs_and_a_key_is_not_spent_on_what_was_refused() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    let submit = |body: &Value, key: &str| {
        let headers = [("idempotency-key", key)];
        server.ask_as(&server.token, "POST", "/api/v1/runs", Some(body), &headers)
    };
    let named = json!({"document": TWO, "name": "mine"});
    server.ask("POST", "/api/v1/runs", Some(&named)).is(202);
    server.ended("mine");
    // Somebody else's run of that name is nobody's answer, with a key or without.
    server
        .ask("POST", "/api/v1/runs", Some(&named))
        .problem(409);
    for _ in 0..2 {
        submit(&named, "taken").problem(409);
    }
    let own = json!({"document": TWO, "name": "own"});
    for _ in 0..2 {
        assert_eq!(submit(&own, "own").is(202).json()["run"], "own");
    }
    let wrong = json!({"document": "type: pipeline\nname: x\njobs: {a: {comand: ls}}\n"});
    submit(&wrong, "mended").problem(422);
    submit(&json!({"document": TWO}), "mended").is(202);

    // Trying again is one run for each key.
    let again = |key: &str| {
        let headers = [("idempotency-key", key)];
        let path = "/api/v1/runs/mine/retry";
        let body = json!({});
        let taken = server.ask_as(&server.token, "POST", path, Some(&body), &headers);
        taken.is(202).json()["run"].clone()
    };
    let first = again("one");
    assert_eq!(again("one"), first);
    assert_ne!(again("two"), first);
    let deeds = server.ask("GET", "/api/v1/audit", None).ok().json();
    let deeds = deeds.to_string();
    assert!(
        deeds.contains("\"retry\"") && deeds.contains("\"start\""),
        "{deeds}"
    );
}

#[test]
fn what_is_refused_for_a_full_queue_leaves_nothing() {
    let context = Context::new();
    let server = Server::start(&context, &["--runs", "1", "--queue", "1"]);
    let body = json!({"document": slow(&context, 15)});
    server.ask("POST", "/api/v1/runs", Some(&body)).is(202);
    until("the step", || lines(&context) == 1);
    server.ask("POST", "/api/v1/runs", Some(&body)).is(202);
    let refused = server.ask("POST", "/api/v1/runs", Some(&body));
    refused.problem(503);
    let list = server.ask("GET", "/api/v1/runs", None).ok().json();
    assert_eq!(list["runs"].as_array().map(Vec::len), Some(2), "{list}");
}

#[test]
fn a_run_that_another_process_drives_holds_up_no_other() {
    let context = Context::new();
    let server = Server::start(&context, &["--runs", "1"]);
    context.write("slow.yaml", &slow(&context, 20));
    let mut held = context.start(["submit", "slow.yaml", "--name", "held", "--on", "process"]);
    until("the step", || lines(&context) == 1);
    let shown = server.ask("GET", "/api/v1/runs/held", None).ok().json();
    assert_eq!(shown["status"], "Running", "{shown}");
    server.ask("POST", "/api/v1/runs/held", None).is(202);
    let body = json!({"document": TWO});
    let taken = server.ask("POST", "/api/v1/runs", Some(&body)).is(202);
    let taken = taken.json();
    let shown = server.ended(taken["run"].as_str().expect("a run"));
    assert_eq!(shown["status"], "Completed", "{shown}");
    let shown = server.ask("GET", "/api/v1/runs/held", None).ok().json();
    assert!(shown["ended"].is_null(), "it goes on: {shown}");
    server.ask("POST", "/api/v1/runs/held/cancel", None).is(202);
    assert_eq!(held.wait().expect("its end").code(), Some(3));
    // Its mark goes, too.
    until("the queue to be empty", || queued(&context) == 0);
    assert_eq!(lines(&context), 1);
}

#[test]
fn the_environment_of_a_server_sends_its_plans_nowhere_and_its_token_to_no_step() {
    let context = Context::new()
        .with_variable("AURIA_SERVER", "http://127.0.0.1:9")
        .with_variable("AURIA_TOKEN", "secret-of-the-servers-user");
    let mut child = context.start(["serve", "--listen", "127.0.0.1:0", "--on", "process"]);
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("a line");
    let url = line.trim().rsplit(' ').next().expect("a URL").to_owned();
    std::thread::spawn(move || {
        let mut rest = String::new();
        let _ = stderr.read_to_string(&mut rest);
    });
    let mut command = context.command([
        "token", "create", "t", "--scope", "admin", "--output", "json",
    ]);
    command.env_remove("AURIA_SERVER").env_remove("AURIA_TOKEN");
    let made = command.output().expect("a token");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let token = made["token"].as_str().expect("a token").to_owned();
    let server = Server { child, url, token };
    let document = "type: pipeline\nname: env\njobs:\n  look:\n    command: env | grep -c -e AURIA_TOKEN -e AURIA_SERVER || true\n";
    let taken = server.ask("POST", "/api/v1/runs", Some(&json!({"document": document})));
    let taken = taken.is(202).json();
    let run = taken["run"].as_str().expect("a run");
    server.ended(run);
    let path = format!("/api/v1/runs/{run}/logs?step=look");
    assert_eq!(server.ask("GET", &path, None).ok().text(), "0\n");
}

#[test]
fn the_config_of_a_project_sends_no_token_anywhere() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    port.set_nonblocking(true)
        .expect("a port that does not wait");
    let address = port.local_addr().expect("an address");
    let context = Context::new().with_variable("AURIA_TOKEN", "secret");
    context.write("secret", "a line that is no token of theirs\n");
    context.write(
        "auria.yaml",
        &format!("server: http://{address}\ntoken_file: secret\n"),
    );
    context.write("pipelines.yaml", TWO);
    let done = context
        .run(["submit", "--on", "process", "--output", "json"])
        .exits(0);
    assert!(done.stderr.contains("are ignored"), "{}", done.stderr);
    let reached = port.accept().map(|(_, from)| from);
    assert!(reached.is_err(), "{reached:?}");
}

#[test]
fn the_api_describes_itself_to_everyone() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    let path = "/api/v1/openapi.json";
    let served = server.ask_as("", "GET", path, None, &[]).is(200).json();
    // As it stands in docs/schema, whatever this server has.
    let written = context.run(["schema", "openapi"]).exits(0).json();
    assert_eq!(served, written);
    for path in [
        "/api/v1/runs",
        "/api/v1/endpoints/{name}/jobs",
        "/api/v1/store/object",
    ] {
        assert!(served["paths"][path].is_object(), "{path}");
    }
}

#[test]
fn refusals_are_problem_documents() {
    let context = Context::new();
    let server = Server::start(&context, &[]);
    server.ask("GET", "/api/v1/nothing", None).problem(404);
    server
        .ask_as("", "GET", "/api/v1/nothing", None, &[])
        .problem(401);
    let refused = server.ask("DELETE", "/api/v1/runs", None).is(405);
    assert!(refused.head.contains("allow: "), "{}", refused.head);
    refused.problem(405);
    let odd = json!({"documents": "x"});
    server.ask("POST", "/api/v1/runs", Some(&odd)).problem(422);
    server
        .ask("GET", "/api/v1/audit?limit=x", None)
        .problem(400);
    // A plan is checked for those alone who may submit one.
    let reads = token(&context, "reads", "read");
    server
        .ask_as(&reads, "POST", "/api/v1/plans/check", Some(&json!({})), &[])
        .problem(403);
}
