//! Memory each second, and an honest client who has to be served all the time.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use selium_remote_client::Client;
use tokio::time::{sleep, timeout};

use super::World;
use crate::memory;

/// How long the honest client may wait for an answer, or for a connection, before the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so many looks the honest client connects anew.
const LOOKS: u32 = 3;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The runtime's memory each second, in bytes.
    pub(super) memory: Vec<u64>,
    /// The longest and the usual wait for a ping.
    pub(super) pings: Vec<Duration>,
    /// The waits for connections.
    pub(super) connects: Vec<Duration>,
}

/// Watches until the time is over.
pub(super) async fn watch(pid: u32, world: Rc<World>) -> Watch {
    let mut watch = Watch::default();
    let mut client = None;
    let mut looks = 0;
    while world.goes_on() {
        let second = Instant::now();
        match memory::resident(pid) {
            Ok(bytes) => watch.memory.push(bytes),
            Err(error) => world.ledger.unexpected("watch", &format!("{error:#}")),
        }
        if let Err(error) = look(&world, &mut watch, &mut client).await {
            world
                .ledger
                .unexpected("honest client", &format!("{error:#}"));
            client = None;
        }
        looks += 1;
        if looks % LOOKS == 0 {
            client = None;
        }
        sleep(Duration::from_secs(1).saturating_sub(second.elapsed())).await;
    }
    watch
}

async fn look(world: &World, watch: &mut Watch, client: &mut Option<Client>) -> Result<()> {
    let begun = Instant::now();
    let connected = match client.take() {
        Some(client) => client,
        None => {
            let connecting = world.config.clone().connect_timeout(PATIENCE).connect();
            world.ledger.connected();
            let fresh = timeout(PATIENCE, connecting)
                .await
                .context("no connection")??;
            watch.connects.push(begun.elapsed());
            fresh
        }
    };
    let begun = Instant::now();
    timeout(PATIENCE, connected.ping())
        .await
        .context("no pong")??;
    watch.pings.push(begun.elapsed());
    *client = Some(connected);
    Ok(())
}
