//! Plays schedules of the simulation: `cargo xtask simulate` builds and calls it.

use auria_engine::simulation::{KEPT, Mutant, Played, Totals, play};
use clap::Parser;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Schedules that a thread takes at a time.
const BATCH: u64 = 50;
/// Schedules that are played twice, to see that a seed is a schedule.
const REPLAYED: usize = 100;
/// From so many schedules on, what never happened is a failure.
const COVERING: u64 = 20_000;
/// A mutant is found within so many schedules.
const MUTANT_SCHEDULES: u64 = 2_000;

/// Play schedules against the real run state, driver and store protocol
#[derive(Parser)]
struct Options {
    /// How many schedules
    #[arg(long, default_value_t = COVERING)]
    schedules: u64,
    /// The seed of the first; the others follow it
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Play this schedule alone
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: print what happens
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With this mutant alive
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Prove that each mutant is found within 2,000 schedules
    #[arg(long)]
    mutants: bool,
    /// Threads; by default as many as there are CPUs
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // Violations are told with their seeds; a panic's own message would have none.
    std::panic::set_hook(Box::new(|_| {}));
    let mutant = match &options.mutant {
        None => None,
        Some(name) => match Mutant::ALL.iter().find(|mutant| mutant.name() == name) {
            Some(mutant) => Some(*mutant),
            None => {
                let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
                eprintln!(
                    "there is no mutant `{name}`; there are {}",
                    names.join(", ")
                );
                return ExitCode::from(2);
            }
        },
    };
    let good = if let Some(seed) = options.seed {
        one(seed, mutant, options.trace)
    } else if options.mutants {
        mutants(options.first, options.threads())
    } else {
        many(&options, mutant)
    };
    ExitCode::from(u8::from(!good))
}

impl Options {
    fn threads(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cpus).max(1)
    }
}

/// Plays one, with what happens in it.
fn one(seed: u64, mutant: Option<Mutant>, traced: bool) -> bool {
    match played(seed, mutant, traced) {
        Ok(played) => {
            for line in &played.trace {
                println!("{line}");
            }
            match &played.wrong {
                None => println!("schedule {seed}: {} requests, all holds", played.requests),
                Some(wrong) => println!("schedule {seed}: {wrong}"),
            }
            played.wrong.is_none()
        }
        Err(panic) => {
            println!("schedule {seed}: {panic}");
            false
        }
    }
}

fn played(seed: u64, mutant: Option<Mutant>, traced: bool) -> Result<Played, String> {
    catch_unwind(AssertUnwindSafe(|| play(seed, mutant, traced))).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("it panics: {}", text.unwrap_or_default())
    })
}

fn many(options: &Options, mutant: Option<Mutant>) -> bool {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let work = || {
        let mut totals = Totals::default();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= options.schedules {
                return totals;
            }
            for place in from..options.schedules.min(from + BATCH) {
                let seed = options.first + place;
                match played(seed, mutant, false) {
                    Ok(played) => totals.add(played),
                    Err(panic) => totals.fail(seed, panic),
                }
            }
        }
    };
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads()).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(sum) => totals.merge(sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let took = began.elapsed();
    for seed in (options.first..).take(REPLAYED.min(options.schedules as usize)) {
        if let Some(differs) = replay(seed, mutant) {
            totals.fail(seed, differs);
        }
    }
    println!("{}", totals.coverage());
    for line in totals.unseen() {
        println!("{line}");
    }
    let gaps = totals.gaps();
    for gap in &gaps {
        println!("{gap}");
    }
    for (seed, wrong) in &totals.wrong {
        println!("schedule {seed}: {wrong}");
        println!("  `cargo xtask simulate --seed {seed} --trace` shows it");
    }
    let count = totals.schedules.max(1);
    println!(
        "{} schedules, {} failed; {} requests and {:.1} deaths each; {:.1} s, {:.3} ms of a thread each",
        totals.schedules,
        totals.failed,
        totals.requests / count,
        totals.deaths as f64 / count as f64,
        took.as_secs_f64(),
        took.as_secs_f64() * 1e3 * options.threads() as f64 / count as f64,
    );
    let covering = options.schedules >= COVERING && mutant.is_none();
    let lacking = if covering { gaps.len() as u64 } else { 0 };
    println!(
        "test result: {}. {} passed; {} failed; 0 ignored",
        if totals.failed + lacking == 0 {
            "ok"
        } else {
            "FAILED"
        },
        totals.schedules - totals.failed,
        totals.failed + lacking,
    );
    totals.failed + lacking == 0
}

/// Plays a schedule twice; where the second is another, the first line that differs.
fn replay(seed: u64, mutant: Option<Mutant>) -> Option<String> {
    let [first, second] = [(); 2].map(|()| match played(seed, mutant, true) {
        Ok(played) => played.trace,
        Err(panic) => vec![panic],
    });
    if first == second {
        return None;
    }
    let place = first
        .iter()
        .zip(&second)
        .take_while(|(one, other)| one == other)
        .count();
    let line = |trace: &[String]| {
        trace
            .get(place)
            .cloned()
            .unwrap_or_else(|| "the end".into())
    };
    Some(format!(
        "played again it is another at line {}: `{}`, then `{}`",
        place + 1,
        line(&first),
        line(&second)
    ))
}

/// The schedule that finds each mutant first.
fn mutants(first: u64, threads: usize) -> bool {
    let next = AtomicU64::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(mutant) = Mutant::ALL.get(place) else {
                return found;
            };
            let began = Instant::now();
            let by = (0..MUTANT_SCHEDULES).find_map(|place| {
                // Rules of deletions are broken in one schedule of two, as all others are.
                let seed = first + place / 2 + if place % 2 == 1 { KEPT } else { 0 };
                match played(seed, Some(*mutant), false) {
                    Ok(played) => played.wrong.map(|wrong| (place, seed, wrong)),
                    Err(panic) => Some((place, seed, panic)),
                }
            });
            found.push((*mutant, by, began.elapsed()));
        }
    };
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(found) => all.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all.sort_by_key(|(mutant, ..)| *mutant);
    let mut missed = 0;
    for (mutant, by, took) in &all {
        match by {
            Some((place, seed, wrong)) => println!(
                "{:<24} found by schedule {:>4} (seed {seed}, {:.1} s): {wrong}",
                mutant.name(),
                place + 1,
                took.as_secs_f64()
            ),
            None => {
                missed += 1;
                println!(
                    "{:<24} NOT FOUND in {MUTANT_SCHEDULES} schedules ({:.1} s): {}",
                    mutant.name(),
                    took.as_secs_f64(),
                    mutant.what()
                );
            }
        }
    }
    println!(
        "test result: {}. {} passed; {missed} failed; 0 ignored",
        if missed == 0 { "ok" } else { "FAILED" },
        all.len() - missed,
    );
    missed == 0
}
