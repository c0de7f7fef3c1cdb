//! From files to plans.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads its files"
)]

use auria_core::Digest;
use auria_core::check::{ImageSource, Loaded, Pipeline, check};
use auria_core::diagnostic::{Diagnostic, RenderOptions, render};
use auria_core::document::parse;
use auria_core::plan::{Executable, Plan, PlannedInput, TemplatePart};
use auria_core::planner::{Asset, Facts, Snapshot, Target, needs, notes, plan};
use auria_core::set;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The pipeline of the file `name` of `right/`, or of `text` where that is given.
fn pipeline(name: &str, text: Option<&str>, sets: &[&str]) -> Pipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/right");
    let read = |path: &str| std::fs::read(folder.join(path)).map_err(|error| error.to_string());
    let text = text.map_or_else(
        || String::from_utf8(read(name).unwrap()).unwrap(),
        str::to_owned,
    );
    let mut document = parse(name, &text).unwrap().remove(0);
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let wrong = set::apply(&mut document, &sets);
    assert!(wrong.is_empty(), "{wrong:?}");
    let loaded = Loaded::load(&document, read);
    let (pipeline, found) = check(&document, &loaded);
    let text = render(&found, RenderOptions::default());
    pipeline.unwrap_or_else(|| panic!("{text}"))
}

fn facts() -> Facts {
    let snapshot = |text: &str, is_file| Snapshot {
        digest: Digest::of(text.as_bytes()),
        is_file,
    };
    Facts {
        run: "r1".to_owned(),
        folder: "/home/a".to_owned(),
        experiment: None,
        force_rerun: false,
        snapshots: BTreeMap::from([
            ("weights".to_owned(), snapshot("weights", false)),
            ("src".to_owned(), snapshot("src", false)),
            ("a.txt".to_owned(), snapshot("a", true)),
        ]),
        pins: BTreeMap::from([("s3://b/x".to_owned(), "etag".to_owned())]),
        assets: BTreeMap::from([(
            "azureml:m@latest".to_owned(),
            Asset::External {
                uri: "s3://b/m".to_owned(),
                pin: "v1".to_owned(),
                data_type: auria_core::plan::DataType::CustomModel,
            },
        )]),
        computes: BTreeSet::from(["cpu".to_owned()]),
        target: Target::Process {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            host: "h".to_owned(),
            executables: BTreeMap::from([(
                "auria-haiku".to_owned(),
                Executable {
                    name: "auria-haiku".to_owned(),
                    digest: Digest::of(b"haiku"),
                },
            )]),
        },
        cluster: false,
        grace_ms: 10_000,
    }
}

fn planned(text: &str) -> Result<Plan, Vec<Diagnostic>> {
    plan(&pipeline("p.yml", Some(text), &[]), &facts())
}

#[test]
fn the_whole_plan() {
    let plan = plan(&pipeline("kathi.yml", None, &[]), &facts()).unwrap();
    insta::assert_snapshot!("kathi", serde_json::to_string_pretty(&plan).unwrap());
}

#[test]
fn what_has_to_be_looked_up() {
    let pipeline = pipeline("kathi.yml", None, &[]);
    let needs = needs(&pipeline);
    let paths: Vec<_> = needs
        .paths
        .iter()
        .map(|need| format!("{} {:?} {}", need.path, need.kind, need.place))
        .collect();
    assert_eq!(
        paths,
        [
            "src Code parts/paint.yml:14:7",
            "weights Input(Some(UriFolder)) kathi.yml:8:37"
        ]
    );
    let words: Vec<_> = needs
        .commands
        .iter()
        .map(|need| need.word.as_str())
        .collect();
    assert_eq!(
        words,
        ["auria-haiku", "cat", "echo", "one", "post", "python", "two"]
    );
    let images: Vec<_> = needs
        .images
        .iter()
        .map(|need| need.source.to_string())
        .collect();
    assert_eq!(images, ["ghcr.io/x/haiku:1"]);
    let notes = notes(&pipeline, &facts());
    assert_eq!(
        notes
            .iter()
            .map(|note| (note.code.as_str(), note.line()))
            .collect::<Vec<_>>(),
        [("environment-ignored", 44)]
    );
}

#[test]
fn set_reaches_the_command() {
    let plan = plan(
        &pipeline(
            "kathi.yml",
            None,
            &[
                "inputs.seed=7",
                "settings.force_rerun=true",
                "jobs.write.resources.gpus=2",
            ],
        ),
        &facts(),
    )
    .unwrap();
    let write = plan.step(&"write".parse().unwrap()).unwrap();
    assert_eq!(
        write.inputs["seed"],
        PlannedInput::Literal {
            value: "7".to_owned()
        }
    );
    assert_eq!(write.resources.gpus, 2);
    assert!(plan.settings.force_rerun);
}

#[test]
fn nothing_that_was_not_found_is_planned() {
    let mut facts = facts();
    facts.snapshots.clear();
    let errors = plan(&pipeline("kathi.yml", None, &[]), &facts).unwrap_err();
    let places: Vec<_> = errors
        .iter()
        .map(|error| format!("{} {}", error.code, error.place.as_ref().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            "file-not-found kathi.yml:8:37",
            "file-not-found parts/paint.yml:14:7"
        ]
    );
}

#[test]
fn objects_and_assets() {
    let text = "
type: pipeline
jobs:
  a:
    command: tool ${{inputs.x}} ${{inputs.y}} ${{inputs.z}}
    inputs:
      x: {type: uri_folder, path: s3://b/x}
      y: {path: azureml:m@latest, mode: direct}
      z: {type: uri_file, path: a.txt}
";
    let plan = planned(text).unwrap();
    insta::assert_snapshot!(
        "objects",
        serde_json::to_string_pretty(&plan.steps[0].inputs).unwrap()
    );
    let errors = planned(&text.replace("s3://b/x", "s3://b/other")).unwrap_err();
    assert_eq!(
        (errors[0].code.as_str(), errors[0].line()),
        ("unknown-object", 7)
    );
}

#[test]
fn what_a_command_reaches_by_itself_is_its_text() {
    let text = "
type: pipeline
inputs:
  gallery: {type: uri_folder, path: ./gallery}
  unused: {type: uri_folder, path: ./nowhere}
jobs:
  outer:
    type: pipeline
    inputs: {g: '${{parent.inputs.gallery}}'}
    jobs:
      a:
        command: tool ${{inputs.x}} ${{inputs.y}} ${{inputs.z}}
        inputs:
          x: {type: uri_folder, path: '${{parent.inputs.g}}', mode: direct}
          y: {type: uri_file, path: s3://b/other, mode: direct}
          z: {type: uri_file, path: file:///etc/hosts, mode: direct}
";
    let pipeline = pipeline("p.yml", Some(text), &[]);
    let needs = needs(&pipeline);
    assert!(needs.paths.is_empty() && needs.uris.is_empty(), "{needs:?}");
    let plan = plan(&pipeline, &facts()).unwrap();
    let literal = |value: &str| PlannedInput::Literal {
        value: value.to_owned(),
    };
    assert_eq!(plan.steps[0].inputs["x"], literal("/home/a/gallery"));
    assert_eq!(plan.steps[0].inputs["y"], literal("s3://b/other"));
    assert_eq!(plan.steps[0].inputs["z"], literal("/etc/hosts"));
}

#[test]
fn a_value_that_passes_through_layers_is_checked_where_it_arrives() {
    let text = "
type: pipeline
inputs: {count: many}
jobs:
  outer:
    type: pipeline
    inputs: {n: '${{parent.inputs.count}}'}
    jobs:
      inner:
        type: pipeline
        component: parts/nested.yml
        inputs: {a: {type: uri_file, path: a.txt}, count: '${{parent.inputs.n}}'}
";
    let errors = planned(text).unwrap_err();
    assert_eq!(
        (
            errors[0].code.as_str(),
            errors[0].line(),
            errors[0].column()
        ),
        ("wrong-type", 3, 17)
    );
}

#[test]
fn images_are_needed_in_containers() {
    let mut facts = facts();
    facts.target = Target::Image {
        images: BTreeMap::from([(
            ImageSource::Named("x:1".to_owned()),
            "x@sha256:0".to_owned(),
        )]),
    };
    let text = "
type: pipeline
jobs:
  a: {command: tool, environment: {image: 'x:1', cuda: 12.6}}
  b: {command: tool}
  c: {command: tool, environment: {conda_file: c.yml}}
  d: {command: tool, environment: 'azureml:curated@latest'}
";
    let pipeline = pipeline("p.yml", Some(text), &[]);
    let codes: Vec<_> = plan(&pipeline, &facts)
        .unwrap_err()
        .iter()
        .map(|error| (error.code.as_str(), error.line()))
        .collect();
    assert_eq!(
        codes,
        [
            ("missing-image", 5),
            ("missing-image", 6),
            ("unknown-environment", 7)
        ]
    );
    assert!(notes(&pipeline, &facts).is_empty());
}

#[test]
fn a_hundred_thousand_steps_are_no_trouble() {
    // A quadratic step anywhere would take minutes here, and a recursive one the stack.
    let mut text = String::from(
        "type: pipeline\njobs:\n  s0:\n    command: tool ${{outputs.o}}\n    outputs: {o: }\n",
    );
    for i in 1..100_000 {
        text.push_str(&format!(
            "  s{i}:\n    command: tool ${{{{inputs.x}}}} ${{{{outputs.o}}}}\n    inputs: {{x: \"${{{{parent.jobs.s{}.outputs.o}}}}\"}}\n    outputs: {{o: }}\n",
            i - 1
        ));
    }
    let plan = planned(&text).unwrap();
    assert_eq!(plan.steps.len(), 100_000);
    assert!(matches!(
        plan.steps[99_999].command.0[1],
        TemplatePart::Input(_)
    ));
}

#[test]
fn the_projects_own_pipelines_have_nothing_wrong_with_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read(root.join(path)).map_err(|error| error.to_string());
    let text = String::from_utf8(read("pipelines.yaml").unwrap()).unwrap();
    let documents = parse("pipelines.yaml", &text).unwrap();
    assert!(auria_core::check::check_names(&documents).is_empty());
    for document in documents {
        let (pipeline, found) = check(&document, &Loaded::load(&document, read));
        assert!(
            pipeline.is_some() && found.is_empty(),
            "{}",
            render(&found, RenderOptions::default())
        );
    }
}

#[test]
fn a_place_of_this_machine_is_none_on_a_cluster() {
    let text = |optional: &str, export: &str| {
        format!(
            "name: p
type: pipeline
inputs:
  gallery: {{type: uri_folder, path: ./gallery, mode: direct}}
jobs:
  post:
    component:
      type: command
      inputs: {{gallery: {{type: uri_folder, mode: direct{optional}}}}}
      outputs: {{entry: {{type: uri_folder}}}}
      command: post $[[--gallery ${{{{inputs.gallery}}}}]] --out ${{{{outputs.entry}}}}
    environment: {{image: 'i:1'}}
    inputs: {{gallery: '${{{{parent.inputs.gallery}}}}'}}
    outputs: {{entry: {{type: uri_folder{export}}}}}
"
        )
    };
    let cluster = Facts {
        cluster: true,
        target: Target::Image {
            images: BTreeMap::from([(ImageSource::Named("i:1".to_owned()), "i:1".to_owned())]),
        },
        ..facts()
    };
    let optional = pipeline("p.yml", Some(&text(", optional: true", "")), &[]);
    let planned = plan(&optional, &cluster).unwrap();
    assert_eq!(planned.steps[0].inputs["gallery"], PlannedInput::Absent);
    let said = notes(&optional, &cluster);
    assert_eq!(said.len(), 1);
    assert!(said[0].message.contains("`gallery`"), "{}", said[0].message);
    assert!(said[0].place.is_some() && said[0].help.is_some());

    // Two errors at once: what it needs, and where it would go.
    let needed = pipeline("p.yml", Some(&text("", ", path: /home/a/out")), &[]);
    let wrong = plan(&needed, &cluster).unwrap_err();
    let codes: Vec<_> = wrong.iter().map(|found| found.code.to_string()).collect();
    assert_eq!(codes, ["local-place", "local-place"], "{wrong:?}");
    // Nowhere else.
    let here = Facts {
        cluster: false,
        ..cluster
    };
    assert!(plan(&needed, &here).is_ok());
}
