//! What the tests of trainings share.

use auria_haiku::config::{Budget, Config, Optimiser};
use auria_haiku::data::Data;
use auria_haiku::spelling::Spelling;
use auria_haiku::vocab::Encoded;
use auria_haiku::{prepare, train};
use auria_steps_common::checkpoint::{CheckpointArgs, Checkpoints};
use std::path::{Path, PathBuf};

/// What is trained on.
pub(crate) struct Set {
    pub(crate) config: Config,
    pub(crate) poems: Vec<Encoded>,
    pub(crate) verse: Vec<Encoded>,
    pub(crate) valid: Vec<Encoded>,
}

/// The project's own poems and a network that is trained in a second.
pub(crate) fn set(folder: &Path, optimiser: Optimiser) -> Set {
    tch::set_num_threads(1);
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    // The poems serve as verse too, so that both stages have something to read.
    let verse = corpus.join("haiku.txt");
    prepare::prepare(&[corpus], &[verse], folder).unwrap();
    let data = Data::read(folder).unwrap();
    let mut config = Budget::Smoke.config();
    config.model.embedding = 12;
    config.model.hidden = 16;
    config.training.steps = 40;
    config.training.pretrain_steps = 12;
    config.training.validate_every = 4;
    // Averaging begins early, so that the mean is part of what is resumed.
    config.training.nonmono = 0;
    config.training.optimiser = optimiser;
    if optimiser == Optimiser::NtAsgd {
        config.training.lr = 30.0;
        config.training.clip = 0.25;
    }
    let (vocab, config) = train::vocabulary(&data, &config);
    let (poems, verse) = train::encode_training(&data, &vocab);
    let valid = train::encode(&data.valid, &vocab, &Spelling::learn(&data, &vocab));
    Set {
        config,
        poems,
        verse,
        valid,
    }
}

/// Checkpoints in a folder.
pub(crate) fn checkpoints(folder: &Path, checkpoint_every: u64) -> Checkpoints {
    let checkpoints = Some(folder.to_path_buf());
    Checkpoints::open(&CheckpointArgs {
        checkpoints,
        checkpoint_every,
    })
    .unwrap()
}
