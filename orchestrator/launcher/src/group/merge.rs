//! What several processes wrote for one output, as one: each file under its own name. Two
//! that wrote the same path must have written the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why there is no one output of several.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Conflict {
    /// Two wrote one path.
    #[error("ranks {first} and {second} wrote {path} differently")]
    Differs {
        /// Who has it.
        first: u32,
        /// Who would have it, too.
        second: u32,
        /// Which, within the output.
        path: String,
    },
    /// The disk failed.
    #[error("what the ranks wrote could not be put together: {0}")]
    Disk(#[from] io::Error),
}

/// Moves what stands at `parts` to `to`, of which nothing is there yet. Where it is
/// `lenient`, the lowest rank's stands where two differ.
pub(crate) fn merge(parts: &[(u32, PathBuf)], to: &Path, lenient: bool) -> Result<(), Conflict> {
    let mut owners = BTreeMap::new();
    for (rank, from) in parts {
        let found = match fs::symlink_metadata(from) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let mut joining = Joining {
            rank: *rank,
            owners: &mut owners,
            lenient,
        };
        joining.join(from, to, &found, &mut PathBuf::new())?;
    }
    Ok(())
}

struct Joining<'a> {
    rank: u32,
    /// Who has each path.
    owners: &'a mut BTreeMap<PathBuf, u32>,
    lenient: bool,
}

impl Joining<'_> {
    fn join(
        &mut self,
        from: &Path,
        to: &Path,
        found: &fs::Metadata,
        name: &mut PathBuf,
    ) -> Result<(), Conflict> {
        let there = match fs::symlink_metadata(to) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if found.is_dir() {
            match there {
                None => {
                    fs::create_dir(to)?;
                    fs::set_permissions(to, found.permissions())?;
                    self.owners.insert(name.clone(), self.rank);
                }
                Some(there) if there.is_dir() => {}
                Some(_) => return self.differs(name),
            }
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                name.push(entry.file_name());
                let (from, to) = (entry.path(), to.join(entry.file_name()));
                self.join(&from, &to, &fs::symlink_metadata(&from)?, name)?;
                name.pop();
            }
            return Ok(());
        }
        match there {
            None => {
                fs::rename(from, to)?;
                self.owners.insert(name.clone(), self.rank);
                Ok(())
            }
            Some(there) if is_same(from, found, to, &there)? => Ok(()),
            Some(_) => self.differs(name),
        }
    }

    fn differs(&self, name: &Path) -> Result<(), Conflict> {
        if self.lenient {
            return Ok(());
        }
        let path = if name.as_os_str().is_empty() {
            "it".to_owned()
        } else {
            format!("`{}`", name.display())
        };
        Err(Conflict::Differs {
            first: self.owners.get(name).copied().unwrap_or_default(),
            second: self.rank,
            path,
        })
    }
}

/// Whether two files hold the same, or two links lead to the same.
fn is_same(
    one: &Path,
    first: &fs::Metadata,
    other: &Path,
    second: &fs::Metadata,
) -> io::Result<bool> {
    if first.is_symlink() && second.is_symlink() {
        return Ok(fs::read_link(one)? == fs::read_link(other)?);
    }
    if !first.is_file() || !second.is_file() || first.len() != second.len() {
        return Ok(false);
    }
    let mut files = [fs::File::open(one)?, fs::File::open(other)?];
    let mut pieces = [vec![0; 64 * 1024], vec![0; 64 * 1024]];
    loop {
        let [one, other] = &mut files;
        let [left, right] = &mut pieces;
        let read = one.read(left)?;
        if read == 0 {
            return Ok(true);
        }
        match other.read_exact(&mut right[..read]) {
            Ok(()) if left[..read] == right[..read] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merge;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn rank(root: &Path, rank: u32, files: &[(&str, &str)]) -> (u32, PathBuf) {
        let folder = root.join(rank.to_string());
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        (rank, folder)
    }

    #[test]
    fn files_of_all_ranks_become_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let parts = [
            rank(dir.path(), 0, &[("all", "same"), ("shards/0", "a")]),
            rank(dir.path(), 1, &[("all", "same"), ("shards/1", "b")]),
            (2, dir.path().join("nothing")),
        ];
        let to = dir.path().join("to");
        merge(&parts, &to, false).unwrap();
        for (name, text) in [("all", "same"), ("shards/0", "a"), ("shards/1", "b")] {
            assert_eq!(fs::read_to_string(to.join(name)).unwrap(), text);
        }
    }

    #[test]
    fn one_path_with_two_contents_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let parts = [
            rank(dir.path(), 0, &[("a/model", "one")]),
            rank(dir.path(), 1, &[]),
            rank(dir.path(), 2, &[("a/model", "two")]),
        ];
        let to = dir.path().join("to");
        let error = merge(&parts, &to, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ranks 0 and 2 wrote `a/model` differently"
        );
        // A file where the other has a folder.
        let parts = [
            rank(dir.path(), 3, &[("a", "file")]),
            rank(dir.path(), 4, &[("a/model", "two")]),
        ];
        let to = dir.path().join("other");
        assert!(merge(&parts, &to, false).is_err());
        fs::remove_dir_all(&to).unwrap();
        let parts = [
            rank(dir.path(), 5, &[("m", "1")]),
            rank(dir.path(), 6, &[("m", "2")]),
        ];
        merge(&parts, &to, true).unwrap();
        assert_eq!(fs::read_to_string(to.join("m")).unwrap(), "1");
    }
}
