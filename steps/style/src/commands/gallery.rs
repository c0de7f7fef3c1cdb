//! `gallery`: paints the small gallery with moods.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use auria_steps_common::cli::{Output, print};
use auria_steps_common::{files, picture};
use clap::Args;
use serde_json::json;

use crate::collection::{Artwork, table};
use crate::data::of_image;
use crate::painter::works::WORKS;

/// Arguments of `gallery`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  auria-style gallery --seed 1 --out steps/style/gallery")]
pub struct GalleryArgs {
    /// Seed of the layouts and of the hand
    #[arg(long, value_name = "N")]
    seed: u64,
    /// Where pictures and annotations.tsv go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Width of a picture in pixels; its height is five sixths of it
    #[arg(long, default_value_t = 384, value_name = "PX", value_parser = clap::value_parser!(u32).range(24..=4096))]
    width: u32,
}

impl GalleryArgs {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let mut rows = Vec::with_capacity(WORKS.len());
        for work in WORKS {
            let image = work.paint(self.seed, self.width, self.width * 5 / 6);
            picture::write(
                &self.out.join(format!("{}.jpg", work.id)),
                &of_image(&image),
            )?;
            eprintln!("painted {}", work.title);
            rows.push(Artwork {
                id: work.id.to_owned(),
                title: work.title.to_owned(),
                artist: "Auria Kathi".to_owned(),
                style: "Procedural".to_owned(),
                year: String::new(),
                moods: work.moods.iter().copied().collect::<BTreeMap<_, _>>(),
            });
        }
        files::write_atomic(&self.out.join("annotations.tsv"), table(&rows).as_bytes())?;
        print(
            output,
            &json!({ "works": rows.len(), "folder": self.out }),
            || {
                format!(
                    "{} works and annotations.tsv in {}",
                    rows.len(),
                    self.out.display()
                )
            },
        );
        Ok(())
    }
}
