//! The store's own conformance suite over a store behind HTTP: before a bucket with signed
//! URLs, and before a folder, where all goes through the server.

use auria_core::protocol::API;
use auria_server::Listening;
use auria_server::testing::everything;
use auria_server::tls::Authority;
use auria_store::remote::{Remote, RemoteOptions};
use auria_store::testing::Weed;
use auria_store::{Access, Store, StoreUrl, probe};
use std::net::TcpListener;
use std::time::Duration;

async fn behind(store: Store) -> (Store, Listening) {
    let authority = Authority::make().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tls = authority.server(&["127.0.0.1".to_owned()]).unwrap();
    let listening = Listening::start(listener, tls, everything(store, true)).unwrap();
    let remote = Remote::new(&RemoteOptions {
        url: format!("https://{address}"),
        base: API,
        token: "any".to_owned(),
        authority: Some(authority.certificate().to_owned()),
    });
    let remote = remote.unwrap();
    let store = remote.store(&remote.grant().await.unwrap()).unwrap();
    (store, listening)
}

macro_rules! pieces {
    ($($module:ident :: $piece:ident),+ $(,)?) => {
        pub(crate) async fn a_folder_behind_http_is_a_store() {
            $(
                let folder = tempfile::tempdir().unwrap();
                let url = StoreUrl::Folder(folder.path().join("store"));
                let store = Store::open(&url, Access::Write).await.unwrap();
                let (store, listening) = behind(store).await;
                crate::$module::$piece(store).await;
                listening.stop(Duration::ZERO).await.unwrap();
            )+
        }

        pub(crate) async fn a_bucket_behind_http_is_a_store() {
            let Some(weed) = Weed::start().await else { return };
            $(
                let url = weed.url(concat!("behind/", stringify!($piece)));
                let store = weed.open(&url, Access::Read).await.unwrap();
                let (store, listening) = behind(store).await;
                crate::$module::$piece(store).await;
                listening.stop(Duration::ZERO).await.unwrap();
            )+
        }
    };
}

pieces! {
    records::commits_know_their_own_retries,
    records::ends_and_tickets_stand_once_written,
    records::recovery_finds_what_was_written,
    files::artifacts_come_back_as_they_went,
    files::odd_names_come_back,
    files::a_thousand_small_files,
    files::a_large_file_goes_in_parts_and_comes_in_ranges,
    files::outputs_must_be_what_they_say,
    snapshots::uploads_only_what_is_new,
    streams::metrics_are_read_while_running_and_after,
    streams::checkpoints_keep_two,
    index::a_name_is_taken_once,
    index::runs_are_found,
}

/// The question that every store is asked, through the server: one creator of many wins.
pub(crate) async fn one_creator_wins_through_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Folder(folder.path().join("store"));
    let (store, _listening) = behind(Store::open(&url, Access::Write).await.unwrap()).await;
    let verdict = probe::run(&store).await.unwrap();
    assert_eq!(verdict.creators, 16);
    crate::records::a_claim_has_one_winner_among_64(store).await;
}
