//! Metrics of a step: JSON lines `{"name","value","step"}` appended to a file that the
//! launcher carries into the run. Never buffers: a killed step loses nothing it logged.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, files, warm};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// What was measured, such as `loss` or `held_out/loss`.
    pub name: String,
    /// Its value; `null` in the file where it is not a finite number.
    pub value: Option<f64>,
    /// At which step of the training.
    pub step: u64,
}

/// The file of metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    /// None where another process writes them.
    file: Option<File>,
    path: PathBuf,
}

impl Metrics {
    /// Opens `$AURIA_METRICS`, or `metrics.jsonl` in the working folder.
    pub fn from_env() -> Result<Self, Error> {
        let path = warm::variable("AURIA_METRICS").filter(|v| !v.is_empty());
        Self::open(&path.map_or_else(|| PathBuf::from("metrics.jsonl"), PathBuf::from))
    }

    /// Metrics that another process of the same training writes.
    pub fn of_another() -> Self {
        Self {
            file: None,
            path: PathBuf::new(),
        }
    }

    /// Opens a file to append to.
    pub fn open(path: &Path) -> Result<Self, Error> {
        files::create_dir(files::folder_of(path))?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::write(path))?;
        Ok(Self {
            file: Some(file),
            path: path.to_path_buf(),
        })
    }

    /// Appends one value, as one write, so that lines of several processes never mix.
    pub fn log(&mut self, name: &str, value: f64, step: u64) -> Result<(), Error> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let metric = Metric {
            name: name.to_owned(),
            value: value.is_finite().then_some(value),
            step,
        };
        let mut line = serde_json::to_vec(&metric).map_err(Error::json(&self.path))?;
        line.push(b'\n');
        file.write_all(&line).map_err(Error::write(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_not_numbers_are_null() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m/metrics.jsonl");
        Metrics::open(&path).unwrap().log("loss", 1.5, 3).unwrap();
        Metrics::open(&path)
            .unwrap()
            .log("loss", f64::NAN, 4)
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"name\":\"loss\",\"value\":1.5,\"step\":3}\n{\"name\":\"loss\",\"value\":null,\"step\":4}\n"
        );
    }
}
