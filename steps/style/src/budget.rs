//! How much a training may cost: the sizes that go with the names `smoke`,
//! `small` and `full`.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a training may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Seconds: shows that every part works and that training learns.
    Smoke,
    /// Minutes on two cores.
    Small,
    /// Up to half an hour on two cores: the weights that ship.
    Full,
}

/// The sizes behind a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Pictures painted to train on.
    pub train: u64,
    /// Pictures painted and held out.
    pub held_out: u64,
    /// Side of a painted picture, in pixels.
    pub side: u32,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Crops in a step.
    pub batch: i64,
    /// Side of a crop.
    pub crop: i64,
    /// Pairs of held-out pictures that transfers are measured on.
    pub pairs: usize,
}

impl Budget {
    /// Its sizes.
    #[must_use]
    pub fn sizes(self) -> Sizes {
        match self {
            Self::Smoke => Sizes {
                train: 24,
                held_out: 8,
                side: 64,
                steps: 80,
                batch: 4,
                crop: 48,
                pairs: 3,
            },
            Self::Small => Sizes {
                train: 240,
                held_out: 32,
                side: 192,
                steps: 1_500,
                batch: 4,
                crop: 96,
                pairs: 16,
            },
            Self::Full => Sizes {
                train: 600,
                held_out: 60,
                side: 256,
                steps: 6_000,
                batch: 4,
                crop: 96,
                pairs: 30,
            },
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Small => "small",
            Self::Full => "full",
        }
    }
}
