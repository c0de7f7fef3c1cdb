//! Processes that train together end with the weights of one that trains alone, also when
//! one of them is killed in between and they go on from the checkpoint.

// A test that cannot go on should stop.
#![allow(clippy::unwrap_used)]

mod port;
mod support;

use auria_haiku::config::Optimiser;
use auria_haiku::train::{Limits, Trainer};
use auria_steps_common::distributed::{Group, GroupArgs};
use auria_steps_common::metrics::Metrics;
use auria_steps_common::weights::{self, Storage};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use support::{checkpoints, set};
use tch::Device;

/// The folder that the processes of a test work in; not set in the test itself.
const FOLDER: &str = "AURIA_TEST_FOLDER";
const OPTIMISER: &str = "AURIA_TEST_OPTIMISER";
/// Ends the process at this checkpoint.
const DIES: &str = "AURIA_TEST_DIES";

/// Started by the other tests, in processes of its own: trains, and leaves its weights.
#[test]
fn member() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let group = Group::from_env(GroupArgs { group_timeout: 60 }).unwrap();
    let rank = group.rank();
    let optimiser = match std::env::var(OPTIMISER).unwrap().as_str() {
        "adam" => Optimiser::Adam,
        _ => Optimiser::NtAsgd,
    };
    let mut set = set(&folder.join(format!("data-{rank}")), optimiser);
    // Not to be shared evenly by two or three.
    set.config.training.batch = 7;
    if optimiser == Optimiser::NtAsgd {
        // Updates in which the size of a gradient shows, and which do not magnify rounding:
        // Adam takes no notice of it, nor does what is clipped.
        (set.config.training.lr, set.config.training.clip) = (1.0, 1e3);
    }
    let dir = folder.join("checkpoints");
    if let Ok(step) = std::env::var(DIES) {
        let last = dir.join(format!("step-{step:0>10}"));
        std::thread::spawn(move || {
            while !last.exists() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            std::process::abort();
        });
    }
    let mut trainer = Trainer::in_group(
        group,
        &set.config,
        (&set.poems, &set.verse),
        &set.valid,
        (3, Device::Cpu),
        "digest",
    )
    .unwrap();
    // Only the first has them.
    let dir = if rank == 0 {
        dir
    } else {
        folder.join("nothing")
    };
    let mut checkpoints = checkpoints(&dir, 0);
    let resumed = trainer
        .resume(&checkpoints, (&set.poems, &set.verse), &dir)
        .unwrap();
    eprintln!("RESUMED: {}", resumed.unwrap_or(0));
    let mut metrics = Metrics::open(&folder.join(format!("metrics-{rank}.jsonl"))).unwrap();
    let done = trainer.run(&mut checkpoints, &mut metrics, Limits::default());
    match done {
        Ok(summary) => {
            eprintln!("AVERAGED: {:?}", summary.unwrap().averaged_from);
            let path = folder.join(format!("weights-{rank}"));
            weights::write(&path, &trainer.into_model().tensors(), Storage::Exact).unwrap();
        }
        Err(error) => {
            eprintln!("SAID: {error}");
            std::process::exit(3);
        }
    }
}

/// The processes of one attempt; killed when dropped.
struct Attempt(Vec<Child>);

impl Drop for Attempt {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Attempt {
    fn new(folder: &Path, optimiser: &str, size: usize, dies: Option<(usize, u64)>) -> Self {
        let port = port::free();
        let start = |rank: usize| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", "member", "--nocapture"])
                .env(FOLDER, folder)
                .env(OPTIMISER, optimiser)
                .env("RANK", rank.to_string())
                .env("WORLD_SIZE", size.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", &port)
                .env("OMP_NUM_THREADS", "1")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            if let Some((_, step)) = dies.filter(|(who, _)| *who == rank) {
                command.env(DIES, step.to_string());
            }
            command.spawn().unwrap()
        };
        Self((0..size).map(start).collect())
    }

    /// How each ended, and what it said.
    fn ended(mut self) -> Vec<(Option<i32>, String)> {
        let children = std::mem::take(&mut self.0);
        let outputs = children.into_iter().map(Child::wait_with_output);
        let said = |output: Output| {
            let text = [output.stdout, output.stderr].concat();
            (
                output.status.code(),
                String::from_utf8_lossy(&text).into_owned(),
            )
        };
        outputs.map(|output| said(output.unwrap())).collect()
    }

    fn all_end_well(self) -> String {
        let ended = self.ended();
        for (code, text) in &ended {
            assert_eq!(*code, Some(0), "{text}");
        }
        ended.into_iter().next().unwrap().1
    }
}

/// The largest difference between the weights of two ranks, of two folders.
fn difference(one: (&Path, usize), other: (&Path, usize)) -> f64 {
    let read = |(folder, rank): (&Path, usize)| {
        weights::read(&folder.join(format!("weights-{rank}")), Device::Cpu).unwrap()
    };
    let (one, other) = (read(one), read(other));
    assert!(one.keys().eq(other.keys()) && !one.is_empty());
    one.iter()
        .map(|(name, tensor)| (tensor - &other[name]).abs().max().double_value(&[]))
        .fold(0.0, f64::max)
}

/// The line that begins with `what`.
fn line<'a>(text: &'a str, what: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.split_once(what));
    found.unwrap_or_else(|| panic!("no {what} in {text}")).1
}

#[test]
fn two_and_three_end_with_the_weights_of_one() {
    for (optimiser, most) in [("adam", 1e-5), ("nt-asgd", 1e-5)] {
        let dir = tempfile::tempdir().unwrap();
        let at = |size: usize| dir.path().join(size.to_string());
        let said: Vec<String> = (1..=3)
            .map(|size| Attempt::new(&at(size), optimiser, size, None).all_end_well())
            .collect();
        let averaged = line(&said[0], "AVERAGED: ");
        for size in 2..=3 {
            let far = difference((&at(1), 0), (&at(size), 0));
            eprintln!("{optimiser}, {size} of 40 steps: {far:e}");
            assert!(far < most, "{optimiser}, {size}: {far}");
            for rank in 1..size {
                assert_eq!(difference((&at(size), 0), (&at(size), rank)), 0.0, "{rank}");
            }
            assert_eq!(line(&said[size - 1], "AVERAGED: "), averaged);
        }
        let is_reached = optimiser == "nt-asgd" || averaged != "None";
        assert!(is_reached, "the test should reach the averaging");
    }
}

#[test]
fn one_is_killed_and_the_next_attempt_goes_on_from_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    Attempt::new(&whole, "adam", 2, None).all_end_well();
    for (rank, other, step) in [(1, 0, 9), (0, 1, 18)] {
        let ended = Attempt::new(&parts, "adam", 2, Some((rank, step))).ended();
        assert_eq!(ended[rank].0, None, "it was killed: {}", ended[rank].1);
        let (code, text) = &ended[other];
        assert_eq!(*code, Some(3), "{text}");
        let said = line(text, "SAID: ");
        assert!(said.contains(&format!("rank {rank} is gone")), "{said}");
        assert!(!parts.join("weights-0").exists());
    }
    let said = Attempt::new(&parts, "adam", 2, None).all_end_well();
    let resumed: u64 = line(&said, "RESUMED: ").parse().unwrap();
    assert!((18..40).contains(&resumed), "{resumed}");
    let far = difference((&whole, 0), (&parts, 0));
    eprintln!("resumed at {resumed}: {far:e}");
    assert!(far < 1e-5, "{far}");
}
