//! `cargo xtask`: the only place that knows how to set a machine up, and the commands that need a machine set up.
//!
//! ```text
//! main ──► demo  ──► selium (drives the command line)
//!      ├─► suite ──► workdir, runtime (the stock runtime as a child), core_alone (what the core imports)
//!      ├─► core_bench ──► the benchmark of the package selium-remote-client-protocol
//!      ├─► deny, fuzz ──► tool (cargo-deny, cargo-fuzz)
//!      ├─► interop ──► the Python client in interop/, on a runtime
//!      ├─► sim ──► the package selium-remote-sim
//!      ├─► load  ──► the package selium-remote-load: bench, soak
//!      └─► setup ──► artifacts (module, guests, command line)
//! ```
//!
//! Everything that takes long to make is kept in one cache folder outside of the clone (see [`cache`]), so that a
//! fresh clone starts warm. Progress goes to stderr; stdout carries results only.
//!
//! It is a library as well, for the end-to-end tests: work dirs, the runtime as a child, the command line.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose job is to print progress"
)]

mod artifacts;
mod cache;
mod core_alone;
mod core_bench;
mod demo;
mod deny;
mod fuzz;
mod interop;
mod load;
pub mod proc;
mod project;
pub mod runtime;
pub mod selium;
mod setup;
mod sim;
mod suite;
mod tool;
mod ui;
pub mod workdir;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::cache::Cache;
use crate::project::Project;
use crate::setup::{Machine, WasmChoice};

/// Sets a machine up, builds, demos and tests the Selium Remote Client.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", version)]
struct Cli {
    /// Where the compiler for WASM comes from.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = WasmChoice::Auto,
        env = "SELIUM_REMOTE_WASM_TOOLCHAIN"
    )]
    wasm_toolchain: WasmChoice,

    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Set this machine up: WASM compiler, native build tools, the stock runtime. Nothing is done twice.
    Setup,
    /// Build the server module and print its path.
    Wasm,
    /// Show the main job on the stock runtime: start a process, see its log, list it, stop it.
    Demo(DemoArgs),
    /// Run all tests of the workspace, end-to-end tests against the stock runtime included.
    Test(TestArgs),
    /// Measure requests and messages next to the limits of the machine and of the runtime (under 7 minutes, builds
    /// aside), or the protocol core.
    Bench(BenchArgs),
    /// Test the module with the independent client in `interop/` (Python), written from docs/PROTOCOL.md alone.
    Interop,
    /// Check the licences and sources of everything that we depend on, as `deny.toml` says.
    Deny,
    /// Run the fuzz targets, each for a while (nightly toolchain). Fails when one of them finds something.
    Fuzz(FuzzArgs),
    /// Run both machines in virtual time over simulated links, seed by seed; every law of the protocol has to hold.
    Sim(SimArgs),
    /// Run many clients, good and bad ones, for a while; then everything has to be back where it was.
    Soak(SoakArgs),
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer rounds and shorter slices: under 80 s, and less exact.
    #[arg(long)]
    quick: bool,
    /// Measure these alone: `requests`, or `messages` through channels.
    #[arg(long, value_parser = ["requests", "messages"])]
    only: Option<String>,
    /// Of the messages, measure the cases alone whose name contains this, as `publish: 64 KiB`.
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// The protocol core alone: time and allocations per frame (a minute). Needs no set-up.
    #[arg(long, conflicts_with_all = ["json", "quick", "only", "case"])]
    core: bool,
}

#[derive(Debug, Args)]
struct FuzzArgs {
    /// How long each.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// This one only.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

#[derive(Debug, Args)]
struct SoakArgs {
    /// How long.
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// The seed of the dice; from the system when there is none. It is printed first.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Args)]
struct SimArgs {
    /// How many seeds; with all worlds, each takes its share of them.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Which world: `pipes`, `quic`, `hostile`, `cores`, or all of them.
    #[arg(long, default_value = "all")]
    world: String,
    /// Print everything that happens.
    #[arg(long)]
    verbose: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Prepare this work dir and keep it, instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Passed on to `cargo test`: for the whole workspace, unless they name packages.
    #[arg(last = true)]
    cargo_args: Vec<OsString>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    match dispatch(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match &cli.task {
        Task::Setup => {
            let machine = Machine::ensure(&cache, cli.wasm_toolchain)?;
            ui::say(&format!("ready, {}", machine.summary()));
        }
        Task::Wasm => {
            let toolchain = setup::wasm::ensure(&cache, cli.wasm_toolchain)?;
            let module = artifacts::module(&Project::load()?, &cache, &toolchain)?;
            println!("{}", module.display());
        }
        Task::Demo(args) => {
            let machine = Machine::ensure(&cache, cli.wasm_toolchain)?;
            demo::run(
                &Project::load()?,
                &cache,
                &machine,
                args.work_dir.as_deref(),
            )?;
        }
        Task::Test(args) => {
            let machine = Machine::ensure(&cache, cli.wasm_toolchain)?;
            return suite::run(&Project::load()?, &cache, &machine, &args.cargo_args);
        }
        Task::Bench(args) if args.core => return core_bench::run(&Project::load()?),
        Task::Bench(args) => {
            let mut command = load::command("bench");
            if let Some(json) = &args.json {
                // The program runs in the clone's folder, the user may not.
                command.arg("--json").arg(std::path::absolute(json)?);
            }
            if args.quick {
                command.arg("--quick");
            }
            if let Some(only) = &args.only {
                command.args(["--only", only]);
            }
            if let Some(case) = &args.case {
                command.args(["--case", case]);
            }
            let machine = Machine::ensure(&cache, cli.wasm_toolchain)?;
            return load::run(&Project::load()?, &cache, &machine, command);
        }
        Task::Interop => {
            let machine = Machine::ensure(&cache, cli.wasm_toolchain)?;
            return interop::run(&Project::load()?, &cache, &machine);
        }
        Task::Deny => return deny::run(&Project::load()?, &cache),
        Task::Fuzz(args) => {
            return fuzz::run(
                &Project::load()?,
                &cache,
                args.seconds,
                args.target.as_deref(),
            );
        }
        Task::Sim(args) => {
            let mut words: Vec<OsString> = [
                "--seeds".to_owned(),
                args.seeds.to_string(),
                "--from".to_owned(),
                args.from.to_string(),
                "--world".to_owned(),
                args.world.clone(),
            ]
            .map(OsString::from)
            .into();
            if args.verbose {
                words.push("--verbose".into());
            }
            return sim::run(&Project::load()?, &words);
        }
        Task::Soak(args) => {
            let mut command = load::command("soak");
            command.args(["--seconds", &args.seconds.to_string()]);
            if let Some(seed) = args.seed {
                command.args(["--seed", &seed.to_string()]);
            }
            let machine = Machine::ensure(&cache, cli.wasm_toolchain)?;
            return load::run(&Project::load()?, &cache, &machine, command);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_after_the_dashes_are_passed_on() {
        let cli = Cli::parse_from(["xtask", "test", "--", "--test", "e2e"]);
        let Task::Test(args) = cli.task else {
            panic!("parsed as {:?}", cli.task);
        };
        assert_eq!(args.cargo_args, ["--test", "e2e"]);
    }
}
