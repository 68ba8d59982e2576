//! Benches and soak tests: built in release mode, run by the package `selium-remote-load`.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::artifacts::{self, CLI_BINARY, CLI_CRATE};
use crate::cache::Cache;
use crate::project::Project;
use crate::setup::Machine;
use crate::{proc, suite, ui};

const LOAD_CRATE: &str = "selium-remote-load";

/// The command line of one of its tasks, to which the task's own options can be added.
pub(crate) fn command(task: &str) -> Command {
    let mut command = proc::cargo();
    command.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        LOAD_CRATE,
        "--",
        task,
    ]);
    command
}

/// Builds what it needs, runs it and returns its exit code.
pub(crate) fn run(
    project: &Project,
    cache: &Cache,
    machine: &Machine,
    mut command: Command,
) -> Result<ExitCode> {
    let module = artifacts::module(project, cache, &machine.wasm)?;
    let guests = artifacts::guests(project, cache, &machine.wasm)?;
    ui::step(
        "build the command line and the load, optimised (a first build takes 2 to 4 minutes)",
        || {
            let mut command = proc::cargo();
            command.current_dir(&project.root).args([
                "build",
                "--release",
                "--package",
                CLI_CRATE,
                "--package",
                LOAD_CRATE,
            ]);
            proc::run(&mut command)
        },
    )?;
    let cli = project.target.join("release").join(CLI_BINARY);
    if !proc::is_executable(&cli) {
        bail!("the build did not bring {}", cli.display());
    }
    command
        .current_dir(&project.root)
        .arg("--runtime")
        .arg(&machine.runtime)
        .arg("--module")
        .arg(&module)
        .arg("--guests")
        .arg(&guests)
        .arg("--cli")
        .arg(&cli);
    Ok(suite::exit_code(proc::run_through(&mut command)?))
}
