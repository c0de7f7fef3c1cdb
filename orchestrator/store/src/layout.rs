//! The path of everything in a store, and under which name a user's file is
//! kept. The only place where paths are put together; it never reads or writes.
//!
//! Names that this project makes (runs, steps, nonces) are safe in paths. Names
//! that users give to assets and pipelines go through `Path::from`, which escapes
//! them without collisions; names of users' *files* never do: [`stored_name`]
//! keeps them as they are or says under which name the store holds them.

use crate::StorePath;
use auria_core::outcome::Checkpoint;
use auria_core::{AttemptId, Digest, Nonce, RunId, StepPath, Timestamp};

/// The version of the layout that this code writes.
pub const LAYOUT_VERSION: u32 = 1;

/// `layout.json`: version of the layout, verdict of the capability probe.
#[must_use]
pub fn layout() -> StorePath {
    StorePath::from("layout.json")
}

fn path(text: String) -> StorePath {
    StorePath::from(text)
}

/// `runs/<run>`.
#[must_use]
pub fn run(run: &RunId) -> StorePath {
    path(format!("runs/{run}"))
}

/// `runs/<run>/run.json`: what was submitted.
#[must_use]
pub fn run_json(run: &RunId) -> StorePath {
    path(format!("runs/{run}/run.json"))
}

/// `runs/<run>/end.json`: how the run ended.
#[must_use]
pub fn run_end(run: &RunId) -> StorePath {
    path(format!("runs/{run}/end.json"))
}

/// `runs/<run>/reuse/<step>.json`: what the reuse index said, for `explain`.
#[must_use]
pub fn reuse_note(run: &RunId, step: &StepPath) -> StorePath {
    path(format!("runs/{run}/reuse/{step}.json"))
}

/// `runs/<run>/exports/<step>/<output>.json`: how an output's copy to a place that
/// the user named went.
#[must_use]
pub fn export(run: &RunId, step: &StepPath, output: &str) -> StorePath {
    path(format!("runs/{run}/exports/{step}/{output}.json"))
}

/// `runs/<run>/registrations/<step>/<output>/<n>.json`: the version that an output is to be
/// registered as. Where another has taken it, the next proposal counts.
#[must_use]
pub fn registration(run: &RunId, step: &StepPath, output: &str, proposal: u32) -> StorePath {
    path(format!(
        "runs/{run}/registrations/{step}/{output}/{proposal}.json"
    ))
}

/// `runs/<run>/tombstone`: the run is being deleted.
#[must_use]
pub fn tombstone(run: &RunId) -> StorePath {
    path(format!("runs/{run}/tombstone"))
}

/// `verdicts`: what becomes of each tombstone.
#[must_use]
pub fn verdicts() -> StorePath {
    StorePath::from("verdicts")
}

/// `verdicts/<nonce of the tombstone>`. Not beside the tombstone: it outlives what
/// was deleted, for those who still hold the tombstone.
#[must_use]
pub fn verdict(tombstone: &Nonce) -> StorePath {
    verdicts().join(tombstone.as_str())
}

/// `snapshots/<blake3>/tombstone`: the snapshot is to be deleted.
#[must_use]
pub fn snapshot_tombstone(digest: &Digest) -> StorePath {
    snapshot(digest).join("tombstone")
}

/// `runs/<run>/refs`: who reuses its outputs.
#[must_use]
pub fn refs(run: &RunId) -> StorePath {
    path(format!("runs/{run}/refs"))
}

/// `runs/<run>/refs/<taker>`.
#[must_use]
pub fn reference(run: &RunId, taker: &RunId) -> StorePath {
    path(format!("runs/{run}/refs/{taker}"))
}

/// `runs/<run>/log`.
#[must_use]
pub fn log(run: &RunId) -> StorePath {
    path(format!("runs/{run}/log"))
}

/// `runs/<run>/log/<seq>.json`, with leading zeros so that names sort.
#[must_use]
pub fn log_record(run: &RunId, seq: u64) -> StorePath {
    path(format!("runs/{run}/log/{seq:08}.json"))
}

/// `runs/<run>/attempts`.
#[must_use]
pub fn attempts(run: &RunId) -> StorePath {
    path(format!("runs/{run}/attempts"))
}

fn attempt_file(id: &AttemptId, name: &str) -> StorePath {
    path(format!(
        "runs/{}/attempts/{}/{}/{name}",
        id.run, id.step, id.number
    ))
}

/// `runs/<run>/attempts/<step>/<n>/ticket.json`.
#[must_use]
pub fn ticket(id: &AttemptId) -> StorePath {
    attempt_file(id, "ticket.json")
}

/// `runs/<run>/attempts/<step>/<n>/claim.json`.
#[must_use]
pub fn claim(id: &AttemptId) -> StorePath {
    attempt_file(id, "claim.json")
}

/// `runs/<run>/attempts/<step>/<n>/end.json`.
#[must_use]
pub fn attempt_end(id: &AttemptId) -> StorePath {
    attempt_file(id, "end.json")
}

/// `runs/<run>/attempts/<step>/<n>/members/<instance>.json`: that a launcher of a
/// distributed step is there, before the claim.
#[must_use]
pub fn joined(id: &AttemptId, instance: u32) -> StorePath {
    attempt_file(id, &format!("members/{instance}.json"))
}

/// `runs/<run>/outcomes`.
#[must_use]
pub fn outcomes(run: &RunId) -> StorePath {
    path(format!("runs/{run}/outcomes"))
}

/// `runs/<run>/outcomes/<step>.json`: the commit record.
#[must_use]
pub fn outcome(run: &RunId, step: &StepPath) -> StorePath {
    path(format!("runs/{run}/outcomes/{step}.json"))
}

/// `runs/<run>/data/<step>/<n>-<nonce>`: all that one claim of an attempt writes.
#[must_use]
pub fn data(id: &AttemptId, nonce: &Nonce) -> StorePath {
    path(format!(
        "runs/{}/data/{}/{}-{nonce}",
        id.run, id.step, id.number
    ))
}

/// `runs/<run>/data`.
#[must_use]
pub fn run_data(run: &RunId) -> StorePath {
    path(format!("runs/{run}/data"))
}

/// `runs/<run>/checkpoints`.
#[must_use]
pub fn run_checkpoints(run: &RunId) -> StorePath {
    path(format!("runs/{run}/checkpoints"))
}

/// `…/data/<step>/<n>-<nonce>/outputs/<name>`: an output's files.
#[must_use]
pub fn output(id: &AttemptId, nonce: &Nonce, name: &str) -> StorePath {
    data(id, nonce).join("outputs").join(name)
}

/// `…/data/<step>/<n>-<nonce>/manifests/<name>.json`: an output's manifest.
#[must_use]
pub fn output_manifest(id: &AttemptId, nonce: &Nonce, name: &str) -> StorePath {
    data(id, nonce)
        .join("manifests")
        .join(format!("{name}.json"))
}

/// `…/data/<step>/<n>-<nonce>/logs`: the chunks of the log.
#[must_use]
pub fn logs(id: &AttemptId, nonce: &Nonce) -> StorePath {
    data(id, nonce).join("logs")
}

/// `…/data/<step>/<n>-<nonce>/metrics`: the chunks of the metrics, while it runs.
#[must_use]
pub fn metrics_chunks(id: &AttemptId, nonce: &Nonce) -> StorePath {
    data(id, nonce).join("metrics")
}

/// `…/data/<step>/<n>-<nonce>/metrics.jsonl`: all metrics, once it has ended.
#[must_use]
pub fn metrics(id: &AttemptId, nonce: &Nonce) -> StorePath {
    data(id, nonce).join("metrics.jsonl")
}

/// `…/data/<step>/<n>-<nonce>/members/<rank>`: what one process of a distributed step left.
#[must_use]
pub fn member(id: &AttemptId, nonce: &Nonce, rank: u32) -> StorePath {
    data(id, nonce).join("members").join(rank.to_string())
}

/// `…/members/<rank>/end.json`: how it ended.
#[must_use]
pub fn member_end(id: &AttemptId, nonce: &Nonce, rank: u32) -> StorePath {
    member(id, nonce, rank).join("end.json")
}

/// `…/members/<first rank of an instance>/instance.json`: how that instance ended.
#[must_use]
pub fn instance_end(id: &AttemptId, nonce: &Nonce, first: u32) -> StorePath {
    member(id, nonce, first).join("instance.json")
}

/// `…/members/<first rank>/logs`: what an instance with a launcher of its own said.
#[must_use]
pub fn member_logs(id: &AttemptId, nonce: &Nonce, first: u32) -> StorePath {
    member(id, nonce, first).join("logs")
}

/// The attempt's log, or that of an instance which has one of its own.
#[must_use]
pub fn logs_of(id: &AttemptId, nonce: &Nonce, apart: Option<u32>) -> StorePath {
    match apart {
        None => logs(id, nonce),
        Some(first) => member_logs(id, nonce, first),
    }
}

/// `…/members/<first rank>/outputs/<name>`: an output of such an instance.
#[must_use]
pub fn member_output(id: &AttemptId, nonce: &Nonce, first: u32, name: &str) -> StorePath {
    member(id, nonce, first).join("outputs").join(name)
}

/// `…/members/<first rank>/manifests/<name>.json`: its manifest.
#[must_use]
pub fn member_manifest(id: &AttemptId, nonce: &Nonce, first: u32, name: &str) -> StorePath {
    member(id, nonce, first)
        .join("manifests")
        .join(format!("{name}.json"))
}

/// `<folder>/<seq>`, the name of a chunk, with leading zeros so that names sort.
#[must_use]
pub fn chunk(folder: &StorePath, seq: u64) -> StorePath {
    folder.clone().join(format!("{seq:08}"))
}

/// `runs/<run>/checkpoints/<step>/<n>-<nonce>`: the generations of one claim.
#[must_use]
pub fn checkpoints(id: &AttemptId, nonce: &Nonce) -> StorePath {
    path(format!(
        "runs/{}/checkpoints/{}/{}-{nonce}",
        id.run, id.step, id.number
    ))
}

/// `runs/<run>/checkpoints/<step>/<n>-<nonce>/<g>`: one generation.
#[must_use]
pub fn checkpoint(run: &RunId, step: &StepPath, checkpoint: &Checkpoint) -> StorePath {
    let Checkpoint {
        attempt,
        nonce,
        generation,
    } = checkpoint;
    path(format!(
        "runs/{run}/checkpoints/{step}/{attempt}-{nonce}/{generation}"
    ))
}

/// `recent`.
#[must_use]
pub fn recent_runs() -> StorePath {
    StorePath::from("recent")
}

/// The largest time that [`recent`] can sort: far in the year 2286.
const LAST_MILLIS: i64 = 9_999_999_999_999;

/// `recent/<key>`: a key that sorts newest first, and holds the run's name.
#[must_use]
pub fn recent(run: &RunId, created: Timestamp) -> StorePath {
    let left = LAST_MILLIS - created.0.clamp(0, LAST_MILLIS);
    path(format!("recent/{left:013}-{run}"))
}

/// The run in a key that [`recent`] made.
#[must_use]
pub fn run_of_recent(key: &StorePath) -> Option<RunId> {
    key.filename()?.get(14..)?.parse().ok()
}

/// `snapshots`.
#[must_use]
pub fn snapshots() -> StorePath {
    StorePath::from("snapshots")
}

/// `runs`.
#[must_use]
pub fn runs() -> StorePath {
    StorePath::from("runs")
}

/// `snapshots/<blake3>`.
#[must_use]
pub fn snapshot(digest: &Digest) -> StorePath {
    path(format!("snapshots/{}", digest.hex()))
}

/// `snapshots/<blake3>/files`: a snapshot's files.
#[must_use]
pub fn snapshot_files(digest: &Digest) -> StorePath {
    snapshot(digest).join("files")
}

/// `snapshots/<blake3>/manifest.json`, written last.
#[must_use]
pub fn snapshot_manifest(digest: &Digest) -> StorePath {
    snapshot(digest).join("manifest.json")
}

/// `reuse/<step key>.json`.
#[must_use]
pub fn reuse(key: &Digest) -> StorePath {
    path(format!("reuse/{}.json", key.hex()))
}

/// `reuse/last/<pipeline>/<step>.json`: the newest finished step of this name.
#[must_use]
pub fn reuse_last(pipeline: &str, step: &StepPath) -> StorePath {
    StorePath::from("reuse/last")
        .join(pipeline)
        .join(format!("{step}.json"))
}

/// `assets/<kind>/<name>`.
#[must_use]
pub fn asset_versions(kind: &str, name: &str) -> StorePath {
    StorePath::from("assets").join(kind).join(name)
}

/// `assets/<kind>/<name>/<version>.json`.
#[must_use]
pub fn asset(kind: &str, name: &str, version: &str) -> StorePath {
    asset_versions(kind, name).join(format!("{version}.json"))
}

/// `assets/<kind>/<name>/<version>.archived`: there while the version is archived.
#[must_use]
pub fn asset_archived(kind: &str, name: &str, version: &str) -> StorePath {
    asset_versions(kind, name).join(format!("{version}.archived"))
}

/// Where names go that a store cannot hold as they are.
const RENAMED: &str = ".auria-names";

/// Longest part and longest whole of a user's path that is kept as it is. File
/// systems hold 255 bytes a part, of which a staged upload's suffix takes some;
/// S3 holds 1,024 bytes a key, of which the prefix takes some.
const LONGEST_PART: usize = 200;
const LONGEST_PATH: usize = 600;

/// The name under an artifact's prefix that `name` (relative, `/` between its
/// parts) is kept under, where it cannot be kept as it is.
#[must_use]
pub fn stored_name(name: &str) -> Option<String> {
    let plain = name.len() <= LONGEST_PATH
        && StorePath::parse(name).is_ok_and(|path| path.as_ref() == name)
        && name.split('/').all(is_plain_part)
        && name.split('/').next() != Some(RENAMED);
    if plain {
        None
    } else {
        Some(format!(
            "{RENAMED}/{}",
            &Digest::of(name.as_bytes()).hex()[..32]
        ))
    }
}

/// Whether every store holds this part of a path as it is: folders stage uploads
/// under `name#1`, and some S3 servers fold `\` and strip blanks and dots at the end.
fn is_plain_part(part: &str) -> bool {
    let staged = part
        .rsplit_once('#')
        .is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit()));
    !part.is_empty()
        && part.len() <= LONGEST_PART
        && !staged
        && !part.contains('\\')
        && !part.starts_with(char::is_whitespace)
        && !part.ends_with(|c: char| c.is_whitespace() || c == '.')
        && !part.chars().any(|c| c.is_control())
}

#[cfg(test)]
mod tests {
    use super::{recent, run_of_recent, stored_name};
    use auria_core::Timestamp;

    #[test]
    fn newest_runs_sort_first() {
        let run = |text: &str| text.parse().unwrap();
        let (old, new) = (
            recent(&run("zz"), Timestamp(1_000)),
            recent(&run("aa"), Timestamp(1_767_323_045_678)),
        );
        assert!(new < old);
        assert_eq!(run_of_recent(&new).unwrap().as_str(), "aa");
    }

    #[test]
    fn only_names_that_a_store_cannot_hold_are_changed() {
        for plain in [
            "a",
            "a/b.txt",
            "größe/haiku 1.txt",
            "100%/50%25.txt",
            "C#",
            "v1#a",
            "😀",
            "a?b*c[d]{e}",
            ".hidden",
        ] {
            assert_eq!(stored_name(plain), None, "{plain}");
        }
        let long = "x".repeat(201);
        for odd in [
            "a#1",
            "a\\b",
            "a\nb",
            " a",
            "a ",
            "a.",
            ".auria-names/x",
            long.as_str(),
            "x/a#12",
        ] {
            let stored = stored_name(odd).unwrap();
            assert_eq!(
                stored_name(&stored).map(|_| ()),
                Some(()),
                "reserved names are never a user's own"
            );
        }
    }
}
