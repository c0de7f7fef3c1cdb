//! Distributed steps on one machine, through the binary: each process knows its place and
//! finds the others, what they write is one, and one that falls ends them all.

use auria_tests::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A step of two instances with two processes each, without a word of what they do.
fn pipeline(command: &str, more: &str) -> String {
    format!(
        "type: pipeline\nname: many\njobs:\n  train:\n    distribution: {{type: pytorch, process_count_per_instance: 2}}\n    resources: {{instance_count: 2}}\n{more}    outputs: {{out: {{type: uri_folder}}}}\n    command: |\n{}",
        command
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect::<String>()
    )
}

fn submitted(context: &Context, name: &str, code: i32) -> Value {
    context
        .run([
            "submit", "--name", name, "--on", "process", "--output", "json",
        ])
        .exits(code)
        .json()
}

/// The ends of a step's processes, as the store keeps them, by rank.
fn ends(context: &Context, run: &str) -> Vec<Value> {
    let data = Path::new(context.store()).join(format!("runs/{run}/data/train"));
    let mut found = Vec::new();
    for claim in std::fs::read_dir(data)
        .expect("the attempts' data")
        .flatten()
    {
        for rank in 0.. {
            let end = claim.path().join(format!("members/{rank}/end.json"));
            match std::fs::read(end) {
                Ok(text) => found.push(serde_json::from_slice(&text).expect("an end")),
                Err(_) => break,
            }
        }
    }
    found
}

fn output(report: &Value) -> PathBuf {
    let uri = report["steps"]["train"]["outputs"]["out"]["uri"].as_str();
    PathBuf::from(uri.expect("an output"))
}

#[test]
fn every_process_knows_its_place() {
    let context = Context::new();
    let command = r#"echo "$RANK $LOCAL_RANK $NODE_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT" > ${{outputs.out}}/rank-$RANK
echo same > ${{outputs.out}}/shared
echo "here is $RANK""#;
    context.write("pipelines.yaml", &pipeline(command, ""));
    let report = submitted(&context, "places", 0);
    let out = output(&report);
    let mut ports = Vec::new();
    for (rank, place) in ["0 0 0", "1 1 0", "2 0 1", "3 1 1"].iter().enumerate() {
        let said = std::fs::read_to_string(out.join(format!("rank-{rank}"))).expect("its file");
        let (before, port) = said.trim().rsplit_once(' ').expect("a port");
        assert_eq!(before, format!("{place} 4 127.0.0.1"));
        ports.push(port.parse::<u16>().expect("a port"));
    }
    assert!(ports.iter().all(|port| *port == ports[0] && *port > 0));
    let shared = std::fs::read_to_string(out.join("shared")).expect("the shared file");
    assert_eq!(shared, "same\n");
    let log = context.run(["logs", "places", "train"]).exits(0).stdout;
    for rank in 0..4 {
        assert!(
            log.contains(&format!("[rank {rank}] here is {rank}\n")),
            "{log}"
        );
    }
    let ends = ends(&context, "places");
    assert_eq!(ends.len(), 4);
    assert!(
        ends.iter()
            .all(|end| end["cause"].is_null() && end["exit_code"] == 0)
    );
    // The same again is the same step, and another number of processes is not.
    let again = submitted(&context, "again", 0);
    assert_eq!(again["steps"]["train"]["status"], "Reused");
    let fewer = pipeline(command, "").replace("instance_count: 2", "instance_count: 1");
    context.write("pipelines.yaml", &fewer);
    let other = submitted(&context, "fewer", 0);
    assert_eq!(other["steps"]["train"]["status"], "Completed");
    let why = context.run(["explain", "fewer", "train"]).exits(0).stdout;
    assert!(why.contains("instances"), "{why}");
}

#[test]
fn processes_meet_at_the_address_that_they_are_given() {
    let context = Context::new();
    let command = r#"python3 - <<'END'
import os, socket, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    server = socket.create_server(place)
    seen = sorted(int(server.accept()[0].recv(8)) for _ in range(world - 1))
    open("${{outputs.out}}/seen", "w").write(repr(seen))
else:
    until = time.time() + 20
    while True:
        try:
            line = socket.create_connection(place)
            break
        except ConnectionRefusedError:
            assert time.time() < until
            time.sleep(0.05)
    line.sendall(str(rank).encode())
END
"#;
    context.write("pipelines.yaml", &pipeline(command, ""));
    let report = submitted(&context, "meet", 0);
    let seen = std::fs::read_to_string(output(&report).join("seen")).expect("what rank 0 saw");
    assert_eq!(seen, "[1, 2, 3]");
}

#[test]
fn one_that_falls_ends_them_all_and_is_named() {
    let context = Context::new();
    let command = "if [ $RANK = 2 ]; then echo this is why; sleep 0.3; exit 7; fi\nsleep 300";
    context.write("pipelines.yaml", &pipeline(command, "    retry: 2\n"));
    let begun = Instant::now();
    let report = submitted(&context, "falls", 1);
    assert!(begun.elapsed() < Duration::from_secs(60));
    let step = &report["steps"]["train"];
    assert_eq!(step["status"], "Failed");
    assert_eq!(
        (&step["cause"], &step["exit_code"]),
        (&"exit".into(), &7.into())
    );
    assert_eq!(step["attempts"], 2);
    let explained = context.run(["explain", "falls", "train"]).exits(0).stdout;
    assert!(
        explained.contains("rank 2 of 4: the command exited with 7"),
        "{explained}"
    );
    let ends = ends(&context, "falls");
    // Two attempts of four.
    assert_eq!(ends.len(), 8);
    for end in ends {
        let is_first = end["rank"] == 2;
        assert_eq!(end["drawn_along"], !is_first, "{end}");
        assert_eq!(end["cause"], if is_first { "exit" } else { "canceled" });
        if is_first {
            assert_eq!(end["last_lines"][0], "this is why");
        }
    }
}

#[test]
fn two_that_write_one_file_differently_fail_the_step() {
    let context = Context::new();
    let command = "echo $RANK > ${{outputs.out}}/model";
    context.write("pipelines.yaml", &pipeline(command, ""));
    let report = submitted(&context, "differ", 1);
    let step = &report["steps"]["train"];
    assert_eq!(
        (&step["status"], &step["cause"]),
        (&"Failed".into(), &"exit".into())
    );
    let explained = context.run(["explain", "differ", "train"]).exits(0).stdout;
    assert!(
        explained.contains("`out` is not one: ranks 0 and 1 wrote `model` differently"),
        "{explained}"
    );
}

#[test]
fn tensorflow_is_told_its_cluster_and_servers_end_with_the_workers() {
    let context = Context::new();
    let text = pipeline(
        "echo \"$TF_CONFIG\" > ${{outputs.out}}/$(echo \"$TF_CONFIG\" | tr -dc a-z0-9 | tail -c 8)\ncase \"$TF_CONFIG\" in *'\"type\":\"ps\"'*) sleep 300;; *) sleep 3;; esac",
        "",
    )
    .replace(
        "{type: pytorch, process_count_per_instance: 2}",
        "{type: tensorflow, worker_count: 1, parameter_server_count: 1}",
    );
    context.write("pipelines.yaml", &text);
    let begun = Instant::now();
    let report = submitted(&context, "tf", 0);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "the server ended"
    );
    let mut tasks = Vec::new();
    for file in std::fs::read_dir(output(&report))
        .expect("its output")
        .flatten()
    {
        let config: Value =
            serde_json::from_slice(&std::fs::read(file.path()).expect("it")).expect("JSON");
        assert_eq!(
            config["cluster"]["worker"]
                .as_array()
                .expect("workers")
                .len(),
            1
        );
        assert_eq!(
            config["cluster"]["ps"].as_array().expect("servers").len(),
            1
        );
        tasks.push(config["task"]["type"].as_str().expect("a type").to_owned());
    }
    tasks.sort();
    assert_eq!(tasks, ["ps", "worker"]);
}

#[test]
fn mpi_is_started_once_by_mpirun() {
    let context = Context::new();
    let text = pipeline("echo ran >> ${{outputs.out}}/ran", "").replace("pytorch", "mpi");
    context.write("pipelines.yaml", &text);
    // One that says what it was asked, and runs the command once for each host.
    let programs = context.path().join("bin");
    let mpirun = context.write(
        "bin/mpirun",
        "#!/bin/sh\n[ \"$1 $2 $3\" = '-np 4 --hostfile' ] || exit 9\nhosts=$4; shift 4\nwhile read -r host; do \"$@\" || exit; done < \"$hosts\"\n",
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&mpirun, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let path = std::env::var("PATH").expect("PATH");
    let path = format!("{}:{path}", programs.display());
    let context = context.with_variable("PATH", &path);
    let report = submitted(&context, "mpi", 0);
    let ran = std::fs::read_to_string(output(&report).join("ran")).expect("its output");
    assert_eq!(ran, "ran\n".repeat(4));
}

#[test]
fn a_canceled_step_leaves_none_of_its_processes() {
    let context = Context::new();
    let marker = context
        .path()
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let command = format!("env MARKER={marker} sleep 300");
    context.write("pipelines.yaml", &pipeline(&command, ""));
    let mut run = context.start(["submit", "--name", "stopped", "--on", "process"]);
    let left = || {
        let wanted = format!("MARKER={marker}");
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let has = |entry: &std::fs::DirEntry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == wanted.as_bytes())
        };
        processes.filter(has).count()
    };
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !holds() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "waited for {what}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until("four processes", &|| left() >= 4);
    context.run(["cancel", "stopped"]).exits(0);
    assert!(!run.wait().expect("the end of submit").success());
    assert_eq!(left(), 0);
}
