//! What `serve` costs: what `cargo xtask bench server` runs and prints. It is no test: without
//! `AURIA_MEASURES`, the file that the numbers are written to, it does nothing.

mod followers;
mod list;
mod works;

use auria_tests::measures::{self, Numbers};
use auria_tests::server::Server;
use std::process::ExitCode;

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

fn main() -> ExitCode {
    measures::main(|| {
        let mut numbers = Numbers::default();
        list::measure(&mut numbers);
        followers::measure(&mut numbers);
        works::measure(&mut numbers);
        Ok(numbers)
    })
}
