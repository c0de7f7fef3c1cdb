//! `cargo xtask demo --serve`: Auria's page, with works in it, on this machine.
//!
//! It starts `auria-pipeline serve` as a user would, publishes the artist's pipeline behind an
//! endpoint, lets three works be made for the gallery, and stays until Ctrl-C. It makes nothing
//! itself.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::shell::{binary, root, run, say, show};

/// The endpoint that the page calls.
const ENDPOINT: &str = "kathi";

/// The works that hang there at first: a seed, a mood, a word.
const WORKS: [(u64, &str, &str); 3] = [
    (7, "happiness", "morning"),
    (12, "trust", "lake"),
    (23, "sadness", "snow"),
];

/// A server, ended with it.
struct Server {
    child: Child,
    url: String,
    /// What it says, passed on.
    said: Option<JoinHandle<()>>,
}

impl Server {
    fn start(listen: &str) -> anyhow::Result<Self> {
        let mut serve = Command::new(binary("auria-pipeline"));
        serve
            .current_dir(root())
            .args(["serve", "--on", "process", "--listen", listen])
            .args(["--auria", ENDPOINT]);
        say(show(&serve));
        let mut child = serve
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start auria-pipeline")?;
        let stderr = child.stderr.take().context("it has no standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut url = None;
        while url.is_none() {
            let Some(line) = lines.next() else {
                let ended = child.wait()?;
                bail!("the server ended with {ended}; what it says is above");
            };
            let line = line.context("cannot read what the server says")?;
            eprintln!("{line}");
            url = line
                .split_once(" at http://")
                .map(|(_, address)| format!("http://{}", address.trim()));
        }
        // A pipe that nobody reads would end it.
        let said = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        Ok(Self {
            child,
            url: url.unwrap_or_default(),
            said: Some(said),
        })
    }

    fn pipeline(&self) -> Command {
        let mut command = Command::new(binary("auria-pipeline"));
        command
            .current_dir(root())
            .args(["--server", &self.url])
            .stdin(Stdio::null());
        command
    }

    /// Puts the pipeline, as it is now, behind the endpoint.
    fn publish(&self) -> anyhow::Result<()> {
        let known = self
            .pipeline()
            .args(["endpoint", "show", ENDPOINT])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot start auria-pipeline")?;
        let mut publish = self.pipeline();
        if known.success() {
            publish.args([
                "deployment",
                "create",
                "--endpoint",
                ENDPOINT,
                "--name",
                "default",
            ]);
        } else {
            publish.args(["endpoint", "create", ENDPOINT]);
        }
        run(publish.args(["--from", "pipelines.yaml"]))
    }

    /// Lets a work be made for the gallery.
    fn work(&self, (seed, mood, topic): (u64, &str, &str)) -> anyhow::Result<()> {
        let mut submit = self.pipeline();
        submit
            .args(["submit", "pipelines.yaml", "--pipeline", "auria-kathi"])
            .args(["--on", "process", "--output", "json"])
            .args(["--set", &format!("inputs.seed={seed}")])
            .args(["--set", &format!("inputs.mood={mood}")])
            .args(["--set", &format!("inputs.topic={topic}")]);
        say(show(&submit));
        let output = submit
            .stderr(Stdio::null())
            .output()
            .context("cannot start auria-pipeline")?;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if report["status"] != "Completed" {
            bail!("a work for the gallery ended as {}", report["status"]);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(said) = self.said.take() {
            let _ = said.join();
        }
    }
}

/// Serves Auria's page until it is interrupted.
pub(crate) fn serve(listen: &str) -> anyhow::Result<()> {
    let mut server = Server::start(listen)?;
    server.publish()?;
    for work in WORKS {
        server.work(work)?;
    }
    println!("\n  {}/auria\n", server.url);
    say("Auria's page is there; Ctrl-C ends it");
    let ended = server.child.wait().context("cannot wait for the server")?;
    if !ended.success() {
        bail!("the server ended with {ended}");
    }
    Ok(())
}
