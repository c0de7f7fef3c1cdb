//! Plans to try a run state with: small, and of every shape.

use crate::plan::{
    AssetName, DataType, Environment, InputMode, Network, PLAN_VERSION, Plan, PlanSettings,
    PlannedInput, PlannedOutput, PlannedStep, RetryPolicy, Reuse, Template,
};
use crate::resources::Resources;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// How a step waits for an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Data,
    Optional,
    Order,
}

/// What an attempt does once it runs, unless it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Succeed,
    /// Ends with a record of its own; the number picks the cause.
    Fail(u8),
    /// Its launcher is lost after the claim, and nobody knows why.
    Vanish,
    /// Its launcher is lost after the claim; the executor knows why.
    Killed(u8),
    /// Publishes and cannot commit.
    Publish,
    /// Never ends by itself.
    Hang,
}

/// What comes before an attempt's claim, once for each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prelude {
    Unavailable,
    GoneUnclaimed,
    Refused,
}

#[derive(Clone, Debug)]
pub(super) struct StepSpec {
    /// Distance back in the plan, and how.
    pub(super) needs: Vec<(u8, Need)>,
    /// By number of attempt; later ones succeed.
    pub(super) acts: Vec<Act>,
    pub(super) preludes: Vec<Prelude>,
    pub(super) budgets: [u32; 6],
    /// None: not deterministic. Else whether the index has it.
    pub(super) reuse: Option<bool>,
    pub(super) register: bool,
    pub(super) export: bool,
}

#[derive(Clone, Debug)]
pub(super) struct PlanSpec {
    pub(super) steps: Vec<StepSpec>,
    pub(super) goes_on: bool,
    pub(super) forced: bool,
    pub(super) init: bool,
    pub(super) finalize: bool,
}

pub(super) fn step_named(i: usize) -> String {
    format!("s{i}")
}

impl PlanSpec {
    pub(super) fn plan(&self) -> Plan {
        let count = self.steps.len();
        let steps = self
            .steps
            .iter()
            .enumerate()
            .map(|(i, spec)| planned(i, spec, self, count))
            .collect();
        Plan {
            version: PLAN_VERSION,
            pipeline: "p".into(),
            display_name: None,
            experiment: "e".into(),
            settings: PlanSettings {
                continue_on_step_failure: self.goes_on,
                force_rerun: self.forced,
                on_init: self.init.then(|| step_named(0).parse().unwrap()),
                on_finalize: self.last().map(|i| step_named(i).parse().unwrap()),
            },
            inputs: BTreeMap::new(),
            steps,
            outputs: BTreeMap::new(),
        }
    }

    /// The last step's number, where there is one besides the first.
    pub(super) fn last(&self) -> Option<usize> {
        let count = self.steps.len();
        (self.finalize && count > usize::from(self.init)).then(|| count - 1)
    }
}

fn planned(i: usize, spec: &StepSpec, plan: &PlanSpec, count: usize) -> PlannedStep {
    let apart = |i: usize| (plan.init && i == 0) || (plan.last() == Some(i) && i + 1 == count);
    let mut inputs = BTreeMap::from([(
        "seed".to_owned(),
        PlannedInput::Literal { value: "7".into() },
    )]);
    let mut after = BTreeSet::new();
    for (k, &(back, need)) in spec.needs.iter().enumerate() {
        let Some(from) = i.checked_sub(1 + back as usize) else {
            continue;
        };
        if apart(i) || apart(from) {
            continue;
        }
        let step = step_named(from).parse().unwrap();
        if need == Need::Order {
            after.insert(step);
        } else {
            inputs.insert(
                format!("in{k}"),
                PlannedInput::Step {
                    step,
                    output: "out".into(),
                    data_type: DataType::UriFolder,
                    mode: InputMode::Download,
                    optional: need == Need::Optional,
                },
            );
        }
    }
    let [exit, out_of_memory, image, preempted, evicted, node_lost] = spec.budgets;
    PlannedStep {
        path: step_named(i).parse().unwrap(),
        display_name: None,
        command: Template::default(),
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
                register: spec.register.then(|| AssetName {
                    kind: "model".into(),
                    name: step_named(i),
                    version: None,
                }),
                export: spec.export.then(|| "s3://b/x".to_owned()),
            },
        )]),
        after,
        resources: Resources {
            instances: 1,
            ..Resources::default()
        },
        distribution: None,
        timeout_ms: None,
        grace_ms: 10_000,
        retry: RetryPolicy {
            exit,
            out_of_memory,
            image,
            preempted,
            evicted,
            node_lost,
            backoff_ms: 1_000,
            backoff_factor: 2.0,
            backoff_max_ms: 5_000,
        },
        reuse: match spec.reuse {
            None => Reuse::NotDeterministic,
            Some(_) => Reuse::Allowed {
                extra_key: None,
                max_age_ms: None,
            },
        },
        compute: None,
        network: Network::Default,
        keep_warm: None,
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Succeed),
        3 => (0..6u8).prop_map(Act::Fail),
        1 => Just(Act::Vanish),
        1 => (0..6u8).prop_map(Act::Killed),
        1 => Just(Act::Publish),
    ]
}

fn prelude() -> impl Strategy<Value = Prelude> {
    prop_oneof![8 => Just(Prelude::Unavailable), 8 => Just(Prelude::GoneUnclaimed), 1 => Just(Prelude::Refused)]
}

fn step(hangs: bool) -> impl Strategy<Value = StepSpec> {
    let need =
        prop_oneof![3 => Just(Need::Data), 2 => Just(Need::Optional), 1 => Just(Need::Order)];
    let act = prop_oneof![
        8 => act(),
        u32::from(hangs) => Just(Act::Hang),
    ];
    (
        prop::collection::vec((0..4u8, need), 0..4),
        prop::collection::vec(act, 0..5),
        prop::collection::vec(prelude(), 0..3),
        prop::array::uniform6(0..3u32),
        prop::option::weighted(0.6, prop::bool::weighted(0.4)),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(needs, acts, preludes, budgets, reuse, register, export)| StepSpec {
                needs,
                acts,
                preludes,
                budgets,
                reuse,
                register,
                export,
            },
        )
}

/// Plans of up to 14 steps. With `hangs`, some attempts never end by themselves.
pub(super) fn plans(hangs: bool) -> impl Strategy<Value = PlanSpec> {
    (
        prop::collection::vec(step(hangs), 1..14),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(steps, goes_on, forced, init, finalize)| PlanSpec {
            steps,
            goes_on,
            forced,
            init,
            finalize,
        })
}
