//! The loss of a model on records: each from its beginning, with nothing remembered.

use auria_steps_common::distributed::{Group, GroupError};
use tch::{Kind, Tensor};

use crate::model::Model;
use crate::vocab::Encoded;

/// What records cost under a model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// Nats in all, the spelling of unknown words included.
    pub nats: f64,
    /// Of them, for spelling.
    pub spelling: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Words among them.
    pub words: u64,
    /// Characters printed.
    pub characters: u64,
}

impl Loss {
    /// Nats per token.
    pub fn per_token(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// Bits per printed character.
    pub fn bits_per_character(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.characters as f64
    }

    /// The perplexity of a token.
    pub fn perplexity(&self) -> f64 {
        self.per_token().exp()
    }

    /// The perplexity of a word: 2 to the power of all bits, those of marks and ends of
    /// lines too, divided by the number of words.
    pub fn perplexity_of_word(&self) -> f64 {
        (self.nats / self.words as f64).exp()
    }

    /// Adds a record's fixed parts.
    fn count(&mut self, record: &Encoded) {
        self.nats += record.spelling;
        self.spelling += record.spelling;
        self.tokens += record.numbers.len() as u64 - 1;
        self.characters += record.characters;
        self.words += record.words;
    }
}

/// The loss of records under `nats`, which gives the nats of one without its spelling.
pub fn of_each<'a>(
    records: impl Iterator<Item = &'a Encoded>,
    nats: impl Fn(&Encoded) -> f64,
) -> Loss {
    let mut loss = Loss::default();
    for record in records {
        loss.count(record);
        loss.nats += nats(record);
    }
    loss
}

/// The loss of records under a network.
pub fn of_model<'a>(records: impl Iterator<Item = &'a Encoded>, model: &Model) -> Loss {
    let alone = of_model_together(records, model, &Group::alone());
    alone.unwrap_or_else(|never| unreachable!("nobody else can be lost: {never}"))
}

/// The same, worked by all members of a group, each of which has all records.
///
/// # Errors
/// A member that is lost.
pub fn of_model_together<'a>(
    records: impl Iterator<Item = &'a Encoded>,
    model: &Model,
    group: &Group,
) -> Result<Loss, GroupError> {
    // Records of like length are worked together.
    let mut records: Vec<&Encoded> = records.collect();
    records.sort_by_key(|r| r.numbers.len());
    let mut loss = Loss::default();
    records.iter().for_each(|r| loss.count(r));
    let chunks = records.chunks(64).enumerate();
    let own = chunks.filter(|(number, _)| number % group.size() == group.rank());
    let nats = own.map(|(_, chunk)| tch::no_grad(|| nats_of_chunk(chunk, model)));
    let [nats] = group.sums([nats.sum()], "while a loss was measured")?;
    loss.nats += nats;
    Ok(loss)
}

fn nats_of_chunk(chunk: &[&Encoded], model: &Model) -> f64 {
    const PADDING: i64 = -100;
    let longest = chunk.iter().map(|r| r.numbers.len()).max().unwrap_or(1) - 1;
    let column = |r: &Encoded, skip: usize, fill: i64| {
        let tokens = r.numbers[skip..].iter().take(r.numbers.len() - 1).copied();
        tokens
            .chain(std::iter::repeat(fill))
            .take(longest)
            .collect::<Vec<i64>>()
    };
    let lay = |skip, fill| {
        let all: Vec<i64> = chunk.iter().flat_map(|r| column(r, skip, fill)).collect();
        let size = [chunk.len() as i64, longest as i64];
        Tensor::from_slice(&all)
            .view(size)
            .tr()
            .contiguous()
            .to_device(model.device())
    };
    let output = model.forward(&lay(0, 0), &model.zero_state(chunk.len() as i64), None);
    let logits = output.logits.view([-1, model.config().vocab]);
    let none: Option<&Tensor> = None;
    logits
        .cross_entropy_loss(
            &lay(1, PADDING).view([-1]),
            none,
            tch::Reduction::Sum,
            PADDING,
            0.0,
        )
        .to_kind(Kind::Double)
        .double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Model as Config;
    use crate::data::Kind as Of;
    use tch::Device;

    #[test]
    fn padding_costs_nothing() {
        let config = Config {
            vocab: 20,
            embedding: 6,
            hidden: 8,
            layers: 2,
            ..Config::published()
        };
        let model = Model::new(&config, 1, Device::Cpu);
        let record = |numbers: Vec<i64>| Encoded {
            kind: Of::Poem,
            numbers,
            spelling: 2.0,
            words: 3,
            characters: 10,
        };
        let records = [record(vec![3, 4, 5, 2]), record(vec![3, 9, 9, 8, 7, 6, 2])];
        let together = of_model(records.iter(), &model);
        let alone: f64 = records
            .iter()
            .map(|r| of_model([r].into_iter(), &model).nats)
            .sum();
        assert!((together.nats - alone).abs() < 1e-3);
        assert_eq!(
            (together.tokens, together.characters, together.spelling),
            (9, 20, 4.0)
        );
        let other = of_each(records.iter(), |r| r.numbers.len() as f64);
        assert_eq!(other.nats, 15.0);
        assert!((other.perplexity_of_word() - 2.5f64.exp()).abs() < 1e-9);
    }
}
