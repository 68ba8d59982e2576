//! The second implementation of the protocol, in Python, against the module on the stock runtime.

use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cache::Cache;
use crate::project::Project;
use crate::runtime::{self, Runtime};
use crate::setup::{Machine, python};
use crate::workdir::WorkDir;
use crate::{artifacts, proc, suite, ui};

/// Starting compiles the module; a slow machine takes some seconds for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_PAUSE: Duration = Duration::from_millis(100);

/// One attempt, Python's own start included.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// Builds what it needs, runs the tests in `interop/` and returns their exit code.
pub(crate) fn run(project: &Project, cache: &Cache, machine: &Machine) -> Result<ExitCode> {
    let folder = project.root.join("interop");
    let python = python::ensure(cache, &folder.join("requirements.txt"))?;
    let module = artifacts::module(project, cache, &machine.wasm)?;
    let guests = artifacts::guests(project, cache, &machine.wasm)?;
    let mut work = WorkDir::temporary(&project.target)?;
    work.prepare(&machine.runtime, &module, &guests)?;
    let result = on_a_runtime(&machine.runtime, &work, &python, project);
    if !result.as_ref().is_ok_and(ExitStatus::success) {
        work.keep();
        ui::say(&format!("the work dir was kept: {}", work.path().display()));
    }
    Ok(suite::exit_code(result?))
}

fn on_a_runtime(
    host: &Path,
    work: &WorkDir,
    interpreter: &Path,
    project: &Project,
) -> Result<ExitStatus> {
    let port = runtime::free_port()?;
    // With a clock, because the protocol has more to show then.
    let spec = runtime::module_spec(port, &["TimeRead"]);
    let mut runtime = Runtime::start(host, work, port, &spec)?;
    let ca = work.certs().join("ca.crt");
    let python = || {
        let mut command = Command::new(interpreter);
        command
            .current_dir(project.root.join("interop"))
            // Nothing of it belongs into the clone.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    ui::step("wait until the server module answers (seconds)", || {
        let mut ping = python();
        ping.args(["-m", "selium_remote", "--port", &port.to_string(), "--ca"])
            .arg(&ca)
            .arg("ping");
        wait_until_it_answers(&mut runtime, &mut ping)
    })?;
    let status = ui::step("run the tests of interop/ (under half a minute)", || {
        let mut tests = python();
        tests
            .args(["-m", "unittest", "discover", "-s", "tests", "-t", "."])
            .env("SELIUM_INTEROP_PAGE", project.root.join("docs/PROTOCOL.md"))
            .env("SELIUM_INTEROP_PORT", port.to_string())
            .env("SELIUM_INTEROP_CA", &ca);
        proc::run_through(&mut tests)
    })?;
    if !status.success() {
        ui::say(&format!(
            "the end of the runtime's log:\n{}",
            runtime.tail()
        ));
    }
    runtime.stop()?;
    Ok(status)
}

fn wait_until_it_answers(runtime: &mut Runtime, ping: &mut Command) -> Result<()> {
    let begun = Instant::now();
    loop {
        if let Some(status) = runtime.ended()? {
            bail!("the runtime ended ({status}); its log:\n{}", runtime.tail());
        }
        let attempt = proc::output_within(ping, ATTEMPT_LIMIT)?;
        let why = match attempt {
            Some(output) if output.status.success() => return Ok(()),
            Some(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            None => "no answer".to_owned(),
        };
        if begun.elapsed() >= ANSWER_LIMIT {
            let why = why.lines().last().unwrap_or_default();
            bail!(
                "the server module does not answer after {} s: {why}\nthe runtime's log:\n{}",
                ANSWER_LIMIT.as_secs(),
                runtime.tail()
            );
        }
        thread::sleep(ANSWER_PAUSE);
    }
}
