//! One step of the DAMSM: text and image encoder against each other's batch.

use auria_steps_common::device;

use super::{Losses, Training, captions, same_scene};
use crate::data;
use crate::model::damsm;
use crate::scene::Scene;

/// Captions of a reading.
const CAPTIONS: usize = 64;
/// Readings in each step, which cost little for they need no pictures.
const READINGS: u64 = 4;

/// Keeps this part's random numbers apart from the other's.
const STREAM: u64 = 1 << 40;

impl Training<'_> {
    pub(super) fn damsm_step(&mut self) -> Losses {
        let (request, step) = (self.request, self.progress.damsm);
        let plan = &request.plan;
        device::reseed(request.seed, STREAM + step);
        let indices = data::batch(
            request.seed,
            step,
            plan.damsm_batch,
            request.data.train.len(),
        );
        let pictures = self.gallery.pictures(&indices, request.device);
        let same = same_scene(&self.gallery, &indices, request.device);
        let wordings = captions(&self.gallery, &indices, step);
        let artist = &self.artist;
        let encoded =
            artist
                .vocabulary
                .encode(&wordings, artist.config.caption_length, request.device);
        let text = artist.text.forward(&encoded, true);
        let seen = artist.image.forward(&pictures, true);
        let loss = damsm::loss(&artist.config, &seen, &text, &same);
        let named = self.naming.loss(&seen.whole, &self.scenes(&indices))
            + self.naming.loss(&text.sentence, &self.scenes(&indices));
        self.matcher.zero_grad();
        (loss.total() + &named * plan.naming).backward();
        // The authors clip the text encoder's gradients at 0.25; here both parts share it.
        self.matcher.clip_grad_norm(2.0);
        self.matcher.step();
        let read = (0..READINGS).map(|i| self.read(step * READINGS + i)).last();
        vec![
            ("words", loss.words.double_value(&[])),
            ("sentences", loss.sentences.double_value(&[])),
            ("naming", named.double_value(&[])),
            ("reading", read.unwrap_or(0.0)),
        ]
    }

    fn scenes(&self, indices: &[usize]) -> Vec<&Scene> {
        indices.iter().map(|&i| &self.gallery.scenes()[i]).collect()
    }

    /// A step of the text encoder alone: captions, and what their scenes show.
    fn read(&mut self, reading: u64) -> f64 {
        let (request, plan) = (self.request, &self.request.plan);
        if plan.naming <= 0.0 {
            return 0.0;
        }
        let count = request.data.train.len();
        let indices = data::batch(request.seed ^ STREAM, reading, CAPTIONS, count);
        let wordings = captions(&self.gallery, &indices, reading);
        let artist = &self.artist;
        let length = artist.config.caption_length;
        let encoded = artist.vocabulary.encode(&wordings, length, request.device);
        let sentence = artist.text.forward(&encoded, true).sentence;
        let loss = self.naming.loss(&sentence, &self.scenes(&indices));
        self.reader.zero_grad();
        loss.backward();
        self.reader.step();
        loss.double_value(&[])
    }
}
