//! A work, its gallery, both networks and the program that posts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::instagram::{self, Instagram};
use super::network::{Files, Server};
use super::x::{self, X};

pub const DAY: &str = "2026-11-30";

pub struct Posting {
    pub root: tempfile::TempDir,
    pub instagram: Server<Instagram>,
    pub x: Server<X>,
    public: Server<Files>,
}

impl Posting {
    pub fn new() -> Self {
        Self::with_lines(&[
            "the sky was stirring,",
            "and the sun grew very bright,",
            "and the sea was blue",
        ])
    }

    /// A gallery with one work of these lines.
    pub fn with_lines(lines: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let posting = Self {
            public: Server::start(Files(root.path().join("gallery"))),
            root,
            instagram: Server::start(Instagram::new()),
            x: Server::start(X::new()),
        };
        posting.work(1, lines);
        posting
    }

    /// Writes work `number` and its entry, and returns the entry's folder.
    pub fn work(&self, number: u8, lines: &[&str]) -> PathBuf {
        let work = super::work(self.root.path(), number);
        let poem = serde_json::json!({"lines": lines, "mood": "joy", "seed": number});
        fs::write(work.join("poem/poem.json"), poem.to_string()).unwrap();
        super::all_at_once(vec![super::post(
            &work,
            self.gallery().to_str().unwrap(),
            &[],
        )]);
        work.join("out")
    }

    pub fn gallery(&self) -> PathBuf {
        self.root.path().join("gallery")
    }

    /// `auria-post publish`, with what both networks need.
    pub fn publish(&self, network: &str, more: &[&str]) -> Command {
        let entry = self.root.path().join("work-1/out");
        let mut command = self.program("publish");
        command
            .args(["--to", network, "--day", DAY])
            .arg("--entry")
            .arg(entry)
            .args(more);
        if !more.contains(&"--settle") {
            command.args(["--settle", "0"]);
        }
        command
    }

    /// The program, with the records of this gallery and the credentials of both networks.
    pub fn program(&self, name: &str) -> Command {
        let mut command = program(name, self.gallery().to_str().unwrap());
        command
            .env(
                "AURIA_INSTAGRAM_URL",
                format!("{}/v24.0", self.instagram.origin),
            )
            .env("AURIA_X_URL", &self.x.origin)
            .env("AURIA_POST_PUBLIC_URL", &self.public.origin);
        command
    }

    /// Runs to the end, and looks that no secret was said or recorded.
    pub fn run(&self, mut command: Command) -> Said {
        let said = Said::of(command.output().unwrap());
        self.no_secrets(&said);
        said
    }

    fn no_secrets(&self, said: &Said) {
        let mut texts = vec![said.out.clone(), said.err.clone()];
        let folders = fs::read_dir(self.gallery().join("posts"))
            .into_iter()
            .flatten();
        for folder in folders.flatten() {
            for file in fs::read_dir(folder.path()).unwrap().flatten() {
                texts.push(String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned());
            }
        }
        for text in &texts {
            for secret in secrets() {
                assert!(!text.contains(secret), "{secret} is in: {text}");
            }
        }
    }

    pub fn record(&self, network: &str) -> Value {
        let path = self.gallery().join(format!("posts/{DAY}/{network}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// How many posts there are on a network.
    pub fn count(&self, network: &str) -> usize {
        match network {
            "x" => self.x.api.lock().unwrap().posts.len(),
            _ => self.instagram.api.lock().unwrap().posts.len(),
        }
    }

    /// Posted once, and said so by the record.
    pub fn is_posted_once(&self, network: &str, about: &str) {
        assert_eq!(self.count(network), 1, "{about}");
        let record = self.record(network);
        assert_eq!(record["state"], "posted", "{about}: {record}");
        assert!(record["owner"].is_null(), "{about}: {record}");
    }
}

/// The program on any place of records.
pub fn program(name: &str, records: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auria-post"));
    command
        .arg(name)
        .args(["--records", records])
        .env("AURIA_INSTAGRAM_USER", instagram::USER)
        .env("AURIA_INSTAGRAM_TOKEN", instagram::TOKEN)
        .envs(x::KEYS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn secrets() -> impl Iterator<Item = &'static str> {
    let keys = x::KEYS.iter().map(|(_, value)| *value);
    keys.chain([instagram::TOKEN, "X-Amz-Signature", "oauth_signature"])
}

/// What a run said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// SIGKILL, at once.
pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The files below `posts/`, by their paths.
pub fn kept(gallery: &Path) -> usize {
    fs::read_dir(gallery.join("posts")).map_or(0, Iterator::count)
}
