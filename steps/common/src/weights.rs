//! Named tensors in safetensors files: written whole or not at all, read with checks.

use std::collections::BTreeMap;
use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::{Error, files};

/// Tensors by name, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// How floating-point tensors are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// As they are.
    #[default]
    Exact,
    /// In half precision: half the bytes, for weights that ship.
    Half,
}

/// Writes tensors to a temporary name beside `path`, syncs, and renames it into place.
/// Equal tensors give equal bytes.
pub fn write(path: &Path, tensors: &Tensors, storage: Storage) -> Result<(), Error> {
    let folder = files::folder_of(path);
    files::create_dir(folder)?;
    let plain: Vec<(&str, Tensor)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let tensor = tensor.detach().to_device(Device::Cpu);
            let tensor = match storage {
                Storage::Half if tensor.is_floating_point() => tensor.to_kind(Kind::Half),
                _ => tensor,
            };
            (name.as_str(), tensor.contiguous())
        })
        .collect();
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(folder)
        .map_err(Error::write(path))?;
    let file = partial.path().join("tensors");
    Tensor::write_safetensors(&plain, &file).map_err(Error::tensors(path))?;
    let rename = || {
        std::fs::File::open(&file)?.sync_all()?;
        std::fs::rename(&file, path)
    };
    rename().map_err(Error::write(path))
}

/// Reads all tensors of a file to `device`. Half precision becomes single.
pub fn read(path: &Path, device: Device) -> Result<Tensors, Error> {
    // Asked first, for an error that names the file and the reason.
    std::fs::File::open(path).map_err(Error::read(path))?;
    let tensors = Tensor::read_safetensors(path).map_err(Error::tensors(path))?;
    Ok(tensors
        .into_iter()
        .map(|(name, tensor)| {
            let tensor = match tensor.kind() {
                Kind::Half | Kind::BFloat16 => tensor.to_kind(Kind::Float),
                _ => tensor,
            };
            (name, tensor.to_device(device))
        })
        .collect())
}

/// The variables of a store, by name.
pub fn of_store(store: &VarStore) -> Tensors {
    store.variables().into_iter().collect()
}

/// Copies `tensors` into the variables of a store. Every variable must be there, with
/// its shape; names that the store lacks are an error too, so that weights of another
/// architecture are never half loaded.
pub fn load_store(path: &Path, tensors: &Tensors, store: &mut VarStore) -> Result<(), Error> {
    let mut variables: Tensors = store.variables().into_iter().collect();
    for (name, tensor) in tensors {
        let Some(mut variable) = variables.remove(name) else {
            return Err(Error::content(
                path,
                format!("holds `{name}`, which the model lacks"),
            ));
        };
        if variable.size() != tensor.size() {
            return Err(Error::content(
                path,
                format!(
                    "`{name}` has the shape {:?}, and the model needs {:?}",
                    tensor.size(),
                    variable.size()
                ),
            ));
        }
        tch::no_grad(|| variable.copy_(tensor));
    }
    match variables.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::content(
            path,
            format!("lacks `{name}`, which the model needs"),
        )),
    }
}

/// The number of values of some tensors.
pub fn count(tensors: &Tensors) -> u64 {
    tensors.values().map(|t| t.numel() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Tensors {
        let values = Tensor::from_slice(&[1.0f32, 2.5, -3.0, 0.1]).reshape([2, 2]);
        Tensors::from([
            ("b".to_owned(), values),
            ("a".to_owned(), Tensor::from_slice(&[7i64])),
        ])
    }

    #[test]
    fn tensors_come_back_and_bytes_are_equal() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        write(&one, &some(), Storage::Exact).unwrap();
        write(&two, &some(), Storage::Exact).unwrap();
        assert_eq!(files::read(&one).unwrap(), files::read(&two).unwrap());
        let back = read(&one, Device::Cpu).unwrap();
        assert_eq!(back["b"], some()["b"]);
        assert_eq!(back["a"], some()["a"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn half_precision_rounds_floats_and_keeps_integers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("half");
        write(&path, &some(), Storage::Half).unwrap();
        let back = read(&path, Device::Cpu).unwrap();
        assert_eq!(back["b"].kind(), Kind::Float);
        assert!(back["b"].allclose(&some()["b"], 1e-3, 1e-3, false));
        assert_ne!(back["b"], some()["b"], "0.1 has no exact half");
        assert_eq!(back["a"], some()["a"]);
    }

    #[test]
    fn weights_of_another_shape_or_name_are_refused() {
        let path = Path::new("w");
        let mut store = VarStore::new(Device::Cpu);
        let _ = store.root().zeros("b", &[2, 2]);
        let mut tensors = some();
        let error = load_store(path, &tensors, &mut store)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`a`"), "{error}");
        tensors.remove("a");
        load_store(path, &tensors, &mut store).unwrap();
        assert_eq!(of_store(&store)["b"], some()["b"]);
        let short = Tensors::from([("b".to_owned(), Tensor::from_slice(&[1f32]))]);
        assert!(load_store(path, &short, &mut store).is_err());
        assert!(load_store(path, &Tensors::new(), &mut store).is_err());
    }
}
