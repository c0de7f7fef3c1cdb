//! What transfers hold in memory, seen from outside: a process of its own moves a
//! file of 1 GiB both ways, and the kernel says how much it ever had resident.

use auria_core::plan::DataType;
use auria_store::testing::Weed;
use auria_store::{Access, Store, StorePath, artifact};
use std::os::unix::fs::FileExt;
use std::path::Path;

const CHILD: &str = "AURIA_TEST_PEAK_FOLDER";
const GIB: u64 = 1024 * 1024 * 1024;
const MOST_KIB: u64 = 256 * 1024;

pub(crate) async fn a_large_file_takes_little_memory(weed: &Weed) {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("large")).unwrap();
    // Holes read as zeros and take no disk; the marks make each part another.
    file.set_len(GIB).unwrap();
    for at in (0..GIB).step_by(4_000_037) {
        file.write_all_at(&at.to_be_bytes(), at.min(GIB - 8))
            .unwrap();
    }
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "memory::child_that_transfers",
            "--ignored",
            "--nocapture",
        ])
        .envs(weed.env())
        .env(CHILD, folder.path())
        .env("AURIA_TEST_PEAK_STORE", weed.url("memory").to_string());
    let done = child.output().await.unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    for way in ["up", "down"] {
        let found = text.lines().find_map(|line| {
            let (_, found) = line.split_once(&format!("peak after {way}: "))?;
            found.trim_end_matches(" KiB").parse::<u64>().ok()
        });
        let peak = found.unwrap_or_else(|| panic!("no peak in {text}"));
        eprintln!("1 GiB {way}: peak {} MiB resident", peak / 1024);
        assert!(peak < MOST_KIB, "{way}: {peak} KiB resident");
        assert!(peak > 8 * 1024, "{way}: {peak} KiB is no measure");
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// Not a test: the process that [`a_large_file_takes_little_memory`] looks at.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "started by a_large_file_takes_little_memory"]
async fn child_that_transfers() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    let url = std::env::var("AURIA_TEST_PEAK_STORE").unwrap();
    let store = Store::open(&url.parse().unwrap(), Access::Read)
        .await
        .unwrap();
    let published = artifact::publish(
        &store,
        &folder.join("large"),
        DataType::UriFile,
        &StorePath::from("files"),
        &StorePath::from("manifest.json"),
    )
    .await
    .unwrap();
    assert_eq!(published.bytes, GIB);
    println!("\npeak after up: {} KiB", peak_kib());
    artifact::fetch(&store, &published, &folder.join("back"))
        .await
        .unwrap();
    println!("\npeak after down: {} KiB", peak_kib());
}
