//! Single situations that the properties reach seldom or not at all, and the
//! cost of a large run.

use super::build::{
    claimed, committed, completed, ended, id, news, path, plan, record, start, start_with, starts,
    step,
};
use super::plans::Need;
use crate::ids::AttemptId;
use crate::outcome::{Cause, Checkpoint, Claim, Decision, LogRecord, Status};
use crate::run::{AttemptNews, Effect, Event, Limits, Recovered, ReuseAnswer, ReuseMiss, RunState};
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn a_newer_driver_silences_this_one() {
    let (mut state, effects) = start(&plan(vec![step(vec![]), step(vec![(0, Need::Data)])]));
    assert_eq!(starts(&effects), ["r/s0/1"]);
    assert_eq!(
        state.apply(
            record(2, Decision::TookOver { driver: "b".into() }),
            Timestamp(1)
        ),
        []
    );
    assert!(state.is_superseded());
    assert_eq!(
        state.apply(Event::Committed(completed(0, 1)), Timestamp(2)),
        []
    );
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn recovering_after_a_newer_takeover_does_nothing() {
    let took = |epoch| LogRecord {
        seq: epoch,
        epoch,
        nonce: "0000000000000000".parse().unwrap(),
        at: Timestamp(0),
        decision: Decision::TookOver { driver: "x".into() },
    };
    let found = Recovered {
        log: vec![took(1), took(2)],
        ..Recovered::default()
    };
    let spec = plan(vec![step(vec![])]);
    let recover = |epoch| {
        let found = found.clone();
        RunState::recover(
            Arc::new(spec.plan()),
            "r".parse().unwrap(),
            epoch,
            found,
            Limits::default(),
            Timestamp(0),
        )
    };
    let (state, effects) = recover(1);
    assert!(state.is_superseded());
    assert_eq!(effects, []);
    assert_eq!(starts(&recover(2).1), ["r/s0/1"]);
}

#[test]
fn budgets_are_apart_and_waits_grow() {
    let mut spec = plan(vec![step(vec![])]);
    spec.steps[0].budgets = [1, 1, 0, 0, 0, 0];
    let (mut state, _) = start(&spec);
    let mut now = 0;
    for (number, cause, left, wait) in [
        (1, Cause::OutOfMemory, 0, 1_000),
        (2, Cause::Exit, 0, 2_000),
    ] {
        let _ = state.apply(claimed(0, number), Timestamp(now));
        let effects = state.apply(ended(0, number, cause), Timestamp(now));
        let [
            Effect::Append(
                grant @ Decision::Granted {
                    attempt,
                    budget_left,
                    not_before,
                    ..
                },
            ),
        ] = &effects[..]
        else {
            panic!("{effects:?}")
        };
        assert_eq!(
            (*attempt, *budget_left, *not_before),
            (number + 1, left, Timestamp(now + wait))
        );
        let due = *not_before;
        let effects = state.apply(record(1, grant.clone()), Timestamp(now));
        assert_eq!(effects, [], "it starts only once its wait is over");
        assert_eq!(state.next_deadline(), Some(due));
        now = due.0;
        assert_eq!(
            starts(&state.apply(Event::Tick, Timestamp(now - 1))),
            Vec::<String>::new()
        );
        assert_eq!(
            starts(&state.apply(Event::Tick, Timestamp(now))),
            [format!("r/s0/{}", number + 1)]
        );
    }
    let _ = state.apply(claimed(0, 3), Timestamp(now));
    let effects = state.apply(ended(0, 3, Cause::Timeout), Timestamp(now));
    let [verdict] = committed(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (verdict.status, verdict.cause),
        (Status::Failed, Some(Cause::Timeout))
    );
    assert_eq!(
        (verdict.attempt, verdict.attempts, verdict.exit_code),
        (Some(3), 3, Some(3))
    );
    assert_eq!(verdict.last_lines, ["last words"]);
}

#[test]
fn a_lost_launcher_is_judged_before_the_next_is_granted_its_checkpoint() {
    let mut spec = plan(vec![step(vec![])]);
    spec.steps[0].budgets = [0, 0, 0, 0, 0, 1];
    let (mut state, _) = start(&spec);
    let _ = state.apply(claimed(0, 1), Timestamp(1));
    let checkpoint = Checkpoint {
        attempt: 1,
        nonce: "0000000000000001".parse().unwrap(),
        generation: 4,
    };
    let claim = Claim {
        attempt: id(0, 1),
        nonce: "0000000000000001".parse().unwrap(),
        host: "h".into(),
        boot_id: String::new(),
        process: String::new(),
        claimed: Timestamp(1),
    };
    let gone = AttemptNews::Gone {
        claim: Some(claim),
        end: None,
        checkpoint: Some(checkpoint.clone()),
    };
    let effects = state.apply(news(0, 1, gone), Timestamp(2));
    let [Effect::Append(judged @ Decision::JudgedLost { attempt: 1, .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    let effects = state.apply(record(1, judged.clone()), Timestamp(3));
    let [
        Effect::Append(
            grant @ Decision::Granted {
                attempt: 2,
                cause: Cause::NodeLost,
                restore,
                ..
            },
        ),
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(restore.as_ref(), Some(&checkpoint));
    let _ = state.apply(record(1, grant.clone()), Timestamp(3));
    let effects = state.apply(Event::Tick, Timestamp(5_000));
    let [Effect::Start(ticket)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(ticket.restore.as_ref(), Some(&checkpoint));
    assert_eq!(ticket.claims_before, 1);
    // The lost one comes back and commits: it counts, and its successor is stopped.
    let effects = state.apply(
        news(
            0,
            1,
            AttemptNews::Committed {
                outcome: completed(0, 1),
            },
        ),
        Timestamp(5_001),
    );
    assert!(
        matches!(&effects[..], [Effect::Stop { attempt, .. }] if *attempt == id(0, 2)),
        "{effects:?}"
    );
    let gone = AttemptNews::Gone {
        claim: None,
        end: None,
        checkpoint: None,
    };
    let effects = state.apply(news(0, 2, gone), Timestamp(5_002));
    assert!(
        matches!(&effects[..], [Effect::EndRun(end)] if end.status == Status::Completed),
        "{effects:?}"
    );
}

#[test]
fn a_success_before_the_stop_stands_and_the_run_is_canceled() {
    let (mut state, _) = start(&plan(vec![step(vec![]), step(vec![(0, Need::Data)])]));
    let _ = state.apply(claimed(0, 1), Timestamp(1));
    let effects = state.apply(Event::CancelAsked { by: "me".into() }, Timestamp(2));
    let [Effect::Append(cancel)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        state.apply(Event::CancelAsked { by: "me".into() }, Timestamp(2)),
        [],
        "asked once"
    );
    let effects = state.apply(record(1, cancel.clone()), Timestamp(3));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { attempt, .. } if *attempt == id(0, 1)))
    );
    let canceled: Vec<_> = committed(&effects).into_iter().cloned().collect();
    assert_eq!(
        canceled
            .iter()
            .map(|o| (o.step.as_str(), o.status))
            .collect::<Vec<_>>(),
        [("s1", Status::Canceled)]
    );
    let _ = state.apply(
        Event::Committed(Arc::new(canceled[0].clone())),
        Timestamp(4),
    );
    let effects = state.apply(
        news(
            0,
            1,
            AttemptNews::Committed {
                outcome: completed(0, 1),
            },
        ),
        Timestamp(5),
    );
    let [Effect::EndRun(end)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(end.status, Status::Canceled);
    assert_eq!(
        end.counts,
        BTreeMap::from([(Status::Completed, 1), (Status::Canceled, 1)])
    );
}

#[test]
fn a_request_to_cancel_changes_an_end_that_is_not_written_yet() {
    let (mut state, _) = start(&plan(vec![step(vec![])]));
    let effects = state.apply(Event::Committed(completed(0, 1)), Timestamp(5));
    assert!(
        matches!(&effects[..], [Effect::EndRun(end)] if end.status == Status::Completed),
        "{effects:?}"
    );
    let cancel = Decision::CancelRequested { by: "other".into() };
    let effects = state.apply(record(1, cancel.clone()), Timestamp(6));
    assert!(
        matches!(&effects[..], [Effect::EndRun(end)] if end.status == Status::Canceled),
        "{effects:?}"
    );
    // Once is enough.
    assert_eq!(state.apply(record(2, cancel), Timestamp(7)), []);
}

#[test]
fn a_stop_is_repeated_until_its_end_is_seen_and_a_kill_has_no_grace() {
    let (mut state, _) = start(&plan(vec![step(vec![])]));
    let _ = state.apply(claimed(0, 1), Timestamp(0));
    let cancel = Decision::CancelRequested { by: "other".into() };
    let stops = |effects: &[Effect]| match effects {
        [Effect::Stop { grace_ms, .. }] => Some(*grace_ms),
        _ => None,
    };
    assert_eq!(
        stops(&state.apply(record(1, cancel), Timestamp(0))),
        Some(10_000)
    );
    let due = state.next_deadline().unwrap();
    assert!(due > Timestamp(10_000));
    assert_eq!(stops(&state.apply(Event::Tick, due)), Some(10_000));
    assert_eq!(
        stops(&state.apply(Event::KillAsked { by: "me".into() }, due)),
        Some(0)
    );
    let effects = state.apply(ended(0, 1, Cause::Canceled), due.plus_millis(1));
    let [verdict] = committed(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (verdict.status, verdict.attempts, verdict.exit_code),
        (Status::Canceled, 1, Some(3))
    );
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn after_a_failure_what_runs_goes_on_and_what_waits_does_not() {
    let limits = Limits {
        max_starts: 3,
        ..Limits::default()
    };
    let mut spec = plan((0..5).map(|_| step(vec![])).collect());
    spec.finalize = true;
    let (mut state, effects) = start_with(&spec, limits);
    assert_eq!(starts(&effects), ["r/s0/1", "r/s1/1", "r/s2/1"]);
    let _ = state.apply(claimed(0, 1), Timestamp(1));
    let _ = state.apply(claimed(1, 1), Timestamp(1));
    let effects = state.apply(ended(0, 1, Cause::Exit), Timestamp(2));
    assert_eq!(
        effects.len(),
        1,
        "there is room for s3, and a failure is on its way: {effects:?}"
    );
    let failed = Arc::new(committed(&effects)[0].clone());
    let effects = state.apply(Event::Committed(failed), Timestamp(3));
    // s1 runs; s2 had not claimed; s3 had not been started; s4 is the last step.
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Stop { attempt, .. } if *attempt == id(2, 1))),
        "{effects:?}"
    );
    let verdicts: Vec<_> = committed(&effects)
        .iter()
        .map(|o| (o.step.as_str(), o.status))
        .collect::<Vec<_>>();
    assert_eq!(verdicts, [("s3", Status::Skipped)]);
    assert_eq!(effects.len(), 2);
    let skipped = Arc::new(committed(&effects)[0].clone());
    let _ = state.apply(Event::Committed(skipped), Timestamp(4));
    let gone = AttemptNews::Gone {
        claim: None,
        end: None,
        checkpoint: None,
    };
    let effects = state.apply(news(2, 1, gone), Timestamp(5));
    let skipped = Arc::new(committed(&effects)[0].clone());
    assert_eq!(skipped.status, Status::Skipped);
    let _ = state.apply(Event::Committed(skipped), Timestamp(6));
    let effects = state.apply(
        news(
            1,
            1,
            AttemptNews::Committed {
                outcome: completed(1, 1),
            },
        ),
        Timestamp(7),
    );
    assert_eq!(
        starts(&effects),
        ["r/s4/1"],
        "the last step runs all the same"
    );
    let effects = state.apply(
        news(
            4,
            1,
            AttemptNews::Committed {
                outcome: completed(4, 1),
            },
        ),
        Timestamp(8),
    );
    assert!(
        matches!(&effects[..], [Effect::EndRun(end)] if end.status == Status::Failed),
        "{effects:?}"
    );
}

#[test]
fn a_miss_is_kept_and_a_refused_registration_fails_the_run() {
    let mut spec = plan(vec![step(vec![])]);
    spec.steps[0].reuse = Some(false);
    spec.steps[0].register = true;
    let (mut state, effects) = start(&spec);
    let [Effect::LookUpReuse { key, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let key = *key;
    let miss = ReuseAnswer::Miss {
        miss: ReuseMiss::FirstTime,
    };
    let effects = state.apply(
        Event::Reuse {
            step: path(0),
            answer: miss,
        },
        Timestamp(1),
    );
    let [Effect::Start(ticket)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(ticket.key, Some(key));
    assert_eq!(
        state.step(&path(0)).unwrap().miss,
        Some(&ReuseMiss::FirstTime)
    );
    let effects = state.apply(Event::Committed(completed(0, 1)), Timestamp(2));
    assert!(
        matches!(&effects[..], [Effect::Register { .. }]),
        "{effects:?}"
    );
    let refused = Event::Registered {
        step: path(0),
        output: "out".into(),
        result: Err("version 1 is taken".into()),
    };
    let effects = state.apply(refused, Timestamp(3));
    let [Effect::EndRun(end)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(end.status, Status::Failed);
    assert_eq!(
        end.problems,
        ["registering `out` of `s0`: version 1 is taken"]
    );
}

#[test]
fn what_holds_a_claim_is_asked_until_it_is_told() {
    let (mut state, _) = start(&plan(vec![step(vec![])]));
    let asks = |effects: &[Effect]| matches!(effects, [Effect::Inspect(of)] if *of == id(0, 1));
    assert!(asks(
        &state.apply(news(0, 1, AttemptNews::ClaimLost), Timestamp(1))
    ));
    let due = state.next_deadline().unwrap();
    assert!(asks(&state.apply(Event::Tick, due)));
    let _ = state.apply(claimed(0, 1), due);
    assert_eq!(state.next_deadline(), None);
    // Its holder may be gone by now: nobody says so while another launcher lives.
    assert!(asks(&state.apply(news(0, 1, AttemptNews::ClaimLost), due)));
    let _ = state.apply(claimed(0, 1), due);
    assert_eq!(state.next_deadline(), None);
}

/// An answer that was under way when a launcher lost the claim may have seen that launcher: it
/// is asked again, or nobody would ever tell that the holder is gone.
#[test]
fn an_answer_older_than_a_lost_claim_is_asked_for_again() {
    let (mut state, _) = start(&plan(vec![step(vec![])]));
    let asks = |effects: &[Effect]| matches!(effects, [Effect::Inspect(of)] if *of == id(0, 1));
    let lost = || news(0, 1, AttemptNews::ClaimLost);
    assert!(asks(&state.apply(lost(), Timestamp(1))));
    assert_eq!(state.apply(lost(), Timestamp(2)), []);
    assert!(asks(&state.apply(claimed(0, 1), Timestamp(3))));
    // The answer to that stands.
    assert_eq!(state.apply(claimed(0, 1), Timestamp(4)), []);
    assert_eq!(state.next_deadline(), None);
}

/// A launcher that could not claim says nothing of the one that had.
#[test]
fn a_start_that_came_to_nothing_asks_who_holds_the_claim() {
    let (mut state, _) = start(&plan(vec![step(vec![])]));
    let _ = state.apply(claimed(0, 1), Timestamp(1));
    let unavailable = AttemptNews::Unavailable {
        message: "the store does not answer".into(),
    };
    let effects = state.apply(news(0, 1, unavailable), Timestamp(2));
    assert!(matches!(&effects[..], [Effect::Inspect(of)] if *of == id(0, 1)));
    let gone = AttemptNews::Gone {
        claim: None,
        end: None,
        checkpoint: None,
    };
    let _ = state.apply(news(0, 1, gone), Timestamp(3));
    assert!(state.next_deadline().is_some(), "and until it is told");
}

/// Finishing a step costs what becomes ready: in a run of 100,000 steps, the
/// changes told of add up to a few for each step, whatever its size.
#[test]
fn a_step_costs_what_it_changes() {
    const STEPS: usize = 100_000;
    // Chains of four, side by side.
    let needs = |i: usize| {
        if i.is_multiple_of(4) {
            vec![]
        } else {
            vec![(0, Need::Data)]
        }
    };
    let spec = plan((0..STEPS).map(|i| step(needs(i))).collect());
    let (mut state, effects) = start_with(
        &spec,
        Limits {
            max_starts: 100,
            ..Limits::default()
        },
    );
    let mut open: Vec<AttemptId> = Vec::new();
    let queue = |effects: Vec<Effect>, open: &mut Vec<AttemptId>| {
        let mut ends = 0;
        for effect in effects {
            match effect {
                Effect::Start(ticket) => open.push(ticket.attempt),
                Effect::EndRun(_) => ends += 1,
                other => panic!("{other:?}"),
            }
        }
        ends
    };
    let mut ends = queue(effects, &mut open);
    let mut changed = 0;
    while let Some(id) = open.pop() {
        let i: usize = id.step.as_str()[1..].parse().unwrap();
        let effects = state.apply(Event::Committed(completed(i, 1)), Timestamp(1));
        let touched = state.changed().len();
        assert!(touched <= 3, "one step changed {touched}");
        changed += touched;
        ends += queue(effects, &mut open);
    }
    assert_eq!(ends, 1);
    assert_eq!(
        state.view().counts,
        &BTreeMap::from([(Status::Completed, STEPS as u64)])
    );
    assert!(changed <= 3 * STEPS, "{changed}");
}

/// Another driver started it, with what this one does not know yet: a retry waits for that.
#[test]
fn a_retry_waits_for_what_its_step_takes() {
    let mut last = step(vec![(0, Need::Optional)]);
    last.budgets[0] = 1;
    let (mut state, _) = start(&plan(vec![step(vec![]), last]));
    let _ = state.apply(claimed(1, 1), Timestamp(1));
    let effects = state.apply(ended(1, 1, Cause::Exit), Timestamp(2));
    let [Effect::Append(grant)] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    let effects = state.apply(record(1, grant.clone()), Timestamp(3));
    assert_eq!(starts(&effects), Vec::<String>::new());
    let later = Timestamp(60_000);
    assert_eq!(
        starts(&state.apply(Event::Tick, later)),
        Vec::<String>::new()
    );
    let outcome = completed(0, 1);
    let told = news(0, 1, AttemptNews::Committed { outcome });
    assert_eq!(starts(&state.apply(told, later)), ["r/s1/2"]);
}
