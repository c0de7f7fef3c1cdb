//! The launcher's socket: tells everyone who listens what happens to the attempt,
//! and takes requests to stop. A listener that does not read is dropped; it may
//! connect again and hears the current state first. Never waits for a listener
//! but at the very end, and then briefly.

use crate::stop::Stopper;
use crate::wire::{Line, Request, WIRE_VERSION};
use auria_core::AttemptId;
use auria_core::outcome::Cause;
use auria_core::run::AttemptNews;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Lines that may wait for one listener: a few seconds of a busy log.
const QUEUE: usize = 1024;
/// Of these, lines of the log leave this many for news.
const KEPT_FOR_NEWS: usize = 64;
/// The longest request; a stop is far shorter.
const LONGEST_REQUEST: u64 = 4096;
/// How many last lines of the log are kept.
const LAST_LINES: usize = 20;
/// Characters of a line that are kept among the last.
const LAST_LINE_LENGTH: usize = 2000;

/// Where news and log lines go.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    hello: Line,
    /// News that a new listener needs: each is the latest of its kind.
    news: Vec<AttemptNews>,
    last_lines: VecDeque<String>,
    listeners: Vec<mpsc::Sender<Arc<str>>>,
}

impl Hub {
    pub(crate) fn new(attempt: AttemptId) -> Self {
        let hello = Line::Hello {
            version: WIRE_VERSION,
            attempt,
            pid: std::process::id(),
        };
        let state = State {
            hello,
            news: Vec::new(),
            last_lines: VecDeque::new(),
            listeners: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every listener, and those to come.
    pub(crate) fn news(&self, news: AttemptNews) {
        let mut state = self.state();
        state
            .news
            .retain(|old| std::mem::discriminant(old) != std::mem::discriminant(&news));
        state.news.push(news.clone());
        let Some(line) = encode(&Line::News { news }) else {
            return;
        };
        state
            .listeners
            .retain(|listener| listener.try_send(line.clone()).is_ok());
    }

    /// Tells the listeners that keep up, and remembers the last lines.
    pub(crate) fn log(&self, lines: Vec<String>) {
        let mut state = self.state();
        for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
            if state.last_lines.len() == LAST_LINES {
                state.last_lines.pop_front();
            }
            state
                .last_lines
                .push_back(line.chars().take(LAST_LINE_LENGTH).collect());
        }
        if state.listeners.is_empty() {
            return;
        }
        let Some(line) = encode(&Line::Log { lines }) else {
            return;
        };
        for listener in state
            .listeners
            .iter()
            .filter(|listener| listener.capacity() > KEPT_FOR_NEWS)
        {
            let _ = listener.try_send(line.clone());
        }
    }

    /// The last lines of the log.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.state().last_lines.iter().cloned().collect()
    }

    /// What is said from now on, after the current state: lines of JSON.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Arc<str>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.state();
        let mut lines = vec![state.hello.clone()];
        lines.extend(
            state
                .news
                .iter()
                .map(|news| Line::News { news: news.clone() }),
        );
        if !state.last_lines.is_empty() {
            lines.push(Line::Log {
                lines: state.last_lines.iter().cloned().collect(),
            });
        }
        for line in lines.iter().filter_map(encode) {
            // The queue is empty and longer than these few lines.
            let _ = sender.try_send(line);
        }
        state.listeners.push(sender);
        receiver
    }

    fn close(&self) {
        self.state().listeners.clear();
    }
}

fn encode(line: &Line) -> Option<Arc<str>> {
    match serde_json::to_string(line) {
        Ok(mut text) => {
            text.push('\n');
            Some(text.into())
        }
        Err(error) => {
            tracing::error!("cannot write {line:?} as JSON: {error}");
            None
        }
    }
}

/// Listens at `path`, which nobody else does: the caller holds the attempt's lock.
pub(crate) fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::net::UnixListener::bind(path)
}

/// The socket with everyone who listens.
#[derive(Debug)]
pub(crate) struct Server {
    hub: Hub,
    accepting: JoinSet<JoinSet<()>>,
    end: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    /// Serves those who connect to `listener`.
    pub(crate) fn start(
        listener: std::os::unix::net::UnixListener,
        hub: Hub,
        stopper: Stopper,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let accepted = hub.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                tokio::select! {
                    _ = &mut ended => return serving,
                    Some(_) = serving.join_next() => {}
                    stream = listener.accept() => match stream {
                        Ok((stream, _)) => {
                            serving.spawn(serve(stream, accepted.listen(), stopper.clone()));
                        }
                        // Out of descriptors: those that listen go on.
                        Err(error) => {
                            tracing::warn!("a listener could not connect: {error}");
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
            }
        });
        Ok(Self {
            hub,
            accepting,
            end,
        })
    }

    /// Gives the listeners a moment to read what they were told, and hangs up.
    pub(crate) async fn finish(self) {
        let Self {
            hub,
            mut accepting,
            end,
        } = self;
        let _ = end.send(());
        let Some(Ok(mut serving)) = accepting.join_next().await else {
            return;
        };
        hub.close();
        let all = async { while serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), all).await;
    }
}

async fn serve(stream: UnixStream, mut lines: mpsc::Receiver<Arc<str>>, stopper: Stopper) {
    let (read, mut write) = stream.into_split();
    let speak = async {
        while let Some(line) = lines.recv().await {
            if write.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let hear = async {
        let mut read = BufReader::new(read);
        loop {
            let mut line = String::new();
            match (&mut read).take(LONGEST_REQUEST).read_line(&mut line).await {
                // A listener that only reads may have closed its other half.
                Ok(0) | Err(_) => return std::future::pending::<()>().await,
                Ok(_) => match serde_json::from_str(&line) {
                    Ok(Request::Stop { grace_ms }) => {
                        stopper.ask(Cause::Canceled, Duration::from_millis(grace_ms));
                    }
                    Err(error) => {
                        tracing::warn!("a listener asks for something unknown: {error}");
                        return std::future::pending::<()>().await;
                    }
                },
            }
        }
    };
    tokio::select! {
        () = speak => {}
        () = hear => {}
    }
}
