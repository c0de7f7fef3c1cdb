//! Files and folders of this machine as the entries of a manifest, and which
//! paths and links a manifest may hold at all. It reads names and metadata; the
//! content of files is the concern of `transfer`.

use crate::StoreError;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Permission bits that are kept: no set-user-id, no set-group-id, no sticky bit.
pub(crate) const MODE_BITS: u32 = 0o777;

/// One entry of a tree, relative to its root.
#[derive(Debug)]
pub(crate) struct LocalEntry {
    /// `/` between its parts.
    pub(crate) path: String,
    /// Where it is.
    pub(crate) local: PathBuf,
    pub(crate) kind: LocalKind,
}

#[derive(Debug)]
pub(crate) enum LocalKind {
    File {
        mode: u32,
    },
    Symlink {
        target: String,
    },
    /// An empty one: others are implied by what they hold.
    Folder {
        mode: u32,
    },
}

/// Which entries of a folder count.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    /// Without `.git`, `.auria`, these paths (absolute), and what the folder's
    /// `.amlignore`, or where it has none its `.gitignore`, leaves out.
    Source {
        exclude: Vec<PathBuf>,
    },
}

/// The entries of the folder `root`, sorted by path. Blocks.
pub(crate) fn walk(root: &Path, which: &Which) -> Result<Vec<LocalEntry>, StoreError> {
    let mut builder = ignore::WalkBuilder::new(root);
    builder.standard_filters(false).follow_links(false);
    if let Which::Source { exclude } = which {
        // As Azure ML does it: where there is an .amlignore, .gitignore says nothing.
        if root.join(".amlignore").is_file() {
            builder.add_custom_ignore_filename(".amlignore");
        } else {
            builder.add_custom_ignore_filename(".gitignore");
        }
        let exclude = exclude.clone();
        builder.filter_entry(move |entry| {
            let name = entry.file_name();
            entry.depth() == 0
                || (name != ".git"
                    && name != ".auria"
                    && !exclude.iter().any(|path| path == entry.path()))
        });
    }
    let mut entries = Vec::new();
    for found in builder.build() {
        let found = found.map_err(|error| walk_error(root, error))?;
        if found.depth() > 0
            && let Some(entry) = local_entry(root, found.path())?
        {
            entries.push(entry);
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// The file `path` as a tree of its own, under the name it was given; `local` is
/// where it is, without links. Blocks.
pub(crate) fn single(path: &Path, local: PathBuf) -> Result<Vec<LocalEntry>, StoreError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let path = name
        .map(str::to_owned)
        .ok_or_else(|| StoreError::Unsuitable {
            path: path.to_owned(),
            why: "its name is not UTF-8; rename it".into(),
        })?;
    let meta = std::fs::symlink_metadata(&local).map_err(StoreError::local("read", &local))?;
    let kind = LocalKind::File {
        mode: meta.permissions().mode() & MODE_BITS,
    };
    Ok(vec![LocalEntry { path, local, kind }])
}

fn walk_error(root: &Path, error: ignore::Error) -> StoreError {
    let text = error.to_string();
    match error.into_io_error() {
        Some(source) => StoreError::Local {
            doing: "list",
            path: root.to_owned(),
            source,
        },
        None => StoreError::Unsuitable {
            path: root.to_owned(),
            why: text,
        },
    }
}

/// The entry at `local`; none for a folder that holds something.
fn local_entry(root: &Path, local: &Path) -> Result<Option<LocalEntry>, StoreError> {
    let unsuitable = |why: String| StoreError::Unsuitable {
        path: local.to_owned(),
        why,
    };
    let meta = std::fs::symlink_metadata(local).map_err(StoreError::local("read", local))?;
    let relative = local.strip_prefix(root).unwrap_or(local);
    let path = relative
        .to_str()
        .ok_or_else(|| unsuitable("its name is not UTF-8; rename it".into()))?
        .to_owned();
    let mode = meta.permissions().mode() & MODE_BITS;
    let kind = if meta.is_file() {
        LocalKind::File { mode }
    } else if meta.is_symlink() {
        let target = std::fs::read_link(local).map_err(StoreError::local("read", local))?;
        LocalKind::Symlink {
            target: link_target(root, &path, &target).map_err(unsuitable)?,
        }
    } else if meta.is_dir() {
        let mut inside = std::fs::read_dir(local).map_err(StoreError::local("list", local))?;
        if inside.next().is_some() {
            return Ok(None);
        }
        LocalKind::Folder { mode }
    } else {
        return Err(unsuitable(
            "it is neither file, folder nor symbolic link; remove it".into(),
        ));
    };
    Ok(Some(LocalEntry {
        path,
        local: local.to_owned(),
        kind,
    }))
}

/// `target` as a manifest keeps it: relative, and inside.
fn link_target(root: &Path, link: &str, target: &Path) -> Result<String, String> {
    let relative = match target.strip_prefix(root) {
        Ok(inside) => {
            let up = link.matches('/').count();
            let mut relative: PathBuf = std::iter::repeat_n("..", up).collect();
            relative.push(inside);
            relative
        }
        Err(_) => target.to_owned(),
    };
    let text = relative
        .to_str()
        .ok_or("it is a symbolic link to a name that is not UTF-8")?;
    if is_confined_link(link, text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "it is a symbolic link to {}, outside the folder; copy what it points to, or leave the link out",
            target.display()
        ))
    }
}

/// Whether the link at `link` (a path that [`is_confined`]) stays inside its
/// root: `..` stands only at the beginning, and not more often than there are
/// folders to leave. So the way passes real folders first and then names, and a
/// chain of such links cannot leave either.
pub(crate) fn is_confined_link(link: &str, target: &str) -> bool {
    let depth = link.matches('/').count();
    let mut ups = 0;
    let mut down = false;
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir if down => return false,
            Component::ParentDir => ups += 1,
            Component::Normal(_) => down = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !target.is_empty() && !target.contains('\0') && ups <= depth
}

/// Whether `path` is relative, has names alone, and so stays below where it begins.
pub(crate) fn is_confined(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether entries at these paths (sorted or not) can all be there: none twice,
/// none below another that is no folder.
pub(crate) fn clash<'a>(paths: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for path in paths {
        if !seen.insert(path) {
            return Some(path);
        }
        all.push(path);
    }
    all.into_iter().find(|path| {
        path.match_indices('/')
            .any(|(end, _)| seen.contains(&path[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::{clash, is_confined, is_confined_link};

    #[test]
    fn paths_stay_inside() {
        for good in ["a", "a/b", "..a", "a..", "größe"] {
            assert!(is_confined(good), "{good}");
        }
        for bad in [
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", "a\0",
        ] {
            assert!(!is_confined(bad), "{bad}");
        }
    }

    #[test]
    fn links_stay_inside() {
        for (link, target) in [
            ("a", "b"),
            ("a/b", "../c"),
            ("a/b", "c/d"),
            ("a/b/c", "../../d/e"),
            ("a", "./b"),
        ] {
            assert!(is_confined_link(link, target), "{link} -> {target}");
        }
        for (link, target) in [
            ("a", ".."),
            ("a", "/etc"),
            ("a/b", "../../c"),
            ("a", ""),
            ("x/y/a", "d/../.."),
            ("x/y/a", "d/.."),
        ] {
            assert!(!is_confined_link(link, target), "{link} -> {target}");
        }
    }

    #[test]
    fn entries_do_not_clash() {
        assert_eq!(clash(["a/b", "a/c", "ab"].into_iter()), None);
        assert_eq!(clash(["a", "b", "a"].into_iter()), Some("a"));
        assert_eq!(clash(["a/b/c", "a/b"].into_iter()), Some("a/b/c"));
    }
}
