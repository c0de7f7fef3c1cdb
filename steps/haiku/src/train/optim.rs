//! The optimiser of a training, whichever it is.

use auria_steps_common::optim::{Adam, Sgd};
use auria_steps_common::weights::Tensors;

use crate::config::{Optimiser, Training};
use crate::model::Model;

const STATE: &str = "adam";

/// One of the two.
#[derive(Debug)]
pub(super) enum Optim {
    Adam(Adam),
    Sgd(Sgd),
}

impl Optim {
    /// The one that the settings name, for all weights of a network.
    pub(super) fn new(training: &Training, model: &Model) -> Self {
        let weights = model.tensors();
        match training.optimiser {
            Optimiser::Adam => {
                let mut adam = Adam::new(&weights, training.lr, (0.9, 0.99));
                adam.weight_decay = training.weight_decay;
                Self::Adam(adam)
            }
            Optimiser::NtAsgd => Self::Sgd(Sgd::new(&weights, training.lr, training.weight_decay)),
        }
    }

    /// Forgets the gradients of the last step.
    pub(super) fn zero_grad(&mut self) {
        match self {
            Self::Adam(adam) => adam.zero_grad(),
            Self::Sgd(sgd) => sgd.zero_grad(),
        }
    }

    /// One update, from gradients whose norm is `clip` at most.
    pub(super) fn step(&mut self, lr: f64, clip: f64) {
        match self {
            Self::Adam(adam) => {
                adam.lr = lr;
                adam.clip_grad_norm(clip);
                adam.step();
            }
            Self::Sgd(sgd) => {
                sgd.lr = lr;
                sgd.clip_grad_norm(clip);
                sgd.step();
            }
        }
    }

    /// What a checkpoint keeps of it.
    pub(super) fn state(&self) -> Tensors {
        match self {
            Self::Adam(adam) => adam.state(STATE),
            Self::Sgd(_) => Tensors::new(),
        }
    }

    /// Restores what [`Optim::state`] gave; false where it lacks something.
    #[must_use]
    pub(super) fn restore(&mut self, tensors: &Tensors) -> bool {
        match self {
            Self::Adam(adam) => adam.restore(STATE, tensors),
            Self::Sgd(_) => true,
        }
    }
}
