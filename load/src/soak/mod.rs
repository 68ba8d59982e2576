//! Many clients for a while, good ones and bad ones; then everything has to be back where it was.
//!
//! ```text
//! run ──► actors   what clients do, a task each: visit, start and stop, follow, stall, vanish, fall silent
//!     │      └──► rude    clients that break the protocol
//!     ├─► ledger   what was done, what went wrong, what should not have
//!     ├─► starts   how many processes may be started, and which run
//!     └─► watch    memory each second, and an honest client who has to be served all the time
//! ```
//!
//! The dice are seeded; what meets what in the server is up to the clock all the same.

mod actors;
mod ledger;
mod raw_actors;
mod report;
mod rude;
mod starts;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use selium_remote_client::{Client, ClientConfigBuilder, ServerInfo};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::Paths;
use crate::site::{Site, settled};
use actors::Role;
use ledger::Ledger;
use starts::Starts;
use watch::Watch;

/// How long the server may take to forget everybody: clients that vanished are noticed after QUIC's 30 s.
const RETURN_LIMIT: Duration = Duration::from_secs(45);

/// Within this an honest client has to be served, at the end.
const HONEST_LIMIT: Duration = Duration::from_secs(2);

/// How long the actors may take to end when the time is over.
const ACTORS_LIMIT: Duration = Duration::from_secs(60);

/// The share of the time after which the memory counts.
const WARM_UP: f64 = 0.25;

/// The options of `soak`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    paths: Paths,
    /// How long.
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// The seed of the dice; from the system when there is none.
    #[arg(long)]
    seed: Option<u64>,
}

/// What all actors share.
pub(crate) struct World {
    config: ClientConfigBuilder,
    certs: PathBuf,
    port: u16,
    cli: PathBuf,
    until: Instant,
    ledger: Ledger,
    starts: Starts,
}

impl World {
    /// Whether there is time left.
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Waits, but not past the end.
    async fn pause(&self, time: Duration) {
        sleep(time.min(self.until.saturating_duration_since(Instant::now()))).await;
    }
}

/// What came of the end.
struct Outcome {
    /// How long the server took to forget everybody, or what it still held.
    returned: Result<Duration, ServerInfo>,
    /// How long an honest client took to be served.
    honest: Result<Duration>,
    /// The runtime's memory at the start, after the warm-up and at the end.
    memory: [u64; 3],
    /// Starts and connections since the warm-up.
    starts: u64,
    connections: u64,
}

/// Runs it.
///
/// # Errors
/// When it cannot be run at all, or the server or the runtime is gone. What else goes wrong is in the exit code.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => getrandom::u64().context("no random numbers")?,
    };
    println!("soak: {} s, seed {seed}", options.seconds);
    let paths = &options.paths;
    let mut site = Site::start(&paths.runtime, &paths.module, &paths.guests, &["TimeRead"])?;
    site.ready().await?;
    let duration = Duration::from_secs(options.seconds);
    let world = Rc::new(World {
        config: site.config(),
        certs: site.certs(),
        port: site.port(),
        cli: paths.cli.clone(),
        until: Instant::now() + duration,
        ledger: Ledger::default(),
        starts: Starts::default(),
    });
    let start = settled(&site).await?;
    let played = LocalSet::new()
        .run_until(play(&site, &world, seed, duration, start))
        .await;
    site.alive()?;
    let (outcome, watch) =
        played.with_context(|| format!("the runtime's log ends:\n{}", site.tail()))?;
    let verdict = report::print(&world, &outcome, &watch, seed);
    if !verdict {
        eprintln!("the runtime's log ends:\n{}", site.tail());
    }
    Ok(if verdict {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The actors' time, and what comes after it.
async fn play(
    site: &Site,
    world: &Rc<World>,
    seed: u64,
    duration: Duration,
    start: u64,
) -> Result<(Outcome, Watch)> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut actors = JoinSet::new();
    for role in Role::CAST {
        let world = Rc::clone(world);
        actors.spawn_local(actors::act(role, world, dice.fork()));
    }
    let watching = tokio::task::spawn_local(watch::watch(site.pid(), Rc::clone(world)));

    sleep(duration.mul_f64(WARM_UP)).await;
    let warm = site.resident()?;
    let (warm_starts, warm_connections) = (world.ledger.starts(), world.ledger.connections());

    let all = async { while actors.join_next().await.is_some() {} };
    let left = world.until.saturating_duration_since(Instant::now());
    if timeout(left + ACTORS_LIMIT, all).await.is_err() {
        world
            .ledger
            .unexpected("soak", "some actors did not end in time");
        actors.abort_all();
    }
    let watch = watching.await.context("the watch")?;

    let client = site.client().await.context("a client after all others")?;
    stop_all(&client, &world.ledger).await?;
    let returned = back_to_base(&client).await?;
    client.close().await;
    let honest = honest(site).await;
    let end = settled(site).await?;
    let outcome = Outcome {
        returned,
        honest,
        memory: [start, warm, end],
        starts: world.ledger.starts().saturating_sub(warm_starts),
        connections: world.ledger.connections().saturating_sub(warm_connections),
    };
    Ok((outcome, watch))
}

/// Stops every process that is not stopped yet.
async fn stop_all(client: &Client, ledger: &Ledger) -> Result<()> {
    for process in client.processes(false).await? {
        client.stop(&format!("{:016x}", process.id)).await?;
        ledger.did("stop at the end");
    }
    Ok(())
}

/// Waits until the server knows of nobody but this client.
async fn back_to_base(client: &Client) -> Result<Result<Duration, ServerInfo>> {
    let begun = Instant::now();
    loop {
        let info = client.info().await?;
        if info.connections == 1 && info.streams == 0 && info.starts == 0 {
            return Ok(Ok(begun.elapsed()));
        }
        if begun.elapsed() >= RETURN_LIMIT {
            return Ok(Err(info));
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Connects, pings and lists.
async fn honest(site: &Site) -> Result<Duration> {
    let begun = Instant::now();
    let served = async {
        let client = site.client().await?;
        client.ping().await?;
        client.processes(true).await?;
        client.close().await;
        anyhow::Ok(begun.elapsed())
    };
    timeout(HONEST_LIMIT, served)
        .await
        .context("not within 2 s")?
}
