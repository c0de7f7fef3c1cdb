//! Faults of every kind on a real cluster, while the artist's pipeline and a generated one of
//! thirty steps run there: nothing is lost, nothing runs again that was finished, and each
//! cause draws on its own budget.
//!
//! As a test: each kind once, and five at random. `cargo xtask faults` has it make as many as
//! `AURIA_FAULTS_COUNT` says, at random by `AURIA_FAULTS_SEED`, and print a tally.

mod dag;
mod kinds;
mod retrain;
mod stage;
mod tally;
mod work;
mod world;

use auria_tests::cluster::Cluster;
use auria_tests::installation;
use kinds::{KINDS, Kind};
use libtest_mimic::{Arguments, Failed, Trial};
use rand::Rng;
use rand::seq::IndexedRandom;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally::Tally;
use world::World;

/// Random ones of the test.
const AT_RANDOM: u32 = 5;

fn main() -> ExitCode {
    let found = Cluster::find();
    if let Some(count) = number("AURIA_FAULTS_COUNT") {
        return campaign(found, count);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    // Who started a cluster for the tests must not be told that they were skipped.
    if let (Err(why), Some(_)) = (&found, std::env::var_os("AURIA_TEST_CLUSTER")) {
        eprintln!("there should be a cluster: {why}");
        return ExitCode::FAILURE;
    }
    let found = match installation::without_images() {
        Some(why) => Err(why),
        None => found,
    };
    let seed = seed();
    let world: &'static Mutex<Option<World>> = Box::leak(Box::default());
    let mut trials = Vec::new();
    let kinds = KINDS
        .iter()
        .map(|kind| (kind.name().replace('-', "_"), Case::Kind(*kind)));
    let names = kinds.chain([
        ("five_at_random".to_owned(), Case::AtRandom),
        (
            "retraining_goes_on_from_its_checkpoint".to_owned(),
            Case::Retraining(retrain::ALONE),
        ),
        (
            "distributed_retraining_goes_on_from_its_checkpoint".to_owned(),
            Case::Retraining(retrain::TOGETHER),
        ),
    ]);
    for (name, case) in names {
        let cluster = found.clone();
        let run = move || {
            let cluster = cluster?;
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            let world = world.get_or_insert_with(|| World::new(&cluster, seed));
            let done = case.run(world);
            done.map_err(|said| Failed::from(format!("seed {seed}: {said}")))
        };
        trials.push(Trial::test(name, run).with_ignored_flag(found.is_err()));
    }
    if let Err(why) = &found {
        eprintln!("skipped: {why}");
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    number("AURIA_FAULTS_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000))
}

fn any(world: &mut World) -> Kind {
    let kind = KINDS.choose(&mut world.rng).copied();
    kind.unwrap_or(Kind::PodDeleted)
}

/// A case of the test.
#[derive(Clone, Copy)]
enum Case {
    Kind(Kind),
    AtRandom,
    /// By a pipeline of this name.
    Retraining(&'static str),
}

impl Case {
    fn run(self, world: &mut World) -> Result<(), String> {
        let mut tally = Tally::default();
        match self {
            Self::Kind(kind) => one(world, kind, &mut tally),
            Self::AtRandom => (0..AT_RANDOM)
                .try_for_each(|_| {
                    let kind = any(world);
                    one(world, kind, &mut tally)
                })
                .and_then(|()| world.finish()),
            Self::Retraining(name) => {
                let went = retrain::goes_on_from_its_checkpoint(world, name)?;
                println!("{went}");
                world.whole()
            }
        }
    }
}

/// Makes one fault at a random moment, and waits until the cluster is whole again.
fn one(world: &mut World, kind: Kind, tally: &mut Tally) -> Result<(), String> {
    world.go_on()?;
    std::thread::sleep(Duration::from_millis(world.rng.random_range(0..1_500)));
    let begun = Instant::now();
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| kind.make(world)));
    let done = done.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said.unwrap_or_else(|| "it panicked".to_owned()))
    });
    let ended = done.map_err(|said| format!("{}: {said}", kind.name()))?;
    println!(
        "{:<24} {ended} ({:.1} s)",
        kind.name(),
        begun.elapsed().as_secs_f64()
    );
    tally.note(kind, ended, begun.elapsed());
    let after = world.whole().and_then(|()| world.go_on());
    after.map_err(|said| format!("after {}: {said}", kind.name()))
}

/// As many as are asked for.
fn campaign(found: Result<Cluster, String>, count: u64) -> ExitCode {
    let cluster = match found {
        Ok(cluster) => cluster,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let seed = seed();
    println!("seed {seed}");
    let only = match std::env::var("AURIA_FAULTS_KIND") {
        Ok(name) => match Kind::named(&name) {
            Some(kind) => Some(kind),
            None => {
                let names = KINDS.map(Kind::name).join(", ");
                eprintln!("there is no fault {name}; there are {names}");
                return ExitCode::FAILURE;
            }
        },
        Err(_) => None,
    };
    let begun = Instant::now();
    let mut world = World::new(&cluster, seed);
    let mut tally = Tally::default();
    let mut made = 0;
    let done = (0..count)
        .try_for_each(|_| {
            let drawn = any(&mut world);
            made += 1;
            one(&mut world, only.unwrap_or(drawn), &mut tally)
        })
        .and_then(|()| world.finish());
    println!("\n{}", tally.text(&world, seed, begun.elapsed()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(said) => {
            println!("FAILED: seed {seed}, fault {made}: {said}");
            ExitCode::FAILURE
        }
    }
}
