//! The model card that lies beside each set of weights: `card.json` for programs (the
//! gate reads it) and `card.md` for people. Holds only what was measured.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::gate::Better;
use crate::{Error, files};

/// The names of the two files.
const JSON: &str = "card.json";
const MARKDOWN: &str = "card.md";

/// What a set of weights is, was made from, and reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The name of the model.
    pub name: String,
    /// What it does, in a sentence or two.
    pub summary: String,
    /// The architecture, with its paper and sizes.
    pub architecture: String,
    /// How large it is.
    pub size: Size,
    /// What it learned from.
    pub data: Data,
    /// How it was trained.
    pub training: Training,
    /// What was measured.
    pub measures: Vec<Measure>,
    /// Works of the model as text, unpicked, each with what it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub works: Vec<String>,
    /// What it cannot do, or should not be used for.
    pub limits: Vec<String>,
    /// The licence of the weights.
    pub licence: String,
}

/// How large a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// The number of trained values.
    pub parameters: u64,
    /// The bytes of the weights' file.
    pub bytes: u64,
}

/// What a model learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// What it is and where it comes from.
    pub description: String,
    /// Its licence.
    pub licence: String,
    /// The digest of the prepared corpus; a gate compares it.
    pub corpus_digest: String,
    /// How many items were trained on.
    pub train_items: u64,
    /// How many were held out.
    pub held_out_items: u64,
}

/// How a model was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The command that gives these weights from that data.
    pub command: String,
    /// The budget's name.
    pub budget: String,
    /// The seed.
    pub seed: u64,
    /// How many steps of the optimiser.
    pub steps: u64,
    /// How long it took, all attempts together.
    pub minutes: f64,
    /// On what it ran, such as `cpu, 2 threads`.
    pub device: String,
}

/// One measured figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What was measured.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Its unit; empty for a ratio.
    #[serde(default)]
    pub unit: String,
    /// Which way it gets better, where that has a meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
    /// On what and how it was measured.
    pub how: String,
}

impl Measure {
    /// A measured figure.
    pub fn new(name: &str, value: f64, unit: &str, better: Option<Better>, how: &str) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.into(),
            better,
            how: how.into(),
        }
    }
}

impl Card {
    /// Reads `card.json` of a folder of weights.
    pub fn read(weights: &Path) -> Result<Self, Error> {
        files::read_json(&weights.join(JSON))
    }

    /// Writes `card.json` and `card.md` into a folder of weights.
    pub fn write(&self, weights: &Path) -> Result<(), Error> {
        files::write_json(&weights.join(JSON), self)?;
        files::write_atomic(&weights.join(MARKDOWN), self.markdown().as_bytes())
    }

    /// The measure of that name.
    pub fn measure(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|m| m.name == name)
    }

    /// The card as a page.
    pub fn markdown(&self) -> String {
        let mut page = format!("# {}\n\n{}\n\n", self.name, self.summary);
        let mut line = |text: String| {
            page.push_str(&text);
            page.push('\n');
        };
        line(format!("- **Architecture**: {}", self.architecture));
        line(format!(
            "- **Size**: {} parameters, {:.2} MB",
            thousands(self.size.parameters),
            self.size.bytes as f64 / 1e6
        ));
        line(format!("- **Licence of the weights**: {}\n", self.licence));
        line("## Data\n".into());
        line(format!("{}\n", self.data.description));
        line(format!("- Licence: {}", self.data.licence));
        line(format!(
            "- {} items trained on, {} held out",
            thousands(self.data.train_items),
            thousands(self.data.held_out_items)
        ));
        line(format!(
            "- Digest of the prepared corpus: `{}`\n",
            self.data.corpus_digest
        ));
        line("## Training\n".into());
        line(format!("`{}`\n", self.training.command));
        line(format!(
            "Budget {}, seed {}: {} steps in {:.1} minutes on {}.\n",
            self.training.budget,
            self.training.seed,
            thousands(self.training.steps),
            self.training.minutes,
            self.training.device
        ));
        line("## Measures\n".into());
        line("| measure | value | better | how |\n|---|---:|---|---|".into());
        for m in &self.measures {
            let better = match m.better {
                Some(Better::Lower) => "lower",
                Some(Better::Higher) => "higher",
                None => "",
            };
            let value = number(m.value);
            let unit = if m.unit.is_empty() {
                String::new()
            } else {
                format!(" {}", m.unit)
            };
            line(format!(
                "| {} | {value}{unit} | {better} | {} |",
                m.name, m.how
            ));
        }
        if !self.works.is_empty() {
            let _ = write!(page, "\n## Works, unpicked\n\n");
            for work in &self.works {
                let _ = writeln!(page, "- {work}");
            }
        }
        if !self.limits.is_empty() {
            let _ = write!(page, "\n## Limits\n\n");
            for limit in &self.limits {
                let _ = writeln!(page, "- {limit}");
            }
        }
        page
    }
}

/// Four significant decimals at most, and none for whole numbers.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_comes_back_and_reads_as_a_page() {
        let card = Card {
            name: "haiku".into(),
            summary: "Writes.".into(),
            architecture: "LSTM".into(),
            size: Size {
                parameters: 1_234_567,
                bytes: 2_500_000,
            },
            data: Data {
                description: "Poems.".into(),
                licence: "CC0".into(),
                corpus_digest: "abc".into(),
                train_items: 900,
                held_out_items: 100,
            },
            training: Training {
                command: "auria-haiku train".into(),
                budget: "small".into(),
                seed: 7,
                steps: 1000,
                minutes: 2.5,
                device: "cpu, 2 threads".into(),
            },
            measures: vec![Measure::new(
                "loss",
                4.25,
                "nats",
                Some(Better::Lower),
                "held out",
            )],
            works: vec!["one / two / three".into()],
            limits: vec!["English only".into()],
            licence: "Apache-2.0".into(),
        };
        let dir = tempfile::tempdir().unwrap();
        card.write(dir.path()).unwrap();
        assert_eq!(Card::read(dir.path()).unwrap(), card);
        let page = std::fs::read_to_string(dir.path().join(MARKDOWN)).unwrap();
        for part in [
            "1,234,567 parameters, 2.50 MB",
            "| loss | 4.25 nats | lower |",
            "`abc`",
            "## Works, unpicked\n\n- one / two / three\n",
            "- English only",
        ] {
            assert!(page.contains(part), "{part} is missing from\n{page}");
        }
    }
}
