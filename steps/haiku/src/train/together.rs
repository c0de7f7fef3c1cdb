//! What the members of a group do together besides reducing gradients: agree on when to end
//! and when to write, and put together what each remembers of its sequences.

use auria_steps_common::distributed::{Group, GroupError, Reducer, Share};
use tch::{Device, Kind, Tensor};

use crate::model::{Model, State};

const AGREE: &str = "when they agreed how to go on";

/// The group of a training, with what reduces the gradients of its network.
#[derive(Debug)]
pub(super) struct Together {
    group: Group,
    reducer: Reducer,
}

/// What a member has to say after a step, and then what holds for all.
#[derive(Debug)]
pub(super) struct Word {
    /// The mean loss of its share of the batch; then of the batch.
    pub(super) loss: Tensor,
    /// Whether the time is over; rank 0's clock counts.
    pub(super) over: bool,
    /// Whether a checkpoint is due; rank 0's clock counts.
    pub(super) due: bool,
    /// Whether it was told to stop; anybody's counts.
    pub(super) terminated: bool,
}

impl Together {
    /// Makes sure that all train the same, and gives all the weights of rank 0.
    pub(super) fn new(group: Group, model: &Model, fingerprint: &str) -> Result<Self, GroupError> {
        group.agree_on(fingerprint)?;
        let reducer = Reducer::new(&group, &model.tensors())?;
        Ok(Self { group, reducer })
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn reducer(&self) -> &Reducer {
        &self.reducer
    }

    /// Before the first step: whether the time is over already.
    pub(super) fn begins(&self, over: bool) -> Result<bool, GroupError> {
        let [over] = self.group.sums([self.first(over)], AGREE)?;
        Ok(over > 0.0)
    }

    /// After a step: what holds for all.
    pub(super) fn agree(&self, own: Word, share: Share) -> Result<Word, GroupError> {
        if self.group.is_alone() {
            return Ok(own);
        }
        let said = [
            own.loss.double_value(&[]) * share.weight(),
            self.first(own.over),
            self.first(own.due),
            f64::from(own.terminated),
        ];
        let [loss, over, due, terminated] = self.group.sums(said, AGREE)?;
        Ok(Word {
            loss: Tensor::from(loss),
            over: over > 0.0,
            due: due > 0.0,
            terminated: terminated > 0.0,
        })
    }

    /// At the end: nobody leaves before all are here, for the others would take it for lost.
    pub(super) fn ends(&self) -> Result<(), GroupError> {
        self.group.barrier("at the end of the training")
    }

    fn first(&self, holds: bool) -> f64 {
        f64::from(holds && self.group.is_first())
    }

    /// This member's part of what is remembered of all sequences.
    pub(super) fn part_of(&self, whole: &State) -> Result<State, GroupError> {
        Ok(whole.narrow(self.group.share(whole.batch())?))
    }

    /// What all members remember, of the `batch` sequences that they have together.
    pub(super) fn whole_of(&self, own: &State, batch: i64) -> Result<State, GroupError> {
        let share = self.group.share(batch)?;
        let whole = |part: &Tensor| {
            let size = part.size();
            let mut all = Tensor::zeros([1, batch, size[2]], (Kind::Float, Device::Cpu));
            all.narrow(1, share.first, share.count).copy_(part);
            self.group
                .all_reduce(&mut all, "while a checkpoint was made")?;
            Ok(all)
        };
        let pairs = own.0.iter();
        let pairs = pairs.map(|(h, c)| Ok((whole(h)?, whole(c)?)));
        pairs.collect::<Result<_, _>>().map(State)
    }
}
