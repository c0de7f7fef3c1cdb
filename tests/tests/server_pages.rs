//! The pages of `serve` in a browser: Debian's Chromium, driven by Playwright. `cargo xtask test
//! server` installs both and says where they are; without them this is left out.

use auria_tests::Context;
use auria_tests::server::{Server, over};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Four steps whose outputs are a picture, tables and text, and which measure something.
const SMALL: &str = r#"
type: pipeline
name: small
display_name: A small study
description: x
experiment_name: studies
inputs:
  who: world
  note: "<script>window.pwned = 1</script>"
outputs:
  study: {type: uri_folder}
jobs:
  gather:
    command: >-
      for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo "{\"name\": \"loss\", \"value\": 0.$((90 - i * 5)), \"step\": $i}" >> $AURIA_METRICS;
      echo "{\"name\": \"accuracy\", \"value\": 0.$((40 + i * 3)), \"step\": $i}" >> $AURIA_METRICS; done;
      printf 'day,temperature,rain\n1,12.5,0\n2,13.0,4\n3,9.5,11\n' > ${{outputs.table}}; sleep 0.4; echo gathered
    outputs: {table: {type: uri_file}}
  left:
    command: cp ${{inputs.table}} ${{outputs.half}}; sleep 0.6; echo left
    inputs: {table: '${{parent.jobs.gather.outputs.table}}'}
    outputs: {half: {type: uri_file}}
  right:
    command: cp ${{inputs.table}} ${{outputs.half}}; sleep 0.3; echo right
    inputs: {table: '${{parent.jobs.gather.outputs.table}}'}
    outputs: {half: {type: uri_file}}
  study:
    command: >-
      mkdir -p ${{outputs.study}}; cp "$PICTURE" ${{outputs.study}}/painting.png;
      printf 'An old pond. A frog\njumps into the silent water.\nThe sound of itself.\n' > ${{outputs.study}}/poem.txt;
      printf 'day,temperature,rain\n1,12.5,0\n2,13.0,4\n3,9.5,11\n' > ${{outputs.study}}/weather.csv;
      echo '{"mood": "calm", "strokes": 4711, "palette": "umber"}' > ${{outputs.study}}/study.json
    inputs: {left: '${{parent.jobs.left.outputs.half}}', right: '${{parent.jobs.right.outputs.half}}'}
    outputs: {study: '${{parent.outputs.study}}'}
"#;

/// A pipeline of 500 steps: a source, 248 shards that are each worked on twice, two that gather.
fn large() -> String {
    let mut text = "type: pipeline\nname: large\nsettings: {continue_on_step_failure: true}\njobs:\n  \
                    source:\n    command: echo x > ${{outputs.all}}\n    outputs: {all: {type: uri_file}}\n"
        .to_owned();
    for shard in 0..248 {
        let odd = if shard == 17 { "exit 3" } else { "true" };
        text += &format!(
            "  clean_{shard:03}:\n    command: {odd}; cp ${{{{inputs.all}}}} ${{{{outputs.part}}}}\n    \
             inputs: {{all: '${{{{parent.jobs.source.outputs.all}}}}'}}\n    outputs: {{part: {{type: uri_file}}}}\n  \
             train_{shard:03}:\n    command: cp ${{{{inputs.part}}}} ${{{{outputs.model}}}}\n    \
             inputs: {{part: '${{{{parent.jobs.clean_{shard:03}.outputs.part}}}}'}}\n    outputs: {{model: {{type: uri_file}}}}\n"
        );
    }
    for (name, half) in [("gather_low", 0..124), ("gather_high", 124..248)] {
        text += &format!("  {name}:\n    command: 'true'\n    inputs:\n");
        for shard in half {
            text +=
                &format!("      m{shard}: '${{{{parent.jobs.train_{shard:03}.outputs.model}}}}'\n");
        }
    }
    text += "  report:\n    command: 'true'\n    depends_on: [gather_low, gather_high]\n";
    text
}

/// Waits for a file of its name in the test's folder before it goes on.
fn held(context: &Context, name: &str, step: &str, before: &str, file: &str) -> String {
    let file = context.path().join(file);
    format!(
        "type: pipeline\nname: {name}\nsettings: {{force_rerun: true}}\njobs:\n  {step}:\n    command: \"{before}; \
         while [ ! -e {} ]; do sleep 0.1; done; echo the end\"\n",
        file.display()
    )
}

const EVIL: &str = r#"
type: pipeline
name: evil
outputs: {made: {type: uri_folder}}
jobs:
  evil:
    command: >-
      mkdir -p ${{outputs.made}}; echo '<script>window.pwned=1</script>' > ${{outputs.made}}/evil.html;
      echo '<html><script>window.pwned=1</script></html>' > ${{outputs.made}}/evil.png;
      echo '<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1"/>' > ${{outputs.made}}/evil.svg;
      echo 'a,<img src=x onerror=window.pwned=1>' > ${{outputs.made}}/evil.csv;
      echo 'b,c' >> ${{outputs.made}}/evil.csv; echo '<script>window.pwned=1</script>'
    outputs: {made: '${{parent.outputs.made}}'}
"#;

const GREET: &str = r#"
type: pipeline
name: greet
inputs:
  who: world
  times: {type: integer, default: 1, min: 1, max: 5}
  mood: {type: string, enum: [joy, calm], default: joy}
jobs:
  greet:
    command: for i in $(seq ${{inputs.times}}); do echo hello; done
    inputs: {times: '${{parent.inputs.times}}'}
"#;

/// A picture of 480 pixels: bands of colour, as PNG without a library.
fn picture() -> Vec<u8> {
    let side: usize = 480;
    let mut raw = Vec::new();
    for y in 0..side {
        raw.push(0);
        for x in 0..side {
            let wave = ((x as f64 / 60.0).sin() * 20.0 + y as f64 / 2.0) as u8;
            raw.extend([200 - wave / 2, 120 + wave / 4, 90 + wave / 3]);
        }
    }
    let chunk = |kind: &[u8], body: &[u8]| {
        let mut out = u32::try_from(body.len())
            .expect("short")
            .to_be_bytes()
            .to_vec();
        let whole = [kind, body].concat();
        out.extend(&whole);
        out.extend(crc(&whole).to_be_bytes());
        out
    };
    // Stored, not compressed.
    let mut zlib = vec![0x78, 0x01];
    let mut blocks = raw.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        zlib.push(u8::from(blocks.peek().is_none()));
        let length = u16::try_from(block.len()).expect("short");
        zlib.extend(length.to_le_bytes());
        zlib.extend((!length).to_le_bytes());
        zlib.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in &raw {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    zlib.extend(((b << 16) | a).to_be_bytes());
    let size = u32::try_from(side).expect("small").to_be_bytes();
    let head = [&size[..], &size[..], &[8, 2, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend(chunk(b"IHDR", &head));
    png.extend(chunk(b"IDAT", &zlib));
    png.extend(chunk(b"IEND", b""));
    png
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn submit(server: &Server, document: &str) -> String {
    let taken = server.ask("POST", "/api/v1/runs", Some(&json!({"document": document})));
    taken.is(202).json()["run"]
        .as_str()
        .expect("a run")
        .to_owned()
}

fn pages(playwright: &str, chromium: &str) {
    let context = Context::new();
    let picture_file = context.path().join("picture.png");
    std::fs::write(&picture_file, picture()).expect("the picture");
    let server = Server::start(&context, &["--runs", "3"]);
    let small = SMALL.replace("$PICTURE", &picture_file.to_string_lossy());
    let small = submit(&server, &small);
    server.ended(&small);
    let evil = submit(&server, EVIL);
    server.ended(&evil);
    let large = submit(&server, &large());
    let begun = Instant::now();
    loop {
        let shown = server
            .ask("GET", &format!("/api/v1/runs/{large}"), None)
            .json();
        if !shown["ended"].is_null() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(240), "500 steps");
        std::thread::sleep(Duration::from_millis(300));
    }
    // These two hold the machine until they are let go.
    let live = submit(&server, &held(&context, "live", "wait", "echo begun", "go"));
    let talk = "for i in 1 2 3; do echo line $i; done";
    let logged = submit(&server, &held(&context, "logged", "talk", talk, "end"));
    let body = json!({"name": "greet", "description": "Says hello, as often as you like."});
    server.ask("POST", "/api/v1/endpoints", Some(&body)).is(201);
    let body = json!({"name": "first", "document": GREET});
    let path = "/api/v1/endpoints/greet/deployments";
    server.ask("POST", path, Some(&body)).is(201);
    let body = json!({"name": "daily", "document": GREET, "description": "Good morning.", "trigger":
        {"type": "recurrence", "frequency": "day", "interval": 1, "time_zone": "Europe/Berlin",
         "schedule": {"hours": [6], "minutes": [0]}}});
    server.ask("POST", "/api/v1/schedules", Some(&body)).is(201);
    let run = |name: &str, rest: &str| format!("/run/{name}{rest}");
    let plan = json!({
        "url": server.url, "token": server.token, "chromium": chromium, "folder": context.path(),
        "screenshots": screenshots(), "small": small, "live": live, "logged": logged, "evil": evil,
        "pages": [
            ["runs", "/"], ["runs-none", "/?pipeline=nothing"], ["run-small", run(&small, "")],
            ["step", run(&small, "/step?step=study")], ["step-failed", run(&large, "/step?step=clean_017")],
            ["run-large", run(&large, "")], ["run-live", run(&live, "")], ["log", run(&small, "/logs")],
            ["endpoints", "/endpoints"], ["endpoint", "/endpoints/greet"], ["schedules", "/schedules"],
            ["schedule", "/schedules/daily"],
        ],
    });
    let script = auria_tests::project().join("tests/browser/pages.py");
    drive(playwright, &script, &plan);
}

/// Auria's page, with the artist's own programs and weights.
fn visitor(playwright: &str, chromium: &str) {
    let context = Context::new();
    let server = Server::start(&context, &["--auria", "kathi"]);
    let file = auria_tests::project().join("pipelines.yaml");
    let file = file.to_string_lossy();
    let create = ["endpoint", "create", "kathi", "--from", &file];
    over(&context, &server, &create).exits(0);
    let gallery = format!(
        "inputs.gallery={}",
        context.path().join("gallery").display()
    );
    let work = |name: &str, more: &[&str]| {
        let args = [
            "submit", &file, "--on", "process", "--name", name, "--set", &gallery,
        ];
        over(&context, &server, &[&args[..], more].concat()).exits(0);
    };
    work(
        "public",
        &["--set", "inputs.seed=7", "--set", "inputs.topic=morning"],
    );
    // Its steps are reused: only the experiment is another.
    let private = [
        "--set",
        "inputs.seed=7",
        "--set",
        "inputs.topic=morning",
        "--experiment",
        "mine",
    ];
    work("private", &private);
    let plan = json!({
        "url": server.url, "chromium": chromium, "screenshots": screenshots(),
        "work": "public", "private": "private",
    });
    let script = auria_tests::project().join("tests/browser/auria.py");
    drive(playwright, &script, &plan);
}

/// Where pictures of pages are kept.
fn screenshots() -> PathBuf {
    auria_tests::project().join("target/test/screenshots")
}

fn drive(playwright: &str, script: &std::path::Path, plan: &Value) {
    let mut child = Command::new("python3")
        .arg(script)
        .env("PYTHONPATH", playwright)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(plan.to_string().as_bytes())
        .expect("the plan");
    drop(stdin);
    let ended = child.wait().expect("its end");
    assert!(ended.success(), "what is wrong stands above");
}

fn main() -> ExitCode {
    let found = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let (playwright, chromium) = (found("AURIA_TEST_PLAYWRIGHT"), found("AURIA_TEST_CHROMIUM"));
    let missing = playwright.is_none() || chromium.is_none();
    let (playwright, chromium) = (playwright.unwrap_or_default(), chromium.unwrap_or_default());
    let trial = |name: &str, tried: fn(&str, &str)| {
        let (playwright, chromium) = (playwright.clone(), chromium.clone());
        let trial = Trial::test(name, move || {
            tried(&playwright, &chromium);
            Ok::<_, Failed>(())
        });
        trial.with_ignored_flag(missing)
    };
    let trials = vec![
        trial("pages_as_people_see_them", pages),
        trial("a_visitor_watches_a_work_come_to_be", visitor),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
