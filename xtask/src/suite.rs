//! The test command: all tests of the workspace, the end-to-end tests included.
//!
//! End-to-end tests run only where `SELIUM_REMOTE_E2E` is set, because they need a machine that was set up; plain
//! `cargo test` skips them.
//!
//! The workspace's tests run the client on tokio. Its suite runs on the other runtimes as well, each of which is another
//! build of it.

use std::ffi::OsString;
use std::process::{ExitCode, ExitStatus};

use anyhow::Result;

use crate::cache::Cache;
use crate::project::Project;
use crate::setup::Machine;
use crate::{artifacts, core_alone, proc, ui};

/// The client's features for runtimes other than the default one.
const OTHER_RUNTIMES: [&str; 2] = ["async-std", "smol"];

/// What knows of runtimes.
const ON_RUNTIMES: [&str; 2] = ["selium-remote-client", "selium-remote-transport-async-std"];

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
    let status = ui::step("run all tests (a first build takes minutes)", || {
        let mut command = proc::cargo();
        command
            .current_dir(&project.root)
            .args(["test", "--workspace", "--no-fail-fast"])
            .args(cargo_args)
            .env("SELIUM_REMOTE_E2E", "1")
            .env("SELIUM_REMOTE_RUNTIME", &machine.runtime)
            .env("SELIUM_REMOTE_MODULE", &module)
            .env("SELIUM_REMOTE_GUESTS", &guests)
            .env("SELIUM_REMOTE_CLI", &cli);
        proc::run_through(&mut command)
    })?;
    let mut code = exit_code(status);
    if cargo_args.is_empty() {
        for runtime in OTHER_RUNTIMES {
            let status = on_runtime(project, runtime)?;
            if code == ExitCode::SUCCESS {
                code = exit_code(status);
            }
        }
    }
    Ok(code)
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
    fn a_failure_is_never_a_success() {
        let code = |raw| exit_code(ExitStatus::from_raw(raw));
        assert_eq!(code(0), ExitCode::SUCCESS);
        assert_eq!(code(101 << 8), ExitCode::from(101));
        assert_eq!(code(9), ExitCode::FAILURE);
    }
}
