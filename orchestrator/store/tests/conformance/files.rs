//! Artifacts: what goes in comes out, damage is seen, nothing leaves its folder.

use crate::fixtures::{id, noise, nonce, tree, write};
use auria_core::Digest;
use auria_core::outcome::{Artifact, EntryKind, Manifest, ManifestEntry};
use auria_core::plan::DataType;
use auria_store::artifact::{self, Depth};
use auria_store::{ErrorKind, Store, StorePath, layout};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

pub(crate) async fn publish(store: &Store, local: &Path, data_type: DataType) -> Artifact {
    let (id, nonce) = (id("write", 1), nonce(1));
    let (files, manifest) = (
        layout::output(&id, &nonce, "out"),
        layout::output_manifest(&id, &nonce, "out"),
    );
    artifact::publish(store, local, data_type, &files, &manifest)
        .await
        .unwrap()
}

pub(crate) async fn artifacts_come_back_as_they_went(store: Store) {
    let (local, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = local.path();
    write(root, "poem.txt", "old pond");
    write(root, "deep/er/empty.bin", "");
    write(root, "bin/tool", "#!/bin/sh\n");
    for (path, mode) in [("bin/tool", 0o755), ("poem.txt", 0o640)] {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::create_dir_all(root.join("nothing/here")).unwrap();
    std::fs::set_permissions(
        root.join("nothing/here"),
        std::fs::Permissions::from_mode(0o750),
    )
    .unwrap();
    std::os::unix::fs::symlink("../poem.txt", root.join("bin/link")).unwrap();
    std::os::unix::fs::symlink("gone", root.join("dangling")).unwrap();
    // An absolute link to a place inside becomes a relative one.
    std::os::unix::fs::symlink(root.join("bin/tool"), root.join("deep/absolute")).unwrap();

    let published = publish(&store, root, DataType::UriFolder).await;
    assert_eq!((published.files, published.bytes), (3, 18));
    artifact::verify(&store, &published, Depth::Sizes)
        .await
        .unwrap();
    artifact::verify(&store, &published, Depth::Digests)
        .await
        .unwrap();
    assert_eq!(
        publish(&store, root, DataType::UriFolder).await,
        published,
        "publishing again is the same"
    );

    let fetched = artifact::fetch(&store, &published, back.path())
        .await
        .unwrap();
    assert_eq!(
        (fetched.path.as_path(), fetched.files, fetched.bytes),
        (back.path(), 3, 18)
    );
    let mut expected = tree(root);
    expected.insert("deep/absolute".into(), "-> ../bin/tool".into());
    assert_eq!(tree(back.path()), expected);
    artifact::fetch(&store, &published, back.path())
        .await
        .expect("fetching over an earlier fetch");
    assert_eq!(tree(back.path()), expected);

    // A file is fetched as a file, under its own name.
    let file = publish(&store, &root.join("poem.txt"), DataType::UriFile).await;
    assert_eq!(
        (file.files, file.bytes, file.digest),
        (1, 8, Digest::of(b"old pond"))
    );
    let place = tempfile::tempdir().unwrap();
    let fetched = artifact::fetch(&store, &file, &place.path().join("in"))
        .await
        .unwrap();
    assert_eq!(fetched.path, place.path().join("in/poem.txt"));
    assert_eq!(std::fs::read(fetched.path).unwrap(), b"old pond");
    // The store holds plain files under their own names.
    let stored = StorePath::parse(format!("{}/bin/tool", published.prefix)).unwrap();
    assert_eq!(store.read(&stored).await.unwrap().unwrap(), "#!/bin/sh\n");
}

pub(crate) async fn odd_names_come_back(store: Store) {
    let (local, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = "l".repeat(240);
    let names = [
        "größe",
        "haiku 1.txt",
        "100%",
        "50%25.txt",
        "%2e%2e",
        "a+b&c=d;e,f@g",
        "C#",
        "v#1",
        "q?x*y",
        "[x]{y}~^`'\"<>|",
        "back\\slash",
        " leading",
        "trailing ",
        "dot.",
        "...",
        ".hidden",
        "new\nline",
        "tab\tx",
        "😀/日本語",
        "Å/Å",
        ".auria-names/x",
        long.as_str(),
        "-rf",
        "$HOME",
        "a:b",
        "con",
        "__pycache__/m.pyc",
        "manifest.json",
    ];
    for name in names {
        write(local.path(), name, name);
    }
    let published = publish(&store, local.path(), DataType::UriFolder).await;
    assert_eq!(published.files, names.len() as u64);
    artifact::verify(&store, &published, Depth::Sizes)
        .await
        .unwrap();
    artifact::fetch(&store, &published, back.path())
        .await
        .unwrap();
    assert_eq!(tree(back.path()), tree(local.path()));
}

pub(crate) async fn a_thousand_small_files(store: Store) {
    let (local, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for number in 0..1_000 {
        write(
            local.path(),
            &format!("{:02}/{number}.txt", number % 37),
            format!("file {number}"),
        );
    }
    let begun = Instant::now();
    let published = publish(&store, local.path(), DataType::UriFolder).await;
    let took = begun.elapsed();
    assert_eq!(published.files, 1_000);
    let begun = Instant::now();
    artifact::fetch(&store, &published, back.path())
        .await
        .unwrap();
    eprintln!(
        "1,000 files of 8 bytes: published in {took:.2?}, fetched in {:.2?}",
        begun.elapsed()
    );
    assert_eq!(tree(back.path()), tree(local.path()));
}

pub(crate) async fn a_large_file_goes_in_parts_and_comes_in_ranges(store: Store) {
    let (local, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // One that ends with a part, one in the middle of a part, one byte over a part.
    const MIB: usize = 1024 * 1024;
    for (name, size) in [
        ("large", 64 * MIB),
        ("odd", 20 * MIB + 12_345),
        ("over", 8 * MIB + 1),
        ("part", 8 * MIB),
    ] {
        write(local.path(), name, noise(size, 7));
    }
    let begun = Instant::now();
    let published = publish(&store, local.path(), DataType::UriFolder).await;
    let took = begun.elapsed();
    let begun = Instant::now();
    artifact::fetch(&store, &published, back.path())
        .await
        .unwrap();
    eprintln!(
        "{} MiB in 4 files: published in {took:.2?}, fetched in {:.2?}",
        published.bytes / 1024 / 1024,
        begun.elapsed()
    );
    assert_eq!(tree(back.path()), tree(local.path()));
    artifact::verify(&store, &published, Depth::Digests)
        .await
        .unwrap();
}

pub(crate) async fn a_flipped_byte_is_seen(store: Store) {
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "small", noise(1_000, 1));
    write(local.path(), "large", noise(17 * 1024 * 1024, 2));
    let published = publish(&store, local.path(), DataType::UriFolder).await;
    for name in ["small", "large"] {
        let path = StorePath::parse(format!("{}/{name}", published.prefix)).unwrap();
        let good = store.read(&path).await.unwrap().unwrap();
        let mut bad = good.to_vec();
        let middle = bad.len() - 9;
        bad[middle] ^= 1;
        store.write(&path, bad).await.unwrap();
        let back = tempfile::tempdir().unwrap();
        let error = artifact::fetch(&store, &published, back.path())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        assert!(
            text.contains(path.as_ref()) && text.contains(&Digest::of(&good).to_string()),
            "{text}"
        );
        assert!(!back.path().join(name).exists(), "nothing damaged is left");
        assert_eq!(
            artifact::verify(&store, &published, Depth::Digests)
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Corrupt
        );
        artifact::verify(&store, &published, Depth::Sizes)
            .await
            .unwrap();

        store.write(&path, good.slice(1..)).await.unwrap();
        assert_eq!(
            artifact::verify(&store, &published, Depth::Sizes)
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Corrupt
        );
        let error = artifact::fetch(&store, &published, back.path())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        store.delete(&path).await.unwrap();
        assert_eq!(
            artifact::verify(&store, &published, Depth::Sizes)
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            artifact::fetch(&store, &published, back.path())
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        store.write(&path, good).await.unwrap();
    }
    // A manifest that was changed by hand is not taken either.
    let path = StorePath::parse(&published.manifest).unwrap();
    let text = String::from_utf8(store.read(&path).await.unwrap().unwrap().to_vec()).unwrap();
    store
        .write(&path, text.replace("\"size\": 1000", "\"size\": 1001"))
        .await
        .unwrap();
    assert_eq!(
        artifact::verify(&store, &published, Depth::Sizes)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Corrupt
    );
    store.delete(&path).await.unwrap();
    assert_eq!(
        artifact::verify(&store, &published, Depth::Sizes)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}

/// Manifests as an attacker would write them: each is refused, before any file is.
pub(crate) async fn nothing_is_written_outside(store: Store) {
    let prefix = StorePath::from("evil/files");
    let content = b"evil";
    store
        .write(&prefix.clone().join("x"), &content[..])
        .await
        .unwrap();
    let file = |path: &str| ManifestEntry {
        path: path.into(),
        kind: EntryKind::File {
            mode: 0o4777,
            size: 4,
            digest: Digest::of(content),
            stored_as: Some("x".into()),
        },
    };
    let link = |path: &str, target: &str| ManifestEntry {
        path: path.into(),
        kind: EntryKind::Symlink {
            target: target.into(),
        },
    };
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().join("hit").to_str().unwrap().to_owned();
    let stored_outside = ManifestEntry {
        path: "a".into(),
        kind: EntryKind::File {
            mode: 0o600,
            size: 4,
            digest: Digest::of(content),
            stored_as: Some("../files/x".into()),
        },
    };
    let manifests = [
        vec![file("../hit")],
        vec![file("a/../../hit")],
        vec![file(&absolute)],
        vec![file("./hit")],
        vec![file("a//hit")],
        vec![file("")],
        vec![link("a", "..")],
        vec![link("a", "/etc")],
        vec![link("a", "b/../../..")],
        vec![link("d", "."), file("d/../hit")],
        vec![link("d", "e"), file("d/hit")],
        vec![file("a"), file("a")],
        vec![file("a"), file("a/b")],
        vec![stored_outside],
    ];
    for entries in manifests {
        let manifest = Manifest { entries };
        let path = StorePath::from("evil/manifest.json");
        store.write_json(&path, &manifest).await.unwrap();
        let artifact = Artifact {
            prefix: prefix.to_string(),
            manifest: path.to_string(),
            data_type: DataType::UriFolder,
            files: 1,
            bytes: 4,
            digest: manifest.digest(),
        };
        let to = outside.path().join("in/side");
        let error = artifact::fetch(&store, &artifact, &to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{manifest:?}: {error}");
        assert!(!outside.path().join("in").exists(), "{manifest:?}");
    }
    // A good one next to them does arrive, without the set-user-id bit.
    let manifest = Manifest {
        entries: vec![file("a/hit"), link("b", "a/hit")],
    };
    let path = StorePath::from("evil/manifest.json");
    store.write_json(&path, &manifest).await.unwrap();
    let good = Artifact {
        prefix: prefix.to_string(),
        manifest: path.to_string(),
        data_type: DataType::UriFolder,
        files: 1,
        bytes: 4,
        digest: manifest.digest(),
    };
    artifact::fetch(&store, &good, outside.path())
        .await
        .unwrap();
    let mode = std::fs::metadata(outside.path().join("a/hit"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o777);
    // What stands in the way as a link is replaced and not followed.
    std::fs::remove_file(outside.path().join("a/hit")).unwrap();
    write(outside.path(), "victim", "safe");
    std::os::unix::fs::symlink(outside.path().join("victim"), outside.path().join("a/hit"))
        .unwrap();
    artifact::fetch(&store, &good, outside.path())
        .await
        .unwrap();
    assert_eq!(
        std::fs::read(outside.path().join("victim")).unwrap(),
        b"safe"
    );
}

pub(crate) async fn outputs_must_be_what_they_say(store: Store) {
    let local = tempfile::tempdir().unwrap();
    let root = local.path();
    write(root, "file", "x");
    std::fs::create_dir(root.join("folder")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("folder/link")).unwrap();
    std::os::unix::fs::symlink("folder", root.join("to-folder")).unwrap();
    let prefix = StorePath::from("out");
    let manifest = StorePath::from("out.json");
    for (name, data_type) in [
        ("file", DataType::UriFolder),
        ("folder", DataType::UriFile),
        ("to-folder", DataType::UriFolder),
        ("folder", DataType::UriFolder),
        ("missing", DataType::UriFolder),
    ] {
        let error = artifact::publish(&store, &root.join(name), data_type, &prefix, &manifest)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Local, "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(store.read(&manifest).await.unwrap(), None);
}

mod names {
    use super::{publish, tree, write};
    use auria_core::plan::DataType;
    use auria_store::{Access, Store, StoreUrl, artifact};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Whatever UTF-8 names a file system takes, a store gives back.
        #[test]
        fn any_name_comes_back(names in prop::collection::btree_set("[^/\0]{1,40}", 1..6)) {
            prop_assume!(names.iter().all(|name| name != "." && name != ".."));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (local, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                let files = names.iter().filter(|name| name.len() <= 255);
                for (number, name) in files.enumerate() {
                    write(&local.path().join(format!("f{}", number % 2)), name, name);
                }
                std::fs::create_dir_all(local.path().join("f0")).unwrap();
                let url = StoreUrl::Folder(back.path().join("store"));
                let store = Store::open(&url, Access::Write).await.unwrap();
                let published = publish(&store, local.path(), DataType::UriFolder).await;
                artifact::verify(&store, &published, artifact::Depth::Sizes).await.unwrap();
                let to = back.path().join("back");
                artifact::fetch(&store, &published, &to).await.unwrap();
                assert_eq!(tree(&to), tree(local.path()));
            });
        }
    }
}
