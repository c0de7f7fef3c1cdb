//! Numbers of programs that measure rather than test (`cargo xtask bench`).

use std::process::ExitCode;

use serde_json::{Value, json};

/// What was measured.
#[derive(Default)]
pub struct Numbers(Vec<Value>);

impl Numbers {
    /// What one program took for one work, in `unit`.
    pub fn add(&mut self, work: &str, program: &str, unit: &str, values: &[f64]) {
        eprintln!("{work}, {program}: {values:.3?} {unit}");
        self.0
            .push(json!({"work": work, "program": program, "unit": unit, "values": values}));
    }

    /// What some calls took: their median and their 99th percentile.
    pub fn spread(&mut self, work: &str, program: &str, unit: &str, values: &[f64]) {
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

/// A number that the caller may set.
#[must_use]
pub fn setting(name: &str, default: usize) -> usize {
    let said = std::env::var(name).ok();
    said.and_then(|said| said.parse().ok()).unwrap_or(default)
}

/// The main function of such a program: writes what was measured to the file that
/// `AURIA_MEASURES` names. Without it, it is a test program without tests.
///
/// # Panics
/// Where the file cannot be written.
pub fn main(measure: impl FnOnce() -> Result<Numbers, String>) -> ExitCode {
    let Some(file) = std::env::var_os("AURIA_MEASURES") else {
        println!("running 0 tests\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured");
        return ExitCode::SUCCESS;
    };
    match measure() {
        Ok(numbers) => {
            std::fs::write(&file, json!(numbers.0).to_string()).expect("the numbers are written");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
