//! Plans, news and records made by hand, for single situations.

use super::plans::{Need, PlanSpec, StepSpec, step_named};
use crate::ids::{AttemptId, StepPath};
use crate::outcome::{
    Cause, Decision, EndRecord, LogRecord, OUTCOME_VERSION, Outcome, Status, Timings,
};
use crate::run::{AttemptNews, Effect, Event, Limits, Recovered, RunState};
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn step(needs: Vec<(u8, Need)>) -> StepSpec {
    StepSpec {
        needs,
        acts: vec![],
        preludes: vec![],
        budgets: [0; 6],
        reuse: None,
        register: false,
        export: false,
    }
}

pub(super) fn plan(steps: Vec<StepSpec>) -> PlanSpec {
    PlanSpec {
        steps,
        goes_on: false,
        forced: false,
        init: false,
        finalize: false,
    }
}

pub(super) fn start(spec: &PlanSpec) -> (RunState, Vec<Effect>) {
    start_with(spec, Limits::default())
}

pub(super) fn start_with(spec: &PlanSpec, limits: Limits) -> (RunState, Vec<Effect>) {
    let plan = Arc::new(spec.plan());
    RunState::recover(
        plan,
        "r".parse().unwrap(),
        1,
        Recovered::default(),
        limits,
        Timestamp(0),
    )
}

pub(super) fn path(i: usize) -> StepPath {
    step_named(i).parse().unwrap()
}

pub(super) fn id(i: usize, number: u32) -> AttemptId {
    AttemptId {
        run: "r".parse().unwrap(),
        step: path(i),
        number,
    }
}

pub(super) fn news(i: usize, number: u32, news: AttemptNews) -> Event {
    Event::Attempt {
        id: id(i, number),
        news,
    }
}

pub(super) fn claimed(i: usize, number: u32) -> Event {
    news(
        i,
        number,
        AttemptNews::Claimed {
            nonce: format!("{number:016x}").parse().unwrap(),
            node: "h".into(),
        },
    )
}

pub(super) fn end(i: usize, number: u32, cause: Cause) -> EndRecord {
    EndRecord {
        attempt: id(i, number),
        nonce: Some(format!("{number:016x}").parse().unwrap()),
        cause,
        exit_code: Some(3),
        message: "exit status 3".into(),
        last_lines: vec!["last words".into()],
        timings: Timings::default(),
        checkpoint: None,
        published: None,
        node: Some("h".into()),
        started: None,
        ended: Timestamp(5),
    }
}

pub(super) fn ended(i: usize, number: u32, cause: Cause) -> Event {
    news(
        i,
        number,
        AttemptNews::Ended {
            end: end(i, number, cause),
        },
    )
}

pub(super) fn completed(i: usize, number: u32) -> Arc<Outcome> {
    Arc::new(Outcome {
        version: OUTCOME_VERSION,
        run: "r".parse().unwrap(),
        step: path(i),
        status: Status::Completed,
        attempt: Some(number),
        nonce: Some(format!("{number:016x}").parse().unwrap()),
        attempts: number,
        cause: None,
        exit_code: Some(0),
        message: None,
        outputs: BTreeMap::from([(
            "out".to_owned(),
            crate::outcome::Artifact {
                prefix: "p".into(),
                manifest: "m".into(),
                data_type: crate::plan::DataType::UriFolder,
                files: 1,
                bytes: 1,
                digest: crate::Digest::of(b"x"),
            },
        )]),
        reused_from: None,
        key: None,
        timings: Timings::default(),
        last_lines: vec![],
        node: None,
        started: None,
        ended: Timestamp(9),
    })
}

pub(super) fn record(epoch: u64, decision: Decision) -> Event {
    let nonce = "0000000000000000".parse().unwrap();
    Event::Appended(LogRecord {
        seq: 1,
        epoch,
        nonce,
        at: Timestamp(0),
        decision,
    })
}

/// The ids of starts among `effects`.
pub(super) fn starts(effects: &[Effect]) -> Vec<String> {
    let start = |effect: &Effect| match effect {
        Effect::Start(ticket) => Some(ticket.attempt.to_string()),
        _ => None,
    };
    effects.iter().filter_map(start).collect()
}

pub(super) fn committed(effects: &[Effect]) -> Vec<&Outcome> {
    let mut outcomes = Vec::new();
    for effect in effects {
        if let Effect::Commit(outcome) = effect {
            outcomes.push(outcome.as_ref());
        }
    }
    outcomes
}
