//! Works that differ by a number, as the three steps before leave them.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

pub mod instagram;
pub mod network;
pub mod posting;
pub mod x;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes work `number` under `root` and returns its folder, with `poem`, `painting` and
/// `coloured` in it.
pub fn work(root: &Path, number: u8) -> PathBuf {
    let folder = root.join(format!("work-{number}"));
    for name in ["poem", "painting", "coloured"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let poem = serde_json::json!({
        "lines": [format!("poem {number} <begins>"), "an \"old\" pond & a frog", "water's sound"],
        "mood": "calm", "topic": "pond", "seed": number,
        "model": "ignored",
    });
    fs::write(folder.join("poem/poem.json"), poem.to_string()).unwrap();
    picture(&folder.join("painting/painting.png"), [number, 40, 90]);
    picture(&folder.join("coloured/coloured.png"), [number, 200, 120]);
    fs::write(
        folder.join("coloured/coloured.json"),
        serde_json::json!({"mood": "joy", "artwork": {"title": "Waves", "artist": "Auria"}})
            .to_string(),
    )
    .unwrap();
    folder
}

fn picture(path: &Path, colour: [u8; 3]) {
    image::RgbImage::from_pixel(24, 16, image::Rgb(colour))
        .save(path)
        .unwrap();
}

/// `auria-post post` of a work, with no credentials but those given.
pub fn post(work: &Path, gallery: &str, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auria-post"));
    command
        .arg("post")
        .arg("--poem")
        .arg(work.join("poem"))
        .arg("--painting")
        .arg(work.join("painting"))
        .arg("--coloured")
        .arg(work.join("coloured"))
        .args(["--gallery", gallery])
        .arg("--out")
        .arg(work.join("out"))
        .env_remove("AURIA_RUN")
        .envs(environment.iter().cloned())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs all commands at once and fails with what the first failed one said.
pub fn all_at_once(commands: Vec<Command>) {
    let running: Vec<_> = commands
        .into_iter()
        .map(|mut command| command.spawn().unwrap())
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// How many works a page shows.
pub fn shown(page: &str) -> usize {
    page.matches("<article").count()
}
