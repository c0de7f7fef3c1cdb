//! Real processes on this machine, over Gloo: what they compute together, and what they say
//! when one of them is gone.

// A test that cannot go on should stop.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use auria_steps_common::distributed::{Group, GroupArgs, Reducer, Share};
use auria_steps_common::weights::Tensors;
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use tch::{Device, Kind, Tensor};

/// Which part a process of this program plays; not set in the test itself.
const PART: &str = "AURIA_TEST_PART";

/// Started by the other tests, in processes of its own.
#[test]
fn member() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    tch::set_num_threads(1);
    let group_timeout = std::env::var("AURIA_GROUP_TIMEOUT")
        .unwrap()
        .parse()
        .unwrap();
    let done = Group::from_env(GroupArgs { group_timeout }).and_then(|group| {
        assert_eq!(
            group.size().to_string(),
            std::env::var("WORLD_SIZE").unwrap()
        );
        match part.as_str() {
            "computes" => computes(&group),
            "reduces" => reduces(&group),
            fails => loses(&group, fails),
        }
    });
    if let Err(error) = done {
        eprintln!("SAID: {error}");
        std::process::exit(3);
    }
}

type Done = Result<(), auria_steps_common::distributed::GroupError>;

fn computes(group: &Group) -> Done {
    let (rank, size) = (group.rank() as i64, group.size() as i64);
    let mine = Tensor::arange(1_000_000, (Kind::Float, Device::Cpu)) * (rank + 1);
    let expected =
        Tensor::arange(1_000_000, (Kind::Float, Device::Cpu)) * ((size + 1) as f64 / 2.0);
    let begun = Instant::now();
    for _ in 0..20 {
        let mut tensor = mine.copy();
        group.average(&mut tensor, "in a mean")?;
        assert!(tensor.allclose(&expected, 1e-6, 0.0, false));
    }
    println!("20 means of a million floats: {:?}", begun.elapsed());
    // One that is not contiguous, and doubles.
    let mut doubles = Tensor::full([4, 3], 0.1, (Kind::Double, Device::Cpu)).tr();
    group.all_reduce(&mut doubles, "in a sum")?;
    assert!((doubles.double_value(&[2, 3]) - 0.1 * size as f64).abs() < 1e-15);
    for root in 0..size {
        let mut tensor = Tensor::full([1000], rank, (Kind::Float, Device::Cpu));
        group.broadcast(&mut tensor, root as usize, "in a broadcast")?;
        assert_eq!(
            tensor,
            Tensor::full([1000], root, (Kind::Float, Device::Cpu))
        );
    }
    let squares: Vec<i64> = (0..size).map(|rank| rank * rank).collect();
    assert_eq!(group.all_gather(rank * rank, "in a round")?, squares);
    assert_eq!(
        group.sums([1.0, 1e-9], "in a sum")?,
        [size as f64, size as f64 * 1e-9]
    );
    let word = if group.is_first() {
        b"from the first".to_vec()
    } else {
        Vec::new()
    };
    assert_eq!(group.bytes_of_first(word, "in a word")?, b"from the first");
    assert!(group.bytes_of_first(Vec::new(), "in a word")?.is_empty());
    group.barrier("at the end")
}

/// A model of three matrices, more than one bucket, over a batch that shares unevenly.
fn reduces(group: &Group) -> Done {
    let draw = |seed: i64, shape: &[i64]| {
        tch::manual_seed(seed);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    };
    let model = |seed: i64| {
        let variables = [("a", [8, 900]), ("b", [900, 900]), ("c", [900, 4])];
        let all = variables.iter().zip(seed..).map(|((name, shape), seed)| {
            let variable = (draw(seed, shape) * 0.05).set_requires_grad(true);
            ((*name).to_owned(), variable)
        });
        all.collect::<Tensors>()
    };
    let loss = |model: &Tensors, x: &Tensor| {
        let hidden = x.matmul(&model["a"]).tanh().matmul(&model["b"]).tanh();
        hidden.matmul(&model["c"]).square().mean(Kind::Float)
    };
    // Each begins elsewhere, and has the weights of the first then.
    let mine = model(10 * (1 + group.rank() as i64));
    let same = model(10);
    let reducer = Reducer::new(group, &mine)?;
    let batch = 7;
    let share = group.share(batch)?;
    assert_eq!(share, Share::of(batch, group.rank(), group.size()));
    for step in 0..4 {
        let x = draw(100 + step, &[batch, 8]);
        for variable in mine.values().chain(same.values()) {
            variable.shallow_clone().zero_grad();
        }
        reducer.begin()?;
        reducer.backward(&loss(&mine, &x.narrow(0, share.first, share.count)), share)?;
        loss(&same, &x).backward();
        for (name, variable) in &mine {
            assert_eq!(variable, &same[name], "{name}");
            let (ours, whole) = (variable.grad(), same[name].grad());
            assert!(
                ours.allclose(&whole, 1e-4, 1e-7, false),
                "{name} in step {step}"
            );
        }
    }
    drop(reducer);
    group.barrier("at the end")
}

/// The last member ends, or stops, in the middle; the others go on.
fn loses(group: &Group, how: &str) -> Done {
    let mut tensor = Tensor::ones([100_000], (Kind::Float, Device::Cpu));
    for round in 0..1000 {
        if round == 5 && group.rank() + 1 == group.size() {
            let signal = if how == "ends" {
                Signal::SIGKILL
            } else {
                Signal::SIGSTOP
            };
            raise(signal).unwrap();
        }
        group.average(&mut tensor, "in a mean")?;
    }
    Ok(())
}

/// A free port, as good as one can know.
fn port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn start(part: &str, rank: usize, size: usize, port: u16, timeout: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "member", "--nocapture"])
        .env(PART, part)
        .env("RANK", rank.to_string())
        .env("WORLD_SIZE", size.to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .env("AURIA_GROUP_TIMEOUT", timeout.to_string())
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts all members; killed when dropped.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    fn new(part: &str, size: usize, timeout: u64) -> Self {
        let port = port();
        Self(
            (0..size)
                .map(|rank| start(part, rank, size, port, timeout))
                .collect(),
        )
    }

    /// How the process of a rank ended.
    fn ended(&mut self, rank: usize) -> Output {
        let child = &mut self.0[rank];
        let status = child.wait().unwrap();
        let mut output = Output {
            status,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut output.stdout)
            .unwrap();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_end(&mut output.stderr)
            .unwrap();
        output
    }

    /// What the process of a rank said that was to fail.
    fn failure(&mut self, rank: usize) -> String {
        let output = self.ended(rank);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        let said = text.lines().find_map(|line| line.split_once("SAID: "));
        said.map(|(_, what)| what.to_owned())
            .unwrap_or_else(|| panic!("{text}"))
    }

    fn all_end_well(&mut self) {
        for rank in 0..self.0.len() {
            let output = self.ended(rank);
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(output.status.success(), "rank {rank}: {text}");
            assert!(text.contains("1 passed"), "rank {rank}: {text}");
        }
    }
}

#[test]
fn they_compute_together() {
    for size in [2, 3] {
        Running::new("computes", size, 60).all_end_well();
    }
}

#[test]
fn gradients_are_those_of_the_whole_batch() {
    for size in [2, 3] {
        Running::new("reduces", size, 60).all_end_well();
    }
}

#[test]
fn one_that_is_killed_is_named_by_the_others_at_once() {
    let begun = Instant::now();
    let mut running = Running::new("ends", 3, 60);
    for rank in 0..2 {
        let said = running.failure(rank);
        let named = format!("rank {rank} of 3 lost the others in a mean: rank 2 is gone; ");
        assert!(said.starts_with(&named), "{said}");
        assert!(!said.contains("frame #"), "{said}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "long before the timeout"
    );
}

#[test]
fn one_that_says_nothing_any_more_is_lost_after_the_timeout() {
    let mut running = Running::new("stops", 2, 3);
    let said = running.failure(0);
    assert!(
        said.starts_with("rank 0 of 2 lost the others in a mean: rank 1 is gone; "),
        "{said}"
    );
    let last = Pid::from_raw(running.0[1].id() as i32);
    kill(last, Signal::SIGCONT).unwrap();
}

#[test]
fn one_that_nobody_meets_says_where_it_waited() {
    let place = port();
    let mut running = Running(vec![start("computes", 0, 2, place, 2)]);
    let said = running.failure(0);
    let waited = format!("rank 0 of 2 did not meet the others at 127.0.0.1:{place} within 2 s: ");
    assert!(said.starts_with(&waited), "{said}");
    let mut running = Running(vec![start("computes", 1, 2, place, 2)]);
    let said = running.failure(0);
    assert!(
        said.starts_with(&waited.replace("rank 0", "rank 1")),
        "{said}"
    );
}
