//! Digests (blake3, lower-case hex) of bytes, files and folders, for cards and gates.

use std::path::{Path, PathBuf};

use crate::{Error, files};

/// The digest of some bytes.
pub fn bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The digest of a file's content.
pub fn file(path: &Path) -> Result<String, Error> {
    Ok(bytes(&files::read(path)?))
}

/// The digest of a folder: of the sorted relative paths and contents of its files.
/// Names that begin with a dot are left out.
pub fn folder(path: &Path) -> Result<String, Error> {
    let mut found = Vec::new();
    walk(path, path, &mut found)?;
    found.sort();
    of_files(path, &found)
}

/// The digest of the given files (paths relative to `root`), in the given order.
pub fn of_files(root: &Path, relative: &[PathBuf]) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    for name in relative {
        let content = files::read(&root.join(name))?;
        let name = name.to_string_lossy();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let entry = entry.map_err(Error::read(folder))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::read(&path))?;
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.push(relative.to_path_buf());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_digest_sees_names_and_contents_only() {
        let make = |name: &str, content: &str| {
            let dir = tempfile::tempdir().unwrap();
            files::write_atomic(&dir.path().join("sub").join(name), content.as_bytes()).unwrap();
            files::write_atomic(&dir.path().join(".hidden"), name.as_bytes()).unwrap();
            folder(dir.path()).unwrap()
        };
        assert_eq!(make("a", "x"), make("a", "x"));
        assert_ne!(make("a", "x"), make("b", "x"));
        assert_ne!(make("a", "x"), make("a", "y"));
    }
}
