//! What `serve` costs: what `cargo xtask bench server` runs and prints. It is no test: without
//! `AURIA_MEASURES`, the file that the numbers are written to, it does nothing.

mod followers;
mod list;
mod works;

use auria_tests::server::Server;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The numbers of one work by one program.
#[derive(Default)]
struct Numbers(Vec<Value>);

impl Numbers {
    fn add(&mut self, work: &str, program: &str, unit: &str, values: &[f64]) {
        eprintln!("{work}, {program}: {values:.3?} {unit}");
        self.0
            .push(json!({"work": work, "program": program, "unit": unit, "values": values}));
    }

    /// What some calls took: their median and their 99th percentile.
    fn spread(&mut self, work: &str, program: &str, unit: &str, values: &[f64]) {
        let (median, late) = (percentile(values, 50), percentile(values, 99));
        self.add(&format!("{work}, p50"), program, unit, &[median]);
        self.add(&format!("{work}, p99"), program, unit, &[late]);
    }
}

/// The nearest-rank percentile; not a number of nothing.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    let last = sorted.get(rank.saturating_sub(1));
    last.copied().unwrap_or(f64::NAN)
}

/// How many MiB of a process were resident at most, and are now.
fn resident(server: &Server) -> (f64, f64) {
    let path = format!("/proc/{}/status", server.child.id());
    let status = std::fs::read_to_string(path).expect("the server is there");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let kib = kib.and_then(|kib| kib.parse::<f64>().ok());
        kib.map_or(f64::NAN, |kib| kib / 1024.0)
    };
    (of("VmHWM:"), of("VmRSS:"))
}

/// A number that the caller may set.
fn setting(name: &str, default: usize) -> usize {
    let said = std::env::var(name).ok();
    said.and_then(|said| said.parse().ok()).unwrap_or(default)
}

fn main() -> ExitCode {
    let Some(file) = std::env::var_os("AURIA_MEASURES") else {
        // As a test program says it.
        println!("running 0 tests\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured");
        return ExitCode::SUCCESS;
    };
    let mut numbers = Numbers::default();
    list::measure(&mut numbers);
    followers::measure(&mut numbers);
    works::measure(&mut numbers);
    std::fs::write(&file, json!(numbers.0).to_string()).expect("the numbers are written");
    ExitCode::SUCCESS
}
