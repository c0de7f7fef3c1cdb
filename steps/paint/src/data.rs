//! The data set: scenes with captions, some held out, and their pictures.
//!
//! Files hold descriptions only; pictures are painted from them when they are asked
//! for, and kept in memory.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use auria_steps_common::{digest, files, picture};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::scene::{Attributes, Scene};
use crate::{caption, render};

const TRAIN: &str = "train.jsonl";
const HELD_OUT: &str = "held_out.jsonl";
const SUMMARY: &str = "data.json";
/// Raised whenever scenes are painted differently: it is part of the data's digest.
const PAINTER: u32 = 1;

/// How much is made and trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Seconds: shows that all parts work and learn.
    Smoke,
    /// Minutes.
    Small,
    /// Up to an hour on two CPU cores.
    Full,
}

impl Budget {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Small => "small",
            Self::Full => "full",
        }
    }

    /// Scenes to train on and to hold out.
    fn scenes(self) -> (usize, usize) {
        match self {
            Self::Smoke => (128, 48),
            Self::Small => (2000, 200),
            Self::Full => (3000, 300),
        }
    }
}

/// What `data.json` says of the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Seed that the scenes were drawn with.
    pub seed: u64,
    /// Budget that set their number.
    pub budget: Budget,
    /// Scenes to train on.
    pub train_scenes: usize,
    /// Scenes held out: no combination of season, time, weather and land of theirs is
    /// in training.
    pub held_out_scenes: usize,
    /// Captions of all scenes.
    pub captions: usize,
    /// Version of the painter of the scenes.
    pub painter: u32,
    /// Digest of scenes, captions and painter.
    pub digest: String,
}

/// A data set in memory.
#[derive(Clone, Debug)]
pub struct Data {
    /// Scenes to train on.
    pub train: Vec<Scene>,
    /// Scenes to measure on.
    pub held_out: Vec<Scene>,
    /// What they are.
    pub summary: Summary,
}

/// Draws the scenes of `seed` and `budget`.
pub fn draw(seed: u64, budget: Budget) -> (Vec<Scene>, Vec<Scene>) {
    let (want_train, want_held_out) = budget.scenes();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    while train.len() < want_train || held_out.len() < want_held_out {
        let attributes = Attributes::draw(&mut rng);
        let (into, want) = if attributes.held_out() {
            (&mut held_out, want_held_out)
        } else {
            (&mut train, want_train)
        };
        let (layout, captions) = (rng.random(), caption::write(&attributes, &mut rng));
        if into.len() < want {
            into.push(Scene {
                attributes,
                layout,
                captions,
            });
        }
    }
    (train, held_out)
}

/// Draws a data set and writes it into a folder, with a sheet of its first pictures.
pub fn prepare(seed: u64, budget: Budget, out: &Path) -> anyhow::Result<Summary> {
    let (train, held_out) = draw(seed, budget);
    for (name, scenes) in [(TRAIN, &train), (HELD_OUT, &held_out)] {
        let mut lines = String::new();
        for scene in scenes {
            lines.push_str(&serde_json::to_string(scene).context("cannot write a scene as JSON")?);
            lines.push('\n');
        }
        files::write_atomic(&out.join(name), lines.as_bytes())?;
    }
    let summary = Summary {
        seed,
        budget,
        train_scenes: train.len(),
        held_out_scenes: held_out.len(),
        captions: train
            .iter()
            .chain(&held_out)
            .map(|s| s.captions.len())
            .sum(),
        painter: PAINTER,
        digest: digest_of(out)?,
    };
    let tiles: Vec<Vec<u8>> = train
        .iter()
        .take(48)
        .map(|scene| render::paint(scene, 128))
        .collect();
    let tiles: Vec<Tensor> = tiles.iter().map(|bytes| to_tensor(bytes, 128)).collect();
    sheet(&tiles, 8, &out.join("contact.png"))?;
    files::write_json(&out.join(SUMMARY), &summary)?;
    Ok(summary)
}

fn digest_of(dir: &Path) -> anyhow::Result<String> {
    let scenes = digest::of_files(dir, &[PathBuf::from(TRAIN), PathBuf::from(HELD_OUT)])?;
    Ok(digest::bytes(
        format!("{scenes} painter {PAINTER}").as_bytes(),
    ))
}

impl Data {
    /// Reads a data set and checks that it is what its summary says.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let summary: Summary = files::read_json(&dir.join(SUMMARY))?;
        if summary.painter != PAINTER {
            bail!(
                "{} was made for painter {}, and this program has painter {PAINTER}; run `auria-paint prepare` again",
                dir.display(),
                summary.painter
            );
        }
        let found = digest_of(dir)?;
        if found != summary.digest {
            bail!(
                "{} was changed since it was prepared; run `auria-paint prepare` again",
                dir.display()
            );
        }
        let read = |name: &str| -> anyhow::Result<Vec<Scene>> {
            let path = dir.join(name);
            let text = files::read_text(&path)?;
            text.lines()
                .zip(1..)
                .map(|(line, number)| {
                    serde_json::from_str(line).with_context(|| {
                        format!(
                            "cannot read the scene in line {number} of {}",
                            path.display()
                        )
                    })
                })
                .collect()
        };
        let data = Self {
            train: read(TRAIN)?,
            held_out: read(HELD_OUT)?,
            summary,
        };
        if data.train.is_empty() || data.held_out.is_empty() {
            bail!(
                "{} holds no scenes to train on or to measure on; run `auria-paint prepare` again",
                dir.display()
            );
        }
        Ok(data)
    }
}

/// Scenes with their pictures, painted at first use.
#[derive(Debug)]
pub struct Gallery<'a> {
    scenes: &'a [Scene],
    side: i64,
    painted: Vec<Option<Vec<u8>>>,
}

impl<'a> Gallery<'a> {
    /// A gallery of pictures of `side` pixels (a divisor of 256).
    pub fn new(scenes: &'a [Scene], side: i64) -> Self {
        Self {
            scenes,
            side,
            painted: vec![None; scenes.len()],
        }
    }

    /// The scenes.
    pub fn scenes(&self) -> &'a [Scene] {
        self.scenes
    }

    /// Pictures of some scenes: `[batch, 3, side, side]` in -1..1.
    pub fn pictures(&mut self, indices: &[usize], device: Device) -> Tensor {
        let side = self.side as usize;
        let mut flat = Vec::with_capacity(indices.len() * side * side * 3);
        for &index in indices {
            let bytes =
                self.painted[index].get_or_insert_with(|| render::paint(&self.scenes[index], side));
            flat.extend_from_slice(bytes);
        }
        let shape = [indices.len() as i64, self.side, self.side, 3];
        let bytes = Tensor::from_slice(&flat).view(shape).permute([0, 3, 1, 2]);
        (bytes.to_device(device).to_kind(Kind::Float) / 127.5 - 1.0).contiguous()
    }
}

/// RGB bytes to `[3, side, side]` in 0..1.
fn to_tensor(bytes: &[u8], side: i64) -> Tensor {
    Tensor::from_slice(bytes)
        .view([side, side, 3])
        .permute([2, 0, 1])
        .to_kind(Kind::Float)
        / 255.0
}

/// The training examples of one step: whole passes in an order that seed and pass
/// decide, so that any step can be taken up.
pub fn batch(seed: u64, step: u64, size: usize, scenes: usize) -> Vec<usize> {
    let mut indices = Vec::with_capacity(size);
    let mut order: Option<(u64, Vec<usize>)> = None;
    for place in step * size as u64..(step + 1) * size as u64 {
        let pass = place / scenes as u64;
        if order.as_ref().is_none_or(|(of, _)| *of != pass) {
            let mut all: Vec<usize> = (0..scenes).collect();
            all.shuffle(&mut StdRng::seed_from_u64(
                seed ^ pass.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ));
            order = Some((pass, all));
        }
        if let Some((_, all)) = &order {
            indices.push(all[(place % scenes as u64) as usize]);
        }
    }
    indices
}

/// Writes pictures (`[3, side, side]`, 0..1) side by side, `across` in a row.
pub fn sheet(pictures: &[Tensor], across: usize, path: &Path) -> anyhow::Result<()> {
    let Some(first) = pictures.first() else {
        bail!("there are no pictures for {}", path.display())
    };
    let rows: Vec<Tensor> = pictures
        .chunks(across)
        .map(|row| {
            let mut row: Vec<Tensor> = row.iter().map(Tensor::shallow_clone).collect();
            row.resize_with(across, || first.ones_like());
            Tensor::cat(&row, 2)
        })
        .collect();
    picture::write(path, &picture::Picture::opaque(Tensor::cat(&rows, 1)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn held_out_combinations_are_not_in_training() {
        let (train, held_out) = draw(5, Budget::Smoke);
        let key = |s: &Scene| {
            (
                s.attributes.season,
                s.attributes.time,
                s.attributes.weather,
                s.attributes.land,
            )
        };
        let seen: HashSet<_> = train.iter().map(key).collect();
        assert!(held_out.iter().all(|scene| !seen.contains(&key(scene))));
        let distinct: HashSet<_> = held_out.iter().map(|s| &s.attributes).collect();
        assert!(distinct.len() >= 30, "{}", distinct.len());
    }

    #[test]
    fn a_changed_data_set_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let summary = prepare(3, Budget::Smoke, dir.path()).unwrap();
        let data = Data::read(dir.path()).unwrap();
        assert_eq!(
            (data.train.len(), data.held_out.len()),
            (summary.train_scenes, summary.held_out_scenes)
        );
        let path = dir.path().join(TRAIN);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("moon", "sun", 1)).unwrap();
        assert!(Data::read(dir.path()).is_err());
    }

    #[test]
    fn batches_pass_over_all_scenes_and_any_step_can_be_taken_up() {
        let all: Vec<usize> = (0..5).flat_map(|step| batch(7, step, 4, 10)).collect();
        let first: HashSet<usize> = all[..10].iter().copied().collect();
        let second: HashSet<usize> = all[10..].iter().copied().collect();
        assert_eq!((first.len(), second.len()), (10, 10));
        assert_ne!(all[..10], all[10..]);
    }

    #[test]
    fn one_scene_is_one_picture() {
        let (train, _) = draw(1, Budget::Smoke);
        assert_eq!(render::paint(&train[0], 64), render::paint(&train[0], 64));
        assert_ne!(render::paint(&train[0], 64), render::paint(&train[1], 64));
    }
}
