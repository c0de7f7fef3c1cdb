//! Transfers through a proxy that fails, stalls and lies, before a real S3 server:
//! what arrives is right by its digest, or there is an error that names the object
//! and the cause. Which faults meet which requests is drawn from a seed.

use crate::fixtures::{noise, tree, write};
use auria_core::outcome::Artifact;
use auria_core::plan::DataType;
use auria_store::artifact::{self, Depth};
use auria_store::testing::{Asked, FaultProxy, Hits, Weed, Wrong};
use auria_store::{Access, Created, Store, StoreError, StorePath};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// Artifacts that are published, fetched, published anew and fetched.
const TRANSFERS: u64 = 50;
/// At once: more would only wait for two cores.
const AT_ONCE: usize = 8;
/// Not a measure of speed: what takes this long has hung.
const HUNG: Duration = Duration::from_secs(300);

fn seed() -> u64 {
    match std::env::var("AURIA_TEST_SEED") {
        Ok(text) => text.parse().expect("AURIA_TEST_SEED is a number"),
        Err(_) => 1,
    }
}

/// A store behind `proxy`, whose requests are given up after a second of nothing.
async fn behind(weed: &Weed, proxy: &FaultProxy, prefix: &str) -> Store {
    let endpoint = proxy.endpoint();
    let env = weed.env();
    let mut settings: Vec<_> = env
        .iter()
        .filter(|(name, _)| *name != "AWS_ENDPOINT_URL")
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    settings.extend([
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_READ_TIMEOUT", "1s"),
    ]);
    // Opened for reading: a probe through this proxy would refuse the store, rightly.
    let url = weed.url(prefix);
    for _ in 0..20 {
        if let Ok(store) = Store::open_with(&url, Access::Read, &settings).await {
            return store;
        }
    }
    panic!("the store could not be opened through the proxy");
}

/// A fault for this part of all requests, drawn from those that mean something for it.
fn schedule(seed: u64, part: f64) -> impl Fn(Asked, &str) -> Option<Wrong> + Send + Sync {
    let random = Mutex::new(StdRng::seed_from_u64(seed));
    move |asked, _| {
        let mut random = random.lock().unwrap();
        if !random.random_bool(part) {
            return None;
        }
        let fitting: Vec<_> = Wrong::ALL
            .into_iter()
            .filter(|wrong| wrong.fits(asked))
            .collect();
        Some(fitting[random.random_range(0..fitting.len())])
    }
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text += &format!(": {error}");
        next = error.source();
    }
    text
}

fn print(what: &str, hits: &Hits) {
    eprintln!("{what}:");
    for ((asked, wrong), count) in hits {
        eprintln!(
            "  {:<9} {:<17} {count}",
            format!("{asked:?}"),
            format!("{wrong:?}")
        );
    }
}

#[derive(Debug, Default)]
struct Tally {
    right: u64,
    refused: u64,
}

impl Tally {
    /// Counts an operation that was right or says why not, and of what.
    fn count<T>(&mut self, what: &str, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(done) => {
                self.right += 1;
                Some(done)
            }
            Err(error) => {
                self.refused += 1;
                let text = chain(&error);
                assert!(
                    text.contains(what),
                    "it does not name the object {what}: {text}"
                );
                assert!(text.len() > what.len() + 20, "it names no cause: {text}");
                None
            }
        }
    }
}

struct Paths {
    files: StorePath,
    manifest: StorePath,
}

async fn publish(store: &Store, local: &Path, paths: &Paths) -> Result<Artifact, StoreError> {
    let folder = DataType::UriFolder;
    artifact::publish(store, local, folder, &paths.files, &paths.manifest).await
}

/// One artifact: there and back, and once more with other bytes under the same names.
async fn transfer(number: u64, lying: &Store, honest: &Store) -> Tally {
    let name = format!("t{number}");
    let paths = Paths {
        files: StorePath::from(format!("{name}/files")),
        manifest: StorePath::from(format!("{name}/manifest.json")),
    };
    let mut tally = Tally::default();
    for version in 0..2 {
        let local = tempfile::tempdir().unwrap();
        let seed = (number * 2 + version) as u8;
        write(local.path(), "empty", "");
        write(local.path(), "deep/small", noise(3_000, seed));
        write(local.path(), "middle", noise(300_000, seed.wrapping_add(7)));
        if number.is_multiple_of(2) {
            // Three parts, one of them odd.
            write(
                local.path(),
                "large",
                noise(18_000_001, seed.wrapping_add(13)),
            );
        }
        // A claim is never shared, so nothing else writes below this prefix: what an
        // attempt to publish leaves is replaced by the next.
        let mut published = None;
        for _ in 0..4 {
            published = tally.count(&name, publish(lying, local.path(), &paths).await);
            if published.is_some() {
                break;
            }
        }
        let Some(published) = published else { continue };
        // What is said to be there is there, every byte of it.
        artifact::verify(honest, &published, Depth::Digests)
            .await
            .unwrap_or_else(|error| panic!("{name} was published wrong: {}", chain(&error)));
        for _ in 0..2 {
            let back = tempfile::tempdir().unwrap();
            let fetched = artifact::fetch(lying, &published, back.path()).await;
            let done = tally.count(&name, fetched).is_some();
            let (there, expected) = (tree(back.path()), tree(local.path()));
            if done {
                assert_eq!(there, expected, "{name} was fetched wrong");
            }
            // What was cut short has left whole files, or none.
            for (path, content) in there {
                // Folders are made first.
                let is_folder = content.ends_with("folder") || content.starts_with("empty folder");
                if done || !is_folder {
                    assert_eq!(Some(&content), expected.get(&path), "{name}: {path}");
                }
            }
        }
        let looked = artifact::verify(lying, &published, Depth::Sizes).await;
        tally.count(&name, looked);
    }
    tally
}

pub(crate) async fn nothing_wrong_is_accepted(weed: &Weed) {
    let seed = seed();
    eprintln!("AURIA_TEST_SEED={seed}");
    let honest = weed.open(&weed.url("lies"), Access::Read).await.unwrap();
    let proxy = FaultProxy::start(weed.endpoint(), schedule(seed, 0.2))
        .await
        .unwrap();
    let lying = behind(weed, &proxy, "lies").await;
    let tallies: Vec<Tally> = futures::stream::iter(0..TRANSFERS)
        .map(|number| {
            let (lying, honest) = (&lying, &honest);
            async move {
                let done = tokio::time::timeout(HUNG, transfer(number, lying, honest)).await;
                done.unwrap_or_else(|_| panic!("transfer {number} hangs"))
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let right: u64 = tallies.iter().map(|tally| tally.right).sum();
    let refused: u64 = tallies.iter().map(|tally| tally.refused).sum();
    let hits = proxy.hits();
    print("faults in transfers", &hits);
    eprintln!("{right} operations right, {refused} refused with their cause");
    assert!(right + refused >= 4 * TRANSFERS);
    assert!(right > refused, "{right} right, {refused} refused");
    for wrong in Wrong::ALL {
        let count: u64 = hits
            .iter()
            .filter(|((_, found), _)| *found == wrong)
            .map(|(_, count)| count)
            .sum();
        assert!(count > 0, "{wrong:?} never happened");
    }
    for asked in [
        Asked::Put,
        Asked::Begin,
        Asked::Part,
        Asked::Complete,
        Asked::Get,
        Asked::Head,
        Asked::List,
    ] {
        assert!(
            hits.keys().any(|(found, _)| *found == asked),
            "{asked:?} never met a fault"
        );
    }
}

/// Four contend for each key: one wins at most, those who lost know the record that
/// is there, and what is there is one of the four.
pub(crate) async fn nobody_wins_twice(weed: &Weed) {
    let honest = weed.open(&weed.url("races"), Access::Read).await.unwrap();
    let proxy = FaultProxy::start(weed.endpoint(), schedule(seed() ^ 0xACE, 0.5))
        .await
        .unwrap();
    let lying = behind(weed, &proxy, "races").await;
    let (mut won, mut lost, mut refused) = (0, 0, 0);
    for round in 0..25 {
        let path = StorePath::from(format!("key-{round}"));
        let record = |number: u64| format!("{{\"round\": {round}, \"by\": {number}}}\n");
        let racers = (0..4_u64).map(|number| {
            let (lying, path, mine) = (&lying, &path, record(number));
            async move {
                let bytes = mine.clone().into();
                let created = lying.create_once(path, bytes, |found| found == mine.as_bytes());
                let created = tokio::time::timeout(HUNG, created).await;
                (number, created.unwrap_or_else(|_| panic!("{path} hangs")))
            }
        });
        let ends: Vec<_> = futures::future::join_all(racers).await;
        let there = honest.read(&path).await.unwrap();
        let mut winners = Vec::new();
        for (number, end) in ends {
            match end {
                Ok(Created::Won) => winners.push(number),
                Ok(Created::Lost(found)) => {
                    lost += 1;
                    assert_eq!(Some(found), there, "{path}: lost to what is not there");
                }
                Err(error) => {
                    refused += 1;
                    let text = chain(&error);
                    assert!(text.contains(path.as_ref()), "{text}");
                }
            }
        }
        won += winners.len();
        assert!(winners.len() <= 1, "{path} was won by {winners:?}");
        if let Some(winner) = winners.first() {
            let there = there.as_deref();
            assert_eq!(there, Some(record(*winner).as_bytes()), "{path}");
        }
    }
    let hits = proxy.hits();
    print("faults in races", &hits);
    eprintln!("{won} won, {lost} lost, {refused} refused with their cause");
    assert!(won >= 15, "{won} of 25 races were won");
    for wrong in [
        Wrong::AppliedThenCut,
        Wrong::AppliedThenFails,
        Wrong::Busy,
        Wrong::FlipSent,
    ] {
        let hit = hits.get(&(Asked::Create, wrong));
        assert!(hit.is_some(), "{wrong:?} never met a race");
    }
}
