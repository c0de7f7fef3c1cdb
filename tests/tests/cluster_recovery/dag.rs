//! A pipeline drawn from a seed: steps that take numbers from steps before them and hand on a
//! sum, so that its last number is right only where each step's effect counted once.

use super::stage::Stage;
use rand::Rng;
use std::fmt::Write as _;

/// Steps of a pipeline.
pub(crate) const STEPS: usize = 30;
/// Sums are taken modulo this.
const MODULUS: u64 = 1_000_003;
/// A step takes from at most so many steps.
const MOST_INPUTS: usize = 3;
/// A step takes from those that stand at most so many before it.
const REACH: usize = 9;

/// A pipeline and what it comes to.
pub(crate) struct Dag {
    pub(crate) text: String,
    /// The name of its last step, whose output is the pipeline's.
    pub(crate) last: String,
    pub(crate) value: u64,
}

/// Draws one.
pub(crate) fn draw(rng: &mut impl Rng, stage: &Stage) -> Dag {
    let mut text = String::from("type: pipeline\nname: thirty\njobs:\n");
    let mut values: Vec<u64> = Vec::new();
    let mut is_used = [false; STEPS];
    for step in 0..STEPS {
        let mut from: Vec<usize> = if step + 1 == STEPS {
            // Everything that nobody took counts in the end.
            (0..step).filter(|before| !is_used[*before]).collect()
        } else {
            let wanted = rng.random_range(0..=MOST_INPUTS.min(step));
            let draws = (0..wanted).map(|_| rng.random_range(step.saturating_sub(REACH)..step));
            draws.collect()
        };
        from.sort_unstable();
        from.dedup();
        let own = rng.random_range(1..1000_u64);
        let sum: u64 = from.iter().map(|before| values[*before]).sum();
        values.push((sum + own) % MODULUS);
        from.iter().for_each(|before| is_used[*before] = true);
        write_step(&mut text, step, own, &from, stage);
    }
    Dag {
        text,
        last: name(STEPS - 1),
        value: values[STEPS - 1],
    }
}

fn name(step: usize) -> String {
    format!("s{step:02}")
}

fn write_step(text: &mut String, step: usize, own: u64, from: &[usize], stage: &Stage) {
    let files: Vec<String> = from
        .iter()
        .map(|before| format!("${{{{inputs.{}}}}}", name(*before)))
        .collect();
    let script = format!(
        "{}sum={own}\n\
         for file in {}; do sum=$((sum + $(cat \"$file\"))); done\n\
         echo $((sum % {MODULUS})) > ${{{{outputs.sum}}}}\n\
         echo done >&3 || true\n",
        stage.prologue(),
        files.join(" "),
    );
    let _ = writeln!(text, "  {}:\n    command: |", name(step));
    for line in script.lines() {
        let _ = writeln!(text, "      {line}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        text,
        "    environment: {{image: 'auria.local/post:{version}'}}\n    \
         resources: {{memory: 96MiB}}\n    \
         retry: {{out_of_memory: 20, preempted: 20, evicted: 20, node_lost: 20, backoff: {{initial: 1s, factor: 1}}}}\n    \
         outputs: {{sum: {{type: uri_file}}}}"
    );
    if !from.is_empty() {
        let _ = writeln!(text, "    inputs:");
    }
    for before in from {
        let before = name(*before);
        let _ = writeln!(
            text,
            "      {before}: '${{{{parent.jobs.{before}.outputs.sum}}}}'"
        );
    }
}
