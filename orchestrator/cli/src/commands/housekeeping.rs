//! `delete` and `gc`: what goes, what stays and why. The rules are the store's.

use crate::args::{Delete, Gc, Global};
use crate::edge;
use crate::failure::{Failure, exit};
use crate::load;
use crate::open;
use crate::print;
use crate::terminal::{duration, size};
use auria_server::deletion::{self, Deletion, Fate};
use auria_store::StoreError;
use auria_store::housekeeping::{self, Assets, Collect, Collected, RunFate, User};
use auria_store::remote::Remote;
use auria_store::runs::RunJson;
use serde::Deserialize;
use serde_json::json;
use std::fmt::{Display, Write as _};
use std::time::{Duration, Instant};

/// What takes longer says what it does.
const SILENT: Duration = Duration::from_secs(2);
/// A server is asked so often how far it is.
const ASKS: Duration = Duration::from_millis(300);
/// So often in a row it may give no answer.
const SILENCES: u32 = 20;

/// Deletes runs.
///
/// # Errors
/// Where the store cannot be reached, there is no such run, or one of them cannot be
/// deleted: then those that can are, and the exit code is 2.
pub async fn delete(global: &Global, args: &Delete) -> Result<u8, Failure> {
    let opened = open::to_delete(global).await?;
    let store = &opened.store;
    // All names are looked up before anything is touched.
    let mut runs = Vec::new();
    for word in &args.runs {
        runs.push(open::run(store, word).await?);
    }
    let mut deletions: Vec<Deletion> = Vec::new();
    let mut failed: Vec<Failure> = Vec::new();
    let mut add = |run: &RunJson, came: Result<Deletion, StoreError>| match came {
        Ok(deletion) => deletions.push(deletion),
        Err(error) => failed.push(Failure::from(error).about(&format!("run {}", run.run))),
    };
    if let Some(controller) = &opened.controller {
        // In the name of who asks there, who may do so or not.
        let body = json!({"grace_ms": millis(args.grace)});
        for run in &runs {
            let path = format!("runs/{}/delete", run.run);
            add(run, controller.remote.post(&path, &body).await);
        }
    } else {
        let by = format!("{}@{}", edge::user(), edge::host());
        let assets = Assets::read(store).await?;
        for run in &runs {
            let came = deletion::delete(store, run, &assets, &by, args.grace).await;
            add(run, came);
        }
    }
    print::result(global.output, &deletions, || {
        deletions.iter().filter_map(line).collect::<String>()
    })?;
    let mut refused: Vec<String> = deletions.iter().filter_map(refusal).collect();
    let code = failed.iter().map(|failure| failure.code).max();
    let help = failed.iter().find_map(Failure::way_out).map(str::to_owned);
    refused.extend(failed.iter().map(|failure| failure.message().to_owned()));
    if refused.is_empty() {
        return Ok(exit::DONE);
    }
    let mut failure = Failure::usage(refused.join("\n"));
    failure.code = code.unwrap_or(exit::USAGE).max(exit::USAGE);
    Err(match help {
        Some(help) => failure.help(help),
        None => failure,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Why a run stays.
fn refusal(deletion: &Deletion) -> Option<String> {
    let run = &deletion.run;
    match (deletion.fate, &deletion.why) {
        (Fate::Kept, None) => Some(in_use(run.as_str(), &deletion.used_by)),
        (Fate::Kept, Some(_)) => Some(format!(
            "run {run} has not ended: `auria-pipeline cancel {run}` ends it"
        )),
        (Fate::Deleted | Fate::Marked | Fate::GoesOn, _) => None,
    }
}

fn in_use(run: &str, users: &[User]) -> String {
    let names: Vec<String> = users.iter().take(10).map(ToString::to_string).collect();
    let more = users.len().saturating_sub(names.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        "run {run} stays: its outputs are used by {}{more}",
        names.join(", ")
    )
}

fn line(deletion: &Deletion) -> Option<String> {
    let run = &deletion.run;
    match deletion.fate {
        Fate::Deleted => {
            let what = deletion.freed.map_or_else(String::new, |freed| {
                let objects = usize::try_from(freed.objects).unwrap_or(usize::MAX);
                format!(
                    ": {}, {}",
                    load::count(objects, "object"),
                    size(freed.bytes)
                )
            });
            Some(format!("deleted {run}{what}\n"))
        }
        Fate::Marked => Some(format!(
            "marked {run}: it goes with the first `auria-pipeline gc` in {} or later\n",
            duration(deletion.left_ms?)
        )),
        Fate::GoesOn => Some(format!(
            "deleting {run}: the server goes on with it, and `auria-pipeline gc` ends what is cut short\n"
        )),
        Fate::Kept => None,
    }
}

/// Collects what nobody needs.
///
/// # Errors
/// Where the store cannot be reached.
pub async fn gc(global: &Global, args: &Gc) -> Result<u8, Failure> {
    let opened = open::to_delete(global).await?;
    let begun = Instant::now();
    let told = |what: &dyn Display| {
        if begun.elapsed() > SILENT {
            eprintln!("{what}");
        }
    };
    let collected = match &opened.controller {
        Some(controller) => collect_there(&controller.remote, args, &told).await?,
        None => {
            let what = Collect {
                older_than: args.older_than,
                grace: args.grace,
                uploads: args.grace.max(housekeeping::GRACE),
                dry_run: args.dry_run,
                by: format!("gc of {}@{}", edge::user(), edge::host()),
            };
            housekeeping::collect(&opened.store, &what, &|progress| told(&progress)).await?
        }
    };
    let freed = collected.freed();
    let mut value = serde_json::to_value(&collected).unwrap_or_default();
    value["freed"] = json!(freed);
    print::result(global.output, &value, || text(&collected))?;
    Ok(exit::DONE)
}

/// How a collection stands that a server does.
#[derive(Deserialize)]
struct Collection {
    id: String,
    doing: Option<String>,
    collected: Option<Collected>,
    failed: Option<String>,
}

/// Has a server collect, and waits until it has.
async fn collect_there(
    remote: &Remote,
    args: &Gc,
    told: &dyn Fn(&dyn Display),
) -> Result<Collected, Failure> {
    let body = json!({
        "older_than_ms": args.older_than.map(millis),
        "grace_ms": millis(args.grace),
        "dry_run": args.dry_run,
    });
    let mut collection: Collection = remote.post("gc", &body).await?;
    let place = format!("gc/{}", collection.id);
    let mut said = String::new();
    let mut silent = 0;
    loop {
        if let Some(collected) = collection.collected {
            return Ok(collected);
        }
        if let Some(failed) = collection.failed {
            return Err(Failure::unreachable(failed));
        }
        if let Some(doing) = collection.doing.filter(|doing| *doing != said) {
            told(&doing);
            said = doing;
        }
        tokio::time::sleep(ASKS).await;
        collection = match remote.get(&place).await {
            Ok(collection) => {
                silent = 0;
                collection
            }
            // It may be on its way back, or another replica may lead by now.
            Err(error) if error.is_transient() && silent < SILENCES => {
                silent += 1;
                Collection {
                    id: String::new(),
                    doing: None,
                    collected: None,
                    failed: None,
                }
            }
            Err(error) => {
                return Err(Failure::from(error).help(
                    "what was freed by then is freed, and another `auria-pipeline gc` goes on",
                ));
            }
        };
    }
}

fn text(collected: &Collected) -> String {
    let mut text = String::new();
    let would = if collected.dry_run { "would be " } else { "" };
    for RunFate {
        run,
        fate,
        left_ms,
        used_by,
        freed,
    } in &collected.runs
    {
        let what = match (fate.as_ref(), left_ms) {
            ("deleted", _) => format!("{would}deleted: {}", size(freed.bytes)),
            ("marked", Some(left)) => format!("marked, goes in {}", duration(*left)),
            _ => {
                let names: Vec<String> = used_by.iter().map(ToString::to_string).collect();
                format!("stays: used by {}", names.join(", "))
            }
        };
        let _ = writeln!(text, "run {run}  {what}");
    }
    let all = collected.freed();
    for (name, part) in [
        ("attempts that lost, old checkpoints", collected.attempts),
        ("code and inputs that no run names", collected.snapshots),
        ("uploads that were cut short", collected.uploads),
        ("remains of deletions", collected.remains),
    ] {
        if part.objects > 0 {
            let objects = usize::try_from(part.objects).unwrap_or(usize::MAX);
            let _ = writeln!(
                text,
                "{name}: {}, {}",
                load::count(objects, "object"),
                size(part.bytes)
            );
        }
    }
    if collected.snapshots_marked > 0 {
        let marked = usize::try_from(collected.snapshots_marked).unwrap_or(usize::MAX);
        let _ = writeln!(
            text,
            "{} of code or inputs marked: they go once their grace is over",
            load::count(marked, "snapshot")
        );
    }
    let objects = usize::try_from(all.objects).unwrap_or(usize::MAX);
    let _ = writeln!(
        text,
        "{}: {}, {}",
        if collected.dry_run {
            "would free"
        } else {
            "freed"
        },
        load::count(objects, "object"),
        size(all.bytes)
    );
    text
}
