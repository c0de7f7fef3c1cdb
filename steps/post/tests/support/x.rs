//! The part of X's API v2 that posting needs, as strict as it is published: each request's OAuth
//! 1.0a signature is computed anew, and unknown fields and a wrong order are refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::instagram::only;
use super::network::{Answer, Api, Request};

pub const KEYS: [(&str, &str); 4] = [
    ("AURIA_X_API_KEY", "x-api-key-of-the-app"),
    ("AURIA_X_API_SECRET", "x-api-secret-of-the-app"),
    ("AURIA_X_ACCESS_TOKEN", "1-x-access-token-of-the-user"),
    ("AURIA_X_ACCESS_SECRET", "x-access-secret-of-the-user"),
];
const ME: &str = "2244994945";

pub struct Tweet {
    pub id: String,
    pub text: String,
    pub alt: String,
    at: OffsetDateTime,
    seen_from: Instant,
}

/// Status, body and headers of an answer.
pub type Instead = (u16, Value, Vec<(String, String)>);

pub struct X {
    media: HashMap<String, Option<String>>,
    pub posts: Vec<Tweet>,
    nonces: HashSet<String>,
    next: u64,
    /// Answers each call of this name with this instead.
    pub instead: HashMap<String, Instead>,
    /// So long after posting, lists show a post.
    pub lag: Duration,
}

impl X {
    pub fn new() -> Self {
        Self {
            media: HashMap::new(),
            posts: Vec::new(),
            nonces: HashSet::new(),
            next: 0,
            instead: HashMap::new(),
            lag: Duration::ZERO,
        }
    }

    fn number(&mut self) -> String {
        self.next += 1;
        format!("144588054847232{:04}", self.next)
    }

    fn upload(&mut self, body: &Value) -> Answer {
        let Some(fields) = only(body, &["media", "media_category", "media_type"]) else {
            return problem(400, "Invalid Request");
        };
        let decoder = base64::engine::general_purpose::STANDARD;
        let bytes = decoder.decode(fields["media"].as_str().unwrap()).unwrap();
        let is_jpeg = image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg).is_ok();
        if !is_jpeg
            || bytes.len() > 5_000_000
            || fields["media_category"] != "tweet_image"
            || fields["media_type"] != "image/jpeg"
        {
            return problem(400, "The media is not as it says");
        }
        let id = self.number();
        self.media.insert(id.clone(), None);
        Answer::json(
            200,
            &json!({"data": {"id": id, "media_key": format!("3_{id}"), "size": bytes.len(),
                "expires_after_secs": 86400}}),
        )
    }

    fn describe(&mut self, body: &Value) -> Answer {
        let text = only(body, &["id", "metadata"])
            .and_then(|fields| only(&fields["metadata"], &["alt_text"]))
            .and_then(|fields| only(&fields["alt_text"], &["text"]))
            .and_then(|fields| fields["text"].as_str());
        let Some(text) = text.filter(|text| text.chars().count() <= 1000) else {
            return problem(400, "Invalid Request");
        };
        match self.media.get_mut(body["id"].as_str().unwrap()) {
            Some(alt) => *alt = Some(text.to_owned()),
            None => return problem(404, "No such media"),
        }
        let metadata = json!({"alt_text": {"text": text}});
        Answer::json(
            200,
            &json!({"data": {"id": body["id"], "associated_metadata": metadata}}),
        )
    }

    fn tweet(&mut self, body: &Value) -> Answer {
        let Some(fields) = only(body, &["text", "media", "made_with_ai"]) else {
            return problem(400, "Invalid Request");
        };
        let text = fields["text"].as_str().unwrap();
        let media = only(&fields["media"], &["media_ids"]).unwrap()["media_ids"].clone();
        let media: Vec<String> = serde_json::from_value(media).unwrap();
        let [media] = media.as_slice() else {
            return problem(400, "One picture");
        };
        let Some(Some(alt)) = self.media.get(media).cloned() else {
            return problem(400, "Your media IDs are invalid.");
        };
        // The published weights, without addresses: the tests' poems have none.
        let weight: usize = text
            .chars()
            .map(|letter| match u32::from(letter) {
                0..=4351 | 8192..=8205 | 8208..=8223 | 8242..=8247 => 1,
                _ => 2,
            })
            .sum();
        if weight > 280 {
            return problem(403, "Your Tweet text is too long.");
        }
        if self.posts.iter().any(|post| post.text == text) {
            return problem(
                403,
                "You are not allowed to create a Tweet with duplicate content.",
            );
        }
        let id = self.number();
        self.posts.push(Tweet {
            id: id.clone(),
            text: text.to_owned(),
            alt,
            at: OffsetDateTime::now_utc(),
            seen_from: Instant::now() + self.lag,
        });
        let data = json!({"id": id, "text": text, "edit_history_tweet_ids": [id]});
        Answer::json(201, &json!({"data": data}))
    }

    fn list(&self, request: &Request) -> Answer {
        let mut since = None;
        for (name, value) in &request.query {
            match name.as_str() {
                "max_results" if (5..=100).contains(&value.parse::<u32>().unwrap_or(0)) => {}
                "start_time" if value.len() == 20 => {
                    since = OffsetDateTime::parse(value, &Rfc3339).ok();
                }
                _ => return problem(400, "One or more parameters to your request was invalid."),
            }
        }
        let since = since.unwrap();
        let seen = self.posts.iter().rev();
        let seen = seen.filter(|post| post.seen_from <= Instant::now() && post.at >= since);
        let data: Vec<Value> = seen
            .map(|post| {
                let text = format!("{} https://t.co/abcdefghij", post.text);
                json!({"id": post.id, "text": text, "edit_history_tweet_ids": [post.id]})
            })
            .collect();
        if data.is_empty() {
            return Answer::json(200, &json!({"meta": {"result_count": 0}}));
        }
        let meta = json!({"result_count": data.len(), "newest_id": data[0]["id"]});
        Answer::json(200, &json!({"data": data, "meta": meta}))
    }

    /// Whether the request is signed as RFC 5849 has it.
    fn is_signed(&mut self, request: &Request) -> bool {
        let Some(header) = request.headers.get("authorization") else {
            return false;
        };
        let Some(header) = header.strip_prefix("OAuth ") else {
            return false;
        };
        let decode = |text: &str| -> String {
            let pair = format!("x={}", text.replace('+', "%2B"));
            url::form_urlencoded::parse(pair.as_bytes())
                .next()
                .unwrap()
                .1
                .into_owned()
        };
        let mut oauth: BTreeMap<String, String> = header
            .split(", ")
            .map(|part| part.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), decode(value.trim_matches('"'))))
            .collect();
        let signature = oauth.remove("oauth_signature").unwrap_or_default();
        let mut pairs: Vec<(String, String)> = oauth
            .iter()
            .chain(request.query.iter().map(|(name, value)| (name, value)))
            .map(|(name, value)| (encode(name), encode(value)))
            .collect();
        pairs.sort();
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let base = [
            request.method.clone(),
            encode(&format!("{}{}", request.origin, request.path)),
            encode(&pairs.join("&")),
        ]
        .join("&");
        let key = format!("{}&{}", encode(KEYS[1].1), encode(KEYS[3].1));
        let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(base.as_bytes());
        let right = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let has = |name: &str, value: &str| oauth.get(name).map(String::as_str) == Some(value);
        let at: i64 = oauth["oauth_timestamp"].parse().unwrap();
        signature == right
            && has("oauth_consumer_key", KEYS[0].1)
            && has("oauth_token", KEYS[2].1)
            && has("oauth_signature_method", "HMAC-SHA1")
            && has("oauth_version", "1.0")
            && (now - at).abs() < 300
            && self.nonces.insert(oauth["oauth_nonce"].clone())
    }
}

impl Api for X {
    fn name(&self, request: &Request) -> String {
        match request.path.strip_prefix("/2/") {
            Some("media/upload") => "upload",
            Some("media/metadata") => "metadata",
            Some("tweets") => "tweets",
            Some("users/me") => "me",
            Some(path) if path.ends_with("/tweets") => "list",
            _ => "other",
        }
        .to_owned()
    }

    fn answer(&mut self, request: &Request) -> Answer {
        if !self.is_signed(request) {
            let shown = request.headers.get("authorization").cloned();
            return problem(401, &format!("Unauthorized {}", shown.unwrap_or_default()));
        }
        let name = self.name(request);
        if let Some((status, body, headers)) = self.instead.get(&name) {
            let answer = Answer::json(*status, body);
            return headers
                .iter()
                .fold(answer, |answer, (name, value)| answer.with(name, value));
        }
        let is_bare = request.query.is_empty();
        match (request.method.as_str(), name.as_str()) {
            ("POST", "upload") if is_bare => self.upload(&request.json()),
            ("POST", "metadata") if is_bare => self.describe(&request.json()),
            ("POST", "tweets") if is_bare => self.tweet(&request.json()),
            ("GET", "me") if is_bare => {
                let me = json!({"id": ME, "name": "Auria", "username": "auria"});
                Answer::json(200, &json!({"data": me}))
            }
            ("GET", "list") if request.path == format!("/2/users/{ME}/tweets") => {
                self.list(request)
            }
            _ => problem(404, "Not Found"),
        }
    }
}

pub fn problem(status: u16, words: &str) -> Answer {
    Answer::json(status, &problem_body(status, words))
}

pub fn problem_body(status: u16, words: &str) -> Value {
    json!({"title": "Problem", "detail": words, "type": "about:blank", "status": status})
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
