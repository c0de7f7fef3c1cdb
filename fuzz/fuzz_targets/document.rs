//! Any bytes as a pipeline file: read, check, plan, and say what is wrong.

#![no_main]

#[path = "../../orchestrator/core/tests/entry/mod.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz(bytes, &|_| None);
});
