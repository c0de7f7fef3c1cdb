//! Transfers as a user meets them: progress, Ctrl-C in the middle, and inputs that
//! live outside of the store.

use auria_store::testing::{Asked, FaultProxy, Weed, Wrong};
use auria_tests::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

const BIG: &str = "
type: pipeline
name: big
jobs:
  make:
    command: head -c 20000000 /dev/urandom > ${{outputs.big}}
    outputs: {big: {type: uri_file}}
";

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The store stops in the middle of an answer; the user has had enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_leaves_no_half_file() {
    let weed = Weed::start()
        .await
        .expect("SeaweedFS: `cargo xtask weed` installs it");
    let stalling = FaultProxy::start(weed.endpoint(), |asked, path| {
        let is_big = asked == Asked::Get && path.contains("/outputs/");
        is_big.then_some(Wrong::StallAnswer)
    })
    .await
    .expect("a proxy");
    let url = weed.url("ctrl-c").to_string();
    let mut context = Context::new().with_store(&url);
    for (name, value) in weed.env() {
        context = context.with_variable(name, &value);
    }
    context.write("pipelines.yaml", BIG);
    context.run(["submit", "--name", "b"]).exits(0);
    let context = context.with_variable("AWS_ENDPOINT_URL", &stalling.endpoint());
    let to = context.path().join("here");
    let arguments = ["download", "b", "--to", &to.to_string_lossy()];
    let mut child = context.start(arguments);
    let said = child.stderr.take().expect("a pipe");
    let mut lines = BufReader::new(said).lines();
    let first = lines.next().expect("progress").expect("text");
    assert!(
        first.contains("make.big:") && first.contains(" of 19.1 MiB"),
        "{first}"
    );
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGINT).expect("a signal");
    let status = child.wait().expect("its end");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(status.code(), Some(130), "{rest:?}");
    assert!(
        rest.iter().any(|line| line.contains("interrupted")),
        "{rest:?}"
    );
    assert_eq!(files(&to), Vec::<PathBuf>::new());

    let context = context.with_variable("AWS_ENDPOINT_URL", weed.endpoint());
    context.run(arguments).exits(0);
    let all = files(&to);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(
        std::fs::metadata(&all[0]).expect("the file").len(),
        20_000_000
    );
}

/// Gives `first` to those who look, and `then` to those who read.
fn serve(first: &'static str, then: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, first, then);
        }
    });
    address
}

fn answer(mut stream: TcpStream, first: &str, then: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let asked = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let head = asked.starts_with("HEAD");
    let tag = if head { first } else { then };
    let body = if head { "" } else { "old pond\n" };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"{tag}\"\r\nContent-Length: 9\r\n\r\n{body}"
    )
}

fn pipeline(uri: &str) -> String {
    format!(
        "type: pipeline\nname: outside\njobs:\n  read:\n    command: cat ${{{{inputs.poem}}}}\n    \
         inputs:\n      poem: {{type: uri_file, path: {uri}, mode: ro_mount}}\n"
    )
}

#[test]
fn an_input_from_the_web_is_pinned() {
    let address = serve("1", "1");
    let context = Context::new();
    context.write("pipelines.yaml", &pipeline(&format!("{address}/poem.txt")));
    context.run(["submit", "--name", "w"]).exits(0);
    assert_eq!(
        context.run(["logs", "w", "read"]).exits(0).stdout,
        "old pond\n"
    );
    let again = context.run(["submit", "--output", "json"]).exits(0).json();
    assert_eq!(again["steps"]["read"]["status"], "Reused");

    // By the time that the step reads it, it is another.
    let address = serve("1", "2");
    context.write("pipelines.yaml", &pipeline(&format!("{address}/poem.txt")));
    let done = context.run(["submit", "--name", "x"]).exits(1);
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(all.contains("changed since the run was planned"), "{all}");

    // Nobody is there: said at its place in the file, before anything is started.
    context.write("pipelines.yaml", &pipeline("http://127.0.0.1:1/poem.txt"));
    let done = context.run(["submit"]).exits(2);
    assert!(
        done.stderr.contains("http://127.0.0.1:1/poem.txt")
            && done.stderr.contains("pipelines.yaml:7"),
        "{}",
        done.stderr
    );
}
