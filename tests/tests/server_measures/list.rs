//! The list of runs, where there are many.

use crate::resident;
use auria_tests::Context;
use auria_tests::measures::{Numbers, setting};
use auria_tests::server::Server;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Callers at once; each has a token of its own, for each has a rate of its own.
const CALLERS: usize = 4;
/// For how long they ask.
const SPAN: Duration = Duration::from_secs(10);

const GREET: &str = "
type: pipeline
name: greet
jobs:
  greet:
    command: echo hello
";

/// Runs that stand in the store as one that was really run does.
fn fill(context: &Context, count: usize) {
    let server = Server::start(context, &[]);
    let body = json!({"document": GREET, "name": "greet-000000"});
    server.ask("POST", "/api/v1/runs", Some(&body)).is(202);
    server.ended("greet-000000");
    drop(server);
    let runs = context.path().join("store/runs");
    // By it the newest are found first: `recent/<time left until a far day>-<run>`.
    let recent = context.path().join("store/recent");
    let entry = std::fs::read_dir(&recent)
        .expect("a folder")
        .flatten()
        .next();
    let entry = entry.expect("the run").path();
    let name = entry
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let (left, _) = name.split_once('-').expect("a time");
    let left: u64 = left.parse().expect("a time");
    for number in 1..count {
        let of = u64::try_from(number).expect("a small number");
        let newer = recent.join(format!("{:013}-greet-{number:06}", left - of));
        std::fs::copy(&entry, newer).expect("a record");
        copy(
            &runs.join("greet-000000"),
            &runs,
            &format!("greet-{number:06}"),
        );
    }
}

/// Copies a run's records under another name.
fn copy(from: &Path, to: &Path, name: &str) {
    let target = to.join(name);
    std::fs::create_dir_all(&target).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a run's records") {
        let entry = entry.expect("a record");
        let path = entry.path();
        let own = entry.file_name();
        if path.is_dir() {
            copy(&path, &target, &own.to_string_lossy());
            continue;
        }
        let bytes = std::fs::read(&path).expect("a record");
        let run = target.components().rev().find_map(|part| {
            let part = part.as_os_str().to_string_lossy();
            part.starts_with("greet-").then(|| part.into_owned())
        });
        let run = run.expect("a run");
        let text = String::from_utf8(bytes).map(|text| text.replace("greet-000000", &run));
        match text {
            Ok(text) => std::fs::write(target.join(own), text),
            Err(bytes) => std::fs::write(target.join(own), bytes.as_bytes()),
        }
        .expect("a record");
    }
}

fn token(context: &Context, name: &str) -> String {
    let made = context.run([
        "token", "create", name, "--scope", "read", "--output", "json",
    ]);
    let made = made.exits(0).json();
    made["token"].as_str().expect("a token").to_owned()
}

pub(crate) fn measure(numbers: &mut Numbers) {
    let context = Context::new();
    let count = setting("AURIA_MEASURES_LISTED", 10_000);
    fill(&context, count);
    let server = Server::start(&context, &[]);
    let work = format!("a list of {count} runs");
    let begun = Instant::now();
    let first = server.ask("GET", "/api/v1/runs?limit=50", None).ok();
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(first.json()["runs"].as_array().map(Vec::len), Some(50));
    numbers.add(
        &format!("{work}: the first page after a start"),
        "serve",
        "ms",
        &[took * 1e3],
    );
    // Every run once, by pages as large as may be.
    let (mut after, mut listed) = (String::new(), 0);
    let begun = Instant::now();
    loop {
        let path = format!("/api/v1/runs?limit=500{after}");
        let page: Value = server.ask("GET", &path, None).ok().json();
        listed += page["runs"].as_array().expect("runs").len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(listed, count, "every run is listed once");
    numbers.add(
        &format!("{work}: all, by pages of 500"),
        "serve",
        "s",
        &[took],
    );
    for (what, path) in [
        ("a page of 50", "/api/v1/runs?limit=50"),
        ("a page of 500", "/api/v1/runs?limit=500"),
    ] {
        let tokens: Vec<_> = (0..CALLERS)
            .map(|number| token(&context, &format!("lists {number}")))
            .collect();
        let begun = Instant::now();
        let times: Vec<Vec<f64>> = std::thread::scope(|scope| {
            let asked = tokens.iter().map(|token| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    while begun.elapsed() < SPAN {
                        let asked = Instant::now();
                        server.ask_as(token, "GET", path, None, &[]).ok();
                        times.push(asked.elapsed().as_secs_f64() * 1e3);
                    }
                    times
                })
            });
            let asked: Vec<_> = asked.collect();
            asked
                .into_iter()
                .map(|one| one.join().expect("a caller"))
                .collect()
        });
        let times: Vec<f64> = times.into_iter().flatten().collect();
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        let name = format!("{work}: {what}, {CALLERS} callers");
        numbers.add(&format!("{name}, requests a second"), "serve", "", &[rate]);
        numbers.spread(&name, "serve", "ms", &times);
    }
    let (most, _) = resident(&server);
    numbers.add("resident at most", "the server, lists", "MiB", &[most]);
}
