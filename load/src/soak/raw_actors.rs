//! Clients that keep to the protocol as far as they speak, and do not behave all the same.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use fastrand::Rng;
use selium_remote_client_protocol::{
    Payload,
    frame::{Frame, Gather},
    ops::{Common, InfoRequest, ListRequest, Request},
};
use tokio::time::timeout;

use super::World;
use super::actors::millis;
use crate::raw::{Dialer, Peer, hello};
use crate::socket::Gate;

/// How long the server gives a client for its hello, when it has a clock, with room for a busy machine.
const HELLO_LIMIT: Duration = Duration::from_secs(20);

/// How long a client writes before it gives up: the server reads whether or not it is read.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// A request as bytes.
pub(super) fn request<R: Request>(id: u64, request: &R) -> Bytes {
    let body = request.encode(&Common::default());
    let frame = Frame::Request {
        id,
        op: R::OP,
        total: body.len() as u64,
        chunk: Payload::from(body),
    };
    let mut out = Gather::default();
    frame.encode(&mut out);
    out.finish().concat().into()
}

/// Says something, or nothing, and is gone: no goodbye, no packet at all.
pub(super) async fn vanish(world: &World, dice: &mut Rng) -> Result<()> {
    let gate = Gate::open();
    let dialer = Dialer::behind(&gate, &world.certs, world.port)?;
    world.ledger.connected();
    match dice.u8(..8) {
        0 => {
            // Such a client holds one of the server's waiting accepts until it is given up.
            let connection = dialer.connection().await?;
            gate.shut();
            drop(connection);
            world.ledger.did("vanish before the stream");
            world.pause(Duration::from_secs(2)).await;
        }
        1 => {
            let mut wire = dialer.wire().await?;
            let hello = hello()?;
            let part = dice.usize(1..=hello.len());
            wire.write(hello.get(..part).unwrap_or_default()).await?;
            world.pause(millis(dice, 0, 20)).await;
            gate.shut();
            world.ledger.did("vanish in the hello");
        }
        _ => {
            let mut peer = dialer.peer().await?;
            let mut bytes = Vec::new();
            for id in 1..dice.u64(2..40) {
                match dice.bool() {
                    true => bytes.extend_from_slice(&request(id, &InfoRequest)),
                    false => bytes.extend_from_slice(&request(id, &ListRequest::default())),
                }
            }
            bytes.truncate(dice.usize(..=bytes.len()));
            peer.wire.write(&bytes).await?;
            world.pause(millis(dice, 0, 20)).await;
            gate.shut();
            world.ledger.did("vanish with requests in flight");
        }
    }
    Ok(())
}

/// Asks a lot and does not read what is answered: QUIC's windows fill up, then the server's queue.
pub(super) async fn hear_nothing(world: &World, dice: &mut Rng) -> Result<()> {
    let dialer = Dialer::new(&world.certs, world.port)?;
    world.ledger.connected();
    let mut peer = dialer.peer().await?;
    let list = ListRequest::with(|made| {
        made.all = true;
    });
    let count = dice.u64(10..4_000);
    let asking = async {
        for id in 1..=count {
            peer.wire.write(&request(id, &list)).await?;
        }
        anyhow::Ok(())
    };
    match timeout(WRITE_LIMIT, asking).await {
        Ok(asked) => asked.context("asking without reading")?,
        Err(_) => bail!("the server does not read any more"),
    }
    world.ledger.did_often("list, answer not read", count);
    world.pause(millis(dice, 500, 8_000)).await;
    if dice.bool() {
        read_for(&mut peer, Duration::from_millis(300)).await;
    }
    world.ledger.did("deaf client");
    Ok(())
}

async fn read_for(peer: &mut Peer, time: Duration) {
    let reading = async { while peer.wire.read().await.is_some() {} };
    // It does not end by itself unless the server has closed.
    let _ = timeout(time, reading).await;
}

/// Connects and says nothing, or a single byte.
pub(super) async fn say_nothing(world: &World, dice: &mut Rng) -> Result<()> {
    let dialer = Dialer::new(&world.certs, world.port)?;
    world.ledger.connected();
    match dice.u8(..3) {
        0 => {
            let connection = dialer.connection().await?;
            world.pause(millis(dice, 1_000, 15_000)).await;
            connection.close(0u32.into(), b"");
            world.ledger.did("silent connection");
        }
        1 => {
            let wire = dialer.wire().await?;
            world.pause(millis(dice, 1_000, 15_000)).await;
            wire.close(&dialer).await;
            world.ledger.did("silent stream");
        }
        _ => {
            let mut wire = dialer.wire().await?;
            wire.write(b"S").await?;
            match timeout(HELLO_LIMIT, wire.read()).await {
                Ok(Some(_)) => world.ledger.did("silence after a byte, refused"),
                Ok(None) => bail!("a client that says a byte was closed without a word"),
                Err(_) => bail!("a client that says a byte and no more was not refused in 20 s"),
            }
        }
    }
    Ok(())
}
