//! The test command: all tests of the workspace, the end-to-end tests included.
//!
//! End-to-end tests run only where `SELIUM_REMOTE_E2E` is set, because they need a machine that was set up; plain
//! `cargo test` skips them.
//!
//! The workspace's tests run the client on tokio. Its suite and the end-to-end tests of channels run on the other runtimes as
//! well, each of which is another build of it.

use std::ffi::OsString;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::Result;

use crate::cache::Cache;
use crate::project::Project;
use crate::setup::Machine;
use crate::{artifacts, core_alone, proc, ui};

/// The client's features for runtimes other than the default one.
const OTHER_RUNTIMES: [&str; 2] = ["async-std", "smol"];

/// The end-to-end tests that run on each runtime, beside the package's example that is for one.
const CHANNELS_ON_RUNTIMES: [&str; 3] = ["channels", "channels_lost", "load_channels"];

/// The client's example for a runtime, and the end-to-end test that runs it.
const EXAMPLES: [(&str, &str, &str); 1] = [("async-std", "async_std", "example_async_std")];

/// What knows of runtimes.
const ON_RUNTIMES: [&str; 2] = [CLIENT, "selium-remote-transport-async-std"];

const CLIENT: &str = "selium-remote-client";

/// Builds what the end-to-end tests need, runs all tests and returns cargo's exit code: the first that is none of
/// success. With arguments for cargo, it runs what these ask for, and not the client on other runtimes.
pub(crate) fn run(
    project: &Project,
    cache: &Cache,
    machine: &Machine,
    cargo_args: &[OsString],
) -> Result<ExitCode> {
    let module = artifacts::module(project, cache, &machine.wasm)?;
    core_alone::check(project, cache, &machine.wasm)?;
    let guests = artifacts::guests(project, cache, &machine.wasm)?;
    let cli = artifacts::cli(project)?;
    let named = names_packages(cargo_args);
    if named {
        // The end-to-end tests run them. With all packages cargo builds them anyway.
        ui::step("build the client's examples", || {
            let mut command = proc::cargo();
            command
                .current_dir(&project.root)
                .args(["build", "--package", CLIENT, "--examples"]);
            proc::run(&mut command)
        })?;
    }
    let end_to_end = |command: &mut Command| {
        command
            .current_dir(&project.root)
            .env("SELIUM_REMOTE_E2E", "1")
            .env("SELIUM_REMOTE_RUNTIME", &machine.runtime)
            .env("SELIUM_REMOTE_MODULE", &module)
            .env("SELIUM_REMOTE_GUESTS", &guests)
            .env("SELIUM_REMOTE_CLI", &cli);
    };
    let status = ui::step("run all tests (a first build takes minutes)", || {
        let mut command = proc::cargo();
        command.args(["test", "--no-fail-fast"]);
        // Beside it, cargo would pass over the packages that are named.
        if !named {
            command.arg("--workspace");
        }
        command.args(cargo_args);
        end_to_end(&mut command);
        proc::run_through(&mut command)
    })?;
    let mut code = exit_code(status);
    if cargo_args.is_empty() {
        for runtime in OTHER_RUNTIMES {
            for status in [
                on_runtime(project, runtime)?,
                channels_on_runtime(project, runtime, end_to_end)?,
            ] {
                if code == ExitCode::SUCCESS {
                    code = exit_code(status);
                }
            }
        }
    }
    Ok(code)
}

/// Runs the end-to-end tests of channels on another runtime, and the client's example for it.
fn channels_on_runtime(
    project: &Project,
    runtime: &str,
    end_to_end: impl Fn(&mut Command),
) -> Result<ExitStatus> {
    let what = format!("run the end-to-end tests of channels on {runtime}");
    ui::step(&what, || {
        let mut tests = CHANNELS_ON_RUNTIMES.to_vec();
        for (_, example, test) in EXAMPLES.iter().filter(|(of, ..)| *of == runtime) {
            let mut command = proc::cargo();
            command
                .current_dir(&project.root)
                .args(["build", "--package", CLIENT, "--example", example])
                .args(["--no-default-features", "--features", runtime]);
            proc::run(&mut command)?;
            tests.push(test);
        }
        let mut command = proc::cargo();
        command
            .args(["test", "--no-fail-fast", "--package", "selium-remote-e2e"])
            .args(["--no-default-features", "--features", runtime])
            .args(tests.iter().flat_map(|test| ["--test", test]));
        end_to_end(&mut command);
        proc::run_through(&mut command)
    })
}

/// Whether arguments for cargo say which packages are meant.
fn names_packages(cargo_args: &[OsString]) -> bool {
    cargo_args
        .iter()
        .map(|arg| arg.to_string_lossy())
        .take_while(|arg| arg != "--")
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

/// Runs the client's and the transport's tests on another runtime.
fn on_runtime(project: &Project, runtime: &str) -> Result<ExitStatus> {
    ui::step(&format!("run the client's tests on {runtime}"), || {
        let mut command = proc::cargo();
        command
            .current_dir(&project.root)
            .args(["test", "--no-fail-fast", "--no-default-features"])
            .args(["--features", runtime])
            .args(
                ON_RUNTIMES
                    .iter()
                    .flat_map(|package| ["--package", package]),
            );
        proc::run_through(&mut command)
    })
}

/// Cargo's own code; one that was ended by a signal has none and counts as a failure.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        None => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn packages_are_named_or_all_are_meant() {
        let names = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            names_packages(&args)
        };
        assert!(names(&["--release", "-p", "x"]));
        assert!(names(&["-px"]));
        assert!(names(&["--package=x"]));
        assert!(!names(&[]));
        assert!(!names(&["--test", "channels", "--", "-p"]));
    }

    #[test]
    fn a_failure_is_never_a_success() {
        let code = |raw| exit_code(ExitStatus::from_raw(raw));
        assert_eq!(code(0), ExitCode::SUCCESS);
        assert_eq!(code(101 << 8), ExitCode::from(101));
        assert_eq!(code(9), ExitCode::FAILURE);
    }
}
