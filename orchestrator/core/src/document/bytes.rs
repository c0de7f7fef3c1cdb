//! From the bytes of a file to its text, or what they are instead. Knows encodings
//! and a few kinds of files by their first bytes; knows nothing of YAML.

use super::source::{Place, Source};
use crate::diagnostic::{Code, Diagnostic};
use std::sync::Arc;

/// Most bytes of one file. People write kilobytes; programs that write pipelines,
/// megabytes.
pub const MAX_BYTES: usize = 16 << 20;

/// Bytes that are enough to see which encoding a text has.
const SAMPLE: usize = 4096;

/// First bytes of files that are taken for a pipeline by mistake.
const KINDS: &[(&[u8], &str)] = &[
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x7fELF", "a program"),
    (b"%PDF-", "a PDF document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
];

/// The text of the file `name`. A byte order mark of UTF-8 stays; the reader knows it.
///
/// # Errors
/// Where it is too large, or no text in UTF-8: what it seems to be, and at which
/// place that shows.
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<Arc<Source>, Box<Diagnostic>> {
    if bytes.len() > MAX_BYTES {
        return Err(too_large(name, &bytes));
    }
    if let Some((_, kind)) = KINDS.iter().find(|(first, _)| bytes.starts_with(first)) {
        return Err(not_text(
            name,
            &bytes,
            0,
            &format!("this is {kind}, not a pipeline file"),
        ));
    }
    if let Some(text) = utf16(&bytes) {
        let source = Source::new(name, text);
        let place = Place::new(&source, source.line_range(0));
        let message = "the file is text in UTF-16, and pipeline files are UTF-8";
        let found = Diagnostic::error(Code::Utf16, message, &place).help(format!(
            "save it as UTF-8 in the editor, or: iconv -f UTF-16 -t UTF-8 {name} > NEW"
        ));
        return Err(Box::new(found));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let message = "the file is no text: it holds a zero byte here";
        return Err(not_text(name, &bytes, at, message));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let (source, place) = shown(name, &bytes, at);
            let message = format!("byte 0x{:02x} is no UTF-8 here", bytes[at]);
            let encoded = Diagnostic::error(Code::NotUtf8, message, &place).help(format!(
                "save it as UTF-8 in the editor; if it is Latin-1: iconv -f LATIN1 -t UTF-8 {} > NEW",
                source.name()
            ));
            Err(Box::new(encoded))
        }
    }
}

fn too_large(name: &str, bytes: &[u8]) -> Box<Diagnostic> {
    let (source, _) = shown(name, &bytes[..SAMPLE], 0);
    let place = Place::new(&source, source.line_range(0));
    let message = format!(
        "the file has more than {} MiB: a pipeline file is text that people write",
        MAX_BYTES >> 20
    );
    Box::new(Diagnostic::error(Code::TooLarge, message, &place).help(
        "is it the right file? Data stays in files of its own, which an input names: `data: {type: uri_file, path: ./data}`",
    ))
}

fn not_text(name: &str, bytes: &[u8], at: usize, message: &str) -> Box<Diagnostic> {
    let (_, place) = shown(name, bytes, at);
    let help = "is it the right file? A pipeline file is text that begins with `type: pipeline`";
    Box::new(Diagnostic::error(Code::NotText, message, &place).help(help))
}

/// The bytes up to the end of the line of `at`, as far as they can be shown, and
/// the place of the byte at `at` in them.
fn shown(name: &str, bytes: &[u8], at: usize) -> (Arc<Source>, Place) {
    let mut text = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let start = text.len();
    let rest = &bytes[at..bytes.len().min(at + 64)];
    let end = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len());
    text.push_str(&String::from_utf8_lossy(&rest[..end]));
    let first = text[start..].chars().next().map_or(0, char::len_utf8);
    let source = Source::new(name, text);
    let place = Place::new(&source, start..start + first);
    (source, place)
}

/// The beginning of a text in UTF-16: one with a byte order mark, or one in which
/// every second byte is zero.
fn utf16(bytes: &[u8]) -> Option<String> {
    let sample = &bytes[..bytes.len().min(SAMPLE) & !1];
    let little = match sample {
        [0xff, 0xfe, ..] => true,
        [0xfe, 0xff, ..] => false,
        _ => {
            let zeros = |odd: usize| {
                sample
                    .iter()
                    .skip(odd)
                    .step_by(2)
                    .filter(|byte| **byte == 0)
            };
            let (first, second) = (zeros(0).count(), zeros(1).count());
            let pairs = sample.len() / 2;
            if pairs < 4 || first.max(second) * 10 < pairs * 9 || first.min(second) > 0 {
                return None;
            }
            second > first
        }
    };
    let units = sample.chunks_exact(2).map(|pair| match little {
        true => u16::from_le_bytes([pair[0], pair[1]]),
        false => u16::from_be_bytes([pair[0], pair[1]]),
    });
    let text: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Some(text.trim_start_matches('\u{feff}').to_owned())
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, decode};

    fn code(bytes: &[u8]) -> (&'static str, usize, usize) {
        let found = decode("p.yml", bytes.to_vec()).unwrap_err();
        (found.code.as_str(), found.line(), found.column())
    }

    #[test]
    fn what_is_no_text_is_told_apart() {
        let utf16 = |text: &str, mark: bool| -> Vec<u8> {
            let mark = mark.then_some(0xfeff);
            mark.into_iter()
                .chain(text.encode_utf16())
                .flat_map(u16::to_le_bytes)
                .collect()
        };
        assert_eq!(code(&utf16("type: pipeline\n", true)), ("utf-16", 1, 1));
        assert_eq!(code(&utf16("type: pipeline\n", false)), ("utf-16", 1, 1));
        assert_eq!(code(b"type: x\nname: caf\xe9\n"), ("not-utf-8", 2, 10));
        assert_eq!(code(b"a: b\nc: \0\n"), ("not-text", 2, 4));
        assert_eq!(code(b"\x89PNG\r\n\x1a\n\0\0"), ("not-text", 1, 1));
        assert_eq!(code(&vec![b'a'; MAX_BYTES + 1]), ("too-large", 1, 1));
        assert_eq!(code(b"\xff"), ("not-utf-8", 1, 1));
        assert!(decode("p.yml", Vec::new()).is_ok());
        assert!(decode("p.yml", "\u{feff}a: é".into()).is_ok());
    }
}
