//! Packets that begin a handshake and are followed by nothing.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::sleep;

use super::{site, try_once};
use crate::Paths;
use crate::raw::Dialer;
use crate::socket::Gate;

/// Packets a second, one after another until the door is closed.
const RATES: [u32; 7] = [5, 20, 50, 100, 300, 1_000, 5_000];

/// How long each flood lasts, and how many packets it has at most.
const SECONDS: u32 = 3;
const MAX_PACKETS: usize = 20_000;

/// More than there are accepts, to see how long the door stays closed.
const TOO_MANY: usize = 8;

/// How long it is waited for the door to open again.
const REOPEN_LIMIT: Duration = Duration::from_secs(75);

/// What an endpoint may have in flight of attempts whose first packet is wanted.
const BATCH: usize = 50;

/// The first packets of so many handshakes, each of another connection.
pub(super) async fn initials(certs: &Path, count: usize) -> Result<Vec<Vec<u8>>> {
    let count = count.min(MAX_PACKETS);
    let gate = Gate::keeping();
    // Nothing leaves, so that the port does not matter.
    let dialer = Dialer::behind(&gate, certs, 9)?;
    let mut packets = Vec::with_capacity(count);
    while packets.len() < count {
        let mut batch = Vec::new();
        for _ in 0..BATCH.min(count - packets.len()) {
            batch.push(dialer.begin()?);
        }
        let begun = Instant::now();
        let mut kept = Vec::new();
        while kept.len() < batch.len() && begun.elapsed() < Duration::from_secs(5) {
            yield_now().await;
            kept.extend(gate.take());
        }
        packets.append(&mut kept);
        // What is sent when these are given up is a close, and not wanted.
        drop(batch);
        sleep(Duration::from_millis(1)).await;
        drop(gate.take());
    }
    packets.truncate(count);
    Ok(packets)
}

/// Sends packets at a rate; returns how long that took.
pub(super) async fn send(port: u16, packets: Vec<Vec<u8>>, rate: u32) -> Result<Duration> {
    let sending = spawn_blocking(move || -> Result<Duration> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a socket")?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        let begun = Instant::now();
        for (number, packet) in packets.iter().enumerate() {
            let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            // A full buffer loses packets on a real network, too.
            let _ = socket.send(packet);
        }
        Ok(begun.elapsed())
    });
    sending.await.context("the flood")?
}

/// Floods new runtimes at rising rates until the door is closed; then looks how long it stays closed.
pub(super) async fn rates(paths: &Paths, module: &Path, accepts: usize) -> Result<()> {
    for rate in RATES {
        let count = (rate * SECONDS) as usize;
        let mut site = site(paths, module)?;
        site.ready().await?;
        let packets = initials(&site.certs(), count).await?;
        let flood = tokio::spawn(send(site.port(), packets, rate));
        sleep(Duration::from_millis(1_000)).await;
        let during = try_once(&site).await;
        flood.await.context("the flood")??;
        let after = try_once(&site).await;
        println!(
            "  {rate} unverified packets/s for {SECONDS} s: an honest client during it {}, after it {}",
            shown(during),
            shown(after)
        );
        site.alive()?;
        if during.is_none() && after.is_none() {
            break;
        }
    }
    let mut site = site(paths, module)?;
    site.ready().await?;
    let packets = initials(&site.certs(), accepts + TOO_MANY).await?;
    let count = packets.len();
    send(site.port(), packets, 2_000).await?;
    let begun = Instant::now();
    let first = try_once(&site).await;
    while begun.elapsed() < REOPEN_LIMIT && try_once(&site).await.is_none() {
        sleep(Duration::from_millis(500)).await;
    }
    println!(
        "  a burst of {count} unverified packets: an honest client right after it {}; it got in again {:.0} s after it",
        shown(first),
        begun.elapsed().as_secs_f64()
    );
    site.alive()
}

fn shown(took: Option<Duration>) -> String {
    match took {
        Some(took) => format!("got in within {:.0} ms", took.as_secs_f64() * 1e3),
        None => "did not get in within 2 s".to_owned(),
    }
}
