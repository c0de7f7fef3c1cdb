//! A local HTTP server that keeps to a published API, and that can cut or hold a connection
//! before a call has its effect, or after it and before the answer.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A request as it came.
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// `http://127.0.0.1:PORT`.
    pub origin: String,
}

impl Request {
    /// The JSON object that it carries.
    pub fn json(&self) -> Value {
        assert_eq!(
            self.headers.get("content-type").map(String::as_str),
            Some("application/json")
        );
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type: "application/json",
            body: body.to_string().into_bytes(),
        }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Cut before the call has its effect.
    CutBefore,
    /// Cut after the effect and before the answer.
    CutAfter,
    /// Held before the effect, until the caller is gone; then there is none.
    HoldBefore,
    /// Held after the effect, until the caller is gone.
    HoldAfter,
}

pub trait Api: Send + 'static {
    /// The name of the call that a request makes, for faults and counts.
    fn name(&self, request: &Request) -> String;
    /// Carries it out.
    fn answer(&mut self, request: &Request) -> Answer;
}

#[derive(Default)]
struct Shared {
    faults: HashMap<String, VecDeque<Fault>>,
    always: HashMap<String, Fault>,
    calls: Vec<String>,
    held: usize,
}

pub struct Server<A> {
    pub origin: String,
    pub api: Arc<Mutex<A>>,
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

impl<A: Api> Server<A> {
    pub fn start(api: A) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            origin: origin.clone(),
            api: Arc::new(Mutex::new(api)),
            shared: Arc::default(),
        };
        let (api, shared) = (server.api.clone(), server.shared.clone());
        // Both end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (api, shared, origin) = (api.clone(), shared.clone(), origin.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &api, &shared, origin));
            }
        });
        server
    }

    /// The next call of this name meets a fault.
    pub fn fault(&self, name: &str, fault: Fault) {
        let mut shared = self.shared.0.lock().unwrap();
        shared
            .faults
            .entry(name.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Every call of this name meets a fault; none ends that.
    pub fn always(&self, name: &str, fault: Option<Fault>) {
        let mut shared = self.shared.0.lock().unwrap();
        match fault {
            Some(fault) => shared.always.insert(name.to_owned(), fault),
            None => shared.always.remove(name),
        };
    }

    /// How often a call was made.
    pub fn calls(&self, name: &str) -> usize {
        let shared = self.shared.0.lock().unwrap();
        shared.calls.iter().filter(|call| *call == name).count()
    }

    /// Waits until a connection is held.
    pub fn wait_until_held(&self) {
        let begun = Instant::now();
        let mut shared = self.shared.0.lock().unwrap();
        while shared.held == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is held");
            let wait = Duration::from_millis(100);
            shared = self.shared.1.wait_timeout(shared, wait).unwrap().0;
        }
    }

    /// Whether a fault waits that no call met.
    pub fn has_faults(&self) -> bool {
        let shared = self.shared.0.lock().unwrap();
        shared.faults.values().any(|faults| !faults.is_empty())
    }
}

fn serve<A: Api>(
    stream: TcpStream,
    api: &Mutex<A>,
    shared: &(Mutex<Shared>, Condvar),
    origin: String,
) {
    let Some(request) = read(&stream, origin) else {
        return;
    };
    let name = api.lock().unwrap().name(&request);
    let fault = {
        let mut shared = shared.0.lock().unwrap();
        shared.calls.push(name.clone());
        let next = shared.faults.get_mut(&name).and_then(VecDeque::pop_front);
        next.or_else(|| shared.always.get(&name).copied())
    };
    if matches!(fault, Some(Fault::CutBefore | Fault::HoldBefore)) {
        if fault == Some(Fault::HoldBefore) {
            hold(&stream, shared);
        }
        return;
    }
    let answer = api.lock().unwrap().answer(&request);
    match fault {
        Some(Fault::HoldAfter) => hold(&stream, shared),
        Some(_) => {}
        None => write(&stream, &answer),
    }
}

/// Until the caller is gone.
fn hold(stream: &TcpStream, shared: &(Mutex<Shared>, Condvar)) {
    shared.0.lock().unwrap().held += 1;
    shared.1.notify_all();
    let mut rest = [0; 64];
    let mut reader = stream;
    while matches!(reader.read(&mut rest), Ok(1..)) {}
    shared.0.lock().unwrap().held -= 1;
}

fn read(stream: &TcpStream, origin: String) -> Option<Request> {
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let method = words.next()?.to_owned();
    let target = words.next()?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let url = url::Url::parse(&format!("{origin}{target}")).unwrap();
    Some(Request {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        body,
        origin,
    })
}

fn write(mut stream: &TcpStream, answer: &Answer) {
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&answer.body);
}

/// Fetches an address as Instagram would: the content type and the body of a 200.
pub fn fetch(address: &str) -> Result<(String, Vec<u8>), String> {
    let url = url::Url::parse(address).map_err(|error| error.to_string())?;
    if url.scheme() != "http" {
        return Err("the test's Instagram speaks http".to_owned());
    }
    let host = format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port().unwrap_or(80)
    );
    let mut stream = TcpStream::connect(&host).map_err(|error| error.to_string())?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or("no answer")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    Ok((
        kind.unwrap_or_default().to_owned(),
        bytes[end + 4..].to_vec(),
    ))
}

/// A folder, served to everyone.
pub struct Files(pub std::path::PathBuf);

impl Api for Files {
    fn name(&self, request: &Request) -> String {
        request.path.clone()
    }

    fn answer(&mut self, request: &Request) -> Answer {
        match std::fs::read(self.0.join(request.path.trim_start_matches('/'))) {
            Ok(body) => Answer {
                status: 200,
                headers: Vec::new(),
                content_type: "image/jpeg",
                body,
            },
            Err(_) => Answer::json(404, &Value::Null),
        }
    }
}
