//! The order in which a training reads its records: shuffled anew each epoch, laid end
//! to end, cut into columns that are read side by side. A place in it is three numbers,
//! so that a resumed training reads on where the first one stopped.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::config::Training;
use crate::data::Kind;
use crate::vocab::Encoded;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// All records, verse among them.
    Pretrain,
    /// Poems; whole ones more often than parts.
    Tune,
}

/// A place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which records.
    pub stage: Stage,
    /// How many times they were all read.
    pub epoch: u64,
    /// How many rows of this epoch were read.
    pub row: i64,
}

/// A piece of the stream: what is read and what comes next, both `[T, B]`.
#[derive(Debug)]
pub struct Batch {
    /// The tokens.
    pub input: Tensor,
    /// The tokens that follow each.
    pub target: Tensor,
    /// Whether the columns begin here, so that nothing is to be remembered.
    pub fresh: bool,
}

/// The stream of a training.
#[derive(Debug)]
pub struct Stream<'a> {
    records: &'a [Encoded],
    verse: &'a [Encoded],
    training: &'a Training,
    seed: u64,
    device: Device,
    position: Position,
    /// `[rows, B]`
    columns: Tensor,
}

impl<'a> Stream<'a> {
    /// A stream that reads on at `position`.
    pub fn new(
        records: &'a [Encoded],
        verse: &'a [Encoded],
        training: &'a Training,
        seed: u64,
        device: Device,
        position: Position,
    ) -> Self {
        let columns = Tensor::new();
        let mut stream = Self {
            records,
            verse,
            training,
            seed,
            device,
            position,
            columns,
        };
        stream.lay();
        stream
    }

    /// Where the next batch begins.
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many sequences a batch has now.
    pub fn batch(&self) -> i64 {
        self.columns.size()[1]
    }

    /// Lays the records of this epoch end to end.
    fn lay(&mut self) {
        let Position { stage, epoch, .. } = self.position;
        let mut order: Vec<&Encoded> = match stage {
            Stage::Pretrain => self.records.iter().chain(self.verse).collect(),
            Stage::Tune => self
                .records
                .iter()
                .flat_map(|r| {
                    let times = if r.kind == Kind::Poem {
                        self.training.poem_weight
                    } else {
                        1
                    };
                    std::iter::repeat_n(r, times)
                })
                .collect(),
        };
        let stage_seed = if stage == Stage::Tune { 1 << 32 } else { 0 };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(stage_seed + epoch));
        order.shuffle(&mut rng);
        let tokens: Vec<i64> = order
            .iter()
            .flat_map(|r| r.numbers.iter().copied())
            .collect();
        // A corpus smaller than the batch is read in fewer columns.
        let columns = self.training.batch.min(tokens.len() as i64 / 8).max(1);
        let rows = tokens.len() as i64 / columns;
        self.columns = Tensor::from_slice(&tokens[..(rows * columns) as usize])
            .view([columns, rows])
            .tr()
            .contiguous()
            .to_device(self.device);
    }

    /// The next batch. Its length varies around `bptt` as published, so that the same
    /// tokens do not always stand at a batch's edge.
    pub fn next(&mut self, stage: Stage, step: u64) -> Batch {
        let rows = self.columns.size()[0];
        if self.position.stage != stage {
            self.position = Position {
                stage,
                epoch: 0,
                row: 0,
            };
            self.lay();
        } else if self.position.row + 2 > rows {
            self.position = Position {
                stage,
                epoch: self.position.epoch + 1,
                row: 0,
            };
            self.lay();
        }
        let row = self.position.row;
        let length = self
            .length(step)
            .min(self.columns.size()[0] - 1 - row)
            .max(1);
        self.position.row += length;
        Batch {
            input: self.columns.narrow(0, row, length),
            target: self.columns.narrow(0, row + 1, length),
            fresh: row == 0,
        }
    }

    fn length(&self, step: u64) -> i64 {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ step.wrapping_mul(0x9e37_79b9));
        let base = self.training.bptt as f64;
        let base = if rng.random_bool(0.95) {
            base
        } else {
            base / 2.0
        };
        // Irwin-Hall: twelve uniform draws less six are nearly a standard normal one.
        let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        ((base + 5.0 * normal).round() as i64).clamp(5, 2 * self.training.bptt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Budget;

    fn records(kind: Kind, n: i64) -> Vec<Encoded> {
        (0..n)
            .map(|i| Encoded {
                kind,
                numbers: vec![i; 7],
                spelling: 0.0,
                words: 1,
                characters: 1,
            })
            .collect()
    }

    #[test]
    fn a_stream_that_reads_on_reads_the_same() {
        let training = Training {
            batch: 4,
            bptt: 9,
            ..Budget::Smoke.config().training
        };
        let (poems, verse) = (records(Kind::Poem, 20), records(Kind::Verse, 9));
        let start = Position {
            stage: Stage::Pretrain,
            epoch: 0,
            row: 0,
        };
        let open = |at| Stream::new(&poems, &verse, &training, 5, Device::Cpu, at);
        let mut whole = open(start);
        let mut resumed = open(start);
        let mut fresh = 0;
        for step in 0..60 {
            let stage = if step < 30 {
                Stage::Pretrain
            } else {
                Stage::Tune
            };
            let batch = whole.next(stage, step);
            if step % 7 == 3 {
                resumed = open(resumed.position());
            }
            let again = resumed.next(stage, step);
            assert_eq!(batch.input, again.input, "step {step}");
            assert_eq!(batch.fresh, again.fresh, "step {step}");
            let shift = batch.input.size()[0] - 1;
            if shift > 0 {
                let (next, same) = (
                    batch.input.narrow(0, 1, shift),
                    batch.target.narrow(0, 0, shift),
                );
                assert_eq!(next, same);
            }
            fresh += u32::from(batch.fresh);
        }
        assert!(fresh > 3, "epochs and stages begin anew");
    }
}
