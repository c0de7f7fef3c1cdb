//! The end of a run's log as a driver knows it: the next number, the newest epoch,
//! and how a record gets its place there. It never decides what is appended.

use auria_core::mutant;
use auria_core::outcome::{Decision, LogRecord};
use auria_core::{Nonce, Timestamp};
use auria_store::{Append, Journal, StoreError, housekeeping};

/// The next place in the log, and the epoch of the newest driver seen in it. Both stay far
/// below what a number can hold: the journal takes no record that is not in its place, and
/// no epoch newer than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogTail {
    next: u64,
    newest_epoch: u64,
}

impl LogTail {
    /// The place after `log`, which is in order.
    pub(super) fn after(log: &[LogRecord]) -> Self {
        Self {
            next: log.last().map_or(1, |record| record.seq.saturating_add(1)),
            newest_epoch: log.iter().map(|record| record.epoch).max().unwrap_or(0),
        }
    }

    /// Notes that `record` stands in the log.
    pub(super) fn saw(&mut self, record: &LogRecord) {
        self.next = self.next.max(record.seq.saturating_add(1));
        self.newest_epoch = self.newest_epoch.max(record.epoch);
    }

    /// The number that the next record gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The newest epoch seen.
    pub(super) fn newest_epoch(&self) -> u64 {
        self.newest_epoch
    }
}

/// What came of an append: the records that now stand, in order. The last is the
/// asked one, unless a newer driver took over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Appended {
    pub(super) records: Vec<LogRecord>,
    pub(super) superseded: bool,
}

/// What a look at the log shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Look {
    /// Nothing new.
    Nothing,
    /// The records that the driver has not taken in yet, in order.
    Unread(Vec<LogRecord>),
    /// The run was deleted. Whoever lost it before that finds no newer takeover.
    Deleted,
}

/// What stands from `next` on.
///
/// # Errors
/// Where the store cannot be reached.
pub(super) async fn look(journal: &Journal, mut next: u64) -> Result<Look, StoreError> {
    // The log last: what is decided on it rests on a look that is no older than need be.
    let deleted = is_deleted(journal).await?;
    let mut records = Vec::new();
    while let Some(record) = journal.read_log(next).await? {
        records.push(record);
        next += 1;
    }
    Ok(match (records.is_empty(), deleted) {
        (true, true) => Look::Deleted,
        (true, false) => Look::Nothing,
        (false, _) => Look::Unread(records),
    })
}

/// Whether the run was deleted, or is being deleted: what is written from then on may
/// outlast it.
///
/// # Errors
/// Where the store cannot be reached.
pub(super) async fn is_deleted(journal: &Journal) -> Result<bool, StoreError> {
    if mutant!(DeletedUnseen) {
        return Ok(false);
    }
    housekeeping::is_going(journal.store(), journal.run()).await
}

/// Appends `decision` under `epoch` at the first free place from `next` on, and stops
/// where a newer driver's takeover stands.
///
/// # Errors
/// Where the store cannot be reached or refuses.
pub(super) async fn append(
    journal: &Journal,
    mut next: u64,
    epoch: u64,
    decision: Decision,
    now: impl Fn() -> Timestamp,
) -> Result<Appended, StoreError> {
    let mut records = Vec::new();
    loop {
        let record = LogRecord {
            seq: next,
            epoch,
            nonce: nonce(),
            at: now(),
            decision: decision.clone(),
        };
        match journal.append(&record).await? {
            Append::Won => {
                records.push(record);
                return Ok(Appended {
                    records,
                    superseded: false,
                });
            }
            Append::Lost(winner) => {
                let superseded = winner.epoch > epoch && !mutant!(AppendAfterTakeover);
                records.push(winner);
                if superseded {
                    return Ok(Appended {
                        records,
                        superseded: true,
                    });
                }
                next += 1;
            }
        }
    }
}

/// Begins a driver: appends a takeover with an epoch newer than any that stands
/// before it. Returns the records that were read on the way, the takeover last.
///
/// # Errors
/// Where the store cannot be reached or refuses.
pub(super) async fn take_over(
    journal: &Journal,
    tail: &mut LogTail,
    driver: &str,
    now: impl Fn() -> Timestamp,
) -> Result<u64, StoreError> {
    loop {
        let newer = u64::from(!mutant!(EpochNotNewer) || tail.newest_epoch() == 0);
        let epoch = tail.newest_epoch().saturating_add(newer);
        let decision = Decision::TookOver {
            driver: driver.to_owned(),
        };
        let record = LogRecord {
            seq: tail.next(),
            epoch,
            nonce: nonce(),
            at: now(),
            decision,
        };
        match journal.append(&record).await? {
            Append::Won => {
                tail.saw(&record);
                return Ok(epoch);
            }
            Append::Lost(winner) => tail.saw(&winner),
        }
    }
}

/// Sixteen random hexadecimal digits.
#[must_use]
pub fn nonce() -> Nonce {
    loop {
        if let Ok(nonce) = format!("{:016x}", auria_store::outside::random()).parse() {
            return nonce;
        }
    }
}
