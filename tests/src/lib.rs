//! End-to-end tests through the binary, as a user would: where the programs are,
//! a folder for each test, and how a command is run in it; engines and a cluster to
//! run on. Nothing here calls the project's crates.

pub mod cluster;
mod context;
pub mod engine;
pub mod installation;
pub mod measures;
pub mod server;
pub mod trace;

pub use context::{Context, Done, copy, program, programs, project};
