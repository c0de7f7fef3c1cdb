//! `delete` and `gc`: what goes, what stays and why. The rules are the store's.

use crate::args::{Delete, Gc, Global};
use crate::cluster;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::load;
use crate::open;
use crate::print;
use crate::terminal::{duration, size};
use auria_store::Access;
use auria_store::housekeeping::{
    self, Assets, Collect, Collected, Finished, Marked, RunFate, User,
};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Nothing is deleted through a controller.
const WITH_CREDENTIALS: &str = "whoever holds the store's own credentials (AWS_ACCESS_KEY_ID and the others of docs/install.md) does it without the controller: `--on process --store s3://BUCKET/PREFIX`";

/// What takes longer says what it does.
const SILENT: Duration = Duration::from_secs(2);

/// Deletes runs.
///
/// # Errors
/// Where the store cannot be reached, there is no such run, or one of them cannot be
/// deleted: then those that can are, and the exit code is 2.
pub async fn delete(global: &Global, args: &Delete) -> Result<u8, Failure> {
    cluster::not_yet(global, "delete", WITH_CREDENTIALS)?;
    let store = open::existing(global, Access::Write).await?.store;
    // All names are looked up before anything is touched.
    let mut runs = Vec::new();
    for word in &args.runs {
        runs.push(open::run(&store, word).await?);
    }
    let by = format!("{}@{}", edge::user(), edge::host());
    let assets = Assets::read(&store).await?;
    let mut answers = Vec::new();
    let mut refused = Vec::new();
    for run in &runs {
        let id = &run.run;
        let marked = housekeeping::mark(&store, run, &assets, &by, args.grace).await?;
        match marked {
            Marked::Yes => {}
            Marked::NotEnded => {
                refused.push(format!(
                    "run {id} has not ended: `auria-pipeline cancel {id}` ends it"
                ));
                answers.push(json!({"run": id, "fate": "kept", "why": "not ended"}));
                continue;
            }
            Marked::InUse(users) => {
                refused.push(in_use(id.as_str(), &users));
                answers.push(json!({"run": id, "fate": "kept", "used_by": users}));
                continue;
            }
        }
        answers.push(match housekeeping::finish(&store, id).await? {
            Finished::Deleted(freed) => json!({"run": id, "fate": "deleted", "freed": freed}),
            Finished::Waits(left) => {
                json!({"run": id, "fate": "marked", "left_ms": left.as_millis() as u64})
            }
            Finished::Kept(users) => {
                refused.push(in_use(id.as_str(), &users));
                json!({"run": id, "fate": "kept", "used_by": users})
            }
            // Another deleted it in the same moment.
            Finished::NotMarked => json!({"run": id, "fate": "deleted"}),
        });
    }
    print::result(global.output, &answers, || {
        answers.iter().filter_map(line).collect::<String>()
    })?;
    if refused.is_empty() {
        return Ok(exit::DONE);
    }
    Err(Failure::usage(refused.join("\n")))
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

fn line(answer: &Value) -> Option<String> {
    let run = answer["run"].as_str()?;
    match answer["fate"].as_str()? {
        "deleted" => {
            let freed = &answer["freed"];
            let (objects, bytes) = (freed["objects"].as_u64(), freed["bytes"].as_u64());
            let what = match (objects, bytes) {
                (Some(objects), Some(bytes)) => format!(
                    ": {}, {}",
                    load::count(usize::try_from(objects).unwrap_or(usize::MAX), "object"),
                    size(bytes)
                ),
                _ => String::new(),
            };
            Some(format!("deleted {run}{what}\n"))
        }
        "marked" => Some(format!(
            "marked {run}: it goes with the first `auria-pipeline gc` in {} or later\n",
            duration(answer["left_ms"].as_u64()?)
        )),
        _ => None,
    }
}

/// Collects what nobody needs.
///
/// # Errors
/// Where the store cannot be reached.
pub async fn gc(global: &Global, args: &Gc) -> Result<u8, Failure> {
    cluster::not_yet(global, "gc", WITH_CREDENTIALS)?;
    let store = open::existing(global, Access::Write).await?.store;
    let what = Collect {
        older_than: args.older_than,
        grace: args.grace,
        uploads: args.grace.max(housekeeping::GRACE),
        dry_run: args.dry_run,
        by: format!("gc of {}@{}", edge::user(), edge::host()),
    };
    let begun = Instant::now();
    let told = |what: &str| {
        if begun.elapsed() > SILENT {
            eprintln!("{what}");
        }
    };
    let collected = housekeeping::collect(&store, &what, &told).await?;
    let freed = collected.freed();
    let mut value = serde_json::to_value(&collected).unwrap_or_default();
    value["freed"] = json!(freed);
    print::result(global.output, &value, || text(&collected))?;
    Ok(exit::DONE)
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
        let what = match (*fate, left_ms) {
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
