//! A training that was stopped and resumed ends with the weights of one that was not.

// A test that cannot go on should stop.
#![allow(clippy::unwrap_used)]

mod support;

use auria_haiku::config::Optimiser;
use auria_haiku::train::{Limits, Trainer};
use auria_steps_common::metrics::Metrics;
use auria_steps_common::weights::Tensors;
use std::path::Path;
use std::sync::Mutex;
use support::{Set, checkpoints, set};
use tch::Device;

/// libtorch has one generator for a process: two trainings at once would share it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Trains with stops at the given steps, each attempt with a fresh trainer.
fn train_with_stops(set: &Set, folder: &Path, stops: &[u64]) -> (Tensors, Option<u64>) {
    let mut metrics = Metrics::open(&folder.join("metrics.jsonl")).unwrap();
    let dir = folder.join("checkpoints");
    let mut resumed = None;
    for stop_at in stops.iter().map(|&s| Some(s)).chain([None]) {
        let mut checkpoints = checkpoints(&dir, 3600);
        let seed = (3, Device::Cpu);
        let mut trainer = Trainer::new(
            &set.config,
            &set.poems,
            &set.verse,
            &set.valid,
            seed,
            "digest",
        );
        let at = trainer
            .resume(&checkpoints, (&set.poems, &set.verse), &dir)
            .unwrap();
        assert_eq!(at, resumed);
        let limits = Limits {
            time: None,
            stop_at,
        };
        let summary = trainer.run(&mut checkpoints, &mut metrics, limits).unwrap();
        match stop_at {
            Some(stop) => assert!(summary.is_none() && at < Some(stop)),
            None => {
                let from = summary.unwrap().averaged_from;
                return (trainer.into_model().tensors(), from);
            }
        }
        resumed = stop_at;
    }
    unreachable!("the last attempt has no stop")
}

#[test]
fn resumed_equals_uninterrupted() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    for optimiser in [Optimiser::Adam, Optimiser::NtAsgd] {
        let dir = tempfile::tempdir().unwrap();
        let set = set(&dir.path().join("data"), optimiser);
        let (whole, averaged) = train_with_stops(&set, &dir.path().join("whole"), &[]);
        // In the first stage, at its edge, in the second, one step before the end.
        let (parts, same) = train_with_stops(&set, &dir.path().join("parts"), &[5, 12, 29, 39]);
        assert_eq!(averaged, same);
        for (name, tensor) in &whole {
            assert_eq!(tensor, &parts[name], "{name} differs with {optimiser:?}");
        }
        if optimiser == Optimiser::NtAsgd {
            assert!(averaged.is_some(), "the test should reach the averaging");
        }
    }
}

#[test]
fn a_checkpoint_of_another_seed_is_refused() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let set = set(&dir.path().join("data"), Optimiser::Adam);
    let folder = dir.path().join("checkpoints");
    let mut metrics = Metrics::open(&dir.path().join("metrics.jsonl")).unwrap();
    let new = |seed| {
        let seed = (seed, Device::Cpu);
        Trainer::new(
            &set.config,
            &set.poems,
            &set.verse,
            &set.valid,
            seed,
            "digest",
        )
    };
    let limits = Limits {
        time: None,
        stop_at: Some(2),
    };
    new(3)
        .run(&mut checkpoints(&folder, 3600), &mut metrics, limits)
        .unwrap();
    let again = checkpoints(&folder, 3600);
    assert!(
        new(4)
            .resume(&again, (&set.poems, &set.verse), &folder)
            .is_err()
    );
    assert_eq!(
        new(3)
            .resume(&again, (&set.poems, &set.verse), &folder)
            .unwrap(),
        Some(2)
    );
}
