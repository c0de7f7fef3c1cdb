//! Where the steps of a generated pipeline play: each tells this server that it has begun, and
//! waits for its word before it does its work. So a fault meets an attempt that certainly runs,
//! and what really ran is known outside of every store.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The machine's address on the cluster's bridge.
const HOST: &str = "10.213.0.1";
/// How long a step takes that nobody holds, in milliseconds: between these.
const TAKES: (u64, u64) = (500, 3_000);
/// How long a step that has its word may take to say that it is done.
const WORKS: Duration = Duration::from_secs(60);

/// An attempt of a step of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attempt {
    pub(crate) run: String,
    pub(crate) step: String,
    pub(crate) number: u32,
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} #{} of {}", self.step, self.number, self.run)
    }
}

/// What is known of an attempt.
#[derive(Clone, Debug)]
struct Scene {
    /// How often it has begun.
    begun: u32,
    /// When it may go on, unless it is held.
    due: Instant,
    held: bool,
    word: &'static str,
    /// It has its word, or its connection is gone.
    over: bool,
    /// It said that its work is done.
    done: bool,
}

type Scenes = Arc<Mutex<BTreeMap<Attempt, Scene>>>;

/// The server; it goes with its process.
pub(crate) struct Stage {
    address: SocketAddr,
    scenes: Scenes,
}

impl Stage {
    /// Listens on the cluster's bridge.
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind((HOST, 0)).expect("the cluster's bridge is there");
        let address = listener.local_addr().expect("it has an address");
        let scenes = Scenes::default();
        let all = scenes.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let scenes = all.clone();
                std::thread::spawn(move || play(&stream, &scenes));
            }
        });
        Self { address, scenes }
    }

    /// What a step says and does before its work.
    pub(crate) fn prologue(&self) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!(
            "trap '' PIPE\n\
             exec 3<>/dev/tcp/{host}/{port} || true\n\
             echo \"$AURIA_RUN $AURIA_STEP $AURIA_ATTEMPT\" >&3 || true\n\
             read -r -t 150 -u 3 word || word=go\n\
             if [ \"$word\" = hog ]; then exec tail /dev/zero; fi\n"
        )
    }

    fn scenes(&self) -> MutexGuard<'_, BTreeMap<Attempt, Scene>> {
        lock(&self.scenes)
    }

    /// The attempts that wait for their word.
    pub(crate) fn waiting(&self) -> Vec<Attempt> {
        let scenes = self.scenes();
        let waiting = scenes.iter().filter(|(_, scene)| !scene.over);
        waiting.map(|(attempt, _)| attempt.clone()).collect()
    }

    /// Keeps an attempt where it is; false where it went on already.
    pub(crate) fn hold(&self, attempt: &Attempt) -> bool {
        match self.scenes().get_mut(attempt) {
            Some(scene) if !scene.over => {
                scene.held = true;
                true
            }
            _ => false,
        }
    }

    /// Lets it go on, with a word: `go`, or `hog` for more memory than it may have.
    pub(crate) fn release(&self, attempt: &Attempt, word: &'static str) {
        if let Some(scene) = self.scenes().get_mut(attempt) {
            scene.word = word;
            scene.held = false;
            scene.due = Instant::now();
        }
    }

    /// How often each attempt of a run has begun, and whether it said that it was done.
    pub(crate) fn played(&self, run: &str) -> Vec<(Attempt, u32, bool)> {
        let scenes = self.scenes();
        let own = scenes.iter().filter(|(attempt, _)| attempt.run == run);
        own.map(|(attempt, scene)| (attempt.clone(), scene.begun, scene.done))
            .collect()
    }
}

fn lock(scenes: &Scenes) -> MutexGuard<'_, BTreeMap<Attempt, Scene>> {
    scenes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One attempt, from its beginning to its end.
fn play(stream: &TcpStream, scenes: &Scenes) -> Option<()> {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    stream
        .set_write_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [run, step, number] = words[..] else {
        return None;
    };
    let attempt = Attempt {
        run: run.to_owned(),
        step: step.to_owned(),
        number: number.parse().ok()?,
    };
    let mut scene = lock(scenes).get(&attempt).cloned().unwrap_or(Scene {
        begun: 0,
        due: Instant::now() + takes(&attempt),
        held: false,
        word: "go",
        over: false,
        done: false,
    });
    scene.begun += 1;
    scene.over = false;
    lock(scenes).insert(attempt.clone(), scene);
    let word = wait_for_word(stream, scenes, &attempt);
    if let Some(scene) = lock(scenes).get_mut(&attempt) {
        scene.over = true;
    }
    writeln!(&mut &*stream, "{}", word?).ok()?;
    stream.set_read_timeout(Some(WORKS)).ok()?;
    line.clear();
    lines.read_line(&mut line).ok()?;
    if line.trim() == "done"
        && let Some(scene) = lock(scenes).get_mut(&attempt)
    {
        scene.done = true;
    }
    Some(())
}

/// The word for an attempt, when it is due; none where the attempt goes away before.
fn wait_for_word(stream: &TcpStream, scenes: &Scenes, attempt: &Attempt) -> Option<&'static str> {
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .ok()?;
    loop {
        {
            let scenes = lock(scenes);
            let scene = scenes.get(attempt)?;
            if !scene.held && Instant::now() >= scene.due {
                return Some(scene.word);
            }
        }
        match stream.peek(&mut [0]) {
            // It has closed its end.
            Ok(0) => return None,
            Ok(_) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
    }
}

/// How long a step takes: of its name alone, so that a seed means the same run again.
fn takes(attempt: &Attempt) -> Duration {
    let hash = blake3::hash(attempt.step.as_bytes());
    let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default());
    Duration::from_millis(TAKES.0 + number % (TAKES.1 - TAKES.0))
}
