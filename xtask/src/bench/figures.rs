//! Measured times, and the table and the JSON that they are printed as.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Output;

/// What one program took for one work, once for each run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// Takes in what another holds.
    pub(crate) fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|value| self.push(*value));
    }

    pub(crate) fn runs(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Not a number where nothing was measured.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut sample = Self::default();
        values.into_iter().for_each(|value| sample.push(value));
        sample
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Mebibytes,
    /// How often something happened.
    Times,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Mebibytes => "MiB",
            Self::Times => "",
        }
    }

    fn show(self, value: f64) -> String {
        let digits = match self {
            Self::Seconds => 3,
            Self::Milliseconds => 2,
            Self::Microseconds | Self::Mebibytes => 1,
            Self::Times => 2,
        };
        format!("{value:.digits$}")
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was done, or what is counted.
    pub(crate) work: String,
    /// Who did it.
    pub(crate) program: String,
    pub(crate) unit: Unit,
    pub(crate) sample: Sample,
    /// How many times as long as auria-pipeline for the same work.
    pub(crate) ratio: Option<f64>,
}

/// A goal of the project, and what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// What should be.
    pub(crate) what: String,
    /// What is.
    pub(crate) found: String,
    pub(crate) met: bool,
}

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) lines: Vec<Figure>,
    pub(crate) goals: Vec<Goal>,
}

impl Figures {
    pub(crate) fn add(&mut self, work: &str, program: &str, unit: Unit, sample: Sample) {
        self.lines.push(Figure {
            work: work.to_owned(),
            program: program.to_owned(),
            unit,
            sample,
            ratio: None,
        });
    }

    /// The median of `program` for `work`; not a number where it was not measured.
    pub(crate) fn median(&self, work: &str, program: &str) -> f64 {
        self.lines
            .iter()
            .find(|line| line.work == work && line.program == program)
            .map_or(f64::NAN, |line| line.sample.median())
    }

    pub(crate) fn goal(&mut self, what: &str, found: String, met: bool) {
        let what = what.to_owned();
        self.goals.push(Goal { what, found, met });
    }

    /// Sets every line's ratio to `ours` of the same work.
    pub(crate) fn compare(&mut self, ours: &str) {
        let medians: Vec<f64> = self
            .lines
            .iter()
            .map(|line| line.sample.median() / self.median(&line.work, ours))
            .collect();
        for (line, ratio) in self.lines.iter_mut().zip(medians) {
            line.ratio = (line.program != ours && ratio.is_finite()).then_some(ratio);
        }
    }

    /// Prints all of it.
    pub(crate) fn print(&self, output: Output) {
        match output {
            Output::Text => println!("{}", self.text()),
            Output::Json => println!("{:#}", self.json()),
        }
    }

    pub(crate) fn text(&self) -> String {
        let widths = |of: fn(&Figure) -> &str, least: usize| {
            let longest = self.lines.iter().map(|line| of(line).chars().count()).max();
            longest.unwrap_or(0).max(least)
        };
        let work = widths(|line| &line.work, 4);
        let program = widths(|line| &line.program, 7);
        let mut text = format!(
            "{:<work$}  {:<program$}  {:>10}      {:>19}  {:>4}  {:>7}\n",
            "work", "program", "median", "least to most", "runs", "ratio"
        );
        let mut before = "";
        for line in &self.lines {
            let shown = if line.work == before { "" } else { &line.work };
            before = &line.work;
            let ratio = line.ratio.map(|ratio| format!("{ratio:.1}x"));
            let spread = format!(
                "{} to {}",
                line.unit.show(line.sample.least()),
                line.unit.show(line.sample.most())
            );
            let _ = writeln!(
                text,
                "{shown:<work$}  {:<program$}  {:>10} {:<3}  {spread:>19}  {:>4}  {:>7}",
                line.program,
                line.unit.show(line.sample.median()),
                line.unit.name(),
                line.sample.runs(),
                ratio.unwrap_or_default(),
            );
        }
        if !self.goals.is_empty() {
            text.push('\n');
        }
        for goal in &self.goals {
            let met = if goal.met { "met    " } else { "NOT MET" };
            let _ = writeln!(text, "{met}  {}: {}", goal.what, goal.found);
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let number = |value: f64| value.is_finite().then_some(value);
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "work": line.work,
                    "program": line.program,
                    "unit": line.unit.name(),
                    "median": number(line.sample.median()),
                    "least": number(line.sample.least()),
                    "most": number(line.sample.most()),
                    "runs": line.sample.runs(),
                    "ratio": line.ratio,
                })
            })
            .collect();
        let goals: Vec<Value> = self
            .goals
            .iter()
            .map(|goal| json!({"goal": goal.what, "found": goal.found, "met": goal.met}))
            .collect();
        json!({"figures": lines, "goals": goals})
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Sample, Unit};

    #[test]
    fn the_median_is_the_middle() {
        let median = |values: &[f64]| values.iter().copied().collect::<Sample>().median();
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_to_ours_of_the_same_work() {
        let mut figures = Figures::default();
        for (work, program, value) in [
            ("chain", "ours", 0.2),
            ("chain", "peer", 2.0),
            ("fan", "ours", 1.0),
            ("fan", "peer", 3.0),
            ("alone", "peer", 3.0),
        ] {
            let sample = [value].into_iter().collect();
            figures.add(work, program, Unit::Seconds, sample);
        }
        figures.compare("ours");
        figures.goal("fast", "slow".to_owned(), false);
        let ratios: Vec<_> = figures.lines.iter().map(|line| line.ratio).collect();
        assert_eq!(ratios, [None, Some(10.0), None, Some(3.0), None]);
        let text = figures.text();
        assert!(
            text.contains("10.0x\n") && text.contains("NOT MET  fast: slow"),
            "{text}"
        );
        assert_eq!(figures.json()["figures"][1]["median"], 2.0);
    }
}
