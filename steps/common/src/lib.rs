//! What the artist's steps share: weights, checkpoints, images, metrics, moods, gates.
//!
//! The four step programs (`auria-haiku`, `auria-paint`, `auria-style`, `auria-post`)
//! call it. It knows nothing of any model's architecture, and it never talks to the
//! orchestrator other than through the files and variables of a step: `$AURIA_METRICS`,
//! `$AURIA_CHECKPOINTS`, and those that say a process of several its place.

pub mod card;
pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod digest;
pub mod distributed;
pub mod error;
pub mod files;
pub mod gate;
pub mod metrics;
pub mod mood;
pub mod optim;
pub mod picture;
pub mod termination;
pub mod warm;
pub mod weights;

pub use error::Error;
