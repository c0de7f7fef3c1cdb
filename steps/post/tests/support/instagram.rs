//! The part of Instagram's Graph API that publishing needs, as strict as it is published: unknown
//! parameters, a wrong order, and pictures that cannot be fetched or are not as they must be are
//! refused.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::network::{Answer, Api, Request, fetch};

pub const USER: &str = "17841400000000001";
pub const TOKEN: &str = "IGQVJ-secret-token-of-instagram";

#[derive(Clone, Copy, PartialEq)]
enum Status {
    InProgress,
    Finished,
    Published,
}

struct Container {
    status: Status,
    caption: String,
    alt: String,
}

pub struct Media {
    pub id: String,
    pub caption: String,
    pub alt: String,
    pub at: OffsetDateTime,
    seen_from: Instant,
}

#[derive(Default)]
pub struct Instagram {
    containers: HashMap<String, Container>,
    pub posts: Vec<Media>,
    next: u64,
    pub quota_usage: u64,
    /// Answers each call with this error instead.
    pub error: Option<(u16, Value)>,
    /// So long after publishing, lists show a post.
    pub lag: Duration,
    /// So many looks at a published container still say that it is finished.
    pub late: u32,
    /// The first page of a list is empty, and others follow.
    pub has_empty_page: bool,
    /// Bytes of the last picture that was fetched.
    pub fetched: usize,
    /// Posts on a page.
    pub page: usize,
}

impl Instagram {
    pub fn new() -> Self {
        Self {
            page: 50,
            ..Self::default()
        }
    }

    fn number(&mut self) -> String {
        self.next += 1;
        format!("1790000000000{:04}", self.next)
    }

    /// Somebody posts by hand.
    pub fn post_by_hand(&mut self, caption: &str) {
        let id = self.number();
        self.posts.push(Media {
            id,
            caption: caption.to_owned(),
            alt: String::new(),
            at: OffsetDateTime::now_utc(),
            seen_from: Instant::now(),
        });
    }

    fn make(&mut self, body: &Value) -> Answer {
        let Some(fields) = only(body, &["image_url", "caption", "alt_text"]) else {
            return error(400, 100, 0, "Invalid parameter");
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let (caption, alt) = (text("caption"), text("alt_text"));
        let count = |sign: char| caption.chars().filter(|letter| *letter == sign).count();
        if caption.encode_utf16().count() > 2200 || count('#') > 30 || count('@') > 20 {
            return error(400, 100, 2_207_010, "The caption is too long");
        }
        if alt.is_empty() || alt.chars().count() > 1000 {
            return error(400, 100, 0, "alt_text must have 1 to 1000 characters");
        }
        let (kind, bytes) = match fetch(text("image_url")) {
            Ok(found) => found,
            Err(why) => {
                let words = format!(
                    "Only photo or video can be accepted: {why} {}",
                    text("image_url")
                );
                return error(400, 9004, 2_207_052, &words);
            }
        };
        let picture = image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg);
        let is_good =
            picture.is_ok_and(|picture| (picture.width(), picture.height()) == (1080, 1080));
        if kind != "image/jpeg" || !is_good || bytes.len() > 8 << 20 {
            return error(400, 36001, 2_207_005, "The image format is not supported");
        }
        self.fetched = bytes.len();
        let id = self.number();
        let container = Container {
            status: Status::InProgress,
            caption: caption.to_owned(),
            alt: alt.to_owned(),
        };
        self.containers.insert(id.clone(), container);
        Answer::json(200, &json!({"id": id}))
    }

    fn publish(&mut self, body: &Value) -> Answer {
        let Some(fields) = only(body, &["creation_id"]) else {
            return error(400, 100, 0, "Invalid parameter");
        };
        let id = fields["creation_id"].as_str().unwrap_or_default();
        let Some(container) = self.containers.get_mut(id) else {
            return error(400, 24, 2_207_006, "The requested resource does not exist");
        };
        if container.status != Status::Finished {
            return error(
                400,
                9007,
                2_207_027,
                "The media is not ready for publishing",
            );
        }
        container.status = Status::Published;
        let (caption, alt) = (container.caption.clone(), container.alt.clone());
        let id = self.number();
        self.posts.push(Media {
            id: id.clone(),
            caption,
            alt,
            at: OffsetDateTime::now_utc(),
            seen_from: Instant::now() + self.lag,
        });
        Answer::json(200, &json!({"id": id}))
    }

    fn list(&self, request: &Request) -> Answer {
        let mut from = 0;
        let is_first = !request.query.iter().any(|(name, _)| name == "after");
        for (name, value) in &request.query {
            match name.as_str() {
                "fields" if value == "id,caption,timestamp,permalink" => {}
                "limit" if (1..=100).contains(&value.parse::<u32>().unwrap_or(0)) => {}
                "after" => from = value.parse().unwrap(),
                _ => return error(400, 100, 0, "Invalid parameter"),
            }
        }
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+0000");
        let seen: Vec<&Media> = self
            .posts
            .iter()
            .rev()
            .filter(|post| post.seen_from <= Instant::now())
            .collect();
        let page: Vec<Value> = seen
            .iter()
            .skip(from)
            .take(if is_first && self.has_empty_page {
                0
            } else {
                self.page
            })
            .map(|post| {
                json!({"id": post.id, "caption": post.caption,
                    "timestamp": post.at.format(format).unwrap(),
                    "permalink": format!("https://www.instagram.com/p/{}/", post.id)})
            })
            .collect();
        let after = from + page.len();
        let mut paging =
            json!({"cursors": {"before": from.to_string(), "after": after.to_string()}});
        if after < seen.len() {
            paging["next"] = json!(format!("{}/more", request.origin));
        }
        Answer::json(200, &json!({"data": page, "paging": paging}))
    }

    fn show(&mut self, id: &str, fields: &str) -> Answer {
        if let Some(container) = self.containers.get_mut(id) {
            if fields != "status_code" {
                return error(400, 100, 0, "Invalid parameter");
            }
            let status = container.status;
            // Finished by the next look.
            if status == Status::InProgress {
                container.status = Status::Finished;
            }
            let status = match status {
                Status::Published if self.late > 0 => {
                    self.late -= 1;
                    "FINISHED"
                }
                Status::InProgress => "IN_PROGRESS",
                Status::Finished => "FINISHED",
                Status::Published => "PUBLISHED",
            };
            return Answer::json(200, &json!({"status_code": status, "id": id}));
        }
        let is_there = self.posts.iter().any(|post| post.id == id);
        if is_there && fields == "permalink" {
            let permalink = format!("https://www.instagram.com/p/{id}/");
            return Answer::json(200, &json!({"permalink": permalink, "id": id}));
        }
        error(
            400,
            100,
            33,
            "Unsupported get request. Object does not exist",
        )
    }
}

impl Api for Instagram {
    fn name(&self, request: &Request) -> String {
        let path = request.path.trim_start_matches("/v24.0/");
        match path.split_once('/') {
            Some((_, "media")) if request.method == "GET" => "list".to_owned(),
            Some((_, edge)) => edge.to_owned(),
            None if request.query.iter().any(|(_, value)| value == "permalink") => {
                "permalink".to_owned()
            }
            None => "status".to_owned(),
        }
    }

    fn answer(&mut self, request: &Request) -> Answer {
        if let Some((status, body)) = &self.error {
            return Answer::json(*status, body);
        }
        let shown = request.headers.get("authorization").map(String::as_str);
        if shown != Some(&format!("Bearer {TOKEN}")) {
            let words = format!("Invalid OAuth access token {}", shown.unwrap_or_default());
            return error(401, 190, 0, &words);
        }
        let Some(path) = request.path.strip_prefix("/v24.0/") else {
            return error(400, 2500, 0, "Unknown path components");
        };
        let is_fields = |fields: &str| request.query == [("fields".to_owned(), fields.to_owned())];
        match (request.method.as_str(), path.split_once('/')) {
            ("GET", None) if request.query.len() == 1 && request.query[0].0 == "fields" => {
                self.show(path, &request.query[0].1)
            }
            (_, Some((user, _))) if user != USER => error(400, 100, 33, "No such user"),
            ("POST", Some((_, "media"))) if request.query.is_empty() => self.make(&request.json()),
            ("POST", Some((_, "media_publish"))) if request.query.is_empty() => {
                self.publish(&request.json())
            }
            ("GET", Some((_, "media"))) => self.list(request),
            ("GET", Some((_, "content_publishing_limit"))) if is_fields("config,quota_usage") => {
                let config = json!({"quota_total": 100, "quota_duration": 86400});
                let limit = json!({"quota_usage": self.quota_usage, "config": config});
                Answer::json(200, &json!({"data": [limit]}))
            }
            _ => error(400, 100, 0, "Unsupported request"),
        }
    }
}

pub fn error(status: u16, code: i64, subcode: i64, words: &str) -> Answer {
    Answer::json(status, &error_body(code, subcode, words))
}

pub fn error_body(code: i64, subcode: i64, words: &str) -> Value {
    json!({"error": {"message": words, "type": "OAuthException", "code": code,
        "error_subcode": subcode, "is_transient": false, "fbtrace_id": "A6LJylpZRKw2xKLFsAP-cJh"}})
}

/// The object, where it has these fields and no others.
pub fn only<'a>(body: &'a Value, fields: &[&str]) -> Option<&'a serde_json::Map<String, Value>> {
    let object = body.as_object()?;
    let is_whole = fields.iter().all(|field| object.contains_key(*field));
    (is_whole && object.len() == fields.len()).then_some(object)
}
