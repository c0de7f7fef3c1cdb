//! What every store must do, run on a folder and on a real S3 server (SeaweedFS).
//! Each piece gets a store of its own: an empty folder, or an empty prefix.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test owns its tasks and its environment"
)]

mod crash;
mod external;
mod faults;
mod files;
mod fixtures;
mod housekeeping;
mod index;
mod lies;
mod memory;
mod records;
mod snapshots;
mod streams;

use auria_store::testing::Weed;
use auria_store::{Access, Store};

/// Makes a test of each piece for the folder, and one test of all for S3.
macro_rules! conformance {
    ($($module:ident :: $piece:ident),+ $(,)?) => {
        mod folder {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $piece() {
                    let folder = tempfile::tempdir().unwrap();
                    let url = auria_store::StoreUrl::Folder(folder.path().join("store"));
                    let store = super::Store::open(&url, super::Access::Write).await.unwrap();
                    crate::$module::$piece(store).await;
                }
            )+
        }

        async fn pieces_on_s3(weed: &Weed) {
            // One probe serves all prefixes of one server.
            let begun = std::time::Instant::now();
            let probed = weed.open(&weed.url("conformance"), Access::Write).await.unwrap();
            eprintln!("s3: opened and probed in {:.1?}", begun.elapsed());
            assert!(
                probed.identity().ends_with(weed.endpoint()),
                "another server's bucket of this name is another store: {}",
                probed.identity()
            );
            let layout: auria_store::probe::Layout =
                probed.read_json(&auria_store::layout::layout()).await.unwrap().unwrap();
            $(
                let begun = std::time::Instant::now();
                let url = weed.url(concat!("conformance/", stringify!($piece)));
                let store = weed.open(&url, Access::Read).await.unwrap();
                store.write_json(&auria_store::layout::layout(), &layout).await.unwrap();
                let store = weed.open(&url, Access::Write).await.unwrap();
                crate::$module::$piece(store).await;
                eprintln!("s3: {} in {:.1?}", stringify!($piece), begun.elapsed());
            )+
        }
    };
}

conformance! {
    records::a_claim_has_one_winner_among_64,
    records::commits_know_their_own_retries,
    records::ends_and_tickets_stand_once_written,
    records::recovery_finds_what_was_written,
    records::a_log_holds_what_drivers_can_have_written,
    faults::one_winner_among_64_whatever_is_answered,
    faults::a_full_store_says_so_at_once,
    files::artifacts_come_back_as_they_went,
    files::odd_names_come_back,
    files::a_thousand_small_files,
    files::a_large_file_goes_in_parts_and_comes_in_ranges,
    files::a_flipped_byte_is_seen,
    files::nothing_is_written_outside,
    files::outputs_must_be_what_they_say,
    crash::a_crash_at_any_operation_leaves_nothing_visible,
    snapshots::ignore_rules_and_names,
    snapshots::uploads_only_what_is_new,
    snapshots::a_change_between_scan_and_upload_is_seen,
    streams::logs_are_followed_within_a_second,
    streams::metrics_are_read_while_running_and_after,
    streams::checkpoints_keep_two,
    housekeeping::a_deleted_run_is_gone_after_its_grace,
    housekeeping::a_run_in_use_stays,
    housekeeping::who_takes_and_who_deletes_see_each_other,
    housekeeping::a_deletion_that_was_cut_short_goes_on,
    housekeeping::a_run_that_is_driven_again_is_kept,
    housekeeping::what_nobody_needs_is_collected,
    housekeeping::a_snapshot_that_is_named_meanwhile_is_kept,
    housekeeping::uploads_that_were_cut_short_are_swept,
    index::runs_are_found,
    index::a_name_is_taken_once,
    index::assets_are_registered_once,
    index::an_output_is_registered_once_whoever_does_it,
    index::reuse_hits_and_says_why_not,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3() {
    let Some(weed) = Weed::start().await else {
        return;
    };
    pieces_on_s3(&weed).await;
    faults::wrong_credentials_are_denied(&weed).await;
    external::objects_are_pinned(&weed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_that_lies() {
    let Some(weed) = Weed::start().await else {
        return;
    };
    memory::a_large_file_takes_little_memory(&weed).await;
    lies::nobody_wins_twice(&weed).await;
    lies::nothing_wrong_is_accepted(&weed).await;
}
