//! The same pipeline in the words of each program: steps that run `true` in a shell, each a process
//! of its own whose end is kept on the disk.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// How the steps of a pipeline hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each waits for the one before.
    Chain(usize),
    /// So many between a first and a last.
    Fan(usize),
    /// None waits for another.
    Wide(usize),
}

impl Shape {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Chain(steps) => format!("chain of {steps} steps"),
            Self::Fan(steps) => format!("fan of {steps} steps"),
            Self::Wide(1) => "1 step".to_owned(),
            Self::Wide(steps) => format!("{steps} independent steps"),
        }
    }

    /// Every step, with those it waits for.
    fn steps(self) -> Vec<(String, Vec<String>)> {
        let name = |number: usize| format!("s{number}");
        match self {
            Self::Wide(count) => (0..count).map(|n| (name(n), Vec::new())).collect(),
            Self::Chain(count) => (0..count)
                .map(|n| (name(n), n.checked_sub(1).map(name).into_iter().collect()))
                .collect(),
            Self::Fan(count) => {
                let middle = |n| (name(n), vec!["first".to_owned()]);
                let mut steps = vec![("first".to_owned(), Vec::new())];
                steps.extend((0..count).map(middle));
                steps.push(("last".to_owned(), (0..count).map(name).collect()));
                steps
            }
        }
    }
}

/// A pipeline of this project. `distinct` commands have keys of their own, so that no step stands
/// for another.
pub(crate) fn pipeline(shape: Shape, distinct: bool) -> String {
    let mut text = "type: pipeline\nname: bench\njobs:\n".to_owned();
    for (step, before) in shape.steps() {
        let argument = if distinct { &step } else { "" };
        let _ = writeln!(text, "  {step}:\n    command: \"true {argument}\"");
        if !before.is_empty() {
            let _ = writeln!(text, "    depends_on: [{}]", before.join(", "));
        }
    }
    text
}

/// Keeps nothing: what the shells alone cost.
fn makefile(shape: Shape) -> String {
    let steps = shape.steps();
    let names: Vec<&str> = steps.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(" ");
    let mut text = format!("SHELL := /bin/bash\n.PHONY: all {names}\nall: {names}\n");
    for (step, before) in steps {
        // Make starts a lone word without any shell; the semicolon makes it use one.
        let _ = writeln!(text, "{step}: {}\n\t@true;", before.join(" "));
    }
    text
}

fn snakefile(shape: Shape) -> String {
    let steps = shape.steps();
    let list = |names: &[String]| -> String {
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        quoted.join(", ")
    };
    let names: Vec<String> = steps.iter().map(|(name, _)| name.clone()).collect();
    let mut text = format!("rule all:\n    input: {}\n", list(&names));
    for (step, before) in steps {
        let _ = writeln!(text, "rule {step}:");
        if !before.is_empty() {
            let _ = writeln!(text, "    input: {}", list(&before));
        }
        let _ = writeln!(text, "    output: touch('{step}')\n    shell: 'true'");
    }
    text
}

fn luigi(shape: Shape) -> String {
    let mut text = "\
import luigi, subprocess
NEEDS = {
"
    .to_owned();
    for (step, before) in shape.steps() {
        let before: Vec<String> = before.iter().map(|name| format!("'{name}'")).collect();
        let _ = writeln!(text, "    '{step}': [{}],", before.join(", "));
    }
    text += "\
}
class Step(luigi.Task):
    step = luigi.Parameter()
    def requires(self):
        return [Step(step=step) for step in NEEDS[self.step]]
    def output(self):
        return luigi.LocalTarget('out/' + self.step)
    def run(self):
        subprocess.run(['bash', '-c', 'true'], check=True)
        with self.output().open('w'):
            pass
class All(luigi.WrapperTask):
    def requires(self):
        return [Step(step=step) for step in NEEDS]
";
    text
}

/// Metaflow wants a first step `start` and a last step `end`, and loops where this project has many
/// steps: a chain has as many steps, a fan has one more.
fn metaflow(shape: Shape) -> String {
    const RUN: &str = "subprocess.run(['bash', '-c', 'true'], check=True)";
    let mut text =
        "import subprocess\nfrom metaflow import FlowSpec, step\nclass Bench(FlowSpec):\n"
            .to_owned();
    let mut step = |name: &str, takes: &str, next: &str| {
        let _ = writeln!(
            text,
            "    @step\n    def {name}(self{takes}):\n        {RUN}\n        {next}"
        );
    };
    match shape {
        Shape::Chain(count) => {
            let name = |number: usize| match number {
                0 => "start".to_owned(),
                last if last + 1 == count => "end".to_owned(),
                other => format!("s{other}"),
            };
            for number in 0..count - 1 {
                let next = format!("self.next(self.{})", name(number + 1));
                step(&name(number), "", &next);
            }
            step("end", "", "pass");
        }
        Shape::Fan(count) | Shape::Wide(count) => {
            let each = format!(
                "self.items = list(range({count}))\n        self.next(self.middle, foreach='items')"
            );
            step("start", "", &each);
            step("middle", "", "self.next(self.last)");
            step("last", ", inputs", "self.next(self.end)");
            step("end", "", "pass");
        }
    }
    text += "if __name__ == '__main__':\n    Bench()\n";
    text
}

/// Writes the pipeline for every program into `folder`.
pub(crate) fn write_all(folder: &Path, shape: Shape) -> anyhow::Result<()> {
    let files = [
        ("pipelines.yaml", pipeline(shape, false)),
        ("Makefile", makefile(shape)),
        ("Snakefile", snakefile(shape)),
        ("luigi_flow.py", luigi(shape)),
        ("metaflow_flow.py", metaflow(shape)),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Shape, luigi, makefile, metaflow, pipeline, snakefile};

    #[test]
    fn all_files_say_the_same_order() {
        let chain = Shape::Chain(3);
        assert!(pipeline(chain, false).ends_with("depends_on: [s1]\n"));
        assert!(makefile(chain).contains("s1: s0\n"));
        assert!(snakefile(chain).contains("rule s1:\n    input: 's0'\n"));
        assert!(luigi(chain).contains("'s1': ['s0'],"));
        assert!(metaflow(chain).contains("def s1(self):"));
        assert!(metaflow(chain).contains("self.next(self.end)"));
    }

    #[test]
    fn a_fan_has_a_first_and_a_last() {
        let fan = Shape::Fan(2);
        let text = pipeline(fan, true);
        assert!(text.contains("s1:\n    command: \"true s1\"\n    depends_on: [first]\n"));
        assert!(text.ends_with("last:\n    command: \"true last\"\n    depends_on: [s0, s1]\n"));
        assert!(makefile(fan).contains("last: s0 s1\n"));
        assert!(!pipeline(Shape::Wide(2), false).contains("depends_on"));
        assert!(metaflow(fan).contains("list(range(2))"));
    }
}
