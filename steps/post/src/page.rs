//! The gallery's page: one static HTML file, newest work first.
//!
//! Rendered by [`crate::gallery`] from the entries alone, so that the same entries always make the
//! same bytes. No script, nothing from elsewhere: it can lie in a folder, in a bucket, or on a
//! stick. Every text passes through maud's escaping.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::entry::{Entry, Picture};

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#faf8f3;--ink:#24211c;--soft:#6b6459;--line:#e2dccf}\
@media(prefers-color-scheme:dark){:root{--paper:#171614;--ink:#e9e4da;--soft:#a39b8d;--line:#34312c}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--paper);color:var(--ink);font:1.05rem/1.6 Georgia,'Times New Roman',serif}\
header,main,footer{max-width:72rem;margin:0 auto;padding:1.25rem}\
header h1{font-weight:normal;font-size:1.9rem;margin:1rem 0 0}\
header p,footer{color:var(--soft);margin:.25rem 0 1rem}\
main{display:grid;gap:2.5rem 2rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}\
article{border-top:1px solid var(--line);padding-top:1.25rem;overflow-wrap:anywhere}\
img{display:block;width:100%;height:auto;background:var(--line)}\
.poem{margin:1rem 0 .75rem;white-space:pre-line}\
.made{display:grid;grid-template-columns:1fr 4.5rem;gap:.75rem;align-items:start;\
font-size:.85rem;line-height:1.45;color:var(--soft)}\
.made p{margin:0}\
a{color:inherit}";

/// The page that shows `entries` in their order.
#[must_use]
pub fn render(entries: &[Entry]) -> String {
    let works = match entries.len() {
        1 => "1 work".to_owned(),
        count => format!("{count} works"),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; img-src 'self'; style-src 'unsafe-inline'";
                title { "Auria Kathi" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Auria Kathi" }
                    p { "Poems, the paintings made of them, and their moods. " (works) "." }
                }
                main {
                    @for entry in entries { (article(entry)) }
                }
                footer { "Made by auria-pipeline." }
            }
        }
    }
    .into_string()
}

fn article(entry: &Entry) -> Markup {
    html! {
        article id=(format!("work-{}", entry.key.get(..12).unwrap_or(&entry.key))) {
            a href=(address(entry, &entry.coloured)) { (picture(entry, &entry.coloured, &entry.alt)) }
            p.poem { (entry.lines.join("\n")) }
            div.made {
                p { (made(entry)) br; time datetime=(entry.created) { (day(&entry.created)) } }
                a href=(address(entry, &entry.painting)) {
                    (picture(entry, &entry.painting, "The painting before it was coloured"))
                }
            }
        }
    }
}

fn picture(entry: &Entry, picture: &Picture, alt: &str) -> Markup {
    html! {
        img src=(address(entry, picture)) width=(picture.width) height=(picture.height)
            alt=(alt) loading="lazy" decoding="async";
    }
}

/// Relative, so that the gallery can be moved. Only the file's name is taken from the entry's
/// text; the folder is the key.
fn address(entry: &Entry, picture: &Picture) -> String {
    format!("entries/{}/{}", entry.key, picture.file)
}

fn made(entry: &Entry) -> String {
    let mut parts = Vec::new();
    match (&entry.mood, &entry.artwork) {
        (Some(mood), Some(artwork)) => parts.push(format!("Coloured in {mood} after {artwork}")),
        (Some(mood), None) => parts.push(format!("Coloured in {mood}")),
        (None, Some(artwork)) => parts.push(format!("Coloured after {artwork}")),
        (None, None) => {}
    }
    if let Some(topic) = &entry.topic {
        parts.push(format!("about {topic}"));
    }
    if let Some(seed) = entry.seed {
        parts.push(format!("seed {seed}"));
    }
    parts.join(", ")
}

/// The day of an RFC 3339 time.
fn day(created: &str) -> &str {
    created.split('T').next().unwrap_or(created)
}
