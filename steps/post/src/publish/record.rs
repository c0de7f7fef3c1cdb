//! The record of one day's post on one network: what is to be posted, and how far it has come.
//!
//! It is written before every call that could be seen by others and after it, and holds all that
//! a process needs that goes on where another died. It never holds a credential or a signed
//! address.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use super::caption;
use crate::entry::Entry;

/// The version of this format.
pub const VERSION: u32 = 1;

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Instagram, by the content publishing of its Graph API.
    Instagram,
    /// X, by its API v2.
    X,
}

impl Kind {
    /// Its name in records and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Instagram => "instagram",
            Self::X => "x",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "instagram" => Ok(Self::Instagram),
            "x" => Ok(Self::X),
            other => Err(format!("no network `{other}`: instagram, x")),
        }
    }
}

/// How far a post has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is to be made; nothing that others could see has been called for.
    Intended,
    /// The call that others see is about to be made, or was: whether it had its effect is looked
    /// up before it is made again.
    Publishing,
    /// It is there, once.
    Posted,
    /// It may be there, and could not be looked up. Nothing is repeated before a look-up, or a
    /// person, says what is.
    Unknown,
    /// The network's limit is used up; nothing was posted.
    Held,
    /// The network refused; nothing was posted.
    Failed,
}

impl State {
    /// Its name in records and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Publishing => "publishing",
            Self::Posted => "posted",
            Self::Unknown => "unknown",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }
}

/// One day's post on one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this format.
    pub version: u32,
    /// Where it is posted.
    pub network: Kind,
    /// The day, `2026-11-30`.
    pub day: String,
    /// How far it has come.
    pub state: State,
    /// Key of the work's entry.
    pub work: String,
    /// The hashtag that it is found by.
    pub marker: String,
    /// What is said, the marker included.
    pub caption: String,
    /// What is said to those who do not see the picture.
    pub alt: String,
    /// The picture, below the place of the records.
    pub picture: String,
    /// Since when a post with this marker may be there.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// When this was written.
    #[serde(with = "time::serde::rfc3339")]
    pub changed: OffsetDateTime,
    /// When it was last called for.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub called: Option<OffsetDateTime>,
    /// How often it was called for.
    #[serde(default)]
    pub calls: u32,
    /// The process that is at it; none where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Instagram's container, which can be published once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The network's name for the post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where it is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permalink: Option<String>,
    /// When a held post may be tried again.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub retry_after: Option<OffsetDateTime>,
    /// Why it is as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Record {
    /// A post that is to be made.
    #[must_use]
    pub fn new(network: Kind, day: &str, entry: &Entry, now: OffsetDateTime) -> Self {
        let marker = caption::marker(day, &entry.key);
        Self {
            version: VERSION,
            network,
            day: day.to_owned(),
            state: State::Intended,
            work: entry.key.clone(),
            caption: caption::caption(network, entry, &marker),
            alt: caption::alt(entry),
            picture: picture_path(day, &entry.key),
            marker,
            since: now,
            changed: now,
            called: None,
            calls: 0,
            owner: None,
            container: None,
            id: None,
            permalink: None,
            retry_after: None,
            why: None,
        }
    }
}

/// Where the day's picture lies, below the place of the records.
fn picture_path(day: &str, work: &str) -> String {
    let work: String = work.chars().take(16).collect();
    format!("posts/{day}/{work}.jpg")
}

/// A day: `2026-11-30`, `20261130`, or a moment that begins with either.
///
/// # Errors
/// When it names none.
pub fn day(text: &str) -> Result<String, String> {
    let parts = |text: &str| -> Option<String> {
        let digits: String = match text.as_bytes() {
            [_, _, _, _, b'-', _, _, b'-', ..] => {
                [text.get(..4)?, text.get(5..7)?, text.get(8..10)?].concat()
            }
            _ => text.get(..8)?.to_owned(),
        };
        if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = |from: usize, to: usize| digits[from..to].parse::<u16>().ok();
        let month = u8::try_from(number(4, 6)?).ok()?.try_into().ok()?;
        let date = Date::from_calendar_date(
            i32::from(number(0, 4)?),
            month,
            u8::try_from(number(6, 8)?).ok()?,
        );
        date.ok()?;
        Some(format!(
            "{}-{}-{}",
            &digits[..4],
            &digits[4..6],
            &digits[6..]
        ))
    };
    parts(text.trim()).ok_or_else(|| format!("`{text}` is no day: write 2026-11-30"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_from_what_names_one() {
        for text in [
            "2026-11-30",
            "20261130",
            "2026-11-30T06:00:00.000Z",
            " 20261130T0600 ",
        ] {
            assert_eq!(day(text).unwrap(), "2026-11-30", "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "../../etc",
            "２０２６１１３０",
        ] {
            assert!(day(text).is_err(), "{text}");
        }
    }
}
