//! The API of `serve` as its description has it, tried by schemathesis: every operation, with
//! what the description allows and with what it does not. `cargo xtask test server` installs
//! it; without it this is left out.

use auria_tests::Context;
use auria_tests::server::Server;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use std::process::{Command, ExitCode};

const GREET: &str = "
type: pipeline
name: greet
inputs: {who: world}
outputs: {said: {type: uri_file}}
jobs:
  greet:
    command: echo hello > ${{outputs.said}}
    outputs: {said: '${{parent.outputs.said}}'}
";

fn tried(schemathesis: &str, seconds: &str) {
    let context = Context::new();
    let server = Server::start(&context, &["--runs", "1"]);
    // Something to find.
    let body = json!({"document": GREET, "name": "known"});
    server.ask("POST", "/api/v1/runs", Some(&body)).is(202);
    server.ended("known");
    let body = json!({"name": "greet"});
    server.ask("POST", "/api/v1/endpoints", Some(&body)).is(201);
    let body = json!({"name": "first", "document": GREET});
    let path = "/api/v1/endpoints/greet/deployments";
    server.ask("POST", path, Some(&body)).is(201);
    // To be revoked: a token that is found and followed could be the one that is shown.
    let body = json!({"name": "revoked", "scopes": ["read"]});
    let revoked = server.ask("POST", "/api/v1/tokens", Some(&body)).is(201);
    let described = server.ask_as("", "GET", "/api/v1/openapi.json", None, &[]);
    unasked(&server, &described.is(200).json());
    let project = auria_tests::project();
    let config = project.join("tests/api/schemathesis.toml");
    let seed = std::env::var("AURIA_TEST_SEED").unwrap_or_else(|_| "20261130".to_owned());
    let done = Command::new("python3")
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(&config)
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", server.url))
        .args(["--max-time", seconds, "--seed", &seed])
        .args(["--continue-on-failure", "--no-color"])
        .args(["--output-sanitize", "false"])
        .args(["--request-timeout", "20"])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", server.token),
        ])
        .env(
            "AURIA_TEST_REVOKED",
            revoked.json()["record"]["id"].as_str().expect("an id"),
        )
        .env("PYTHONPATH", schemathesis)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(context.path())
        .status()
        .expect("python3 starts");
    // It answers still, and says so.
    server.ask("GET", "/api/v1/version", None).is(200);
    assert!(done.success(), "what was found stands above");
}

/// Every operation that is described asks for a token first, whatever else is wrong.
fn unasked(server: &Server, described: &Value) {
    let mut asked = 0;
    for (path, methods) in described["paths"].as_object().expect("paths") {
        // Names that stand for themselves.
        let path = path.replace(['{', '}'], "");
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["security"] == json!([]) {
                continue;
            }
            let answer = server.ask_as("", &method.to_uppercase(), &path, None, &[]);
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.head);
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
}

fn main() -> ExitCode {
    let schemathesis = std::env::var("AURIA_TEST_SCHEMATHESIS").unwrap_or_default();
    let seconds = std::env::var("AURIA_TEST_SECONDS").unwrap_or_else(|_| "45".to_owned());
    let missing = schemathesis.is_empty();
    let trial = Trial::test("the_api_is_as_it_is_described", move || {
        tried(&schemathesis, &seconds);
        Ok::<_, Failed>(())
    });
    let trial = trial.with_ignored_flag(missing);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
