//! What an image is built from: the files of a folder, less those that its
//! `.dockerignore` names, as one archive that is the same for the same content. Talks
//! to no engine.

use auria_core::Digest;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// A folder with more files than this is hardly meant.
const MOST_FILES: usize = 200_000;

/// What goes to the engine.
#[derive(Debug)]
pub(super) struct Context {
    /// The archive, at its beginning.
    pub(super) archive: File,
    /// Of its content.
    pub(super) digest: Digest,
}

/// A file of an archive: where it is, or what it says.
enum Piece {
    File(PathBuf),
    Text(String),
}

/// An archive that is being put together, its names in order.
#[derive(Default)]
pub(super) struct Pieces(Vec<(PathBuf, Piece)>);

impl Pieces {
    /// A file of this content.
    pub(super) fn text(&mut self, name: &str, text: String) {
        self.0.push((PathBuf::from(name), Piece::Text(text)));
    }

    /// The file or folder `path`, called `name`.
    pub(super) fn tree(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        self.walk(path, name, &Rules::default())
    }

    /// All that a build of `folder` by `dockerfile` may use.
    pub(super) fn build(&mut self, folder: &Path, dockerfile: &str) -> io::Result<()> {
        let rules = Rules::read(folder, dockerfile)?;
        self.walk(folder, Path::new(""), &rules)
    }

    fn walk(&mut self, path: &Path, name: &Path, rules: &Rules) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        if !name.as_os_str().is_empty() && rules.leaves_out(name) {
            // A folder may hold something that a later rule takes in again.
            if !found.is_dir() || !rules.has_exceptions {
                return Ok(());
            }
        } else if !name.as_os_str().is_empty() {
            self.0.push((name.to_owned(), Piece::File(path.to_owned())));
        }
        if self.0.len() > MOST_FILES {
            return Err(io::Error::other(format!(
                "more than {MOST_FILES} files: name in .dockerignore what the build does not need"
            )));
        }
        if found.is_dir() {
            let mut names = fs::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            for inner in names {
                self.walk(&path.join(&inner), &name.join(&inner), rules)?;
            }
        }
        Ok(())
    }

    /// Writes the archive to a temporary file. Times and owners are left out, so that
    /// equal content is an equal archive.
    pub(super) fn pack(mut self) -> io::Result<Context> {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut archive = tar::Builder::new(tempfile::tempfile()?);
        archive.follow_symlinks(false);
        for (name, piece) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            match piece {
                Piece::Text(text) => {
                    header.set_mode(0o644);
                    header.set_size(text.len() as u64);
                    archive.append_data(&mut header, name, text.as_bytes())?;
                }
                Piece::File(path) => {
                    let found = fs::symlink_metadata(path)?;
                    header.set_mode(found.mode() & 0o7777);
                    if found.is_dir() {
                        header.set_entry_type(tar::EntryType::Directory);
                        header.set_size(0);
                        archive.append_data(&mut header, name, io::empty())?;
                    } else if found.is_symlink() {
                        header.set_entry_type(tar::EntryType::Symlink);
                        header.set_size(0);
                        archive.append_link(&mut header, name, fs::read_link(path)?)?;
                    } else if found.is_file() {
                        header.set_size(found.len());
                        archive.append_data(&mut header, name, File::open(path)?)?;
                    }
                    // Sockets and pipes belong to no image.
                }
            }
        }
        let mut archive = archive.into_inner()?;
        archive.rewind()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut archive)?;
        archive.rewind()?;
        Ok(Context {
            archive,
            digest: hasher.finalize().into(),
        })
    }
}

/// The rules of a `.dockerignore`.
#[derive(Debug, Default)]
struct Rules {
    /// Each line on its own, in order: the last that matches a path or a folder above
    /// it decides.
    lines: Vec<(Gitignore, bool)>,
    has_exceptions: bool,
    /// Never left out: the engine needs them.
    kept: Vec<PathBuf>,
}

impl Rules {
    /// `<dockerfile>.dockerignore` where there is one, else `.dockerignore`.
    fn read(folder: &Path, dockerfile: &str) -> io::Result<Self> {
        let own = folder.join(format!("{dockerfile}.dockerignore"));
        let path = if own.is_file() {
            own
        } else {
            folder.join(".dockerignore")
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut rules = Self::parse(&text)?;
        rules.kept = vec![PathBuf::from(dockerfile), PathBuf::from(".dockerignore")];
        Ok(rules)
    }

    fn parse(text: &str) -> io::Result<Self> {
        let mut rules = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (pattern, back) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            if pattern.is_empty() || pattern == "." {
                continue;
            }
            // Every pattern begins at the folder, unlike those of git.
            let mut builder = GitignoreBuilder::new("");
            builder
                .add_line(None, &format!("/{pattern}"))
                .map_err(io::Error::other)?;
            rules
                .lines
                .push((builder.build().map_err(io::Error::other)?, back));
            rules.has_exceptions |= back;
        }
        Ok(rules)
    }

    fn leaves_out(&self, name: &Path) -> bool {
        if self.kept.iter().any(|kept| kept.starts_with(name)) {
            return false;
        }
        let last = self.lines.iter().rev().find(|(rule, _)| {
            name.ancestors()
                .filter(|part| !part.as_os_str().is_empty())
                .any(|part| rule.matched(part, true).is_ignore())
        });
        last.is_some_and(|(_, back)| !back)
    }
}

/// Whether `path` stays below the folder that it is joined to.
pub(super) fn is_below(path: &Path) -> bool {
    let mut depth = 0_i32;
    for part in path.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Pieces, Rules, is_below};
    use std::path::Path;

    #[test]
    fn rules_are_dockers_and_not_gits() {
        let rules = Rules::parse("# no\ndata\n*.log\n!keep.log\n**/tmp\nout/\n!out/one\n").unwrap();
        let out = |name: &str| rules.leaves_out(Path::new(name));
        assert!(out("data") && out("data/inner/file"));
        assert!(!out("inner/data"), "patterns begin at the folder");
        assert!(out("a.log") && !out("inner/a.log") && !out("keep.log"));
        assert!(out("tmp") && out("a/b/tmp/c"));
        assert!(out("out/two") && !out("out/one"));
    }

    #[test]
    fn equal_content_is_an_equal_archive() {
        let digest = |text: &str, when: u64| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("größe 1")).unwrap();
            for name in ["Dockerfile", "größe 1/a", "left.log"] {
                let file = std::fs::File::create(dir.path().join(name)).unwrap();
                let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(when);
                file.set_modified(at).unwrap();
            }
            std::fs::write(dir.path().join("größe 1/a"), text).unwrap();
            std::fs::write(dir.path().join("left.log"), when.to_string()).unwrap();
            std::fs::write(dir.path().join(".dockerignore"), "*.log").unwrap();
            let mut pieces = Pieces::default();
            pieces.build(dir.path(), "Dockerfile").unwrap();
            pieces.pack().unwrap().digest
        };
        assert_eq!(digest("x", 1), digest("x", 2));
        assert_ne!(digest("x", 1), digest("y", 1));
    }

    #[test]
    fn a_dockerfile_is_in_its_folder() {
        assert!(is_below(Path::new("a/../Dockerfile")) && is_below(Path::new("./x")));
        assert!(!is_below(Path::new("../Dockerfile")) && !is_below(Path::new("/etc/x")));
    }
}
