//! `cargo xtask bench --core`: what the protocol core costs per frame. It needs no runtime and no set-up.

use std::io::{BufRead as _, BufReader};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::artifacts::CORE_CRATE;
use crate::project::Project;
use crate::{proc, suite, ui};

/// The first word of the table that the benchmark ends with; what comes before it is progress.
const TABLE: &str = "what ";

/// Builds the benchmark, runs it and returns its exit code: a failure when an aim is missed.
pub(crate) fn run(project: &Project) -> Result<ExitCode> {
    let what = "measure the core on one core (a minute; a first build takes 1 to 2 more)";
    ui::step(what, || {
        let mut command = proc::cargo();
        command
            .current_dir(&project.root)
            .args(["bench", "--quiet", "--package", CORE_CRATE])
            .args(["--bench", "core"])
            .stdout(Stdio::piped());
        proc::announce(&command);
        let child = command.spawn().context("cannot run cargo")?;
        let mut child = proc::Guard::new(child);
        let stdout = child.child().stdout.take().context("stdout is a pipe")?;
        let mut result = false;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("read what the benchmark prints")?;
            result |= line.starts_with(TABLE);
            if result {
                println!("{line}");
            } else {
                eprintln!("{line}");
            }
        }
        let status = child.child().wait().context("wait for the benchmark")?;
        Ok(suite::exit_code(status))
    })
}
