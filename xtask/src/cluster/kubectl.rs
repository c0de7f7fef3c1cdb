//! Asking the API server, through the kubectl that was built, as the administrator.
//!
//! Used by all of `cluster`. It never reads the user's own kubeconfig.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use super::layout::{bin, pki};
use crate::shell::show;

/// kubectl, with the administrator's rights.
pub(crate) fn kubectl() -> Command {
    let mut command = Command::new(bin("kubectl"));
    command
        .arg("--kubeconfig")
        .arg(pki("admin.kubeconfig"))
        .arg("--request-timeout=10s")
        .env("KUBERC", "off");
    command
}

/// Whether the API server answers a GET of `path` as it should.
pub(crate) fn is_ok(path: &str) -> bool {
    kubectl()
        .args(["get", "--raw", path])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// What kubectl prints, as JSON.
pub(crate) fn get(words: &[&str]) -> anyhow::Result<Value> {
    let text = call(words, None)?;
    serde_json::from_str(&text).context("kubectl printed no JSON")
}

/// Runs kubectl, with `input` where there is one, and returns what it printed.
pub(crate) fn call(words: &[&str], input: Option<&str>) -> anyhow::Result<String> {
    let mut command = kubectl();
    command.args(words);
    let shown = show(&command);
    let mut child = command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        pipe.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "`{shown}`: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
