//! A gallery in a folder, through the program.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod support;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use auria_post::entry::Entry;
use auria_post::gallery::LOCK_FILE;
use support::{all_at_once, post, shown, work};

fn entry(path: &std::path::Path) -> Entry {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_work_becomes_an_entry_and_a_page() {
    let root = tempfile::tempdir().unwrap();
    let work = work(root.path(), 1);
    let gallery = root.path().join("gallery");
    all_at_once(vec![post(&work, gallery.to_str().unwrap(), &[])]);

    let written = entry(&work.join("out/entry.json"));
    assert_eq!(written.lines[1], "an \"old\" pond & a frog");
    assert_eq!(
        written.mood.as_deref(),
        Some("joy"),
        "the mood it was coloured in"
    );
    assert_eq!(written.seed, Some(1));
    assert_eq!((written.coloured.width, written.coloured.height), (24, 16));
    assert!(
        written
            .caption
            .ends_with("coloured in joy after “Waves” by Auria.")
    );

    let kept = gallery.join("entries").join(&written.key);
    assert_eq!(entry(&kept.join("entry.json")), written);
    for picture in ["painting.png", "coloured.png"] {
        let posted = fs::read(kept.join(picture)).unwrap();
        let own = work.join(picture.trim_end_matches(".png")).join(picture);
        assert_eq!(posted, fs::read(own).unwrap());
        assert_eq!(posted, fs::read(work.join("out").join(picture)).unwrap());
    }

    let page = fs::read_to_string(gallery.join("index.html")).unwrap();
    assert_eq!(shown(&page), 1);
    assert!(
        page.contains("poem 1 &lt;begins&gt;"),
        "texts are escaped: {page}"
    );
    assert!(!page.contains("<script"));
    assert!(page.contains(&format!("entries/{}/coloured.png", written.key)));
}

#[test]
fn the_same_work_twice_is_one_entry_with_its_first_time() {
    let root = tempfile::tempdir().unwrap();
    let work = work(root.path(), 2);
    let gallery = root.path().join("gallery");
    let gallery_text = gallery.to_str().unwrap();
    all_at_once(vec![post(&work, gallery_text, &[])]);
    let first = entry(&work.join("out/entry.json"));
    let page = fs::read(gallery.join("index.html")).unwrap();

    sleep(Duration::from_millis(5));
    all_at_once(vec![post(&work, gallery_text, &[])]);
    assert_eq!(entry(&work.join("out/entry.json")), first);
    assert_eq!(fs::read_dir(gallery.join("entries")).unwrap().count(), 1);
    assert_eq!(fs::read(gallery.join("index.html")).unwrap(), page);
}

#[test]
fn twelve_processes_at_once_lose_no_entry() {
    let root = tempfile::tempdir().unwrap();
    let gallery = root.path().join("gallery");
    let gallery_text = gallery.to_str().unwrap();
    let commands = (0..12)
        .map(|number| post(&work(root.path(), number), gallery_text, &[]))
        .collect();
    all_at_once(commands);
    let page = fs::read_to_string(gallery.join("index.html")).unwrap();
    assert_eq!(shown(&page), 12);
    for number in 0..12 {
        let key = entry(&root.path().join(format!("work-{number}/out/entry.json"))).key;
        assert!(page.contains(&key), "work {number} is not on the page");
    }
}

#[test]
fn the_page_waits_for_the_lock_of_another_writer() {
    let root = tempfile::tempdir().unwrap();
    let work = work(root.path(), 7);
    let gallery = root.path().join("gallery");
    fs::create_dir_all(&gallery).unwrap();
    let lock = fs::File::create(gallery.join(LOCK_FILE)).unwrap();
    lock.lock().unwrap();
    let child = post(&work, gallery.to_str().unwrap(), &[]).spawn().unwrap();
    let posted = || {
        let mut folders = fs::read_dir(gallery.join("entries")).ok()?;
        let entry = folders.next()?.ok()?.path().join("entry.json");
        entry.exists().then_some(())
    };
    let begun = Instant::now();
    while posted().is_none() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is posted"
        );
        sleep(Duration::from_millis(5));
    }
    // The entry needs no lock; the page does.
    sleep(Duration::from_millis(300));
    assert!(!gallery.join("index.html").exists());
    lock.unlock().unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let page = fs::read_to_string(gallery.join("index.html")).unwrap();
    assert_eq!(shown(&page), 1);
}

#[test]
fn newest_first_and_an_entry_without_its_record_is_not_shown() {
    let root = tempfile::tempdir().unwrap();
    let gallery = root.path().join("gallery");
    let gallery_text = gallery.to_str().unwrap();
    for number in [5, 3] {
        all_at_once(vec![post(&work(root.path(), number), gallery_text, &[])]);
        sleep(Duration::from_millis(5));
    }
    // What a post that died after its pictures leaves.
    let half = gallery.join("entries").join("0".repeat(64));
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("painting.png"), b"half").unwrap();
    all_at_once(vec![post(&work(root.path(), 4), gallery_text, &[])]);

    let page = fs::read_to_string(gallery.join("index.html")).unwrap();
    assert_eq!(shown(&page), 3);
    let place = |number| page.find(&format!("poem {number} ")).unwrap();
    assert!(place(4) < place(3) && place(3) < place(5));
}

#[test]
fn a_broken_picture_posts_nothing() {
    let root = tempfile::tempdir().unwrap();
    let work = work(root.path(), 6);
    let picture = work.join("coloured/coloured.png");
    let whole = fs::read(&picture).unwrap();
    fs::write(&picture, &whole[..whole.len() - 20]).unwrap();
    let gallery = root.path().join("gallery");
    let output = post(&work, gallery.to_str().unwrap(), &[])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("coloured.png is not a whole PNG picture"),
        "{said}"
    );
    assert!(!gallery.exists());
    assert!(!work.join("out").exists());
}
