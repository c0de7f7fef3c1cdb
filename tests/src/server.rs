//! A server of the binary, and what it answers.

use crate::{Context, Done};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

/// A server, ended when it is dropped.
pub struct Server {
    /// Its process.
    pub child: Child,
    /// Where it answers.
    pub url: String,
    /// A token that may do everything.
    pub token: String,
}

impl Server {
    /// Starts one, with more arguments, and makes a token.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(context: &Context, more: &[&str]) -> Self {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--on", "process"];
        args.extend_from_slice(more);
        let mut child = context.start(&args);
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        let url = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).expect("a line") > 0, "{said}");
            said += &line;
            if let Some((_, url)) = line.trim().split_once(" at http://") {
                break format!("http://{url}");
            }
        };
        // A pipe that nobody reads would end it.
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = stderr.read_to_string(&mut rest);
        });
        let mut server = Self {
            child,
            url,
            token: String::new(),
        };
        let made = context.run([
            "token", "create", "test", "--scope", "admin", "--output", "json",
        ]);
        server.token = made.exits(0).json()["token"]
            .as_str()
            .expect("a token")
            .to_owned();
        server
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("the signal");
    }

    /// Asks as its own admin.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(&self.token, method, path, body, &[])
    }

    /// Asks as whoever shows `token`.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut stream = self.send(token, method, path, body, headers);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        Answer::read(&bytes)
    }

    /// Sends a request, whose answer is read by the caller.
    ///
    /// # Panics
    /// Where it does not listen.
    pub fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> TcpStream {
        let host = self.url.strip_prefix("http://").expect("a URL");
        let mut stream = TcpStream::connect(host).expect("the server");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a timeout");
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        if !token.is_empty() {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        write!(stream, "{head}\r\n{body}").expect("the request");
        stream
    }

    /// Waits until a run has ended, and says how.
    ///
    /// # Panics
    /// Where that takes a minute.
    pub fn ended(&self, run: &str) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self
                .ask("GET", &format!("/api/v1/runs/{run}"), None)
                .ok()
                .json();
            if !shown["ended"].is_null() {
                return shown;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads one from all its bytes.
    ///
    /// # Panics
    /// Where they are none.
    pub fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a number");
        let mut body = bytes[end + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Self { status, head, body }
    }

    /// Itself, where that is its status.
    ///
    /// # Panics
    /// Where it is another.
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        self
    }

    /// Itself, where all is well.
    ///
    /// # Panics
    /// Where it is not.
    pub fn ok(self) -> Self {
        assert!(self.status < 300, "{}\n{}", self.head, self.text());
        self
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A refusal as RFC 9457 has it.
    ///
    /// # Panics
    /// Where it is none.
    pub fn problem(self, status: u16) -> Value {
        let answer = self.is(status);
        assert!(
            answer.head.contains("application/problem+json"),
            "{}",
            answer.head
        );
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        problem
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]);
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        whole.extend_from_slice(&bytes[end + 2..][..size]);
        bytes = &bytes[end + 2 + size..];
        bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    }
    whole
}

/// A command line over a server.
///
/// # Panics
/// Where the binary does not start.
pub fn over(context: &Context, server: &Server, args: &[&str]) -> Done {
    let mut command = context.command(args);
    command
        .env("AURIA_SERVER", &server.url)
        .env("AURIA_TOKEN", &server.token);
    let output = command.output().expect("auria-pipeline starts");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A token of this name and scope.
///
/// # Panics
/// Where none can be made.
pub fn token(context: &Context, name: &str, scope: &str) -> String {
    let args = [
        "token", "create", name, "--scope", scope, "--output", "json",
    ];
    let made = context.run(args).exits(0).json();
    made["token"].as_str().expect("a token").to_owned()
}
