//! Runs by name, assets by version, finished steps by key.

use crate::fixtures::{artifact, id, nonce, run_json, write};
use auria_core::plan::DataType;
use auria_core::run::{ReuseAnswer, ReuseMiss};
use auria_core::{Digest, Timestamp};
use auria_store::registry::{self, NewAsset, Origin};
use auria_store::reuse::{self, Query, ReuseEntry};
use auria_store::runs::{self, RunState};
use auria_store::testing::{Fault, Verb, faulty};
use auria_store::{ErrorKind, Store, StorePath, layout};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) async fn runs_are_found(store: Store) {
    assert_eq!(
        runs::resolve(&store, "latest").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let mut created = Vec::new();
    for (number, name) in ["kathi-a1", "kathi-a2", "other", "kathi-a"]
        .into_iter()
        .enumerate()
    {
        let mut record = run_json(
            name,
            number as u64,
            1_767_323_000_000 + number as i64 * 1_000,
        );
        runs::create(&store, &record).await.unwrap();
        assert_eq!(runs::read(&store, &record.run).await.unwrap(), record);
        runs::mark_ready(&store, &mut record).await.unwrap();
        assert_eq!(
            runs::read(&store, &record.run).await.unwrap().state,
            RunState::Ready
        );
        created.push(record);
    }
    let recent = runs::list_recent(&store, 3).await.unwrap();
    let names: Vec<_> = recent.iter().map(|run| run.run.as_str()).collect();
    assert_eq!(names, ["kathi-a", "other", "kathi-a2"]);
    assert_eq!(
        (recent[0].pipeline.as_str(), recent[0].created),
        ("auria-kathi", created[3].created)
    );

    // Page by page, each is there once.
    let folder = auria_store::layout::recent_runs();
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = store.first_names(&folder, after.as_deref(), 3).await;
        let page = page.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        paged.extend(page);
    }
    let listed = store.list(&folder).await.unwrap();
    let listed = listed.iter().filter_map(|meta| meta.location.filename());
    let mut listed: Vec<_> = listed.map(str::to_owned).collect();
    listed.sort();
    assert_eq!(paged, listed);
    assert_eq!(paged.len(), 4);
    let nothing = auria_store::StorePath::from("nothing/there");
    let nothing = store.first_names(&nothing, None, 3).await.unwrap();
    assert_eq!(nothing, [""; 0]);

    for (text, name) in [
        ("latest", "kathi-a"),
        ("oth", "other"),
        ("kathi-a", "kathi-a"),
        ("kathi-a1", "kathi-a1"),
    ] {
        assert_eq!(
            runs::resolve(&store, text).await.unwrap().as_str(),
            name,
            "{text}"
        );
    }
    let error = runs::resolve(&store, "kat").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "ambiguous")
    );
    assert!(
        error.to_string().contains("kathi-a, kathi-a2, kathi-a1"),
        "{error}"
    );
    for text in ["nothing", "", "../x", "KATHI"] {
        assert_eq!(
            runs::resolve(&store, text).await.unwrap_err().kind(),
            ErrorKind::NotFound,
            "{text}"
        );
    }
}

pub(crate) async fn a_name_is_taken_once(store: Store) {
    let first = run_json("mine", 1, 1_000);
    runs::create(&store, &first).await.unwrap();
    runs::create(&store, &first)
        .await
        .expect("the submitter's own retry");
    let error = runs::create(&store, &run_json("mine", 2, 2_000))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("kathi@studio"), "{error}");
    assert_eq!(runs::read(&store, &first.run).await.unwrap(), first);
}

fn asset(version: Option<&str>, origin: Option<&str>) -> NewAsset {
    NewAsset {
        kind: "model".into(),
        name: "haiku".into(),
        version: version.map(str::to_owned),
        artifact: artifact(origin.unwrap_or("by-hand")),
        origin: origin.map(|run| Origin {
            run: run.parse().unwrap(),
            step: "train".parse().unwrap(),
            output: "weights".into(),
        }),
        description: "writes".into(),
        tags: BTreeMap::from([("loss".to_owned(), "1.5".to_owned())]),
    }
}

/// A driver dies between agreeing on a number and taking it, and a version that is asked for
/// by name leaves a hole meanwhile: who goes on takes the number that was agreed on.
pub(crate) async fn an_output_is_registered_once_whoever_does_it(store: Store) {
    let late = || asset(None, Some("late"));
    let dying = faulty(&store, |operation| {
        (operation.verb == Verb::Create && operation.path.starts_with("assets/"))
            .then_some(Fault::Fails)
    });
    let died = tokio::time::timeout(
        Duration::from_millis(300),
        registry::register(&dying, late()),
    );
    assert!(!matches!(died.await, Ok(Ok(_))));
    let named = registry::register(&store, asset(Some("40"), Some("named")));
    assert_eq!(named.await.unwrap().version, "40");
    let again = registry::register(&store, late()).await.unwrap();
    assert_eq!(again.version, "1");
    assert_eq!(registry::register(&store, late()).await.unwrap(), again);

    // Where another has taken what was agreed on, the next is.
    let origin = asset(None, Some("beaten")).origin.unwrap();
    let agreed = layout::registration(&origin.run, &origin.step, &origin.output, 1);
    store.write(&agreed, "{\"version\": 40}\n").await.unwrap();
    let beaten = registry::register(&store, asset(None, Some("beaten")));
    assert_eq!(beaten.await.unwrap().version, "41");
}

pub(crate) async fn assets_are_registered_once(store: Store) {
    let missing = registry::show(&store, "model", "haiku", "latest")
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let first = registry::register(&store, asset(None, Some("run-1")))
        .await
        .unwrap();
    assert_eq!(first.version, "1");
    assert_eq!(
        registry::register(&store, asset(None, Some("run-1")))
            .await
            .unwrap(),
        first,
        "the same origin"
    );

    // Eight origins at once, each twice: eight versions, each origin with one.
    let racers: Vec<_> = (0..16)
        .map(|number| {
            let store = store.clone();
            let origin = format!("racer-{}", number % 8);
            tokio::spawn(async move {
                registry::register(&store, asset(None, Some(&origin)))
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut by_origin: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for racer in racers {
        let record = racer.await.unwrap();
        by_origin
            .entry(record.origin.unwrap().run)
            .or_default()
            .insert(record.version);
    }
    assert!(
        by_origin.values().all(|versions| versions.len() == 1),
        "{by_origin:?}"
    );
    let versions: BTreeSet<_> = by_origin
        .values()
        .flatten()
        .map(|text| text.parse::<u32>().unwrap())
        .collect();
    assert_eq!(versions, (2..=9).collect());

    // A version that is asked for.
    let named = registry::register(&store, asset(Some("v1.0"), Some("run-2")))
        .await
        .unwrap();
    assert_eq!(
        registry::register(&store, asset(Some("v1.0"), Some("run-2")))
            .await
            .unwrap(),
        named
    );
    let error = registry::register(&store, asset(Some("v1.0"), Some("run-3")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // By hand there is no origin to know it again by.
    assert_eq!(
        registry::register(&store, asset(None, None))
            .await
            .unwrap()
            .version,
        "10"
    );
    let newest = registry::register(&store, asset(None, None)).await.unwrap();
    assert_eq!(newest.version, "11");

    assert_eq!(
        registry::show(&store, "model", "haiku", "latest")
            .await
            .unwrap(),
        newest
    );
    assert_eq!(
        registry::show(&store, "model", "haiku", "1").await.unwrap(),
        first
    );
    registry::archive(&store, "model", "haiku", "11", true)
        .await
        .unwrap();
    assert_eq!(
        registry::show(&store, "model", "haiku", "latest")
            .await
            .unwrap()
            .version,
        "10"
    );
    assert_eq!(
        registry::show(&store, "model", "haiku", "11")
            .await
            .unwrap(),
        newest,
        "by its version it is found"
    );
    let listed = registry::list(&store, "model").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        listed[0].versions,
        ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "v1.0"]
    );
    registry::archive(&store, "model", "haiku", "11", false)
        .await
        .unwrap();
    assert_eq!(
        registry::show(&store, "model", "haiku", "latest")
            .await
            .unwrap(),
        newest
    );
    assert_eq!(registry::list(&store, "data").await.unwrap(), []);
    for bad in ["", "../x", "a/b", ".x", "latest", "a b"] {
        let mut asset = asset(None, None);
        asset.name = bad.into();
        assert_eq!(
            registry::register(&store, asset).await.unwrap_err().kind(),
            ErrorKind::Usage,
            "{bad}"
        );
    }
}

pub(crate) async fn reuse_hits_and_says_why_not(store: Store) {
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "poem", "old pond");
    crate::fixtures::created(&store).await;
    let source = id("write", 1);
    let (files, manifest) = (
        layout::output(&source, &nonce(1), "poem"),
        layout::output_manifest(&source, &nonce(1), "poem"),
    );
    let poem = auria_store::artifact::publish(
        &store,
        local.path(),
        DataType::UriFolder,
        &files,
        &manifest,
    )
    .await
    .unwrap();
    let parts = json!({"command": "write", "inputs": {"seed": "7"}});
    let entry = ReuseEntry {
        key: Digest::of_json(&parts).unwrap(),
        parts: parts.clone(),
        pipeline: "auria kathi/2".into(),
        run: source.run.clone(),
        step: source.step.clone(),
        ended: Timestamp(1_000),
        outputs: BTreeMap::from([("poem".to_owned(), poem.clone())]),
    };
    let taker = "taker".parse().unwrap();
    let references = reuse::References::default();
    let ask = async |parts: &serde_json::Value, max_age_ms| {
        let key = Digest::of_json(parts).unwrap();
        let query = Query {
            run: &taker,
            pipeline: &entry.pipeline,
            step: &entry.step,
            key: &key,
            parts,
            max_age_ms,
        };
        reuse::look_up(&store, &query, &references, Timestamp(61_000))
            .await
            .unwrap()
    };
    let miss = |miss| ReuseAnswer::Miss { miss };
    assert_eq!(ask(&parts, None).await, miss(ReuseMiss::FirstTime));

    reuse::record(&store, &entry).await.unwrap();
    let by = auria_core::outcome::ReuseSource {
        run: source.run.clone(),
        step: source.step.clone(),
    };
    let hit = ReuseAnswer::Hit {
        source: by.clone(),
        outputs: entry.outputs.clone(),
    };
    let reference = layout::reference(&source.run, &taker);
    assert_eq!(
        ask(&parts, Some(59_999)).await,
        miss(ReuseMiss::TooOld { source: by.clone() })
    );
    assert!(!store.exists(&reference).await.unwrap());
    assert_eq!(ask(&parts, Some(60_000)).await, hit);
    assert!(
        store.exists(&reference).await.unwrap(),
        "the reference stands before the hit is told"
    );
    // What stands is not written again for each step that is taken.
    store.delete(&reference).await.unwrap();
    assert_eq!(ask(&parts, None).await, hit);
    assert!(!store.exists(&reference).await.unwrap());

    let other = json!({"command": "write", "inputs": {"seed": "8"}});
    let changed = BTreeMap::from([("inputs.seed".to_owned(), (json!("7"), json!("8")))]);
    assert_eq!(
        ask(&other, None).await,
        miss(ReuseMiss::Changed {
            run: source.run.to_string(),
            parts: changed
        })
    );

    store
        .write(&layout::tombstone(&source.run), "{}")
        .await
        .unwrap();
    assert_eq!(
        ask(&parts, None).await,
        miss(ReuseMiss::BeingDeleted { source: by.clone() })
    );
    store.delete(&layout::tombstone(&source.run)).await.unwrap();
    assert_eq!(ask(&parts, None).await, hit);

    let file = StorePath::parse(format!("{}/poem", poem.prefix)).unwrap();
    store.delete(&file).await.unwrap();
    match ask(&parts, None).await {
        ReuseAnswer::Miss {
            miss: ReuseMiss::OutputsGone { source, detail },
        } => {
            assert_eq!(source, by);
            assert!(detail.contains("outputs/poem/poem"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}
