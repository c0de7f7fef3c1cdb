//! The program as a user and a pipeline call it.

// A test that cannot go on should stop.
#![allow(clippy::unwrap_used)]

mod port;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const OWN: &str = env!("CARGO_MANIFEST_DIR");

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auria-haiku"))
        .args(args)
        .current_dir(folder)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("AURIA_CHECKPOINTS")
        .env_remove("AURIA_METRICS")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn done(output: &Output) {
    assert_eq!(code(output), 0, "{}", text(&output.stderr));
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn help_teaches_and_wrong_use_is_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(dir.path(), &["--help"]);
    done(&help);
    for word in [
        "prepare",
        "train",
        "evaluate",
        "gate",
        "write",
        "Examples:",
        "Exit codes",
    ] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    for command in ["prepare", "train", "evaluate", "gate", "write"] {
        let help = run(dir.path(), &[command, "--help"]);
        done(&help);
        assert!(text(&help.stdout).contains("--out"), "{command}");
    }
    assert_eq!(code(&run(dir.path(), &["write"])), 2);
    let weights = format!("{OWN}/weights");
    let mood = run(
        dir.path(),
        &[
            "write",
            "--weights",
            &weights,
            "--mood",
            "hungry",
            "--out",
            "p",
        ],
    );
    assert_eq!(code(&mood), 2);
    assert!(
        text(&mood.stderr).contains("sadness"),
        "{}",
        text(&mood.stderr)
    );
    let none = run(dir.path(), &["write", "--weights", "nowhere", "--out", "p"]);
    assert_eq!(code(&none), 1);
    assert!(
        text(&none.stderr).contains("nowhere"),
        "{}",
        text(&none.stderr)
    );
    assert!(!dir.path().join("p").exists());
}

#[test]
fn a_poem_is_printed_and_written_and_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let weights = format!("{OWN}/weights");
    let write = |out: &str, output: &str| {
        let args = [
            "write",
            "--weights",
            &weights,
            "--seed",
            "7",
            "--mood",
            "joy",
            "--topic",
            "moon",
        ];
        let all: Vec<&str> = args
            .into_iter()
            .chain(["--out", out, "--output", output])
            .collect();
        let output = run(dir.path(), &all);
        done(&output);
        text(&output.stdout)
    };
    let printed = write("one", "text");
    let poem = std::fs::read_to_string(dir.path().join("one/poem.txt")).unwrap();
    assert_eq!(printed, poem);
    assert_eq!(poem.lines().count(), 3);
    let json = json(&dir.path().join("one/poem.json"));
    assert_eq!(json["mood"], "happiness");
    assert_eq!(json["topic"], "moon");
    assert_eq!(json["seed"], 7);
    assert_eq!(json["syllables"], serde_json::json!([5, 7, 5]));
    let as_json: Value = serde_json::from_str(&write("two", "json")).unwrap();
    assert_eq!(as_json, json);
    for name in ["poem.txt", "poem.json"] {
        let bytes = |folder: &str| std::fs::read(dir.path().join(folder).join(name)).unwrap();
        assert_eq!(bytes("one"), bytes("two"));
    }
}

/// What `retrain` does with its smoke budget, from the project's own poems.
#[test]
fn prepare_train_evaluate_gate_and_write_with_a_smoke_budget() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let corpus = format!("{OWN}/corpus");
    done(&run(
        dir.path(),
        &["prepare", "--corpus", &corpus, "--out", "data"],
    ));
    let train = [
        "train", "--data", "data", "--budget", "smoke", "--seed", "1", "--out", "new",
    ];
    done(&run(dir.path(), &train));
    let metrics = std::fs::read_to_string(at("metrics.jsonl")).unwrap();
    assert!(metrics.lines().any(|l| l.contains("valid/loss")));
    let evaluate = [
        "evaluate",
        "--weights",
        "new",
        "--data",
        "data",
        "--poems",
        "5",
        "--out",
        "m/measures.json",
    ];
    done(&run(dir.path(), &evaluate));
    let measures = json(&at("m/measures.json"));
    assert_eq!(measures["written"]["in_form"], 1.0);

    // Without current weights: the gate passes, and says by how much was learned.
    let gate = [
        "gate",
        "--candidate",
        "new",
        "--data",
        "data",
        "--poems",
        "5",
    ];
    let with = |more: &[&str]| {
        let all: Vec<&str> = gate.iter().chain(more).copied().collect();
        run(dir.path(), &all)
    };
    done(&with(&["--out", "chosen"]));
    let record = json(&at("chosen/gate.json"));
    assert_eq!(record["choice"], "candidate", "{record}");
    let question = &record["question"];
    let untrained = question["learning"]["untrained"].as_f64().unwrap();
    let trained = question["candidate"].as_f64().unwrap();
    assert!(
        untrained - trained >= auria_haiku::gating::MARGIN,
        "{record}"
    );
    assert_eq!(measures["model"]["loss"], question["candidate"]);
    assert!(
        std::fs::read_to_string(at("chosen/card.md"))
            .unwrap()
            .contains("held-out loss")
    );
    done(&run(
        dir.path(),
        &["write", "--weights", "chosen", "--out", "poem"],
    ));

    // The weights that ship were measured on another corpus: they stay, byte for byte.
    let weights = format!("{OWN}/weights");
    let kept = with(&["--current", &weights, "--out", "kept"]);
    done(&kept);
    assert!(
        text(&kept.stdout).contains("another corpus"),
        "{}",
        text(&kept.stdout)
    );
    let bytes = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(bytes(&at("kept")), bytes(Path::new(&weights)));

    // Weights of one step have not learned enough: the gate fails and passes none on.
    let short = [
        "train", "--data", "data", "--budget", "smoke", "--steps", "0", "--out", "raw",
    ];
    done(&run(dir.path(), &short));
    let failed = run(
        dir.path(),
        &[
            "gate",
            "--candidate",
            "raw",
            "--data",
            "data",
            "--current",
            "chosen",
            "--poems",
            "0",
            "--out",
            "none",
        ],
    );
    assert_eq!(code(&failed), 1);
    assert!(!at("none/model.safetensors").exists());
    assert_eq!(json(&at("none/gate.json"))["choice"], "neither");

    // Against the same corpus the better weights stay.
    let same = run(
        dir.path(),
        &[
            "gate",
            "--candidate",
            "chosen",
            "--data",
            "data",
            "--current",
            "chosen",
            "--poems",
            "0",
            "--out",
            "tie",
        ],
    );
    done(&same);
    assert_eq!(
        json(&at("tie/gate.json"))["choice"],
        "candidate",
        "a tie is the candidate's"
    );
}

/// As a machine that is taken away ends a step.
#[test]
fn sigterm_leaves_a_checkpoint_that_the_same_command_goes_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = format!("{OWN}/corpus");
    let prepare = ["prepare", "--corpus", &corpus, "--out", "data"];
    done(&run(dir.path(), &prepare));
    let train = |steps: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auria-haiku"));
        command
            .args([
                "train", "--data", "data", "--budget", "smoke", "--out", "new",
            ])
            .args(["--checkpoints", "checkpoints", "--steps", steps])
            .current_dir(dir.path())
            .env("OMP_NUM_THREADS", "1")
            .env_remove("AURIA_METRICS")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        command
    };
    let child = train("5000").spawn().unwrap();
    let metrics = dir.path().join("metrics.jsonl");
    // The first value is that of step 20: it trains.
    while std::fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.unwrap().success());
    let stopped = child.wait_with_output().unwrap();
    let said = text(&stopped.stderr);
    assert_eq!(code(&stopped), 1, "{said}");
    assert!(
        said.contains("as SIGTERM asked; the same command"),
        "{said}"
    );
    assert!(!dir.path().join("new").exists());
    let (_, step) = said.split_once("stopped at step ").unwrap();
    let step = &step[..step.find(',').unwrap()];
    // Stopped again at once, by its time; it went on from there.
    let again = train("5000").args(["--minutes", "0"]).output().unwrap();
    let said = text(&again.stderr);
    assert!(
        said.contains(&format!("resumed at step {step} of 5000")),
        "{said}"
    );
    done(&again);
}

/// Any of them is asked, and all stop after the same step.
#[test]
fn sigterm_to_one_of_several_leaves_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = format!("{OWN}/corpus");
    let prepare = ["prepare", "--corpus", &corpus, "--out", "data"];
    done(&run(dir.path(), &prepare));
    let port = port::free();
    let start = |rank: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auria-haiku"));
        command
            .args(["train", "--data", "data", "--budget", "smoke"])
            .args(["--out", &format!("new-{rank}"), "--steps", "5000"])
            .args(["--checkpoints", "checkpoints", "--group-timeout", "60"])
            .current_dir(dir.path())
            .env("OMP_NUM_THREADS", "1")
            .env("RANK", rank)
            .env("WORLD_SIZE", "2")
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", &port)
            .env_remove("AURIA_METRICS")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let mut both = [start("0"), start("1")];
    let metrics = dir.path().join("metrics.jsonl");
    while std::fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        let ended = both[0].try_wait().unwrap();
        assert_eq!(ended, None, "it ended before it trained");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = both[1].id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.unwrap().success());
    let steps = both.map(|child| {
        let stopped = child.wait_with_output().unwrap();
        let said = text(&stopped.stderr);
        assert_eq!(stopped.status.code(), Some(1), "{said}");
        assert!(said.contains("as SIGTERM asked"), "{said}");
        let (_, step) = said.split_once("stopped at step ").unwrap();
        step[..step.find(',').unwrap()].parse::<u64>().unwrap()
    });
    assert_eq!(steps[0], steps[1]);
    let checkpoint = format!("checkpoints/step-{:0>10}", steps[0]);
    assert!(dir.path().join(&checkpoint).exists(), "{checkpoint}");
}

#[test]
fn a_process_of_several_says_what_keeps_it_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let train = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auria-haiku"));
        command
            .args(["train", "--data", "data", "--out", "new"])
            .args(more)
            .current_dir(dir.path())
            .env("OMP_NUM_THREADS", "1")
            .env("WORLD_SIZE", "2")
            .envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert_eq!(code(&output), 1, "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = train(&[], &[]);
    assert!(said.contains("RANK is not set"), "{said}");
    let place = [
        ("RANK", "0"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "1"),
    ];
    let said = train(&place, &["--group-timeout", "1"]);
    assert!(
        said.contains("did not meet the others at 127.0.0.1:1 within 1 s"),
        "{said}"
    );
}
