//! What steps cost on a cluster, beside bare Pods that do the same: what `cargo xtask bench
//! cluster` runs and prints. It is no test: without `AURIA_MEASURES`, the file that the numbers are
//! written to, it does nothing.

mod bare;
mod machine;
mod ours;
mod pods;

use auria_tests::cluster::Cluster;
use auria_tests::installation;
use auria_tests::measures::{self, Numbers, setting};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Steps of the chain.
const CHAIN: usize = 10;
/// Steps side by side, and how many of them at once.
const WIDE: (usize, usize) = (100, 20);
/// The same of the large run.
const LARGE: (usize, usize) = (500, 50);

fn main() -> ExitCode {
    measures::main(|| {
        let cluster = Cluster::find()?;
        installation::load_images(&cluster);
        let manifests = auria_tests::project().join("tests/tests/cluster_measures");
        installation::install(&cluster, &manifests);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        Ok(runtime.block_on(measure(&cluster)))
    })
}

async fn measure(cluster: &Cluster) -> Numbers {
    let mut numbers = Numbers::default();
    let namespace = cluster.namespace();
    let bare = bare::Bare::new(cluster, namespace.name()).await;
    let ours = ours::Ours::new(cluster).await;
    // What the cluster does by itself.
    let before = machine::requests(cluster);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = (machine::requests(cluster) - before) / 10.0;
    numbers.add("API requests in a second", "the idle cluster", "", &[idle]);

    let mut starts = Vec::new();
    for number in 0..CHAIN {
        starts.push(bare.start_of(number).await);
    }
    let work = "a Pod's creation to its process";
    numbers.add(work, "bare Pods", "ms", &starts);
    let (chain, wide, large) = (
        format!("chain of {CHAIN} steps"),
        format!("{} steps, {} at once", WIDE.0, WIDE.1),
        format!("{} steps, {} at once", LARGE.0, LARGE.1),
    );
    // In turns, so that what else the machine does meets both.
    for round in 0..setting("AURIA_MEASURES_ROUNDS", 3) {
        let took = bare.chain(CHAIN, &format!("c{round}")).await;
        numbers.add(&chain, "bare Pods", "s", &[took]);
        let run = ours.chain(CHAIN).await;
        numbers.add(&chain, "auria-pipeline", "s", &[run.took]);
        for (part, values) in run.parts() {
            numbers.add(
                &format!("a step of the chain: {part}"),
                "auria-pipeline",
                "ms",
                &values,
            );
        }
    }
    let count = |requests: f64, seconds: f64, of: usize| {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let each = (requests - idle * seconds) / of as f64;
        each
    };
    let before = machine::requests(cluster);
    let took = bare.wide(WIDE.0, WIDE.1).await;
    let requests = machine::requests(cluster) - before;
    numbers.add(&wide, "bare Pods", "s", &[took]);
    let each = count(requests, took, WIDE.0);
    numbers.add("API requests for a step", "bare Pods", "", &[each]);
    let run = ours.wide(WIDE.0, "twenty").await;
    numbers.add(&wide, "auria-pipeline", "s", &[run.took]);

    let used = machine::Used::of_controller(cluster);
    let before = machine::requests(cluster);
    let run = ours.wide(LARGE.0, "fifty").await;
    let requests = machine::requests(cluster) - before;
    numbers.add(&large, "auria-pipeline", "s", &[run.took]);
    let each = count(requests, run.took, LARGE.0);
    numbers.add("API requests for a step", "auria-pipeline", "", &[each]);
    let spent = machine::Used::of_controller(cluster);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let cpu = (spent.cpu - used.cpu) / LARGE.0 as f64 * 1e3;
    numbers.add(
        "the controller's processor time for a step",
        "auria-pipeline",
        "ms",
        &[cpu],
    );
    numbers.add(
        "the controller's memory at most",
        "auria-pipeline",
        "MiB",
        &[spent.memory],
    );
    numbers
}

/// Milliseconds since the epoch: all of the cluster is on this machine, and has its clock.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1e3)
}
