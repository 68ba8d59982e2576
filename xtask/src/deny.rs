//! `cargo xtask deny`: licences, sources and duplicates of everything that we depend on, as `deny.toml` says.

use std::process::ExitCode;

use anyhow::Result;

use crate::cache::Cache;
use crate::project::Project;
use crate::tool::Tool;
use crate::{proc, suite, ui};

const TOOL: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    takes: "5 minutes on 2 cores",
};

/// The workspaces, each with a lock file of its own.
const WORKSPACES: [&str; 3] = ["Cargo.toml", "guests/Cargo.toml", "fuzz/Cargo.toml"];

/// Checks every workspace; the exit code of the first that fails.
pub(crate) fn run(project: &Project, cache: &Cache) -> Result<ExitCode> {
    let path = TOOL.on_path(cache)?;
    for workspace in WORKSPACES {
        let what = format!("check what {workspace} depends on");
        let status = ui::step(&what, || {
            let mut command = proc::cargo();
            command
                .current_dir(&project.root)
                .env("PATH", &path)
                .args(["deny", "--config", "deny.toml", "--all-features"])
                .args(["--manifest-path", workspace, "check"])
                // One list for all of them: not each has everything.
                .args(["-A", "unmatched-skip", "-A", "unnecessary-skip"])
                .args(["licenses", "bans", "sources"]);
            proc::run_through(&mut command)
        })?;
        if !status.success() {
            return Ok(suite::exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}
