//! Reads a finished work from the folders that the steps before left, captions it, and writes the
//! entry as this step's own output.
//!
//! Called by `auria-post post`. It accepts no half work: a picture that cannot be decoded or a
//! poem without lines is an error, and nothing is written then.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

use crate::entry::{COLOURED_FILE, ENTRY_FILE, Entry, PAINTING_FILE, Picture, key};

/// What can be wrong with a work.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A file of the work is missing or unreadable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JSON file is not what the step before should have written.
    #[error("cannot understand {path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The poem has no words.
    #[error("the poem in {0} has no lines")]
    EmptyPoem(PathBuf),
    /// A picture is not a whole PNG.
    #[error("{path} is not a whole PNG picture: {source}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        source: image::ImageError,
    },
    /// The output cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where the steps before left their outputs.
#[derive(Clone, Debug)]
pub struct Folders<'a> {
    /// Holds `poem.json`, or only `poem.txt`.
    pub poem: &'a Path,
    /// Holds `painting.png`.
    pub painting: &'a Path,
    /// Holds `coloured.png`, and `coloured.json` with the artwork and its mood.
    pub coloured: &'a Path,
}

/// A whole work: its entry and the bytes of its pictures.
#[derive(Clone, Debug)]
pub struct Work {
    /// The record.
    pub entry: Entry,
    /// PNG bytes of the painting.
    pub painting: Bytes,
    /// PNG bytes of the painting in its mood.
    pub coloured: Bytes,
}

/// What `poem.json` says; other fields are none of this step's business.
#[derive(Debug, Default, Deserialize)]
struct Poem {
    lines: Vec<String>,
    #[serde(default)]
    mood: Option<String>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    seed: Option<u64>,
}

/// What `coloured.json` says.
#[derive(Debug, Default, Deserialize)]
struct Coloured {
    #[serde(default)]
    mood: Option<String>,
    #[serde(default)]
    artwork: Option<Artwork>,
}

/// An artwork is named by a text, or described by a row of the collection.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Artwork {
    Name(String),
    Row {
        #[serde(default, alias = "Title")]
        title: Option<String>,
        #[serde(default, alias = "Artist")]
        artist: Option<String>,
        #[serde(default, alias = "ID")]
        id: Option<String>,
    },
}

impl Artwork {
    fn label(self) -> Option<String> {
        match self {
            Self::Name(name) => some_text(Some(name)),
            Self::Row { title, artist, id } => {
                let title = some_text(title).map(|title| format!("“{title}”"));
                match (title.or_else(|| some_text(id)), some_text(artist)) {
                    (Some(title), Some(artist)) => Some(format!("{title} by {artist}")),
                    (title, artist) => title.or(artist),
                }
            }
        }
    }
}

impl Work {
    /// Reads the work; `created` is the time of posting, RFC 3339, and `run` the run's name.
    ///
    /// # Errors
    /// When a file is missing, broken or empty.
    pub fn read(
        folders: &Folders<'_>,
        created: String,
        run: Option<String>,
    ) -> Result<Self, WorkError> {
        let poem = read_poem(folders.poem)?;
        let (painting, painting_picture) = read_picture(folders.painting, PAINTING_FILE)?;
        let (coloured, coloured_picture) = read_picture(folders.coloured, COLOURED_FILE)?;
        let style: Coloured =
            read_json(&folders.coloured.join("coloured.json"))?.unwrap_or_default();

        let mood = some_text(style.mood).or_else(|| some_text(poem.mood));
        let topic = some_text(poem.topic);
        let artwork = style.artwork.and_then(Artwork::label);
        let entry = Entry {
            key: key(&poem.lines.join("\n"), &painting, &coloured),
            created,
            run: some_text(run),
            caption: caption(&poem.lines, mood.as_deref(), artwork.as_deref()),
            alt: alt(&poem.lines, mood.as_deref()),
            lines: poem.lines,
            mood,
            topic,
            seed: poem.seed,
            artwork,
            coloured: coloured_picture,
            painting: painting_picture,
        };
        Ok(Self {
            entry,
            painting,
            coloured,
        })
    }

    /// Writes the pictures and then `entry.json` into `out`, each under a temporary name first.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, out: &Path) -> Result<(), WorkError> {
        fs::create_dir_all(out).map_err(|source| WorkError::Write {
            path: out.to_owned(),
            source,
        })?;
        let record = record(&self.entry);
        for (name, bytes) in [
            (PAINTING_FILE, self.painting.as_ref()),
            (COLOURED_FILE, self.coloured.as_ref()),
            (ENTRY_FILE, record.as_bytes()),
        ] {
            let path = out.join(name);
            write_whole(out, &path, bytes).map_err(|source| WorkError::Write { path, source })?;
        }
        Ok(())
    }
}

/// The text of `entry.json`.
#[must_use]
pub fn record(entry: &Entry) -> String {
    // An entry holds texts and numbers only, so it always has a JSON form.
    let mut text = serde_json::to_string_pretty(entry).unwrap_or_default();
    text.push('\n');
    text
}

fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

fn read_poem(folder: &Path) -> Result<Poem, WorkError> {
    let path = folder.join("poem.json");
    let mut poem = match read_json::<Poem>(&path)? {
        Some(poem) => poem,
        None => {
            let path = folder.join("poem.txt");
            let text = fs::read_to_string(&path).map_err(|source| WorkError::Read {
                path: path.clone(),
                source,
            })?;
            Poem {
                lines: text.lines().map(str::to_owned).collect(),
                ..Poem::default()
            }
        }
    };
    poem.lines = poem
        .lines
        .iter()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    if poem.lines.is_empty() {
        return Err(WorkError::EmptyPoem(folder.to_owned()));
    }
    Ok(poem)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, WorkError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(WorkError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| WorkError::Json {
            path: path.to_owned(),
            source,
        })
}

fn read_picture(folder: &Path, name: &str) -> Result<(Bytes, Picture), WorkError> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(|source| WorkError::Read {
        path: path.clone(),
        source,
    })?;
    let decoded = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png)
        .map_err(|source| WorkError::Picture { path, source })?;
    let picture = Picture {
        file: name.to_owned(),
        width: decoded.width(),
        height: decoded.height(),
        bytes: bytes.len() as u64,
        digest: format!("blake3:{}", blake3::hash(&bytes).to_hex()),
    };
    Ok((Bytes::from(bytes), picture))
}

fn some_text(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

fn caption(lines: &[String], mood: Option<&str>, artwork: Option<&str>) -> String {
    let made = match (mood, artwork) {
        (Some(mood), Some(artwork)) => {
            format!("Painted from these words, coloured in {mood} after {artwork}.")
        }
        (Some(mood), None) => format!("Painted from these words, coloured in {mood}."),
        (None, Some(artwork)) => format!("Painted from these words, coloured after {artwork}."),
        (None, None) => "Painted from these words.".to_owned(),
    };
    format!("{}\n\n{made}", lines.join("\n"))
}

fn alt(lines: &[String], mood: Option<&str>) -> String {
    let poem = lines.join(" / ");
    match mood {
        Some(mood) => format!("A painting, coloured in {mood}, made from the poem: {poem}"),
        None => format!("A painting made from the poem: {poem}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<String> {
        ["one", "two", "three"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_caption_says_only_what_is_known() {
        assert_eq!(
            caption(&lines(), Some("joy"), Some("“Wave” by Hokusai")),
            "one\ntwo\nthree\n\nPainted from these words, coloured in joy after “Wave” by Hokusai."
        );
        assert_eq!(
            caption(&lines(), None, None),
            "one\ntwo\nthree\n\nPainted from these words."
        );
    }

    #[test]
    fn an_artwork_may_be_a_name_or_a_row() {
        let named: Coloured = serde_json::from_str(r#"{"artwork": "dunes"}"#).unwrap();
        assert_eq!(
            named.artwork.and_then(Artwork::label).as_deref(),
            Some("dunes")
        );
        let row: Coloured = serde_json::from_str(
            r#"{"artwork": {"id": "7", "title": "Dunes", "artist": "X", "year": 1900}}"#,
        )
        .unwrap();
        assert_eq!(
            row.artwork.and_then(Artwork::label).as_deref(),
            Some("“Dunes” by X")
        );
        let bare: Coloured = serde_json::from_str(r#"{"artwork": {"id": "7"}}"#).unwrap();
        assert_eq!(bare.artwork.and_then(Artwork::label).as_deref(), Some("7"));
    }
}
