//! Instagram, by the content publishing of its Graph API: a container is made from the address
//! of a picture, and published once it is finished.
//!
//! A container is invisible and ends by itself after a day; only `media_publish` is seen by
//! others. A container can be published once, and says afterwards that it was.
//! <https://developers.facebook.com/docs/instagram-platform/content-publishing>

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::caption;
use super::claim::Claim;
use super::drive::{Found, Stop};
use super::http::{Answer, Base, Call, Client, Trouble, identifier, percent};
use super::record::Record;
use super::secrets::{self, Secrets};

/// Where its API is, for tokens of Instagram's own login.
pub const URL: &str = "https://graph.instagram.com/v24.0";

/// Looks at a container before giving up, with growing pauses: three minutes in all.
const MOST_LOOKS: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pages of 50 posts that a look-up reads.
const MOST_PAGES: u32 = 20;
/// Where a limit is reached and nothing says until when.
const HOUR: time::Duration = time::Duration::hours(1);
/// How far Instagram's clock may be behind ours.
const SKEW: time::Duration = time::Duration::hours(1);

/// Errors of `media_publish` that say for sure that nothing was published: of the token, of
/// permissions, and of an account that is held back.
const IS_SURE: [i64; 6] = [3, 4, 10, 102, 190, 200];

/// `2026-11-30T06:00:00+0000`.
const TIMESTAMP: &[BorrowedFormatItem<'_>] = format_description!(
    "[year]-[month]-[day]T[hour]:[minute]:[second][offset_hour sign:mandatory][offset_minute]"
);

/// An account on Instagram.
#[derive(Clone)]
pub struct Instagram {
    client: Client,
    base: Base,
    user: String,
    token: String,
    /// Pauses are this long instead, in tests.
    pause: Option<Duration>,
}

/// What a container says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    InProgress,
    Finished,
    Published,
    /// Expired, failed, or not known any more.
    Gone,
}

/// What the Graph API said, and its code.
struct Said {
    code: i64,
    trouble: Trouble,
}

impl Instagram {
    /// An account: its number and its token.
    #[must_use]
    pub fn new(client: Client, base: Base, user: String, token: String) -> Self {
        let pause = base.is_local().then(|| Duration::from_millis(50));
        Self {
            client,
            base,
            user,
            token,
            pause,
        }
    }

    /// Does all that nobody sees: a finished container, written into the record.
    ///
    /// # Errors
    /// When Instagram refuses or gives no answer, or the record is another's.
    pub async fn prepare(&self, claim: &mut Claim<'_>, picture: &url::Url) -> Result<String, Stop> {
        if let Some(container) = claim.record().container.clone() {
            match self.settled(claim, &container).await? {
                Container::Finished => return Ok(container),
                // The look-up came too early: a new container would be a second post.
                Container::Published => return Err(Stop::Called),
                Container::InProgress if claim.record().calls > 0 => return Err(Stop::Called),
                Container::InProgress | Container::Gone => {}
            }
            claim.write(|record| record.container = None).await?;
        }
        self.within_limit().await?;
        let record = claim.record();
        let body = json!({
            "image_url": picture.as_str(),
            "caption": record.caption,
            "alt_text": record.alt,
        });
        // What is wrong with the address may be said with the address, which is signed.
        let secrets =
            Secrets::of(std::iter::once(self.token.clone()).chain(secrets::of_address(picture)));
        let client = self.client.with_secrets(secrets);
        let path = format!("{}/media", self.user);
        let made = self
            .graph_by(&client, "make a container", &path, &[], Some(&body))
            .await
            .map_err(|said| said.trouble)?;
        let container = identifier(&made["id"]).ok_or_else(|| {
            Trouble::Unclear("Instagram made a container and did not say which".to_owned())
        })?;
        let kept = container.clone();
        claim.write(|record| record.container = Some(kept)).await?;
        match self.settled(claim, &container).await? {
            Container::Finished => Ok(container),
            Container::InProgress => Err(Trouble::Unclear(
                "Instagram is still at the picture after minutes".to_owned(),
            )
            .into()),
            Container::Published | Container::Gone => Err(Trouble::Refused(
                "Instagram could not take the picture: it must be able to fetch the JPEG from outside (`publish --dry-run` says from where)".to_owned(),
            )
            .into()),
        }
    }

    /// Makes the post seen by others, and says its number.
    ///
    /// # Errors
    /// [`Trouble::Unclear`] where it may be there nevertheless.
    pub async fn publish(&self, container: &str) -> Result<String, Trouble> {
        let body = json!({"creation_id": container});
        let path = format!("{}/media_publish", self.user);
        let sent = self
            .graph("publish the container", &path, &[], Some(&body))
            .await
            .map_err(|said| match (said.code, said.trouble) {
                // Only of these it is known that nothing was published.
                (code, Trouble::Refused(what)) if !IS_SURE.contains(&code) => {
                    Trouble::Unclear(what)
                }
                (_, trouble) => trouble,
            })?;
        identifier(&sent["id"])
            .ok_or_else(|| Trouble::Unclear("Instagram published and did not say what".to_owned()))
    }

    /// Where a post is seen, where Instagram says so.
    pub async fn permalink(&self, id: &str) -> Option<String> {
        let fields = [("fields", "permalink".to_owned())];
        let found = self.graph("show the post", id, &fields, None).await.ok()?;
        link(&found["permalink"])
    }

    /// Whether the post is there: by its container, and by its marker among the latest posts.
    ///
    /// # Errors
    /// When that cannot be said.
    pub async fn find(&self, record: &Record) -> Result<Option<Found>, Trouble> {
        let container = match &record.container {
            Some(container) => Some(self.status(container).await?),
            None => None,
        };
        if let Some(found) = self.search(record).await? {
            return Ok(Some(found));
        }
        match container {
            Some(Container::Published) => Ok(Some(Found {
                id: None,
                permalink: None,
            })),
            Some(Container::InProgress) => Err(Trouble::Unclear(
                "Instagram is still at the container".to_owned(),
            )),
            _ => Ok(None),
        }
    }

    async fn search(&self, record: &Record) -> Result<Option<Found>, Trouble> {
        let unclear = |why: &str| Trouble::Unclear(format!("the latest posts of Instagram {why}"));
        let path = format!("{}/media", self.user);
        let mut after: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = vec![
                ("fields", "id,caption,timestamp,permalink".to_owned()),
                ("limit", "50".to_owned()),
            ];
            query.extend(after.take().map(|after| ("after", after)));
            let page = self
                .graph("list the latest posts", &path, &query, None)
                .await
                .map_err(|said| said.trouble)?;
            let posts = page["data"]
                .as_array()
                .ok_or_else(|| unclear("are no list"))?;
            let mut newest: Option<OffsetDateTime> = None;
            for post in posts {
                let text = post["caption"].as_str().unwrap_or_default();
                if caption::carries(text, &record.marker) {
                    return Ok(Some(Found {
                        id: identifier(&post["id"]),
                        permalink: link(&post["permalink"]),
                    }));
                }
                let at = post["timestamp"].as_str().unwrap_or_default();
                let at = OffsetDateTime::parse(at, TIMESTAMP)
                    .map_err(|_| unclear("do not say when they were made"))?;
                newest = Some(newest.map_or(at, |newest| newest.max(at)));
            }
            // A page may be empty, and others follow: what it may not show is taken out of it.
            let is_older = newest.is_some_and(|newest| newest < record.since - SKEW);
            if is_older || !page["paging"]["next"].is_string() {
                return Ok(None);
            }
            let next = page["paging"]["cursors"]["after"].as_str();
            after = Some(
                next.ok_or_else(|| unclear("go on, and do not say where"))?
                    .to_owned(),
            );
        }
        Err(unclear("do not reach back to when this one was begun"))
    }

    /// The limit that the account may publish in a day.
    async fn within_limit(&self) -> Result<(), Trouble> {
        let path = format!("{}/content_publishing_limit", self.user);
        let fields = [("fields", "config,quota_usage".to_owned())];
        let found = self
            .graph("say its limit", &path, &fields, None)
            .await
            .map_err(|said| said.trouble)?;
        let limit = &found["data"][0];
        let used = limit["quota_usage"].as_u64().unwrap_or(0);
        match limit["config"]["quota_total"].as_u64() {
            Some(total) if used >= total => Err(Trouble::Quota {
                what: format!("{used} of {total} posts of 24 hours are used up on Instagram"),
                until: OffsetDateTime::now_utc() + HOUR,
            }),
            _ => Ok(()),
        }
    }

    /// Waits until a container is not in progress any more. The record is written at each look,
    /// so that nobody takes this process for dead.
    async fn settled(&self, claim: &mut Claim<'_>, container: &str) -> Result<Container, Stop> {
        for look in 0..MOST_LOOKS {
            let status = self.status(container).await?;
            if status != Container::InProgress {
                return Ok(status);
            }
            let pause = Duration::from_secs(1 << look.min(8)).min(LONGEST_PAUSE);
            tokio::time::sleep(self.pause.unwrap_or(pause)).await;
            claim.write(|_| ()).await?;
        }
        Ok(Container::InProgress)
    }

    async fn status(&self, container: &str) -> Result<Container, Trouble> {
        let fields = [("fields", "status_code".to_owned())];
        let found = match self
            .graph("say how the container is", container, &fields, None)
            .await
        {
            Ok(found) => found,
            // No such object: a container is forgotten after its day.
            Err(said) if said.code == 100 || said.code == 24 => return Ok(Container::Gone),
            Err(said) => return Err(said.trouble),
        };
        match found["status_code"].as_str() {
            Some("IN_PROGRESS") => Ok(Container::InProgress),
            Some("FINISHED") => Ok(Container::Finished),
            Some("PUBLISHED") => Ok(Container::Published),
            Some("ERROR" | "EXPIRED") => Ok(Container::Gone),
            _ => Err(Trouble::Unclear(
                "Instagram did not say how the container is".to_owned(),
            )),
        }
    }

    async fn graph(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Value, Said> {
        self.graph_by(&self.client, what, path, query, body).await
    }

    async fn graph_by(
        &self,
        client: &Client,
        what: &str,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Value, Said> {
        let mut url = self.base.at(path);
        for (place, (name, value)) in query.iter().enumerate() {
            let sign = if place == 0 { '?' } else { '&' };
            url = format!("{url}{sign}{name}={}", percent(value));
        }
        let call = Call {
            what: &format!("{what} on Instagram"),
            url: &url,
            authorization: &format!("Bearer {}", self.token),
            body,
        };
        let answer = client
            .call(&call)
            .await
            .map_err(|trouble| Said { code: 0, trouble })?;
        if answer.status == 200 && answer.body.is_object() && answer.body.get("error").is_none() {
            return Ok(answer.body);
        }
        Err(refusal(client, what, &answer))
    }
}

/// What an error of the Graph API means. Codes:
/// <https://developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/error-codes>
fn refusal(client: &Client, what: &str, answer: &Answer) -> Said {
    let error = &answer.body["error"];
    let code = error["code"].as_i64().unwrap_or(0);
    let subcode = error["error_subcode"].as_i64().unwrap_or(0);
    let words = error["error_user_msg"]
        .as_str()
        .or_else(|| error["message"].as_str())
        .unwrap_or("no reason given");
    let said = client.scrub(&format!(
        "Instagram would not {what} (HTTP {}, code {code}/{subcode}): {words}",
        answer.status
    ));
    let is_transient = error["is_transient"].as_bool().unwrap_or(false);
    let trouble = match (code, subcode) {
        (190 | 102, _) => Trouble::Refused(format!(
            "{said}; make a new token with instagram_business_basic and instagram_business_content_publish, and set AURIA_INSTAGRAM_TOKEN to it"
        )),
        (3 | 10 | 200..=299, _) => Trouble::Refused(format!(
            "{said}; the token needs instagram_business_basic and instagram_business_content_publish"
        )),
        (4, 2_207_051) => Trouble::Refused(format!(
            "{said}; sign in to the account and see what Instagram holds against it"
        )),
        (4 | 9 | 17 | 32 | 613, _) => Trouble::Quota {
            what: said,
            until: answer.again.unwrap_or(OffsetDateTime::now_utc() + HOUR),
        },
        // "Not ready for publishing", and errors after which posts have been seen to be there.
        (9007 | 1 | 2 | -1 | -2, _) => Trouble::Unclear(said),
        (9004, _) => Trouble::Refused(format!(
            "{said}; Instagram must be able to fetch the picture: set AURIA_POST_PUBLIC_URL to where the gallery is public"
        )),
        (0, _) if answer.status == 429 => Trouble::Quota {
            what: said,
            until: answer.again.unwrap_or(OffsetDateTime::now_utc() + HOUR),
        },
        (0, _) => Trouble::Unclear(said),
        _ if is_transient || answer.status >= 500 => Trouble::Unclear(said),
        _ => Trouble::Refused(said),
    };
    Said { code, trouble }
}

/// An address that can be shown.
fn link(value: &Value) -> Option<String> {
    let url = url::Url::parse(value.as_str()?).ok()?;
    (url.scheme() == "https" && url.as_str().len() <= 300).then(|| url.to_string())
}
