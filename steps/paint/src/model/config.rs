//! The sizes of every part of the network, as `config.json` holds them.

use serde::{Deserialize, Serialize};

/// How the generator normalises its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Over the batch, as in the paper.
    Batch,
    /// Over groups of channels of each picture, for batches of a few pictures.
    Group,
}

/// All widths and depths of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Words that the text encoder knows, with padding as word 0.
    pub vocabulary: i64,
    /// Longest caption in words.
    pub caption_length: i64,
    /// Width of a word's embedding (300 in the paper's code).
    pub embedding: i64,
    /// D: width of the space that words and image regions share. Even.
    pub shared: i64,
    /// Dropout on embeddings while the text encoder is trained.
    pub dropout: f64,
    /// Pixels on a side of the picture that the image encoder sees.
    pub encoder_side: i64,
    /// Widths of the image encoder's halvings up to the local features.
    pub local_widths: Vec<i64>,
    /// Widths of its further halvings up to the global vector.
    pub global_widths: Vec<i64>,
    /// Width of the noise z.
    pub noise: i64,
    /// Width of the conditioning vector c.
    pub condition: i64,
    /// Ng: width of the generator's hidden features.
    pub generator: i64,
    /// Nd: width of the discriminators' first features.
    pub discriminator: i64,
    /// Residual blocks of each attention stage.
    pub residuals: i64,
    /// Pictures that the generator makes: 64 px, 128 px, and so on.
    pub stages: i64,
    /// Width of the code from which up-samplings take planes over the picture; 0, as in
    /// the paper, is none.
    #[serde(default)]
    pub placement: i64,
    /// How the generator normalises its features.
    pub normalisation: Normalisation,
    /// The DAMSM's sharpness of word attention.
    pub gamma1: f64,
    /// The DAMSM's sharpness of the match over words.
    pub gamma2: f64,
    /// The DAMSM's sharpness of the posterior in a batch.
    pub gamma3: f64,
}

impl Config {
    /// The sizes of the paper for COCO: 64, 128 and 256 px, with local features of
    /// 768 × 17 × 17 and a global vector of 2048 as Inception-v3 gives them.
    pub fn published(vocabulary: i64) -> Self {
        Self {
            vocabulary,
            caption_length: 15,
            embedding: 300,
            shared: 256,
            dropout: 0.5,
            encoder_side: 272,
            local_widths: vec![64, 192, 384, 768],
            global_widths: vec![1280, 2048],
            noise: 100,
            condition: 100,
            generator: 48,
            discriminator: 96,
            residuals: 3,
            stages: 3,
            placement: 0,
            normalisation: Normalisation::Batch,
            gamma1: 4.0,
            gamma2: 5.0,
            gamma3: 10.0,
        }
    }

    /// Sizes that two CPU cores train within an hour: 64 and 128 px.
    pub fn small(vocabulary: i64) -> Self {
        Self {
            vocabulary,
            caption_length: 32,
            embedding: 48,
            shared: 96,
            dropout: 0.2,
            encoder_side: 128,
            local_widths: vec![16, 32, 64, 96],
            global_widths: vec![128],
            noise: 32,
            condition: 48,
            generator: 16,
            discriminator: 16,
            residuals: 1,
            stages: 2,
            placement: 128,
            normalisation: Normalisation::Group,
            gamma1: 4.0,
            gamma2: 5.0,
            gamma3: 10.0,
        }
    }

    /// Sizes that learn something within seconds, to try all parts: 64 and 128 px.
    pub fn tiny(vocabulary: i64) -> Self {
        Self {
            embedding: 24,
            shared: 48,
            local_widths: vec![8, 16, 32, 48],
            global_widths: vec![64],
            noise: 20,
            condition: 24,
            generator: 6,
            discriminator: 8,
            placement: 48,
            ..Self::small(vocabulary)
        }
    }

    /// Pixels on a side of the picture of a stage, from 0.
    pub fn side(&self, stage: i64) -> i64 {
        64 << stage
    }

    /// Pixels on a side of the last picture.
    pub fn last_side(&self) -> i64 {
        self.side(self.stages - 1)
    }
}
