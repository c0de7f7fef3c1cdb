//! docs/install.md, followed on the test cluster: what stands in its blocks is run in their order.
//! What differs from one reader to the next (the registry, the store, what the guide says of a
//! store of one's own) is exchanged, and nothing else; images reach the nodes without a registry,
//! so the block that pushes them is read and not run.

use auria_tests::cluster::{Cluster, wait};
use auria_tests::installation;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

auria_tests::cluster_tests![
    unless installation::without_images();
    the_guide_installs_runs_and_removes,
];

/// A block of the guide: its language, and what stands in it.
struct Block {
    language: String,
    text: String,
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let inner = lines.by_ref().take_while(|line| !line.starts_with("```"));
        let text = inner.map(|line| format!("{line}\n")).collect();
        let language = language.to_owned();
        blocks.push(Block { language, text });
    }
    blocks
}

/// A reader of the guide, in a folder that looks like the project.
struct Reader {
    folder: tempfile::TempDir,
    path: String,
    kubeconfig: PathBuf,
}

impl Reader {
    fn new(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let project = auria_tests::project();
        for part in ["manifests", "pipelines.yaml", "steps"] {
            auria_tests::copy(&project.join(part), &folder.path().join(part));
        }
        let bin = cluster.home().join("bin");
        let others = std::env::var("PATH").unwrap_or_default();
        let programs = auria_tests::programs();
        Self {
            folder,
            path: format!("{}:{}:{others}", bin.display(), programs.display()),
            kubeconfig: cluster.kubeconfig(),
        }
    }

    /// Runs what stands in a block, and says what it printed.
    fn run(&self, script: &str) -> String {
        // A reader would give up, too.
        let output = Command::new("timeout")
            .args(["240", "sh", "-e", "-c", script])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.folder.path())
            .env_remove("AURIA_STORE")
            .env_remove("AURIA_TARGET")
            .output()
            .expect("sh starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let erred = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}\n{erred}");
        said
    }
}

/// Exchanges what must be there.
fn exchanged(text: &str, what: &[(&str, &str)]) -> String {
    what.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the guide does not say {from}: {text}");
        text.replace(from, to)
    })
}

/// The names of the images that are pushed, and those that there are Dockerfiles for.
fn images_are_named(block: &str) {
    let line = block
        .lines()
        .find_map(|line| line.strip_prefix("for image in "));
    let names = line.and_then(|line| line.strip_suffix("; do"));
    let named: BTreeSet<_> = names
        .expect("a loop")
        .split(' ')
        .map(str::to_owned)
        .collect();
    let files = std::fs::read_dir(auria_tests::project().join("dockerfiles")).expect("a folder");
    let made: BTreeSet<_> = files
        .flatten()
        .filter_map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.strip_suffix(".Dockerfile").map(str::to_owned)
        })
        .collect();
    assert_eq!(named, made);
    let help = Command::new(auria_tests::program("xtask"))
        .args(["images", "--help"])
        .output()
        .expect("xtask starts");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("--prefix"), "{help}");
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name)
        } else {
            path.ends_with(name).then_some(path)
        }
    })
}

fn the_guide_installs_runs_and_removes(cluster: &Cluster) {
    installation::load_images(cluster);
    installation::clear(cluster);
    let file = auria_tests::project().join("docs/install.md");
    let guide = std::fs::read_to_string(file).expect("the guide");
    let blocks = blocks(&guide);
    let kinds: Vec<&str> = blocks.iter().map(|block| block.language.as_str()).collect();
    assert_eq!(
        kinds,
        ["sh", "yaml", "sh", "sh", "sh", "sh", "sh"],
        "a block came or went: say here how it is followed"
    );
    let block = |number: usize| blocks[number].text.as_str();
    let reader = Reader::new(cluster);

    // 1. Images.
    images_are_named(block(0));
    let kustomization = exchanged(block(1), &[("registry.example.com/auria", "auria.local")]);
    let name = kustomization
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# "));
    let path = reader.folder.path().join(name.expect("the file's name"));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, &kustomization).expect("a kustomization");

    // 2. The store's credentials.
    for own in [
        "--from-literal=AWS_ENDPOINT_URL=http://HOST:PORT",
        "--from-literal=AWS_ALLOW_HTTP=true",
    ] {
        assert!(guide.contains(own), "a store of one's own wants {own}");
    }
    let (bucket, prefix) = installation::store();
    let known = cluster.store();
    let of = |name: &str| {
        let found = known.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("no {name}"), |(_, value)| value.as_str())
    };
    let endpoint = format!(
        "AWS_REGION=us-east-1 --from-literal=AWS_ALLOW_HTTP=true --from-literal=AWS_ENDPOINT_URL={}",
        of("AWS_ENDPOINT_URL")
    );
    let credentials = exchanged(
        block(2),
        &[
            ("BUCKET/PREFIX", &format!("{bucket}/{prefix}-guide")),
            ("AWS_REGION=us-east-1", &endpoint),
            (
                "AWS_ACCESS_KEY_ID=…",
                &format!("AWS_ACCESS_KEY_ID={}", of("AWS_ACCESS_KEY_ID")),
            ),
            (
                "AWS_SECRET_ACCESS_KEY=…",
                &format!("AWS_SECRET_ACCESS_KEY={}", of("AWS_SECRET_ACCESS_KEY")),
            ),
        ],
    );
    reader.run(&credentials);

    // 3. The controller.
    reader.run(block(3));
    // 4. The first run.
    let said = reader.run(block(4));
    for kind in ["pipelinerun", "pod"] {
        assert!(said.contains(kind), "{said}");
    }
    let picture = find(&reader.folder.path().join("work"), "coloured.png");
    let picture = std::fs::read(picture.expect("the picture")).expect("the picture");
    assert!(picture.starts_with(b"\x89PNG"), "a picture");
    reader.run("auria-pipeline doctor --on kubernetes");
    reader.run(block(5));
    let may = "kubectl --namespace auria auth can-i create pipelineruns --as somebody --as-group";
    assert_eq!(reader.run(&format!("{may} artists")).trim(), "yes");
    let others = reader.run(&format!("{may} others || true"));
    assert_eq!(others.trim(), "no");

    // And all of it is gone again.
    reader.run(block(6));
    let kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings";
    wait("everything of the guide to be gone", || {
        let left = cluster.kubectl(&["get", kinds, "--output=name"]);
        let left: Vec<&str> = left.lines().filter(|name| name.contains("auria")).collect();
        left.is_empty()
    });
}
