//! Dockerfiles, pipelines.yaml and docs/cuda.md say the same of each pin.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The default of an argument of a Dockerfile.
fn argument<'a>(dockerfile: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("ARG {name}=");
    dockerfile
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
}

/// The rows of the table of pins: image, CUDA, libtorch.
fn table() -> BTreeMap<String, (String, String)> {
    let page = read("docs/cuda.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        let image = cells[0].trim_matches('`').to_owned();
        (image, (cells[1].to_owned(), cells[2].to_owned()))
    })
    .collect()
}

#[test]
fn each_pin_is_the_same_everywhere() {
    let table = table();
    let pinned: BTreeSet<&str> = table.keys().map(String::as_str).collect();
    assert_eq!(pinned, BTreeSet::from(["haiku", "paint", "style"]));
    for (image, (cuda, libtorch)) in &table {
        let dockerfile = read(&format!("dockerfiles/{image}.Dockerfile"));
        assert_eq!(
            argument(&dockerfile, "CUDA"),
            Some(cuda.as_str()),
            "{image}"
        );
        let build = argument(&dockerfile, "LIBTORCH").unwrap();
        assert_eq!(&format!("2.11.0+{build}"), libtorch, "{image}");
        assert_eq!(build, format!("cu{}", cuda.replace('.', "")), "{image}");
        let base = argument(&dockerfile, "BASE").unwrap();
        assert!(base.contains(&format!("cuda:{cuda}.")), "{image}: {base}");
        assert!(dockerfile.contains("\nUSER 65532:65532\n"), "{image}");
    }
    let versions: BTreeSet<_> = table.values().map(|(cuda, _)| cuda).collect();
    assert_eq!(versions.len(), table.len(), "pins differ from each other");
}

#[test]
fn pipelines_name_the_pins_of_the_images() {
    let table = table();
    let text = read("pipelines.yaml");
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| line.contains("auria.local/")) {
        let after = line.split_once("auria.local/").unwrap().1;
        let image = after.split(':').next().unwrap();
        let (cuda, _) = &table[image];
        assert!(line.contains(&format!("cuda: \"{cuda}\"")), "{line}");
        let version = env!("CARGO_PKG_VERSION");
        assert!(after.starts_with(&format!("{image}:{version}\"")), "{line}");
        seen.insert(image);
    }
    assert_eq!(seen.len(), table.len(), "{seen:?}");
    // Each step that runs a program runs it in the program's own image.
    assert!(!text.contains("environment: {image: \"\""));
    let post = read("steps/post/post.yml");
    assert!(post.contains("auria.local/post:") && !post.contains("cuda"));
}
