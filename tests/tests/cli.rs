//! The command line's contract, through the binary: exit codes, JSON, what each
//! command does, and what is left when a run is interrupted.

use auria_tests::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Child;
use std::time::{Duration, Instant};

const TWO: &str = "
type: pipeline
name: two
inputs:
  who: world
outputs:
  loud: {type: uri_file}
jobs:
  hello:
    command: echo \"hello ${{inputs.who}}\" > ${{outputs.text}}; echo said hello
    inputs: {who: '${{parent.inputs.who}}'}
    outputs: {text: {type: uri_file}}
  shout:
    command: tr a-z A-Z < ${{inputs.text}} > ${{outputs.loud}}
    inputs: {text: '${{parent.jobs.hello.outputs.text}}'}
    outputs: {loud: '${{parent.outputs.loud}}'}
";

fn slow(context: &Context, seconds: u32) {
    // The marker finds what is left of the step among all processes.
    let marker = context
        .path()
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    context.write(
        "pipelines.yaml",
        &format!(
            "type: pipeline\nname: slow\njobs:\n  wait:\n    command: \"echo begun; env MARKER={marker} \
             sleep {seconds}; echo waited > ${{{{outputs.done}}}}\"\n    outputs: {{done: {{type: uri_file}}}}\n  \
             after:\n    command: cat ${{{{inputs.done}}}}\n    inputs: {{done: '${{{{parent.jobs.wait.outputs.done}}}}'}}\n"
        ),
    );
}

/// Processes of this test's step that are still there.
fn left(context: &Context) -> usize {
    let marker = format!(
        "MARKER={}",
        context
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy()
    );
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes
        .flatten()
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == marker.as_bytes())
        })
        .count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(
        Pid::from_raw(i32::try_from(child.id()).expect("a pid")),
        signal,
    )
    .expect("the signal");
}

#[test]
fn a_run_from_submit_to_download() {
    let context = Context::new();
    context.write("pipelines.yaml", TWO);
    let report = context
        .run([
            "submit",
            "--name",
            "first",
            "--output",
            "json",
            "--set",
            "inputs.who=Auria",
        ])
        .exits(0)
        .json();
    assert_eq!(report["run"], "first");
    assert_eq!(report["status"], "Completed");
    assert_eq!(report["inputs"]["who"], "Auria");
    let loud = &report["outputs"]["loud"];
    assert_eq!(
        (
            loud["type"].as_str(),
            loud["files"].as_u64(),
            loud["bytes"].as_u64()
        ),
        (Some("uri_file"), Some(1), Some(12))
    );
    assert!(
        loud["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("blake3:"))
    );
    let path = loud["uri"].as_str().expect("a path");
    assert_eq!(
        std::fs::read_to_string(path).expect("the output"),
        "HELLO AURIA\n"
    );
    let step = &report["steps"]["hello"];
    for field in [
        "status",
        "attempts",
        "reused_from",
        "exit_code",
        "cause",
        "node",
        "outputs",
        "timings",
    ] {
        assert!(step.get(field).is_some(), "{field} is missing: {step}");
    }
    assert!(
        step["reused_from"].is_null()
            && step["cause"].is_null()
            && step["timings"]["pulled_ms"].is_null()
    );
    assert_eq!(
        (step["attempts"].as_u64(), step["exit_code"].as_i64()),
        (Some(1), Some(0))
    );

    assert_eq!(
        context
            .run(["show", "first", "--output", "json"])
            .exits(0)
            .json()["status"],
        "Completed"
    );
    assert_eq!(
        context.run(["logs", "first", "hello"]).exits(0).stdout,
        "said hello\n"
    );
    let to = context.path().join("got");
    context
        .run([
            "download",
            "first",
            "--step",
            "shout",
            "--to",
            &to.to_string_lossy(),
        ])
        .exits(0);
    assert_eq!(
        std::fs::read_to_string(to.join("shout/loud/loud")).expect("the download"),
        "HELLO AURIA\n"
    );
    assert!(
        context
            .run(["outputs", "first"])
            .exits(0)
            .stdout
            .contains("shout.loud")
    );
    let runs = context.run(["runs", "--output", "json"]).exits(0).json();
    assert_eq!(runs[0]["run"], "first");

    // The name is taken, and a second run reuses.
    context.run(["submit", "--name", "first"]).exits(2);
    let again = context
        .run([
            "submit",
            "--name",
            "again",
            "--output",
            "json",
            "--set",
            "inputs.who=Auria",
        ])
        .exits(0)
        .json();
    assert_eq!(again["steps"]["hello"]["status"], "Reused");
    assert_eq!(again["steps"]["hello"]["reused_from"]["run"], "first");
    let forced = context.run([
        "submit",
        "--name",
        "forced",
        "--output",
        "json",
        "--force-rerun",
        "--set",
        "inputs.who=Auria",
    ]);
    assert_eq!(
        forced.exits(0).json()["steps"]["hello"]["status"],
        "Completed"
    );
    let explained = context.run(["explain", "forced", "hello"]).exits(0).stdout;
    assert!(explained.contains("force_rerun"), "{explained}");
    assert!(
        context
            .run(["show", "latest"])
            .exits(0)
            .stdout
            .contains("forced")
    );
}

#[test]
fn every_file_is_validated_whatever_is_wrong_with_others() {
    let context = Context::new();
    context.write("good.yml", "type: pipeline\njobs: {a: {command: echo}}\n");
    context.write(
        "one.yml",
        "type: pipeline\njobs:\n  a: {command: echo, command: ls}\n  b: {comand: echo}\n",
    );
    context.write(
        "two.yml",
        "type: pipeline\nnaem: x\njobs: {a: {command: echo}\n",
    );
    let files = ["absent.yml", "one.yml", "good.yml", "two.yml"];
    let all: Vec<&str> = ["validate"].into_iter().chain(files).collect();
    let json: Vec<&str> = all.iter().copied().chain(["--output", "json"]).collect();
    let report = context.run(json).exits(2).json();
    let found: Vec<String> = report["diagnostics"]
        .as_array()
        .expect("diagnostics")
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            format!(
                "{}:{}:{} {}",
                text("file"),
                one["line"],
                one["column"],
                text("code")
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "absent.yml:1:1 file-not-found",
            "one.yml:3:22 duplicate-key",
            "one.yml:4:7 unknown-key",
            "two.yml:2:1 unknown-key",
            "two.yml:3:7 unclosed-bracket",
        ]
    );
    let text = context.run(all).exits(2).stderr;
    for one in &found {
        let (place, code) = one.split_once(' ').expect("a place and a code");
        assert!(text.contains(&format!("error[{code}]")), "{text}");
        assert!(
            place.starts_with("absent") || text.contains(&format!("[{place}]")),
            "{text}"
        );
    }
}

#[test]
fn three_slips_are_three_errors_at_three_places() {
    let context = Context::new();
    let text = TWO
        .replace("jobs.hello.outputs", "jobs.helo.outputs")
        .replace(
            "{who: '${{parent.inputs.who}}'}",
            "{who: '${{parent.inputs.whom}}'}",
        )
        .replace("text: {type: uri_file}", "text: {type: uri_fil}");
    context.write("pipelines.yaml", &text);
    for command in ["validate", "submit"] {
        let report = context
            .run([command, "pipelines.yaml", "--output", "json"])
            .exits(2)
            .json();
        assert_eq!(report["valid"], false);
        let found = report["diagnostics"].as_array().expect("diagnostics");
        let lines: Vec<u64> = found
            .iter()
            .map(|one| one["line"].as_u64().expect("a line"))
            .collect();
        assert_eq!(found.len(), 3, "{report}");
        assert_eq!(lines, [11, 12, 15], "{report}");
        for one in found {
            assert_eq!(one["severity"], "error");
            assert!(
                one["help"]
                    .as_str()
                    .is_some_and(|help| help.contains("did you mean")),
                "{one}"
            );
        }
    }
    assert!(
        !context.path().join("store").exists(),
        "nothing was started"
    );
}

#[test]
fn a_failure_shows_its_last_lines_and_a_retry_keeps_what_finished() {
    let context = Context::new();
    let file = TWO.replace(
        "tr a-z A-Z <",
        "echo oh no; test -e /nowhere || exit 7; cat",
    );
    context.write("pipelines.yaml", &file);
    let failed = context.run(["submit", "--name", "bad"]).exits(1);
    assert!(
        failed.stdout.contains("oh no") && failed.stdout.contains("auria-pipeline logs bad shout"),
        "{}",
        failed.stdout
    );
    let report = context
        .run(["show", "bad", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(
        (
            report["status"].as_str(),
            report["steps"]["shout"]["exit_code"].as_i64()
        ),
        (Some("Failed"), Some(7))
    );
    assert_eq!(report["steps"]["shout"]["cause"], "exit");

    let again = context
        .run(["retry", "bad", "--output", "json"])
        .exits(1)
        .json();
    assert_eq!(again["steps"]["hello"]["status"], "Reused");
    assert_eq!(again["steps"]["shout"]["status"], "Failed");
    let from = context
        .run(["retry", "bad", "--from", "hello", "--output", "json"])
        .exits(1)
        .json();
    assert_ne!(
        from["steps"]["hello"]["reused_from"]["run"].as_str(),
        None::<&str>,
        "the index still knows it"
    );
}

#[test]
fn what_is_not_there_is_said() {
    let context = Context::new();
    context.write("pipelines.yaml", TWO);
    context.run(["submit", "nothing.yaml"]).exits(2);
    context.run(["show", "latest"]).exits(2);
    context.run(["submit"]).exits(0);
    context.run(["show", "nobody"]).exits(2);
    context.run(["logs", "latest", "nothing"]).exits(2);
    context.run(["submit", "--on", "kubernetes"]).exits(2);
    context.run(["submit", "--set", "inputs.wh=x"]).exits(2);
    context.run(["submit", "--pipeline", "three"]).exits(2);
    context.run(["frobnicate"]).exits(2);
    context.write("file", "");
    let blocked = Context::new().with_store(&context.path().join("file/store").to_string_lossy());
    blocked.write("pipelines.yaml", TWO);
    blocked.run(["submit"]).exits(2);
    // Port 1 of this machine answers nobody.
    let silent = Context::new()
        .with_store("s3://bucket/runs")
        .with_variable("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .with_variable("AWS_ACCESS_KEY_ID", "nobody")
        .with_variable("AWS_SECRET_ACCESS_KEY", "nothing");
    silent.write("pipelines.yaml", TWO);
    let unreachable = silent.run(["submit"]).exits(4);
    assert!(
        unreachable.stderr.contains("help:"),
        "{}",
        unreachable.stderr
    );
}

#[test]
fn changed_content_is_a_miss_that_explain_names() {
    let context = Context::new();
    context.write("weights/a.bin", "0");
    context.write("bin/paint", "#!/bin/sh\ncat \"$1\"/a.bin\n");
    let paint = context.path().join("bin/paint");
    std::fs::set_permissions(&paint, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("its mode");
    context.write(
        "pipelines.yaml",
        &format!(
            "type: pipeline\nname: p\njobs:\n  paint:\n    command: {} ${{{{inputs.w}}}}\n    inputs: {{w: {{type: uri_folder, path: ./weights}}}}\n",
            paint.display()
        ),
    );
    context.run(["submit"]).exits(0);
    let status = |context: &Context| {
        context.run(["submit", "--output", "json"]).exits(0).json()["steps"]["paint"]["status"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(status(&context).as_deref(), Some("Reused"));
    context.write("weights/a.bin", "1");
    assert_eq!(status(&context).as_deref(), Some("Completed"));
    let why = context.run(["explain", "latest", "paint"]).exits(0).stdout;
    assert!(why.contains("inputs.w"), "{why}");
    context.write("bin/paint", "#!/bin/sh\n# rebuilt\ncat \"$1\"/a.bin\n");
    assert_eq!(status(&context).as_deref(), Some("Completed"));
    let why = context.run(["explain", "latest", "paint"]).exits(0).stdout;
    assert!(why.contains("executable"), "{why}");
}

#[test]
fn ctrl_c_cancels_and_leaves_nothing_running() {
    let context = Context::new();
    slow(&context, 300);
    let child = context.start(["submit", "--name", "s"]);
    until("the step", || left(&context) > 0);
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().expect("its end");
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(left(&context), 0);
    let report = context
        .run(["show", "s", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(
        (
            report["status"].as_str(),
            report["steps"]["wait"]["cause"].as_str()
        ),
        (Some("Canceled"), Some("canceled"))
    );
}

#[test]
fn another_process_cancels() {
    let context = Context::new();
    slow(&context, 300);
    let child = context.start(["submit", "--name", "s"]);
    until("the step", || left(&context) > 0);
    context.run(["cancel", "s"]).exits(0);
    assert_eq!(
        child.wait_with_output().expect("its end").status.code(),
        Some(3)
    );
    assert_eq!(left(&context), 0);
}

#[test]
fn sigterm_leaves_the_steps_and_resume_goes_on() {
    let context = Context::new();
    slow(&context, 3);
    let child = context.start(["submit", "--name", "s"]);
    until("the step", || left(&context) > 0);
    signal(&child, Signal::SIGTERM);
    child.wait_with_output().expect("its end");
    assert!(left(&context) > 0, "the step goes on");
    let next = context
        .run(["submit", "--name", "other", "--dry-run"])
        .exits(0);
    drop(next);
    let report = context
        .run(["resume", "s", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(
        (
            report["status"].as_str(),
            report["steps"]["wait"]["attempts"].as_u64()
        ),
        (Some("Completed"), Some(1))
    );
}

#[test]
fn a_killed_driver_is_followed_and_a_second_one_is_refused() {
    let context = Context::new();
    slow(&context, 6);
    let mut child = context.start(["submit", "--name", "s"]);
    until("the step", || left(&context) > 0);
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    let first = context.start(["resume", "s"]);
    until("a driver", || {
        context.run(["show", "s"]).stdout.contains("driven by")
    });
    let second = context.run(["resume", "s"]).exits(2);
    assert!(
        second.stderr.contains(&format!("process {}", first.id())),
        "{}",
        second.stderr
    );
    assert!(first.wait_with_output().expect("its end").status.success());
}

#[test]
fn detach_leaves_a_driver_and_logs_follow() {
    let context = Context::new();
    slow(&context, 4);
    let detached = context
        .run(["submit", "--detach", "--name", "d", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(detached["run"], "d");
    until("the first line, while the step runs", || {
        context.run(["logs", "d", "wait"]).stdout.contains("begun")
    });
    assert!(left(&context) > 0, "it still runs");
    let followed = context.run(["logs", "d", "wait", "--follow"]).exits(0);
    assert_eq!(followed.stdout, "begun\n");
    context.run(["watch", "d"]).exits(0);
}

#[test]
fn gpus_are_given_out_and_what_never_fits_is_refused() {
    let context = Context::new().with_variable("AURIA_GPUS", "0,1");
    context.write(
        "pipelines.yaml",
        "type: pipeline\nname: g\njobs:\n  none:\n    command: echo \"none[$CUDA_VISIBLE_DEVICES]\"\n  one:\n    command: echo \"one[$CUDA_VISIBLE_DEVICES]\"\n    resources: {gpus: 1}\n",
    );
    context.run(["submit"]).exits(0);
    assert_eq!(context.run(["logs", "latest", "none"]).stdout, "none[]\n");
    let one = context.run(["logs", "latest", "one"]).stdout;
    assert!(one == "one[0]\n" || one == "one[1]\n", "{one}");
    let refused = context
        .run(["submit", "--set", "jobs.one.resources.gpus=3"])
        .exits(2);
    assert!(refused.stderr.contains("one"), "{}", refused.stderr);
}

#[test]
fn a_model_is_registered_once_and_used_by_name() {
    let context = Context::new();
    context.write(
        "pipelines.yaml",
        "type: pipeline\nname: train\noutputs:\n  model: {type: custom_model, name: tiny}\njobs:\n  fit:\n    command: mkdir -p ${{outputs.model}} && echo weights > ${{outputs.model}}/w\n    outputs: {model: '${{parent.outputs.model}}'}\n",
    );
    context.run(["submit"]).exits(0);
    let listed = context
        .run(["model", "list", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(
        (
            listed[0]["name"].as_str(),
            listed[0]["versions"][0].as_str()
        ),
        (Some("tiny"), Some("1"))
    );
    context.run(["model", "show", "tiny"]).exits(0);
    context.write(
        "use.yaml",
        "type: pipeline\nname: use\njobs:\n  read:\n    command: cat ${{inputs.m}}/w\n    inputs: {m: {type: custom_model, path: 'azureml:tiny@latest'}}\n",
    );
    context.run(["submit", "use.yaml"]).exits(0);
    assert_eq!(context.run(["logs", "latest", "read"]).stdout, "weights\n");
}

#[test]
fn help_man_completions_and_schemas_are_printed() {
    let context = Context::new();
    let help = context.run(["--help"]).exits(0).stdout;
    for command in [
        "submit",
        "validate",
        "plan",
        "runs",
        "show",
        "watch",
        "logs",
        "cancel",
        "resume",
        "retry",
        "outputs",
        "download",
        "explain",
        "doctor",
        "completions",
        "man",
        "schema",
    ] {
        assert!(help.contains(command), "{command} is missing in --help");
        let own = context.run([command, "--help"]).exits(0).stdout;
        assert!(
            own.contains("Examples:"),
            "{command} --help has no examples"
        );
    }
    assert!(context.run(["man"]).exits(0).stdout.contains(".TH"));
    assert!(
        context
            .run(["completions", "bash"])
            .exits(0)
            .stdout
            .contains("auria-pipeline")
    );
    for kind in ["pipeline", "component", "config"] {
        assert!(
            context.run(["schema", kind]).exits(0).json()["$schema"].is_string(),
            "{kind}"
        );
    }
}

#[test]
fn runs_are_compared_deleted_and_collected() {
    let context = Context::new();
    context.write("pipelines.yaml", TWO);
    for (name, who) in [("first", "Auria"), ("second", "Auria"), ("third", "Kathi")] {
        let set = format!("inputs.who={who}");
        context
            .run(["submit", "--name", name, "--set", &set])
            .exits(0);
    }
    let same = context.run(["diff", "first", "second"]).exits(0);
    assert!(
        same.stdout.contains("hello\n  status: Completed → Reused"),
        "{same:?}"
    );
    let diff = context
        .run(["diff", "first", "third", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(diff["run"]["inputs.who"]["old"], "Auria");
    assert_eq!(diff["run"]["inputs.who"]["new"], "Kathi");
    assert!(!diff["steps"]["shout"]["outputs.loud"]["old"].is_null());

    // The second took the first's outputs.
    let kept = context.run(["delete", "first", "--grace", "0s"]).exits(2);
    assert!(kept.stderr.contains("used by the run second"), "{kept:?}");
    context.run(["show", "first"]).exits(0);
    let marked = context.run(["delete", "second"]).exits(0);
    assert!(marked.stdout.contains("marked second"), "{marked:?}");
    let listed = context.run(["runs"]).exits(0);
    assert!(
        listed.stdout.contains("deleted: `gc` removes it"),
        "{listed:?}"
    );
    context.run(["delete", "second", "--grace", "0s"]).exits(0);
    context.run(["show", "second"]).exits(2);
    // Now nobody does any more. Without `--older-than` no run goes.
    let none = context
        .run(["gc", "--grace", "0s", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(none["runs"].as_array().map(Vec::len), Some(0));
    let dry = context
        .run(["gc", "--older-than", "0s", "--grace", "0s", "--dry-run"])
        .exits(0);
    assert!(dry.stdout.contains("would free"), "{dry:?}");
    context.run(["show", "first"]).exits(0);
    context.run(["delete", "first", "--grace", "0s"]).exits(0);
    let left = context.run(["runs", "--output", "json"]).exits(0).json();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    // A miss that explains itself, and a run as whole as any.
    context
        .run(["submit", "--name", "fourth", "--set", "inputs.who=Auria"])
        .exits(0);
    let report = context
        .run(["show", "fourth", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(report["steps"]["hello"]["status"], "Completed");
    context.run(["gc", "--older-than", "soon"]).exits(2);
}

#[test]
fn outputs_are_copied_to_the_places_that_the_file_names() {
    let context = Context::new();
    let pipeline = TWO
        .replace(
            "loud: {type: uri_file}",
            "loud: {type: uri_file, path: ./published/loud.txt}",
        )
        .replace(
            "outputs: {text: {type: uri_file}}",
            "outputs: {text: {type: uri_file, path: published/said.txt}}",
        );
    let file = context.write("files/pipelines.yaml", &pipeline);
    let file = file.to_string_lossy().into_owned();
    let published =
        |name: &str| std::fs::read_to_string(context.path().join("files/published").join(name));
    for _ in 0..2 {
        context.run(["submit", &file]).exits(0);
        assert_eq!(published("loud.txt").expect("a copy"), "HELLO WORLD\n");
        assert_eq!(published("said.txt").expect("a copy"), "hello world\n");
        // The second run reuses both steps, and copies all the same.
        std::fs::remove_dir_all(context.path().join("files/published")).expect("the copies");
    }

    let nowhere = pipeline.replace("./published/loud.txt", "/proc/nowhere/loud.txt");
    context.write("files/pipelines.yaml", &nowhere);
    let failed = context
        .run(["submit", &file, "--output", "json"])
        .exits(1)
        .json();
    assert_eq!(failed["status"], "Failed");
    assert_eq!(failed["steps"]["shout"]["status"], "Reused");
    let problems = failed["problems"].to_string();
    assert!(problems.contains("/proc/nowhere"), "{failed}");
}

#[test]
fn missing_files_are_told_with_the_other_errors_and_components_are_checked_alone() {
    let context = Context::new();
    context.write(
        "pipelines.yaml",
        "type: pipeline\nname: p\njobs:\n  a:\n    comand: x\n    command: cat ${{inputs.d}}\n    \
         code: ./nowhere\n    inputs: {d: {type: uri_file, path: ./missing.txt}}\n",
    );
    let found = context
        .run(["validate", "pipelines.yaml", "--output", "json"])
        .exits(2)
        .json();
    let said: Vec<(&str, u64)> = found["diagnostics"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (
                one["code"].as_str().expect("a code"),
                one["line"].as_u64().expect("a line"),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("unknown-key", 5),
            ("file-not-found", 7),
            ("file-not-found", 8)
        ]
    );

    let component =
        "name: c\ntype: command\ninputs: {who: {type: string}}\ncommand: echo ${{inputs.who}}\n";
    context.write("good.yml", component);
    context.run(["validate", "good.yml"]).exits(0);
    context.write("bad.yml", &component.replace("inputs.who", "inputs.whom"));
    let bad = context.run(["validate", "bad.yml"]).exits(2);
    assert!(bad.stderr.contains("did you mean"), "{bad:?}");
}
