//! The stock runtime as a child process, started the way the documentation says.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::artifacts::MODULE;
use crate::proc::{self, Guard};
use crate::selium::Selium;
use crate::workdir::WorkDir;

/// A guest that does not yield takes one of the host's workers; with few, two such guests stop the whole machine.
const WORKERS: &str = "8";

/// Each channel operation makes several INFO spans, which cost more than the operation.
const LOG_FILTER: &str = "info,selium_messaging=warn";

/// Starting compiles the module; a slow machine takes some seconds for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_PAUSE: Duration = Duration::from_millis(200);

/// How long it may take to end when asked.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How many lines of its log are shown when something went wrong.
const TAIL_LINES: usize = 30;

/// A running runtime; it ends with this value. Ctrl-C in a terminal reaches it as well: it stays in our process group.
#[derive(Debug)]
pub struct Runtime {
    process: Guard,
    log: PathBuf,
    port: u16,
}

impl Runtime {
    /// Starts it in a prepared work dir, with the server module as `spec` says, on `port`.
    pub fn start(binary: &Path, work: &WorkDir, port: u16, spec: &str) -> Result<Self> {
        Self::start_with(binary, work, port, spec, &[])
    }

    /// The same with more options, before those that name the module.
    pub fn start_with(
        binary: &Path,
        work: &WorkDir,
        port: u16,
        spec: &str,
        options: &[&str],
    ) -> Result<Self> {
        let log = work.path().join("runtime.log");
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = if dies_with_parent() {
            // Ends the runtime even when we are killed and can do nothing any more.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM"]).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        command
            .args(options)
            .args(["--module", spec])
            // Module paths resolve only against the current directory, not against --work-dir.
            .current_dir(work.path())
            .env_remove("SELIUM_WORK_DIR")
            .env_remove("SELIUM_LOG_FORMAT")
            .env("TOKIO_WORKER_THREADS", WORKERS)
            .env("RUST_LOG", LOG_FILTER)
            // Its output is a file, whose end is shown when something goes wrong: no colours, and no backtrace that
            // pushes the cause out of sight.
            .env("NO_COLOR", "1")
            .env("RUST_LIB_BACKTRACE", "0");
        proc::announce(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        Ok(Self {
            process: Guard::new(child),
            log,
            port,
        })
    }

    /// The port of the control plane.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Waits until the server module answers the command line.
    pub fn wait_until_it_answers(&mut self, selium: &Selium) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("the runtime ended ({status}); its log:\n{}", self.tail());
            }
            let Err(why) = selium.answers()? else {
                return Ok(());
            };
            if begun.elapsed() >= ANSWER_LIMIT {
                bail!(
                    "the server module does not answer after {} s: {}\nthe runtime's log:\n{}",
                    ANSWER_LIMIT.as_secs(),
                    why.trim(),
                    self.tail()
                );
            }
            thread::sleep(ANSWER_PAUSE);
        }
    }

    /// Its log so far.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log)
            .with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        match self.log() {
            Ok(log) => last_lines(&log, TAIL_LINES),
            Err(error) => format!("    ({error:#})"),
        }
    }

    /// Asks it to end, and makes it end if it does not.
    pub fn stop(mut self) -> Result<()> {
        self.process.interrupt()?;
        // Dropping the guard kills what is still there.
        self.process.wait_within(STOP_LIMIT)?;
        Ok(())
    }
}

/// The documented module line with this port, and with more capabilities than the documented ones.
#[must_use]
pub fn module_spec(port: u16, more: &[&str]) -> String {
    let more: String = more.iter().map(|name| format!(",{name}")).collect();
    format!(
        "path=modules/{MODULE};capabilities=ChannelLifecycle,ChannelReader,ChannelWriter,ProcessLifecycle,\
         NetQuicBind,NetQuicAccept,NetQuicRead,NetQuicWrite{more};args=utf8:localhost,u16:{port}"
    )
}

/// What a provisioned module needs besides: TLS of its own, and a clock.
pub const SECURE: [&str; 2] = ["NetTlsServerConfig", "TimeRead"];

/// A UDP port that was free a moment ago; the runtime cannot be asked which one it took.
///
/// It lies below the range that systems give to clients' sockets, which would take one of that range before the runtime
/// does. None is given twice in one process: somebody may be about to use it.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut number = RandomState::new().build_hasher().finish();
    for _ in 0..1_000 {
        let port = 20_000 + u16::try_from(number % 12_000).unwrap_or_default();
        // The runtime listens on all addresses, whatever it is told.
        if !given.contains(&port) && UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
        number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1) >> 1;
    }
    bail!("no free UDP port between 20000 and 32000")
}

/// Whether util-linux is here to tie the runtime's life to ours.
fn dies_with_parent() -> bool {
    proc::find("setpriv").is_some()
        && Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    let lines = lines.into_iter().skip(skipped);
    lines
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_line_is_the_documented_one() {
        assert_eq!(
            module_spec(7000, &[]),
            "path=modules/selium_remote_client_server.wasm;capabilities=ChannelLifecycle,ChannelReader,\
             ChannelWriter,ProcessLifecycle,NetQuicBind,NetQuicAccept,NetQuicRead,NetQuicWrite;\
             args=utf8:localhost,u16:7000"
        );
        assert!(
            module_spec(7000, &["TimeRead"]).contains("NetQuicRead,NetQuicWrite,TimeRead;args=")
        );
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "    b\n    c");
        assert_eq!(last_lines("a", 2), "    a");
        assert_eq!(last_lines("", 2), "");
    }
}
