//! The main job, shown on the stock runtime, with mTLS: start a process, see its log, list it, stop it.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cache::Cache;
use crate::project::Project;
use crate::runtime::{self, Runtime};
use crate::selium::{self, Selium};
use crate::setup::Machine;
use crate::workdir::WorkDir;
use crate::{artifacts, ui};

/// A start compiles the guest, and its log appears a moment later.
const LOG_LIMIT: Duration = Duration::from_secs(30);

/// Ctrl-C has to work at once; this is for a busy machine.
const CTRL_C_LIMIT: Duration = Duration::from_secs(10);

/// What a shell reports for a command that Ctrl-C ended, and what such a command may say itself.
const CTRL_C_CODE: i32 = 130;

const GREETING: &str = "hello from selium";

/// Builds everything and runs the demo.
pub(crate) fn run(
    project: &Project,
    cache: &Cache,
    machine: &Machine,
    work_dir: Option<&Path>,
) -> Result<()> {
    let module = artifacts::module(project, cache, &machine.wasm)?;
    let guests = artifacts::guests(project, cache, &machine.wasm)?;
    let binary = artifacts::cli(project)?;
    let mut work = match work_dir {
        Some(path) => WorkDir::at(path)?,
        None => WorkDir::temporary(&project.target)?,
    };
    let port = runtime::free_port()?;
    let what = "prepare a work dir: certificates, modules, and the server provisioned with mTLS";
    let report = ui::step(what, || {
        work.prepare_secure(&binary, &module, &guests, port, None)
    })?;
    let line = RuntimeLine::of(&report)?;
    let result = on_a_runtime(&machine.runtime, &work, binary, port, &line);
    if result.is_err() {
        work.keep();
        ui::say(&format!("the work dir was kept: {}", work.path().display()));
    }
    result?;
    println!("demo: ok");
    Ok(())
}

/// What `selium server install` says about running the runtime.
struct RuntimeLine {
    options: Vec<String>,
    spec: String,
}

impl RuntimeLine {
    fn of(report: &Value) -> Result<Self> {
        let words = report.pointer("/command/argv").and_then(Value::as_array);
        let words: Option<Vec<&str>> = words.and_then(|it| it.iter().map(Value::as_str).collect());
        match words.as_deref() {
            Some([_, options @ .., "--module", spec]) => Ok(Self {
                options: options.iter().map(|word| (*word).to_owned()).collect(),
                spec: (*spec).to_owned(),
            }),
            _ => bail!("`selium server install` names no command line to run"),
        }
    }
}

fn on_a_runtime(
    host: &Path,
    work: &WorkDir,
    binary: std::path::PathBuf,
    port: u16,
    line: &RuntimeLine,
) -> Result<()> {
    let options: Vec<&str> = line.options.iter().map(String::as_str).collect();
    let mut runtime = Runtime::start_with(host, work, port, &line.spec, &options)?;
    let selium = Selium {
        binary,
        certs: work.certs(),
        port: runtime.port(),
    };
    ui::step("wait until the server module answers (seconds)", || {
        runtime.wait_until_it_answers(&selium)
    })?;
    if let Err(error) = scenes(&selium) {
        // What the command line could not say may stand there.
        ui::say(&format!(
            "the end of the runtime's log:\n{}",
            runtime.tail()
        ));
        return Err(error);
    }
    ui::step("take the runtime down", || runtime.stop())
}

fn scenes(selium: &Selium) -> Result<()> {
    let id = ui::step("start a process and follow its log", || {
        start_and_detach(selium)
    })?;
    ui::step(
        "list the processes: Ctrl-C ended the command, not the process",
        || {
            selium.show(&["ps"])?;
            match state(selium, &id)? {
                Some(state) if !is_over(&state) => Ok(()),
                Some(state) => bail!("process {id} should still be there, its state is {state}"),
                None => bail!("`selium ps` does not list process {id}"),
            }
        },
    )?;
    ui::step("stop it", || selium.show(&["stop", &id]))?;
    ui::step("list the processes again", || {
        selium.show(&["ps"])?;
        match state(selium, &id)? {
            Some(state) if !is_over(&state) => {
                bail!("process {id} was stopped, its state is still {state}")
            }
            _ => Ok(()),
        }
    })
}

/// Returns the id of the process, which goes on without us.
fn start_and_detach(selium: &Selium) -> Result<String> {
    let mut attached = selium.attach(&[
        "start",
        "hello.wasm",
        "hello",
        "--capabilities",
        "ChannelLifecycle,ChannelWriter",
        "--attach",
    ])?;
    let id = attached
        .line_where(LOG_LIMIT, |_| true)
        .context("the id of the new process")?;
    if !selium::is_process_id(&id) {
        bail!("`selium start` should print the process id first, not {id:?}");
    }
    attached
        .line_where(LOG_LIMIT, |line| line.contains(GREETING))
        .with_context(|| format!("the log line {GREETING:?}"))?;
    let status = attached.interrupt(CTRL_C_LIMIT)?;
    if !is_detached(status) {
        bail!("Ctrl-C should detach, but the command ended with {status}");
    }
    Ok(id)
}

/// The command has to end by itself, not by the signal.
fn is_detached(status: ExitStatus) -> bool {
    status.success() || status.code() == Some(CTRL_C_CODE)
}

fn state(selium: &Selium, id: &str) -> Result<Option<String>> {
    let processes = selium.processes()?;
    let process = processes.into_iter().find(|process| process.id == id);
    Ok(process.map(|process| process.state))
}

/// "stopped", "stop requested" and the like.
fn is_over(state: &str) -> bool {
    state.starts_with("stop")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn dying_of_the_signal_is_not_detaching() {
        assert!(is_detached(ExitStatus::from_raw(0)));
        assert!(is_detached(ExitStatus::from_raw(130 << 8)));
        assert!(!is_detached(ExitStatus::from_raw(2)));
        assert!(!is_detached(ExitStatus::from_raw(1 << 8)));
    }

    #[test]
    fn states_are_told_apart() {
        assert!(is_over("stopped"));
        assert!(is_over("stop requested"));
        assert!(!is_over("started"));
    }
}
