//! What an executor tells the launcher that it starts; a file in the attempt's
//! runtime folder.

use auria_core::ticket::Ticket;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What a launcher is told. Everything else it reads from the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchOptions {
    /// The store, as `StoreUrl` reads it; a folder is absolute.
    pub store: String,
    /// What tells that store from every other on this machine.
    #[serde(default)]
    pub identity: String,
    /// What to do.
    pub ticket: Ticket,
    /// An inherited descriptor that holds the attempt's lock; without one the
    /// launcher takes the lock itself.
    pub lock: Option<i32>,
    /// An inherited descriptor on which the launcher's socket listens already, so that
    /// nobody has to try again and again; without one the launcher opens it itself.
    #[serde(default)]
    pub listener: Option<i32>,
    /// Inherited descriptors that hold this attempt's share of the machine.
    pub holds: Vec<i32>,
    /// Where the executor lends warm programs, if it keeps any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<PathBuf>,
    /// The GPUs that the command sees.
    pub gpus: Vec<String>,
    /// Put before the command's PATH, in order.
    pub path: Vec<PathBuf>,
    /// Where the work folder is made.
    pub work_root: PathBuf,
    /// How long the attempt waited for room.
    pub queued_ms: Option<u64>,
    /// When room was found, on this machine's monotonic clock (see [`monotonic`]).
    pub room_at_ms: Option<u64>,
    /// How long a store that does not answer is asked again.
    pub store_patience_ms: u64,
    /// The engine that runs the command in a container; without one it is a process
    /// of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineOptions>,
}

/// The engine that a launcher stands beside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineOptions {
    /// Its address, as `DOCKER_HOST` writes it.
    pub address: String,
    /// Put on the container, so that it is found where its launcher is gone.
    pub labels: BTreeMap<String, String>,
    /// Folders and files of this host that the command also sees, each at its own
    /// path; one that is not there is an error of the engine's.
    pub mounts: Vec<PathBuf>,
}

/// This machine's monotonic clock, which all of its processes share.
#[must_use]
pub fn monotonic() -> Duration {
    nix::time::ClockId::CLOCK_MONOTONIC
        .now()
        .map(Duration::from)
        .unwrap_or_default()
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LaunchOptions {
    /// The folder that the attempt works in; it is gone once the attempt has ended.
    #[must_use]
    pub fn work_folder(&self, folder: &crate::runtime::AttemptFolder) -> PathBuf {
        self.work_root.join(folder.key())
    }
}
