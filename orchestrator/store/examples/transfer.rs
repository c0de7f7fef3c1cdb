//! What `cargo xtask bench` measures of transfers: one artifact into a store or out
//! of it, in a process of its own, and a SeaweedFS to do it with.
//!
//! ```text
//! transfer serve               starts SeaweedFS, prints how to reach it, and stops
//!                              it when standard input ends
//! transfer up LOCAL STORE      publishes the file or folder
//! transfer down STORE LOCAL    fetches what `up` published
//! ```
//! Each prints one line of JSON.

use auria_core::outcome::Artifact;
use auria_core::plan::DataType;
use auria_store::testing::Weed;
use auria_store::{Access, Store, StorePath, artifact};
use std::path::Path;
use std::time::Instant;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve"] => serve().await,
        ["up", local, store] => up(Path::new(local), store).await,
        ["down", store, local] => down(store, Path::new(local)).await,
        _ => Err("transfer serve | up LOCAL STORE | down STORE LOCAL".into()),
    }
}

async fn serve() -> Result<(), Error> {
    let weed = Weed::start().await.ok_or("SeaweedFS is not installed")?;
    let env: std::collections::BTreeMap<_, _> = weed.env().into_iter().collect();
    println!(
        "{}",
        serde_json::json!({"env": env, "store": weed.url("").to_string()})
    );
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    Ok(())
}

fn places() -> (StorePath, StorePath, StorePath) {
    (
        StorePath::from("files"),
        StorePath::from("manifest.json"),
        StorePath::from("artifact.json"),
    )
}

async fn up(local: &Path, store: &str) -> Result<(), Error> {
    let store = Store::open(&store.parse()?, Access::Read).await?;
    let (files, manifest, described) = places();
    let begun = Instant::now();
    let published =
        artifact::publish(&store, local, DataType::default(), &files, &manifest).await?;
    report(begun, &published)?;
    store.write_json(&described, &published).await?;
    Ok(())
}

async fn down(store: &str, local: &Path) -> Result<(), Error> {
    let store = Store::open(&store.parse()?, Access::Read).await?;
    let published: Option<Artifact> = store.read_json(&places().2).await?;
    let published = published.ok_or("nothing was published there")?;
    let begun = Instant::now();
    artifact::fetch(&store, &published, local).await?;
    report(begun, &published)
}

fn report(begun: Instant, artifact: &Artifact) -> Result<(), Error> {
    let seconds = begun.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .ok_or("the kernel does not say what was resident")?;
    println!(
        "{}",
        serde_json::json!({
            "seconds": seconds,
            "files": artifact.files,
            "bytes": artifact.bytes,
            "peak_kib": peak,
        })
    );
    Ok(())
}
