//! The settings of model and training, and the budgets that choose them. Plain values:
//! `config.json` holds them beside the weights.

use std::path::Path;

use auria_steps_common::{Error, files};
use serde::{Deserialize, Serialize};

/// The sizes and the regularisation of the network (Merity et al. 2018, table 1 and
/// section 4; the published model is `Model::published()`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Tokens of the vocabulary.
    pub vocab: i64,
    /// Width of the tied embedding, and of the last layer.
    pub embedding: i64,
    /// Width of the layers between.
    pub hidden: i64,
    /// LSTM layers.
    pub layers: i64,
    /// Share of recurrent weights dropped (DropConnect).
    pub weight_drop: f64,
    /// Locked dropout on the embedded input.
    pub dropout_input: f64,
    /// Locked dropout between layers.
    pub dropout_hidden: f64,
    /// Locked dropout on the last layer's output.
    pub dropout_output: f64,
    /// Share of the vocabulary's words dropped in a step.
    pub dropout_embedding: f64,
    /// Activation regularisation.
    pub alpha: f64,
    /// Temporal activation regularisation.
    pub beta: f64,
}

impl Model {
    /// The published sizes for Penn Treebank.
    pub fn published() -> Self {
        Self {
            vocab: 10_000,
            embedding: 400,
            hidden: 1150,
            layers: 3,
            weight_drop: 0.5,
            dropout_input: 0.4,
            dropout_hidden: 0.25,
            dropout_output: 0.4,
            dropout_embedding: 0.1,
            alpha: 2.0,
            beta: 1.0,
        }
    }
}

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Optimiser {
    /// Adam with a learning rate that falls to a twentieth: the most in a short time.
    Adam,
    /// Plain SGD as published, whose weights are averaged from the moment that the
    /// validation loss stops falling.
    NtAsgd,
}

/// How training goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Steps in all.
    pub steps: u64,
    /// Steps on all records; what follows is tuned on poems.
    pub pretrain_steps: u64,
    /// Sequences worked at once.
    pub batch: i64,
    /// Tokens of a sequence in one step, on average.
    pub bptt: i64,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Learning rate.
    pub lr: f64,
    /// Learning rate at the beginning of tuning.
    pub tune_lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradients.
    pub clip: f64,
    /// Steps between looks at the validation records.
    pub validate_every: u64,
    /// Averaging begins when the loss is no better than the best of all looks but the
    /// last so many.
    pub nonmono: usize,
    /// In tuning, whole poems appear so many times as often as parts.
    pub poem_weight: usize,
    /// Words seen less often than this are unknown (a word of a poem counts ten times).
    pub at_least: u64,
}

/// Everything that decides what a training gives, besides data and seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The network.
    pub model: Model,
    /// The training.
    pub training: Training,
}

impl Config {
    /// These settings, with those that a JSON file names in their place: a `config.json`, or
    /// some of its parts, such as `{"model": {"hidden": 1150}, "training": {"lr": 0.001}}`.
    pub fn with(&self, path: &Path) -> Result<Self, Error> {
        let wrong = |what: String| Error::content(path, what);
        let asked: serde_json::Value = files::read_json(path)?;
        let mut all = serde_json::to_value(self).map_err(Error::json(path))?;
        let sections = asked.as_object();
        let sections = sections.ok_or_else(|| wrong("is no JSON object of settings".into()))?;
        for (section, settings) in sections {
            let settings = settings.as_object();
            let settings =
                settings.ok_or_else(|| wrong(format!("has no settings in {section}")))?;
            for (name, value) in settings {
                let place = all.get_mut(section).and_then(|s| s.get_mut(name));
                let place = place.ok_or_else(|| {
                    wrong(format!("names {section}.{name}, which is no setting; config.json beside weights has all"))
                })?;
                *place = value.clone();
            }
        }
        let config: Self = serde_json::from_value(all).map_err(Error::json(path))?;
        let sizes = [
            ("model.vocab", config.model.vocab, 100_000),
            ("model.embedding", config.model.embedding, 16_384),
            ("model.hidden", config.model.hidden, 16_384),
            ("model.layers", config.model.layers, 16),
            ("training.batch", config.training.batch, 4_096),
            ("training.bptt", config.training.bptt, 4_096),
        ];
        match sizes
            .iter()
            .find(|(_, size, most)| !(1..=*most).contains(size))
        {
            Some((name, size, most)) => {
                Err(wrong(format!("has {name} = {size}; from 1 to {most}")))
            }
            None => Ok(config),
        }
    }
}

/// How much a training may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// Seconds: shows that all parts work and that the network learns.
    Smoke,
    /// Minutes on two cores.
    Small,
    /// Half an hour on a core: what ships.
    Full,
}

impl Budget {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Budget::Smoke => "smoke",
            Budget::Small => "small",
            Budget::Full => "full",
        }
    }

    /// The settings of a budget; `vocab` is a cap until the vocabulary is known.
    pub fn config(self) -> Config {
        let model = |vocab, embedding, hidden, layers| Model {
            vocab,
            embedding,
            hidden,
            layers,
            weight_drop: 0.1,
            dropout_input: 0.1,
            dropout_hidden: 0.1,
            dropout_output: 0.15,
            dropout_embedding: 0.02,
            alpha: 0.5,
            beta: 0.25,
        };
        let training = |steps, pretrain_steps, batch, bptt| Training {
            steps,
            pretrain_steps,
            batch,
            bptt,
            optimiser: Optimiser::Adam,
            lr: 3e-3,
            tune_lr: 1.5e-3,
            weight_decay: 1e-5,
            clip: 1.0,
            validate_every: 100,
            nonmono: 5,
            poem_weight: 4,
            at_least: 2,
        };
        match self {
            Budget::Smoke => Config {
                model: Model {
                    dropout_input: 0.3,
                    dropout_hidden: 0.2,
                    dropout_output: 0.3,
                    dropout_embedding: 0.1,
                    ..model(2_000, 64, 96, 2)
                },
                training: Training {
                    tune_lr: 4e-3,
                    validate_every: 50,
                    ..training(400, 0, 16, 24)
                },
            },
            Budget::Small => Config {
                model: model(5_000, 128, 256, 2),
                training: training(800, 350, 32, 32),
            },
            // In half an hour of a shared core the records are read once or twice: there is
            // little to overfit, and strong regularisation only slows the learning.
            Budget::Full => Config {
                model: Model {
                    weight_drop: 0.1,
                    dropout_input: 0.1,
                    dropout_hidden: 0.1,
                    dropout_output: 0.1,
                    dropout_embedding: 0.02,
                    alpha: 0.2,
                    beta: 0.1,
                    ..model(5_000, 200, 400, 2)
                },
                training: Training {
                    lr: 4e-3,
                    tune_lr: 2e-3,
                    validate_every: 250,
                    ..training(5_000, 2_800, 24, 30)
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_replaces_what_it_names_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        let with = |text: &str| {
            files::write_atomic(&path, text.as_bytes()).unwrap();
            Budget::Full.config().with(&path)
        };
        let mut expected = Budget::Full.config();
        expected.model.hidden = 1150;
        expected.training.optimiser = Optimiser::NtAsgd;
        let text = r#"{"model": {"hidden": 1150}, "training": {"optimiser": "nt-asgd"}}"#;
        assert_eq!(with(text).unwrap(), expected);
        // What lies beside weights is such a file, and the published sizes are settings.
        let published = Config {
            model: Model::published(),
            ..Budget::Full.config()
        };
        let text = serde_json::to_string(&published).unwrap();
        assert_eq!(with(&text).unwrap(), published);
        for (text, says) in [
            (r#"{"model": {"hiden": 1}}"#, "model.hiden"),
            (r#"{"models": {"hidden": 1}}"#, "models.hidden"),
            (r#"{"model": {"layers": 0}}"#, "model.layers = 0"),
            ("[]", "no JSON object"),
            (r#"{"model": {"layers": "two"}}"#, "settings.json"),
        ] {
            let said = with(text).unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
