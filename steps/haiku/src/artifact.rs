//! A folder of weights: `model.safetensors`, `config.json`, `vocab.txt`, `runs.bin` and
//! `pairs.bin` (what a written poem must not copy, and which words are neighbours; see
//! `runs`), and the card.

use std::path::Path;

use auria_steps_common::weights::{self, Storage};
use auria_steps_common::{Error, digest, files};
use tch::Device;

use crate::config::Config;
use crate::model::Model;
use crate::vocab::Vocab;

/// The file of the weights.
pub const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const VOCAB: &str = "vocab.txt";

/// Weights with all that is needed to use them.
#[derive(Debug)]
pub struct Artifact {
    /// The network.
    pub model: Model,
    /// Its settings and those of its training.
    pub config: Config,
    /// Its tokens.
    pub vocab: Vocab,
}

impl Artifact {
    /// Reads a folder.
    pub fn read(folder: &Path, device: Device) -> Result<Self, Error> {
        let config: Config = files::read_json(&folder.join(CONFIG))?;
        let vocab = Vocab::read(&folder.join(VOCAB))?;
        if config.model.vocab != vocab.len() as i64 {
            return Err(Error::content(
                folder,
                format!(
                    "has {} tokens in {VOCAB}, and {} in {CONFIG}",
                    vocab.len(),
                    config.model.vocab
                ),
            ));
        }
        let mut model = Model::new(&config.model, 0, device);
        let path = folder.join(WEIGHTS);
        weights::load_store(&path, &weights::read(&path, device)?, model.store_mut())?;
        Ok(Self {
            model,
            config,
            vocab,
        })
    }

    /// Writes all but the card; the weights in half precision.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        weights::write(&folder.join(WEIGHTS), &self.model.tensors(), Storage::Half)?;
        files::write_json(&folder.join(CONFIG), &self.config)?;
        self.vocab.write(&folder.join(VOCAB))
    }

    /// The digest of the files that decide what the model says.
    pub fn digest(folder: &Path) -> Result<String, Error> {
        digest::of_files(folder, &[WEIGHTS, CONFIG, VOCAB].map(Into::into))
    }
}
