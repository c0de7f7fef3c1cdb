//! The broker with real launchers: each a process of its own that is told nothing but
//! where the broker is, a token and a certificate, over TLS, before a real S3 server
//! (SeaweedFS) and before a folder, which signs nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test owns its tasks and its environment"
)]

mod attempts;
mod world;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Its main is also that of the launchers that it starts.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "pod") {
        return auria_launcher::pod::main(arguments.next());
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let trials = attempts::cases().into_iter().map(|(name, case)| {
        Trial::test(name, move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(4)
                .enable_all()
                .build()?;
            runtime.block_on(case());
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
