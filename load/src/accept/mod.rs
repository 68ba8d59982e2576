//! What the pool of waiting accepts costs, and what it withstands.
//!
//! The runtime's accept holds on to one connection until its handshake is done and its first stream has come, so that
//! each silent or half-open client takes one accept away. Run by hand, with one module for each size of the pool:
//!
//! ```text
//! selium-remote-load accept --runtime R --module M --guests G --cli C --variant 64=M64.wasm --variant 256=M256.wasm
//! ```

mod flood;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Paths;
use crate::memory::mib;
use crate::raw::Dialer;
use crate::site::{Site, settled};
use crate::stats::{Slice, short};

/// Connections that are made one after another.
const CONNECTIONS: usize = 200;

/// Peers that shake hands and open no stream, and peers that send one packet and no more.
const SILENT: usize = 200;
const HALF_OPEN: usize = 60;

/// Between the silent peers.
const PAUSE: Duration = Duration::from_millis(5);

/// How often an honest client tries, and how long each time.
const TRIES: usize = 5;
const HONEST_LIMIT: Duration = Duration::from_secs(2);

/// The options of `accept`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    paths: Paths,
    /// A module and the number of its waiting accepts.
    #[arg(long, value_name = "ACCEPTS=FILE", value_parser = variant, required = true)]
    variant: Vec<(usize, PathBuf)>,
    /// Leave out what floods the server.
    #[arg(long)]
    no_flood: bool,
}

fn variant(text: &str) -> Result<(usize, PathBuf), String> {
    let (accepts, file) = text.split_once('=').ok_or("ACCEPTS=FILE")?;
    let accepts = accepts.parse().map_err(|_| "ACCEPTS is a number")?;
    Ok((accepts, PathBuf::from(file)))
}

/// Measures all variants.
///
/// # Errors
/// When a runtime cannot be run, or the server is gone.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    for (accepts, module) in &options.variant {
        println!("{accepts} waiting accepts");
        pool(&options.paths, module).await?;
        if !options.no_flood {
            flood::rates(&options.paths, module, *accepts).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn site(paths: &Paths, module: &Path) -> Result<Site> {
    Site::start(&paths.runtime, module, &paths.guests, &[])
}

async fn pool(paths: &Paths, module: &Path) -> Result<()> {
    let mut site = site(paths, module)?;
    let ready = site.ready().await?;
    println!(
        "  ready after {:.2} s, resident memory {}",
        ready.as_secs_f64(),
        mib(settled(&site).await?)
    );
    let slice = connections(&site).await?;
    println!(
        "  {CONNECTIONS} connections, one after another: {}/s, p50 {} ms, p99 {} ms",
        short(slice.rate()),
        short(slice.percentile(0.5) / 1e3),
        short(slice.percentile(0.99) / 1e3)
    );

    let silent = Arc::new(AtomicUsize::new(0));
    let mut peers = JoinSet::new();
    let dialer = Dialer::new(&site.certs(), site.port())?;
    for _ in 0..SILENT {
        let (connecting, silent) = (dialer.begin()?, Arc::clone(&silent));
        peers.spawn(async move {
            if let Ok(connection) = connecting.await {
                silent.fetch_add(1, Ordering::Relaxed);
                connection.closed().await;
            }
        });
        // All at once they would overflow the runtime's socket, which is another matter.
        sleep(PAUSE).await;
    }
    sleep(Duration::from_secs(3)).await;
    println!(
        "  {SILENT} silent peers: {} got through the handshake; {}",
        silent.load(Ordering::Relaxed),
        honest(&site).await
    );
    let initials = flood::initials(&site.certs(), HALF_OPEN).await?;
    flood::send(site.port(), initials, 1_000).await?;
    sleep(Duration::from_millis(500)).await;
    println!(
        "  and {HALF_OPEN} half-open handshakes: {}; resident memory {}",
        honest(&site).await,
        mib(site.resident()?)
    );
    site.alive()
}

async fn connections(site: &Site) -> Result<Slice> {
    let dialer = Dialer::new(&site.certs(), site.port())?;
    let begun = Instant::now();
    let mut latencies = Vec::new();
    for _ in 0..CONNECTIONS {
        let start = Instant::now();
        let peer = timeout(Duration::from_secs(30), dialer.peer()).await;
        drop(peer.context("no connection in 30 s")??);
        latencies.push(start.elapsed());
    }
    Ok(Slice {
        latencies,
        wall: begun.elapsed(),
        ..Slice::default()
    })
}

/// Tries some times; says how many of them and how fast.
async fn honest(site: &Site) -> String {
    let mut served = Vec::new();
    for _ in 0..TRIES {
        served.extend(try_once(site).await);
    }
    let slice = Slice {
        latencies: served,
        ..Slice::default()
    };
    format!(
        "an honest client got in {} of {TRIES} times, p50 {} ms, longest {} ms",
        slice.latencies.len(),
        short(slice.percentile(0.5) / 1e3),
        short(slice.percentile(1.0) / 1e3)
    )
}

/// How long a new client takes to be greeted, if it is within the limit.
async fn try_once(site: &Site) -> Option<Duration> {
    let dialer = Dialer::new(&site.certs(), site.port()).ok()?;
    let begun = Instant::now();
    let peer = timeout(HONEST_LIMIT, dialer.peer()).await.ok()?.ok()?;
    let took = begun.elapsed();
    drop(peer);
    Some(took)
}
