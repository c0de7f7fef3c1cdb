//! Collections of artworks with moods: a folder of pictures named by ID and a
//! table in the format of WikiArt Emotions (Mohammad and Kiritchenko, 2018), all
//! releases of it. It reads and writes tables and chooses from them; it never
//! decodes a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use auria_steps_common::mood::Mood;
use auria_steps_common::{Error, files};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

/// A work carries a mood from this part of its annotators on; the release at 40
/// per cent agreement draws the same line.
const CARRIED: f64 = 0.4;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Artwork {
    /// The name of its picture, without an ending.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Who made it.
    pub artist: String,
    /// The style it belongs to; may be a list with commas.
    pub style: String,
    /// Text: some are "XVIII-XIX cent.".
    pub year: String,
    /// Part of the annotators who felt each mood before picture and title, 0 to
    /// 1 (0 or 1 in the releases by agreement).
    pub moods: BTreeMap<Mood, f64>,
}

/// Artworks whose pictures are there.
#[derive(Debug)]
pub struct Collection {
    works: Vec<(Artwork, PathBuf)>,
    /// Rows of the table without a picture in the folder.
    pub missing: usize,
}

/// Why a work was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// At least 40 per cent felt the mood.
    Carried,
    /// None carries it, and this one comes nearest.
    Nearest,
    /// Nobody felt it before any work, or no mood was asked for.
    Any,
}

/// A choice from a collection.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The work.
    pub work: &'a Artwork,
    /// Its picture.
    pub picture: &'a Path,
    /// Why it was chosen.
    pub basis: Basis,
}

/// Reads a table. Columns go by their names, in any order; what a release does
/// not have is empty.
///
/// # Errors
/// [`Error`] where the file cannot be read, has no `ID` column, or no column of
/// moods, or a fraction is not a number from 0 to 1.
pub fn read_table(path: &Path) -> Result<Vec<Artwork>, Error> {
    let bytes = files::read(path)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let wrong = |error: csv::Error| Error::content(path, format!("is not a table: {error}"));
    // Titles hold single quotation marks, so they are not taken for delimiters.
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .quoting(false)
        .flexible(true)
        .from_reader(text);
    let names: Vec<String> = reader
        .byte_headers()
        .map_err(wrong)?
        .iter()
        .map(|h| plain(&String::from_utf8_lossy(h)))
        .collect();
    let column = |name: &str| names.iter().position(|n| n.eq_ignore_ascii_case(name));
    let id = column("ID").ok_or_else(|| Error::content(path, "has no column `ID`"))?;
    let texts = ["Title", "Artist", "Style", "Year"].map(column);
    let moods = ["Art (image+title): ", "ImageOnly: "]
        .iter()
        .map(|prefix| {
            let found = Mood::ALL
                .iter()
                .filter_map(|&m| column(&format!("{prefix}{m}")).map(|c| (m, c)));
            found.collect::<Vec<_>>()
        })
        .find(|columns| !columns.is_empty())
        .ok_or_else(|| Error::content(path, "has no column like `Art (image+title): happiness`"))?;
    let mut works = Vec::new();
    for (index, record) in reader.byte_records().enumerate() {
        let record = record.map_err(wrong)?;
        let cell = |c: usize| plain(&String::from_utf8_lossy(record.get(c).unwrap_or_default()));
        let text = |c: Option<usize>| c.map(cell).unwrap_or_default();
        let mut work = Artwork {
            id: cell(id),
            title: text(texts[0]),
            artist: text(texts[1]),
            style: text(texts[2]),
            year: text(texts[3]),
            moods: BTreeMap::new(),
        };
        if work.id.is_empty() {
            continue;
        }
        for &(mood, c) in &moods {
            let value = cell(c);
            let fraction = if value.is_empty() {
                Ok(0.0)
            } else {
                value.parse::<f64>()
            };
            match fraction {
                Ok(fraction) if (0.0..=1.0).contains(&fraction) => {
                    work.moods.insert(mood, fraction);
                }
                _ => {
                    let place = format!(
                        "row {} has `{value}` for {mood}, not a part from 0 to 1",
                        index + 2
                    );
                    return Err(Error::content(path, place));
                }
            }
        }
        works.push(work);
    }
    Ok(works)
}

/// A cell without the quotation marks that a spreadsheet put around it.
fn plain(cell: &str) -> String {
    let cell = cell.trim();
    match cell.strip_prefix('"').and_then(|c| c.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => cell.to_owned(),
    }
}

/// The table as text: tabs, CRLF, the 69 columns of the newest release.
#[must_use]
pub fn table(works: &[Artwork]) -> String {
    let mut names: Vec<String> = [
        "ID",
        "Style",
        "Category",
        "Artist",
        "Title",
        "Year",
        "Is painting",
        "Face/body",
        "Ave. art rating",
    ]
    .map(str::to_owned)
    .to_vec();
    for prefix in ["Art (image+title)", "ImageOnly", "TitleOnly"] {
        names.extend(Mood::ALL.iter().map(|mood| format!("{prefix}: {mood}")));
    }
    let mut text = names.join("\t") + "\r\n";
    for work in works {
        // Nobody rated these works, and nobody was asked about the title alone.
        let mut cells = vec![
            work.id.clone(),
            work.style.clone(),
            String::new(),
            work.artist.clone(),
            work.title.clone(),
            work.year.clone(),
            "yes".to_owned(),
            String::new(),
            String::new(),
        ];
        for part in 0..3 {
            cells.extend(Mood::ALL.iter().map(|mood| {
                let fraction = work.moods.get(mood).copied().unwrap_or(0.0);
                if part == 2 {
                    "0".to_owned()
                } else {
                    fraction.to_string()
                }
            }));
        }
        text += &(cells.join("\t").replace(['\r', '\n'], " ") + "\r\n");
    }
    text
}

impl Collection {
    /// Opens a folder with pictures named by ID and its table: `table`, or
    /// `annotations.tsv`, or the only `.tsv` in the folder.
    ///
    /// # Errors
    /// [`Error`] where there is no table, it cannot be read, or no picture of it
    /// is there.
    pub fn open(folder: &Path, table: Option<&Path>) -> Result<Self, Error> {
        let mut pictures = BTreeMap::new();
        let mut tables = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
            let path = entry.map_err(Error::read(folder))?.path();
            let part = |p: Option<&std::ffi::OsStr>| {
                p.map(|p| p.to_string_lossy().into_owned())
                    .unwrap_or_default()
            };
            match part(path.extension()).to_lowercase().as_str() {
                "png" | "jpg" | "jpeg" => drop(pictures.insert(part(path.file_stem()), path)),
                "tsv" => tables.push(path),
                _ => {}
            }
        }
        let named = folder.join("annotations.tsv");
        let table = match (table, tables.as_slice()) {
            (Some(table), _) => table.to_path_buf(),
            (None, all) if all.contains(&named) => named,
            (None, [one]) => one.clone(),
            (None, all) => {
                let problem = format!(
                    "holds {} .tsv files and none named annotations.tsv; name one with --table",
                    all.len()
                );
                return Err(Error::content(folder, problem));
            }
        };
        let rows = read_table(&table)?;
        let count = rows.len();
        let works: Vec<_> = rows
            .into_iter()
            .filter_map(|work| {
                pictures
                    .get(&work.id)
                    .cloned()
                    .map(|picture| (work, picture))
            })
            .collect();
        if works.is_empty() {
            let problem = format!(
                "has no picture (ID.jpg, ID.png) for any of the {count} rows of {}",
                table.display()
            );
            return Err(Error::content(folder, problem));
        }
        Ok(Self {
            missing: count - works.len(),
            works,
        })
    }

    /// All works whose picture is there.
    #[must_use]
    pub fn works(&self) -> &[(Artwork, PathBuf)] {
        &self.works
    }

    /// Chooses a work for a mood: among those that carry it, else among the
    /// nearest by fraction, else among all. The same seed chooses the same work.
    #[must_use]
    pub fn choose(&self, mood: Option<Mood>, seed: u64) -> Choice<'_> {
        let fraction = |work: &Artwork| {
            mood.and_then(|m| work.moods.get(&m))
                .copied()
                .unwrap_or(0.0)
        };
        let largest = self
            .works
            .iter()
            .map(|(work, _)| fraction(work))
            .fold(0.0, f64::max);
        let (basis, least) = match largest {
            l if l >= CARRIED => (Basis::Carried, CARRIED),
            l if l > 0.0 => (Basis::Nearest, l),
            _ => (Basis::Any, 0.0),
        };
        let mut fitting: Vec<_> = self
            .works
            .iter()
            .filter(|(work, _)| fraction(work) >= least)
            .collect();
        // By ID, so that the choice does not hang on the order of the rows.
        fitting.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (work, picture) = fitting[rng.random_range(0..fitting.len())];
        Choice {
            work,
            picture,
            basis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn works() -> Vec<Artwork> {
        let work = |id: &str, moods: &[(Mood, f64)]| Artwork {
            id: id.into(),
            title: format!("\"{id}\" by night, o'clock"),
            artist: "A".into(),
            style: "Impressionism, Realism".into(),
            year: "XVIII-XIX cent.".into(),
            moods: Mood::ALL
                .iter()
                .map(|&m| (m, moods.iter().find(|x| x.0 == m).map_or(0.0, |x| x.1)))
                .collect(),
        };
        vec![
            work("b", &[(Mood::Love, 0.5), (Mood::Fear, 0.2)]),
            work("a", &[(Mood::Love, 0.8), (Mood::Fear, 0.1)]),
            work("c", &[(Mood::Love, 0.1)]),
        ]
    }

    fn folder(table: &str, pictures: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("WikiArt-Emotions-All.tsv"), table).unwrap();
        for name in pictures {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        dir
    }

    #[test]
    fn a_table_comes_back_and_has_the_columns_of_the_release() {
        let text = table(&works());
        let header: Vec<_> = text.lines().next().unwrap().split('\t').collect();
        assert_eq!(header.len(), 69);
        assert_eq!(header[9], "Art (image+title): agreeableness");
        assert_eq!(header[68], "TitleOnly: neutral");
        assert!(text.ends_with("\r\n") && text.matches("\r\n").count() == 4);
        let dir = folder(&text, &[]);
        assert_eq!(
            read_table(&dir.path().join("WikiArt-Emotions-All.tsv")).unwrap(),
            works()
        );
    }

    #[test]
    fn an_older_release_is_read_by_the_names_of_its_columns() {
        let text = "ID\tStyle\tCategory\tArtist\tTitle\tYear\tImage URL\tPainting Info URL\tArtist Info URL\tIs painting\tFace/body\tAve. art rating\tArt (image+title): fear\tArt (image+title): love\tImageOnly: fear\r\n\
            577280f3\tCubism\tModern\tX\t\"The \"\"Red\"\" One\"\t1912\thttp://i\thttp://p\thttp://a\tyes\tface\t1.5\t1\t0\t0\r\n";
        let dir = folder(text, &[]);
        let works = read_table(&dir.path().join("WikiArt-Emotions-All.tsv")).unwrap();
        assert_eq!(works[0].title, "The \"Red\" One");
        assert_eq!(
            works[0].moods,
            BTreeMap::from([(Mood::Fear, 1.0), (Mood::Love, 0.0)])
        );
    }

    #[test]
    fn a_mood_is_carried_or_nearest_or_any_and_never_fails() {
        let dir = folder(&table(&works()), &["a.jpg", "b.PNG", "c.jpeg"]);
        let collection = Collection::open(dir.path(), None).unwrap();
        let chosen: std::collections::BTreeSet<_> = (0..40)
            .map(|seed| collection.choose(Some(Mood::Love), seed).work.id.clone())
            .collect();
        assert_eq!(chosen, ["a", "b"].map(str::to_owned).into());
        for seed in 0..10 {
            let choice = collection.choose(Some(Mood::Fear), seed);
            assert_eq!(
                (choice.work.id.as_str(), choice.basis),
                ("b", Basis::Nearest)
            );
            assert!(choice.picture.ends_with("b.PNG"));
        }
        for &mood in Mood::ALL {
            let _ = collection.choose(Some(mood), 1);
        }
        assert_eq!(collection.choose(Some(Mood::Shyness), 1).basis, Basis::Any);
        assert_eq!(collection.choose(None, 1).basis, Basis::Any);
    }

    #[test]
    fn rows_without_a_picture_are_left_out_and_counted() {
        let dir = folder(&table(&works()), &["c.png"]);
        let collection = Collection::open(dir.path(), None).unwrap();
        assert_eq!((collection.works().len(), collection.missing), (1, 2));
        assert!(Collection::open(folder(&table(&works()), &[]).path(), None).is_err());
    }

    #[test]
    fn a_table_that_is_none_is_named() {
        for (text, part) in [
            ("a\tb\r\n", "`ID`"),
            ("ID\tTitle\r\n", "image+title"),
            ("ID\tArt (image+title): love\r\nx\t7\r\n", "row 2"),
        ] {
            let dir = folder(text, &["x.png"]);
            let error = Collection::open(dir.path(), None).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
