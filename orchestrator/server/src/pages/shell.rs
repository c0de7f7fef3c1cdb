//! What every page has: its frame, and how times, statuses and sizes are told.

use auria_core::Timestamp;
use auria_core::outcome::Status;
use maud::{DOCTYPE, Markup, html};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

/// One style for all pages.
pub(super) const STYLE: &str = include_str!("assets/style.css");
/// One script for all pages.
pub(super) const SCRIPT: &str = include_str!("assets/page.js");

/// Where a page belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Runs,
    Endpoints,
    Schedules,
    /// Before anybody is known.
    Outside,
}

const ROOMS: [(Room, &str, &str); 3] = [
    (Room::Runs, "/", "Runs"),
    (Room::Endpoints, "/endpoints", "Endpoints"),
    (Room::Schedules, "/schedules", "Schedules"),
];

/// A whole page.
pub(super) fn whole(room: Room, title: &str, body: &Markup) -> Markup {
    framed(room, title, None, body)
}

/// A whole page about something that goes on: its parts with `data-live` are renewed while
/// `events` tells of changes.
pub(super) fn framed(room: Room, title: &str, events: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Auria Pipeline" }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                script src="/page.js" defer {}
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                header class="top" {
                    div {
                        a class="brand" href="/" { "Auria Pipeline" }
                        @if room != Room::Outside {
                            nav aria-label="Pages" {
                                @for (one, href, name) in ROOMS {
                                    a href=(href) aria-current=[(one == room).then_some("page")] { (name) }
                                }
                            }
                            form method="post" action="/logout" { button class="link" { "Sign out" } }
                        }
                    }
                }
                main id="main" tabindex="-1" data-events=[events] { (body) }
                footer { p { "Times are UTC." } }
            }
        }
    }
}

const SHOWN: &[FormatItem<'_>] =
    format_description!("[day padding:none] [month repr:short] [year], [hour]:[minute]:[second]");

/// A time, to the second.
pub(super) fn time(at: Timestamp) -> Markup {
    let shown = OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000))
        .ok()
        .and_then(|at| at.format(SHOWN).ok())
        .unwrap_or_else(|| at.to_string());
    html! { time datetime=(at) { (shown) } }
}

/// A time that may not have come.
pub(super) fn maybe(at: Option<Timestamp>) -> Markup {
    html! { @if let Some(at) = at { (time(at)) } }
}

/// How long something took.
pub(super) fn took(millis: u64) -> String {
    let seconds = millis / 1000;
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..10_000 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10_000..90_000 => format!("{seconds} s"),
        90_000..5_400_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// How long from one time to another.
pub(super) fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => took(to.millis_since(from)),
        _ => String::new(),
    }
}

/// How many bytes.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut left, mut unit) = (bytes * 10 / 1024, 0);
    while left >= 10_240 && unit + 1 < UNITS.len() {
        left /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", left / 10, left % 10, UNITS[unit])
}

/// The word of a status.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::NotStarted => "Not started",
        Status::Queued => "Queued",
        Status::Preparing => "Preparing",
        Status::Running => "Running",
        Status::Finalizing => "Finalizing",
        Status::CancelRequested => "Cancel requested",
        Status::Completed => "Completed",
        Status::Failed => "Failed",
        Status::Canceled => "Canceled",
        Status::NotResponding => "Not responding",
        Status::Reused => "Reused",
        Status::Skipped => "Skipped",
    }
}

/// The sign of a status, for who sees no colours.
pub(super) fn sign(status: Status) -> &'static str {
    match status {
        Status::Completed => "✓",
        Status::Reused => "↺",
        Status::Failed => "✕",
        Status::NotResponding => "!",
        Status::Running | Status::Preparing | Status::Finalizing => "●",
        Status::Canceled | Status::CancelRequested | Status::Skipped => "–",
        Status::NotStarted | Status::Queued => "○",
    }
}

/// All statuses that a run may have.
pub(super) const OF_RUNS: [Status; 7] = [
    Status::Queued,
    Status::Running,
    Status::CancelRequested,
    Status::Completed,
    Status::Failed,
    Status::Canceled,
    Status::NotResponding,
];

/// A status.
pub(super) fn pill(status: Status) -> Markup {
    html! {
        span class=(format!("pill {status:?}")) { i aria-hidden="true" { (sign(status)) } (word(status)) }
    }
}

/// A query of these pairs.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    query.finish()
}

/// A page that says only that something is not to be had.
pub(super) fn refused(room: Room, title: &str, why: &str) -> Markup {
    whole(
        room,
        title,
        &html! { p class="alert" role="alert" { (why) } },
    )
}

/// Where a token is asked for.
pub(super) fn login(wrong: bool) -> Markup {
    whole(
        Room::Outside,
        "Sign in",
        &html! {
            h1 { "Sign in" }
            @if wrong {
                p class="alert" role="alert" { "This token is not known, has expired, or was revoked." }
            }
            form class="ask" method="post" action="/login" {
                div {
                    label for="token" { "Token" }
                    input id="token" name="token" type="password" autocomplete="off" required autofocus;
                    p class="hint" {
                        code { "auria-pipeline token create NAME --scope read" } " makes one that may look; "
                        code { "submit" } " may also start and cancel."
                    }
                }
                div { button class="first" { "Sign in" } }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{size, time, took};
    use auria_core::Timestamp;

    #[test]
    fn times_and_sizes_are_told_as_people_write_them() {
        let told: Vec<String> = [440, 1500, 12_000, 200_000, 7_500_000]
            .map(took)
            .into_iter()
            .collect();
        assert_eq!(told, ["440 ms", "1.5 s", "12 s", "3 min 20 s", "2 h 5 min"]);
        assert_eq!(size(52), "52 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
        let shown = time(Timestamp(1_767_323_045_678)).into_string();
        assert!(shown.contains(">2 Jan 2026, 03:04:05<"), "{shown}");
    }
}
