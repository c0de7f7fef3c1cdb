//! Much through the broker: 10,000 small files and one of a gibibyte, into a bucket and out
//! of it, in bounded memory of the launcher and of the broker.

use crate::world::{Behind, World, text, ticket, with_output};
use auria_core::plan::{DataType, InputMode, TemplatePart};
use auria_core::ticket::TicketInput;
use auria_store::testing::Weed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

const FILES: u64 = 10_000;
const LARGE: u64 = 1024 * 1024 * 1024;
/// All that a transfer may hold, and what a process holds anyway.
const MOST_KIB: i64 = 256 * 1024;

/// The most that this process ever held, in KiB.
fn own_peak() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

pub(crate) async fn much_goes_straight_to_a_bucket() {
    let Some(weed) = Weed::start().await else {
        return;
    };
    let world = World::new(Behind::Weed(weed)).await;
    let made = || TemplatePart::Output("made".to_owned());
    let make = with_output(
        ticket(
            "make",
            &[
                text("set -e; mkdir "),
                made(),
                text(&format!(
                    "/small; i=0; while test $i -lt {FILES}; do echo $i > "
                )),
                made(),
                text(&format!(
                    "/small/$i; i=$((i + 1)); done; head -c {LARGE} /dev/zero > "
                )),
                made(),
                text("/large"),
            ],
        ),
        "made",
        DataType::UriFolder,
    );
    let peaks = Peaks::watch();
    assert!(world.launch(&make).await.success());
    let outcome = world.outcome(&make).await.unwrap();
    let artifact = outcome.outputs["made"].clone();
    assert_eq!(artifact.files, FILES + 1);
    let published = outcome.timings.published_ms;
    let mut take = ticket(
        "take",
        &[
            text("ls "),
            TemplatePart::Input("made".to_owned()),
            text("/small | wc -l; wc -c < "),
            TemplatePart::Input("made".to_owned()),
            text("/large"),
        ],
    );
    let mode = InputMode::Download;
    let input = TicketInput::Artifact { artifact, mode };
    take.inputs.insert("made".to_owned(), input);
    assert!(world.launch(&take).await.success());
    let outcome = world.outcome(&take).await.unwrap();
    assert_eq!(outcome.last_lines, [FILES.to_string(), LARGE.to_string()]);
    let (launchers, broker) = (peaks.most(), own_peak());
    assert!(launchers > 0, "no launcher was seen");
    let through = world.broker.through();
    eprintln!(
        "published in {published:?} ms, fetched in {:?} ms; launchers held at most {launchers} KiB, \
         the broker's process {broker} KiB; {through} bytes went through the broker",
        outcome.timings.fetched_ms
    );
    assert!(launchers < MOST_KIB, "{launchers} KiB");
    assert!(broker < 2 * MOST_KIB, "{broker} KiB");
    // Manifests and logs, and no file.
    assert!(through < 16 * 1024 * 1024, "{through} bytes");
}

/// The most that launchers held, which are children of this process beside SeaweedFS.
struct Peaks {
    most: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
    watching: Option<std::thread::JoinHandle<()>>,
}

impl Peaks {
    fn watch() -> Self {
        let (most, over) = (Arc::<AtomicI64>::default(), Arc::<AtomicBool>::default());
        let (seen, end) = (most.clone(), over.clone());
        let watching = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                seen.fetch_max(of_launchers(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            most,
            over,
            watching: Some(watching),
        }
    }

    fn most(mut self) -> i64 {
        self.over.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            watching.join().unwrap();
        }
        self.most.load(Ordering::Relaxed)
    }
}

/// The high-water mark, in KiB, of the largest launcher that this process started.
fn of_launchers() -> i64 {
    let own = std::process::id().to_string();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let peaks = entries.filter_map(|entry| {
        let status = std::fs::read_to_string(entry.ok()?.path().join("status")).ok()?;
        // A launcher that started itself anew may have another name.
        let ours = field(&status, "PPid:")? == own && field(&status, "Name:")? != "weed";
        ours.then(|| field(&status, "VmHWM:")?.parse().ok())?
    });
    peaks.max().unwrap_or(0)
}
