//! Tests of training that need its inside: interruption, averages, schedules.

use std::sync::{Mutex, MutexGuard, PoisonError};

use auria_steps_common::checkpoint::{CheckpointArgs, Checkpoints};

use super::*;
use crate::data::{Summary, draw};

/// libtorch has one generator of random numbers for the whole process: tests that
/// train take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A data set in memory.
fn data() -> Data {
    let (mut train, mut held_out) = draw(2, Budget::Smoke);
    train.truncate(12);
    held_out.truncate(8);
    let summary = Summary {
        seed: 2,
        budget: Budget::Smoke,
        train_scenes: train.len(),
        held_out_scenes: held_out.len(),
        captions: 0,
        painter: 0,
        digest: "test".into(),
    };
    Data {
        train,
        held_out,
        summary,
    }
}

fn plan() -> Plan {
    Plan {
        damsm_steps: 3,
        damsm_batch: 4,
        gan_steps: 4,
        gan_batch: 3,
        first_stage_share: 0.3,
        adversarial_from: 0.5,
        ..Plan::of(Budget::Smoke)
    }
}

fn request(data: &Data) -> Request<'_> {
    Request {
        data,
        config: None,
        plan: plan(),
        budget: Budget::Smoke,
        seed: 4,
        minutes: None,
        device: Device::Cpu,
    }
}

fn state(training: &Training<'_>) -> Tensors {
    let copy = training.checkpoint("f").tensors;
    copy.into_iter()
        .map(|(name, value)| (name, value.copy()))
        .collect()
}

#[test]
fn a_resumed_training_equals_an_uninterrupted_one() {
    let _turn = turn();
    tch::set_num_threads(1);
    let data = data();
    let request = request(&data);
    let mut whole = Training::new(&request);
    let mut steps = 0;
    while whole.step().is_some() {
        steps += 1;
    }
    assert_eq!(steps, 7);
    // Interrupted within the first part, at the border, and within the second.
    for cut in [2, 3, 5] {
        let dir = tempfile::tempdir().unwrap();
        let args = CheckpointArgs {
            checkpoints: Some(dir.path().to_path_buf()),
            checkpoint_every: 0,
        };
        let mut first = Training::new(&request);
        for _ in 0..cut {
            first.step().unwrap();
        }
        let fingerprint = first.fingerprint();
        Checkpoints::open(&args)
            .unwrap()
            .publish(&first.checkpoint(&fingerprint))
            .unwrap();
        drop(first);
        let mut second = Training::new(&request);
        let found = Checkpoints::open(&args)
            .unwrap()
            .resume(&fingerprint, Device::Cpu)
            .unwrap()
            .unwrap();
        second.restore(&found).unwrap();
        while second.step().is_some() {}
        let (one, two) = (state(&whole), state(&second));
        assert_eq!(one.len(), two.len());
        for (name, value) in &one {
            assert_eq!(
                value, &two[name],
                "{name} differs after an interruption at step {cut}"
            );
        }
    }
}

#[test]
fn trainings_of_other_data_plans_or_seeds_are_told_apart() {
    let _turn = turn();
    let data = data();
    let base = Training::new(&request(&data)).fingerprint();
    assert_eq!(base, Training::new(&request(&data)).fingerprint());
    let other = Request {
        seed: 5,
        ..request(&data)
    };
    assert_ne!(base, Training::new(&other).fingerprint());
    let other = Request {
        plan: Plan {
            lambda: 9.0,
            ..plan()
        },
        ..request(&data)
    };
    assert_ne!(base, Training::new(&other).fingerprint());
}

#[test]
fn a_time_limit_ends_both_parts() {
    let _turn = turn();
    let data = data();
    let request = Request {
        minutes: Some(1.0),
        plan: Plan {
            damsm_steps: 1000,
            gan_steps: 1000,
            ..plan()
        },
        ..request(&data)
    };
    let mut training = Training::new(&request);
    assert_eq!(training.step().unwrap()[0].0, "words");
    training.progress.seconds = 20.0;
    assert_eq!(
        training.step().unwrap()[0].0,
        "judge",
        "a quarter of the time is the DAMSM's"
    );
    training.progress.seconds = 61.0;
    assert!(training.step().is_none());
}
