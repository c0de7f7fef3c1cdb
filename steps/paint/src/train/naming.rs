//! Reading what a scene shows out of sentence and picture vectors: a linear map that
//! lives in training alone.
//!
//! The DAMSM loss asks only that a batch's pairs be told apart, which leaves small things
//! unsaid. As the project's scenes come with their attributes, both encoders are asked to
//! name them as well. Not in the paper.

use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};

use crate::lexicon;
use crate::scene::Scene;

/// The map from the shared space to concepts.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) store: VarStore,
    map: nn::Linear,
}

impl Naming {
    pub(super) fn new(shared: i64, device: Device) -> Self {
        let store = VarStore::new(device);
        let concepts = lexicon::ENTRIES.len() as i64;
        let map = nn::linear(store.root(), shared, concepts, nn::LinearConfig::default());
        Self { store, map }
    }

    /// Binary cross-entropy of vectors `[batch, D]` against what the scenes show, summed
    /// over concepts, averaged over the batch.
    pub(super) fn loss(&self, vectors: &Tensor, scenes: &[&Scene]) -> Tensor {
        let target = shown(scenes).to_device(vectors.device());
        let logits = self.map.forward(vectors);
        let terms = logits.softplus() - &logits * target;
        terms
            .sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
            .mean(Kind::Float)
    }
}

/// `[batch, concepts]`, 1 where a scene shows the concept.
fn shown(scenes: &[&Scene]) -> Tensor {
    let mut flat = Vec::with_capacity(scenes.len() * lexicon::ENTRIES.len());
    for scene in scenes {
        let concepts = lexicon::concepts(&scene.attributes);
        let shows = |entry: &lexicon::Entry| concepts.iter().any(|(c, _)| *c == entry.concept);
        flat.extend(
            lexicon::ENTRIES
                .iter()
                .map(|entry| f32::from(u8::from(shows(entry)))),
        );
    }
    Tensor::from_slice(&flat).view([scenes.len() as i64, -1])
}
