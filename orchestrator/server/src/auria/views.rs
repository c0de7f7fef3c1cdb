//! How Auria's page looks.

use super::MOODS;
use super::work::{Missing, Seen, Stage, Work};
use auria_core::Timestamp;
use maud::{DOCTYPE, Markup, html};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

pub(super) const STYLE: &str = include_str!("assets/auria.css");
pub(super) const SCRIPT: &str = include_str!("assets/auria.js");

/// Works of the first page, and of each page of the gallery.
pub(super) const FIRST: usize = 7;
pub(super) const PAGE: usize = 24;

fn whole(title: &str, describe: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="description" content=(describe);
                meta property="og:title" content=(title);
                meta property="og:description" content=(describe);
                title { (title) }
                link rel="stylesheet" href="/auria/style.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                script src="/auria/page.js" defer {}
            }
            body {
                header {
                    a class="name" href="/auria" { "Auria Kathi" }
                    a href="/auria/gallery" { "Gallery" }
                }
                (body)
                footer {
                    p { "Auria is a program. She writes a haiku, paints it, and colours the painting in a mood." }
                }
            }
        }
    }
}

const DAY: &[FormatItem<'_>] = format_description!("[day padding:none] [month repr:long] [year]");

fn day(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000))
        .ok()
        .and_then(|at| at.format(DAY).ok())
        .unwrap_or_default()
}

/// A mood as people say it.
fn mood(name: &str) -> String {
    let known = MOODS.iter().find(|(known, _)| *known == name);
    known.map_or_else(|| name.to_owned(), |(_, said)| said.to_lowercase())
}

/// What a picture shows, for who does not see it.
fn told(seen: &Seen) -> String {
    format!("A painting of the poem “{}”", seen.poem.join(" / "))
}

/// Under which mood, about what, and when.
fn signed(seen: &Seen) -> String {
    let mut parts = Vec::new();
    if !seen.mood.is_empty() {
        parts.push(format!("in {}", mood(&seen.mood)));
    }
    if !seen.word.is_empty() {
        parts.push(format!("about {}", seen.word));
    }
    let made = seen.made.map(day).unwrap_or_default();
    match parts.is_empty() {
        true => made,
        false => format!("{}, {made}", parts.join(", ")),
    }
}

fn poem(seen: &Seen) -> Markup {
    html! { div class="poem" { @for line in &seen.poem { p { (line) } } } }
}

fn tile(work: &Work) -> Markup {
    let at = format!("/auria/work/{}", work.run);
    html! {
        li {
            a href=(at) {
                img src=(format!("{at}/picture-small.jpg")) alt=(told(&work.seen)) width="480" height="480" loading="lazy";
                span class="under" {
                    (work.seen.poem.first().map_or("", String::as_str))
                    small { (signed(&work.seen)) }
                }
            }
        }
    }
}

pub(super) fn home(latest: Option<&Work>, works: &[Work], wrong: Option<&str>) -> Markup {
    let body = html! {
        main {
            @if let Some(work) = latest {
                @let at = format!("/auria/work/{}", work.run);
                section class="latest" aria-label="Her latest work" {
                    a class="frame" href=(at) {
                        img src=(format!("{at}/picture.jpg")) alt=(told(&work.seen)) width="1080" height="1080";
                    }
                    div class="beside" {
                        (poem(&work.seen))
                        p class="signed" { (signed(&work.seen)) }
                    }
                }
            }
            section class="ask" aria-labelledby="ask" {
                h1 id="ask" { "Ask her for one" }
                p class="lead" { "Pick a mood and give her a word. She will write, and paint, and you can watch." }
                @if let Some(why) = wrong { p class="wrong" role="alert" { (why) } }
                form method="post" action="/auria" {
                    fieldset {
                        legend { "A mood" }
                        div class="moods" {
                            @for (number, (name, said)) in MOODS.iter().enumerate() {
                                span {
                                    input type="radio" name="mood" id=(format!("mood-{name}")) value=(name) required
                                        checked[number == 2];
                                    label for=(format!("mood-{name}")) { (said) }
                                }
                            }
                        }
                    }
                    div class="word" {
                        label for="word" { "A word" }
                        input id="word" name="word" maxlength="24" placeholder="rain, harbour, first snow…"
                            autocomplete="off" autocapitalize="off" spellcheck="false";
                    }
                    button { "Begin" }
                }
            }
            @if works.len() > 1 {
                section class="more" aria-labelledby="more" {
                    h2 id="more" { "Day by day" }
                    ul class="works" { @for work in &works[1..] { (tile(work)) } }
                    p class="on" { a href="/auria/gallery" { "All her works" } }
                }
            }
        }
    };
    let describe =
        "An artist who is a program: a haiku, its painting, its colours. Ask her for one.";
    whole("Auria Kathi", describe, &body)
}

pub(super) fn gallery(works: &[Work], next: Option<&str>) -> Markup {
    let body = html! {
        main {
            h1 { "Gallery" }
            p class="lead" { "Her works, day by day." }
            @if works.is_empty() { p class="lead" { "The walls are empty yet." } }
            ul class="works" { @for work in works { (tile(work)) } }
            @if let Some(next) = next {
                p class="on" { a rel="next" href=(format!("/auria/gallery?after={next}")) { "Earlier works" } }
            }
        }
    };
    whole("Gallery · Auria Kathi", "Auria's works, day by day.", &body)
}

fn acts(run: &str) -> Markup {
    let at = format!("/auria/work/{run}");
    html! {
        div class="acts" {
            a class="act" href=(format!("{at}/picture.png")) download=(format!("auria-{run}.png")) { "Keep" }
            button class="act" type="button" data-share=(at) hidden { "Share" }
            button class="act" type="button" data-again hidden { "Watch it again" }
            a class="act" href="/auria#ask" { "Another" }
        }
        p class="shared" role="status" data-shared {}
    }
}

/// A work that is there.
pub(super) fn work(run: &str, seen: &Seen) -> Markup {
    let at = format!("/auria/work/{run}");
    if seen.stage == Stage::Failed {
        return failed();
    }
    let body = html! {
        main class="work" {
            div class="canvas frame still" data-canvas {
                img class="sketch" data-src=(format!("{at}/sketch.png")) alt="" hidden;
                img class="painting" data-src=(format!("{at}/painting.jpg")) alt="" hidden;
                img class="picture" src=(format!("{at}/picture.jpg")) alt=(told(seen)) width="1080" height="1080";
            }
            div class="beside" {
                h1 class="quietly" { "A work of Auria’s" }
                div data-poem { (poem(seen)) }
                p class="signed" { (signed(seen)) }
                (acts(run))
            }
        }
    };
    let title = seen.poem.first().map_or("Auria Kathi", String::as_str);
    whole(
        &format!("{title} · Auria Kathi"),
        &seen.poem.join(" / "),
        &body,
    )
}

/// A work that comes to be.
pub(super) fn coming(run: &str, seen: &Seen) -> Markup {
    let at = format!("/auria/work/{run}");
    let says = match seen.stage {
        Stage::Waiting => "You are in line",
        Stage::Writing => "She is writing",
        Stage::Painting => "She is painting what she wrote",
        Stage::Colouring => "She is giving it its colours",
        Stage::Done | Stage::Failed => "",
    };
    let body = html! {
        main class="work" data-work=(at) {
            noscript { meta http-equiv="refresh" content="4"; }
            div class="canvas frame" data-canvas {
                img class="sketch" data-src=(format!("{at}/sketch.png")) alt="" hidden;
                img class="painting" data-src=(format!("{at}/painting.jpg")) alt="" hidden;
                img class="picture" data-src=(format!("{at}/picture.jpg")) alt="" width="1080" height="1080" hidden;
            }
            div class="beside" {
                h1 class="quietly" { "A work of Auria’s, as it comes to be" }
                div data-poem aria-live="polite" { (poem(seen)) }
                p class="says" role="status" data-says { (says) }
                div data-after hidden { (acts(run)) }
            }
        }
    };
    whole(
        "Auria is at work",
        "A work of Auria’s, as it comes to be.",
        &body,
    )
}

fn failed() -> Markup {
    let body = html! {
        main class="lone" {
            h1 { "This one did not come to be" }
            p class="lead" { "Something went wrong while she was at it. " a href="/auria#ask" { "Ask her for another." } }
        }
    };
    whole("Auria Kathi", "This work did not come to be.", &body)
}

pub(super) fn missing(missing: Missing) -> Markup {
    let why = match missing {
        Missing::Unknown => "There is no such work here.",
        Missing::Away => "Her works cannot be reached at this moment. Come back in a little while.",
    };
    let body = html! {
        main class="lone" {
            h1 { (why) }
            p class="lead" { a href="/auria" { "Back to Auria" } }
        }
    };
    whole("Auria Kathi", why, &body)
}
