//! Checkpoints of a training: all that the next attempt needs to go on as if nothing
//! had happened. Lives in the folder of `$AURIA_CHECKPOINTS` (or `--checkpoints`):
//! what it holds at the start is what to resume from; a folder renamed into it becomes
//! the next generation. A name that begins with a dot is not there yet.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::Device;

use crate::weights::{self, Storage, Tensors};
use crate::{Error, files};

const STATE: &str = "checkpoint.json";
const TENSORS: &str = "tensors.safetensors";
const FORMAT: u32 = 1;
/// How many generations stay in the folder; the launcher keeps as many in the store.
const KEPT: usize = 2;

/// The arguments of a resumable training; `#[command(flatten)]` them.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckpointArgs {
    /// Folder of checkpoints: resume from the newest in it, and write new ones to it
    #[arg(
        long,
        env = "AURIA_CHECKPOINTS",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub checkpoints: Option<PathBuf>,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub checkpoint_every: u64,
}

/// The state of a training between two steps.
#[derive(Debug)]
pub struct Checkpoint {
    /// How many steps are done.
    pub step: u64,
    /// The seed of the training.
    pub seed: u64,
    /// Which training this is: resuming with other data or settings is refused.
    pub fingerprint: String,
    /// The position in the data and whatever else is not a tensor.
    pub state: serde_json::Value,
    /// Weights, the optimiser's state, averages.
    pub tensors: Tensors,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    step: u64,
    seed: u64,
    fingerprint: String,
    state: serde_json::Value,
}

/// A folder of checkpoints, or none at all.
#[derive(Debug)]
pub struct Checkpoints {
    dir: Option<PathBuf>,
    every: std::time::Duration,
    last: std::time::Instant,
}

impl Checkpoints {
    /// Opens the folder that the arguments name.
    pub fn open(args: &CheckpointArgs) -> Result<Self, Error> {
        let dir = args
            .checkpoints
            .clone()
            .filter(|d| !d.as_os_str().is_empty());
        if let Some(dir) = &dir {
            files::create_dir(dir)?;
        }
        Ok(Self {
            dir,
            every: std::time::Duration::from_secs(args.checkpoint_every),
            last: std::time::Instant::now(),
        })
    }

    /// Whether there is a folder for them.
    pub fn are_kept(&self) -> bool {
        self.dir.is_some()
    }

    /// The newest whole checkpoint, which must be of the training `fingerprint`.
    pub fn resume(&self, fingerprint: &str, device: Device) -> Result<Option<Checkpoint>, Error> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        let mut newest: Option<(u64, PathBuf)> = None;
        for folder in generations(dir)? {
            let header: Header = files::read_json(&folder.join(STATE))?;
            if newest.as_ref().is_none_or(|(step, _)| header.step >= *step) {
                newest = Some((header.step, folder));
            }
        }
        let Some((_, folder)) = newest else {
            return Ok(None);
        };
        let header: Header = files::read_json(&folder.join(STATE))?;
        if header.format != FORMAT {
            return Err(Error::content(
                &folder,
                format!(
                    "is a checkpoint of format {}; this program reads {FORMAT}",
                    header.format
                ),
            ));
        }
        if header.fingerprint != fingerprint {
            return Err(Error::content(
                &folder,
                "belongs to a training with other data or settings; name an empty folder",
            ));
        }
        let tensors = weights::read(&folder.join(TENSORS), device)?;
        let Header {
            step,
            seed,
            fingerprint,
            state,
            ..
        } = header;
        Ok(Some(Checkpoint {
            step,
            seed,
            fingerprint,
            state,
            tensors,
        }))
    }

    /// Whether it is time for the next one.
    pub fn due(&self) -> bool {
        self.dir.is_some() && self.last.elapsed() >= self.every
    }

    /// Writes a checkpoint under a hidden name and renames it into place. Does nothing
    /// where no folder was named.
    pub fn publish(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.last = std::time::Instant::now();
        let Some(dir) = &self.dir else { return Ok(()) };
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(dir)
            .map_err(Error::write(dir))?;
        weights::write(
            &partial.path().join(TENSORS),
            &checkpoint.tensors,
            Storage::Exact,
        )?;
        let header = Header {
            format: FORMAT,
            step: checkpoint.step,
            seed: checkpoint.seed,
            fingerprint: checkpoint.fingerprint.clone(),
            state: checkpoint.state.clone(),
        };
        files::write_json(&partial.path().join(STATE), &header)?;
        let target = dir.join(format!("step-{:010}", checkpoint.step));
        if target.exists() {
            // The same step of the same training is the same checkpoint.
            return Ok(());
        }
        std::fs::rename(partial.path(), &target).map_err(Error::write(&target))?;
        // The folder moved away; there is nothing left to clean under the old name.
        let _ = partial.keep();
        prune(dir)
    }
}

/// The whole checkpoints under `dir`: the folder itself (what a launcher restored), or
/// its subfolders.
fn generations(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    if dir.join(STATE).is_file() {
        found.push(dir.to_path_buf());
    }
    for entry in std::fs::read_dir(dir).map_err(Error::read(dir))? {
        let entry = entry.map_err(Error::read(dir))?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().join(STATE).is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn prune(dir: &Path) -> Result<(), Error> {
    let own: Vec<PathBuf> = generations(dir)?
        .into_iter()
        .filter(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("step-"))
        })
        .collect();
    for old in own.iter().rev().skip(KEPT) {
        // A launcher may have taken it away already.
        match std::fs::remove_dir_all(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Write {
                    path: old.clone(),
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    fn at(dir: &Path) -> Checkpoints {
        let args = CheckpointArgs {
            checkpoints: Some(dir.to_path_buf()),
            checkpoint_every: 0,
        };
        Checkpoints::open(&args).unwrap()
    }

    fn checkpoint(step: u64) -> Checkpoint {
        Checkpoint {
            step,
            seed: 9,
            fingerprint: "f".to_owned(),
            state: serde_json::json!({ "position": step * 2 }),
            tensors: Tensors::from([("w".to_owned(), Tensor::from_slice(&[step as f32]))]),
        }
    }

    #[test]
    fn the_newest_comes_back_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoints = at(dir.path());
        assert!(checkpoints.resume("f", Device::Cpu).unwrap().is_none());
        for step in [1, 2, 10, 11] {
            assert!(checkpoints.due());
            checkpoints.publish(&checkpoint(step)).unwrap();
        }
        let back = checkpoints.resume("f", Device::Cpu).unwrap().unwrap();
        assert_eq!((back.step, back.seed), (11, 9));
        assert_eq!(back.state["position"], 22);
        assert_eq!(back.tensors["w"], Tensor::from_slice(&[11f32]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), KEPT);
    }

    #[test]
    fn what_a_launcher_restored_into_the_folder_itself_is_read() {
        let (dir, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        at(dir.path()).publish(&checkpoint(5)).unwrap();
        files::copy_dir(&dir.path().join("step-0000000005"), restored.path()).unwrap();
        assert_eq!(
            at(restored.path())
                .resume("f", Device::Cpu)
                .unwrap()
                .unwrap()
                .step,
            5
        );
    }

    #[test]
    fn a_checkpoint_of_another_training_is_refused_and_half_ones_are_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        at(dir.path()).publish(&checkpoint(1)).unwrap();
        assert!(at(dir.path()).resume("other", Device::Cpu).is_err());
        let half = dir.path().join(".partial-x");
        files::write_json(&half.join(STATE), &serde_json::json!({})).unwrap();
        assert_eq!(
            at(dir.path())
                .resume("f", Device::Cpu)
                .unwrap()
                .unwrap()
                .step,
            1
        );
    }

    #[test]
    fn without_a_folder_nothing_is_written() {
        let args = CheckpointArgs {
            checkpoints: None,
            checkpoint_every: 0,
        };
        let mut none = Checkpoints::open(&args).unwrap();
        assert!(!none.due());
        none.publish(&checkpoint(1)).unwrap();
        assert!(none.resume("f", Device::Cpu).unwrap().is_none());
    }
}
