//! `--on docker` through the binary, beside a real engine: images by name and built,
//! pinned and reused; an orchestrator that dies; what is refused, and how.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use auria_tests::Context;
use auria_tests::engine::{self, Engine, Kind};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const DOCKER: Kind = Kind::Docker {
    live_restore: false,
};
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let why_not = engine::missing(DOCKER);
    let mut trials = Vec::new();
    macro_rules! cases {
        ($($name:ident),* $(,)?) => {
            $(
                if let Some(why) = &why_not {
                    eprintln!("skipped: {}: {why}", stringify!($name));
                }
                let run = || { $name(); Ok::<(), Failed>(()) };
                trials.push(Trial::test(stringify!($name), run).with_ignored_flag(why_not.is_some()));
            )*
        };
    }
    cases![
        two_images_with_two_pythons,
        an_image_is_built_once_for_each_content,
        a_base_without_conda_is_told_with_one_that_has_it,
        packages_of_a_conda_file_are_added_to_the_image,
        a_killed_orchestrator_leaves_its_container_running,
        ctrl_c_ends_the_container,
        the_default_follows_what_the_machine_can_do,
        every_wrong_image_is_named_at_its_place,
        one_run_stays_on_one_target,
        without_an_engine_the_way_out_is_told,
        a_direct_path_is_seen_in_the_container,
        doctor_tells_the_engine,
    ];
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    let engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(engine) = engine {
        let left = engine.containers();
        drop(engine);
        assert!(left.is_empty(), "containers are left: {left:?}");
    }
    code
}

/// A folder of its own, and the engine that all cases share.
fn context() -> Context {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = engine.get_or_insert_with(|| {
        let engine = Engine::start(DOCKER);
        for suite in ["bookworm", "trixie", "conda"] {
            engine.import(&engine::root(suite), &format!("test.local/{suite}:1"));
        }
        engine
    });
    Context::new().with_variable("DOCKER_HOST", &engine.address())
}

const PYTHONS: &str = "
name: pythons
type: pipeline
jobs:
  old:
    command: >-
      python3 -c 'import sys; print(sys.version_info[:2])' | tee ${{outputs.version}}
    environment: {image: 'test.local/bookworm:1'}
    outputs: {version: {type: uri_file}}
  new:
    command: >-
      cat ${{inputs.before}} > ${{outputs.both}};
      python3 -c 'import sys; print(sys.version_info[:2])' | tee -a ${{outputs.both}}
    environment: {image: 'test.local/trixie:1'}
    inputs: {before: {type: uri_file, path: '${{parent.jobs.old.outputs.version}}'}}
    outputs: {both: {type: uri_file}}
outputs:
  both: {type: uri_file}
";

fn two_images_with_two_pythons() {
    let context = context();
    let file = PYTHONS.replace(
        "    outputs: {both: {type: uri_file}}\noutputs:\n  both: {type: uri_file}\n",
        "    outputs: {both: '${{parent.outputs.both}}'}\noutputs:\n  both: {type: uri_file}\n",
    );
    context.write("p.yml", &file);
    let submit = ["submit", "p.yml", "--on", "docker", "--output", "json"];
    let report = context.run(submit).exits(0).json();
    assert_eq!(report["status"], "Completed");
    for step in ["old", "new"] {
        let timings = &report["steps"][step]["timings"];
        assert!(timings["pulled_ms"].is_number(), "{timings}");
    }
    context.run(["download", "latest", "--to", "got"]).exits(0);
    let found = walk(&context.path().join("got"));
    let both = found
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    assert_eq!(both.as_deref(), Some("(3, 11)\n(3, 13)\n"), "{found:?}");
    // The plan pins images by digest, and equal images are reused.
    let plan = context
        .run([
            "submit",
            "p.yml",
            "--on",
            "docker",
            "--dry-run",
            "--output",
            "json",
        ])
        .exits(0)
        .json();
    for step in plan["steps"].as_array().unwrap() {
        let image = step["environment"]["image"].as_str().unwrap();
        assert!(image.contains("sha256:"), "{image}");
    }
    let again = context.run(submit).exits(0).json();
    for step in ["old", "new"] {
        assert_eq!(again["steps"][step]["status"], "Reused", "{again:#}");
    }
    // Never shared with a step that ran without a container.
    let outside = context
        .run([
            "submit",
            "p.yml",
            "--on",
            "process",
            "--dry-run",
            "--output",
            "json",
        ])
        .exits(0)
        .json();
    assert_eq!(outside["steps"][0]["environment"]["kind"], "process");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

fn an_image_is_built_once_for_each_content() {
    let context = context();
    context.write(
        "p.yml",
        "
name: built
type: pipeline
jobs:
  say:
    command: say-it
    environment: {build: {path: 'the folder', dockerfile_path: docker/Dockerfile}}
",
    );
    context.write(
        "the folder/docker/Dockerfile",
        "FROM test.local/bookworm:1\nCOPY say-it /usr/bin/\nRUN chmod 755 /usr/bin/say-it && ! ls /junk*\nENTRYPOINT [\"false\"]\n",
    );
    context.write("the folder/say-it", "#!/bin/sh\necho größe one\n");
    context.write("the folder/.dockerignore", "junk*\n");
    let submit = || {
        let done = context
            .run(["submit", "p.yml", "--on", "docker", "--output", "json"])
            .exits(0);
        let built = done.stderr.matches("building ").count();
        (built, done.json()["steps"]["say"]["status"].clone())
    };
    assert_eq!(submit(), (1, "Completed".into()));
    assert!(
        context
            .run(["logs", "latest", "say"])
            .exits(0)
            .stdout
            .contains("größe one")
    );
    // What the build does not see changes nothing.
    context.write("the folder/junk", "x");
    assert_eq!(submit(), (0, "Reused".into()));
    context.write("the folder/say-it", "#!/bin/sh\necho two\n");
    assert_eq!(submit(), (1, "Completed".into()));
    assert!(
        context
            .run(["logs", "latest", "say"])
            .exits(0)
            .stdout
            .contains("two")
    );
    // A build that fails shows what it said.
    context.write(
        "the folder/docker/Dockerfile",
        "FROM test.local/bookworm:1\nRUN echo so far so good && exit 3\n",
    );
    let failed = context.run(["submit", "p.yml", "--on", "docker"]).exits(2);
    assert!(
        failed.stderr.contains("so far so good"),
        "{}",
        failed.stderr
    );
    assert!(failed.stderr.contains("p.yml:7"), "{}", failed.stderr);
}

fn a_base_without_conda_is_told_with_one_that_has_it() {
    let context = context();
    context.write(
        "p.yml",
        "
type: pipeline
jobs:
  a:
    command: python3 --version
    environment: {image: 'test.local/bookworm:1', conda_file: env.yml}
",
    );
    context.write("env.yml", "dependencies: [python=3.12, {pip: [numpy]}]\n");
    let failed = context.run(["submit", "p.yml", "--on", "docker"]).exits(2);
    for expected in [
        "`test.local/bookworm:1`",
        "micromamba",
        "mambaorg/micromamba",
        "p.yml:6",
    ] {
        assert!(
            failed.stderr.contains(expected),
            "{expected}: {}",
            failed.stderr
        );
    }
}

fn packages_of_a_conda_file_are_added_to_the_image() {
    let context = context();
    let command = "python -c 'import six, sys; print(sys.version_info[:2], six.__version__)'; /usr/bin/python3 --version";
    context.write(
        "p.yml",
        &format!(
            "type: pipeline\njobs:\n  a:\n    command: {command}\n    environment: {{image: 'test.local/conda:1', conda_file: envs/env.yml}}\n"
        ),
    );
    // A channel in the image, and a requirement beside the file.
    let env = "name: x\nchannels: ['file:///opt/channel']\ndependencies:\n- python=3.11\n- pip\n- pip: [--no-index, '--find-links=/opt/wheels', '-r req.txt']\n";
    context.write("envs/env.yml", env);
    context.write("envs/req.txt", "six\n");
    let submit = || {
        let done = context
            .run(["submit", "p.yml", "--on", "docker", "--output", "json"])
            .exits(0);
        let made = done.stderr.matches("adding the packages of").count();
        (made, done.json()["steps"]["a"]["status"].clone())
    };
    assert_eq!(submit(), (1, "Completed".into()));
    let logs = context.run(["logs", "latest", "a"]).exits(0).stdout;
    assert!(
        logs.contains("(3, 11) 1.") && logs.contains("Python 3.13"),
        "{logs}"
    );
    assert_eq!(submit(), (0, "Reused".into()));
    // What cannot be solved shows what conda says.
    context.write("envs/env.yml", &env.replace("python=3.11", "python=2.7"));
    let failed = context.run(["submit", "p.yml", "--on", "docker"]).exits(2);
    assert!(
        failed.stderr.contains("python=2.7") && failed.stderr.contains("p.yml:5"),
        "{}",
        failed.stderr
    );
    // A channel served from a local folder beside the file, which goes along.
    let image = "environment: {image: 'test.local/conda:1', conda_file: {channels: [./channel], dependencies: [python=3.11]}}";
    context.write(
        "p.yml",
        &format!("type: pipeline\njobs:\n  a:\n    command: python --version\n    {image}\n"),
    );
    let unpacked = std::process::Command::new("tar")
        .args([
            "-xf",
            &engine::root("conda").display().to_string(),
            "opt/channel",
        ])
        .current_dir(context.path())
        .status();
    assert!(unpacked.is_ok_and(|status| status.success()));
    std::fs::rename(
        context.path().join("opt/channel"),
        context.path().join("channel"),
    )
    .unwrap();
    assert_eq!(submit(), (1, "Completed".into()));
    let logs = context.run(["logs", "latest", "a"]).exits(0).stdout;
    assert!(logs.contains("Python 3.11"), "{logs}");
}

const LONG: &str = "
name: long
type: pipeline
jobs:
  wait:
    command: echo up; until [ -e ${{inputs.folder}}/go ]; do sleep 0.05; done; echo over
    environment: {image: 'test.local/bookworm:1'}
    inputs: {folder: {type: uri_folder, path: ./shared, mode: direct}}
";

/// Submits the pipeline of one long step, and waits until it runs.
fn long(context: &Context) -> std::process::Child {
    context.write("p.yml", LONG);
    context.write("shared/here", "");
    let mut child = context.start(["submit", "p.yml", "--on", "docker", "--name", "long-run"]);
    let begun = Instant::now();
    while !context
        .run(["logs", "long-run", "wait"])
        .stdout
        .contains("up")
    {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the step does not run");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn a_killed_orchestrator_leaves_its_container_running() {
    let context = context();
    let mut child = long(&context);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    context.write("shared/go", "");
    let report = context
        .run(["resume", "long-run", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(report["status"], "Completed");
    assert_eq!(report["steps"]["wait"]["attempts"], 1);
    assert!(
        context
            .run(["logs", "long-run", "wait"])
            .exits(0)
            .stdout
            .contains("over")
    );
}

fn ctrl_c_ends_the_container() {
    let context = context();
    let child = long(&context);
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report = context
        .run(["show", "long-run", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(report["status"], "Canceled");
    assert_eq!(report["steps"]["wait"]["cause"], "canceled");
}

fn the_default_follows_what_the_machine_can_do() {
    let context = context();
    let target = |context: &Context| {
        let done = context
            .run(["submit", "p.yml", "--dry-run", "--output", "json"])
            .exits(0);
        let kind = done.json()["steps"][0]["environment"]["kind"].clone();
        let notes = done
            .stderr
            .lines()
            .filter(|line| line.contains("`--on` says where"));
        (kind, notes.collect::<Vec<_>>().join("\n"))
    };
    let file = "type: pipeline\njobs:\n  a: {command: 'true', environment: {image: 'test.local/bookworm:1'}}\n";
    context.write("p.yml", file);
    let (kind, note) = target(&context);
    assert_eq!(kind, "image");
    assert!(note.contains("containers of Docker"), "{note}");
    // One step without an image, and all run without containers.
    context.write("p.yml", &format!("{file}  b: {{command: 'true'}}\n"));
    let (kind, note) = target(&context);
    assert_eq!(kind, "process");
    assert!(note.contains("`b` names no image"), "{note}");
    // An image that cannot be had.
    context.write("p.yml", &file.replace("bookworm:1", "absent:1"));
    let (kind, note) = target(&context);
    assert_eq!(kind, "process");
    assert!(note.contains("test.local/absent:1"), "{note}");
    // No engine.
    let context = Context::new().with_variable("DOCKER_HOST", "unix:///nowhere/s");
    context.write("p.yml", file);
    let (kind, note) = target(&context);
    assert_eq!(kind, "process");
    assert!(note.contains("no container engine answers"), "{note}");
}

fn every_wrong_image_is_named_at_its_place() {
    let context = context();
    context.write(
        "p.yml",
        "
type: pipeline
jobs:
  a: {command: 'true', environment: {image: 'test.local/absent:1'}}
  b: {command: 'true', environment: {build: {path: nowhere}}}
  c: {command: 'true'}
",
    );
    let failed = context.run(["submit", "p.yml", "--on", "docker"]).exits(2);
    for expected in ["test.local/absent:1", "p.yml:4", "nowhere", "p.yml:5"] {
        assert!(
            failed.stderr.contains(expected),
            "{expected}: {}",
            failed.stderr
        );
    }
}

fn one_run_stays_on_one_target() {
    let context = context();
    context.write(
        "auria.yaml",
        "computes:\n  here: {target: process}\n  box: {target: docker}\n",
    );
    let file = "
type: pipeline
jobs:
  a: {command: 'true', compute: here}
  b: {command: 'true', compute: box, environment: {image: 'test.local/bookworm:1'}}
";
    context.write("p.yml", file);
    let refused = context.run(["submit", "p.yml"]).exits(2);
    for expected in [
        "`a` by the compute `here` on `process`",
        "`b` by the compute `box` on `docker`",
    ] {
        assert!(
            refused.stderr.contains(expected),
            "{expected}: {}",
            refused.stderr
        );
    }
    // A compute's target wins over the default.
    let step = "  a: {command: echo in $AURIA_STEP, compute: box, environment: {image: 'test.local/bookworm:1'}}\n";
    context.write("p.yml", &format!("type: pipeline\njobs:\n{step}"));
    context.run(["submit", "p.yml", "--on", "process"]).exits(0);
    let shown = context.run(["logs", "latest", "a"]).exits(0);
    assert!(shown.stdout.contains("in a"), "{shown:?}");
}

fn without_an_engine_the_way_out_is_told() {
    let context = Context::new().with_variable("DOCKER_HOST", "unix:///nowhere/s");
    context.write(
        "p.yml",
        "type: pipeline\njobs:\n  a: {command: 'true', environment: {image: 'x:1'}}\n",
    );
    let failed = context.run(["submit", "p.yml", "--on", "docker"]).exits(4);
    for expected in ["unix:///nowhere/s", "DOCKER_HOST", "--on process"] {
        assert!(
            failed.stderr.contains(expected),
            "{expected}: {}",
            failed.stderr
        );
    }
}

fn a_direct_path_is_seen_in_the_container() {
    let context = context();
    context.write("gallery/old", "");
    context.write(
        "p.yml",
        "
type: pipeline
jobs:
  post:
    command: ls ${{inputs.gallery}}; echo new > ${{inputs.gallery}}/new; ls ${{inputs.gallery}}/.. | wc -l
    environment: {image: 'test.local/trixie:1'}
    inputs: {gallery: {type: uri_folder, path: ./gallery, mode: direct}}
",
    );
    context.run(["submit", "p.yml", "--on", "docker"]).exits(0);
    let new = context.path().join("gallery/new");
    assert_eq!(std::fs::read_to_string(&new).unwrap(), "new\n");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        new.metadata().unwrap().uid(),
        nix::unistd::getuid().as_raw()
    );
    let logs = context.run(["logs", "latest", "post"]).exits(0).stdout;
    // Beside it the container sees nothing of its folder.
    assert!(
        logs.contains("old") && logs.lines().last() == Some("1"),
        "{logs}"
    );
}

fn doctor_tells_the_engine() {
    let context = context();
    let told = context.run(["doctor"]).exits(0).stdout;
    let line = told
        .lines()
        .find(|line| line.contains("containers"))
        .unwrap();
    assert!(
        line.contains("Docker ") && line.contains("unix://"),
        "{line}"
    );
    let context = Context::new().with_variable("DOCKER_HOST", "unix:///nowhere/s");
    let told = context.run(["doctor", "--output", "json"]).exits(0).json();
    let finding = told
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["what"] == "containers")
        .unwrap();
    assert_eq!(finding["verdict"], "missing");
    assert!(
        finding["help"].as_str().unwrap().contains("DOCKER_HOST"),
        "{finding}"
    );
}
