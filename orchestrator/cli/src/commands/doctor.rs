//! `doctor`: what this machine (or a cluster) can run, and what is missing. It tries things
//! rather than guess.

use crate::args::Global;
use crate::cluster;
use crate::config::Config;
use crate::drive;
use crate::edge::{self, Terminal};
use crate::failure::{Failure, exit};
use crate::open;
use crate::print;
use crate::target;
use crate::terminal::Paint;
use auria_store::{Access, Store};
use serde::Serialize;
use std::fmt::Write as _;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is as it should be.
    Good,
    /// It is not there, and not everything needs it.
    Missing,
    /// Nothing works without it.
    Bad,
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The thing.
    pub what: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// For people.
    pub detail: String,
    /// The way out.
    pub help: Option<String>,
}

/// Looks at this machine and at the store; with a cluster as the target, at that.
///
/// # Errors
/// Where the config cannot be read.
pub async fn doctor(global: &Global) -> Result<u8, Failure> {
    let folder = open::current_folder()?;
    let config = Config::find(&folder)?;
    let mut findings = vec![config_file(&config)];
    if cluster::is_meant(global, &config) {
        findings.extend(cluster::doctor::findings(global, &config).await);
    } else {
        findings.extend([machine(), gpus(), shell(), runtime()]);
        findings.push(containers().await);
        findings.push(store(global, &config).await);
        findings.extend(posting());
    }
    let bad = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Bad);
    print::result(global.output, &findings, || {
        let paint = Paint::new(Terminal::of_stdout().colour);
        let mut text = String::new();
        for finding in &findings {
            let sign = match finding.verdict {
                Verdict::Good => "✓".to_owned(),
                Verdict::Missing => paint.yellow("–"),
                Verdict::Bad => paint.red("✗"),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{sign} {:<16} {}", finding.what, finding.detail);
            if let Some(help) = &finding.help {
                let _ = writeln!(text, "  {:<16} help: {help}", "");
            }
        }
        text
    })?;
    Ok(if bad { exit::UNREACHABLE } else { exit::DONE })
}

fn machine() -> Finding {
    let machine = crate::machine::detect();
    Finding {
        what: "machine",
        verdict: Verdict::Good,
        detail: format!(
            "{} CPUs, {} GiB of memory for steps",
            machine.cpu_millis as f64 / 1000.0,
            machine.memory_bytes >> 30
        ),
        help: None,
    }
}

fn gpus() -> Finding {
    let machine = crate::machine::detect();
    let ids: Vec<&str> = machine.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
    if ids.is_empty() {
        return Finding {
            what: "GPUs",
            verdict: Verdict::Missing,
            detail: "none: steps that ask for a GPU are refused".to_owned(),
            help: Some(
                "with an NVIDIA driver, nvidia-smi -L lists them; AURIA_GPUS=0,1 says which to use"
                    .to_owned(),
            ),
        };
    }
    Finding {
        what: "GPUs",
        verdict: Verdict::Good,
        detail: ids.join(", "),
        help: None,
    }
}

fn shell() -> Finding {
    let found = ["/bin/bash", "/usr/bin/bash", "/bin/sh"]
        .iter()
        .find(|path| std::path::Path::new(path).exists());
    match found {
        Some(path) if path.ends_with("bash") => Finding {
            what: "shell",
            verdict: Verdict::Good,
            detail: format!("commands run by {path} -c"),
            help: None,
        },
        Some(path) => Finding {
            what: "shell",
            verdict: Verdict::Missing,
            detail: format!("no bash: commands run by {path} -c"),
            help: Some("install bash where pipelines were written for it".to_owned()),
        },
        None => Finding {
            what: "shell",
            verdict: Verdict::Bad,
            detail: "neither bash nor sh".to_owned(),
            help: Some("install bash".to_owned()),
        },
    }
}

fn runtime() -> Finding {
    match drive::runtime() {
        Ok(root) => Finding {
            what: "runtime folder",
            verdict: Verdict::Good,
            detail: root.path().display().to_string(),
            help: None,
        },
        Err(failure) => Finding {
            what: "runtime folder",
            verdict: Verdict::Bad,
            detail: failure.to_string(),
            help: None,
        },
    }
}

/// Whether the artist's posts to Instagram have what they need, where somebody set a part of it:
/// Instagram fetches pictures itself.
fn posting() -> Option<Finding> {
    let is_set = |name| edge::variable(name).is_some();
    let (user, token) = (
        is_set("AURIA_INSTAGRAM_USER"),
        is_set("AURIA_INSTAGRAM_TOKEN"),
    );
    let what = "posting";
    let missing = |detail: &str, help: &str| Finding {
        what,
        verdict: Verdict::Missing,
        detail: detail.to_owned(),
        help: Some(help.to_owned()),
    };
    match (user, token) {
        (false, false) => None,
        (true, true) if is_set("AURIA_POST_PUBLIC_URL") => Some(Finding {
            what,
            verdict: Verdict::Good,
            detail: "Instagram fetches pictures from AURIA_POST_PUBLIC_URL".to_owned(),
            help: None,
        }),
        (true, true) => Some(missing(
            "Instagram fetches pictures itself, and AURIA_POST_PUBLIC_URL is not set",
            "set it to the https:// address under which the gallery is public; it is not needed where the gallery is in s3:// of a public endpoint (docs/posting.md)",
        )),
        _ => Some(missing(
            "of AURIA_INSTAGRAM_USER and AURIA_INSTAGRAM_TOKEN one is not set",
            "set both, or neither: `auria-post publish --dry-run` says what else is missing",
        )),
    }
}

fn config_file(config: &Config) -> Finding {
    match &config.file {
        Some(file) => Finding {
            what: "config",
            verdict: Verdict::Good,
            detail: file.display().to_string(),
            help: None,
        },
        None => Finding {
            what: "config",
            verdict: Verdict::Good,
            detail: "no auria.yaml: the defaults hold".to_owned(),
            help: None,
        },
    }
}

async fn containers() -> Finding {
    let what = "containers";
    let missing = |detail: String, help: &str| Finding {
        what,
        verdict: Verdict::Missing,
        detail,
        help: Some(help.to_owned()),
    };
    let client = match target::places().find().await {
        Ok(client) => client,
        Err(error) => {
            let help = if error.tried.is_empty() {
                "install Docker or Podman (Debian: apt-get install docker.io), start it, or say where it listens: DOCKER_HOST=unix:///PATH; steps run without containers until then"
            } else if error
                .tried
                .iter()
                .any(|why| why.contains("ermission denied"))
            {
                "let this user reach the socket: sudo usermod -aG docker $USER, then log in again"
            } else {
                "start it (systemctl start docker, or podman system service), or say where another listens: DOCKER_HOST=unix:///PATH; steps run without containers until then"
            };
            return missing(error.to_string(), help);
        }
    };
    match client.facts().await {
        Ok(facts) => {
            let lacks = [
                (!facts.limits_memory).then_some("memory"),
                (!facts.limits_cpus).then_some("CPUs"),
            ];
            let lacks: Vec<&str> = lacks.into_iter().flatten().collect();
            let detail = format!("{facts} at {}", client.address());
            if lacks.is_empty() {
                return Finding {
                    what,
                    verdict: Verdict::Good,
                    detail,
                    help: None,
                };
            }
            missing(
                format!("{detail}, which cannot limit {}", lacks.join(" and ")),
                "steps that ask for that are refused; a rootless engine needs cgroup v2 with these controllers delegated to the user",
            )
        }
        Err(error) => missing(error.to_string(), "ask the engine: docker info"),
    }
}

async fn store(global: &Global, config: &Config) -> Finding {
    let found = async {
        let folder = open::current_folder()?;
        let url = open::store_url_upward(global, config, &folder)?;
        if let Some(path) = url.folder()
            && !path.exists()
            && global.store.is_none()
        {
            return Ok(format!("{url}, which the first run creates"));
        }
        let begun = edge::now();
        Store::open(&url, Access::Write).await?;
        Ok::<_, Failure>(format!(
            "{url}: one of many creators wins; opened in {} ms",
            edge::now().millis_since(begun)
        ))
    };
    match found.await {
        Ok(detail) => Finding {
            what: "store",
            verdict: Verdict::Good,
            detail,
            help: None,
        },
        Err(failure) => Finding {
            what: "store",
            verdict: Verdict::Bad,
            detail: failure.to_string(),
            help: None,
        },
    }
}
