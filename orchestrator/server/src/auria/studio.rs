//! Visitors' works: asked for here, made one at a time. What waits is kept in memory alone; what
//! was begun is a run like every other. It bounds what visitors can cost, and shows nothing.

use crate::access::{Principal, Scope, limit};
use crate::api::Api;
use crate::api::resources::NotTaken as Refused;
use crate::caller::Bounded;
use crate::endpoints::Endpoints;
use crate::submission::new_run;
use auria_core::RunId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// By whom visitors' works are, in records.
pub(super) const VISITORS: &str = "visitors of Auria's page";
/// Works that may wait.
const WAITING: usize = 20;
/// Works that an address may ask for in a moment, and for each second after that.
const BURST: f64 = 4.0;
const EACH_SECOND: f64 = 1.0 / 60.0;
/// Addresses that are remembered.
const ADDRESSES: usize = 16 * 1024;
/// A work that takes longer keeps the others waiting no more.
const LONGEST: Duration = Duration::from_secs(300);
/// The largest seed.
const SEEDS: u32 = 1_000_000_000;

/// What a visitor asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) mood: String,
    pub(super) word: String,
}

/// A visitor's work is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// One of the same address is being made.
    Yours(RunId),
    /// Too many wait.
    Full,
    /// The address asks too often.
    Often,
}

/// A work that waits.
struct Waiting {
    run: RunId,
    asked: Asked,
    from: IpAddr,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// The one that is made, and whose it is.
    made: Option<(RunId, IpAddr)>,
}

/// Where visitors' works are made.
pub(super) struct Studio {
    api: Api,
    endpoints: Endpoints,
    endpoint: String,
    state: Mutex<State>,
    asked: Notify,
    /// Counts what moved on.
    moves: watch::Sender<u64>,
    allowance: Bounded<IpAddr, limit::Bucket>,
}

impl Studio {
    pub(super) fn new(api: Api, endpoints: Endpoints, endpoint: &str) -> Self {
        Self {
            api,
            endpoints,
            endpoint: endpoint.to_owned(),
            state: Mutex::default(),
            asked: Notify::new(),
            moves: watch::Sender::new(0),
            allowance: Bounded::new(ADDRESSES),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a work wait for its turn: the name that its run will have.
    pub(super) fn ask(&self, asked: Asked, from: IpAddr) -> Result<RunId, NotTaken> {
        let from = limit::place(from);
        let mut state = self.state();
        if let Some((run, _)) = state.made.as_ref().filter(|(_, whose)| *whose == from) {
            return Err(NotTaken::Yours(run.clone()));
        }
        if let Some(own) = state.waiting.iter().find(|waiting| waiting.from == from) {
            return Err(NotTaken::Yours(own.run.clone()));
        }
        if state.waiting.len() >= WAITING {
            return Err(NotTaken::Full);
        }
        if !limit::take(&self.allowance, &from, BURST, EACH_SECOND) {
            return Err(NotTaken::Often);
        }
        let run = new_run(&self.endpoint, self.api.now());
        state.waiting.push_back(Waiting {
            run: run.clone(),
            asked,
            from,
        });
        drop(state);
        self.asked.notify_one();
        Ok(run)
    }

    /// How many are before a work that waits.
    pub(super) fn waiting(&self, run: &str) -> Option<usize> {
        let state = self.state();
        if state
            .made
            .as_ref()
            .is_some_and(|(made, _)| made.as_str() == run)
        {
            return None;
        }
        let place = state
            .waiting
            .iter()
            .position(|one| one.run.as_str() == run)?;
        Some(place + usize::from(state.made.is_some()))
    }

    /// Told whenever a work moves on.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    fn moved(&self) {
        self.moves
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Makes what waits, one at a time.
    pub(super) async fn run(&self) {
        loop {
            let next = {
                let state = self.state();
                state
                    .waiting
                    .front()
                    .map(|one| (one.run.clone(), one.asked.clone(), one.from))
            };
            let Some((run, asked, from)) = next else {
                self.asked.notified().await;
                continue;
            };
            // It counts as waiting until its run stands: there is no moment without either.
            let made = self.begin(&run, &asked).await;
            {
                let mut state = self.state();
                state.waiting.pop_front();
                state.made = made.then(|| (run.clone(), from));
            }
            self.moved();
            if made {
                let ended = self.endpoints.ended(&run);
                if tokio::time::timeout(LONGEST, ended).await.is_err() {
                    tracing::warn!(%run, "a visitor's work takes long; the next one begins");
                }
                self.state().made = None;
                self.moved();
            }
        }
    }

    async fn begin(&self, run: &RunId, asked: &Asked) -> bool {
        let seed = rand::random_range(1..SEEDS);
        let given = BTreeMap::from([
            ("mood".to_owned(), asked.mood.clone()),
            ("topic".to_owned(), asked.word.clone()),
            ("seed".to_owned(), seed.to_string()),
        ]);
        let visitor = Principal {
            id: Some("visitors".to_owned()),
            name: VISITORS.to_owned(),
            scopes: BTreeSet::from([Scope::Invoke(self.endpoint.clone())]),
        };
        let made = self
            .endpoints
            .make(run.clone(), &self.endpoint, &visitor, &given);
        let why = match made.await {
            Ok(_) => return true,
            Err(Refused::Refused(refusal)) => refusal.document().detail.unwrap_or_default(),
            Err(Refused::Invalid { message, .. }) => message,
        };
        tracing::error!(%run, "a visitor's work was not begun: {why}");
        false
    }
}
