//! The executor of a schedule: it starts launchers, late, twice or not at all, loses
//! and repeats news, does not hear a stop, and takes its time to see that one is
//! gone. What it promises it keeps: see [`Executor`].

use super::launcher;
use super::pipeline::{Answer, Script};
use super::points::{Actor, Effect};
use super::sign::Sign;
use super::world::{Asked, At, Death, Fault, Pid, Shared, Verb, World, request};
use crate::executor::{
    AttemptEvent, Executor, Happened, ListError, StartError, StopError, WatchError, is_last,
};
use auria_core::outcome::{Cause, EndRecord, Timings};
use auria_core::run::AttemptNews;
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, Nonce, RunId, StepPath};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What the executor holds.
#[derive(Default)]
pub(super) struct Machine {
    attempts: BTreeMap<AttemptId, Known>,
    watches: Vec<Watch>,
    pub(super) launchers: BTreeMap<Pid, Launcher>,
    /// What the steps of each run do.
    pub(super) scripts: BTreeMap<RunId, Arc<BTreeMap<StepPath, Script>>>,
    starts: BTreeMap<AttemptId, usize>,
    /// Attempts that have ended are forgotten once someone was told.
    pub(super) forgets: bool,
    /// How long a launcher asks a store again that does not answer.
    pub(super) patience: Duration,
    /// Deaths that launchers are to die, the last comes first.
    pub(super) deaths: Vec<Death>,
}

/// What is known of an attempt that runs or ran.
struct Known {
    /// Those that the executor believes to live.
    launchers: Vec<Pid>,
    /// The latest of each kind.
    news: Vec<AttemptNews>,
    stop: Sign,
}

/// A launcher, alive or not.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    pub(super) id: AttemptId,
    pub(super) nonce: Option<Nonce>,
    /// The executor believes it to be gone, and it is not.
    pub(super) cut_off: bool,
    /// Who asked for it was dead by then, or had lost the run without knowing.
    pub(super) ghost: bool,
}

/// A request to end an attempt, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) kill_at: Instant,
    pub(super) at_once: bool,
}

struct Watch {
    number: u64,
    run: RunId,
    queue: Vec<AttemptEvent>,
    broken: bool,
    changed: Arc<Notify>,
}

impl Machine {
    fn is_live(&self, id: &AttemptId) -> bool {
        self.attempts
            .get(id)
            .is_some_and(|known| !known.launchers.is_empty())
    }

    fn live(&self, run: &RunId) -> Vec<AttemptId> {
        let live = self
            .attempts
            .iter()
            .filter(|(id, known)| id.run == *run && !known.launchers.is_empty());
        live.map(|(id, _)| id.clone()).collect()
    }

    fn known(&mut self, id: &AttemptId) -> &mut Known {
        self.attempts.entry(id.clone()).or_insert_with(|| Known {
            launchers: Vec::new(),
            news: Vec::new(),
            stop: Sign::default(),
        })
    }
}

/// Whether news says that a number which nobody claimed may be started again.
fn frees(news: &AttemptNews) -> bool {
    matches!(
        news,
        AttemptNews::Gone { claim: None, .. }
            | AttemptNews::Refused { .. }
            | AttemptNews::Unavailable { .. }
    )
}

impl World {
    /// Tells those who watch what happened to an attempt.
    pub(super) fn tell(&mut self, id: &AttemptId, news: AttemptNews) {
        let last = is_last(&news);
        let known = self.machine.known(id);
        known
            .news
            .retain(|old| std::mem::discriminant(old) != std::mem::discriminant(&news));
        known.news.push(news.clone());
        let (lost, double, breaks) = (
            self.weather.lost_news,
            self.weather.double_news,
            self.weather.broken_watches,
        );
        for watch in &mut self.machine.watches {
            if watch.run != id.run {
                continue;
            }
            let disturbed = !self.calm;
            if disturbed && !last && self.dice.percent(lost) {
                continue;
            }
            let event = AttemptEvent {
                attempt: id.clone(),
                happened: Happened::News(news.clone()),
            };
            if disturbed && !frees(&news) && self.dice.percent(double) {
                watch.queue.push(event.clone());
            }
            watch.queue.push(event);
            watch.broken |= disturbed && self.dice.permille(breaks);
            watch.changed.notify_one();
        }
        self.say(None, || format!("news of {id}: {}", short(&news)));
    }

    /// The news that a watch tells next: any that is not the last of an attempt of
    /// which more is to be told.
    fn next_news(&mut self, number: u64) -> Option<AttemptEvent> {
        let place = self
            .machine
            .watches
            .iter()
            .position(|watch| watch.number == number)?;
        let queue = &self.machine.watches[place].queue;
        let mut choice = self.dice.below(queue.len());
        if queue.get(choice)?.is_last() {
            let id = &queue[choice].attempt;
            choice = queue.iter().position(|event| event.attempt == *id)?;
        }
        let event = self.machine.watches[place].queue.remove(choice);
        if event.is_last() && self.machine.forgets && !self.machine.is_live(&event.attempt) {
            self.machine.attempts.remove(&event.attempt);
        }
        Some(event)
    }

    fn start(&mut self, by: Pid, ticket: &Ticket) -> Result<(), StartError> {
        let id = &ticket.attempt;
        if self.processes[by].late {
            self.violated(format!("{id} is started, and its run was deleted"));
        }
        if self.machine.is_live(id) {
            return Ok(());
        }
        let count = self.machine.starts.entry(id.clone()).or_default();
        *count += 1;
        let count = *count;
        let script = self
            .machine
            .scripts
            .get(&id.run)
            .and_then(|scripts| scripts.get(&id.step));
        let answer = script
            .filter(|_| id.number == 1)
            .and_then(|script| script.answers.get(count - 1).copied())
            .unwrap_or(Answer::Starts);
        if !matches!(answer, Answer::Refused | Answer::Unavailable) {
            self.begins_anew(id);
        }
        match answer {
            Answer::Refused => {
                return Err(StartError::Refused {
                    message: "it is too large".into(),
                });
            }
            Answer::Unavailable => {
                return Err(StartError::Unavailable {
                    message: "it is busy".into(),
                });
            }
            Answer::GoneUnclaimed => {
                let pid = self.launcher(by, id);
                self.end(pid);
                self.launcher_died(pid, None);
            }
            Answer::Starts | Answer::StartsTwice => {
                self.tell(id, AttemptNews::Waiting { why: "room".into() });
                let twice = answer == Answer::StartsTwice;
                for _ in 0..=usize::from(twice) {
                    self.launch(by, ticket);
                }
            }
        }
        Ok(())
    }

    /// A number is started: news that freed it is about its last start, and not told after
    /// this one.
    fn begins_anew(&mut self, id: &AttemptId) {
        for watch in &mut self.machine.watches {
            watch.queue.retain(|event| {
                let Happened::News(news) = &event.happened else {
                    return true;
                };
                event.attempt != *id || !frees(news)
            });
        }
        let known = self.machine.known(id);
        known.news.clear();
        known.stop = Sign::default();
    }

    /// A launcher that the executor believes to live.
    fn launcher(&mut self, by: Pid, id: &AttemptId) -> Pid {
        let name = format!("{}/{}", id.step, id.number);
        let effects = super::points::DONE
            .iter()
            .find(|(actor, _)| *actor == Actor::Launcher)
            .map_or(&[][..], |(_, effects)| effects);
        let death = match self.machine.deaths.last() {
            Some(Death {
                at: At::Effect(effect, _),
                ..
            }) if !effects.contains(effect) => None,
            Some(_) if self.calm => None,
            _ => self.machine.deaths.pop(),
        };
        let ghost = !self.is_alive(by) || self.has_lost(by, &id.run);
        let pid = self.begin(Actor::Launcher, name, death);
        self.machine.known(id).launchers.push(pid);
        self.machine.launchers.insert(
            pid,
            Launcher {
                id: id.clone(),
                nonce: None,
                cut_off: false,
                ghost,
            },
        );
        pid
    }

    fn launch(&mut self, by: Pid, ticket: &Ticket) {
        let Some(shared) = self.shared() else {
            return;
        };
        let id = &ticket.attempt;
        let pid = self.launcher(by, id);
        let stop = self.machine.known(id).stop.clone();
        let act = self
            .machine
            .scripts
            .get(&id.run)
            .and_then(|scripts| scripts.get(&id.step))
            .map_or_else(|| Script::default().act(1), |script| script.act(id.number));
        let wait = Duration::from_millis(if self.calm {
            1
        } else {
            self.dice.within(0..=150)
        });
        let task = launcher::run(shared, pid, ticket.clone(), act, stop, wait);
        let handle = self.tasks.spawn(task);
        self.embody(pid, handle);
    }

    /// A launcher is gone: the executor sees it after a while.
    pub(super) fn launcher_died(&mut self, pid: Pid, cause: Option<Cause>) {
        let Some(shared) = self.shared() else {
            return;
        };
        let wait = Duration::from_millis(if self.calm {
            50
        } else {
            self.dice.within(1..=1_500)
        });
        self.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            shared.lock().launcher_missed(pid, cause);
        });
    }

    fn launcher_missed(&mut self, pid: Pid, cause: Option<Cause>) {
        let Some(Launcher { id, nonce, .. }) = self.machine.launchers.get(&pid).cloned() else {
            return;
        };
        let known = self.machine.known(&id);
        known.launchers.retain(|other| *other != pid);
        if !known.launchers.is_empty() {
            return;
        }
        let claimed = self.truths.get(&id.run).and_then(|truth| truth.claim(&id));
        let claimed = claimed.filter(|claim| Some(&claim.nonce) == nonce.as_ref());
        let end = cause.zip(claimed).map(|(cause, claim)| EndRecord {
            attempt: id.clone(),
            nonce: Some(claim.nonce.clone()),
            cause,
            exit_code: None,
            message: "its launcher died with it".into(),
            last_lines: Vec::new(),
            timings: Timings::default(),
            checkpoint: None,
            published: None,
            node: Some(claim.host.clone()),
            started: Some(claim.claimed),
            ended: auria_store::now(),
        });
        self.tell(
            &id,
            AttemptNews::Gone {
                claim: None,
                end,
                checkpoint: None,
            },
        );
    }

    /// A launcher has said its last word.
    pub(super) fn launcher_ended(&mut self, pid: Pid, news: AttemptNews) {
        self.end(pid);
        let Some(launcher) = self.machine.launchers.get(&pid).cloned() else {
            return;
        };
        // One that was cut off may be seen again, and may not.
        if launcher.cut_off && self.dice.percent(50) {
            self.say(Some(pid), || format!("ends unseen: {}", short(&news)));
            return;
        }
        let known = self.machine.known(&launcher.id);
        known.launchers.retain(|other| *other != pid);
        self.tell(&launcher.id, news);
    }

    fn stop(&mut self, id: &AttemptId, grace: Duration) -> Result<(), StopError> {
        if !self.calm && self.dice.percent(self.weather.deaf) {
            return if self.dice.percent(30) {
                Err(StopError {
                    attempt: id.clone(),
                    message: "it does not answer".into(),
                })
            } else {
                Ok(())
            };
        }
        let asked = Stop {
            kill_at: Instant::now() + grace,
            at_once: grace.is_zero(),
        };
        if let Some(known) = self.machine.attempts.get(id) {
            known.stop.send_modify(|order| {
                *order = Some(order.map_or(asked, |first| Stop {
                    kill_at: first.kill_at.min(asked.kill_at),
                    at_once: first.at_once || asked.at_once,
                }));
            });
        }
        Ok(())
    }

    fn watch(&mut self, run: &RunId) -> (u64, Arc<Notify>) {
        let number = self
            .machine
            .watches
            .last()
            .map_or(1, |last| last.number + 1);
        let known = self
            .machine
            .attempts
            .iter()
            .filter(|(id, _)| id.run == *run);
        let queue = known.flat_map(|(id, known)| {
            known.news.iter().map(|news| AttemptEvent {
                attempt: id.clone(),
                happened: Happened::News(news.clone()),
            })
        });
        let changed = Arc::new(Notify::new());
        let watch = Watch {
            number,
            run: run.clone(),
            queue: queue.collect(),
            broken: false,
            changed: changed.clone(),
        };
        self.machine.watches.push(watch);
        (number, changed)
    }
}

fn short(news: &AttemptNews) -> String {
    match news {
        AttemptNews::Committed { outcome } => {
            format!(
                "Committed {:?} attempt {:?}",
                outcome.status, outcome.attempt
            )
        }
        AttemptNews::Ended { end } => format!("Ended {:?} {}", end.cause, end.message),
        AttemptNews::Gone { end, .. } => {
            format!("Gone {:?}", end.as_ref().map(|end| end.cause))
        }
        news => format!("{news:?}"),
    }
}

/// The executor as driver `pid` has it.
pub(super) struct Handle {
    pub(super) world: Shared,
    pub(super) pid: Pid,
}

impl Handle {
    async fn ask<T: Send + 'static>(
        &self,
        effect: Effect,
        what: String,
        apply: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let asked = Asked {
            pid: self.pid,
            effect,
            verb: Verb::Executor,
            what,
        };
        request(&self.world, asked, apply).await
    }
}

#[async_trait::async_trait]
impl Executor for Handle {
    async fn start(&self, ticket: &Ticket) -> Result<(), StartError> {
        let what = format!("start {}", ticket.attempt);
        let ticket = ticket.clone();
        let pid = self.pid;
        self.ask(Effect::Start, what, move |world| world.start(pid, &ticket))
            .await
            .unwrap_or(Ok(()))
    }

    async fn stop(&self, attempt: &AttemptId, grace: Duration) -> Result<(), StopError> {
        let what = format!("stop {attempt}, grace {grace:?}");
        let attempt = attempt.clone();
        self.ask(Effect::Stop, what, move |world| world.stop(&attempt, grace))
            .await
            .unwrap_or(Ok(()))
    }

    async fn list(&self, run: &RunId) -> Result<Vec<AttemptId>, ListError> {
        let asked = run.clone();
        let answer = self
            .ask(
                Effect::ListLive,
                format!("list what is live of {run}"),
                move |world| {
                    let fails = !world.calm && world.dice.permille(5);
                    (!fails).then(|| world.machine.live(&asked))
                },
            )
            .await;
        answer.ok().flatten().ok_or_else(|| ListError {
            run: run.clone(),
            message: "it does not answer".into(),
        })
    }

    fn watch(&self, run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>> {
        let (number, changed) = self.world.lock().watch(run);
        let (world, pid, run) = (self.world.clone(), self.pid, run.clone());
        let state = Some((world, run, changed));
        futures::stream::unfold(state, move |state| async move {
            let (world, run, changed) = state?;
            loop {
                let found = {
                    let mut held = world.lock();
                    if !held.is_alive(pid) {
                        None
                    } else {
                        let watches = &mut held.machine.watches;
                        let broken = watches
                            .iter()
                            .position(|watch| watch.number == number && watch.broken);
                        if let Some(place) = broken {
                            watches.remove(place);
                            let error = WatchError {
                                run,
                                message: "it broke".into(),
                            };
                            return Some((Err(error), None));
                        }
                        held.next_news(number)
                    }
                };
                match found {
                    Some(event) => return Some((Ok(event), Some((world, run, changed)))),
                    None => changed.notified().await,
                }
            }
        })
        .boxed()
    }
}
