//! Auria's pipeline as a person runs it: a poem, a painting, the painting in a mood;
//! the same again is reused, another seed is another work.

use auria_tests::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Child;

fn submit(context: &Context, seed: u32) -> serde_json::Value {
    let file = auria_tests::project().join("pipelines.yaml");
    let (seed, gallery) = (
        format!("inputs.seed={seed}"),
        format!(
            "inputs.gallery={}",
            context.path().join("gallery").display()
        ),
    );
    context
        .run([
            "submit",
            &file.to_string_lossy(),
            "--set",
            &seed,
            "--set",
            &gallery,
            "--output",
            "json",
        ])
        .exits(0)
        .json()
}

#[test]
fn a_haiku_is_written_painted_coloured_and_posted() {
    let context = Context::new();
    let first = submit(&context, 7);
    assert_eq!(first["status"], "Completed");
    let to = context.path().join("work");
    context
        .run(["download", "latest", "--to", &to.to_string_lossy()])
        .exits(0);
    let poem = std::fs::read_to_string(to.join("write/poem/poem.txt")).expect("the poem");
    assert_eq!(poem.trim().lines().count(), 3, "{poem}");
    let painting = std::fs::read(to.join("paint/painting/painting.png")).expect("the painting");
    let picture = std::fs::read(to.join("colour/picture/coloured.png")).expect("the picture");
    assert!(
        painting.starts_with(b"\x89PNG") && picture.starts_with(b"\x89PNG") && painting != picture
    );
    let page =
        std::fs::read_to_string(context.path().join("gallery/index.html")).expect("the page");
    assert!(
        page.contains(poem.lines().next().expect("a line")),
        "{page}"
    );

    let second = submit(&context, 7);
    for step in ["write", "paint", "colour"] {
        assert_eq!(second["steps"][step]["status"], "Reused", "{step}");
    }
    assert_eq!(
        second["steps"]["post"]["status"], "Completed",
        "it is not deterministic"
    );
    assert_eq!(
        second["outputs"]["picture"]["digest"],
        first["outputs"]["picture"]["digest"]
    );
    let entries = std::fs::read_dir(context.path().join("gallery/entries"))
        .expect("the entries")
        .count();
    assert_eq!(entries, 1, "the same work twice is one entry");

    let other = submit(&context, 8);
    assert_ne!(
        other["outputs"]["poem"]["digest"],
        first["outputs"]["poem"]["digest"]
    );
    assert_ne!(
        other["outputs"]["picture"]["digest"],
        first["outputs"]["picture"]["digest"]
    );
}

/// The programs that a server keeps, by name, with the number of their process.
fn kept(server: &Child) -> BTreeMap<String, String> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| {
            let (path, number) = (entry.path(), entry.file_name().into_string().ok()?);
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
            let line = std::fs::read_to_string(path.join("cmdline")).ok()?;
            let (program, argument) = line.trim_end_matches('\0').split_once('\0')?;
            let name = program.rsplit('/').next()?.to_owned();
            (parent == server.id().to_string() && argument == "warm").then_some((name, number))
        })
        .collect()
}

#[test]
fn a_server_keeps_the_models_loaded_and_their_work_is_the_same() {
    let cold = submit(&Context::new(), 11);
    let context = Context::new();
    let mut server = context.start(["serve", "--listen", "127.0.0.1:0", "--on", "process"]);
    let mut said = BufReader::new(server.stderr.take().expect("a pipe"));
    let url = loop {
        let mut line = String::new();
        assert!(said.read_line(&mut line).expect("a line") > 0, "no address");
        if let Some((_, url)) = line.trim().split_once(" at ") {
            break url.to_owned();
        }
    };
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let file = auria_tests::project().join("pipelines.yaml");
    let gallery = context.path().join("gallery");
    let mut seen = Vec::new();
    for seed in [10, 11] {
        let done = context
            .run([
                "submit",
                &file.to_string_lossy(),
                "--set",
                &format!("inputs.seed={seed}"),
                "--set",
                &format!("inputs.gallery={}", gallery.display()),
                "--server",
                &url,
                "--on",
                "process",
                "--output",
                "json",
            ])
            .exits(0)
            .json();
        let kept = kept(&server);
        let names: Vec<_> = kept.keys().map(String::as_str).collect();
        assert_eq!(names, ["auria-haiku", "auria-paint", "auria-style"]);
        seen.push((done, kept));
    }
    let [(first, before), (second, after)] = &seen[..] else {
        panic!("two runs");
    };
    assert_eq!(before, after, "the same programs did the second work");
    for output in ["poem", "painting", "picture"] {
        let digest = |run: &serde_json::Value| run["outputs"][output]["digest"].clone();
        assert_eq!(digest(second), digest(&cold), "{output}");
        assert_ne!(digest(second), digest(first), "{output}");
    }
    let pid = Pid::from_raw(i32::try_from(server.id()).expect("a number"));
    kill(pid, Signal::SIGTERM).expect("the server runs");
    assert!(server.wait().expect("it ends").success());
    // They are killed; a busy machine takes a moment to take a large process apart.
    let begun = std::time::Instant::now();
    for number in after.values() {
        let path = format!("/proc/{number}/cmdline");
        let left = || std::fs::read_to_string(&path).unwrap_or_default();
        while left().ends_with("warm\0") {
            let waited = begun.elapsed();
            assert!(
                waited < std::time::Duration::from_secs(20),
                "{number} is left"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn retraining_lowers_every_held_out_loss_and_registers_what_passed() {
    let context = Context::new();
    let file = auria_tests::project().join("pipelines.yaml");
    let args = [
        "submit",
        &file.to_string_lossy(),
        "--pipeline",
        "retrain",
        "--set",
        "inputs.budget=smoke",
        "--output",
        "json",
    ];
    // The gates end with 1 where training did not lower a held-out loss by its margin.
    let report = context.run(args).exits(0).json();
    assert_eq!(report["status"], "Completed");
    let models = context
        .run(["model", "list", "--output", "json"])
        .exits(0)
        .json();
    let names: Vec<&str> = models
        .as_array()
        .expect("models")
        .iter()
        .filter_map(|model| model["name"].as_str())
        .collect();
    assert_eq!(names, ["auria-haiku", "auria-paint", "auria-style"]);
    let metrics = context
        .run(["metrics", "latest", "--output", "json"])
        .exits(0)
        .json();
    for step in ["haiku_train", "paint_train", "style_train"] {
        assert!(
            metrics[step]
                .as_array()
                .is_some_and(|values| !values.is_empty()),
            "{step} wrote no metrics: {metrics}"
        );
    }
}

#[test]
fn two_processes_train_the_haiku_model_together_and_one_writes() {
    let context = Context::new();
    let file = auria_tests::project().join("pipelines.yaml");
    let args = [
        "submit",
        &file.to_string_lossy(),
        "--pipeline",
        "retrain-distributed",
        "--set",
        "inputs.budget=smoke",
        "--name",
        "together",
        "--output",
        "json",
    ];
    let report = context.run(args).exits(0).json();
    assert_eq!(report["status"], "Completed");
    let weights = report["steps"]["haiku_train"]["outputs"]["weights"]["uri"].as_str();
    let card = std::path::Path::new(weights.expect("weights")).join("card.json");
    let card = std::fs::read(&card).expect("a card");
    let card: serde_json::Value = serde_json::from_slice(&card).expect("JSON");
    let device = card["training"]["device"].as_str().expect("a device");
    assert!(device.starts_with("cpu, 2 processes, "), "{device}");
    let log = context.run(["logs", "together", "haiku_train"]).exits(0);
    let log = log.stdout;
    for line in [
        "[rank 1] rank 1 of 2 is done; rank 0 writes",
        "[rank 0] step 400/400",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("[rank 1] step"), "{log}");
    // Each value once.
    let metrics = context.run(["metrics", "together", "--output", "json"]);
    let metrics = metrics.exits(0).json();
    let logged = metrics["haiku_train"].as_array().expect("metrics");
    let losses = logged.iter().filter(|one| one["name"] == "train/loss");
    assert_eq!(losses.count(), 20, "{metrics}");
    let models = context.run(["model", "list", "--output", "json"]);
    assert_eq!(models.exits(0).json()[0]["name"], "auria-haiku");
}
