//! One module for each group of commands. Each takes its arguments, calls the other
//! crates, prints, and ends with an exit code.

pub mod cancel;
pub mod controller;
pub mod diff;
pub mod doctor;
pub mod endpoint;
pub mod explain;
pub mod housekeeping;
pub mod logs;
pub mod model;
pub mod outputs;
pub mod publish;
pub mod resume;
pub mod runs;
pub mod schedule;
pub mod serve;
pub mod submit;
pub mod token;
pub mod validate;
pub mod watch;
