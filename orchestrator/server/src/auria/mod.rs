//! Auria's own page, at `/auria`, for visitors without a token: one picks a mood, gives a word,
//! and watches a work come to be; keeps it, shares it by its address, and walks through the
//! gallery. It is there only where whoever serves names the endpoint that it calls.
//!
//! Visitors give one of some moods and one plain word, and nothing else. Their works are made
//! one at a time, few may wait, and an address may ask for few. What they see is of their works
//! and of the gallery's alone: a poem, and pictures.

mod pictures;
mod studio;
mod views;
mod work;

use crate::api::Api;
use crate::endpoints::Endpoints;
use crate::pages::{asset, is_foreign, page};
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use pictures::Pictures;
use serde::Deserialize;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use studio::{Asked, NotTaken, Studio};
use tokio::sync::Semaphore;
use work::{Part, Works};

/// A form is no longer.
const LARGEST_FORM: usize = 1024;
/// Visitors who watch at once.
const WATCHERS: usize = 256;
/// Letters of a word.
const LONGEST_WORD: usize = 24;

/// The moods that a visitor picks from: as the artist's steps name them, and as people do.
pub(crate) const MOODS: [(&str, &str); 12] = [
    ("happiness", "Joy"),
    ("love", "Love"),
    ("trust", "Calm"),
    ("optimism", "Hope"),
    ("anticipation", "Longing"),
    ("surprise", "Wonder"),
    ("gratitude", "Gratitude"),
    ("agreeableness", "Tenderness"),
    ("sadness", "Melancholy"),
    ("regret", "Nostalgia"),
    ("fear", "Fear"),
    ("anger", "Anger"),
];

/// Auria's page. Clones are the same.
#[derive(Clone)]
pub struct Auria(Arc<Inner>);

struct Inner {
    works: Works,
    studio: Studio,
    pictures: Pictures,
    watchers: Arc<Semaphore>,
}

impl std::fmt::Debug for Auria {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auria")
    }
}

impl Auria {
    /// The page whose works `endpoint` makes; its gallery is what the runs of `experiment` made.
    #[must_use]
    pub fn new(api: Api, endpoints: Endpoints, endpoint: &str, experiment: &str) -> Self {
        Self(Arc::new(Inner {
            works: Works::new(api.clone(), endpoint, experiment),
            studio: Studio::new(api.clone(), endpoints, endpoint),
            pictures: Pictures::new(api),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
        }))
    }

    /// What it answers, below no base. It must be served with the addresses of its callers.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/auria", get(home).post(begin))
            .route("/auria/gallery", get(gallery))
            .route("/auria/work/{run}", get(show))
            .route("/auria/work/{run}/events", get(events))
            .route("/auria/work/{run}/{picture}", get(picture))
            .route(
                "/auria/style.css",
                get(async || asset(views::STYLE, "text/css; charset=utf-8")),
            )
            .route(
                "/auria/page.js",
                get(async || asset(views::SCRIPT, "text/javascript; charset=utf-8")),
            )
            .layer(DefaultBodyLimit::max(LARGEST_FORM))
            .with_state(self.clone())
    }

    /// Makes visitors' works, until it is dropped.
    pub async fn run(&self) {
        self.0.studio.run().await;
    }
}

/// The address that a request came from. A proxy on this machine says whose it passes on.
fn address(peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = || {
        let text = headers.get("x-forwarded-for")?.to_str().ok()?;
        text.rsplit(',').next()?.trim().parse().ok()
    };
    match peer.ip() {
        own if own.is_loopback() => forwarded().unwrap_or(own),
        other => other,
    }
}

async fn home(State(auria): State<Auria>) -> Response {
    answered(
        auria
            .0
            .works
            .gallery(None, views::FIRST)
            .await
            .map(|found| {
                let latest = found.0.first().cloned();
                views::home(latest.as_ref(), &found.0, None)
            }),
    )
}

#[derive(Deserialize)]
struct After {
    after: Option<String>,
}

async fn gallery(State(auria): State<Auria>, Query(query): Query<After>) -> Response {
    let found = auria.0.works.gallery(query.after, views::PAGE).await;
    answered(found.map(|(works, next)| views::gallery(&works, next.as_deref())))
}

fn answered(made: Result<maud::Markup, work::Missing>) -> Response {
    match made {
        Ok(markup) => page(StatusCode::OK, &markup),
        Err(missing) => page(missing.status(), &views::missing(missing)),
    }
}

/// A word of letters: it goes to programs as it is.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = |letter: char| letter.is_alphabetic() || letter == ' ' || letter == '-';
    let short = text.chars().count() <= LONGEST_WORD;
    (short && text.chars().all(plain) && !text.starts_with('-')).then(|| text.to_lowercase())
}

async fn begin(
    State(auria): State<Auria>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if is_foreign(&headers) {
        return page(
            StatusCode::FORBIDDEN,
            &views::missing(work::Missing::Unknown),
        );
    }
    let field = |wanted: &str| {
        let mut fields = url::form_urlencoded::parse(body.as_bytes());
        fields.find_map(|(name, value)| (name == wanted).then(|| value.into_owned()))
    };
    let mood = field("mood").unwrap_or_default();
    let mood = MOODS.iter().find(|(name, _)| *name == mood);
    let word = plain(&field("word").unwrap_or_default());
    let (Some((mood, _)), Some(word)) = (mood, word) else {
        let why = "Pick one of the moods, and give one word of letters alone, or none.";
        return again(&auria, StatusCode::UNPROCESSABLE_ENTITY, why).await;
    };
    let asked = Asked {
        mood: (*mood).to_owned(),
        word,
    };
    match auria.0.studio.ask(asked, address(peer, &headers)) {
        Ok(run) => Redirect::to(&format!("/auria/work/{run}")).into_response(),
        Err(NotTaken::Yours(run)) => Redirect::to(&format!("/auria/work/{run}")).into_response(),
        Err(NotTaken::Full) => {
            let why = "Many are waiting for a work at this moment. Come back in a little while.";
            again(&auria, StatusCode::SERVICE_UNAVAILABLE, why).await
        }
        Err(NotTaken::Often) => {
            let why = "You have had several works in a short time. Give her a few minutes.";
            again(&auria, StatusCode::TOO_MANY_REQUESTS, why).await
        }
    }
}

async fn again(auria: &Auria, status: StatusCode, why: &str) -> Response {
    let works = auria.0.works.gallery(None, views::FIRST).await;
    let works = works.map(|found| found.0).unwrap_or_default();
    page(status, &views::home(works.first(), &works, Some(why)))
}

async fn show(State(auria): State<Auria>, Path(run): Path<String>) -> Response {
    if let Some(ahead) = auria.0.studio.waiting(&run) {
        return page(
            StatusCode::OK,
            &views::coming(&run, &work::Seen::waiting(ahead)),
        );
    }
    match auria.0.works.seen(&run).await {
        Ok(seen) if seen.is_over() => page(StatusCode::OK, &views::work(&run, &seen)),
        Ok(seen) => page(StatusCode::OK, &views::coming(&run, &seen)),
        Err(missing) => page(missing.status(), &views::missing(missing)),
    }
}

/// A work as it comes to be: each event is all that is known of it.
async fn events(State(auria): State<Auria>, Path(run): Path<String>) -> Response {
    let Ok(place) = Arc::clone(&auria.0.watchers).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    if auria.0.studio.waiting(&run).is_none()
        && let Err(missing) = auria.0.works.seen(&run).await
    {
        return missing.status().into_response();
    }
    let seen = watch(auria, run);
    let events = futures::StreamExt::map(seen, move |seen| {
        let _place = &place;
        let event = Event::default().event("seen").json_data(&seen);
        Ok::<_, Infallible>(event.unwrap_or_default())
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// All that is seen of a work, each time that something is new, to its end.
fn watch(auria: Auria, run: String) -> impl futures::Stream<Item = work::Seen> + Send {
    let moves = auria.0.studio.moves();
    let begun = (auria, run, moves, None::<work::Seen>);
    futures::stream::unfold(begun, |(auria, run, mut moves, last)| async move {
        if last.as_ref().is_some_and(work::Seen::is_over) {
            return None;
        }
        loop {
            // Before the look: nothing falls between the two.
            moves.borrow_and_update();
            let change = auria.0.works.change(&run);
            let seen = match auria.0.studio.waiting(&run) {
                Some(ahead) => work::Seen::waiting(ahead),
                None => auria.0.works.seen(&run).await.ok()?,
            };
            if last.as_ref() != Some(&seen) {
                return Some((seen.clone(), (auria, run, moves, Some(seen))));
            }
            tokio::select! {
                () = change => {}
                changed = moves.changed() => changed.ok()?,
            }
        }
    })
}

async fn picture(
    State(auria): State<Auria>,
    Path((run, picture)): Path<(String, String)>,
) -> Response {
    let Some((part, size)) = Part::of(&picture) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match auria.0.works.made(&run, part).await {
        Ok(made) => auria.0.pictures.answer(&made, part, size).await,
        Err(missing) => missing.status().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::{address, plain};
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn a_word_is_letters() {
        assert_eq!(plain(" Rain ").as_deref(), Some("rain"));
        assert_eq!(plain("").as_deref(), Some(""));
        assert_eq!(plain("früher Schnee").as_deref(), Some("früher schnee"));
        for wrong in [
            "it's",
            "$(id)",
            "a;b",
            "--out",
            "a\nb",
            "x".repeat(25).as_str(),
        ] {
            assert_eq!(plain(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_proxy_of_this_machine_says_whose_a_request_is() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            HeaderValue::from_static("10.0.0.1, 203.0.113.9"),
        );
        let of = |peer: &str| address(peer.parse().unwrap(), &headers).to_string();
        assert_eq!(of("127.0.0.1:1"), "203.0.113.9");
        assert_eq!(of("198.51.100.7:1"), "198.51.100.7");
    }
}
