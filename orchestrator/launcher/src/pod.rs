//! `auria-launcher pod`: process 1 of a step's container on a cluster. It is told where a
//! broker is and given a token for one attempt, by its environment; it needs no runtime
//! folder and holds no credential of the store. What it was told is in no environment by
//! the time the command runs, and what it is granted stays in its memory.

use crate::attempt::{self, Around};
use crate::depot::Depot;
use crate::failure::chain;
use crate::group::{Ends, Group, Peers};
use crate::options::LaunchOptions;
use crate::serve::Hub;
use crate::stop;
use crate::teller::Teller;
use crate::work::Work;
use crate::{LaunchError, exit, inherited, remove_work, sequence, warnings};
use auria_core::outcome::Cause;
use auria_core::protocol::{BROKER, GroupEnds, TicketGrant};
use auria_core::run::AttemptNews;
use auria_core::ticket::Ticket;
use auria_core::{Digest, Nonce};
use auria_store::StoreError;
use auria_store::remote::{Joining, Remote, RemoteOptions};
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The address of the broker: `https://HOST:PORT`.
pub const URL: &str = "AURIA_BROKER";
/// The token for the ticket and the claim of one attempt.
pub const TOKEN: &str = "AURIA_BROKER_TOKEN";
/// The certificate (PEM) that the broker's own is signed by.
pub const AUTHORITY: &str = "AURIA_BROKER_CA";
/// The folder to work in.
pub const WORK: &str = "AURIA_WORK";
/// The name of the node.
pub const NODE: &str = "AURIA_NODE";
/// What tells the Pod from every other.
pub const POD_UID: &str = "AURIA_POD_UID";
/// Which instance of a distributed step it starts.
pub const INSTANCE: &str = "AURIA_INSTANCE";
/// The Pod's address, for the other instances.
pub const ADDRESS: &str = "AURIA_POD_IP";
/// How long the instances of a distributed step wait for each other, in milliseconds.
pub const GROUP_PATIENCE: &str = "AURIA_GROUP_PATIENCE_MS";
/// That, where it is not said.
const DEFAULT_GROUP_PATIENCE_MS: u64 = 40 * 60 * 1000;
/// Between two questions whether all are there: at first, and later.
const ASK_SOON: Duration = Duration::from_millis(250);
const ASK_LATER: Duration = Duration::from_secs(2);
const DEFAULT_WORK: &str = "/auria/work";
/// Where the last word is left for the cluster, which keeps 4096 bytes of it.
const TERMINATION_LOG: &str = "/dev/termination-log";
const LONGEST_LAST_WORD: usize = 4096;
/// A pipe holds this much.
const LONGEST_HANDED: usize = 60 * 1024;
/// A broker that is not there yet is asked for so long; afterwards for what it said.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The grace of a stop that comes before the ticket.
const EARLY_GRACE: Duration = Duration::from_secs(10);

/// What this launcher was told; never printed.
#[derive(Serialize, Deserialize)]
struct Told {
    url: String,
    token: String,
    authority: String,
    work: PathBuf,
    node: Option<String>,
    pod_uid: Option<String>,
    instance: u32,
    address: Option<String>,
    group_patience_ms: u64,
}

/// Carries out the attempt that the environment names, and blocks until its end. `handed`
/// is the number of the descriptor through which this program, started anew, tells itself
/// what stood in its environment. To be called by a process of its own.
#[must_use]
pub fn main(handed: Option<OsString>) -> ExitCode {
    // Before anything else: process 1 never gets a signal that it has no handler for, unless
    // it waits. It waits across the new start.
    if let Err(errno) = early().thread_block() {
        tracing::warn!("SIGTERM may be missed: {errno}");
    }
    warnings();
    let code = match handed {
        None => begin(),
        Some(number) => receive(&number).and_then(run),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Starts this program anew without what it was told in its environment: the kernel shows
/// a process's first environment to others for as long as it lives.
#[expect(
    clippy::disallowed_methods,
    reason = "a container's process 1 is told what to do by its environment"
)]
fn begin() -> Result<u8, LaunchError> {
    let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let missing: Vec<_> = [URL, TOKEN, AUTHORITY]
        .into_iter()
        .filter(|name| text(name).is_none())
        .collect();
    let (Some(url), Some(token), Some(authority)) = (text(URL), text(TOKEN), text(AUTHORITY))
    else {
        return Err(LaunchError::NotTold(missing.join(", ")));
    };
    let work = text(WORK).map_or_else(|| DEFAULT_WORK.into(), PathBuf::from);
    let failed = |doing| move |source| LaunchError::System { doing, source };
    let told = Told {
        url,
        token,
        authority,
        work,
        node: text(NODE),
        pod_uid: text(POD_UID),
        instance: text(INSTANCE)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        address: text(ADDRESS),
        group_patience_ms: text(GROUP_PATIENCE)
            .and_then(|text| text.parse().ok())
            .unwrap_or(DEFAULT_GROUP_PATIENCE_MS),
    };
    let told = serde_json::to_vec(&told).map_err(|error| failed("start anew")(error.into()))?;
    if told.len() > LONGEST_HANDED {
        return Err(LaunchError::NotTold(format!("a shorter {AUTHORITY}")));
    }
    let (read, write) = nix::unistd::pipe().map_err(|errno| failed("make a pipe")(errno.into()))?;
    let mut write = std::fs::File::from(write);
    write
        .write_all(&told)
        .map_err(failed("write into a pipe"))?;
    drop(write);
    let mut anew = std::process::Command::new("/proc/self/exe");
    anew.arg0("auria-launcher")
        .arg("pod")
        .arg(read.as_raw_fd().to_string());
    for name in [
        URL,
        TOKEN,
        AUTHORITY,
        WORK,
        INSTANCE,
        ADDRESS,
        GROUP_PATIENCE,
    ] {
        anew.env_remove(name);
    }
    Err(failed("start anew")(anew.exec()))
}

/// What the program told itself.
fn receive(number: &OsString) -> Result<Told, LaunchError> {
    let failed = |doing| move |source| LaunchError::System { doing, source };
    // No core file or debugger of the step's user may show what this process knows.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| failed("hide its memory")(errno.into()))?;
    // Nothing that the command starts gains rights by a program's owner.
    nix::sys::prctl::set_no_new_privs()
        .map_err(|errno| failed("give up new rights")(errno.into()))?;
    let number = number.to_str().and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| LaunchError::NotTold("a descriptor's number".into()))?;
    let pipe = inherited(number).map_err(failed("read what it was told"))?;
    let mut told = Vec::new();
    pipe.take(LONGEST_HANDED as u64)
        .read_to_end(&mut told)
        .map_err(failed("read what it was told"))?;
    serde_json::from_slice(&told).map_err(|error| failed("read what it was told")(error.into()))
}

/// The signals that may come before there is a handler.
fn early() -> SigSet {
    SigSet::from(nix::sys::signal::Signal::SIGTERM)
}

/// Hears SIGTERM from now on, and what has come of it since this process began. To be called
/// before there is another thread: all those to come, and the command, let it through again.
fn hear() -> Result<Signal, LaunchError> {
    let failed = |doing| move |source| LaunchError::System { doing, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("take SIGTERM"))?;
    // The handler stays when this runtime goes, and wakes whoever holds the signal.
    let terms = runtime
        .block_on(async { signal(SignalKind::terminate()) })
        .map_err(failed("take SIGTERM"))?;
    early()
        .thread_unblock()
        .map_err(|errno| failed("take SIGTERM")(errno.into()))?;
    Ok(terms)
}

fn run(told: Told) -> Result<u8, LaunchError> {
    let failed = |doing| move |source| LaunchError::System { doing, source };
    let terms = hear()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(failed("start its runtime"))?;
    let code = runtime.block_on(attend(told, terms))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn attend(told: Told, mut terms: Signal) -> Result<u8, LaunchError> {
    let failed = |doing| move |source| LaunchError::System { doing, source };
    let (stopper, mut stopped) = stop::channel();
    // Caught and left alone: unlike ignored signals, the command does not inherit that.
    let _hangup = signal(SignalKind::hangup()).map_err(failed("take SIGHUP"))?;
    let _interrupt = signal(SignalKind::interrupt()).map_err(failed("take SIGINT"))?;

    let remote = Remote::new(&RemoteOptions {
        url: told.url,
        base: BROKER,
        token: told.token,
        authority: Some(told.authority),
    });
    let remote = match remote {
        Ok(remote) => remote,
        Err(error) => return Err(LaunchError::NotTold(format!("a broker: {}", chain(&error)))),
    };
    let asked = sequence::patiently(PATIENCE, |_| {}, "ask for the ticket", || remote.ticket());
    let grant = tokio::select! {
        grant = asked => grant,
        _ = terms.recv() => {
            stopper.ask(Cause::Evicted, EARLY_GRACE);
            stopped.changed_from(None).await;
            // Nothing was claimed: nothing is to be said.
            return Ok(exit::ENDED);
        }
    };
    let TicketGrant {
        version: _,
        ticket,
        store,
        broker_grace_ms,
    } = match grant {
        Ok(grant) => grant,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            return Ok(exit::STORE);
        }
    };
    let store = match remote.store(&store) {
        Ok(store) => store,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            return Ok(exit::STORE);
        }
    };
    let own = Joining {
        instance: told.instance,
        address: told.address.clone().unwrap_or_default(),
        process: told.pod_uid.clone().unwrap_or_default(),
        node: told.node.clone(),
    };
    let patience = Duration::from_millis(told.group_patience_ms);
    let met = tokio::select! {
        met = meet(&remote, &ticket, &own, patience) => met,
        _ = terms.recv() => return Ok(exit::ENDED),
    };
    let Some(met) = met else {
        return Ok(exit::STORE);
    };
    let grace = Duration::from_millis(ticket.grace_ms);
    let asked = stopper.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while terms.recv().await.is_some() {
            asked.ask(Cause::Evicted, grace);
        }
    });
    let hub = Hub::new(ticket.attempt.clone());
    let patience = Duration::from_millis(broker_grace_ms);
    let depot = Depot::behind(remote.clone(), store, &ticket.attempt, patience, &hub);
    let teller = Teller::start(hub.clone(), remote.clone());
    let work = Work::at(told.work.join("attempt"));
    // Each instance's own: where two are on one machine, neither ends the other's processes.
    let named = format!("{} {}", ticket.attempt, told.instance);
    let key = Digest::of(named.as_bytes()).hex()[..32].to_owned();
    let around = Around {
        key,
        folder: None,
        in_image: true,
        node: told.node,
        process: told.pod_uid,
        nonce: remote.nonce(),
        peers: met.is_group.then(|| Peers {
            instance: told.instance,
            ends: Arc::new(Asks(remote.clone())),
            stopper,
            grace: grace + Duration::from_millis(ticket.publish_grace_ms),
        }),
        group: met.group,
    };
    let options = options(ticket, told.work, broker_grace_ms);
    let code = match met.member {
        None => {
            let news =
                attempt::carry_out(depot, &options, around, &work, &hub, stopped, None).await;
            teller.finish().await;
            leave(&news, |news| remote.seal(news), Path::new(TERMINATION_LOG));
            exit::of(&news)
        }
        Some(nonce) => {
            let well =
                attempt::carry_out_member(depot, &options, around, &work, &hub, stopped, nonce);
            let well = well.await;
            teller.finish().await;
            if well { exit::COMMITTED } else { exit::ENDED }
        }
    };
    if let Err(error) = remove_work(work.root()) {
        tracing::warn!("the work folder {} is left: {error}", work.root().display());
    }
    tasks.shutdown().await;
    Ok(code)
}

/// Asks the broker what has become of the others.
struct Asks(Remote);

#[async_trait::async_trait]
impl Ends for Asks {
    async fn ends(&self) -> Result<GroupEnds, StoreError> {
        self.0.group_ends().await
    }
}

/// What a launcher is in its group.
#[derive(Default)]
struct Met {
    is_group: bool,
    group: Option<Group>,
    /// The claim that it is a member of; without it, it claims itself.
    member: Option<Nonce>,
}

/// Waits until all instances of a distributed step are there: none begins before. `None`
/// where they do not come, or have begun without this one.
async fn meet(remote: &Remote, ticket: &Ticket, own: &Joining, patience: Duration) -> Option<Met> {
    let distribution = match ticket.distribution {
        Some(distribution) if distribution.shape(ticket.resources.instances).instances > 1 => {
            distribution
        }
        // On one machine a launcher is all there is.
        _ => return Some(Met::default()),
    };
    let instances = ticket.resources.instances;
    let begun = Instant::now();
    let mut pause = ASK_SOON;
    let mut missing: Vec<String> = Vec::new();
    loop {
        match remote.join(own).await {
            Ok(group) => {
                let there: Option<Vec<String>> = group.addresses.iter().cloned().collect();
                let there = there.filter(|there| there.len() == instances as usize);
                if let (Some(addresses), true) = (there, own.instance == 0 || group.begun.is_some())
                {
                    return Some(Met {
                        is_group: true,
                        member: group.begun.map(|begin| begin.nonce),
                        group: Some(Group::in_pod(
                            distribution,
                            instances,
                            own.instance,
                            addresses,
                        )),
                    });
                }
                missing = (0..instances)
                    .filter(|i| !matches!(group.addresses.get(*i as usize), Some(Some(_))))
                    .map(|instance| instance.to_string())
                    .collect();
            }
            Err(error) if error.is_transient() => {
                tracing::warn!("the group cannot be asked for: {}", chain(&error));
            }
            Err(error) => {
                tracing::error!("{}", chain(&error));
                return None;
            }
        }
        if begun.elapsed() >= patience {
            tracing::error!(
                "the instances {} of the step's {instances} did not come within {} s",
                missing.join(", "),
                patience.as_secs()
            );
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(ASK_LATER);
    }
}

/// A Pod has its share of the machine already.
fn options(
    ticket: auria_core::ticket::Ticket,
    work_root: PathBuf,
    store_patience_ms: u64,
) -> LaunchOptions {
    LaunchOptions {
        store: String::new(),
        identity: String::new(),
        ticket,
        lock: None,
        listener: None,
        warm: None,
        holds: Vec::new(),
        gpus: Vec::new(),
        path: Vec::new(),
        work_root,
        queued_ms: None,
        room_at_ms: None,
        store_patience_ms,
        engine: None,
    }
}

/// Leaves the last word where the cluster keeps it, for a launcher whose broker did not
/// answer to the end: an executor reads there what the store does not hold. The step may
/// write there too, so that the word is sealed.
fn leave(news: &AttemptNews, seal: impl Fn(&AttemptNews) -> Option<String>, to: &Path) {
    let AttemptNews::Gone {
        claim,
        end,
        checkpoint,
    } = news
    else {
        return;
    };
    let mut end = end.clone();
    for _ in 0..2 {
        let news = AttemptNews::Gone {
            claim: claim.clone(),
            end: end.clone(),
            checkpoint: checkpoint.clone(),
        };
        match seal(&news) {
            Some(text) if text.len() <= LONGEST_LAST_WORD => {
                if let Err(error) = std::fs::write(to, text) {
                    tracing::warn!("the last word could not be left: {error}");
                }
                return;
            }
            _ => {}
        }
        // Once more without what only people read.
        if let Some(end) = &mut end {
            end.last_lines.clear();
            end.message = end.message.chars().take(500).collect();
            if let Some(outcome) = &mut end.published {
                outcome.last_lines.clear();
            }
        }
    }
    tracing::warn!("the last word is longer than the cluster keeps");
}
