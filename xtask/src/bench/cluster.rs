//! `cargo xtask bench cluster`: steps on the test cluster beside bare Pods that do the same, and the
//! project's goals for them. What is measured stands in `tests/tests/cluster_measures`.

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::Output;
use super::figures::{Figures, Sample, Unit};
use crate::on_cluster;
use crate::programs::Program;

pub(crate) const HELP: &str = "\
Bare Pods are the least that a cluster takes: created by a client that waits for them, with the same
image. All is measured in one call, in turns; ratios are to auria-pipeline. The controller and the
launcher are built with the dev and the launcher profile, both optimized. The cluster is started
where none is up.

Examples:
  cargo xtask bench cluster
  cargo xtask bench cluster --rounds 1 --output json";

const OURS: &str = "auria-pipeline";
const BARE: &str = "bare Pods";

#[derive(Args)]
pub(crate) struct Cluster {
    /// Runs of the chains; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Cluster {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        on_cluster::run("cluster_measures", |program, variables| {
            self.measure(program, variables)
        })
    }

    fn measure(
        &self,
        program: &Program,
        mut variables: Vec<(&'static str, String)>,
    ) -> anyhow::Result<()> {
        let folder = tempfile::tempdir().context("cannot make a folder for the numbers")?;
        let file = folder.path().join("numbers.json");
        variables.push(("AURIA_MEASURES", file.display().to_string()));
        variables.push(("AURIA_MEASURES_ROUNDS", self.rounds.to_string()));
        program.run(&variables)?;
        let text = std::fs::read_to_string(&file).context("nothing was measured")?;
        let numbers: Value = serde_json::from_str(&text).context("the numbers are no JSON")?;
        let mut figures = read(&numbers);
        figures.compare(OURS);
        goals(&mut figures);
        match self.output {
            Output::Text => println!("{}", figures.text()),
            Output::Json => println!("{:#}", figures.json()),
        }
        Ok(())
    }
}

/// What was measured; values of the same work and program are one sample.
fn read(numbers: &Value) -> Figures {
    let mut figures = Figures::default();
    for line in numbers.as_array().into_iter().flatten() {
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        let unit = match text("unit") {
            "s" => Unit::Seconds,
            "ms" => Unit::Milliseconds,
            "MiB" => Unit::Mebibytes,
            _ => Unit::Times,
        };
        let values = line["values"].as_array().into_iter().flatten();
        let sample: Sample = values.filter_map(Value::as_f64).collect();
        let (work, program) = (text("work"), text("program"));
        let known = figures
            .lines
            .iter_mut()
            .find(|line| line.work == work && line.program == program);
        match known {
            Some(known) => known.sample.extend(&sample),
            None => figures.add(work, program, unit, sample),
        }
    }
    // Programs of one work stand together.
    let mut order: Vec<String> = Vec::new();
    for line in &figures.lines {
        if !order.contains(&line.work) {
            order.push(line.work.clone());
        }
    }
    let place = |work: &str| order.iter().position(|one| one == work);
    figures.lines.sort_by_key(|line| place(&line.work));
    figures
}

/// What the project wants of itself.
fn goals(figures: &mut Figures) {
    let of = |program: &str, begins: &str| {
        let line = figures
            .lines
            .iter()
            .find(|line| line.work.starts_with(begins) && line.program == program);
        line.map_or(f64::NAN, |line| line.sample.median())
    };
    let part = |name: &str| of(OURS, &format!("a step of the chain: {name}"));
    let chain = of(OURS, "chain of");
    let limit = of(BARE, "a Pod's creation") * 10.0 / 1e3;
    let requests = of(OURS, "API requests for a step") - of(BARE, "API requests for a step");
    let own = part("one's end") + part("fetch") + part("publish");
    let goals = [
        (
            "our own part of a step (tell, decide, create, fetch, publish), ms: under 100",
            own,
            100.0,
        ),
        (
            "the chain, in times of bare Pods that wait for Succeeded: under 0.4",
            chain / of(BARE, "chain of"),
            0.4,
        ),
        (
            "the chain, in times of ten bare Pods' creation to process: under 1.4",
            chain / limit,
            1.4,
        ),
        (
            "100 steps, 20 at once, in times of the bare Pods: within 1.1",
            of(OURS, "100 steps") / of(BARE, "100 steps"),
            1.1,
        ),
        (
            "API requests for a step beyond a bare Pod's: 4 or fewer",
            requests,
            4.0,
        ),
    ];
    for (what, found, most) in goals {
        if found.is_finite() {
            figures.goal(what, format!("{found:.2}"), found <= most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{goals, read};
    use serde_json::json;

    #[test]
    fn rounds_of_one_work_are_one_sample_and_goals_follow_them() {
        let line = |work: &str, program: &str, unit: &str, value: f64| json!({"work": work, "program": program, "unit": unit, "values": [value]});
        let mut figures = read(&json!([
            line("a Pod's creation to its process", "bare Pods", "ms", 500.0),
            line("chain of 10 steps", "bare Pods", "s", 20.0),
            line("chain of 10 steps", "auria-pipeline", "s", 7.0),
            line("chain of 10 steps", "bare Pods", "s", 20.0),
            line("chain of 10 steps", "auria-pipeline", "s", 8.0),
        ]));
        assert_eq!(figures.lines.len(), 3);
        assert_eq!(figures.lines[2].sample.runs(), 2);
        goals(&mut figures);
        let met: Vec<bool> = figures.goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true, false], "{:?}", figures.goals);
    }
}
