//! `auria-pipeline`: the command line. It parses, calls the other crates, prints,
//! and ends with an exit code that scripts may rely on. It decides nothing about
//! pipelines or runs.

#![allow(
    unreachable_pub,
    reason = "a program exports nothing: `pub` says what other modules use"
)]

mod address;
mod args;
mod cluster;
mod commands;
mod config;
mod drive;
mod edge;
mod failure;
mod graph;
mod load;
mod machine;
mod open;
mod planning;
mod plans;
mod print;
mod progress;
mod report;
mod server;
mod target;
mod terminal;
mod transfer;

use args::{Cli, Command, SchemaKind};
use clap::{CommandFactory, Parser};
use failure::{Failure, exit};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(folder) = launched() {
        return auria_engine::docker::launch(folder);
    }
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; everything else is a usage error.
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    log_to_stderr();
    // Once, here: nothing that plans for somebody else asks the surroundings again.
    if cli.global.server.is_none() {
        cli.global.server = edge::variable("AURIA_SERVER");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting: {error}");
            return ExitCode::from(exit::UNREACHABLE);
        }
    };
    let code = match runtime.block_on(run(&cli)) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.is_silent() {
                let paint = terminal::Paint::new(edge::Terminal::of_stderr().colour);
                eprintln!("{} {failure}", paint.red("error:"));
            }
            failure.code
        }
    };
    // Launchers go on; a task that waits for a dead store must not hold us.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// The runtime folder of `auria-pipeline launch FOLDER`. A launcher is started for each
/// attempt: it does not wait until all commands of the command line are laid out.
fn launched() -> Option<PathBuf> {
    let mut words = std::env::args_os().skip(1);
    match (words.next(), words.next(), words.next()) {
        (Some(word), Some(folder), None) if word == "launch" => Some(folder.into()),
        _ => None,
    }
}

async fn run(cli: &Cli) -> Result<u8, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Submit(args) => commands::submit::submit(global, args).await,
        Command::Validate(args) => commands::validate::validate(global, args),
        Command::Plan(args) => commands::validate::plan(global, args).await,
        Command::Runs(args) => commands::runs::list(global, args).await,
        Command::Show(args) => commands::runs::show(global, args).await,
        Command::Watch(args) => commands::watch::watch(global, args).await,
        Command::Logs(args) => commands::logs::logs(global, args).await,
        Command::Cancel(args) => commands::cancel::cancel(global, args).await,
        Command::Resume(args) => commands::resume::resume(global, args).await,
        Command::Retry(args) => commands::submit::again(global, args).await,
        Command::Outputs(args) => commands::outputs::list(global, args).await,
        Command::Download(args) => commands::outputs::download(global, args).await,
        Command::Metrics(args) => commands::outputs::metrics(global, args).await,
        Command::Explain(args) => commands::explain::explain(global, args).await,
        Command::Diff(args) => commands::diff::diff(global, args).await,
        Command::Delete(args) => commands::housekeeping::delete(global, args).await,
        Command::Gc(args) => commands::housekeeping::gc(global, args).await,
        Command::Model(args) => commands::model::model(global, args).await,
        Command::Controller(args) => commands::controller::controller(global, args).await,
        Command::Serve(args) => commands::serve::serve(global, args).await,
        Command::Endpoint(args) => commands::endpoint::endpoint(global, args).await,
        Command::Deployment(args) => commands::endpoint::deployment(global, args).await,
        Command::Schedule(args) => commands::schedule::schedule(global, args).await,
        Command::Token(args) => commands::token::token(global, args).await,
        Command::Doctor => commands::doctor::doctor(global).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "auria-pipeline", &mut script);
            print::raw(&script)?;
            Ok(exit::DONE)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| {
                    Failure::unreachable(format!("writing the manual page: {error}"))
                })?;
            print::raw(&page)?;
            Ok(exit::DONE)
        }
        Command::Schema { kind } => schema(*kind),
        // Handled before anything else, where it has its one argument.
        Command::Launch { .. } => Ok(exit::USAGE),
        Command::Drive { run } => commands::resume::background(global, run).await,
    }
}

fn schema(kind: SchemaKind) -> Result<u8, Failure> {
    let schema = match kind {
        SchemaKind::Pipeline => {
            auria_core::check::json_schema(auria_core::check::SchemaKind::Pipeline)
        }
        SchemaKind::Component => {
            auria_core::check::json_schema(auria_core::check::SchemaKind::Component)
        }
        SchemaKind::Openapi => auria_server::openapi(),
        SchemaKind::Config => config::json_schema(),
        SchemaKind::Diagnostics => auria_core::diagnostic::json_schema(),
        SchemaKind::Resources => {
            print::raw(auria_kubernetes::resource::definitions().as_bytes())?;
            return Ok(exit::DONE);
        }
    };
    print::result(args::OutputFormat::Json, &schema, String::new)?;
    Ok(exit::DONE)
}

/// What is logged where AURIA_LOG says nothing. The Kubernetes client's own errors are told by
/// who asked.
const DEFAULT_LOG: &str = "error,kube_client=off,kube_runtime=off,tower=off,tower_http=off";

fn log_to_stderr() {
    let filter = edge::variable("AURIA_LOG").unwrap_or_else(|| DEFAULT_LOG.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
