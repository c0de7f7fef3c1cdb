//! A server as the command line sees it: `--server URL` opens the store behind it, so that
//! every command works as it does on this machine. What drives runs is on the other side.

use crate::args::Global;
use crate::cluster::{self, Controller};
use crate::config::Config;
use crate::drive;
use crate::edge;
use crate::failure::Failure;
use auria_core::planner::{Needs, Target};
use auria_core::protocol::API;
use auria_server::submission::TargetFacts;
use auria_store::remote::{Remote, RemoteOptions};
use serde_json::json;
use std::path::PathBuf;

/// The server that this user named: by the flag or AURIA_SERVER, which are one in `global`, or
/// in their own config.
pub fn said(global: &Global, config: &Config) -> Option<String> {
    global.server.clone().or_else(|| config.server.clone())
}

/// Where a server at `address` leaves the token of its own user.
///
/// # Errors
/// Where there is no folder for it.
pub fn token_file(address: &str) -> Result<PathBuf, Failure> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = address.chars().map(plain).collect();
    Ok(drive::runtime()?
        .path()
        .join(format!("server-{name}.token")))
}

/// The address of a server that may be this machine's own.
fn address(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let host = rest.split('/').next()?;
    let host = host.replace("localhost", "127.0.0.1");
    Some(if host.contains(':') {
        host
    } else {
        format!("{host}:80")
    })
}

/// The token for the server at `url`: AURIA_TOKEN, that of the config, or the one that a
/// server of this user on this machine left.
fn token(url: &str, config: &Config) -> Result<String, Failure> {
    if let Some(token) = edge::variable("AURIA_TOKEN") {
        return Ok(token);
    }
    let own = address(url)
        .map(|address| token_file(&address))
        .transpose()?;
    for path in config.token_file.iter().map(PathBuf::from).chain(own) {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(text.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::usage(format!("{}: {error}", path.display())));
            }
        }
    }
    Err(Failure::usage(format!("there is no token for {url}"))
        .help("set AURIA_TOKEN to one that `auria-pipeline token create` printed, or name a file with it: `token_file:` in your own config, ~/.config/auria-pipeline/auria.yaml"))
}

/// Opens the way to the server at `url`.
///
/// # Errors
/// Where it cannot be reached, or refuses.
pub async fn connect(url: &str, config: &Config) -> Result<Controller, Failure> {
    let remote = Remote::new(&RemoteOptions {
        url: url.trim_end_matches('/').to_owned(),
        base: API,
        token: token(url, config)?,
        authority: None,
    })?;
    let facts = remote.facts().await.map_err(|error| {
        Failure::unreachable(format!("asking the server {url}: {error}")).help(
            "`auria-pipeline serve` starts one; a token counts until it expires or is revoked",
        )
    })?;
    let store = remote.store(&facts.store)?;
    let name = format!("the server {url}");
    let flag = format!("--server {url}");
    Ok(Controller::of(remote, store, name, facts, flag))
}

/// Where `serve` listens, unless something else is said.
const DEFAULT: &str = "http://127.0.0.1:8460";

/// The server of a command that needs one: the one that somebody named, the controller of a
/// cluster where that is meant, else that of this machine.
///
/// # Errors
/// Where there is none, or it cannot be reached.
pub async fn required(global: &Global) -> Result<Controller, Failure> {
    let config = Config::find(&crate::open::current_folder()?)?;
    if cluster::is_meant(global, &config) {
        return cluster::controller(global, &config).await;
    }
    connect(DEFAULT, &config).await
}

/// Where the steps of a run there run.
///
/// # Errors
/// Where the server cannot be reached, or refuses.
pub async fn target(controller: &Controller, needs: &Needs) -> Result<Target, Failure> {
    let words: Vec<&str> = needs
        .commands
        .iter()
        .map(|need| need.word.as_str())
        .collect();
    let facts: TargetFacts = controller
        .remote
        .post("target", &json!({"words": words}))
        .await?;
    Ok(Target::Process {
        os: facts.os,
        arch: facts.arch,
        host: facts.host,
        executables: facts.executables,
    })
}
