//! Records and trees for the pieces, and trees compared.

use auria_core::outcome::{
    Artifact, Claim, Decision, EndRecord, LogRecord, Outcome, Status, Timings,
};
use auria_core::plan::{DataType, PLAN_VERSION, Plan, PlanSettings};
use auria_core::{AttemptId, Digest, Nonce, RunId, Timestamp};
use auria_store::runs::{RUN_VERSION, RunJson, RunState, Submitter};
use auria_store::{Store, runs};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn run() -> RunId {
    "kathi-1".parse().unwrap()
}

pub(crate) fn id(step: &str, number: u32) -> AttemptId {
    AttemptId {
        run: run(),
        step: step.parse().unwrap(),
        number,
    }
}

pub(crate) fn nonce(number: u64) -> Nonce {
    format!("{number:016x}").parse().unwrap()
}

pub(crate) fn claim(id: &AttemptId, number: u64) -> Claim {
    Claim {
        attempt: id.clone(),
        nonce: nonce(number),
        host: "host".into(),
        boot_id: "boot".into(),
        process: number.to_string(),
        claimed: Timestamp(1_000),
    }
}

pub(crate) fn end(id: &AttemptId, number: u64) -> EndRecord {
    EndRecord {
        attempt: id.clone(),
        nonce: Some(nonce(number)),
        cause: auria_core::outcome::Cause::Exit,
        exit_code: Some(1),
        message: "it failed".into(),
        last_lines: vec!["last words".into()],
        timings: Timings::default(),
        checkpoint: None,
        published: None,
        node: None,
        started: Some(Timestamp(1)),
        ended: Timestamp(2),
    }
}

pub(crate) fn outcome(id: &AttemptId, number: Option<u64>, status: Status) -> Outcome {
    Outcome {
        version: 1,
        run: id.run.clone(),
        step: id.step.clone(),
        status,
        attempt: Some(id.number),
        nonce: number.map(nonce),
        attempts: id.number,
        cause: None,
        exit_code: Some(0),
        message: None,
        outputs: BTreeMap::new(),
        reused_from: None,
        key: Some(Digest::of(b"key")),
        timings: Timings {
            ran_ms: Some(12),
            ..Timings::default()
        },
        last_lines: Vec::new(),
        node: Some("node".into()),
        started: Some(Timestamp(10)),
        ended: Timestamp(20),
    }
}

pub(crate) fn log_record(seq: u64, number: u64) -> LogRecord {
    LogRecord {
        seq,
        epoch: 1,
        nonce: nonce(number),
        at: Timestamp(5),
        decision: Decision::TookOver {
            driver: format!("driver {number}"),
        },
    }
}

pub(crate) fn run_json(name: &str, number: u64, created: i64) -> RunJson {
    RunJson {
        version: RUN_VERSION,
        run: name.parse().unwrap(),
        nonce: nonce(number),
        state: RunState::Preparing,
        created: Timestamp(created),
        by: Submitter {
            user: "kathi".into(),
            host: "studio".into(),
        },
        target: "process".into(),
        parameters: BTreeMap::from([("mood".to_owned(), "joy".into())]),
        snapshots: [Digest::of(b"code")].into(),
        sources: BTreeMap::new(),
        retry_of: None,
        plan: Arc::new(Plan {
            version: PLAN_VERSION,
            pipeline: "auria-kathi".into(),
            display_name: None,
            experiment: "default".into(),
            settings: PlanSettings::default(),
            inputs: BTreeMap::new(),
            steps: Vec::new(),
            outputs: BTreeMap::new(),
        }),
    }
}

/// The run of [`run`], with its `run.json`.
pub(crate) async fn created(store: &Store) -> RunJson {
    let record = run_json(run().as_str(), 1, 1_767_323_045_678);
    runs::create(store, &record).await.unwrap();
    record
}

/// An artifact that nothing was published for.
pub(crate) fn artifact(name: &str) -> Artifact {
    Artifact {
        prefix: format!("nowhere/{name}"),
        manifest: format!("nowhere/{name}.json"),
        data_type: DataType::UriFolder,
        files: 0,
        bytes: 0,
        digest: Digest::of(name.as_bytes()),
    }
}

pub(crate) fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Everything below `root`: path, and kind with mode and content.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    fn visit(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let mode = meta.permissions().mode() & 0o777;
            let what = if meta.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                visit(root, &path, found);
                let empty = std::fs::read_dir(&path).unwrap().next().is_none();
                // A manifest keeps the modes of empty folders alone.
                if empty {
                    format!("empty folder {mode:o}")
                } else {
                    "folder".to_owned()
                }
            } else {
                format!(
                    "file {mode:o} {}",
                    Digest::of(&std::fs::read(&path).unwrap())
                )
            };
            found.insert(name, what);
        }
    }
    let mut found = BTreeMap::new();
    visit(root, root, &mut found);
    found
}

/// Bytes without a pattern, the same each time.
pub(crate) fn noise(count: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}
