//! `colour`: picks an artwork by mood and gives a picture its colours.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use auria_steps_common::cli::{Output, Usage, print};
use auria_steps_common::mood::Mood;
use auria_steps_common::picture::{self, Bounds, Picture};
use auria_steps_common::{device, files, warm};
use clap::Args;
use serde::Serialize;
use tch::Device;

use crate::canvas::{self, Limits, composited, resize, with_longest_side};
use crate::collection::{Basis, Collection};
use crate::transfer::Settings;
use crate::weights;

/// Arguments of `colour`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --mood the mood of the poem is taken, if --poem names a folder with
poem.json; with neither, any work of the gallery.

Examples:
  auria-style colour --weights steps/style/weights --gallery steps/style/gallery \\
      --content painting.png --mood sadness --seed 7 --out coloured
  auria-style colour --weights steps/style/weights --gallery ~/wikiart --table ~/WikiArt-Emotions-All.tsv \\
      --content photo.jpg --mood joy --strength 0.7 --size 2048 --seed 1 --out coloured")]
pub struct ColourArgs {
    /// Folder of weights
    #[arg(long, value_name = "DIR")]
    weights: PathBuf,
    /// The picture to colour, or a folder that holds painting.png
    #[arg(long, value_name = "PATH")]
    content: PathBuf,
    /// Folder of artworks named by ID, with their table
    #[arg(long, value_name = "DIR")]
    gallery: PathBuf,
    /// The table of moods in the format of WikiArt Emotions [default: annotations.tsv of the gallery]
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// One of the twenty emotions of WikiArt Emotions, or an everyday word such as joy; may be empty
    #[arg(long, default_value = "", value_name = "M")]
    mood: String,
    /// Folder with poem.json, whose mood is taken where none is given
    #[arg(long, value_name = "DIR")]
    poem: Option<PathBuf>,
    /// Seed of the choice among the works that carry the mood
    #[arg(long, value_name = "N")]
    seed: u64,
    /// How much of the colours is taken over, 0 to 1
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    strength: f64,
    /// Longest side of the result in pixels [default: as the content]
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(i64).range(1..=16384))]
    size: Option<i64>,
    /// Where coloured.png and coloured.json go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What `coloured.json` says.
#[derive(Debug, Serialize)]
struct Coloured {
    picture: &'static str,
    width: i64,
    height: i64,
    mood: Option<Mood>,
    mood_from: &'static str,
    artwork: Chosen,
    seed: u64,
    strength: f64,
    weights: String,
}

#[derive(Debug, Serialize)]
struct Chosen {
    id: String,
    title: String,
    artist: String,
    year: String,
    basis: Basis,
    /// Part of the annotators who felt the mood; none where none was asked for.
    fraction: Option<f64>,
}

impl ColourArgs {
    pub(super) fn run(self, device: Device, output: Output) -> Result<()> {
        device::deterministic();
        if !(0.0..=1.0).contains(&self.strength) {
            bail!(Usage(format!(
                "--strength {} is not between 0 and 1",
                self.strength
            )));
        }
        let (mood, mood_from) = self.mood()?;
        let collection = Collection::open(&self.gallery, self.table.as_deref())?;
        let choice = collection.choose(mood, self.seed);
        eprintln!("colours of {} ({})", choice.work.title, choice.work.id);
        let network = warm::kept(&self.weights, || weights::read(&self.weights, device))?;
        let limits = Limits::default();
        let style = picture::read(choice.picture, Bounds::default())?;
        let style = canvas::style_of(&network, &composited(&style), &limits);
        let content = picture::read(&content_file(&self.content), Bounds::default())?;
        let (height, width) = self
            .size
            .map_or(content.size(), |px| with_longest_side(content.size(), px));
        let rgb = resize(&composited(&content), height, width);
        let alpha = content
            .alpha
            .as_ref()
            .map(|alpha| resize(alpha, height, width));
        let settings = Settings {
            strength: self.strength,
            ..Settings::default()
        };
        let rgb = canvas::colour(&network, &rgb, &style, &settings, &limits)
            .context("colouring the picture")?;
        picture::write(&self.out.join("coloured.png"), &Picture { rgb, alpha })?;
        let coloured = Coloured {
            picture: "coloured.png",
            width,
            height,
            mood,
            mood_from,
            artwork: Chosen {
                id: choice.work.id.clone(),
                title: choice.work.title.clone(),
                artist: choice.work.artist.clone(),
                year: choice.work.year.clone(),
                basis: choice.basis,
                fraction: mood.and_then(|m| choice.work.moods.get(&m).copied()),
            },
            seed: self.seed,
            strength: self.strength,
            weights: format!("blake3:{}", weights::digest(&self.weights)?),
        };
        files::write_json(&self.out.join("coloured.json"), &coloured)?;
        print(output, &coloured, || {
            let mood = mood.map_or("no mood".to_owned(), |m| m.to_string());
            format!(
                "{}: {mood}, after “{}”",
                self.out.join("coloured.png").display(),
                coloured.artwork.title
            )
        });
        Ok(())
    }

    /// The mood, and where it came from.
    fn mood(&self) -> Result<(Option<Mood>, &'static str)> {
        if !self.mood.trim().is_empty() {
            return Ok((Some(self.mood.parse()?), "option"));
        }
        let Some(folder) = self.poem.as_ref().filter(|p| !p.as_os_str().is_empty()) else {
            return Ok((None, "none"));
        };
        let poem: serde_json::Value = files::read_json(&folder.join("poem.json"))?;
        match poem
            .get("mood")
            .and_then(serde_json::Value::as_str)
            .filter(|m| !m.trim().is_empty())
        {
            Some(mood) => Ok((Some(mood.parse()?), "poem")),
            None => Ok((None, "none")),
        }
    }
}

/// The picture itself, or `painting.png` of a folder.
fn content_file(content: &Path) -> PathBuf {
    if content.is_dir() {
        content.join("painting.png")
    } else {
        content.to_path_buf()
    }
}
