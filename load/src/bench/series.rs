//! What is measured.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use selium_remote_client::{Client, Process};
use selium_remote_client_protocol::Capability;
use selium_remote_client_protocol::ops::{
    InfoRequest, ListRequest, ProcessList, ProcessRef, StartRequest, StopRequest,
};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use xtask::runtime::free_port;
use xtask::selium::Selium;

use crate::cpu::Cpu;
use crate::guests;
use crate::native::Native;
use crate::raw::{Dialer, Wire};
use crate::site::Site;
use crate::stats::Slice;

/// How many processes stand in the table while lists are measured, the echo guest included.
const PROCESSES: usize = 10;

/// What every echo carries.
const ECHO: [u8; 64] = [0x5a; 64];

/// How many requests are in flight at once, and how many starts.
const WIDE: usize = 64;
const WIDE_STARTS: usize = 8;

/// How long one piece of work may take before the bench counts as broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    NativeConnect,
    NativeEcho,
    GuestConnect,
    GuestEcho,
    ClientConnect,
    PingConnect,
    PingSequential,
    InfoConnect,
    InfoSequential,
    InfoWide,
    ListConnect,
    ListSequential,
    ListWide,
    StartConnect,
    StartSequential,
    StartWide,
    Ps,
}

impl Series {
    /// All, in the order of the report.
    pub(super) const ALL: [Self; 17] = [
        Self::NativeConnect,
        Self::NativeEcho,
        Self::GuestConnect,
        Self::GuestEcho,
        Self::ClientConnect,
        Self::PingConnect,
        Self::PingSequential,
        Self::InfoConnect,
        Self::InfoSequential,
        Self::InfoWide,
        Self::ListConnect,
        Self::ListSequential,
        Self::ListWide,
        Self::StartConnect,
        Self::StartSequential,
        Self::StartWide,
        Self::Ps,
    ];

    /// Its name in JSON.
    pub(super) fn key(self) -> &'static str {
        self.about().0
    }

    /// Its name for people.
    pub(super) fn label(self) -> &'static str {
        self.about().1
    }

    /// Whether what it takes is compared with the echo guest to within a tenth: these take turns many times in a round.
    pub(super) fn is_close(self) -> bool {
        matches!(
            self,
            Self::GuestEcho | Self::PingSequential | Self::InfoSequential | Self::ListSequential
        )
    }

    /// How often it is done in a round.
    fn count(self) -> usize {
        self.about().2
    }

    fn about(self) -> (&'static str, &'static str, usize) {
        match self {
            Self::NativeConnect => ("native_connect", "native: new connection, echo 64 B", 30),
            Self::NativeEcho => ("native_echo", "native: echo 64 B", 1_000),
            Self::GuestConnect => ("guest_connect", "echo guest: new connection, echo 64 B", 30),
            Self::GuestEcho => ("guest_echo", "echo guest: echo 64 B", 1_000),
            Self::ClientConnect => ("client_connect", "client library: connect, ping, drop", 20),
            Self::PingConnect => ("ping_connect", "ping: a connection each", 30),
            Self::PingSequential => ("ping_sequential", "ping: sequential", 1_000),
            Self::InfoConnect => ("info_connect", "info: a connection each", 30),
            Self::InfoSequential => ("info_sequential", "info: sequential", 1_000),
            Self::InfoWide => ("info_64", "info: 64 in flight", 5_000),
            Self::ListConnect => ("list_connect", "list of 10: a connection each", 30),
            Self::ListSequential => ("list_sequential", "list of 10: sequential", 1_000),
            Self::ListWide => ("list_64", "list of 10: 64 in flight", 4_000),
            Self::StartConnect => ("start_stop_connect", "start+stop: a connection each", 4),
            Self::StartSequential => ("start_stop_sequential", "start+stop: sequential", 4),
            Self::StartWide => ("start_stop_8", "start+stop: 8 in flight", 16),
            Self::Ps => ("ps_process", "`selium ps`, the whole process", 2),
        }
    }
}

/// How much of a series is done in one slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    count: usize,
    limit: Duration,
}

impl Plan {
    /// A share of the series' own count, at least 2, within a time.
    pub(super) fn new(series: Series, share: f64, limit: Duration) -> Self {
        let count = (series.count() as f64 * share).ceil() as usize;
        Self {
            count: count.max(2),
            limit,
        }
    }
}

/// Everything that is measured, set up.
pub(super) struct Bench {
    client: Client,
    config: selium_remote_client::ClientConfigBuilder,
    /// From one socket, as a client of 0.3.3 does.
    dialer: Dialer,
    guest: Dialer,
    guest_wire: Wire,
    native: Dialer,
    native_wire: Wire,
    selium: Selium,
    /// The runtime's process id.
    runtime: u32,
    _server: Native,
}

impl Bench {
    /// Starts the echo servers and fills the table.
    pub(super) async fn new(site: &Site, cli: &Path) -> Result<Self> {
        let certs = site.certs();
        let server = Native::start(&certs)?;
        let client = site.client().await?;
        let echo_port = free_port()?;
        Process::start(&client, guests::netecho(echo_port)).await?;
        for _ in 1..PROCESSES {
            Process::start(&client, guests::hello()).await?;
        }
        let guest = Dialer::new(&certs, echo_port)?;
        let guest_wire = first_echo(&guest).await.context("the echo guest")?;
        let native = Dialer::new(&certs, server.port())?;
        let native_wire = first_echo(&native).await.context("the native echo")?;
        Ok(Self {
            dialer: Dialer::new(&certs, site.port())?,
            config: site.config(),
            client,
            guest,
            guest_wire,
            native,
            native_wire,
            selium: Selium {
                binary: cli.to_owned(),
                certs,
                port: site.port(),
            },
            runtime: site.pid(),
            _server: server,
        })
    }

    /// Does one slice.
    pub(super) async fn run(&mut self, series: Series, plan: Plan) -> Result<Slice> {
        let before = Cpu::of(self.runtime)?;
        let mut slice = self.work(series, plan).await?;
        slice.cpu = Cpu::of(self.runtime)?.since(before);
        Ok(slice)
    }

    async fn work(&mut self, series: Series, plan: Plan) -> Result<Slice> {
        let (client, dialer) = (&self.client, &self.dialer);
        match series {
            Series::NativeConnect => {
                sequential(plan, async || self.native.wire().await?.echo(&ECHO).await).await
            }
            Series::NativeEcho => {
                let wire = &mut self.native_wire;
                sequential(plan, async || wire.echo(&ECHO).await).await
            }
            Series::GuestConnect => {
                sequential(plan, async || self.guest.wire().await?.echo(&ECHO).await).await
            }
            Series::GuestEcho => {
                let wire = &mut self.guest_wire;
                sequential(plan, async || wire.echo(&ECHO).await).await
            }
            Series::ClientConnect => {
                let config = &self.config;
                sequential(plan, async || {
                    config.clone().connect().await?.ping().await?;
                    Ok(())
                })
                .await
            }
            Series::PingConnect => {
                sequential(plan, async || dialer.peer().await?.ping().await).await
            }
            Series::PingSequential => {
                sequential(plan, async || Ok(client.ping().await.map(drop)?)).await
            }
            Series::InfoConnect => {
                sequential(plan, async || {
                    dialer.peer().await?.ask(&InfoRequest).await??;
                    Ok(())
                })
                .await
            }
            Series::InfoSequential => {
                sequential(plan, async || Ok(client.info().await.map(drop)?)).await
            }
            Series::InfoWide => wide(plan, WIDE, async || Ok(client.info().await.map(drop)?)).await,
            Series::ListConnect => {
                sequential(plan, async || {
                    let list = dialer.peer().await?.ask(&ListRequest::default()).await??;
                    full(ProcessList::decode(&list)?.processes.len())
                })
                .await
            }
            Series::ListSequential => {
                sequential(plan, async || full(client.processes(false).await?.len())).await
            }
            Series::ListWide => {
                wide(plan, WIDE, async || {
                    full(client.processes(false).await?.len())
                })
                .await
            }
            Series::StartConnect => {
                sequential(plan, async || start_and_stop_apart(dialer).await).await
            }
            Series::StartSequential => {
                sequential(plan, async || start_and_stop(client).await).await
            }
            Series::StartWide => {
                wide(plan, WIDE_STARTS, async || start_and_stop(client).await).await
            }
            Series::Ps => sequential(plan, async || ps(&self.selium).await).await,
        }
    }
}

fn full(listed: usize) -> Result<()> {
    if listed != PROCESSES {
        bail!("{listed} processes were listed instead of {PROCESSES}");
    }
    Ok(())
}

async fn start_and_stop(client: &Client) -> Result<()> {
    Ok(Process::start(client, guests::hello())
        .await?
        .stop()
        .await?)
}

/// As 0.3.3 did it: the start on one connection, the stop on another.
async fn start_and_stop_apart(dialer: &Dialer) -> Result<()> {
    let request = StartRequest::with(|made| {
        made.module = "hello.wasm".to_owned();
        made.entrypoint = "hello".to_owned();
        made.capabilities = vec![Capability::ChannelLifecycle, Capability::ChannelWriter];
    });
    let started = dialer.peer().await?.ask(&request).await??;
    let id = ProcessRef::decode(&started)?.id;
    let stop = StopRequest::with(|stop| stop.target = format!("{id:016x}"));
    dialer.peer().await?.ask(&stop).await??;
    Ok(())
}

async fn ps(selium: &Selium) -> Result<()> {
    let output = Command::from(selium.command(&["ps"]))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", selium.binary.display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("`selium ps` failed: {}", stderr.trim());
    }
    Ok(())
}

/// An echo server that was just started may need a moment. An attempt that comes too early is not answered at all.
async fn first_echo(dialer: &Dialer) -> Result<Wire> {
    let begun = Instant::now();
    loop {
        let attempt = async {
            let mut wire = dialer.wire().await?;
            wire.echo(&ECHO).await?;
            anyhow::Ok(wire)
        };
        match timeout(Duration::from_secs(2), attempt).await {
            Ok(Ok(wire)) => return Ok(wire),
            failed if begun.elapsed() > PATIENCE => {
                bail!("no echo from {}: {failed:?}", Ipv4Addr::LOCALHOST)
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Does the work again and again.
async fn sequential(plan: Plan, mut work: impl AsyncFnMut() -> Result<()>) -> Result<Slice> {
    let begun = Instant::now();
    let mut latencies = Vec::with_capacity(plan.count);
    while latencies.len() < plan.count && begun.elapsed() < plan.limit {
        let start = Instant::now();
        timeout(PATIENCE, work()).await.context("no answer")??;
        latencies.push(start.elapsed());
    }
    Ok(Slice {
        latencies,
        wall: begun.elapsed(),
        ..Slice::default()
    })
}

/// Does the work again and again, `width` pieces at a time.
async fn wide(plan: Plan, width: usize, work: impl AsyncFn() -> Result<()>) -> Result<Slice> {
    let begun = Instant::now();
    let taken = Cell::new(0);
    let worker = async || {
        let mut latencies = Vec::new();
        while taken.get() < plan.count && begun.elapsed() < plan.limit {
            taken.set(taken.get() + 1);
            let start = Instant::now();
            timeout(PATIENCE, work()).await.context("no answer")??;
            latencies.push(start.elapsed());
        }
        anyhow::Ok(latencies)
    };
    let all = try_join_all((0..width).map(|_| worker())).await?;
    Ok(Slice {
        latencies: all.concat(),
        wall: begun.elapsed(),
        ..Slice::default()
    })
}
