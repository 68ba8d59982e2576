//! `cargo xtask sim`: many seeds of the simulator. It needs nothing set up: no runtime, no compiler for WASM.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::project::Project;
use crate::{proc, suite};

const SIM_CRATE: &str = "selium-remote-sim";

/// Builds the simulator, optimised, and runs it with these arguments.
pub(crate) fn run(project: &Project, args: &[OsString]) -> Result<ExitCode> {
    let mut command = proc::cargo();
    command
        .current_dir(&project.root)
        .args(["run", "--release", "--quiet", "--package", SIM_CRATE])
        .args(["--bin", "sim", "--"])
        .args(args);
    Ok(suite::exit_code(proc::run_through(&mut command)?))
}
