//! One step of the DAMSM: text and image encoder against each other's batch.

use auria_steps_common::device;

use super::{Losses, Training, captions, same_scene};
use crate::data;
use crate::model::damsm;

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
        self.matcher.zero_grad();
        loss.total().backward();
        // The authors clip the text encoder's gradients at 0.25; here both parts share it.
        self.matcher.clip_grad_norm(2.0);
        self.matcher.step();
        vec![
            ("words", loss.words.double_value(&[])),
            ("sentences", loss.sentences.double_value(&[])),
        ]
    }
}
