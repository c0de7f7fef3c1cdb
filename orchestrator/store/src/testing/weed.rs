//! SeaweedFS as the tests' S3: one process on free loopback ports, with its data
//! in a temporary folder, stopped when it is dropped.

use crate::{Access, Store, StoreError, StoreUrl};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BUCKET: &str = "auria";
const KEY: &str = "auria";
const SECRET: &str = "auria-secret";
/// The port flags of `weed mini`; the S3 port is the seventh.
const PORTS: [&str; 10] = [
    "master.port",
    "master.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "admin.port",
    "admin.port.grpc",
];
const S3: usize = 6;
/// Starting takes about a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
const STARTS: u32 = 3;

/// A running SeaweedFS.
#[derive(Debug)]
pub struct Weed {
    process: Child,
    endpoint: String,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
}

impl Weed {
    /// Starts one. `None` where the program is not installed: that is said on
    /// standard error, and the test counts as skipped.
    ///
    /// # Panics
    /// Where it is installed and does not start, and where it is not and
    /// `AURIA_TEST_SEAWEEDFS=required`.
    pub async fn start() -> Option<Self> {
        let program = Self::program();
        if !program.is_file() {
            let message = format!("{} is not there; run: cargo xtask weed", program.display());
            #[expect(clippy::disallowed_methods, reason = "a test is a program's edge")]
            let required =
                std::env::var("AURIA_TEST_SEAWEEDFS").is_ok_and(|value| value == "required");
            assert!(!required, "{message}");
            eprintln!("SKIPPED: {message}");
            return None;
        }
        for _ in 0..STARTS {
            let mut weed = Self::spawn(&program)
                .unwrap_or_else(|error| panic!("start {}: {error}", program.display()));
            match weed.wait_until_ready().await {
                Ok(()) => return Some(weed),
                Err(error) => eprintln!("SeaweedFS did not start: {error}\n{}", weed.log()),
            }
        }
        panic!("SeaweedFS did not start");
    }

    /// Where `cargo xtask weed` puts the program.
    fn program() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/seaweedfs/weed")
    }

    fn spawn(program: &Path) -> io::Result<Self> {
        // A short path: sockets in it may have 100 bytes at most.
        let folder = tempfile::Builder::new().prefix("weed").tempdir_in("/tmp")?;
        let listeners: Vec<_> = PORTS
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<_, _>>()?;
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<io::Result<_>>()?;
        drop(listeners);
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(program);
        command
            .arg("mini")
            .arg(format!("-dir={}", folder.path().join("data").display()))
            .args([
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-admin.ui=false",
                "-webdav=false",
                "-master.telemetry=false",
            ])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-bucket={BUCKET}"))
            .arg(format!(
                "-filer.localSocket={}",
                folder.path().join("f").display()
            ))
            .arg(format!(
                "-s3.localSocket={}",
                folder.path().join("s").display()
            ))
            .args(
                PORTS
                    .iter()
                    .zip(&ports)
                    .map(|(flag, port)| format!("-{flag}={port}")),
            )
            .envs([
                ("AWS_ACCESS_KEY_ID", KEY),
                ("AWS_SECRET_ACCESS_KEY", SECRET),
            ])
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = command.spawn()?;
        Ok(Self {
            process,
            endpoint: format!("http://127.0.0.1:{}", ports[S3]),
            folder,
            ports,
        })
    }

    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("it ended with {status}"));
            }
            // Its own health page answers before the bucket is there.
            let url = self.url("ready");
            let tried = async {
                let store = self.open(&url, Access::Read).await?;
                store.write(&crate::StorePath::from("ready"), "").await?;
                store.read(&crate::StorePath::from("ready")).await
            };
            match tokio::time::timeout(Duration::from_secs(5), tried).await {
                Ok(Ok(Some(_))) => return Ok(()),
                _ if begun.elapsed() > PATIENCE => return Err("it does not answer".into()),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// A store's address: `prefix` in the one bucket.
    #[must_use]
    pub fn url(&self, prefix: &str) -> StoreUrl {
        StoreUrl::S3 {
            bucket: BUCKET.into(),
            prefix: prefix.into(),
        }
    }

    /// Opens a store at [`Self::url`].
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open(&self, url: &StoreUrl, access: Access) -> Result<Store, StoreError> {
        let env = self.env();
        let settings: Vec<_> = env
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        Store::open_with(url, access, &settings).await
    }

    /// The variables with which other programs reach it.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }

    /// Where it answers: `http://127.0.0.1:…`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The end of what it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.stop();
        // A killed one leaves sockets with names of its own choice.
        for (name, at) in [("master", 1), ("filer", 3), ("volume", 5), ("s3", 7)] {
            let socket = format!("/tmp/seaweedfs-{name}-grpc-{}.sock", self.ports[at]);
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl Weed {
    /// Asks it to end, and ends it where it does not within ten seconds.
    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
