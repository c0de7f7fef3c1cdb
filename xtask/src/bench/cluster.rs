//! `cargo xtask bench cluster`: steps on the test cluster beside bare Pods that do the same, and the
//! project's goals for them. What is measured stands in `tests/tests/cluster_measures`.

use clap::Args;

use super::figures::Figures;
use super::{Output, measured};
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
        variables.push(("AURIA_MEASURES_ROUNDS", self.rounds.to_string()));
        let mut figures = measured::by(program, variables)?;
        figures.compare(OURS);
        goals(&mut figures);
        figures.print(self.output);
        Ok(())
    }
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
    use super::{goals, measured};
    use serde_json::json;

    #[test]
    fn rounds_of_one_work_are_one_sample_and_goals_follow_them() {
        let line = |work: &str, program: &str, unit: &str, value: f64| json!({"work": work, "program": program, "unit": unit, "values": [value]});
        let mut figures = measured::read(&json!([
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
