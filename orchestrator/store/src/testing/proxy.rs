//! A proxy in front of a real S3 server, that fails, stalls and lies: it cuts
//! connections, answers for the server, changes bytes on the way, gives what was
//! there before. What happens to which request is a function of the test's; each
//! connection carries one request, and all of it is held in memory.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// A plain write.
    Put,
    /// A write if absent.
    Create,
    /// The begin of a multipart upload.
    Begin,
    /// One part of it.
    Part,
    /// Its completion.
    Complete,
    /// A read of an object, or of a range of it.
    Get,
    /// A read of what is known of an object.
    Head,
    /// A listing.
    List,
    /// Anything else: deletions, aborts.
    Other,
}

/// What the proxy does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Nothing, and answers 500.
    Fails,
    /// Nothing, and answers 503, `SlowDown`.
    SlowDown,
    /// Nothing, and answers 409.
    Busy,
    /// Closes the connection before it has read all that is sent.
    CutRequest,
    /// Nothing, and never answers.
    Silent,
    /// What was asked, and closes the connection in the middle of the answer.
    CutAnswer,
    /// What was asked, and stops in the middle of the answer.
    StallAnswer,
    /// What was asked, and gives half of the body, with the length of that half.
    ShortAnswer,
    /// What was asked, with one bit of what was sent changed.
    FlipSent,
    /// What was asked, with one bit of the answer's body changed.
    FlipAnswer,
    /// The answer that the same question had before.
    Older,
    /// What was asked, and answers 500.
    AppliedThenFails,
    /// What was asked, and closes the connection without an answer.
    AppliedThenCut,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Fails,
        Self::SlowDown,
        Self::Busy,
        Self::CutRequest,
        Self::Silent,
        Self::CutAnswer,
        Self::StallAnswer,
        Self::ShortAnswer,
        Self::FlipSent,
        Self::FlipAnswer,
        Self::Older,
        Self::AppliedThenFails,
        Self::AppliedThenCut,
    ];

    /// Whether it means something for such a request.
    #[must_use]
    pub fn fits(self, asked: Asked) -> bool {
        use Asked as A;
        match self {
            Self::Fails
            | Self::SlowDown
            | Self::CutRequest
            | Self::Silent
            | Self::CutAnswer
            | Self::StallAnswer => true,
            Self::Busy | Self::AppliedThenFails | Self::AppliedThenCut => matches!(
                asked,
                A::Put | A::Create | A::Begin | A::Part | A::Complete | A::Other
            ),
            Self::ShortAnswer => matches!(asked, A::Get | A::List | A::Begin | A::Complete),
            Self::FlipSent => matches!(asked, A::Put | A::Create | A::Part),
            Self::FlipAnswer | Self::Older => asked == A::Get,
        }
    }
}

type Script = dyn Fn(Asked, &str) -> Option<Wrong> + Send + Sync;

/// How often each fault met each kind of request.
pub type Hits = BTreeMap<(Asked, Wrong), u64>;

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    server: String,
    script: Box<Script>,
    hits: Mutex<Hits>,
    answers: Mutex<Answers>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "proxy of {}", self.server)
    }
}

/// Bytes of answers that are remembered.
const REMEMBERED: usize = 64 * 1024 * 1024;
/// Larger than any part.
const LARGEST: usize = 64 * 1024 * 1024;
/// Connections at once; others wait to be accepted.
const CONNECTIONS: usize = 512;
/// How long a silent connection is held where the other side does not close it.
const SILENCE: Duration = Duration::from_secs(120);

/// What questions were answered with, the newest last.
#[derive(Default)]
struct Answers {
    all: VecDeque<(String, Vec<u8>)>,
    bytes: usize,
}

impl Answers {
    fn remember(&mut self, question: String, answer: &[u8]) {
        self.bytes += answer.len();
        self.all.push_back((question, answer.to_vec()));
        while self.bytes > REMEMBERED
            && let Some((_, oldest)) = self.all.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// An answer to `question` other than `now`.
    fn older(&self, question: &str, now: &[u8]) -> Option<Vec<u8>> {
        let same = |(asked, answer): &&(String, Vec<u8>)| {
            asked == question && body_of(answer) != body_of(now)
        };
        self.all.iter().find(same).map(|(_, answer)| answer.clone())
    }
}

impl FaultProxy {
    /// Starts one before the server at `endpoint`, `http://HOST:PORT`. `script` is
    /// asked for each request, with its path and query.
    ///
    /// # Errors
    /// Where no port can be listened on.
    pub async fn start(
        endpoint: &str,
        script: impl Fn(Asked, &str) -> Option<Wrong> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: endpoint.trim_start_matches("http://").to_owned(),
            script: Box::new(script),
            hits: Mutex::default(),
            answers: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _tasks: tasks,
        })
    }

    /// Where it answers.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it did so far.
    #[must_use]
    pub fn hits(&self) -> Hits {
        let hits = self.shared.hits.lock();
        hits.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        if let Ok((client, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            // What breaks off here is a fault like the others.
            connections.spawn(async move { serve(client, &shared).await.unwrap_or(()) });
        }
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let Some((head, begun)) = read_head(&mut client).await? else {
        return Ok(());
    };
    let mut words = head.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let asked = classify(method, target, &head);
    let wrong = (shared.script)(asked, target).filter(|wrong| wrong.fits(asked));
    let hit = |wrong| {
        let mut hits = shared.hits.lock().unwrap_or_else(PoisonError::into_inner);
        *hits.entry((asked, wrong)).or_default() += 1;
    };
    // Another place each time: who looks twice is to see two things.
    let somewhere = |length: usize| {
        let hits = shared.hits.lock().unwrap_or_else(PoisonError::into_inner);
        let count = hits.values().sum::<u64>();
        (count.wrapping_mul(7919) % length.max(1) as u64) as usize
    };
    if wrong == Some(Wrong::CutRequest) {
        hit(Wrong::CutRequest);
        return Ok(());
    }
    let mut body = read_body(&mut client, &head, begun).await?;
    let canned = match wrong {
        Some(Wrong::Fails) => Some(("500 Internal Server Error", "InternalError")),
        Some(Wrong::SlowDown) => Some(("503 Slow Down", "SlowDown")),
        Some(Wrong::Busy) => Some(("409 Conflict", "OperationAborted")),
        _ => None,
    };
    if let (Some(wrong), Some((status, code))) = (wrong, canned) {
        hit(wrong);
        return client.write_all(&refusal(status, code)).await;
    }
    if wrong == Some(Wrong::Silent) {
        hit(Wrong::Silent);
        return hold(client).await;
    }
    if wrong == Some(Wrong::FlipSent) && !body.is_empty() {
        hit(Wrong::FlipSent);
        let at = somewhere(body.len());
        body[at] ^= 1;
    }
    let answer = forward(&shared.server, &head, &body).await?;
    let answer = plain(method, &answer);
    let is_ok = answer.starts_with(b"HTTP/1.1 2");
    let question = format!("{target} {}", header(&head, "range").unwrap_or_default());
    let mut older = None;
    if asked == Asked::Get && is_ok {
        let mut answers = shared
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if wrong == Some(Wrong::Older) {
            older = answers.older(&question, &answer);
        }
        answers.remember(question, &answer);
    }
    let half = body_start(&answer) + body_of(&answer).len() / 2;
    match wrong {
        Some(wrong @ Wrong::AppliedThenCut) => {
            hit(wrong);
            Ok(())
        }
        Some(wrong @ Wrong::AppliedThenFails) => {
            hit(wrong);
            let refusal = refusal("500 Internal Server Error", "InternalError");
            client.write_all(&refusal).await
        }
        Some(wrong @ (Wrong::CutAnswer | Wrong::StallAnswer)) => {
            hit(wrong);
            // In the middle of the body, or where there is none, of the head.
            let at = if half == answer.len() { half / 2 } else { half };
            client.write_all(&answer[..at]).await?;
            if wrong == Wrong::StallAnswer {
                return hold(client).await;
            }
            Ok(())
        }
        Some(wrong @ Wrong::ShortAnswer) if is_ok && half < answer.len() => {
            hit(wrong);
            let body = &body_of(&answer)[..half - body_start(&answer)];
            client.write_all(&with_body(&answer, body)).await
        }
        Some(wrong @ Wrong::FlipAnswer) if is_ok && half < answer.len() => {
            hit(wrong);
            let mut answer = answer;
            let start = body_start(&answer);
            let at = start + somewhere(answer.len() - start);
            answer[at] ^= 1;
            client.write_all(&answer).await
        }
        Some(wrong @ Wrong::Older) if older.is_some() => {
            hit(wrong);
            client.write_all(&older.unwrap_or_default()).await
        }
        _ => client.write_all(&answer).await,
    }
}

fn classify(method: &str, target: &str, head: &str) -> Asked {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    match method {
        "PUT" if query.contains("partNumber=") => Asked::Part,
        "PUT" if header(head, "if-none-match").is_some() => Asked::Create,
        "PUT" => Asked::Put,
        "POST" if query.contains("uploads") => Asked::Begin,
        "POST" if query.contains("uploadId=") => Asked::Complete,
        "GET" if query.contains("list-type=") => Asked::List,
        "GET" => Asked::Get,
        "HEAD" => Asked::Head,
        _ => Asked::Other,
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The lines of a message up to its body, and the bytes that came after them.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), rest)));
        }
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > 1024 * 1024 {
            return Ok(None);
        }
    }
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    head: &str,
    mut body: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let length = header(head, "content-length").and_then(|text| text.parse().ok());
    let length: usize = length.unwrap_or(0);
    if length > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let left = (length - body.len().min(length)) as u64;
    stream.take(left).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

/// The server's answer, up to the end of the connection.
async fn forward(server: &str, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(server).await?;
    let lines = head
        .lines()
        .filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"));
    let mut request: String = lines.map(|line| format!("{line}\r\n")).collect();
    request += "Connection: close\r\n\r\n";
    upstream.write_all(request.as_bytes()).await?;
    upstream.write_all(body).await?;
    let mut answer = Vec::new();
    upstream
        .take(LARGEST as u64)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

fn body_start(answer: &[u8]) -> usize {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(answer.len(), |end| end + 4)
}

fn body_of(answer: &[u8]) -> &[u8] {
    &answer[body_start(answer)..]
}

/// The head of `answer` before `body`, with its length.
fn with_body(answer: &[u8], body: &[u8]) -> Vec<u8> {
    let head = String::from_utf8_lossy(&answer[..body_start(answer)]).into_owned();
    let lines = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        let framing = ["content-length", "transfer-encoding", "connection"];
        !line.is_empty() && !framing.contains(&name.to_ascii_lowercase().as_str())
    });
    let mut answer: Vec<u8> = lines
        .flat_map(|line| format!("{line}\r\n").into_bytes())
        .collect();
    let framing = format!(
        "Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    answer.extend(framing.into_bytes());
    answer.extend(body);
    answer
}

/// `answer` in one piece, with its length, as the last on its connection.
fn plain(method: &str, answer: &[u8]) -> Vec<u8> {
    let start = body_start(answer);
    let head = String::from_utf8_lossy(&answer[..start]).into_owned();
    if method == "HEAD" {
        // Its length is that of a body which does not follow.
        let end = start.saturating_sub(2);
        let mut answer = answer[..end].to_vec();
        answer.extend(b"Connection: close\r\n\r\n");
        return answer;
    }
    let chunked = header(&head, "transfer-encoding").is_some_and(|how| how.contains("chunked"));
    let body = if chunked {
        unchunked(&answer[start..])
    } else {
        answer[start..].to_vec()
    };
    with_body(answer, &body)
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap_or("0");
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let (from, to) = (end + 2, end + 2 + size);
        if size == 0 || to > rest.len() {
            break;
        }
        body.extend(&rest[from..to]);
        rest = rest.get(to + 2..).unwrap_or_default();
    }
    body
}

fn refusal(status: &str, code: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Keeps the connection, and says nothing, until the other side has had enough.
async fn hold(mut client: TcpStream) -> io::Result<()> {
    let mut nothing = [0; 64];
    let closed = async { while client.read(&mut nothing).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(SILENCE, closed).await.ok();
    Ok(())
}
