//! The average of gradients over all members, taken while the backward pass goes on.

use std::rc::Rc;

use tch::Tensor;

use super::ffi::Hooks;
use super::group::Members;
use super::{Group, GroupError, Share};
use crate::weights::Tensors;

/// How much is reduced at once, as in PyTorch.
const BUCKET_BYTES: usize = 25 << 20;

const DURING: &str = "while gradients were reduced";

/// Reduces the gradients of a model over a group, in buckets of 25 MB: each is summed as
/// soon as the backward pass has filled it.
#[derive(Debug)]
pub struct Reducer {
    group: Group,
    hooks: Option<(Hooks, Rc<Members>)>,
}

impl Drop for Reducer {
    fn drop(&mut self) {
        if let Some((hooks, members)) = &mut self.hooks
            && !members.is_broken()
        {
            hooks.free();
        }
    }
}

impl Reducer {
    /// Gives all members the variables of rank 0, and puts hooks on their gradients. Each of
    /// the variables must get a gradient in every backward pass.
    ///
    /// # Errors
    /// A member that is lost, or that has other variables.
    pub fn new(group: &Group, variables: &Tensors) -> Result<Self, GroupError> {
        let Some(members) = group.members() else {
            return Ok(Self {
                group: group.clone(),
                hooks: None,
            });
        };
        let mut trained: Vec<Tensor> = variables
            .values()
            .filter(|variable| variable.requires_grad())
            .map(Tensor::shallow_clone)
            .collect();
        let during = "while weights were shared";
        for variable in &mut trained {
            // Of the same memory, and no leaf of the graph.
            group.broadcast(&mut variable.detach(), 0, during)?;
        }
        let hooks = group.told(Hooks::new(&members.handle, &trained, BUCKET_BYTES), during)?;
        Ok(Self {
            group: group.clone(),
            hooks: Some((hooks, Rc::clone(members))),
        })
    }

    /// Before each forward pass of a training step.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn begin(&self) -> Result<(), GroupError> {
        match &self.hooks {
            None => Ok(()),
            Some((hooks, _)) => self.group.told(hooks.begin(), DURING),
        }
    }

    /// The backward pass of a loss that is the mean over this member's share of a batch.
    /// Afterwards every member has the gradients of the mean over the whole batch.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn backward(&self, loss: &Tensor, share: Share) -> Result<(), GroupError> {
        if self.hooks.is_none() {
            loss.backward();
            return Ok(());
        }
        // The reducer divides by the number of members, which is the right weight where all
        // shares are equal.
        let uneven = share.weight() * self.group.size() as f64;
        let done = if uneven == 1.0 {
            loss.f_backward()
        } else {
            (loss * uneven).f_backward()
        };
        self.group
            .told(done.map_err(|error| error.to_string()), DURING)
    }
}
