//! Pipelines to run: wide, deep, nested, of any shape, small for the most part; and
//! what the attempts of their steps do. All of it follows from the dice.

use super::dice::Dice;
use auria_core::StepPath;
use auria_core::outcome::Cause;
use auria_core::plan::{
    AssetName, DataType, Environment, InputMode, Network, PLAN_VERSION, Plan, PlanSettings,
    PlannedInput, PlannedOutput, PlannedStep, RetryPolicy, Reuse, Template, TemplatePart,
};
use auria_core::resources::Resources;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A plan, and what its steps do.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub(super) plan: Arc<Plan>,
    pub(super) scripts: Arc<BTreeMap<StepPath, Script>>,
}

/// What the attempts of a step do.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// By number of attempt; later ones succeed.
    pub(super) acts: Vec<Act>,
    /// What the executor answers to the starts of the first attempt; later ones are
    /// done as asked.
    pub(super) answers: Vec<Answer>,
}

/// What a command does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    /// How long it runs.
    pub(super) ms: u64,
    pub(super) how: How,
    /// Checkpoints that it leaves on the way.
    pub(super) checkpoints: u32,
    pub(super) on_stop: OnStop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Succeeds,
    /// Ends with a record of its own.
    Fails(Cause),
    /// Its launcher dies with it; the executor may know why.
    Dies(Option<Cause>),
    /// Its node is cut off: the executor tells that it is gone, and it comes back.
    CutOff,
    /// Never ends by itself.
    Hangs,
}

/// What it answers to SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnStop {
    Ends,
    /// With status 0, as a training does that saves a checkpoint.
    EndsWell,
    /// Nothing, until SIGKILL.
    Ignores,
}

/// What an executor does with a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Starts,
    /// Two launchers begin.
    StartsTwice,
    Refused,
    Unavailable,
    /// Its launcher goes before it has claimed.
    GoneUnclaimed,
}

impl Script {
    pub(super) fn act(&self, number: u32) -> Act {
        let place = (number as usize).saturating_sub(1);
        self.acts.get(place).copied().unwrap_or(Act {
            ms: 300,
            how: How::Succeeds,
            checkpoints: 0,
            on_stop: OnStop::Ends,
        })
    }

    pub(super) fn hangs(&self) -> bool {
        self.acts.iter().any(|act| act.how == How::Hangs)
    }
}

/// How the steps hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chain,
    Fan,
    Join,
    Any,
}

/// Who makes pipelines of which kind.
pub(super) struct Maker<'a> {
    pub(super) dice: &'a mut Dice,
    /// The run will be canceled: commands may hang.
    pub(super) may_hang: bool,
    /// Its steps are for another run's to be reused.
    pub(super) reusable: bool,
    /// Many answers of the executor, few and short steps.
    pub(super) tangled: bool,
}

impl Maker<'_> {
    pub(super) fn pipeline(&mut self) -> Pipeline {
        let dice = &mut *self.dice;
        let count = match dice.below(20) {
            _ if self.tangled => 1 + dice.below(4),
            0..=4 => 1,
            5..=15 => 2 + dice.below(3),
            16..=18 => 4 + dice.below(5),
            _ => 8 + dice.below(12),
        };
        let shape = *dice.pick(&[
            Shape::Chain,
            Shape::Fan,
            Shape::Join,
            Shape::Any,
            Shape::Any,
        ]);
        let nested = dice.percent(20);
        let names: Vec<StepPath> = (0..count).map(|i| name(i, nested)).collect();
        let init = count > 1 && dice.percent(10);
        let finalize = count > 1 + usize::from(init) && dice.percent(15);
        let goes_on = dice.percent(50);
        let force_rerun = dice.percent(5);
        let apart = |i: usize| (init && i == 0) || (finalize && i + 1 == count);
        let mut scripts = BTreeMap::new();
        let mut steps = Vec::with_capacity(count);
        for i in 0..count {
            let before: Vec<usize> = (0..i).filter(|&from| !apart(from)).collect();
            let needs = if apart(i) {
                vec![]
            } else {
                self.needs(shape, i, count, &before)
            };
            let (step, script) = self.step(&names, i, &needs);
            scripts.insert(step.path.clone(), script);
            steps.push(step);
        }
        let plan = Plan {
            version: PLAN_VERSION,
            pipeline: "p".into(),
            display_name: None,
            experiment: "e".into(),
            settings: PlanSettings {
                continue_on_step_failure: goes_on,
                force_rerun,
                on_init: init.then(|| names[0].clone()),
                on_finalize: finalize.then(|| names[count - 1].clone()),
            },
            inputs: BTreeMap::new(),
            steps,
            outputs: BTreeMap::new(),
        };
        Pipeline {
            plan: Arc::new(plan),
            scripts: Arc::new(scripts),
        }
    }

    /// The steps that step `i` waits for.
    fn needs(&mut self, shape: Shape, i: usize, count: usize, before: &[usize]) -> Vec<usize> {
        let dice = &mut *self.dice;
        let Some(last) = before.last() else {
            return vec![];
        };
        match shape {
            Shape::Chain => vec![*last],
            Shape::Fan => vec![before[0]],
            Shape::Join if i + 1 == count => before.to_vec(),
            Shape::Join => vec![],
            Shape::Any => {
                let mut needs = BTreeSet::new();
                for _ in 0..dice.below(3) {
                    needs.insert(*dice.pick(before));
                }
                needs.into_iter().collect()
            }
        }
    }

    fn step(&mut self, names: &[StepPath], i: usize, needs: &[usize]) -> (PlannedStep, Script) {
        let (may_hang, reusable) = (self.may_hang, self.reusable);
        let dice = &mut *self.dice;
        let mut inputs = BTreeMap::new();
        let mut after = BTreeSet::new();
        for &from in needs {
            let step = names[from].clone();
            match dice.below(10) {
                0 | 1 => drop(after.insert(step)),
                kind => drop(inputs.insert(
                    format!("in{from}"),
                    PlannedInput::Step {
                        step,
                        output: "out".into(),
                        data_type: DataType::UriFolder,
                        mode: InputMode::Download,
                        optional: kind < 5,
                    },
                )),
            }
        }
        let timeout_ms = dice.percent(15).then(|| dice.within(500..=4_000));
        let budget = |dice: &mut Dice| {
            if dice.percent(55) {
                0
            } else {
                1 + dice.below(2) as u32
            }
        };
        let retry = RetryPolicy {
            exit: budget(dice),
            out_of_memory: budget(dice),
            image: budget(dice),
            preempted: budget(dice),
            evicted: budget(dice),
            node_lost: 1 + dice.below(3) as u32,
            backoff_ms: *dice.pick(&[0, 200, 1_000]),
            backoff_factor: 2.0,
            backoff_max_ms: 3_000,
        };
        let reuse = if dice.percent(if reusable { 85 } else { 30 }) {
            Reuse::Allowed {
                extra_key: None,
                max_age_ms: dice.percent(10).then_some(5_000),
            }
        } else {
            Reuse::NotDeterministic
        };
        let register = dice.percent(15).then(|| AssetName {
            kind: "model".into(),
            name: "m".into(),
            // Two steps may want the same one.
            version: dice.percent(20).then(|| "7".into()),
        });
        let script = script(dice, may_hang, timeout_ms, self.tangled);
        debug_assert!(may_hang || !script.hangs());
        let step = PlannedStep {
            path: names[i].clone(),
            display_name: None,
            command: Template(vec![TemplatePart::Text(format!("c{i}"))]),
            code: None,
            environment: Environment::Image {
                image: "i".into(),
                cuda: None,
            },
            variables: BTreeMap::new(),
            inputs,
            outputs: BTreeMap::from([(
                "out".to_owned(),
                PlannedOutput {
                    data_type: DataType::UriFolder,
                    register,
                    export: dice.percent(10).then(|| format!("simulated:exports/{i}")),
                },
            )]),
            after,
            resources: Resources {
                instances: 1,
                ..Resources::default()
            },
            distribution: None,
            timeout_ms,
            grace_ms: *dice.pick(&[500, 2_000]),
            retry,
            reuse,
            compute: None,
            network: Network::Default,
            keep_warm: None,
        };
        (step, script)
    }
}

fn name(i: usize, nested: bool) -> StepPath {
    let text = match (nested, i % 3) {
        (true, 1) => format!("outer.s{i}"),
        (true, 2) => format!("outer.inner.{i}.s"),
        _ => format!("s{i}"),
    };
    // These are names of steps.
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn script(dice: &mut Dice, may_hang: bool, timeout_ms: Option<u64>, tangled: bool) -> Script {
    let mut script = Script::default();
    for _ in 0..dice.below(4) {
        let mut act = act(dice, may_hang, timeout_ms);
        if tangled && dice.percent(60) {
            act.ms = dice.within(0..=200);
        }
        script.acts.push(act);
    }
    if dice.percent(if tangled { 60 } else { 15 }) {
        for _ in 0..=dice.below(3) {
            script.answers.push(*dice.pick(&[
                Answer::StartsTwice,
                Answer::Unavailable,
                Answer::Unavailable,
                Answer::GoneUnclaimed,
                Answer::GoneUnclaimed,
                Answer::Starts,
                Answer::Starts,
                Answer::Refused,
            ]));
        }
    }
    script
}

fn act(dice: &mut Dice, may_hang: bool, timeout_ms: Option<u64>) -> Act {
    let failure = [
        Cause::Exit,
        Cause::Exit,
        Cause::OutOfMemory,
        Cause::Image,
        Cause::Preempted,
        Cause::Evicted,
    ];
    let how = match dice.below(20) {
        0..=7 => How::Succeeds,
        8..=12 => How::Fails(*dice.pick(&failure)),
        13 => How::Dies(None),
        14 => How::Dies(Some(*dice.pick(&[Cause::OutOfMemory, Cause::NodeLost]))),
        15 | 16 => How::CutOff,
        17 if may_hang => How::Hangs,
        _ => How::Succeeds,
    };
    let ms = match timeout_ms {
        Some(limit) if dice.percent(40) => limit + dice.within(1..=2_000),
        _ if dice.percent(10) => dice.within(2_000..=9_000),
        _ => dice.within(0..=1_000),
    };
    Act {
        ms,
        how,
        checkpoints: if dice.percent(25) {
            1 + dice.below(3) as u32
        } else {
            0
        },
        on_stop: *dice.pick(&[
            OnStop::Ends,
            OnStop::Ends,
            OnStop::EndsWell,
            OnStop::Ignores,
        ]),
    }
}
