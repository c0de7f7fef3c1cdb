//! What a step reads and how fast it learns, by its number alone.

use crate::config::{Optimiser, Training};
use crate::stream::Stage;

/// The stage that a step belongs to.
pub(super) fn stage(training: &Training, step: u64) -> Stage {
    if step < training.pretrain_steps {
        Stage::Pretrain
    } else {
        Stage::Tune
    }
}

/// The learning rate of a step. Adam's rises for a moment and falls in a cosine to a
/// twentieth, anew for tuning; SGD's stays.
pub(super) fn rate(training: &Training, step: u64) -> f64 {
    if training.optimiser == Optimiser::NtAsgd {
        return training.lr;
    }
    let (top, done, all) = match stage(training, step) {
        Stage::Pretrain => (training.lr, step, training.pretrain_steps),
        Stage::Tune => {
            let before = training.pretrain_steps;
            (training.tune_lr, step - before, training.steps - before)
        }
    };
    let warm = (all / 20).clamp(1, 100);
    let rise = (done + 1).min(warm) as f64 / warm as f64;
    let fall = (std::f64::consts::PI * done as f64 / all.max(1) as f64).cos() / 2.0 + 0.5;
    top * rise * (0.05 + 0.95 * fall)
}
