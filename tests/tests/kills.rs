//! Auria's pipeline, its orchestrator killed (-9) at random moments, taken up by
//! `resume` each time: every run ends Completed, each step ran once and has one
//! outcome, and the pictures are those of an undisturbed run. What ran is seen
//! from outside, by wrappers round the steps' programs.
//!
//! `AURIA_KILL_RUNS` says how many runs (default 12; the full measure is 50).

use auria_tests::{Context, trace};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

const STEPS: [&str; 4] = ["write", "paint", "colour", "post"];
const PROGRAMS: [&str; 4] = ["auria-haiku", "auria-paint", "auria-style", "auria-post"];

/// When an orchestrator was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Moment {
    BeforeFirstStart,
    DuringStep,
    BetweenEndAndOutcome,
    BetweenSteps,
    AfterLastOutcome,
}

/// What can be seen of a run from outside: its trace and its outcomes.
struct View {
    trace: PathBuf,
    outcomes: PathBuf,
}

impl View {
    fn committed(&self, step: &str) -> bool {
        self.outcomes.join(format!("{step}.json")).exists()
    }

    fn moment(&self) -> Moment {
        let lines = trace::read(&self.trace);
        let Some(last) = lines.last() else {
            return Moment::BeforeFirstStart;
        };
        if last.what == "start" {
            return Moment::DuringStep;
        }
        if !self.committed(&last.step) {
            return Moment::BetweenEndAndOutcome;
        }
        if STEPS.iter().all(|step| self.committed(step)) {
            Moment::AfterLastOutcome
        } else {
            Moment::BetweenSteps
        }
    }
}

/// Waits for `wanted`, then a little more, and kills. Says when it was, or none
/// where the orchestrator ended by itself.
fn kill_at(
    child: &mut Child,
    view: &View,
    wanted: Moment,
    random: &mut impl Rng,
) -> Option<Moment> {
    let more = match wanted {
        Moment::BeforeFirstStart => random.random_range(0..250),
        Moment::DuringStep => random.random_range(0..900),
        _ => 0,
    };
    let mut due: Option<Instant> = None;
    loop {
        if child
            .try_wait()
            .expect("the orchestrator's state")
            .is_some()
        {
            return None;
        }
        let now = view.moment();
        if due.is_none() && now == wanted {
            due = Some(Instant::now() + Duration::from_millis(more));
        }
        if due.is_some_and(|due| Instant::now() >= due) {
            child.kill().expect("kill -9");
            child.wait().expect("its end");
            return Some(now);
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

fn submit(folder: &Context, seed: u32) -> Vec<String> {
    let file = auria_tests::project().join("pipelines.yaml");
    [
        "submit",
        &file.to_string_lossy(),
        "--name",
        "kathi",
        "--output",
        "json",
        "--set",
        &format!("inputs.seed={seed}"),
        "--set",
        &format!("inputs.gallery={}", folder.path().join("gallery").display()),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Digests of the outputs that hold pictures and the poem.
fn works(report: &serde_json::Value) -> BTreeMap<String, String> {
    let outputs = report["outputs"].as_object().expect("outputs");
    assert!(outputs.len() >= 3, "{report}");
    outputs
        .iter()
        .map(|(name, output)| {
            (
                name.clone(),
                output["digest"].as_str().expect("a digest").to_owned(),
            )
        })
        .collect()
}

#[test]
fn a_killed_orchestrator_loses_nothing_and_repeats_nothing() {
    let runs: u32 = std::env::var("AURIA_KILL_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(12);
    let seed: u64 = std::env::var("AURIA_KILL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);

    let undisturbed = Context::new();
    let trace_file = undisturbed.path().join("trace");
    let binary = trace::install(&undisturbed.path().join("bin"), &trace_file, &PROGRAMS);
    let undisturbed = undisturbed.with_binary(binary);
    let begun = Instant::now();
    let report = undisturbed.run(submit(&undisturbed, 7)).exits(0).json();
    let expected = works(&report);
    println!(
        "undisturbed: {:.1} s, {expected:?}",
        begun.elapsed().as_secs_f64()
    );

    let all = [
        Moment::BeforeFirstStart,
        Moment::DuringStep,
        Moment::BetweenEndAndOutcome,
        Moment::BetweenSteps,
    ];
    let mut histogram: BTreeMap<Moment, u32> = BTreeMap::new();
    for number in 0..runs {
        let context = Context::new();
        let view = View {
            trace: context.path().join("trace"),
            outcomes: context.path().join("store/runs/kathi/outcomes"),
        };
        let binary = trace::install(&context.path().join("bin"), &view.trace, &PROGRAMS);
        let context = context.with_binary(binary);
        // Each run tries each moment in turn first, then any: one to five kills.
        let mut wanted = vec![all[number as usize % all.len()]];
        for _ in 0..random.random_range(0..5) {
            wanted.extend(all.choose(&mut random));
        }
        wanted.sort_by_key(|moment| *moment != Moment::BeforeFirstStart);

        let mut child = context.start(submit(&context, 7));
        let mut kills = Vec::new();
        for moment in wanted {
            match kill_at(&mut child, &view, moment, &mut random) {
                None => break,
                Some(moment) => {
                    kills.push(moment);
                    *histogram.entry(moment).or_default() += 1;
                }
            }
            // What was killed before it was recorded was never submitted.
            let recorded = context.path().join("store/runs/kathi/run.json").exists();
            child = if recorded {
                context.start(["resume", "kathi"])
            } else {
                context.start(submit(&context, 7))
            };
        }
        let output = child
            .wait_with_output()
            .expect("the last orchestrator's end");
        assert!(
            output.status.success(),
            "run {number} after {kills:?}: {:?}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );

        let report = context
            .run(["show", "kathi", "--output", "json"])
            .exits(0)
            .json();
        assert_eq!(
            report["status"], "Completed",
            "run {number} after {kills:?}: {report}"
        );
        assert_eq!(works(&report), expected, "run {number} after {kills:?}");
        let lines = trace::read(&view.trace);
        for step in STEPS {
            assert_eq!(
                report["steps"][step]["status"], "Completed",
                "run {number}, {step}, after {kills:?}"
            );
            assert!(view.committed(step));
            let starts = lines
                .iter()
                .filter(|line| line.what == "start" && line.step == step)
                .count();
            assert_eq!(
                starts, 1,
                "run {number}: {step} ran {starts} times after {kills:?}: {lines:?}"
            );
        }
        println!("run {number}: {kills:?}");
    }
    println!("kills by moment, seen from outside: {histogram:?}");
    let kills: u32 = histogram.values().sum();
    assert!(kills >= runs, "{kills} kills in {runs} runs");
    for moment in all {
        let least = runs / 5;
        let count = histogram.get(&moment).copied().unwrap_or(0);
        assert!(
            count >= least,
            "only {count} kills {moment:?}, at least {least} are wanted"
        );
    }
}
