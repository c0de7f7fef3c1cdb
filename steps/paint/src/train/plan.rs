//! How long and how fast each budget trains.

use serde::{Deserialize, Serialize};

use crate::data::Budget;

/// Steps, batch sizes, rates and weights of the losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Steps of the DAMSM.
    pub damsm_steps: u64,
    /// Pairs in a step of the DAMSM.
    pub damsm_batch: usize,
    /// Learning rate of the DAMSM (2e-3 in the authors' code).
    pub damsm_rate: f64,
    /// Weight of naming what scenes show, beside the DAMSM loss (absent from the paper).
    pub naming: f64,
    /// The share of a time limit that the DAMSM may take.
    pub damsm_share: f64,
    /// Steps of the generator.
    pub gan_steps: u64,
    /// Pictures in a step of the generator.
    pub gan_batch: usize,
    /// Learning rate of the generator at first (2e-4 in the paper)...
    pub generator_rate: f64,
    /// ...and at the end; it falls on a cosine.
    pub last_generator_rate: f64,
    /// Learning rate of the discriminators.
    pub discriminator_rate: f64,
    /// The share of the generator's training in which its first stage is alone.
    pub first_stage_share: f64,
    /// The share after which the DAMSM loss counts.
    pub matching_from: f64,
    /// The share after which discriminators are trained and count.
    pub adversarial_from: f64,
    /// Weight of the conditioning's divergence from N(0, 1) (1 in the paper).
    pub divergence: f64,
    /// λ: weight of the DAMSM loss.
    pub lambda: f64,
    /// Weight of the adversarial loss (1 in the paper).
    pub adversarial: f64,
    /// Weight of the reconstruction loss (absent from the paper).
    pub reconstruction: f64,
    /// Decay of the running averages.
    pub average: f64,
    /// Batches over which the averaged generator's normalisations are measured anew.
    pub settle_steps: u64,
    /// Steps between two lines of progress.
    pub report: u64,
}

impl Plan {
    /// The plan of the paper for CUB, without reconstruction.
    pub fn published() -> Self {
        Self {
            damsm_steps: 100_000,
            damsm_batch: 48,
            damsm_rate: 2e-3,
            naming: 0.0,
            damsm_share: 0.3,
            gan_steps: 265_000,
            gan_batch: 20,
            generator_rate: 2e-4,
            last_generator_rate: 2e-4,
            discriminator_rate: 2e-4,
            first_stage_share: 0.0,
            matching_from: 0.0,
            adversarial_from: 0.0,
            divergence: 1.0,
            lambda: 5.0,
            adversarial: 1.0,
            reconstruction: 0.0,
            average: 0.999,
            settle_steps: 40,
            report: 500,
        }
    }

    /// The plan of a budget.
    pub fn of(budget: Budget) -> Self {
        let full = Self {
            damsm_steps: 450,
            damsm_batch: 32,
            damsm_rate: 2e-3,
            naming: 0.5,
            damsm_share: 0.25,
            gan_steps: 4000,
            gan_batch: 8,
            generator_rate: 2e-3,
            last_generator_rate: 2e-4,
            discriminator_rate: 1e-4,
            first_stage_share: 0.6,
            matching_from: 0.6,
            adversarial_from: 0.75,
            divergence: 0.02,
            lambda: 0.5,
            adversarial: 0.15,
            reconstruction: 30.0,
            average: 0.998,
            settle_steps: 40,
            report: 50,
        };
        match budget {
            Budget::Full => full,
            Budget::Small => Self {
                damsm_steps: 250,
                gan_steps: 700,
                average: 0.99,
                report: 25,
                ..full
            },
            Budget::Smoke => Self {
                damsm_steps: 40,
                damsm_batch: 16,
                damsm_rate: 4e-3,
                gan_steps: 45,
                first_stage_share: 0.0,
                adversarial_from: 0.5,
                generator_rate: 5e-3,
                last_generator_rate: 1e-3,
                average: 0.7,
                settle_steps: 12,
                report: 5,
                ..full
            },
        }
    }
}
