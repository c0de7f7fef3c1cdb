//! The broker with real launchers: each a process of its own that is told nothing but
//! where the broker is, a token and a certificate, over TLS, before a real S3 server
//! (SeaweedFS) and before a folder, which signs nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test owns its tasks and its environment"
)]

mod asker;
mod attempts;
mod bounds;
mod bulk;
mod groups;
mod refusals;
mod remote;
mod secrets;
mod sessions;
mod users;
mod world;

// The store's own pieces, for a store behind HTTP.
#[allow(
    dead_code,
    unused_imports,
    reason = "not every piece is for a store behind HTTP"
)]
#[path = "../../../store/tests/conformance/files.rs"]
mod files;
#[allow(dead_code, reason = "not every piece is for a store behind HTTP")]
#[path = "../../../store/tests/conformance/fixtures.rs"]
mod fixtures;
#[allow(dead_code, reason = "not every piece is for a store behind HTTP")]
#[path = "../../../store/tests/conformance/index.rs"]
mod index;
#[allow(dead_code, reason = "not every piece is for a store behind HTTP")]
#[path = "../../../store/tests/conformance/records.rs"]
mod records;
#[allow(dead_code, reason = "not every piece is for a store behind HTTP")]
#[path = "../../../store/tests/conformance/snapshots.rs"]
mod snapshots;
#[allow(dead_code, reason = "not every piece is for a store behind HTTP")]
#[path = "../../../store/tests/conformance/streams.rs"]
mod streams;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Its main is also that of the launchers that it starts.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "pod") {
        return auria_launcher::pod::main(arguments.next());
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let trials = cases().into_iter().map(|(name, case)| {
        Trial::test(name, move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(4)
                .enable_all()
                .build()?;
            runtime.block_on(case());
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

type Case = (&'static str, fn() -> BoxFuture<'static, ()>);

macro_rules! cases {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        fn cases() -> Vec<Case> {
            vec![$((stringify!($name), || Box::pin($module::$name()))),+]
        }
    };
}

cases! {
    attempts::a_stop_that_comes_early_is_heard,
    attempts::a_broker_that_is_started_anew_goes_on,
    attempts::steps_hand_on_files_through_a_bucket,
    attempts::steps_hand_on_files_through_a_folder,
    bounds::one_refused_url_is_the_only_one,
    bounds::what_is_too_large_is_refused,
    bounds::what_stands_in_the_way_may_be_of_any_size,
    bounds::who_stalls_is_let_go,
    bulk::much_goes_straight_to_a_bucket,
    groups::a_group_meets_and_is_put_together,
    groups::a_member_writes_its_own_alone_and_commits_nothing,
    groups::an_instance_that_is_taken_away_is_no_failure_of_the_others,
    groups::instances_that_write_one_file_differently_fail,
    groups::the_first_that_falls_is_the_groups_end,
    refusals::a_session_stays_within_its_claim,
    refusals::an_attempt_speaks_for_itself_alone,
    refusals::nobody_passes_without_a_token_that_counts,
    refusals::nothing_is_signed_for_an_attempt_that_has_lost,
    remote::a_bucket_behind_http_is_a_store,
    remote::a_folder_behind_http_is_a_store,
    remote::one_creator_wins_through_a_server,
    secrets::a_step_finds_no_token,
    sessions::a_claim_is_granted_once,
    sessions::a_last_word_is_the_launchers,
    sessions::a_session_ends_with_its_attempt,
    sessions::an_end_says_who_took_the_attempt_away,
    users::a_run_is_canceled_in_the_name_of_who_asks,
    users::a_user_submits_over_the_api,
    users::changes_of_a_run_come_as_events,
    users::nobody_gets_into_the_api_without_being_vouched_for,
}
