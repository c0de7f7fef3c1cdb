//! A folder, the programs, and what they print.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The folder of the programs: `target/debug` of this build.
///
/// # Panics
/// Where a test runs from anywhere else than a target folder.
#[must_use]
pub fn programs() -> PathBuf {
    let me = std::env::current_exe().expect("a test knows its own program");
    let folder = me.parent().expect("a program is in a folder");
    if folder.ends_with("deps") {
        folder
            .parent()
            .expect("deps is in a profile's folder")
            .to_owned()
    } else {
        folder.to_owned()
    }
}

/// A program of the project, built by `cargo build -p NAME`.
///
/// # Panics
/// Where it has not been built: a test that silently leaves it out could not fail.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = programs().join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p {name}`",
        path.display()
    );
    path
}

/// Copies a file or a folder; folders above the copy are made.
///
/// # Panics
/// Where that cannot be done.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().expect("a folder above it")).expect("a folder");
    let mut copy = Command::new("cp");
    let copied = copy.arg("-r").arg(from).arg(to).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{}",
        from.display()
    );
}

/// The project's own folder, or a copy of it that `AURIA_TEST_PROJECT` names.
///
/// # Panics
/// Never: the folder of this package is inside it.
#[must_use]
pub fn project() -> PathBuf {
    if let Some(copy) = std::env::var_os("AURIA_TEST_PROJECT") {
        return copy.into();
    }
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests is in the project")
        .to_owned()
}

/// A folder of its own for each test, with a store in it.
pub struct Context {
    folder: tempfile::TempDir,
    binary: PathBuf,
    store: String,
    variables: Vec<(String, String)>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Done {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Done {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Itself, where the command ended with `code`.
    ///
    /// # Panics
    /// Where it ended otherwise.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A new, empty folder.
    ///
    /// # Panics
    /// Where none can be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("auria-test-")
            .tempdir()
            .expect("a temporary folder");
        let store = folder.path().join("store").to_string_lossy().into_owned();
        Self {
            folder,
            binary: program("auria-pipeline"),
            store,
            variables: Vec::new(),
        }
    }

    /// With another binary, such as one that has wrappers beside it.
    #[must_use]
    pub fn with_binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// With another store.
    #[must_use]
    pub fn with_store(mut self, store: &str) -> Self {
        store.clone_into(&mut self.store);
        self
    }

    /// Without a store of its own: commands look for one themselves.
    #[must_use]
    pub fn without_store(mut self) -> Self {
        self.store = String::new();
        self
    }

    /// With a variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Writes a file into the folder.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("its folder");
        std::fs::write(&path, text).expect("the file");
        path
    }

    /// `auria-pipeline ARGS`, in the folder, with the store, without a terminal.
    #[must_use]
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .current_dir(self.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !self.store.is_empty() {
            command.arg("--store").arg(&self.store);
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Runs `auria-pipeline ARGS` to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Done {
        let output = self.command(args).output().expect("auria-pipeline starts");
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts `auria-pipeline ARGS`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Child {
        self.command(args).spawn().expect("auria-pipeline starts")
    }
}
