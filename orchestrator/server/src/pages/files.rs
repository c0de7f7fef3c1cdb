//! What steps made, as people look at it: pictures, tables and text are shown in part, everything
//! is a link away. Only the first bytes of a file are read for that, and of a file that claims
//! to be a picture its own first bytes decide. Nothing of it can run script here: text is
//! text, and a picture is answered as what it is, or not at all.

use super::shell::{query, size};
use crate::api::Api;
use crate::problem::Refusal;
use auria_core::outcome::{Artifact, EntryKind};
use auria_store::{StorePath, artifact};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use maud::{Markup, html};
use object_store::ObjectStoreExt;
use serde_json::Value;

/// Files of one output that are listed.
const LISTED: usize = 60;
/// Files of a page that are looked into.
const LOOKED_INTO: usize = 24;
/// Bytes that are read of a file to show something of it.
const PREVIEW: u64 = 64 * 1024;
/// The largest picture that is shown.
const LARGEST_PICTURE: u64 = 32 * 1024 * 1024;
/// Of a table, and of a text.
const ROWS: usize = 12;
const COLUMNS: usize = 12;
const LINES: usize = 40;
/// Letters of a table's cell.
const LETTERS: usize = 120;

/// A file of an output.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) size: u64,
    place: String,
}

/// How many files of a page may still be looked into.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(LOOKED_INTO)
    }
}

/// The files of an output.
pub(crate) async fn list(api: &Api, made: &Artifact) -> Result<Vec<File>, Refusal> {
    let manifest = artifact::read_manifest(api.store(), made).await;
    let manifest = manifest.map_err(|error| Refusal::of(&error))?;
    let files = manifest.entries.into_iter().filter_map(|entry| {
        let EntryKind::File {
            size, stored_as, ..
        } = entry.kind
        else {
            return None;
        };
        let stored = stored_as.as_deref().unwrap_or(&entry.path);
        let place = format!("{}/{stored}", made.prefix);
        Some(File {
            path: entry.path,
            size,
            place,
        })
    });
    Ok(files.collect())
}

/// The first bytes of a file, at most so many.
pub(crate) async fn beginning(api: &Api, file: &File, most: u64) -> Result<Bytes, Refusal> {
    if file.size == 0 {
        return Ok(Bytes::new());
    }
    let place = StorePath::parse(&file.place)
        .map_err(|error| Refusal::new(StatusCode::BAD_GATEWAY, error.to_string()))?;
    let range = 0..file.size.min(most);
    let read = api.store().objects().get_range(&place, range).await;
    read.map_err(|error| Refusal::of_store(&error))
}

/// The media type of a picture, by its first bytes.
fn picture(bytes: &[u8]) -> Option<&'static str> {
    let is = |magic: &[u8]| bytes.starts_with(magic);
    if is(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if is(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if is(b"GIF87a") || is(b"GIF89a") {
        Some("image/gif")
    } else if is(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else {
        None
    }
}

/// A picture as an answer, where the file is one.
pub(crate) async fn show(
    api: &Api,
    made: &Artifact,
    path: Option<&str>,
) -> Result<Response, Refusal> {
    let none = |why: &str| Refusal::new(StatusCode::NOT_FOUND, why);
    let files = list(api, made).await?;
    let file = match path {
        Some(path) => files.iter().find(|file| file.path == path),
        None => files.first(),
    };
    let file = file.ok_or_else(|| none("there is no such file"))?;
    if file.size > LARGEST_PICTURE {
        return Err(none("it is too large to be shown"));
    }
    let bytes = beginning(api, file, LARGEST_PICTURE).await?;
    let kind = picture(&bytes).ok_or_else(|| none("it is no picture that is shown here"))?;
    let mut response = Body::from(bytes).into_response();
    let headers = response.headers_mut();
    crate::api::logs::inert(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // What a step published is never changed.
    let keep = HeaderValue::from_static("private, max-age=3600, immutable");
    headers.insert(header::CACHE_CONTROL, keep);
    Ok(response)
}

fn ending(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    ending.unwrap_or_default().to_ascii_lowercase()
}

/// Where a file of an output is.
fn href(run: &str, step: &str, output: &str, path: &str, show: bool) -> String {
    let show = if show { "true" } else { "" };
    let query = query(&[
        ("step", step),
        ("output", output),
        ("path", path),
        ("show", show),
    ]);
    format!("/run/{run}/file?{query}")
}

/// An output of a step, as far as it is shown.
pub(super) async fn preview(
    api: &Api,
    run: &str,
    (step, output): (&str, &str),
    made: &Artifact,
    budget: &mut Budget,
) -> Result<Markup, Refusal> {
    let files = list(api, made).await?;
    let mut shown = Vec::new();
    for file in files.iter().take(LISTED) {
        let inside = if budget.0 > 0 {
            budget.0 -= 1;
            inside(api, run, (step, output), file).await?
        } else {
            Inside::Nothing
        };
        let long = matches!(inside, Inside::Long(_));
        shown.push(html! {
            div class=(if long { "file card long" } else { "file card" }) {
                @match inside {
                    Inside::Short(markup) | Inside::Long(markup) => (markup),
                    Inside::Nothing => {}
                }
                div class="what" {
                    a href=(href(run, step, output, &file.path, false)) download { (file.path) }
                    span class="quiet" { (size(file.size)) }
                }
            }
        });
    }
    Ok(html! {
        @if files.is_empty() { p class="quiet" { "No files." } }
        div class="files" { @for one in shown { (one) } }
        @if files.len() > LISTED { p class="quiet" { "The first " (LISTED) " of " (files.len()) " files." } }
    })
}

enum Inside {
    /// It stands beside others.
    Short(Markup),
    /// It takes the whole width.
    Long(Markup),
    Nothing,
}

async fn inside(
    api: &Api,
    run: &str,
    (step, output): (&str, &str),
    file: &File,
) -> Result<Inside, Refusal> {
    let kind = ending(&file.path);
    if matches!(kind.as_str(), "png" | "jpg" | "jpeg" | "gif" | "webp") {
        if file.size > LARGEST_PICTURE || picture(&beginning(api, file, 16).await?).is_none() {
            return Ok(Inside::Nothing);
        }
        let src = href(run, step, output, &file.path, true);
        return Ok(Inside::Short(html! {
            a href=(src) { img src=(src) alt=(file.path) loading="lazy"; }
        }));
    }
    let bytes = beginning(api, file, PREVIEW).await?;
    let whole = file.size <= PREVIEW;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        // Cut off in the middle of a letter.
        Err(error) if !whole && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return Ok(Inside::Nothing),
    };
    if text.contains('\0') || text.trim().is_empty() {
        return Ok(Inside::Nothing);
    }
    let table = match kind.as_str() {
        "csv" => separated(text, b','),
        "tsv" => separated(text, b'\t'),
        "jsonl" | "ndjson" => objects(
            text.lines()
                .map_while(|line| serde_json::from_str(line).ok()),
        ),
        "json" if whole => match serde_json::from_str(text) {
            Ok(Value::Array(all)) => objects(all.into_iter()),
            Ok(Value::Object(one)) => return Ok(object(&one)),
            _ => None,
        },
        _ => None,
    };
    if let Some(table) = table {
        return Ok(Inside::Long(shown_table(&table)));
    }
    let lines: Vec<&str> = text.lines().take(LINES).collect();
    let more = !whole || text.lines().nth(LINES).is_some();
    let poem = kind == "txt" && lines.len() <= 4;
    let wide = lines.iter().any(|line| line.len() > 60) || lines.len() > 16;
    let shown = html! {
        pre class=[poem.then_some("poem")] tabindex="0" { (lines.join("\n")) @if more { "\n…" } }
    };
    Ok(if wide {
        Inside::Long(shown)
    } else {
        Inside::Short(shown)
    })
}

struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    more: bool,
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LETTERS {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(LETTERS - 1).collect();
    cut.push('…');
    cut
}

fn separated(text: &str, by: u8) -> Option<Table> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(by)
        .flexible(true)
        .from_reader(text.as_bytes());
    let head = reader.headers().ok()?;
    let head: Vec<String> = head.iter().take(COLUMNS).map(cut).collect();
    let mut rows = Vec::new();
    let mut more = false;
    for record in reader.records().map_while(Result::ok) {
        if rows.len() == ROWS {
            more = true;
            break;
        }
        rows.push(record.iter().take(COLUMNS).map(cut).collect());
    }
    (!rows.is_empty()).then_some(Table { head, rows, more })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text),
        Value::Null => String::new(),
        other => cut(&other.to_string()),
    }
}

/// A table of objects, where all are.
fn objects(values: impl Iterator<Item = Value>) -> Option<Table> {
    let mut head: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    let mut more = false;
    for value in values {
        let Value::Object(one) = value else {
            return None;
        };
        if rows.len() == ROWS {
            more = true;
            break;
        }
        for name in one.keys() {
            if head.len() < COLUMNS && !head.contains(name) {
                head.push(name.clone());
            }
        }
        rows.push(one);
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|one| {
            let cells = head.iter();
            let cells = cells.map(|name| one.get(name).map(plain).unwrap_or_default());
            cells.collect()
        })
        .collect();
    (!rows.is_empty()).then_some(Table { head, rows, more })
}

fn object(one: &serde_json::Map<String, Value>) -> Inside {
    let long = one
        .values()
        .any(|value| value.is_object() || value.is_array());
    let shown = html! {
        div class="pad" {
            dl class="facts" {
                @for (name, value) in one.iter().take(LINES) { dt { (name) } dd { (plain(value)) } }
            }
        }
    };
    if long {
        Inside::Long(shown)
    } else {
        Inside::Short(shown)
    }
}

fn shown_table(table: &Table) -> Markup {
    html! {
        div class="wide" tabindex="0" role="region" aria-label="Table" {
            table {
                thead { tr { @for name in &table.head { th { (name) } } } }
                tbody { @for row in &table.rows { tr { @for cell in row { td { (cell) } } } } }
            }
            @if table.more { p class="quiet pad" { "The first " (table.rows.len()) " rows." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ending, objects, picture, separated};
    use serde_json::json;

    #[test]
    fn a_picture_is_one_by_its_bytes() {
        assert_eq!(picture(b"\x89PNG\r\n\x1a\n..."), Some("image/png"));
        assert_eq!(picture(b"RIFF....WEBPVP8 "), Some("image/webp"));
        assert_eq!(picture(b"<svg xmlns=\"http://www.w3.org/2000/svg\">"), None);
        assert_eq!(picture(b"<html><script>"), None);
        assert_eq!(ending("deep/one.PNG"), "png");
        assert_eq!(ending("none"), "");
    }

    #[test]
    fn tables_are_read_in_part() {
        let mut text = "a,b\n".to_owned();
        for row in 0..40 {
            text += &format!("{row},\"x,{row}\"\n");
        }
        let table = separated(&text, b',').unwrap();
        assert_eq!(table.head, ["a", "b"]);
        assert_eq!((table.rows.len(), table.more), (super::ROWS, true));
        assert_eq!(table.rows[1], ["1", "x,1"]);
        let table = objects([json!({"a": 1}), json!({"b": "x", "a": null})].into_iter()).unwrap();
        assert_eq!(table.head, ["a", "b"]);
        assert_eq!(table.rows, [["1", ""], ["", "x"]]);
        assert!(objects([json!(1)].into_iter()).is_none());
    }
}
