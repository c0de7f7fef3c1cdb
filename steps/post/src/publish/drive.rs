//! Brings one day's post on one network to its end: an effect with a record before and after.
//!
//! Networks take no idempotency key. So the record says `publishing` before the one call that
//! others see, and whoever finds it so, this process after a lost answer or another after a
//! crash, looks first whether a post with the marker is there. Where that cannot be said, the
//! record says `unknown`, and nothing is repeated.

use std::time::Duration;

use rand::Rng as _;
use time::OffsetDateTime;
use url::Url;

use super::claim::Claim;
use super::http::Trouble;
use super::instagram::Instagram;
use super::record::{Record, State};
use super::records::RecordsError;
use super::x::X;

/// Calls that others see, and tries of each look-up and preparation, of one process.
const MOST_TRIES: u32 = 3;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// A post that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The network's name for it, where it said so.
    pub id: Option<String>,
    /// Where it is seen, where the network said so.
    pub permalink: Option<String>,
}

/// Why a step of a post ended.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The network.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The record.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A call that was looked up in vain had its effect after all, or is still at it.
    #[error("an earlier call may have had its effect by now")]
    Called,
}

/// An account on a network.
#[derive(Clone)]
pub enum Account {
    /// On Instagram.
    Instagram(Instagram),
    /// On X.
    X(X),
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For an answer of a network.
    pub timeout: Duration,
    /// From a call until it is looked up: the network may still be at it, and its lists may lag.
    pub settle: Duration,
    /// For another process that is at the same post.
    pub patience: Duration,
}

impl Pace {
    /// A record in a store that stood unchanged for so long is of a process that is gone: it is
    /// written between any two calls, and each ends by its timeout.
    #[must_use]
    pub fn takeover(&self) -> Duration {
        self.timeout * 2 + self.timeout / 2
    }

    fn pause(&self, round: u32) -> Duration {
        let longest = (self.settle / 4)
            .saturating_mul(1 << round.min(5))
            .min(LONGEST_PAUSE);
        longest.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

/// Does what is left to do of the post, and says how it stands then.
///
/// # Errors
/// When the record cannot be read or written, or is another process's by now.
pub async fn drive(
    account: &Account,
    claim: &mut Claim<'_>,
    picture: Option<&Url>,
    pace: &Pace,
) -> Result<Record, RecordsError> {
    let mut calls = 0;
    loop {
        match claim.record().state {
            State::Posted => break,
            State::Publishing | State::Unknown => look_up(account, claim, pace).await?,
            State::Held if is_too_early(claim.record()) => {
                rest(claim, State::Held, |_| ()).await?;
            }
            State::Intended | State::Held | State::Failed if calls < MOST_TRIES => {
                calls += 1;
                post(account, claim, picture, pace).await?;
            }
            // The network gave unclear answers, and does not show the post.
            State::Intended | State::Held | State::Failed => {
                rest(claim, State::Unknown, |record| {
                    let last = record.why.take().unwrap_or_default();
                    record.why = Some(format!("called {calls} times, and not found: {last}"));
                })
                .await?;
            }
        }
        if claim.record().owner.is_none() {
            break;
        }
    }
    Ok(claim.record().clone())
}

fn is_too_early(record: &Record) -> bool {
    record
        .retry_after
        .is_some_and(|until| until > OffsetDateTime::now_utc())
}

/// Writes a state in which nobody is at the post.
async fn rest(
    claim: &mut Claim<'_>,
    state: State,
    change: impl FnOnce(&mut Record),
) -> Result<(), RecordsError> {
    claim
        .write(|record| {
            record.owner = None;
            record.state = state;
            change(record);
        })
        .await
}

async fn posted(claim: &mut Claim<'_>, found: Found) -> Result<(), RecordsError> {
    rest(claim, State::Posted, |record| {
        record.id = found.id;
        record.permalink = found.permalink;
        record.why = None;
        record.retry_after = None;
    })
    .await
}

/// Prepares and posts, once.
async fn post(
    account: &Account,
    claim: &mut Claim<'_>,
    picture: Option<&Url>,
    pace: &Pace,
) -> Result<(), RecordsError> {
    let mut round = 0;
    let handle = loop {
        match prepare(account, claim, picture).await {
            Ok(handle) => break handle,
            Err(Stop::Records(error)) => return Err(error),
            Err(Stop::Called) => {
                return claim.write(|record| record.state = State::Publishing).await;
            }
            Err(Stop::Trouble(Trouble::Unclear(_))) if round + 1 < MOST_TRIES => {
                tokio::time::sleep(pace.pause(round)).await;
                round += 1;
                claim.write(|_| ()).await?;
            }
            Err(Stop::Trouble(trouble)) => return refused(claim, trouble).await,
        }
    };
    claim
        .write(|record| {
            record.state = State::Publishing;
            record.called = Some(OffsetDateTime::now_utc());
            record.calls += 1;
            record.why = None;
            record.retry_after = None;
        })
        .await?;
    let sent = match account {
        Account::Instagram(instagram) => instagram.publish(&handle).await,
        Account::X(x) => x.publish(claim.record(), &handle).await,
    };
    match sent {
        Ok(id) => {
            let permalink = match account {
                Account::Instagram(_) => None,
                Account::X(_) => Some(X::permalink(&id)),
            };
            let found = Found {
                id: Some(id.clone()),
                permalink,
            };
            posted(claim, found).await?;
            // Instagram says where it is only when asked, and the post stands without it.
            if let Account::Instagram(instagram) = account
                && let Some(link) = instagram.permalink(&id).await
            {
                claim.write(|record| record.permalink = Some(link)).await?;
            }
            Ok(())
        }
        // It stays `publishing`: the next round looks it up.
        Err(Trouble::Unclear(why)) => claim.write(|record| record.why = Some(why)).await,
        Err(trouble) => refused(claim, trouble).await,
    }
}

async fn prepare(
    account: &Account,
    claim: &mut Claim<'_>,
    picture: Option<&Url>,
) -> Result<String, Stop> {
    match account {
        Account::Instagram(instagram) => {
            let picture = picture.ok_or_else(|| {
                Trouble::Refused("no address from which Instagram can fetch the picture".to_owned())
            })?;
            instagram.prepare(claim, picture).await
        }
        Account::X(x) => {
            let path = claim.record().picture.clone();
            let jpeg = claim.records().read(&path).await?.ok_or_else(|| {
                Trouble::Refused(format!(
                    "the picture {path} is gone: publish the entry of that work again"
                ))
            })?;
            x.prepare(claim, &jpeg).await
        }
    }
}

/// Nothing was posted: the record says why, and when to try again.
async fn refused(claim: &mut Claim<'_>, trouble: Trouble) -> Result<(), RecordsError> {
    let why = trouble.to_string();
    match trouble {
        Trouble::Quota { until, .. } => {
            rest(claim, State::Held, |record| {
                record.why = Some(why);
                record.retry_after = Some(until);
            })
            .await
        }
        Trouble::Refused(_) | Trouble::Unclear(_) => {
            rest(claim, State::Failed, |record| record.why = Some(why)).await
        }
    }
}

/// Says of a call whose answer is not known whether it had its effect.
async fn look_up(
    account: &Account,
    claim: &mut Claim<'_>,
    pace: &Pace,
) -> Result<(), RecordsError> {
    if let Some(called) = claim.record().called {
        let passed = OffsetDateTime::now_utc() - called;
        // A clock that was set back does not make this longer than it is.
        let passed = Duration::try_from(passed).unwrap_or_default();
        tokio::time::sleep(pace.settle.saturating_sub(passed)).await;
    }
    let mut round = 0;
    loop {
        claim.write(|_| ()).await?;
        let found = match account {
            Account::Instagram(instagram) => instagram.find(claim.record()).await,
            Account::X(x) => x.find(claim.record()).await,
        };
        match found {
            Ok(Some(found)) => return posted(claim, found).await,
            Ok(None) => return claim.write(|record| record.state = State::Intended).await,
            Err(Trouble::Unclear(_)) if round + 1 < MOST_TRIES => {
                tokio::time::sleep(pace.pause(round)).await;
                round += 1;
            }
            Err(trouble) => {
                return rest(claim, State::Unknown, |record| {
                    record.why = Some(format!("it could not be looked up: {trouble}"));
                })
                .await;
            }
        }
    }
}
