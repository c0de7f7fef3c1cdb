//! Why an attempt did not end well, from what was seen: the store's and the disk's
//! errors, requests to stop, how the command ended. Decides nothing about retries:
//! it only names the cause.

use crate::command::{EndedBy, Finished};
use crate::container::EngineError;
use crate::stop::Stop;
use auria_core::outcome::Cause;
use auria_store::{ErrorKind, StoreError};

/// Why an attempt did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) exit_code: Option<i32>,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            exit_code: None,
            message: message.into(),
        }
    }

    /// A store or a disk failed while `doing`.
    pub(crate) fn of_store(doing: &str, error: &StoreError) -> Self {
        let cause = match error.kind() {
            ErrorKind::Full => Cause::Evicted,
            ErrorKind::Unreachable | ErrorKind::Denied | ErrorKind::Refused => Cause::NodeLost,
            _ => Cause::Exit,
        };
        Self::new(cause, format!("{doing}: {}", chain(error)))
    }

    pub(crate) fn of_disk(doing: &str, error: &std::io::Error) -> Self {
        let full = matches!(
            error.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        );
        Self::new(
            if full {
                Cause::Evicted
            } else {
                Cause::NodeLost
            },
            format!("{doing}: {error}"),
        )
    }

    /// A container engine failed.
    pub(crate) fn of_engine(error: &EngineError) -> Self {
        let cause = match error {
            EngineError::NoImage { .. } | EngineError::NoShell { .. } => Cause::Image,
            EngineError::Refused(_) => Cause::Refused,
            EngineError::Gone | EngineError::NeverStarted | EngineError::Unreachable(_) => {
                Cause::NodeLost
            }
        };
        Self::new(cause, error.to_string())
    }

    pub(crate) fn of_stop(stop: Stop, what: &str) -> Self {
        let why = if stop.cause == Cause::Canceled {
            "stopped"
        } else {
            "ended by SIGTERM to its launcher"
        };
        Self::new(stop.cause, format!("{why} {what}"))
    }
}

/// An error with what caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

/// Whether the command ended well.
pub(crate) fn verdict(finished: &Finished, timeout_ms: Option<u64>) -> Result<(), Failure> {
    let how = match finished.signal {
        Some(number) => {
            let name = nix::sys::signal::Signal::try_from(number)
                .map_or("", nix::sys::signal::Signal::as_str);
            format!("the command was ended by signal {number} ({name})")
        }
        None => format!("the command exited with {}", finished.code),
    };
    let (cause, message) = match finished.ended_by {
        Some(EndedBy::Timeout) => {
            let limit = timeout_ms.unwrap_or_default() as f64 / 1000.0;
            (
                Cause::Timeout,
                format!("the command took longer than its limit of {limit} s"),
            )
        }
        // What ends in answer to SIGTERM has not done all of its work, whatever
        // its exit status says.
        Some(EndedBy::Stop(Cause::Canceled)) => {
            (Cause::Canceled, format!("stopped on request; {how}"))
        }
        Some(EndedBy::Stop(cause)) => (cause, format!("its launcher got SIGTERM; {how}")),
        // The other's end says why; here for the record of this one.
        Some(EndedBy::Peer) => (
            Cause::Canceled,
            format!("ended because another process of the step did not end well; {how}"),
        ),
        Some(EndedBy::Served) => return Ok(()),
        Some(EndedBy::EngineLost) => (
            Cause::NodeLost,
            format!("the container engine went away while the command ran; {how}"),
        ),
        None if finished.out_of_memory => (Cause::OutOfMemory, format!("memory ran out; {how}")),
        None if finished.code == 0 => return Ok(()),
        None if finished.code == 127 => (Cause::Exit, format!("{how}: a program was not found")),
        None => (Cause::Exit, how),
    };
    Err(Failure {
        cause,
        exit_code: Some(finished.code),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::{Failure, verdict};
    use crate::command::{EndedBy, Finished};
    use auria_core::outcome::Cause;
    use std::time::Duration;

    fn finished(code: i32, ended_by: Option<EndedBy>) -> Finished {
        Finished {
            code,
            signal: None,
            ran: Duration::ZERO,
            ended_by,
            out_of_memory: false,
            left_behind: 0,
        }
    }

    #[test]
    fn every_end_has_its_cause() {
        let cause = |finished: &Finished| {
            verdict(finished, Some(1500))
                .err()
                .map(|failure| failure.cause)
        };
        assert_eq!(cause(&finished(0, None)), None);
        assert_eq!(cause(&finished(1, None)), Some(Cause::Exit));
        // Whatever the exit status says: it did not do all of its work.
        assert_eq!(
            cause(&finished(0, Some(EndedBy::Stop(Cause::Canceled)))),
            Some(Cause::Canceled)
        );
        assert_eq!(
            cause(&finished(0, Some(EndedBy::Stop(Cause::Evicted)))),
            Some(Cause::Evicted)
        );
        assert_eq!(
            cause(&finished(0, Some(EndedBy::Timeout))),
            Some(Cause::Timeout)
        );
        assert_eq!(
            cause(&Finished {
                out_of_memory: true,
                ..finished(137, None)
            }),
            Some(Cause::OutOfMemory)
        );
        let late = verdict(&finished(143, Some(EndedBy::Timeout)), Some(1500)).unwrap_err();
        assert_eq!(
            (late.message.as_str(), late.exit_code),
            ("the command took longer than its limit of 1.5 s", Some(143))
        );
    }

    #[test]
    fn a_full_disk_is_not_the_steps_own_failure() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(
            Failure::of_disk("could not write", &full).cause,
            Cause::Evicted
        );
    }
}
