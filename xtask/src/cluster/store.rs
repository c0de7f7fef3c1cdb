//! The cluster's object store: SeaweedFS on the bridge, where Pods of every node reach it.
//!
//! Used by `up`, `down` and `fault`. Its keys are drawn once and lie in a file that only the
//! machine's root reads.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::layout::{BUCKET, HOST, S3_PORT, STORE_MASTER_PORT, STORE_PORTS, run, s3, store_env};
use super::process::{self, Process, wait};
use crate::tools;

/// What it is noted as.
pub(crate) const NAME: &str = "seaweedfs";

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts it, if it does not run, and waits until it serves.
pub(crate) fn start() -> anyhow::Result<()> {
    if Process::noted(NAME).is_some() {
        return Ok(());
    }
    let program = tools::seaweedfs(None)?;
    let (key, secret) = keys()?;
    let folder = run().join("store");
    fs::create_dir_all(folder.join("tmp"))?;
    // The path of a socket has 107 bytes at most, and this folder may lie deep.
    let socket = |name: &str| format!("/tmp/auria-cluster-{name}.sock");
    let mut weed = Command::new(program);
    weed.arg("mini")
        .arg(format!("-dir={}", folder.join("data").display()))
        .arg(format!("-ip={HOST}"))
        .arg(format!("-ip.bind={HOST}"))
        .args(["-admin.ui=false", "-webdav=false"])
        .args(["-master.telemetry=false"])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-bucket={BUCKET}"))
        .arg(format!("-s3.port={S3_PORT}"))
        .arg(format!("-filer.localSocket={}", socket("filer")))
        .arg(format!("-s3.localSocket={}", socket("s3")))
        .args(STORE_PORTS.map(|(flag, port)| format!("-{flag}={port}")))
        .env("AWS_ACCESS_KEY_ID", key)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("HOME", &folder)
        .env("TMPDIR", folder.join("tmp"));
    process::start(NAME, &weed)?;
    wait("the object store", PATIENCE, &[NAME], answers)
}

/// Ends it, and takes away the sockets that it leaves.
pub(crate) fn stop() {
    if let Some(process) = Process::noted(NAME) {
        process.signal(nix::sys::signal::Signal::SIGCONT);
        process.signal(nix::sys::signal::Signal::SIGTERM);
        if !process.wait_for_end(Duration::from_secs(5)) {
            process.signal(nix::sys::signal::Signal::SIGKILL);
            process.wait_for_end(PATIENCE);
        }
    }
    process::forget(NAME);
    for name in ["filer", "s3"] {
        let _ = fs::remove_file(format!("/tmp/auria-cluster-{name}.sock"));
    }
}

/// Whether it serves: S3 answers only once the filer behind it is there, and the master names a
/// place for a file only once the volumes have come.
fn answers() -> bool {
    // Who has no key is refused, and that is an answer; before, it is 500, or 404.
    ask(S3_PORT, &format!("/{BUCKET}")).is_ok_and(|answer| answer.starts_with("HTTP/1.1 403"))
        && ask(STORE_MASTER_PORT, "/dir/assign").is_ok_and(|answer| answer.contains("\"fid\""))
}

fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect((HOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Its keys, drawn where there are none, from the file for users.
fn keys() -> anyhow::Result<(String, String)> {
    let text = fs::read_to_string(store_env()).unwrap_or_default();
    let value = |name: &str| {
        let start = format!("{name}=");
        text.lines()
            .find_map(|line| line.strip_prefix(&start))
            .map(str::to_owned)
    };
    let (key, secret) = match (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY")) {
        (Some(key), Some(secret)) => (key, secret),
        _ => (draw(10)?, draw(20)?),
    };
    let partial = store_env().with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .with_context(|| format!("cannot make {}", partial.display()))?;
    write!(
        file,
        "AWS_ENDPOINT_URL={}\nAWS_ALLOW_HTTP=true\nAWS_REGION=us-east-1\n\
         AWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY={secret}\n",
        s3()
    )?;
    fs::rename(&partial, store_env())?;
    Ok((key, secret))
}

/// So many random bytes, in hexadecimal.
fn draw(bytes: usize) -> anyhow::Result<String> {
    let mut drawn = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut drawn)?;
    Ok(drawn.iter().map(|byte| format!("{byte:02x}")).collect())
}
