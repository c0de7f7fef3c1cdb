//! The program as a user runs it: a retraining from data to gate, and colouring
//! with the weights and the gallery that ship.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn style(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auria-style"))
        .args(args)
        .current_dir(folder)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("AURIA_CHECKPOINTS")
        .env_remove("AURIA_METRICS")
        .output()
        .unwrap()
}

fn done(folder: &Path, args: &[&str]) -> String {
    let output = style(folder, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn shipped(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(name)
        .display()
        .to_string()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A picture with edges, colours and, where asked, clear parts.
fn picture(path: &Path, width: u32, height: u32, clear: bool) {
    let image = image::RgbaImage::from_fn(width, height, |x, y| {
        let alpha = if clear && x < width / 2 { 0 } else { 255 };
        image::Rgba([
            (x * 5 % 256) as u8,
            (y * 7 % 256) as u8,
            ((x / 8 + y / 8) % 2 * 200) as u8,
            alpha,
        ])
    });
    image.save(path).unwrap();
}

#[test]
fn a_retraining_goes_from_data_to_gate() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    done(
        at,
        &[
            "prepare", "--seed", "1", "--budget", "smoke", "--out", "data",
        ],
    );
    done(
        at,
        &[
            "train", "--data", "data", "--budget", "smoke", "--width", "tiny", "--seed", "1",
            "--out", "new",
        ],
    );
    let card = json(&at.join("new/card.json"));
    assert_eq!(card["training"]["steps"], 80);
    assert!(
        std::fs::read_to_string(at.join("metrics.jsonl"))
            .unwrap()
            .contains("held_out/reconstruction_error")
    );
    done(
        at,
        &[
            "evaluate",
            "--weights",
            "new",
            "--data",
            "data",
            "--out",
            "evaluation.json",
        ],
    );
    let evaluation = json(&at.join("evaluation.json"));
    let error = evaluation["reconstruction_error"].as_f64().unwrap();
    assert_eq!(card["measures"][0]["value"].as_f64().unwrap(), error);

    let gate = |current: Option<&str>, out: &str| {
        let mut args = vec!["gate", "--candidate", "new", "--data", "data", "--out", out];
        args.extend(current.iter().flat_map(|c| ["--current", c]));
        let status = style(at, &args).status.code();
        (
            status,
            json(&at.join(out).join("gate.json"))["choice"].clone(),
        )
    };
    assert_eq!(gate(None, "g1"), (Some(0), "candidate".into()));
    assert_eq!(
        std::fs::read(at.join("g1/model.safetensors")).unwrap(),
        std::fs::read(at.join("new/model.safetensors")).unwrap()
    );
    // Weights of other data are kept, whatever they reach.
    assert_eq!(
        gate(Some(&shipped("weights")), "g2"),
        (Some(0), "current".into())
    );
    assert_eq!(
        std::fs::read(at.join("g2/model.safetensors")).unwrap(),
        std::fs::read(shipped("weights/model.safetensors")).unwrap()
    );
    std::fs::create_dir(at.join("empty")).unwrap();
    assert_eq!(gate(Some("empty"), "g3"), (Some(0), "candidate".into()));
    // A card that says training began lower than it ended.
    let mut worse = card.clone();
    worse["measures"][1]["value"] = (error * 1.5).into();
    std::fs::write(at.join("new/card.json"), worse.to_string()).unwrap();
    assert_eq!(gate(None, "g4"), (Some(1), "neither".into()));
    assert!(!at.join("g4/model.safetensors").exists());
}

#[test]
fn colouring_is_repeatable_and_follows_the_mood() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::create_dir(at.join("painted")).unwrap();
    picture(&at.join("painted/painting.png"), 60, 44, false);
    let (weights, gallery) = (shipped("weights"), shipped("gallery"));
    let base = [
        "colour",
        "--weights",
        &weights,
        "--gallery",
        &gallery,
        "--content",
        "painted",
        "--seed",
        "3",
    ];
    let colour = |more: &[&str]| {
        done(at, &[&base[..], more].concat());
        let out = at.join(more.last().unwrap());
        (
            std::fs::read(out.join("coloured.png")).unwrap(),
            json(&out.join("coloured.json")),
        )
    };
    let (love, about) = colour(&["--mood", "love", "--out", "a"]);
    assert_eq!(love, colour(&["--mood", "Romance", "--out", "b"]).0);
    assert_eq!(
        (about["width"].as_i64(), about["mood"].as_str()),
        (Some(60), Some("love"))
    );
    assert_eq!(about["artwork"]["basis"], "carried");
    assert!(about["artwork"]["fraction"].as_f64().unwrap() >= 0.4);
    assert_ne!(love, colour(&["--mood", "fear", "--out", "c"]).0);
    assert_ne!(
        love,
        colour(&["--mood", "love", "--strength", "0.3", "--out", "d"]).0
    );

    std::fs::create_dir(at.join("poem")).unwrap();
    std::fs::write(at.join("poem/poem.json"), r#"{"mood": "love"}"#).unwrap();
    let (from_poem, about) =
        colour(&["--mood", "", "--poem", "poem", "--size", "90", "--out", "e"]);
    assert_eq!(
        (
            about["mood_from"].as_str(),
            about["width"].as_i64(),
            about["height"].as_i64()
        ),
        (Some("poem"), Some(90), Some(66))
    );
    assert_eq!(image::load_from_memory(&from_poem).unwrap().width(), 90);
    assert!(colour(&["--out", "f"]).1["mood"].is_null());
}

#[test]
fn clear_grey_and_tiny_pictures_are_coloured() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    picture(&at.join("clear.png"), 40, 30, true);
    image::GrayImage::from_fn(31, 9, |x, _| image::Luma([x as u8 * 8]))
        .save(at.join("grey.png"))
        .unwrap();
    picture(&at.join("dot.png"), 1, 1, false);
    let (weights, gallery) = (shipped("weights"), shipped("gallery"));
    for name in ["clear", "grey", "dot"] {
        let content = format!("{name}.png");
        done(
            at,
            &[
                "colour",
                "--weights",
                &weights,
                "--gallery",
                &gallery,
                "--content",
                &content,
                "--mood",
                "anger",
                "--seed",
                "1",
                "--out",
                name,
            ],
        );
        let before = image::open(at.join(&content)).unwrap();
        let after = image::open(at.join(name).join("coloured.png")).unwrap();
        assert_eq!(
            (after.width(), after.height()),
            (before.width(), before.height())
        );
        let alpha =
            |i: &image::DynamicImage| i.to_rgba8().pixels().map(|p| p.0[3]).collect::<Vec<_>>();
        assert_eq!(alpha(&before), alpha(&after));
    }
    // Every mood of anger's works is red: a grey picture is not grey any more.
    let coloured = image::open(at.join("grey/coloured.png")).unwrap().to_rgb8();
    let (red, blue) = coloured.pixels().fold((0u64, 0u64), |s, p| {
        (s.0 + u64::from(p.0[0]), s.1 + u64::from(p.0[2]))
    });
    assert!(red > 2 * blue, "red {red}, blue {blue}");
}

#[test]
fn misuse_ends_with_2_and_failure_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    picture(&at.join("p.png"), 8, 8, false);
    let (weights, gallery) = (shipped("weights"), shipped("gallery"));
    let code = |weights: &str, more: &[&str]| {
        let base = [
            "colour",
            "--weights",
            weights,
            "--gallery",
            &gallery,
            "--content",
            "p.png",
            "--seed",
            "1",
            "--out",
            "o",
        ];
        style(at, &[&base[..], more].concat()).status.code()
    };
    assert_eq!(code(&weights, &["--mood", "hungry"]), Some(2));
    assert_eq!(code(&weights, &["--strength", "2"]), Some(2));
    assert_eq!(code(&weights, &["--size", "0"]), Some(2));
    assert_eq!(code("nowhere", &["--mood", "love"]), Some(1));
    assert!(!at.join("o/coloured.png").exists());
    assert_eq!(style(at, &["paint"]).status.code(), Some(2));
    assert_eq!(style(at, &["--help"]).status.code(), Some(0));
}
