//! One post each, whatever is cut or killed on the way: against local servers that keep to the
//! published APIs.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod support;

use std::time::Duration;

use support::network::Fault;
use support::posting::{DAY, Posting, Said, kill};

/// Every call of a post, in its order.
const INSTAGRAM: [&str; 5] = [
    "content_publishing_limit",
    "media",
    "status",
    "media_publish",
    "permalink",
];
const X: [&str; 3] = ["upload", "metadata", "tweets"];
/// Those of a look-up.
const LOOK_UPS: [(&str, &str); 4] = [
    ("instagram", "status"),
    ("instagram", "list"),
    ("x", "me"),
    ("x", "list"),
];

fn fault(posting: &Posting, network: &str, call: &str, fault: Fault) {
    match network {
        "x" => posting.x.fault(call, fault),
        _ => posting.instagram.fault(call, fault),
    }
}

fn has_faults(posting: &Posting) -> bool {
    posting.x.has_faults() || posting.instagram.has_faults()
}

fn cut(network: &str, calls: &[&str]) {
    for call in calls {
        for kind in [Fault::CutBefore, Fault::CutAfter] {
            let about = format!("{network}: {call} {kind:?}");
            let posting = Posting::new();
            fault(&posting, network, call, kind);
            let said = posting.run(posting.publish(network, &[]));
            assert_eq!(said.code, Some(0), "{about}: {said:?}");
            assert!(!has_faults(&posting), "{about}: not met");
            posting.is_posted_once(network, &about);
            let said = posting.run(posting.publish(network, &[]));
            assert_eq!(said.code, Some(0), "{about}: {said:?}");
            assert!(said.out.contains("(was there)"), "{about}: {said:?}");
            posting.is_posted_once(network, &about);
        }
    }
}

fn killed(network: &str, calls: &[&str]) {
    for call in calls {
        for kind in [Fault::HoldBefore, Fault::HoldAfter] {
            let about = format!("{network}: {call} {kind:?}");
            let posting = Posting::new();
            fault(&posting, network, call, kind);
            let child = posting.publish(network, &[]).spawn().unwrap();
            match network {
                "x" => posting.x.wait_until_held(),
                _ => posting.instagram.wait_until_held(),
            }
            if *call != "permalink" {
                assert_ne!(posting.record(network)["state"], "posted", "{about}");
            }
            kill(child);
            let said = posting.run(posting.publish(network, &[]));
            assert_eq!(said.code, Some(0), "{about}: {said:?}");
            posting.is_posted_once(network, &about);
        }
    }
}

#[test]
fn instagram_is_posted_to_once_where_connections_are_cut() {
    cut("instagram", &INSTAGRAM);
}

#[test]
fn x_is_posted_to_once_where_connections_are_cut() {
    cut("x", &X);
}

#[test]
fn instagram_is_posted_to_once_where_the_program_is_killed_at_any_call() {
    killed("instagram", &INSTAGRAM);
}

#[test]
fn x_is_posted_to_once_where_the_program_is_killed_at_any_call() {
    killed("x", &X);
}

#[test]
fn a_look_up_that_is_cut_once_is_made_again() {
    for (network, call) in LOOK_UPS {
        for kind in [Fault::CutBefore, Fault::CutAfter] {
            let posting = Posting::new();
            let publish = if network == "x" {
                "tweets"
            } else {
                "media_publish"
            };
            fault(&posting, network, publish, kind);
            if call == "status" {
                // The first two are of the container that is being made.
                posting.instagram.fault("list", Fault::CutBefore);
            } else {
                fault(&posting, network, call, Fault::CutBefore);
            }
            let said = posting.run(posting.publish(network, &[]));
            assert_eq!(said.code, Some(0), "{said:?}");
            assert!(!has_faults(&posting));
            posting.is_posted_once(network, call);
        }
    }
}

#[test]
fn what_cannot_be_looked_up_is_unknown_and_not_repeated() {
    for (network, call) in [("instagram", "list"), ("x", "me"), ("x", "list")] {
        let publish = if network == "x" {
            "tweets"
        } else {
            "media_publish"
        };
        let posting = Posting::new();
        fault(&posting, network, publish, Fault::CutAfter);
        let broken = |fault| match network {
            "x" => posting.x.always(call, fault),
            _ => posting.instagram.always(call, fault),
        };
        broken(Some(Fault::CutBefore));
        for _ in 0..2 {
            let said = posting.run(posting.publish(network, &[]));
            assert_eq!(said.code, Some(3), "{said:?}");
            assert!(
                said.out.contains("unknown") && said.out.contains("auria-post resolve"),
                "{said:?}"
            );
            assert_eq!(posting.record(network)["state"], "unknown");
            assert_eq!(posting.count(network), 1);
        }
        // It is shown, and once the look-up works again, it is found.
        let said = posting.run(posting.program("posts"));
        assert!(said.out.contains("unknown"), "{said:?}");
        broken(None);
        let said = posting.run(posting.publish(network, &[]));
        assert_eq!(said.code, Some(0), "{said:?}");
        posting.is_posted_once(network, call);
    }
}

fn resolve(posting: &Posting, more: &[&str]) -> Said {
    let mut command = posting.program("resolve");
    command.args(["--day", DAY, "--network", "x"]).args(more);
    posting.run(command)
}

#[test]
fn a_person_says_what_could_not_be_looked_up() {
    for kind in [Fault::CutBefore, Fault::CutAfter] {
        let posting = Posting::new();
        posting.x.fault("tweets", kind);
        posting.x.always("me", Some(Fault::CutBefore));
        let said = posting.run(posting.publish("x", &[]));
        assert_eq!(said.code, Some(3), "{said:?}");
        let said = if kind == Fault::CutBefore {
            assert_eq!(posting.count("x"), 0);
            resolve(&posting, &["--as", "not-posted"])
        } else {
            assert_eq!(posting.count("x"), 1);
            resolve(&posting, &["--as", "posted", "--id", "17"])
        };
        assert_eq!(said.code, Some(0), "{said:?}");
        let said = posting.run(posting.publish("x", &[]));
        assert_eq!(said.code, Some(0), "{said:?}");
        posting.is_posted_once("x", "after a person");
        // Then nothing is left to be said.
        let said = resolve(&posting, &["--as", "not-posted"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        posting.is_posted_once("x", "said too late");
    }
}

#[test]
fn lists_that_lag_are_waited_for() {
    for network in ["instagram", "x"] {
        let posting = Posting::new();
        posting.instagram.api.lock().unwrap().lag = Duration::from_millis(1500);
        posting.x.api.lock().unwrap().lag = Duration::from_millis(1500);
        let publish = if network == "x" {
            "tweets"
        } else {
            "media_publish"
        };
        fault(&posting, network, publish, Fault::CutAfter);
        let said = posting.run(posting.publish(network, &["--settle", "3"]));
        assert_eq!(said.code, Some(0), "{said:?}");
        posting.is_posted_once(network, "lag");
    }
}

#[test]
fn lists_that_lag_longer_than_thought_still_give_no_second_post() {
    // Instagram's container says that it was published; X refuses the same text.
    for network in ["instagram", "x"] {
        let posting = Posting::new();
        posting.instagram.api.lock().unwrap().lag = Duration::from_secs(3600);
        posting.x.api.lock().unwrap().lag = Duration::from_secs(3600);
        let publish = if network == "x" {
            "tweets"
        } else {
            "media_publish"
        };
        fault(&posting, network, publish, Fault::CutAfter);
        let said = posting.run(posting.publish(network, &[]));
        let expected = if network == "x" { Some(3) } else { Some(0) };
        assert_eq!(said.code, expected, "{said:?}");
        assert_eq!(posting.count(network), 1);
    }
}

#[test]
fn a_container_that_is_published_after_the_look_up_gives_no_second_post() {
    let posting = Posting::new();
    {
        let mut instagram = posting.instagram.api.lock().unwrap();
        instagram.lag = Duration::from_secs(3600);
        instagram.late = 1;
    }
    posting.instagram.fault("media_publish", Fault::CutAfter);
    let said = posting.run(posting.publish("instagram", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(posting.instagram.api.lock().unwrap().late, 0, "not met");
    posting.is_posted_once("instagram", "published late");
}

#[test]
fn a_post_is_found_behind_an_empty_page() {
    let posting = Posting::new();
    posting.instagram.api.lock().unwrap().has_empty_page = true;
    posting.instagram.fault("media_publish", Fault::CutAfter);
    let said = posting.run(posting.publish("instagram", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    posting.is_posted_once("instagram", "an empty page");
    let id = posting.instagram.api.lock().unwrap().posts[0].id.clone();
    assert_eq!(posting.record("instagram")["id"], id);
}

#[test]
fn a_post_is_found_behind_others() {
    let posting = Posting::new();
    posting.instagram.fault("media_publish", Fault::HoldAfter);
    let child = posting.publish("instagram", &[]).spawn().unwrap();
    posting.instagram.wait_until_held();
    kill(child);
    {
        let mut instagram = posting.instagram.api.lock().unwrap();
        instagram.page = 2;
        let marker = posting.record("instagram")["marker"]
            .as_str()
            .unwrap()
            .to_owned();
        for _ in 0..5 {
            // Others' markers that begin like ours are not ours.
            instagram.post_by_hand(&format!("by hand {marker}0"));
        }
    }
    let said = posting.run(posting.publish("instagram", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(posting.instagram.calls("list") >= 3);
    assert_eq!(posting.count("instagram"), 6);
    let id = posting.instagram.api.lock().unwrap().posts[0].id.clone();
    assert_eq!(posting.record("instagram")["id"], id);
}

#[test]
fn two_at_once_post_once() {
    for network in ["instagram", "x"] {
        let posting = Posting::new();
        let children: Vec<_> = (0..3)
            .map(|_| posting.publish(network, &[]).spawn().unwrap())
            .collect();
        for child in children {
            let said = Said::of(child.wait_with_output().unwrap());
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        posting.is_posted_once(network, "three at once");
    }
}

#[test]
fn another_work_of_the_day_changes_nothing_and_another_day_is_another_post() {
    let posting = Posting::new();
    let said = posting.run(posting.publish("instagram,x", &[]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let entry = posting.work(2, &["another", "poem", "altogether"]);
    let other = |day: &str| {
        let mut command = posting.program("publish");
        command
            .args([
                "--to",
                "instagram",
                "--to",
                "x",
                "--settle",
                "0",
                "--day",
                day,
            ])
            .arg("--entry")
            .arg(&entry);
        posting.run(command)
    };
    let said = other(DAY);
    assert_eq!(said.code, Some(0), "{said:?}");
    posting.is_posted_once("instagram", "another work");
    posting.is_posted_once("x", "another work");
    let said = other("20261201");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!((posting.count("instagram"), posting.count("x")), (2, 2));
    let x = posting.x.api.lock().unwrap();
    assert_ne!(x.posts[0].text, x.posts[1].text);
}
