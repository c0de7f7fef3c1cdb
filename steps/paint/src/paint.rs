//! From a poem to a painting: read, encode, generate, brush, write.
//!
//! One poem, one seed and one set of weights give the same bytes on one machine.

use std::path::Path;

use anyhow::Context;
use auria_steps_common::{device, digest, files, warm};
use image::{ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::artist::{Artist, WEIGHTS};
use crate::brush;
use crate::poem::{self, Poem, Reading};
use crate::scene::noise_vector;

/// What `painting.json` says of a painting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Painting {
    /// The poem's lines.
    pub poem: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The picture's file, beside this one.
    pub picture: String,
    /// Pixels on a side.
    pub side: u32,
    /// Pixels on a side of the network's own picture, which the brush laid down.
    pub generated_side: i64,
    /// What was made of the poem.
    #[serde(flatten)]
    pub reading: Reading,
    /// Digest of the weights' file.
    pub weights: String,
}

/// Paints a poem and writes `painting.png`, `painting.json` and `generated.png` (the
/// network's own small picture) into `out`.
pub fn paint(
    weights: &Path,
    poem: &Poem,
    seed: u64,
    side: u32,
    out: &Path,
    on: tch::Device,
) -> anyhow::Result<Painting> {
    device::deterministic();
    let artist = warm::kept(weights, || Artist::read(weights, on))?;
    let reading = poem::read(poem, &artist.vocabulary, seed);
    let small = generate(&artist, &reading.caption, seed);
    let large = brush::paint(&without_frame(&small), side, seed);
    write(&out.join("generated.png"), &small)?;
    write(&out.join("painting.png"), &large)?;
    let painting = Painting {
        poem: poem.lines.clone(),
        seed,
        picture: "painting.png".into(),
        side,
        generated_side: artist.config.last_side(),
        reading,
        weights: digest::file(&weights.join(WEIGHTS))?,
    };
    files::write_json(&out.join("painting.json"), &painting)?;
    Ok(painting)
}

/// The network's own picture of a caption.
pub fn generate(artist: &Artist, caption: &str, seed: u64) -> RgbImage {
    let on = artist.store.device();
    let config = &artist.config;
    let captions = artist
        .vocabulary
        .encode(&[caption], config.caption_length, on);
    let z = Tensor::from_slice(&noise_vector(seed, config.noise as usize))
        .unsqueeze(0)
        .to_device(on);
    let stages = config.stages as usize;
    let picture = tch::no_grad(|| {
        let text = artist.text.forward(&captions, false);
        artist
            .generator
            .forward(&text, &z, None, stages, false)
            .pictures
            .remove(stages - 1)
    });
    let scaled = ((picture.get(0) + 1.0) * 127.5)
        .nan_to_num(0.0, 255.0, 0.0)
        .round()
        .clamp(0.0, 255.0);
    let bytes = scaled
        .to_kind(Kind::Uint8)
        .permute([1, 2, 0])
        .contiguous()
        .to_device(tch::Device::Cpu);
    let side = config.last_side() as u32;
    let mut image = RgbImage::new(side, side);
    let count = image.len();
    bytes.copy_data(&mut image, count);
    image
}

/// The picture without its outermost pixels, where the network sees the zeros beyond
/// the border and a dark frame shows.
fn without_frame(picture: &RgbImage) -> RgbImage {
    let frame = picture.width() / 48;
    let inner = picture.width() - 2 * frame;
    image::imageops::crop_imm(picture, frame, frame, inner, inner).to_image()
}

fn write(path: &Path, image: &RgbImage) -> anyhow::Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .with_context(|| format!("cannot encode {}", path.display()))?;
    files::write_atomic(path, &bytes.into_inner())?;
    Ok(())
}
