//! X, by its API v2: the picture is uploaded, given its alt text, and named by a post.
//!
//! What is uploaded is seen by nobody and ends by itself; only `POST /2/tweets` is seen by others.
//! X refuses the same text twice in a row, which is a second fence, not the first: whether a post
//! is there is looked up.
//! <https://docs.x.com/x-api/posts/create-post>, <https://docs.x.com/x-api/media/upload-media>,
//! <https://docs.x.com/x-api/media/create-media-metadata>

use base64::Engine as _;
use rand::Rng as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::caption;
use super::claim::Claim;
use super::drive::{Found, Stop};
use super::http::{Answer, Base, Call, Client, Trouble, identifier, percent};
use super::oauth::{Keys, Once};
use super::record::Record;
use super::secrets::Secrets;

/// Where its API is.
pub const URL: &str = "https://api.x.com";

/// Pages of 100 posts that a look-up reads.
const MOST_PAGES: u32 = 10;
/// X's windows are of a quarter of an hour where it says nothing else.
const QUARTER: time::Duration = time::Duration::minutes(15);
/// How far X's clock may be behind ours.
const SKEW: time::Duration = time::Duration::hours(1);

/// An account on X.
#[derive(Clone)]
pub struct X {
    client: Client,
    base: Base,
    keys: Keys,
}

impl X {
    /// An account, by OAuth 1.0a: its tokens do not expire. Those of OAuth 2.0 last two hours and
    /// are renewed by a token that changes each time, which would have to be kept somewhere.
    #[must_use]
    pub fn new(client: Client, base: Base, keys: Keys) -> Self {
        Self { client, base, keys }
    }

    /// Does all that nobody sees: the picture is there with its alt text.
    ///
    /// # Errors
    /// When X refuses or gives no answer, or the record is another's.
    pub async fn prepare(&self, claim: &mut Claim<'_>, jpeg: &[u8]) -> Result<String, Stop> {
        let body = json!({
            "media": base64::engine::general_purpose::STANDARD.encode(jpeg),
            "media_category": "tweet_image",
            "media_type": "image/jpeg",
        });
        let uploaded = self
            .call("take the picture", "2/media/upload", &[], Some(&body))
            .await?;
        let media = identifier(&uploaded["data"]["id"]).ok_or_else(|| {
            Trouble::Unclear("X took the picture and did not say as which".to_owned())
        })?;
        // So that nobody takes this process for dead.
        claim.write(|_| ()).await?;
        let body = json!({
            "id": media,
            "metadata": {"alt_text": {"text": claim.record().alt}},
        });
        self.call("take the alt text", "2/media/metadata", &[], Some(&body))
            .await?;
        Ok(media)
    }

    /// Makes the post seen by others, and says its number.
    ///
    /// # Errors
    /// [`Trouble::Unclear`] where it may be there nevertheless.
    pub async fn publish(&self, record: &Record, media: &str) -> Result<String, Trouble> {
        let body = json!({
            "text": record.caption,
            "media": {"media_ids": [media]},
            "made_with_ai": true,
        });
        let sent = self.call("post", "2/tweets", &[], Some(&body)).await?;
        identifier(&sent["data"]["id"])
            .ok_or_else(|| Trouble::Unclear("X posted and did not say what".to_owned()))
    }

    /// Where a post is seen.
    #[must_use]
    pub fn permalink(id: &str) -> String {
        format!("https://x.com/i/web/status/{id}")
    }

    /// Whether the post is there: by its marker among the latest posts.
    ///
    /// # Errors
    /// When that cannot be said.
    pub async fn find(&self, record: &Record) -> Result<Option<Found>, Trouble> {
        let unclear = |why: &str| Trouble::Unclear(format!("the latest posts of X {why}"));
        let me = self.call("say whose token this is", "2/users/me", &[], None);
        let me = identifier(&me.await?["data"]["id"])
            .ok_or_else(|| Trouble::Unclear("X did not say whose token this is".to_owned()))?;
        let since = (record.since - SKEW)
            .format(format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second]Z"
            ))
            .map_err(|error| Trouble::Unclear(error.to_string()))?;
        let path = format!("2/users/{me}/tweets");
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = vec![
                ("max_results", "100".to_owned()),
                ("start_time", since.clone()),
            ];
            query.extend(next.take().map(|next| ("pagination_token", next)));
            let page = self
                .call("list the latest posts", &path, &query, None)
                .await?;
            let count = page["meta"]["result_count"]
                .as_u64()
                .ok_or_else(|| unclear("are no list"))?;
            let none = Vec::new();
            let posts = page["data"].as_array().unwrap_or(&none);
            if count > 0 && posts.is_empty() {
                return Err(unclear("were not shown"));
            }
            for post in posts {
                let text = post["text"].as_str().unwrap_or_default();
                if caption::carries(text, &record.marker) {
                    let id = identifier(&post["id"]);
                    return Ok(Some(Found {
                        permalink: id.as_deref().map(Self::permalink),
                        id,
                    }));
                }
            }
            match page["meta"]["next_token"].as_str() {
                Some(token) => next = Some(token.to_owned()),
                None => return Ok(None),
            }
        }
        Err(unclear("do not reach back to when this one was begun"))
    }

    async fn call(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let url = self.base.at(path);
        let method = if body.is_some() { "POST" } else { "GET" };
        let once = Once {
            nonce: format!("{:032x}", rand::rng().random::<u128>()),
            timestamp: OffsetDateTime::now_utc().unix_timestamp(),
        };
        let authorization = self.keys.header(method, &url, query, &once);
        let mut whole = url;
        for (place, (name, value)) in query.iter().enumerate() {
            let sign = if place == 0 { '?' } else { '&' };
            whole = format!("{whole}{sign}{}={}", percent(name), percent(value));
        }
        let call = Call {
            what: &format!("{what} on X"),
            url: &whole,
            authorization: &authorization,
            body,
        };
        let answer = self.client.call(&call).await?;
        if (200..300).contains(&answer.status) && answer.body.is_object() {
            return Ok(answer.body);
        }
        // A refusal may say what it was asked with.
        let secrets = Secrets::of(self.keys.secrets().into_iter().chain([authorization]));
        Err(refusal(&secrets, what, &answer))
    }
}

/// What an error of X means: a problem document, or what stands before the API answers.
fn refusal(secrets: &Secrets, what: &str, answer: &Answer) -> Trouble {
    let words = answer.body["detail"]
        .as_str()
        .or_else(|| answer.body["errors"][0]["message"].as_str())
        .or_else(|| answer.body["title"].as_str())
        .unwrap_or("no reason given");
    let said = secrets.scrub(&format!(
        "X would not {what} (HTTP {}): {words}",
        answer.status
    ));
    match answer.status {
        401 => Trouble::Refused(format!(
            "{said}; look at the four AURIA_X_… variables (docs/posting.md) and at this machine's clock, which OAuth signs"
        )),
        // Ours, or one that says the same: looked up like a lost answer.
        403 if words.contains("duplicate") => Trouble::Unclear(said),
        403 => Trouble::Refused(format!(
            "{said}; the app needs the permission Read and write, and its tokens to be made anew afterwards"
        )),
        402 => Trouble::Refused(format!("{said}; the app's credits are used up")),
        429 => Trouble::Quota {
            what: said,
            until: answer.again.unwrap_or(OffsetDateTime::now_utc() + QUARTER),
        },
        400 | 404 | 405 | 409..=428 => Trouble::Refused(said),
        _ => Trouble::Unclear(said),
    }
}
