//! Container engines for tests: a dockerd or a podman of their own, with folders of
//! their own, started and ended here. They touch neither an engine of this machine nor
//! its network. What they need is installed by `cargo xtask test containers`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long an engine may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// dockerd; with live-restore its containers outlive it.
    Docker {
        /// `--live-restore`.
        live_restore: bool,
    },
    /// `podman system service`.
    Podman,
}

/// An engine that runs.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    folder: PathBuf,
    daemon: Option<Child>,
    cgroups: Vec<PathBuf>,
}

/// Why this machine cannot run engines for tests; nothing where it can.
#[must_use]
pub fn missing(kind: Kind) -> Option<String> {
    if !nix::unistd::getuid().is_root() {
        return Some("a test engine needs root".to_owned());
    }
    let programs: &[&str] = match kind {
        Kind::Docker { .. } => &["dockerd", "containerd", "runc"],
        Kind::Podman => &["podman", "conmon", "runc"],
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let absent = |program: &&&str| {
        !std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
            .any(|folder| folder.join(program).is_file())
    };
    if let Some(program) = programs.iter().find(absent) {
        return Some(format!(
            "there is no {program}: `cargo xtask test containers` installs it on Debian"
        ));
    }
    let root = ["bookworm", "trixie", "conda"]
        .into_iter()
        .map(root)
        .find(|root| !root.is_file());
    root.map(|root| {
        format!(
            "there is no {}: `cargo xtask test containers` makes it on Debian",
            root.display()
        )
    })
}

/// The files of an image with Debian's `suite` in it: bash, coreutils and its Python; or of
/// one that carries `conda` beside it, with a channel at `/opt/channel` and wheels at
/// `/opt/wheels`.
#[must_use]
pub fn root(suite: &str) -> PathBuf {
    target().join("tools/roots").join(format!("{suite}.tar"))
}

/// The folder `target` of this build.
fn target() -> PathBuf {
    let programs = crate::programs();
    programs.parent().map(Path::to_owned).unwrap_or(programs)
}

impl Engine {
    /// Starts an engine that nobody else uses.
    ///
    /// # Panics
    /// Where it does not answer.
    #[must_use]
    pub fn start(kind: Kind) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let folder = target().join("engines").join(&name);
        // A socket's path is limited to 108 bytes.
        let folder = if folder.as_os_str().len() < 90 {
            folder
        } else {
            std::env::temp_dir().join(format!("auria-engine-{name}"))
        };
        fs::create_dir_all(&folder).expect("the engine's folder");
        let mut engine = Self {
            kind,
            folder,
            daemon: None,
            cgroups: match kind {
                Kind::Docker { .. } => cgroups(&format!("auria-engine-{name}")),
                // Podman's own name; it stays where another's containers are in it.
                Kind::Podman => cgroups("libpod_parent"),
            },
        };
        engine.begin();
        engine
    }

    /// Where it listens, as `DOCKER_HOST` writes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// Starts it again, after [`Engine::crash`].
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn begin(&mut self) {
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_file(self.folder.join("pid"));
        // Where nobody reaps the old containerd, a new dockerd takes it for alive.
        let _ = fs::remove_file(self.folder.join("exec/containerd/containerd.pid"));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("its log");
        let mut command = match self.kind {
            Kind::Docker { live_restore } => self.dockerd(live_restore),
            Kind::Podman => self.podman(),
        };
        command
            // Podman's conmon leaves a file where it is started.
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .process_group(0);
        self.daemon = Some(command.spawn().expect("the engine starts"));
        let begun = Instant::now();
        while self
            .ask("GET", "/_ping", None)
            .is_none_or(|answer| !answer.contains(" 200 "))
        {
            let said = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "no engine answers:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn dockerd(&self, live_restore: bool) -> Command {
        let mut command = Command::new("dockerd");
        let path = |name: &str| self.folder.join(name).display().to_string();
        // Not this machine's own configuration.
        fs::write(self.folder.join("daemon.json"), "{}").expect("the engine's config");
        let parent = self.cgroups.first().and_then(|path| path.file_name());
        command
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--host", &self.address()])
            .args(["--config-file", &path("daemon.json")])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--log-level", "warn"]);
        if let Some(parent) = parent {
            command.arg(format!("--cgroup-parent=/{}", parent.to_string_lossy()));
        }
        if live_restore {
            command.arg("--live-restore");
        }
        command
    }

    fn podman(&self) -> Command {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let configuration = format!(
            "[containers]\nnetns = \"none\"\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\ntmp_dir = \"{}\"\nvolume_path = \"{}\"\n[network]\nnetwork_config_dir = \"{}\"\n",
            path("tmp"),
            path("volumes"),
            path("networks")
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            path("data"),
            path("run")
        );
        fs::write(self.folder.join("containers.conf"), configuration).expect("podman's config");
        fs::write(self.folder.join("storage.conf"), storage).expect("podman's config");
        // In a network of its own: podman makes a bridge and rules, and leaves both behind.
        let mut command = Command::new("unshare");
        command
            .args(["--net", "podman"])
            .env("CONTAINERS_CONF", path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", path("storage.conf"))
            .args(["system", "service", "--time=0", &self.address()]);
        command
    }

    /// Kills the engine's own process, as a crash does.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn crash(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.kill().expect("it is killed");
        daemon.wait().expect("it has ended");
        let begun = Instant::now();
        // dockerd's containerd goes with it; a new one would not start beside it.
        while !self.below(&["containerd "]).is_empty() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes an image of the files of the archive `tar`.
    ///
    /// # Panics
    /// Where the engine refuses.
    pub fn import(&self, tar: &Path, name: &str) {
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        let body = fs::read(tar).expect("the archive");
        // Podman takes the tag with the name alone.
        let named = match self.kind {
            Kind::Docker { .. } => format!("{repository}&tag={tag}"),
            Kind::Podman => name.to_owned(),
        };
        let path = format!("/images/create?fromSrc=-&repo={named}");
        let answer = self.ask("POST", &path, Some(&body)).expect("it answers");
        assert!(
            answer.contains(" 200 ") && !answer.contains("\"error\""),
            "{answer}"
        );
    }

    /// An image with nothing in it but this machine's busybox, called `/tool`.
    ///
    /// # Panics
    /// Where there is no busybox, or the engine refuses.
    pub fn import_without_shell(&self, name: &str) {
        let folder = self.folder.join("without-shell");
        fs::create_dir_all(&folder).expect("a folder");
        fs::copy("/bin/busybox", folder.join("tool")).expect("busybox");
        let tar = self.folder.join("without-shell.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(&folder)
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status();
        assert!(packed.is_ok_and(|status| status.success()));
        self.import(&tar, name);
    }

    /// The containers that it has, running or not, as its API tells them.
    ///
    /// # Panics
    /// Where it does not answer.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        self.names().expect("it answers")
    }

    fn names(&self) -> Option<Vec<String>> {
        let answer = self.ask("GET", "/containers/json?all=1", None)?;
        let names = answer.split("\"Names\":[\"/").skip(1);
        let names = names.filter_map(|rest| Some(rest.split('"').next()?.to_owned()));
        Some(names.collect())
    }

    /// One request of Docker's API; the answer with its head.
    fn ask(&self, method: &str, path: &str, body: Option<&[u8]>) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let length = body.map_or(0, <[u8]>::len);
        let version = if path == "/_ping" { "" } else { "/v1.41" };
        write!(
            stream,
            "{method} {version}{path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
        )
        .ok()?;
        if let Some(body) = body {
            stream.write_all(body).ok()?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Processes whose command line names this engine's folder and one of `words`.
    fn below(&self, words: &[&str]) -> Vec<i32> {
        let folder = self.folder.display().to_string();
        let entries = fs::read_dir("/proc").expect("there is /proc");
        let found = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let line = fs::read(path.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = line.contains(&folder)
                && (words.is_empty() || words.iter().any(|word| line.contains(word)));
            path.file_name()?.to_str()?.parse().ok().filter(|_| ours)
        });
        found.collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        use nix::unistd::Pid;
        if let Some(mut daemon) = self.daemon.take() {
            for name in self.names().unwrap_or_default() {
                let _ = self.ask("DELETE", &format!("/containers/{name}?force=1"), None);
            }
            let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap_or(0));
            let _ = kill(pid, Signal::SIGTERM);
            let begun = Instant::now();
            while matches!(daemon.try_wait(), Ok(None)) {
                if begun.elapsed() > PATIENCE {
                    let _ = daemon.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        for pid in self.below(&[]) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // Innermost first.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let folder = self.folder.display().to_string();
        for mount in mounts.lines().rev() {
            if let Some(path) = mount.split(' ').nth(1)
                && path.starts_with(&folder)
            {
                let _ = Command::new("umount").args(["-l", path]).status();
            }
        }
        for cgroup in &self.cgroups {
            remove_cgroup(cgroup);
        }
        for _ in 0..50 {
            if fs::remove_dir_all(&self.folder).is_ok() || !self.folder.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{} is left", self.folder.display());
    }
}

/// A cgroup of this name in every hierarchy of this machine.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup")
            .then(|| Path::new(path).join(name))
    });
    found.collect()
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
