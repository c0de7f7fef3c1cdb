//! What every executor must keep, as cases that run real steps against a real
//! store. A [`Bench`] brings an executor and a machine to run it on; each case gets
//! a fresh one, and panics where a promise is broken. It tries executors alone: no
//! driver, no run state.

mod cases;
mod held;
mod world;

pub use cases::cases;
pub use world::{SECRET, World, processes_with};

use crate::executor::Executor;
use auria_core::AttemptId;
use auria_core::plan::Environment;
use auria_store::Store;
use futures::future::LocalBoxFuture;

/// A machine and a store of their own, and the executors that run on them.
#[async_trait::async_trait]
pub trait Bench: Send + Sync + Sized + 'static {
    /// A new one, with room for at least two steps at once.
    async fn new() -> Self;

    /// The store: a folder, so that cases can look into it.
    fn store(&self) -> &Store;

    /// Where the cases' commands run; there is a `bash` with the usual programs.
    fn environment(&self) -> Environment;

    /// Another orchestrator's executor on the same machine.
    fn executor(&self) -> Box<dyn Executor>;

    /// Whether commands see nothing of this host but what they are given, and are held to
    /// what they ask for.
    fn isolates(&self) -> bool;

    /// Whether a step's memory can be limited here.
    fn limits_memory(&self) -> bool;

    /// Kills the attempt's launcher with SIGKILL.
    fn kill_launcher(&self, attempt: &AttemptId);

    /// Panics where something of an ended attempt is left on the machine; waits a
    /// little for what is just ending.
    async fn nothing_left(&self);
}

/// A promise and the case that tries it.
pub type Case<B> = (&'static str, fn(B) -> LocalBoxFuture<'static, ()>);
