//! `logs`: what steps wrote, from the store, whether they run or have ended.

use crate::args::{Global, Logs};
use crate::cluster::MOST;
use crate::drive;
use crate::edge::Terminal;
use crate::failure::{Failure, exit};
use crate::open::{self, Opened};
use crate::print;
use crate::terminal::Paint;
use auria_core::run::RunChange;
use auria_core::{AttemptId, Nonce, StepPath};
use auria_engine::lease::{Following, Lease};
use auria_store::logs::LogReader;
use auria_store::runs::RunJson;
use auria_store::{Access, Journal, Store, layout};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two looks at the store for new lines, where there are some.
const LOOK: Duration = Duration::from_millis(300);
/// How long a launcher may keep a line before it is in the store.
const FLUSHED: Duration = Duration::from_secs(15);
/// Between two looks for a driver, where nobody drives the run.
const DRIVER: Duration = Duration::from_millis(500);

/// Prints logs.
///
/// # Errors
/// Where the store cannot be read, or there is no such run, step or attempt.
pub async fn logs(global: &Global, args: &Logs) -> Result<u8, Failure> {
    let opened = open::existing(global, Access::Read).await?;
    let store = opened.store.clone();
    let run = open::run(&store, &args.run).await?;
    let step = args
        .step
        .as_ref()
        .map(|name| find_step(&run, name))
        .transpose()?;
    let mut tails = Tails {
        store: store.clone(),
        readers: BTreeMap::new(),
        apart: apart(&run),
        prefix: step.is_none(),
        width: 0,
    };
    tails.width = run
        .plan
        .steps
        .iter()
        .map(|step| step.path.display().len())
        .max()
        .unwrap_or(0);
    let journal = Journal::new(store, run.run.clone());
    let mut reading = Reading {
        opened,
        run,
        step,
        journal,
        tails,
    };
    let mut tries = 0;
    loop {
        let failure = match reading.round(args).await {
            Ok(true) => return Ok(exit::DONE),
            Ok(false) => {
                tries = 0;
                continue;
            }
            Err(failure) => failure,
        };
        // A controller comes back, and whoever follows is not disturbed by that.
        match &reading.opened.controller {
            Some(controller) if args.follow && failure.code == exit::UNREACHABLE => {
                tries += 1;
                if tries >= MOST {
                    return Err(failure);
                }
                controller.pause(tries).await;
            }
            _ => return Err(failure),
        }
    }
}

struct Reading {
    opened: Opened,
    run: RunJson,
    step: Option<StepPath>,
    journal: Journal,
    tails: Tails,
}

impl Reading {
    /// Prints what there is and, where it is followed, what comes while a driver tells of
    /// it. Whether that is all.
    async fn round(&mut self, args: &Logs) -> Result<bool, Failure> {
        let Self {
            opened,
            run,
            step,
            journal,
            tails,
        } = self;
        // Before the look at what there is: nothing falls between the two.
        let driver = match (args.follow, &opened.controller) {
            (false, _) => None,
            (true, Some(controller)) => controller.remote.follow(&run.run).await?,
            (true, None) => {
                let folder = drive::runtime()?;
                Lease::follow(folder.path(), &opened.store.identity(), &run.run)
                    .await
                    .map(Following::changes)
            }
        };
        // Read before the logs: what was written before the end is there after it.
        let ended = match (&step, journal.read_run_end().await?) {
            (_, Some(_)) => true,
            (Some(step), None) => journal.read_outcome(step).await?.is_some(),
            (None, None) => false,
        };
        let claims = claims(journal, run, step.as_ref(), args.attempt).await?;
        if let (Some(number), true, false) = (args.attempt, claims.is_empty(), args.follow) {
            return Err(Failure::usage(format!(
                "attempt {number} has not begun, or there is none"
            ))
            .help(format!(
                "`auria-pipeline show {}` says how many attempts each step had",
                run.run
            )));
        }
        for (id, nonce) in claims {
            tails.print(&id, &nonce, ended || !args.follow).await?;
        }
        if ended || !args.follow {
            return Ok(true);
        }
        match driver {
            Some(driver) => follow(journal, args, step.as_ref(), driver, tails).await?,
            None => tokio::time::sleep(DRIVER).await,
        }
        Ok(false)
    }
}

/// Prints what the attempts of `step` (or of all steps) write while `driver` drives the run.
async fn follow(
    journal: &Journal,
    args: &Logs,
    step: Option<&StepPath>,
    mut driver: BoxStream<'static, RunChange>,
    tails: &mut Tails,
) -> Result<(), Failure> {
    // Attempts that said something, until what they said must be in the store.
    let mut fresh: BTreeMap<AttemptId, Instant> = BTreeMap::new();
    let mut nonces: BTreeMap<AttemptId, Nonce> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let change = tokio::select! {
            change = driver.next() => change,
            _ = looks.tick(), if !fresh.is_empty() => {
                for id in fresh.keys() {
                    if let Some(nonce) = nonces.get(id) {
                        tails.print(id, nonce, false).await?;
                    }
                }
                fresh.retain(|_, until| Instant::now() < *until);
                continue;
            }
        };
        let (of, attempt, ended) = match change {
            None | Some(RunChange::End { .. }) => return Ok(()),
            Some(RunChange::Run { .. }) => continue,
            Some(RunChange::Line { step, attempt, .. }) => (step, attempt, false),
            Some(RunChange::Step(row)) => {
                let ended = row.status.is_terminal();
                (row.step, row.attempts, ended)
            }
        };
        let wanted = step.is_none_or(|step| *step == of)
            && args.attempt.is_none_or(|number| number == attempt);
        let id = AttemptId {
            run: journal.run().clone(),
            step: of,
            number: attempt,
        };
        if wanted
            && attempt > 0
            && !nonces.contains_key(&id)
            && let Some(claim) = journal.read_claim(&id).await?
        {
            nonces.insert(id.clone(), claim.nonce);
        }
        if let (true, Some(nonce)) = (wanted, nonces.get(&id)) {
            if ended {
                tails.print(&id, nonce, false).await?;
            }
            fresh.insert(id, Instant::now() + FLUSHED);
        }
        // The step that is followed has ended: the caller looks once more, and ends.
        if ended && wanted && step.is_some() {
            return Ok(());
        }
    }
}

/// The step of `run` that `name` means.
///
/// # Errors
/// Where there is none: with those that there are.
pub fn find_step(run: &RunJson, name: &str) -> Result<StepPath, Failure> {
    let path = run
        .plan
        .steps
        .iter()
        .map(|step| &step.path)
        .find(|path| path.as_str() == name || path.display() == name);
    path.cloned().ok_or_else(|| {
        let names: Vec<String> = run
            .plan
            .steps
            .iter()
            .take(20)
            .map(|step| step.path.display())
            .collect();
        Failure::usage(format!("run {} has no step `{name}`", run.run))
            .help(format!("it has {}", names.join(", ")))
    })
}

/// Claims of the attempts asked for, in the order of the plan; of each step the last
/// attempt where none is asked for.
async fn claims(
    journal: &Journal,
    run: &RunJson,
    step: Option<&StepPath>,
    attempt: Option<u32>,
) -> Result<Vec<(AttemptId, Nonce)>, Failure> {
    let found = journal.recover().await?;
    let mut claims: BTreeMap<(usize, u32), (AttemptId, Nonce)> = BTreeMap::new();
    let places: BTreeMap<&StepPath, usize> = run
        .plan
        .steps
        .iter()
        .enumerate()
        .map(|(place, step)| (&step.path, place))
        .collect();
    for claim in found.claims {
        let Some(&place) = places.get(&claim.attempt.step) else {
            continue;
        };
        let wanted = step.is_none_or(|step| *step == claim.attempt.step)
            && attempt.is_none_or(|number| number == claim.attempt.number);
        if wanted {
            claims.insert((place, claim.attempt.number), (claim.attempt, claim.nonce));
        }
    }
    let mut last: BTreeMap<usize, (AttemptId, Nonce)> = BTreeMap::new();
    for ((place, _), claim) in claims {
        last.insert(place, claim);
    }
    Ok(last.into_values().collect())
}

struct Tail {
    reader: LogReader,
    /// A line that has no end yet.
    rest: Vec<u8>,
}

struct Tails {
    store: Store,
    readers: BTreeMap<(AttemptId, Option<u32>), Tail>,
    /// Of distributed steps, the first ranks of instances that may have a log of their own.
    apart: BTreeMap<StepPath, Vec<u32>>,
    /// Whether each line says its step.
    prefix: bool,
    width: usize,
}

impl Tails {
    async fn print(&mut self, id: &AttemptId, nonce: &Nonce, last: bool) -> Result<(), Failure> {
        self.print_of(id, nonce, None, last).await?;
        for rank in self.apart.get(&id.step).cloned().unwrap_or_default() {
            self.print_of(id, nonce, Some(rank), last).await?;
        }
        Ok(())
    }

    async fn print_of(
        &mut self,
        id: &AttemptId,
        nonce: &Nonce,
        apart: Option<u32>,
        last: bool,
    ) -> Result<(), Failure> {
        let tail = self
            .readers
            .entry((id.clone(), apart))
            .or_insert_with(|| Tail {
                reader: LogReader::new(self.store.clone(), layout::logs_of(id, nonce, apart)),
                rest: Vec::new(),
            });
        while let Some(bytes) = tail.reader.next().await? {
            if !self.prefix {
                print::raw(&bytes)?;
                continue;
            }
            tail.rest.extend_from_slice(&bytes);
            if let Some(end) = tail.rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = tail.rest.drain(..=end).collect();
                print::raw(&prefixed(id, &whole, self.width))?;
            }
        }
        if last && self.prefix && !tail.rest.is_empty() {
            let rest = std::mem::take(&mut tail.rest);
            print::raw(&prefixed(id, &rest, self.width))?;
        }
        Ok(())
    }
}

/// The first ranks of the instances of distributed steps but the first one's: where each has
/// a launcher of its own, each has a log of its own.
fn apart(run: &RunJson) -> BTreeMap<StepPath, Vec<u32>> {
    let steps = run.plan.steps.iter();
    let of = steps.map(|step| (step.path.clone(), step.logs_apart()));
    of.filter(|(_, ranks)| !ranks.is_empty()).collect()
}

fn prefixed(id: &AttemptId, lines: &[u8], width: usize) -> Vec<u8> {
    let paint = Paint::new(Terminal::of_stdout().colour);
    let prefix = paint.dim(&format!("{:width$} │ ", id.step.display()));
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let mut text = Vec::with_capacity(lines.len() + prefix.len());
    for line in lines.split(|byte| *byte == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}
