//! What networks refuse, what is missing, and how much fits: against local servers that keep to
//! the published APIs.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::instagram::{TOKEN, error_body};
use support::posting::{Posting, kept};
use support::x::problem_body;
use time::OffsetDateTime;

#[test]
fn a_post_says_what_it_should() {
    let posting = Posting::new();
    let said = posting.run(posting.publish("instagram,x", &["--output", "json"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told[0]["network"], "instagram");
    assert_eq!(told[0]["state"], "posted");
    assert_eq!(told[0]["new"], true);
    let instagram = posting.instagram.api.lock().unwrap();
    let media = &instagram.posts[0];
    assert_eq!(told[0]["id"], media.id);
    let link = format!("https://www.instagram.com/p/{}/", media.id);
    assert_eq!(told[0]["permalink"], link);
    let marker = told[0]["marker"].as_str().unwrap();
    assert_eq!(
        media.caption,
        format!(
            "the sky was stirring,\nand the sun grew very bright,\nand the sea was blue\n\n\
             Painted from these words, coloured in joy after “Waves” by Auria.\n\n{marker}"
        )
    );
    assert!(
        media.alt.starts_with("A painting, coloured in joy"),
        "{}",
        media.alt
    );
    assert!(instagram.fetched > 1000);
    let x = posting.x.api.lock().unwrap();
    assert_eq!(x.posts[0].text, media.caption);
    assert_eq!(x.posts[0].alt, media.alt);
    assert_eq!(
        told[1]["permalink"],
        format!("https://x.com/i/web/status/{}", x.posts[0].id)
    );
}

#[test]
fn a_dry_run_says_everything_and_does_nothing() {
    let posting = Posting::new();
    let said = posting.run(posting.publish("instagram,x", &["--dry-run"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in [
        "the sea was blue",
        "A painting, coloured in joy",
        "#auria20261130x",
        "1080x1080",
        "fetched at http://127.0.0.1:",
        "not begun",
    ] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    assert_eq!(posting.count("instagram") + posting.count("x"), 0);
    assert_eq!(
        posting.instagram.calls("media") + posting.x.calls("upload"),
        0
    );
    assert_eq!(kept(&posting.gallery()), 0, "nothing is written");
}

#[test]
fn what_is_missing_is_said_before_anything_is_done() {
    let posting = Posting::new();
    for dry in [&["--dry-run"][..], &[]] {
        let mut command = posting.publish("instagram,x", dry);
        command
            .env_remove("AURIA_POST_PUBLIC_URL")
            .env_remove("AURIA_X_ACCESS_SECRET")
            .env_remove("AURIA_INSTAGRAM_USER");
        let said = posting.run(command);
        assert_eq!(said.code, Some(1), "{said:?}");
        let all = format!("{}{}", said.out, said.err);
        for part in [
            "set AURIA_POST_PUBLIC_URL",
            "AURIA_X_ACCESS_SECRET is not set",
            "AURIA_INSTAGRAM_USER is not set",
        ] {
            assert!(all.contains(part), "{part}: {said:?}");
        }
        assert_eq!(kept(&posting.gallery()), 0, "nothing is written");
    }
    // No network is no error: that is how the pipeline runs where nobody asked for more.
    let said = posting.run(posting.publish("", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut command = posting.publish("x", &[]);
    command.env("AURIA_X_URL", "http://192.0.2.1");
    let said = posting.run(command);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("must be https"), "{said:?}");
}

#[test]
fn a_picture_that_cannot_be_fetched_is_no_post() {
    let posting = Posting::new();
    let mut command = posting.publish("instagram", &[]);
    command.env(
        "AURIA_POST_PUBLIC_URL",
        format!("{}/nowhere", posting.x.origin),
    );
    let said = posting.run(command);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.out.contains("AURIA_POST_PUBLIC_URL"), "{said:?}");
    assert_eq!(posting.count("instagram"), 0);
    // Once that is mended, it is posted.
    let said = posting.run(posting.publish("instagram", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    posting.is_posted_once("instagram", "mended");
}

#[test]
fn a_token_that_expired_is_said_and_not_shown() {
    let posting = Posting::new();
    let words = format!("Error validating access token {TOKEN}: Session has expired");
    posting.instagram.api.lock().unwrap().error = Some((400, error_body(190, 463, &words)));
    let said = posting.run(posting.publish("instagram,x", &[]));
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.out.contains("make a new token"), "{said:?}");
    assert!(said.out.contains("[secret]"), "{said:?}");
    assert_eq!(posting.count("instagram"), 0);
    // The other network is none the worse.
    posting.is_posted_once("x", "beside");
    posting.instagram.api.lock().unwrap().error = None;
    let said = posting.run(posting.publish("instagram,x", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    posting.is_posted_once("instagram", "renewed");
    posting.is_posted_once("x", "beside");

    let posting = Posting::new();
    let mut command = posting.publish("x", &[]);
    command.env("AURIA_X_ACCESS_SECRET", "another-secret-than-signs");
    let said = posting.run(command);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(
        said.out.contains("HTTP 401") && said.out.contains("AURIA_X_"),
        "{said:?}"
    );
}

#[test]
fn a_limit_holds_the_post_until_it_begins_anew() {
    let posting = Posting::new();
    posting.instagram.api.lock().unwrap().quota_usage = 100;
    let said = posting.run(posting.publish("instagram", &[]));
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.out.contains("100 of 100 posts"), "{said:?}");
    let record = posting.record("instagram");
    assert_eq!(record["state"], "held");
    assert!(
        record["retry_after"].is_string() && record["owner"].is_null(),
        "{record}"
    );
    // Too early, nobody is asked again.
    let asked = posting.instagram.calls("content_publishing_limit");
    posting.instagram.api.lock().unwrap().quota_usage = 0;
    let said = posting.run(posting.publish("instagram", &[]));
    assert_eq!(said.code, Some(4), "{said:?}");
    assert_eq!(posting.instagram.calls("content_publishing_limit"), asked);

    let posting = Posting::new();
    let again = OffsetDateTime::now_utc().unix_timestamp() + 3;
    let headers = [
        ("x-rate-limit-limit", "17".to_owned()),
        ("x-rate-limit-remaining", "0".to_owned()),
        ("x-rate-limit-reset", again.to_string()),
    ];
    let headers = headers
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
    let instead = (429, problem_body(429, "Too Many Requests"), headers);
    posting
        .x
        .api
        .lock()
        .unwrap()
        .instead
        .insert("tweets".to_owned(), instead);
    let said = posting.run(posting.publish("x", &[]));
    assert_eq!(said.code, Some(4), "{said:?}");
    assert_eq!(posting.record("x")["state"], "held");
    posting.x.api.lock().unwrap().instead.clear();
    while OffsetDateTime::now_utc().unix_timestamp() <= again {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let said = posting.run(posting.publish("x", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    posting.is_posted_once("x", "after the limit");
}

#[test]
fn answers_that_say_nothing_end_as_unknown_and_refusals_as_failed() {
    let server_error = (503, json!({}), Vec::new());
    let refusal = (403, problem_body(403, "You are not permitted"), Vec::new());
    for (instead, code, state) in [(server_error, 3, "unknown"), (refusal, 5, "failed")] {
        let posting = Posting::new();
        posting
            .x
            .api
            .lock()
            .unwrap()
            .instead
            .insert("tweets".to_owned(), instead);
        let said = posting.run(posting.publish("x", &[]));
        assert_eq!(said.code, Some(code), "{said:?}");
        assert_eq!(posting.record("x")["state"], state);
        posting.x.api.lock().unwrap().instead.clear();
        let said = posting.run(posting.publish("x", &[]));
        assert_eq!(said.code, Some(0), "{said:?}");
        posting.is_posted_once("x", state);
    }
    let posting = Posting::new();
    posting.instagram.api.lock().unwrap().error = Some((
        400,
        error_body(4, 2_207_051, "We restrict certain activity"),
    ));
    let said = posting.run(posting.publish("instagram", &[]));
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.out.contains("sign in to the account"), "{said:?}");
}

#[test]
fn poems_of_every_length_and_script_fit() {
    let long = "the moon over the pond ".repeat(400);
    for lines in [
        vec![long.as_str(), "水の音"],
        vec!["古池や", "蛙飛びこむ", "水の音"],
        vec!["🌊🌊🌊", "é à ü", "ночь, луна"],
        vec!["@everyone", "#one #two", "<b>&amp;</b>"],
    ] {
        let posting = Posting::with_lines(&lines);
        let said = posting.run(posting.publish("instagram,x", &[]));
        assert_eq!(said.code, Some(0), "{said:?}");
        for network in ["instagram", "x"] {
            posting.is_posted_once(network, lines[0]);
            let record = posting.record(network);
            let marker = record["marker"].as_str().unwrap();
            assert!(record["caption"].as_str().unwrap().ends_with(marker));
        }
        let instagram = posting.instagram.api.lock().unwrap();
        assert_eq!(instagram.posts[0].caption.matches('#').count(), 1);
    }
}
