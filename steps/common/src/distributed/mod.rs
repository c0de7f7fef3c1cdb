//! A training that several processes carry out together: each works on its share of every
//! batch, and their gradients are averaged, so that all of them hold the same weights after
//! every step. PyTorch's own parts do it: members meet in a `TCPStore`, Gloo moves the
//! tensors, and the `Reducer` of DistributedDataParallel reduces gradients in buckets while
//! the backward pass goes on. A process finds its place in the variables that
//! `distribution: {type: pytorch}` sets, and `torchrun` too: `RANK`, `WORLD_SIZE`,
//! `MASTER_ADDR`, `MASTER_PORT`.
//!
//! Computes on the CPU: NCCL is not opened. Never starts a process, and never goes on with
//! fewer than all: a member that is lost is an error of all the others.

mod error;
#[cfg_attr(collectives, path = "ffi.rs")]
#[cfg_attr(not(collectives), path = "absent.rs")]
mod ffi;
mod group;
mod place;
mod reducer;
mod resume;

pub use error::GroupError;
pub use group::Group;
pub(crate) use place::sharing_this_machine;
pub use place::{GroupArgs, Place, Share};
pub use reducer::Reducer;
pub use resume::resume;

/// Whether this program was built with collectives: Gloo's headers were there.
pub const IS_BUILT: bool = cfg!(collectives);
