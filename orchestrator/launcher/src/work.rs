//! The folder that an attempt works in, and what the command finds there.

use auria_core::AttemptId;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The work folder: `code` (where the command starts), `inputs`, `outputs`,
/// `checkpoints` and `tmp`. Its own paths hold no blanks.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    root: PathBuf,
}

impl Work {
    /// The folder `root`, not made yet.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Makes it, empty, with a folder for outputs where there are `outputs`; that for
    /// inputs is made with the first of them.
    pub(crate) fn create(&self, outputs: bool) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        remove(&self.root)?;
        builder.create(&self.root)?;
        let outputs = outputs.then_some("outputs");
        for part in ["code", "checkpoints", "tmp"].into_iter().chain(outputs) {
            builder.create(self.root.join(part))?;
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn code(&self) -> PathBuf {
        self.root.join("code")
    }

    pub(crate) fn input(&self, name: &str) -> PathBuf {
        self.root.join("inputs").join(name)
    }

    pub(crate) fn output(&self, name: &str) -> PathBuf {
        self.root.join("outputs").join(name)
    }

    /// Where one process of a distributed step writes an output.
    pub(crate) fn output_of(&self, rank: u32, name: &str) -> PathBuf {
        let outputs = self.root.join("ranks").join(rank.to_string());
        outputs.join("outputs").join(name)
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The checkpoints of an instance: those of the first count.
    pub(crate) fn checkpoints_of(&self, instance: u32) -> PathBuf {
        match instance {
            0 => self.checkpoints(),
            _ => self.instance(instance).join("checkpoints"),
        }
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The metrics of an instance: those of the first count.
    pub(crate) fn metrics_of(&self, instance: u32) -> PathBuf {
        match instance {
            0 => self.metrics(),
            _ => self.instance(instance).join("metrics.jsonl"),
        }
    }

    fn instance(&self, instance: u32) -> PathBuf {
        self.root.join("instances").join(instance.to_string())
    }

    /// The hosts that `mpirun` is given.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// The pipe that takes the output of a command in a container.
    pub(crate) fn pipe(&self) -> PathBuf {
        self.root.join(".output")
    }

    /// What tells that memory ran out in a container.
    pub(crate) fn memory(&self) -> PathBuf {
        self.root.join(".out-of-memory")
    }

    /// What else the environment of a command on an instance holds; one that is not
    /// distributed is the first.
    pub(crate) fn variables(
        &self,
        attempt: &AttemptId,
        instance: u32,
    ) -> BTreeMap<OsString, OsString> {
        let AttemptId { run, step, number } = attempt;
        let pairs: [(&str, OsString); 8] = [
            ("AURIA_RUN", run.as_str().into()),
            ("AURIA_STEP", step.as_str().into()),
            ("AURIA_ATTEMPT", number.to_string().into()),
            ("AURIA_CHECKPOINTS", self.checkpoints_of(instance).into()),
            ("AURIA_METRICS", self.metrics_of(instance).into()),
            ("AZUREML_RUN_ID", run.as_str().into()),
            ("TMPDIR", self.root.join("tmp").into()),
            ("PWD", self.code().into()),
        ];
        pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect()
    }
}

/// Removes a work folder, also where the command took away its own rights to parts
/// of it. Nothing there is no error.
///
/// # Errors
/// Where something in it cannot be removed.
pub fn remove(root: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(root)?;
            std::fs::remove_dir_all(root)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Work;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_read_only_folder_is_removed_too() {
        let dir = tempfile::tempdir().unwrap();
        let work = Work::at(dir.path().join("w"));
        work.create(true).unwrap();
        let inner = work.output("x/y");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), "x").unwrap();
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o500)).unwrap();
        super::remove(work.root()).unwrap();
        assert!(!work.root().exists());
        super::remove(work.root()).unwrap();
    }
}
