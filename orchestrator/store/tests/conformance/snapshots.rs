//! Snapshots: what is left out, what is uploaded, what a change does.

use crate::fixtures::{tree, write};
use auria_core::plan::DataType;
use auria_store::{ErrorKind, Store, artifact, snapshot};
use std::path::Path;

async fn names(root: &Path) -> Vec<String> {
    let scanned = snapshot::scan(root, &[root.join("my-store")])
        .await
        .unwrap();
    scanned
        .manifest
        .entries
        .into_iter()
        .map(|entry| entry.path)
        .collect()
}

pub(crate) async fn ignore_rules_and_names(store: Store) {
    let local = tempfile::tempdir().unwrap();
    let root = local.path();
    for path in [
        "main.py",
        "data/big.bin",
        "data/keep.bin",
        "out.log",
        "sub/x.log",
        "sub/x.py",
        ".git/config",
        ".auria/layout.json",
        "my-store/layout.json",
        "sub/.git/config",
    ] {
        write(root, path, path);
    }
    std::fs::create_dir(root.join("empty")).unwrap();
    let all = [
        "data/big.bin",
        "data/keep.bin",
        "empty",
        "main.py",
        "out.log",
        "sub/x.log",
        "sub/x.py",
    ];
    assert_eq!(names(root).await, all);

    write(root, ".gitignore", "*.log\n/data/*\n!/data/keep.bin\n");
    write(root, "sub/.gitignore", "!x.log\n");
    assert_eq!(
        names(root).await,
        [
            ".gitignore",
            "data/keep.bin",
            "empty",
            "main.py",
            "sub/.gitignore",
            "sub/x.log",
            "sub/x.py"
        ]
    );

    // Where there is an .amlignore, .gitignore says nothing: out.log is in again.
    write(
        root,
        ".amlignore",
        "# for the snapshot\ndata/\n*.py\n!main.py\n",
    );
    assert_eq!(
        names(root).await,
        [
            ".amlignore",
            ".gitignore",
            "empty",
            "main.py",
            "out.log",
            "sub/.gitignore",
            "sub/x.log"
        ]
    );

    // What is left out changes nothing, what is not does; so does a mode.
    let scan = async || {
        snapshot::scan(root, &[root.join("my-store")])
            .await
            .unwrap()
    };
    let before = scan().await;
    write(root, "data/big.bin", "other");
    assert_eq!(scan().await.digest, before.digest);
    write(root, "main.py", "print()");
    let after = scan().await;
    assert_ne!(after.digest, before.digest);
    std::fs::set_permissions(
        root.join("main.py"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    assert_ne!(scan().await.digest, after.digest);

    let scanned = scan().await;
    assert!(snapshot::upload(&store, &scanned).await.unwrap());
    let back = tempfile::tempdir().unwrap();
    snapshot::fetch(&store, &scanned.digest, DataType::UriFolder, back.path())
        .await
        .unwrap();
    let mut expected = tree(root);
    expected.retain(|path, _| {
        !path.starts_with("data")
            && !path.contains(".git/")
            && !path.ends_with(".git")
            && !path.starts_with(".auria")
            && !path.starts_with("my-store")
            && path != "sub/x.py"
    });
    assert_eq!(tree(back.path()), expected);
}

pub(crate) async fn uploads_only_what_is_new(store: Store) {
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "weights.bin", "12345");
    let scanned = snapshot::scan(&local.path().join("weights.bin"), &[])
        .await
        .unwrap();
    assert!((scanned.is_file, scanned.files(), scanned.bytes()) == (true, 1, 5));
    let error = snapshot::artifact(&store, &scanned.digest, DataType::UriFile)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(snapshot::upload(&store, &scanned).await.unwrap());
    assert!(
        !snapshot::upload(&store, &scanned).await.unwrap(),
        "it is there"
    );

    let artifact = snapshot::artifact(&store, &scanned.digest, DataType::UriFile)
        .await
        .unwrap();
    assert_eq!(artifact, scanned.as_artifact(DataType::UriFile));
    assert_eq!(artifact.digest, auria_core::Digest::of(b"12345"));
    artifact::verify(&store, &artifact, artifact::Depth::Digests)
        .await
        .unwrap();
    let back = tempfile::tempdir().unwrap();
    let fetched = snapshot::fetch(&store, &scanned.digest, DataType::UriFile, back.path())
        .await
        .unwrap();
    assert_eq!(fetched.path, back.path().join("weights.bin"));

    // Through a link the file keeps the name that was given.
    std::os::unix::fs::symlink("weights.bin", local.path().join("model.bin")).unwrap();
    let linked = snapshot::scan(&local.path().join("model.bin"), &[])
        .await
        .unwrap();
    assert_eq!(linked.manifest.entries[0].path, "model.bin");
    assert_ne!(
        linked.digest, scanned.digest,
        "a file's name is a part of what it is"
    );
    assert!(snapshot::upload(&store, &linked).await.unwrap());
}

pub(crate) async fn a_change_between_scan_and_upload_is_seen(store: Store) {
    for change in ["content", "new", "gone"] {
        let local = tempfile::tempdir().unwrap();
        write(local.path(), "a", "one");
        write(local.path(), "b", vec![7; 9 * 1024 * 1024]);
        let scanned = snapshot::scan(local.path(), &[]).await.unwrap();
        match change {
            "content" => {
                write(local.path(), "a", "two");
                write(local.path(), "b", vec![8; 9 * 1024 * 1024]);
            }
            "new" => write(local.path(), "c", "three"),
            _ => std::fs::remove_file(local.path().join("a")).unwrap(),
        }
        let error = snapshot::upload(&store, &scanned).await.unwrap_err();
        assert!(error.to_string().contains("changed"), "{change}: {error}");
        assert!(!snapshot::exists(&store, &scanned.digest).await.unwrap());
        // Bytes that do not belong there never stood there, for others upload the same.
        for meta in store
            .list(&auria_store::layout::snapshot(&scanned.digest))
            .await
            .unwrap()
        {
            let bytes = store.read(&meta.location).await.unwrap().unwrap();
            assert!(
                bytes == "one" || bytes == vec![7; 9 * 1024 * 1024],
                "{change}: {}",
                meta.location
            );
        }
    }
}
