//! What is said beside the picture: the caption with its marker, within each network's limits,
//! and the alt text.
//!
//! The marker is how a post is found again: a hashtag made from the day and the work alone, which
//! every try of the same post carries.

use super::record::Kind;
use crate::entry::Entry;

/// Characters of an alt text, on both networks.
const MOST_ALT: usize = 1000;
/// Characters of a caption on Instagram, counted as UTF-16 does, which is never less than it does.
const MOST_INSTAGRAM: usize = 2200;
/// Weighted characters of a post on X.
const MOST_X: usize = 280;
/// What X counts for an address, whatever its length.
const X_ADDRESS: usize = 23;

/// The marker of a day's post: `#auria20261130x3fa9c1`.
#[must_use]
pub fn marker(day: &str, work: &str) -> String {
    let digest = blake3::hash(format!("auria-post-1\n{day}\n{work}").as_bytes()).to_hex();
    let digits: String = day.chars().filter(char::is_ascii_digit).collect();
    format!("#auria{digits}x{}", &digest[..6])
}

/// Whether a text carries this marker, and not one that only begins with it.
#[must_use]
pub fn carries(text: &str, marker: &str) -> bool {
    text.match_indices(marker).any(|(at, _)| {
        let next = text[at + marker.len()..].chars().next();
        !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
    })
}

/// The caption for a network: as much of the entry's as fits, and always the marker.
#[must_use]
pub fn caption(kind: Kind, entry: &Entry, marker: &str) -> String {
    let fits = |text: &str| match kind {
        Kind::Instagram => text.encode_utf16().count() <= MOST_INSTAGRAM,
        Kind::X => weight(text) <= MOST_X,
    };
    let whole = |text: &str| format!("{}\n\n{marker}", text.trim_end());
    let poem = plain(&entry.lines.join("\n"));
    for text in [plain(&entry.caption), poem.clone()] {
        if fits(&whole(&text)) {
            return whole(&text);
        }
    }
    // Whole words of the poem, as many as fit.
    let mut ends: Vec<usize> = poem
        .char_indices()
        .filter(|(_, letter)| letter.is_whitespace())
        .map(|(at, _)| at)
        .collect();
    if ends.is_empty() {
        ends = poem.char_indices().map(|(at, _)| at).collect();
    }
    let cut = |end: usize| whole(&format!("{}…", poem[..end].trim_end()));
    let count = ends.partition_point(|end| fits(&cut(*end)));
    match count.checked_sub(1).and_then(|last| ends.get(last)) {
        Some(end) => cut(*end),
        None => marker.to_owned(),
    }
}

/// The alt text, for those who do not see the picture.
#[must_use]
pub fn alt(entry: &Entry) -> String {
    let text = entry.alt.trim();
    if text.encode_utf16().count() <= MOST_ALT {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut length = 1;
    for letter in text.chars() {
        length += letter.len_utf16();
        if length > MOST_ALT {
            break;
        }
        kept.push(letter);
    }
    format!("{}…", kept.trim_end())
}

/// Without what would name somebody or set a hashtag of its own: Instagram takes 30 of these, and
/// a poem should call nobody.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|letter| !matches!(letter, '@' | '#' | '＠' | '＃'))
        .filter(|letter| *letter == '\n' || !letter.is_control())
        .collect()
}

/// What X counts: 1 for the letters of most alphabets, 2 for all others (its published ranges),
/// and 23 for what it takes to be an address.
fn weight(text: &str) -> usize {
    let letters = |word: &str| -> usize {
        word.chars()
            .map(|letter| match u32::from(letter) {
                0..=4351 | 8192..=8205 | 8208..=8223 | 8242..=8247 => 1,
                _ => 2,
            })
            .sum()
    };
    text.split_inclusive(char::is_whitespace)
        .map(|word| {
            let counted = letters(word);
            if looks_like_an_address(word) {
                counted.max(X_ADDRESS + 1)
            } else {
                counted
            }
        })
        .sum()
}

/// A dot between letters is enough for X to make a link of a word.
fn looks_like_an_address(word: &str) -> bool {
    let letters: Vec<char> = word.chars().collect();
    letters
        .windows(3)
        .any(|three| three[1] == '.' && three[0].is_alphanumeric() && three[2].is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Picture;

    fn entry(lines: &[String]) -> Entry {
        let picture = Picture {
            file: String::new(),
            width: 1,
            height: 1,
            bytes: 1,
            digest: String::new(),
        };
        Entry {
            key: "k".repeat(64),
            created: "2026-11-30T06:00:00.000Z".to_owned(),
            run: None,
            lines: lines.to_vec(),
            mood: None,
            topic: None,
            seed: None,
            artwork: None,
            caption: format!("{}\n\nPainted from these words.", lines.join("\n")),
            alt: format!("A painting: {}", lines.join(" / ")),
            coloured: picture.clone(),
            painting: picture,
        }
    }

    #[test]
    fn a_marker_is_the_days_and_the_works_alone() {
        let one = marker("2026-11-30", "a");
        assert_eq!(one, marker("2026-11-30", "a"));
        assert_ne!(one, marker("2026-11-30", "b"));
        assert_ne!(one, marker("2026-12-01", "a"));
        assert!(
            one.starts_with("#auria20261130x") && one.len() == 21,
            "{one}"
        );
        assert!(carries(&format!("a poem\n\n{one}"), &one));
        assert!(carries(&format!("{one} https://t.co/x"), &one));
        assert!(!carries(&format!("{one}0"), &one));
    }

    #[test]
    fn the_marker_is_in_every_caption_however_long_the_poem() {
        let marker = marker("2026-11-30", "a");
        let word = |word: &str, count| vec![format!("{word} ").repeat(count)];
        let poems = [
            word("pond", 2),
            word("pond", 50),
            word("pond", 5000),
            word("池や蛙", 900),
            word("🌊", 2000),
            word("a.bc", 600),
            vec!["水".repeat(5000)],
        ];
        for lines in &poems {
            let entry = entry(lines);
            let text = caption(Kind::X, &entry, &marker);
            assert!(weight(&text) <= 280, "{}: {text}", weight(&text));
            assert!(carries(&text, &marker));
            let text = caption(Kind::Instagram, &entry, &marker);
            assert!(text.encode_utf16().count() <= 2200);
            assert!(carries(&text, &marker));
            assert!(alt(&entry).encode_utf16().count() <= 1000);
        }
        let short = caption(Kind::X, &entry(&poems[0]), &marker);
        assert!(short.contains("Painted from these words."), "{short}");
        let long = caption(Kind::X, &entry(&poems[2]), &marker);
        assert!(weight(&long) > 270, "as much as fits: {long}");
        assert!(long.contains("pond…"), "whole words: {long}");
    }

    #[test]
    fn a_poem_calls_nobody() {
        let text = caption(
            Kind::Instagram,
            &entry(&["@somebody and #tags".to_owned()]),
            "#auria1x2",
        );
        assert_eq!(text.matches('#').count(), 1, "{text}");
        assert!(!text.contains('@'));
    }

    #[test]
    fn x_counts_as_published() {
        assert_eq!(weight("abc\n"), 4);
        assert_eq!(
            weight("é“”…"),
            5,
            "the ellipsis is outside of the light ranges"
        );
        assert_eq!(weight("水"), 2);
        assert_eq!(weight("see x.com"), 4 + 24);
    }
}
