//! Where a server keeps what is its own: the queue of runs, tokens and who used them, keys of
//! requests that were answered, endpoints and schedules. Paths alone; what stands there is
//! the server's to say. Every record is created once, and none grows.

use crate::StorePath;
use auria_core::{Digest, RunId, Timestamp};

fn path(text: String) -> StorePath {
    StorePath::from(text)
}

/// Below which all is that only a server may read: who may do what, and who did.
pub const ACCESS: &str = "access";

/// `queue`: runs that were accepted and have not ended.
#[must_use]
pub fn queue() -> StorePath {
    StorePath::from("queue")
}

/// `queue/<time>-<seq>-<run>`: sorts by the server's own time of acceptance, and by the order
/// of what it accepted within one moment.
#[must_use]
pub fn queued(run: &RunId, accepted: Timestamp, seq: u64) -> StorePath {
    path(format!("queue/{:015}-{seq:010}-{run}", accepted.0.max(0)))
}

/// The run in a key that [`queued`] made.
#[must_use]
pub fn run_of_queued(key: &StorePath) -> Option<RunId> {
    let mut parts = key.filename()?.splitn(3, '-');
    for _ in 0..2 {
        let number = parts.next()?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    parts.next()?.parse().ok()
}

/// `access/tokens`.
#[must_use]
pub fn tokens() -> StorePath {
    StorePath::from("access/tokens")
}

/// `access/tokens/<id>.json`.
#[must_use]
pub fn token(id: &str) -> StorePath {
    tokens().join(format!("{id}.json"))
}

/// `access/revoked/<id>.json`: from then on the token counts for nothing.
#[must_use]
pub fn revoked(id: &str) -> StorePath {
    StorePath::from("access/revoked").join(format!("{id}.json"))
}

/// `access/audit`.
#[must_use]
pub fn audit() -> StorePath {
    StorePath::from("access/audit")
}

/// `access/audit/<day>`: the day is the date in UTC.
#[must_use]
pub fn audit_day(at: Timestamp) -> StorePath {
    let date = at.to_string();
    audit().join(date.split('T').next().unwrap_or_default())
}

/// `access/audit/<day>/<time>-<nonce>.json`: sorts by time.
#[must_use]
pub fn audit_record(at: Timestamp, nonce: &str) -> StorePath {
    audit_day(at).join(format!("{:015}-{nonce}.json", at.0.max(0)))
}

/// `access/requests/<key>.json`: what a request with an idempotency key came to.
#[must_use]
pub fn request(key: &Digest) -> StorePath {
    StorePath::from("access/requests").join(format!("{}.json", key.hex()))
}

/// `endpoints`.
#[must_use]
pub fn endpoints() -> StorePath {
    StorePath::from("endpoints")
}

/// `endpoints/<name>`.
#[must_use]
pub fn endpoint(name: &str) -> StorePath {
    endpoints().join(name)
}

/// `endpoints/<name>/log/<seq>.json`: what was decided about it, in order.
#[must_use]
pub fn endpoint_log(name: &str, seq: u64) -> StorePath {
    endpoint(name).join("log").join(format!("{seq:08}.json"))
}

/// `endpoints/<name>/deployments/<deployment>/<version>.json`: never changed.
#[must_use]
pub fn deployment(name: &str, deployment: &str, version: u64) -> StorePath {
    endpoint(name)
        .join("deployments")
        .join(deployment)
        .join(format!("{version:08}.json"))
}

/// `endpoints/<name>/jobs/<run>.json`: what an invocation asked for.
#[must_use]
pub fn job(name: &str, run: &RunId) -> StorePath {
    endpoint(name).join("jobs").join(format!("{run}.json"))
}

/// `schedules`.
#[must_use]
pub fn schedules() -> StorePath {
    StorePath::from("schedules")
}

/// `schedules/<name>`.
#[must_use]
pub fn schedule(name: &str) -> StorePath {
    schedules().join(name)
}

/// `schedules/<name>/log/<seq>.json`: what was decided about it, in order.
#[must_use]
pub fn schedule_log(name: &str, seq: u64) -> StorePath {
    schedule(name).join("log").join(format!("{seq:08}.json"))
}

/// `schedules/<name>/ticks/<time>.json`: created once by whoever fires the tick.
#[must_use]
pub fn tick(name: &str, at: Timestamp) -> StorePath {
    schedule(name)
        .join("ticks")
        .join(format!("{:013}.json", at.0.max(0)))
}

#[cfg(test)]
mod tests {
    use super::{queued, run_of_queued};
    use auria_core::Timestamp;

    #[test]
    fn the_queue_sorts_by_time_and_names_its_runs() {
        let run = |text: &str| text.parse().unwrap();
        let (early, late) = (
            queued(&run("zz"), Timestamp(1_000), 3),
            queued(&run("aa"), Timestamp(1_767_323_045_678), 1),
        );
        assert!(early < late);
        assert!(early < queued(&run("aa"), Timestamp(1_000), 4));
        assert_eq!(run_of_queued(&early), Some(run("zz")));
        let far = queued(&run("a-b-1"), Timestamp(i64::MAX), u64::MAX);
        assert_eq!(run_of_queued(&far), Some(run("a-b-1")));
        for strange in ["queue/x", "queue/1-y-z", "queue/1767323045678-two-1"] {
            assert_eq!(run_of_queued(&strange.into()), None, "{strange}");
        }
    }
}
