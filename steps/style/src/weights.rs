//! A folder of weights: `model.safetensors`, `config.json`, and the card. It
//! reads and writes; it never trains.

use std::path::Path;

use auria_steps_common::weights::{self, Storage};
use auria_steps_common::{Error, digest, files};
use tch::Device;

use crate::model::{Config, Network};

const CONFIG: &str = "config.json";
const MODEL: &str = "model.safetensors";

/// Writes the network, in half precision, and its sizes.
///
/// # Errors
/// [`Error`] where a file cannot be written.
pub fn write(folder: &Path, network: &Network) -> Result<(), Error> {
    weights::write(&folder.join(MODEL), network.parameters(), Storage::Half)?;
    files::write_json(&folder.join(CONFIG), network.config())
}

/// Reads a network.
///
/// # Errors
/// [`Error`] where a file is missing or the two do not fit each other.
pub fn read(folder: &Path, device: Device) -> Result<Network, Error> {
    let config: Config = files::read_json(&folder.join(CONFIG))?;
    let path = folder.join(MODEL);
    let tensors = weights::read(&path, device)?;
    Network::from_parameters(config, tensors, device)
        .map_err(|error| Error::content(&path, error.to_string()))
}

/// Bytes of the weights' file.
///
/// # Errors
/// [`Error::Read`] where it is not there.
pub fn bytes(folder: &Path) -> Result<u64, Error> {
    let path = folder.join(MODEL);
    std::fs::metadata(&path)
        .map(|m| m.len())
        .map_err(Error::read(&path))
}

/// The digest of configuration and weights together.
///
/// # Errors
/// [`Error::Read`] where one is not there.
pub fn digest(folder: &Path) -> Result<String, Error> {
    digest::of_files(folder, &[CONFIG.into(), MODEL.into()])
}
