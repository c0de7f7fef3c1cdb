//! The networks of a painter together: made, written to a folder, read from it.
//!
//! What ships is text encoder, image encoder and generator; discriminators live in
//! training alone.

use std::path::Path;

use auria_steps_common::weights::{self, Storage, Tensors};
use auria_steps_common::{Error, files};
use tch::Device;
use tch::nn::VarStore;

use crate::model::Config;
use crate::model::generator::Generator;
use crate::model::image_encoder::ImageEncoder;
use crate::model::text_encoder::TextEncoder;
use crate::vocabulary::Vocabulary;

/// The file of the weights.
pub const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// Text encoder, image encoder and generator, with their variables in one store.
#[derive(Debug)]
pub struct Artist {
    /// All variables; names begin with `text`, `image` or `generator`.
    pub store: VarStore,
    /// The sizes.
    pub config: Config,
    /// The words that it knows.
    pub vocabulary: Vocabulary,
    /// Captions to word and sentence vectors.
    pub text: TextEncoder,
    /// Pictures to region and whole vectors.
    pub image: ImageEncoder,
    /// Vectors and noise to pictures.
    pub generator: Generator,
}

impl Artist {
    /// An untrained artist; seed libtorch first.
    pub fn new(config: Config, vocabulary: Vocabulary, device: Device) -> Self {
        let store = VarStore::new(device);
        let root = store.root();
        let text = TextEncoder::new(&(&root / "text"), &config);
        let image = ImageEncoder::new(&(&root / "image"), &config);
        let generator = Generator::new(&(&root / "generator"), &config);
        Self {
            store,
            config,
            vocabulary,
            text,
            image,
            generator,
        }
    }

    /// Reads an artist from a folder.
    pub fn read(dir: &Path, device: Device) -> Result<Self, Error> {
        let config: Config = files::read_json(&dir.join(CONFIG))?;
        let vocabulary = Vocabulary::read(dir)?;
        if vocabulary.size() != config.vocabulary {
            return Err(Error::content(
                dir,
                format!(
                    "config.json names {} words, and vocab.json holds {}",
                    config.vocabulary,
                    vocabulary.size()
                ),
            ));
        }
        let mut artist = Self::new(config, vocabulary, device);
        let path = dir.join(WEIGHTS);
        weights::load_store(&path, &weights::read(&path, device)?, &mut artist.store)?;
        Ok(artist)
    }

    /// Writes `model.safetensors` (half precision), `config.json` and `vocab.json`.
    /// `tensors`: the variables by name, such as averages of them.
    pub fn write(&self, tensors: &Tensors, dir: &Path) -> Result<(), Error> {
        weights::write(&dir.join(WEIGHTS), tensors, Storage::Half)?;
        files::write_json(&dir.join(CONFIG), &self.config)?;
        self.vocabulary.write(dir)
    }

    /// The variables whose names begin with `part`.
    pub fn part(&self, part: &str) -> Tensors {
        let all = weights::of_store(&self.store);
        all.into_iter()
            .filter(|(name, _)| name.starts_with(part))
            .collect()
    }
}
