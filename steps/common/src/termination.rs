//! SIGTERM as a question that a training asks between its steps: how a machine that is taken
//! away, or a person, ends a step that may still write a checkpoint.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: std::ffi::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// Lets the first SIGTERM only be noted. A second one ends the process, as ever.
pub fn watch() {
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESETHAND | SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler stores to an atomic and does nothing else.
    #[allow(unsafe_code)]
    let watched = unsafe { sigaction(Signal::SIGTERM, &action) };
    if let Err(error) = watched {
        eprintln!("SIGTERM will end this training without a checkpoint: {error}");
    }
}

/// Whether SIGTERM has come since [`watch`].
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
