//! A schedule: which runs, which trouble, when. A seed is all that it depends on.

use super::dice::Dice;
use super::keeper::{Keeper, Task};
use super::pipeline::{Maker, Pipeline};
use super::points::{Actor, DONE, Effect, When};
use super::world::{At, Death, Outage, Weather};
use auria_core::RunId;
use auria_core::run::Limits;

/// All that befalls the runs of one store.
pub(super) struct Schedule {
    pub(super) dice: Dice,
    pub(super) runs: Vec<Part>,
    pub(super) weather: Weather,
    /// Of launchers; the last comes first.
    pub(super) launcher_deaths: Vec<Death>,
    pub(super) forgets: bool,
    /// How long a launcher asks a store again that does not answer.
    pub(super) patience_ms: u64,
    /// From then on nothing is disturbed any more.
    pub(super) calm_ms: u64,
    pub(super) keepers: Vec<Keeper>,
    /// The snapshot is there from a run that is not.
    pub(super) has_orphan: bool,
    /// How far the store's clock is ahead of everyone's, in milliseconds.
    pub(super) clock_skew_ms: i64,
    /// When someone removes a file of the first run by hand, if no other has begun.
    pub(super) damage_ms: Option<u64>,
}

/// What befalls one run.
pub(super) struct Part {
    pub(super) run: RunId,
    pub(super) pipeline: Pipeline,
    pub(super) begins_ms: u64,
    /// It begins so long after the first has ended.
    pub(super) after_first: bool,
    pub(super) limits: Limits,
    /// It will be canceled.
    pub(super) may_hang: bool,
    /// It needs a snapshot.
    pub(super) has_code: bool,
    /// Of drivers; the last comes first.
    pub(super) driver_deaths: Vec<Death>,
    /// Which driver is held up, from which of its requests on, and for how many
    /// milliseconds.
    pub(super) pause: Option<(u32, u32, u64)>,
    pub(super) canceler_death: Option<Death>,
    /// In order.
    pub(super) troubles: Vec<(u64, Trouble)>,
}

/// What someone does to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another driver believes that it owns the run.
    Rival,
    /// Another process asks to cancel.
    CancelOutside,
    /// Ctrl-C.
    Cancel,
    /// Ctrl-C again.
    Kill,
    /// SIGTERM to the orchestrator.
    Detach,
}

impl Schedule {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        dice.next();
        let mut calm_ms = dice.within(4_000..=30_000);
        // Longer than a launcher is patient: it publishes and cannot commit.
        let no_commits = dice.percent(6);
        if no_commits {
            calm_ms = 45_000;
        }
        let mut first = dice.split();
        let tangled = dice.percent(12);
        let asked = seed & super::KEPT != 0;
        let shares = first.percent(if tangled { 50 } else { 25 }) || asked;
        let kept = shares && (first.percent(70) || asked);
        if kept {
            calm_ms = 60_000;
        }
        let kind = Kind {
            reusable: shares,
            tangled,
            kept,
        };
        let part = part(&mut first, "a", calm_ms, kind);
        let mut runs = vec![part];
        let (mut keepers, mut damage_ms, mut has_orphan) = (Vec::new(), None, false);
        if shares {
            // What the first run finished may stand for steps of those after it.
            for name in ["b", "c"].into_iter().take(1 + first.below(2)) {
                let mut later = self::part(&mut first, name, calm_ms, kind);
                later.pipeline.plan = runs[0].pipeline.plan.clone();
                let hangs = later.may_hang;
                later.pipeline.scripts = rescripted(&runs[0].pipeline, &mut first, hangs);
                if first.percent(if kept { 20 } else { 50 }) {
                    later.begins_ms = first.within(0..=12_000);
                } else {
                    // When the first is marked, or when its grace is over.
                    let wait = *first.pick(&[0, 0, 20_000, 20_000]);
                    later.after_first = true;
                    later.begins_ms = wait + first.within(0..=if wait == 0 { 500 } else { 1_500 });
                }
                runs.push(later);
            }
            if kept {
                keepers = (0..=first.below(3)).map(|_| keeper(&mut first)).collect();
                keepers.push(last_keeper(calm_ms));
                has_orphan = first.percent(50);
            } else if first.percent(60) {
                damage_ms = Some(first.within(1_000..=8_000));
            }
        }
        let launcher_deaths = (0..dice.below(3))
            .map(|_| death(&mut dice, Actor::Launcher, 12))
            .collect();
        Self {
            weather: weather(&mut dice, calm_ms, no_commits, kind),
            patience_ms: if no_commits { 3_000 } else { 40_000 },
            launcher_deaths,
            forgets: dice.percent(50),
            calm_ms,
            keepers,
            has_orphan,
            clock_skew_ms: *dice.pick(&[0, 0, 3_600_000, -3_600_000]),
            damage_ms,
            runs,
            dice,
        }
    }
}

/// What kind of trouble a schedule is about.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// Runs take outputs of each other.
    reusable: bool,
    /// Drivers do not know of each other, and their starts, looks and records pass.
    tangled: bool,
    /// Runs are deleted, and what nobody needs is collected.
    kept: bool,
}

/// Ends what others were killed at, which it may ten minutes later.
fn last_keeper(calm_ms: u64) -> Keeper {
    Keeper {
        at_ms: calm_ms,
        after_first: false,
        task: Task::Collect {
            times: 3,
            older_than_ms: None,
            pause_ms: 340_000,
        },
        grace_ms: 20_000,
        death: None,
    }
}

fn keeper(dice: &mut Dice) -> Keeper {
    let run = if dice.percent(80) { "a" } else { "b" };
    let task = if dice.percent(40) {
        Task::Delete(run.parse().unwrap_or_else(|error| panic!("{error}")))
    } else {
        Task::Collect {
            times: 6 + dice.below(20) as u32,
            older_than_ms: dice.percent(85).then(|| dice.within(0..=4_000)),
            pause_ms: *dice.pick(&[700, 2_500, 2_500]),
        }
    };
    let after_first = dice.percent(70);
    Keeper {
        at_ms: dice.within(0..=if after_first { 400 } else { 12_000 }),
        after_first,
        task,
        // Longer than anything of a process is under way: what a grace is for.
        grace_ms: *dice.pick(&[20_000, 20_000, 20_000, 25_000]),
        death: dice.percent(50).then(|| death(dice, Actor::Keeper, 60)),
    }
}

/// The same steps, which do something else.
fn rescripted(
    pipeline: &Pipeline,
    dice: &mut Dice,
    may_hang: bool,
) -> std::sync::Arc<std::collections::BTreeMap<auria_core::StepPath, super::pipeline::Script>> {
    let scripts = pipeline.scripts.iter().map(|(step, script)| {
        let script = if dice.percent(50) || (script.hangs() && !may_hang) {
            Default::default()
        } else {
            script.clone()
        };
        (step.clone(), script)
    });
    std::sync::Arc::new(scripts.collect())
}

fn part(dice: &mut Dice, name: &str, calm_ms: u64, kind: Kind) -> Part {
    let Kind {
        reusable,
        tangled,
        kept,
    } = kind;
    let mut troubles = Vec::new();
    let early = dice.percent(15);
    let at = |dice: &mut Dice| {
        if early && dice.percent(70) {
            dice.within(0..=150)
        } else if dice.percent(60) {
            dice.within(0..=2_500)
        } else {
            dice.within(0..=calm_ms)
        }
    };
    if tangled || dice.percent(30) {
        for _ in 0..=dice.below(if tangled { 4 } else { 2 }) {
            troubles.push((at(dice), Trouble::Rival));
        }
    }
    let canceled = dice.percent(30);
    if canceled {
        let how = *dice.pick(&[
            Trouble::CancelOutside,
            Trouble::CancelOutside,
            Trouble::Cancel,
        ]);
        let when = at(dice);
        troubles.push((when, how));
        if dice.percent(30) {
            let until = *dice.pick(&[5, 3_000]);
            troubles.push((when + dice.within(0..=until), Trouble::Kill));
        }
        if dice.percent(15) {
            troubles.push((at(dice), Trouble::CancelOutside));
        }
    }
    if dice.percent(6) {
        troubles.push((at(dice), Trouble::Detach));
    }
    if canceled {
        // Ctrl-C may reach a driver that dies; whoever pressed it asks again.
        troubles.push((calm_ms + 1_000, Trouble::CancelOutside));
    }
    troubles.sort_by_key(|(at, _)| *at);
    let deaths = *dice.pick(&[0, 0, 1, 1, 1, 2, 2, 3]);
    let driver_deaths = (0..deaths)
        .map(|_| death(dice, Actor::Driver, 70))
        .collect();
    let canceler_death = dice.percent(40).then(|| death(dice, Actor::Canceler, 4));
    let pause = dice.percent(if kept { 60 } else { 8 }).then(|| {
        troubles.push((dice.within(0..=6_000), Trouble::Rival));
        (
            1 + dice.below(2) as u32,
            dice.within(1..=60) as u32,
            // Until the run that it drives has ended, and is deleted.
            dice.within(if kept { 30_000 } else { 10_000 }..=60_000),
        )
    });
    troubles.sort_by_key(|(at, _)| *at);
    let limits = Limits {
        max_starts: *dice.pick(&[1, 2, 4, 64]),
        max_lookups: *dice.pick(&[1, 4, 64]),
        publish_grace_ms: 2_000,
        stop_margin_ms: 1_500,
        max_unavailable: 4,
        max_unclaimed: 1 + dice.below(3) as u32,
        stall_ms: *dice.pick(&[100, 1_000]),
        stall_max_ms: 2_000,
    };
    let has_code = reusable && dice.percent(70);
    let pipeline = Maker {
        dice,
        may_hang: canceled,
        reusable,
        tangled,
    }
    .pipeline();
    Part {
        run: name.parse().unwrap_or_else(|error| panic!("{error}")),
        pipeline,
        begins_ms: 0,
        after_first: false,
        may_hang: canceled,
        has_code,
        limits,
        driver_deaths,
        pause,
        canceler_death,
        troubles,
    }
}

/// A death at one of the kill points, or at any request.
fn death(dice: &mut Dice, actor: Actor, requests: u64) -> Death {
    let when = *dice.pick(&[When::Before, When::After]);
    let effects = DONE
        .iter()
        .find(|(of, _)| *of == actor)
        .map_or(&[Effect::Read][..], |(_, effects)| effects);
    let at = if dice.percent(40) {
        At::Nth(dice.within(1..=requests) as u32)
    } else {
        At::Effect(*dice.pick(effects), if dice.percent(70) { 1 } else { 2 })
    };
    Death { at, when }
}

fn weather(dice: &mut Dice, calm_ms: u64, no_commits: bool, kind: Kind) -> Weather {
    let mut weather = Weather {
        delays: *dice.pick(&[0, 150, 300, 600]),
        longest_ms: *dice.pick(&[60, 400, 400, 3_000]),
        ..Weather::default()
    };
    if dice.percent(60) {
        weather.create_faults = *dice.pick(&[20, 100, 300]);
    }
    if dice.percent(25) {
        weather.other_faults = *dice.pick(&[2, 10]);
    }
    if dice.percent(50) {
        weather.lost_news = *dice.pick(&[10, 40]);
        weather.double_news = *dice.pick(&[5, 30]);
        weather.broken_watches = *dice.pick(&[0, 20]);
    }
    if dice.percent(40) {
        weather.deaf = *dice.pick(&[30, 70]);
    }
    if kind.kept {
        weather.slow_looks = *dice.pick(&[0, 20, 50, 50]);
        weather.longest_ms = *dice.pick(&[60, 1_500, 3_000, 3_000]);
    }
    if kind.tangled {
        weather.slow_starts = *dice.pick(&[20, 50, 80]);
        weather.slow_records = *dice.pick(&[0, 20, 50]);
        weather.slow_looks = *dice.pick(&[0, 20, 50]);
        weather.longest_ms = *dice.pick(&[400, 1_500, 3_000]);
        weather.broken_watches = *dice.pick(&[0, 20, 200]);
    }
    if dice.percent(12) {
        let from_ms = dice.within(0..=calm_ms);
        weather.outages.push(Outage {
            from_ms,
            to_ms: from_ms + *dice.pick(&[500, 5_000, 60_000]),
            actor: *dice.pick(&[Actor::Driver, Actor::Launcher, Actor::Launcher]),
            effect: None,
        });
    }
    if no_commits {
        weather.outages.push(Outage {
            from_ms: 0,
            to_ms: 45_000,
            actor: Actor::Launcher,
            effect: Some(Effect::CommitCompleted),
        });
    }
    weather
}
