//! `auria-launcher install FOLDER`: puts this program into a folder, from which any image's
//! container can start it. Called by the init container of Pods whose image does not carry
//! the launcher. It starts nothing.

use crate::failure::chain;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

/// Its name there.
const NAME: &str = "auria-launcher";
/// Whoever the step runs as may start it, nobody may change it.
const MODE: u32 = 0o555;

/// Puts a copy of this program into `folder`. To be called by a process of its own.
#[must_use]
pub fn main(folder: &OsStr) -> ExitCode {
    match install(Path::new("/proc/self/exe"), Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "the launcher cannot be put into {}: {}",
                folder.display(),
                chain(&error)
            );
            ExitCode::FAILURE
        }
    }
}

/// Copies `program` into `folder`, whole or not at all: an init container may be started
/// again while what it made is there, and a node may lose its power.
fn install(program: &Path, folder: &Path) -> io::Result<()> {
    let partial = folder.join(format!(".{NAME}.{}", std::process::id()));
    // Each init container's process has the same number: what one left that was killed is
    // in the way of the next.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let copied = copy(program, &partial).and_then(|()| fs::rename(&partial, folder.join(NAME)));
    if copied.is_err() {
        // There may be none.
        let _ = fs::remove_file(&partial);
        return copied;
    }
    fs::File::open(folder)?.sync_all()
}

fn copy(program: &Path, to: &Path) -> io::Result<()> {
    let mut from = fs::File::open(program)?;
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(to)?;
    io::copy(&mut from, &mut copy)?;
    // Whatever the umask took away.
    copy.set_permissions(Permissions::from_mode(MODE))?;
    // The name comes after the bytes, also where the machine stops in between.
    copy.sync_all()
}

#[cfg(test)]
mod tests {
    use super::install;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_may_be_started_by_anyone_and_is_put_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "one").unwrap();
        let to = folder.path().join("to");
        fs::create_dir(&to).unwrap();
        for text in ["one", "two"] {
            fs::write(&program, text).unwrap();
            install(&program, &to).unwrap();
            let made: Vec<_> = fs::read_dir(&to).unwrap().map(|e| e.unwrap()).collect();
            assert_eq!(made.len(), 1);
            assert_eq!(made[0].file_name(), "auria-launcher");
            assert_eq!(fs::read_to_string(made[0].path()).unwrap(), text);
            let mode = made[0].metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o555);
        }
    }

    #[test]
    fn what_was_cut_short_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "whole").unwrap();
        let to = folder.path().join("to");
        fs::create_dir(&to).unwrap();
        // As a process of this number left it that was killed.
        let partial = to.join(format!(".auria-launcher.{}", std::process::id()));
        fs::write(&partial, "wh").unwrap();
        install(&program, &to).unwrap();
        assert_eq!(
            fs::read_to_string(to.join("auria-launcher")).unwrap(),
            "whole"
        );
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    }

    #[test]
    fn what_failed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        install(&folder.path().join("none"), folder.path()).unwrap_err();
        install(folder.path(), folder.path()).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
