//! The program as a user or a pipeline calls it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

use auria_paint::artist::Artist;
use auria_paint::data::{self, Budget, Data};
use auria_paint::evaluate::Measured;
use auria_paint::gate;
use auria_paint::model::Config;
use auria_paint::train::{self, Plan, Request};
use auria_steps_common::card::Card;
use auria_steps_common::checkpoint::CheckpointArgs;
use auria_steps_common::gate::Choice;
use auria_steps_common::metrics::Metrics;
use auria_steps_common::{files, weights};
use tch::Device;

fn program(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auria-paint"))
        .args(args)
        .current_dir(dir)
        .env("AURIA_METRICS", dir.join("metrics.jsonl"))
        .env_remove("AURIA_CHECKPOINTS")
        .output()
        .unwrap()
}

fn untrained(dir: &Path) {
    let words = auria_paint::lexicon::ENTRIES
        .iter()
        .flat_map(|e| e.phrases.iter().copied());
    let vocabulary = auria_paint::vocabulary::Vocabulary::of(words);
    tch::manual_seed(3);
    let artist = Artist::new(Config::tiny(vocabulary.size()), vocabulary, Device::Cpu);
    artist
        .write(&weights::of_store(&artist.store), dir)
        .unwrap();
}

#[test]
fn one_seed_is_one_picture_and_the_words_decide_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    untrained(&at.join("w"));
    std::fs::write(at.join("poem.txt"), "winter moon\nover the zzyzx\na boat").unwrap();
    std::fs::write(at.join("other.txt"), "summer fields\nflowers").unwrap();
    let paint = |poem: &str, seed: &str, out: &str| {
        let args = [
            "paint",
            "--weights",
            "w",
            "--poem",
            poem,
            "--seed",
            seed,
            "--size",
            "512",
            "--out",
            out,
        ];
        let output = program(at, &args);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::read(at.join(out).join("painting.png")).unwrap()
    };
    let first = paint("poem.txt", "7", "a");
    assert_eq!(first, paint("poem.txt", "7", "b"), "one seed, one picture");
    assert_ne!(
        first,
        paint("poem.txt", "8", "c"),
        "another seed, another picture"
    );
    assert_ne!(
        first,
        paint("other.txt", "7", "d"),
        "other words, another picture"
    );
    let image = image::load_from_memory(&first).unwrap();
    assert_eq!((image.width(), image.height()), (512, 512));
    let record: serde_json::Value = files::read_json(&at.join("a/painting.json")).unwrap();
    assert_eq!(record["left_out"], serde_json::json!(["zzyzx"]));
    assert_eq!(record["seed"], 7);
}

#[test]
fn exit_codes_tell_misuse_from_failure() {
    let dir = tempfile::tempdir().unwrap();
    for (args, code) in [
        (vec!["--help"], 0),
        (vec!["paint"], 2),
        (
            vec!["train", "--data", "d", "--out", "w", "--minutes", "-1"],
            2,
        ),
        (
            vec![
                "paint",
                "--weights",
                "none",
                "--poem",
                "none",
                "--seed",
                "1",
                "--out",
                "x",
            ],
            1,
        ),
        (
            vec![
                "evaluate",
                "--weights",
                "none",
                "--data",
                "none",
                "--out",
                "x.json",
            ],
            1,
        ),
    ] {
        let output = program(dir.path(), &args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// One short training carries the tests of what it leaves and of the gate.
#[test]
fn a_training_learns_and_the_gate_takes_only_what_is_not_worse() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    data::prepare(3, Budget::Smoke, &at("data")).unwrap();
    let mut data = Data::read(&at("data")).unwrap();
    data.held_out.truncate(20);
    let plan = Plan {
        damsm_steps: 24,
        gan_steps: 20,
        gan_batch: 5,
        adversarial_from: 0.8,
        settle_steps: 8,
        ..Plan::of(Budget::Smoke)
    };
    let request = Request {
        data: &data,
        config: None,
        plan,
        budget: Budget::Smoke,
        seed: 1,
        minutes: None,
        device: Device::Cpu,
    };
    let none = CheckpointArgs {
        checkpoints: None,
        checkpoint_every: 60,
    };
    let mut metrics = Metrics::open(&at("metrics.jsonl")).unwrap();
    let card = train::run(&request, &none, &mut metrics, &at("trained")).unwrap();
    let read = Card::read(&at("trained")).unwrap();
    assert_eq!((&read.size, &read.data), (&card.size, &card.data));
    assert_eq!(card.data.corpus_digest, data.summary.digest);

    // The card holds what these weights reach when they are read again.
    let artist = Artist::read(&at("trained"), Device::Cpu).unwrap();
    let quick = Measured::quick(&artist, &data);
    assert_eq!(
        card.measure("held-out picture error").unwrap().value,
        quick.picture_error
    );

    let judge = |candidate: &str, current: Option<&str>, out: &str| {
        let current = current.map(at);
        gate::run(
            &at(candidate),
            current.as_deref(),
            &data,
            &at(out),
            Device::Cpu,
        )
        .unwrap()
    };
    // Without current weights the network before training is the baseline.
    let verdict = judge("trained", None, "g1");
    assert_eq!(
        verdict.picture.decision.choice,
        Choice::Candidate,
        "{:?}",
        verdict.picture.decision
    );
    assert!(at("g1/gate.json").exists() && at("g1/model.safetensors").exists());

    // A network that was not trained has not learned, whatever stands beside it.
    files::copy_dir(&at("trained"), &at("raw")).unwrap();
    let raw = auria_paint::evaluate::untrained(&artist);
    raw.write(&weights::of_store(&raw.store), &at("raw"))
        .unwrap();
    let verdict = judge("raw", Some("trained"), "g2");
    assert_eq!(
        (
            verdict.picture.decision.choice,
            verdict.picture.decision.passed
        ),
        (Choice::Neither, false)
    );
    assert!(!at("g2/model.safetensors").exists());

    // Worse weights give way, and those of other data stay.
    assert_eq!(
        judge("trained", Some("raw"), "g3").picture.decision.choice,
        Choice::Candidate
    );
    let mut foreign = card.clone();
    foreign.data.corpus_digest = "another".into();
    foreign.write(&at("raw")).unwrap();
    let verdict = judge("trained", Some("raw"), "g4");
    assert_eq!(
        (
            verdict.picture.decision.choice,
            verdict.picture.decision.passed
        ),
        (Choice::Current, true)
    );
    assert!(verdict.picture.decision.reason.contains("another corpus"));
    assert_eq!(
        files::read(&at("g4/model.safetensors")).unwrap(),
        files::read(&at("raw/model.safetensors")).unwrap()
    );
}
