//! A runtime of our own with the server module.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use selium_remote_client::{Client, ClientConfigBuilder};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use xtask::runtime::{Runtime, free_port, module_spec};
use xtask::workdir::WorkDir;

use crate::memory;

/// How long the module may take until it answers: the runtime compiles it first.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How often another attempt begins while nobody answers. An attempt that begins too early sends its next packet only
/// after a second, so that one alone would measure that second.
const READY_PAUSE: Duration = Duration::from_millis(50);

/// A runtime in a work dir of its own, on a port of its own. It ends with this value.
pub(crate) struct Site {
    // Before the work dir: it writes into it as long as it lives.
    runtime: Runtime,
    work: WorkDir,
    started: Instant,
}

impl Site {
    /// Starts one with this server module, and with more capabilities than the documented ones.
    ///
    /// # Errors
    /// When the work dir cannot be made or the runtime cannot be started.
    pub(crate) fn start(
        binary: &Path,
        module: &Path,
        guests: &Path,
        more: &[&str],
    ) -> Result<Self> {
        let work = WorkDir::temporary(&std::env::temp_dir())?;
        work.prepare(binary, module, guests)?;
        let port = free_port()?;
        let started = Instant::now();
        let runtime = Runtime::start(binary, &work, port, &module_spec(port, more))?;
        Ok(Self {
            runtime,
            work,
            started,
        })
    }

    /// Waits until the module answers; tells how long that was since the runtime's start.
    ///
    /// # Errors
    /// When it does not, or the runtime has ended; with the end of the runtime's log.
    pub(crate) async fn ready(&mut self) -> Result<Duration> {
        let mut attempts = JoinSet::new();
        while self.started.elapsed() < READY_LIMIT {
            attempts.spawn(self.config().connect_timeout(READY_LIMIT).connect());
            if let Ok(Some(Ok(Ok(client)))) = timeout(READY_PAUSE, attempts.join_next()).await {
                let took = self.started.elapsed();
                attempts.shutdown().await;
                client.close().await;
                return Ok(took);
            }
            self.alive()?;
        }
        bail!(
            "the server module does not answer; the runtime's log ends:\n{}",
            self.runtime.tail()
        );
    }

    /// The port of the control plane.
    pub(crate) fn port(&self) -> u16 {
        self.runtime.port()
    }

    /// The certificate directory.
    pub(crate) fn certs(&self) -> PathBuf {
        self.work.certs()
    }

    /// How the client library connects to it.
    pub(crate) fn config(&self) -> ClientConfigBuilder {
        ClientConfigBuilder::default()
            .port(self.port())
            .certificate_directory(self.certs())
    }

    /// Connects.
    ///
    /// # Errors
    /// As the client library.
    pub(crate) async fn client(&self) -> Result<Client> {
        Ok(self.config().connect().await?)
    }

    /// The process id of the runtime.
    pub(crate) fn pid(&self) -> u32 {
        self.runtime.pid()
    }

    /// The resident memory of the runtime, in bytes.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub(crate) fn resident(&self) -> Result<u64> {
        memory::resident(self.pid())
    }

    /// Fails when the runtime has ended.
    ///
    /// # Errors
    /// As it says, with the end of its log.
    pub(crate) fn alive(&mut self) -> Result<()> {
        match self.runtime.ended()? {
            None => Ok(()),
            Some(status) => bail!(
                "the runtime ended ({status}); its log ends:\n{}",
                self.runtime.tail()
            ),
        }
    }

    /// The end of the runtime's log.
    pub(crate) fn tail(&self) -> String {
        self.runtime.tail()
    }
}

/// Waits until the runtime's memory stands still for half a second (for 5 s at most), and answers it.
///
/// # Errors
/// When the runtime is gone.
pub(crate) async fn settled(site: &Site) -> Result<u64> {
    let mut last = site.resident()?;
    for _ in 0..10 {
        sleep(Duration::from_millis(500)).await;
        let now = site.resident()?;
        if now.abs_diff(last) < 64 * 1024 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
