//! SIGTERM as a question that a training asks between its steps: how a machine that is taken
//! away, or a person, ends a step that may still write a checkpoint.
//!
//! No handler ever runs: one that is called while libtorch computes damages its memory, whatever
//! the handler does (docs/decisions.md).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::warm;

static ASKED: AtomicBool = AtomicBool::new(false);
static WAITING: OnceLock<SignalFd> = OnceLock::new();

fn sigterm() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set
}

/// Lets the first SIGTERM only be noted; once it is, a second one ends the process, as ever.
/// Called before there are other threads, those of a GPU and of a group included: one that does
/// not block the signal would take it, and the process would end at once. A program that stays
/// has the threads of earlier jobs, and nothing is watched there.
pub fn watch() {
    if warm::is_serving() {
        return;
    }
    let set = sigterm();
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let opened = SignalFd::with_flags(&set, flags).and_then(|waiting| {
        set.thread_block()?;
        Ok(waiting)
    });
    match opened {
        Ok(waiting) => drop(WAITING.set(waiting)),
        Err(error) => eprintln!("SIGTERM will end this training without a checkpoint: {error}"),
    }
}

/// Whether SIGTERM has come since [`watch`].
pub fn is_asked() -> bool {
    let came = || {
        let signal = WAITING.get().map(SignalFd::read_signal);
        let came = matches!(signal, Some(Ok(Some(_))));
        if came {
            ASKED.store(true, Ordering::Relaxed);
            // It stays blocked at worst: then SIGKILL is left.
            let _ = sigterm().thread_unblock();
        }
        came
    };
    ASKED.load(Ordering::Relaxed) || came()
}
