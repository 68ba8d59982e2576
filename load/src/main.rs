//! Benches and soak tests of the Selium Remote Client on the stock runtime.
//!
//! ```text
//! main ──► bench    how fast, next to what the machine and the runtime can do
//!      ├─► soak     many clients for a while, good and bad ones; then everything has to be back where it was
//!      └─► accept   what the pool of waiting accepts costs, and what it withstands (by hand only)
//!
//! all of them ──► site    a runtime of their own with the server module
//!             ├─► raw     connections below the client library: bytes, frames, protocol machine
//!             └─► stats, memory, cpu
//! ```
//!
//! `cargo xtask bench` and `cargo xtask soak` build what is needed and run it. Everything is on loopback, everything is
//! bounded in count and time, and no child outlives this program. Results go to stdout, progress goes to stderr.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose job is to print results"
)]

mod accept;
mod bench;
mod cpu;
mod guests;
mod memory;
mod native;
mod raw;
mod site;
mod soak;
mod socket;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

/// Benches and soak tests of the Selium Remote Client.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measures requests and messages next to the limits of the machine and of the runtime.
    Bench(bench::Options),
    /// Runs many clients, good and bad ones, for a while; fails when something does not come back to its base.
    Soak(soak::Options),
    /// Measures what the pool of waiting accepts costs and withstands.
    #[command(hide = true)]
    Accept(accept::Options),
}

/// Where what is measured is; `cargo xtask` gives these.
#[derive(Clone, Debug, Args)]
struct Paths {
    /// The stock `selium-runtime`.
    #[arg(long, value_name = "FILE")]
    runtime: PathBuf,
    /// The server module.
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// The folder with the guests.
    #[arg(long, value_name = "DIR")]
    guests: PathBuf,
    /// The command line, a release build.
    #[arg(long, value_name = "FILE")]
    cli: PathBuf,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    // One thread: the other core is the runtime's. It is the main thread, to whose life the runtime is tied.
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a tokio runtime")?;
    tokio.block_on(async {
        match &cli.task {
            Task::Bench(options) => bench::run(options).await,
            Task::Soak(options) => soak::run(options).await,
            Task::Accept(options) => accept::run(options).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
