//! The data step: pictures to train on and pictures held out, painted from a
//! seed, with photographs of the user's own beside them if a folder is named.
//! It never trains, and never copies a picture larger than it will be used.

use std::path::{Path, PathBuf};

use auria_steps_common::picture::{self, Bounds, Picture};
use auria_steps_common::{Error, digest, files};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::budget::Budget;
use crate::canvas::resize;
use crate::painter;

const DATA: &str = "data.json";

/// The two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// To train on.
    Train,
    /// Held out: never trained on.
    HeldOut,
}

impl Part {
    fn folder(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldOut => "held-out",
        }
    }
}

/// What `data.json` says about a prepared folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Digest of all pictures of both parts.
    pub digest: String,
    /// Seed of the painted pictures.
    pub seed: u64,
    /// Budget that they were made for.
    pub budget: Budget,
    /// Pictures to train on.
    pub train: u64,
    /// Pictures held out.
    pub held_out: u64,
    /// How many of all were painted; the others come from the folder named.
    pub painted: u64,
}

/// Paints and collects.
///
/// # Errors
/// [`Error`] where a picture of `images` cannot be read or one cannot be written.
pub fn prepare(
    seed: u64,
    budget: Budget,
    images: Option<&Path>,
    out: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Data, Error> {
    let sizes = budget.sizes();
    let painted = sizes.train + sizes.held_out;
    let mut counts = [0u64; 2];
    let mut save = |part: Part, name: &str, picture: &Picture| {
        counts[usize::from(part == Part::HeldOut)] += 1;
        picture::write(&out.join(part.folder()).join(name), picture)
    };
    for index in 0..painted {
        let part = if index < sizes.train {
            Part::Train
        } else {
            Part::HeldOut
        };
        // A seed's pictures are its own: neighbouring seeds share none.
        let image = painter::study(seed.wrapping_mul(1_000_003).wrapping_add(index), sizes.side);
        save(part, &format!("painted-{index:05}.png"), &of_image(&image))?;
        if (index + 1).is_multiple_of(50) || index + 1 == painted {
            progress(&format!("painted {} of {painted} pictures", index + 1));
        }
    }
    let own = images.map(list).transpose()?.unwrap_or_default();
    for (index, path) in own.iter().enumerate() {
        // Whole pictures go to one part, so that no crop of a held-out picture
        // is trained on. Every tenth is held out.
        let part = if index % 10 == 9 {
            Part::HeldOut
        } else {
            Part::Train
        };
        let picture = picture::read(path, Bounds::default())?;
        for (n, crop) in crops(&picture, i64::from(sizes.side))
            .into_iter()
            .enumerate()
        {
            save(
                part,
                &format!("own-{index:05}-{n}.png"),
                &Picture::opaque(crop),
            )?;
        }
    }
    if !own.is_empty() {
        progress(&format!("took crops of {} pictures", own.len()));
    }
    let [train, held_out] = counts;
    let mut files = list(&out.join("train"))?;
    files.extend(list(&out.join("held-out"))?);
    let relative: Vec<PathBuf> = files
        .iter()
        .filter_map(|p| p.strip_prefix(out).ok())
        .map(Path::to_path_buf)
        .collect();
    let digest = digest::of_files(out, &relative)?;
    let data = Data {
        digest,
        seed,
        budget,
        train,
        held_out,
        painted,
    };
    files::write_json(&out.join(DATA), &data)?;
    Ok(data)
}

/// Reads what was prepared.
///
/// # Errors
/// [`Error`] where the folder was not prepared, or its pictures are others than
/// those that were.
pub fn read(folder: &Path) -> Result<Data, Error> {
    let data: Data = files::read_json(&folder.join(DATA))?;
    let found = [
        list(&folder.join("train"))?.len(),
        list(&folder.join("held-out"))?.len(),
    ];
    if found.map(|n| n as u64) != [data.train, data.held_out] {
        let problem = format!(
            "holds {} and {} pictures, and {DATA} names {} and {}; run `auria-style prepare` again",
            found[0], found[1], data.train, data.held_out
        );
        return Err(Error::content(folder, problem));
    }
    Ok(data)
}

/// Reads the pictures of one part, as bytes `[3, height, width]`, in the order
/// of their names.
///
/// # Errors
/// [`Error`] where a picture cannot be read, or there is none.
pub fn pictures(folder: &Path, part: Part) -> Result<Vec<Tensor>, Error> {
    let folder = folder.join(part.folder());
    let files = list(&folder)?;
    if files.is_empty() {
        return Err(Error::content(&folder, "holds no picture"));
    }
    let read = |path: &PathBuf| {
        let picture = picture::read(path, Bounds::default())?;
        Ok((picture.rgb * 255.0).round().to_kind(tch::Kind::Uint8))
    };
    files.iter().map(read).collect()
}

/// The picture as values from 0 to 1.
pub fn as_float(bytes: &Tensor) -> Tensor {
    bytes.to_kind(tch::Kind::Float) / 255.0
}

/// A painted picture as a tensor.
#[must_use]
pub fn of_image(image: &image::RgbImage) -> Picture {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let flat = Tensor::from_slice(image.as_raw()).view([height, width, 3]);
    Picture::opaque(flat.permute([2, 0, 1]).to_kind(tch::Kind::Float) / 255.0)
}

/// Square crops of a picture whose shorter side is reduced to `side` first: one
/// in the middle, and one at each end where the picture is long enough.
fn crops(picture: &Picture, side: i64) -> Vec<Tensor> {
    let (height, width) = picture.size();
    let scale = side as f64 / height.min(width) as f64;
    let fit = |n: i64| ((n as f64 * scale).round() as i64).max(side);
    let (height, width) = (fit(height), fit(width));
    let small = resize(&crate::canvas::composited(picture), height, width);
    let spare = (height - side).max(width - side);
    let starts = if spare >= side / 2 {
        vec![0, spare]
    } else {
        vec![spare / 2]
    };
    starts
        .into_iter()
        .map(|s| {
            small
                .narrow(1, s.min(height - side), side)
                .narrow(2, s.min(width - side), side)
                .contiguous()
        })
        .collect()
}

/// The pictures of a folder and its subfolders, sorted by path.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if path.is_dir() {
            found.extend(list(&path)?);
        } else if matches!(ending.as_deref(), Some("png" | "jpg" | "jpeg")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_prepares_one_set_and_parts_share_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        for i in 0..10 {
            picture::write(
                &own.join(format!("{i}.png")),
                &of_image(&painter::study(i, 70)),
            )
            .unwrap();
        }
        let make = |seed, name: &str| {
            prepare(
                seed,
                Budget::Smoke,
                Some(&own),
                &dir.path().join(name),
                &mut |_| {},
            )
            .unwrap()
        };
        let (one, two, other) = (make(1, "a"), make(1, "b"), make(2, "c"));
        assert_eq!(one, two);
        assert_ne!(one.digest, other.digest);
        assert_eq!((one.train, one.held_out, one.painted), (33, 9, 32));
        let folder = dir.path().join("a");
        assert_eq!(read(&folder).unwrap(), one);
        let train = pictures(&folder, Part::Train).unwrap();
        let held_out = pictures(&folder, Part::HeldOut).unwrap();
        assert!(held_out.iter().all(|h| train.iter().all(|t| t != h)));
        std::fs::remove_file(folder.join("train/painted-00000.png")).unwrap();
        assert!(read(&folder).is_err());
    }

    #[test]
    fn long_pictures_give_crops_of_both_ends() {
        let long = Picture::opaque(Tensor::rand(
            [3, 40, 120],
            (tch::Kind::Float, tch::Device::Cpu),
        ));
        let crops = crops(&long, 32);
        assert_eq!(crops.len(), 2);
        assert!(crops.iter().all(|c| c.size() == [3, 32, 32]));
    }
}
