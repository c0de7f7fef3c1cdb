//! Reads poems and verse from a folder in the shapes that people keep them in. Never
//! judges what it reads: cleaning and splitting are `prepare`'s.
//!
//! Poems: `.csv` (columns `line1,line2,line3` or `0,1,2`, or one column `text`, `haiku` or
//! `poem`; without a header, the first three columns), `.jsonl` (the same names), `.txt` (poems
//! parted by blank lines, or one a line with ` / ` between its lines); each may be
//! gzipped. Verse: text files, a stanza or sentence a line. A `corpus.json` may name the
//! files and say what they are.

use std::io::Read;
use std::path::{Path, PathBuf};

use auria_steps_common::{Error, files};
use serde::{Deserialize, Serialize};

/// A poem or a piece of verse, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Its lines.
    pub lines: Vec<String>,
    /// The book or collection that it is from, where the file says so: poems of one
    /// source are never split between training and held-out data.
    pub source: Option<String>,
}

/// What `corpus.json` says about a folder.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What the corpus is and where it comes from.
    #[serde(default)]
    pub description: String,
    /// Its licence.
    #[serde(default)]
    pub licence: String,
    /// The files of poems, relative to the folder; all that are there where it is empty.
    #[serde(default)]
    pub poems: Vec<PathBuf>,
    /// The files of verse to train on before.
    #[serde(default)]
    pub verse: Vec<PathBuf>,
}

/// All that a folder holds.
#[derive(Debug, Default)]
pub struct Corpus {
    /// Poems.
    pub poems: Vec<Raw>,
    /// Verse to train on before.
    pub verse: Vec<Raw>,
    /// What it is.
    pub about: About,
}

/// Reads a folder (or one file) of poems.
pub fn read(path: &Path) -> Result<Corpus, Error> {
    let mut corpus = Corpus::default();
    if path.is_file() {
        corpus.poems = read_poems(path)?;
        return Ok(corpus);
    }
    let about = path.join("corpus.json");
    if about.is_file() {
        corpus.about = files::read_json(&about)?;
    }
    let poems = match corpus.about.poems.as_slice() {
        [] => poem_files(path)?,
        named => named.iter().map(|name| path.join(name)).collect(),
    };
    for file in poems
        .iter()
        .filter(|f| !corpus.about.verse.iter().any(|v| path.join(v) == **f))
    {
        corpus.poems.extend(read_poems(file)?);
    }
    for name in corpus.about.verse.clone() {
        corpus.verse.extend(read_verse(&path.join(name))?);
    }
    if corpus.poems.is_empty() {
        return Err(Error::content(
            path,
            "holds no poems; expected .csv, .jsonl or .txt files (each may be gzipped)",
        ));
    }
    Ok(corpus)
}

/// The files of a folder that can hold poems, in the order of their names.
fn poem_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase());
        let name = name.unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') {
            found.extend(poem_files(&path)?);
        } else if shape(&name).is_some() && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Csv,
    JsonLines,
    Text,
}

fn shape(name: &str) -> Option<Shape> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some(Shape::Csv),
        "jsonl" | "ndjson" => Some(Shape::JsonLines),
        "txt" => Some(Shape::Text),
        _ => None,
    }
}

/// The text of a file, unpacked where it is gzipped; at most 1 GiB.
fn text_of(path: &Path) -> Result<String, Error> {
    const MOST: u64 = 1 << 30;
    let bytes = files::read(path)?;
    let mut text = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes.as_slice())
            .take(MOST)
            .read_to_end(&mut text)
            .map_err(Error::read(path))?;
    } else {
        text = bytes;
    }
    let text = String::from_utf8(text)
        .map_err(|e| Error::content(path, format!("is not UTF-8: {}", e.utf8_error())))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .unwrap_or(&text)
        .replace("\r\n", "\n"))
}

fn read_poems(path: &Path) -> Result<Vec<Raw>, Error> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let text = text_of(path)?;
    match shape(&name) {
        Some(Shape::Csv) => of_csv(path, &text),
        Some(Shape::JsonLines) => of_json_lines(path, &text),
        _ => Ok(of_text(&text)),
    }
}

/// One record a line, ` / ` between the lines of a stanza.
pub fn read_verse(path: &Path) -> Result<Vec<Raw>, Error> {
    let text = text_of(path)?;
    let records = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(records
        .map(|l| Raw {
            lines: slashed(l),
            source: None,
        })
        .collect())
}

fn slashed(line: &str) -> Vec<String> {
    line.split(" / ")
        .map(|part| part.trim().to_owned())
        .collect()
}

fn of_text(text: &str) -> Vec<Raw> {
    let mut poems = Vec::new();
    let mut block: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.contains(" / ") {
            poems.push(Raw {
                lines: slashed(line),
                source: None,
            });
        } else if !line.is_empty() {
            block.push(line.to_owned());
        } else if !block.is_empty() {
            poems.push(Raw {
                lines: std::mem::take(&mut block),
                source: None,
            });
        }
    }
    poems
}

/// How the columns of the three lines are named; `0,1,2` is what the published collections
/// of haiku from Reddit and elsewhere have.
const LINES: [[&str; 3]; 2] = [["line1", "line2", "line3"], ["0", "1", "2"]];
const WHOLE: [&str; 3] = ["text", "haiku", "poem"];

/// The lines of a poem that stands in one field.
fn lines_of_field(field: &str) -> Vec<String> {
    if field.contains('\n') {
        field
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect()
    } else {
        field
            .split('/')
            .map(|part| part.trim().to_owned())
            .collect()
    }
}

fn of_csv(path: &Path, text: &str) -> Result<Vec<Raw>, Error> {
    let wrong = |e: csv::Error| Error::content(path, format!("is no CSV: {e}"));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut records = reader.records().peekable();
    let header: Vec<String> = match records.peek() {
        Some(Ok(first)) => first.iter().map(|f| f.trim().to_lowercase()).collect(),
        _ => Vec::new(),
    };
    let at = |name: &str| header.iter().position(|h| h == name);
    let lines = LINES.iter().find_map(|names| {
        let [a, b, c] = names.map(at);
        Some([a?, b?, c?])
    });
    let whole = WHOLE.iter().find_map(|w| at(w));
    let (title, author) = (at("title").or_else(|| at("book")), at("author"));
    let headed = lines.is_some() || whole.is_some();
    let mut poems = Vec::new();
    for record in records.skip(usize::from(headed)) {
        let record = record.map_err(wrong)?;
        let field = |i: usize| record.get(i).unwrap_or_default().trim();
        let lines = match (lines, whole) {
            (Some(columns), _) => columns.map(|i| field(i).to_owned()).to_vec(),
            (_, Some(i)) => lines_of_field(field(i)),
            _ if record.len() < 3 => lines_of_field(field(0)),
            _ => [0, 1, 2].map(|i| field(i).to_owned()).to_vec(),
        };
        let source =
            title.map(|t| format!("{}/{}", author.map(field).unwrap_or_default(), field(t)));
        poems.push(Raw {
            lines,
            source: source.filter(|s| s.len() > 1),
        });
    }
    Ok(poems)
}

fn of_json_lines(path: &Path, text: &str) -> Result<Vec<Raw>, Error> {
    let mut poems = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let row: serde_json::Value = serde_json::from_str(line).map_err(Error::json(path))?;
        let word = |key: &str| row[key].as_str().map(str::to_owned);
        let array = ["lines"]
            .iter()
            .chain(&WHOLE)
            .find_map(|key| row[*key].as_array());
        let lines = if let Some(lines) = array {
            lines
                .iter()
                .filter_map(|l| l.as_str())
                .map(str::to_owned)
                .collect()
        } else if let Some(whole) = WHOLE.iter().find_map(|w| word(w)) {
            lines_of_field(&whole)
        } else {
            let named = LINES
                .iter()
                .map(|names| names.iter().filter_map(|l| word(l)));
            named
                .map(Iterator::collect)
                .max_by_key(Vec::len)
                .unwrap_or_default()
        };
        let source = word("title").map(|t| format!("{}/{t}", word("author").unwrap_or_default()));
        poems.push(Raw { lines, source });
    }
    Ok(poems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            files::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
        }
        dir
    }

    #[test]
    fn every_shape_gives_the_same_poem() {
        for (name, text) in [
            ("a.csv", "line1,line2,line3,nature\na b,\"c, d\",e\n"),
            ("a.csv", "a b,\"c, d\",e\n"),
            ("a.csv", "id,haiku\n7,\"a b / c, d / e\"\n"),
            ("a.csv", "text\n\"a b\nc, d\ne\"\n"),
            ("a.jsonl", "{\"lines\":[\"a b\",\"c, d\",\"e\"]}\n"),
            (
                "a.jsonl",
                "{\"line1\":\"a b\",\"line2\":\"c, d\",\"line3\":\"e\"}\n",
            ),
            ("sub/a.txt", "# about\n\na b\nc, d\ne\n"),
            ("a.txt", "a b / c, d / e\r\n"),
        ] {
            let dir = folder(&[(name, text)]);
            let poems = read(dir.path()).unwrap().poems;
            assert_eq!(poems.len(), 1, "{text}");
            assert_eq!(poems[0].lines, ["a b", "c, d", "e"], "{text}");
        }
    }

    /// Made-up poems, in the layouts in which collections of haiku are published.
    #[test]
    fn published_collections_are_read_as_they_are() {
        let collections = [
            // Kaggle's `hjhalani30/haiku-dataset`.
            (
                "all_haiku.csv",
                ",0,1,2,source,hash\n\
                 0,rain on the tin roof,\"the cat, awake now, looks up\",both of us listen,tempslibres,RAINONTHETINROOF\n\
                 1,\"\"\"Hello?\"\"\",one two three,four,twaiku,HELLO\n",
            ),
            // `docmarionum1/haikurnn`.
            (
                "haikus.csv",
                "0,1,2,source,0_syllables,1_syllables,2_syllables\n\
                 rain on the tin roof,\"the cat, awake now, looks up\",both of us listen,twaiku,5,\"6,7\",5\n\
                 \"\"\"Hello?\"\"\",one two three,four,gutenberg,2,3,1\n",
            ),
            // JSON lines of Reddit's r/haiku, and of the Hub's `haiku` and `text` columns.
            (
                "reddit.jsonl",
                "{\"id\":\"a1\",\"haiku\":[\"rain on the tin roof\",\"the cat, awake now, looks up\",\"both of us listen\"]}\n\
                 {\"id\":\"a2\",\"haiku\":\"\\\"Hello?\\\" / one two three / four\",\"source\":\"reddit\"}\n",
            ),
            (
                "statworx.jsonl",
                "{\"source\":\"bfbarry\",\"text\":\"rain on the tin roof / the cat, awake now, looks up / both of us listen\",\"keywords\":\"rain\"}\n\
                 {\"0\":\"\\\"Hello?\\\"\",\"1\":\"one two three\",\"2\":\"four\"}\n",
            ),
        ];
        for (name, text) in collections {
            let poems = read(folder(&[(name, text)]).path()).unwrap().poems;
            assert_eq!(poems.len(), 2, "{name}");
            let [one, two] = [&poems[0], &poems[1]];
            let first = [
                "rain on the tin roof",
                "the cat, awake now, looks up",
                "both of us listen",
            ];
            assert_eq!(one.lines, first, "{name}");
            assert_eq!(two.lines, ["\"Hello?\"", "one two three", "four"], "{name}");
            assert_eq!(one.source, None, "a collection is no book: {name}");
        }
    }

    #[test]
    fn sources_keep_the_poems_of_a_book_together() {
        let dir = folder(&[("a.csv", "line1,line2,line3,author,title\na,b,c,Who,Book\n")]);
        assert_eq!(
            read(dir.path()).unwrap().poems[0].source.as_deref(),
            Some("Who/Book")
        );
    }

    #[test]
    fn corpus_json_names_the_verse_and_an_empty_folder_is_an_error() {
        let about = "{\"licence\":\"CC0\",\"verse\":[\"v.txt\"]}";
        let dir = folder(&[
            ("corpus.json", about),
            ("p.txt", "a\nb\nc\n"),
            ("v.txt", "x / y\nz\n"),
        ]);
        let corpus = read(dir.path()).unwrap();
        assert_eq!((corpus.poems.len(), corpus.verse.len()), (1, 2));
        assert_eq!(corpus.about.licence, "CC0");
        assert!(read(folder(&[("a.md", "x")]).path()).is_err());
    }
}
