//! Clients that break the protocol. The server has to tell them off, or to shrug, and to go on.

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use fastrand::Rng;
use selium_remote_client_protocol::{
    frame::{Frame, FrameReader},
    ops::InfoRequest,
};
use tokio::time::timeout;

use super::World;
use super::actors::millis;
use super::raw_actors::request;
use crate::raw::{Dialer, Peer, Wire, hello};

/// How long the server may take to answer an offence.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Offends the server in one way.
pub(super) async fn offend(world: &World, dice: &mut Rng) -> Result<()> {
    let dialer = Dialer::new(&world.certs, world.port)?;
    world.ledger.connected();
    if dice.u8(..3) == 0 {
        before_the_hello(world, dice, dialer.wire().await?).await
    } else {
        behind_the_hello(world, dice, dialer.peer().await?).await
    }
}

async fn before_the_hello(world: &World, dice: &mut Rng, mut wire: Wire) -> Result<()> {
    match dice.u8(..5) {
        0 => {
            let mut bytes: Vec<u8> = (0..dice.usize(20..900)).map(|_| dice.u8(..)).collect();
            // Whatever the dice say, it is no hello.
            if let Some(first) = bytes.first_mut() {
                *first = 0xff;
            }
            wire.write(&bytes).await?;
            must_answer(&mut wire, "garbage").await?;
            world.ledger.did("rude: garbage instead of a hello");
        }
        1 => {
            let mut bytes = b"\x10\0\0\0RMCL".to_vec();
            bytes.extend((0..dice.usize(8..200)).map(|_| dice.u8(..)));
            wire.write(&bytes).await?;
            must_answer(&mut wire, "a request of 0.3.3").await?;
            world.ledger.did("rude: a request of 0.3.3");
        }
        2 => {
            wire.write(b"SLRC\r\n\x1a\n\0\x01\0\x01\xff\xff\0\0")
                .await?;
            must_answer(&mut wire, "a hello of 65,535 bytes").await?;
            world.ledger.did("rude: hello too long");
        }
        3 => {
            let hello = hello()?;
            let part = dice.usize(1..hello.len());
            wire.write(hello.get(..part).unwrap_or_default()).await?;
            wire.finish();
            // The server may say something or nothing; it must not be hurt.
            let _ = timeout(Duration::from_millis(500), wire.read()).await;
            world.ledger.did("rude: half a hello");
        }
        _ => {
            wire.write(&dice.u32(..).to_be_bytes()).await?;
            wire.finish();
            let _ = timeout(Duration::from_millis(500), wire.read()).await;
            world.ledger.did("rude: four bytes");
        }
    }
    Ok(())
}

async fn behind_the_hello(world: &World, dice: &mut Rng, mut peer: Peer) -> Result<()> {
    let (what, bytes): (_, Vec<u8>) = match dice.u8(..8) {
        // A length of 20,000.
        0 => ("rude: frame too long", b"\x80\0\x4e\x20\x10\x01".to_vec()),
        1 => ("rude: empty frame", b"\0".to_vec()),
        2 => ("rude: unknown kind", b"\x03\x7f\x01\0".to_vec()),
        3 => (
            "rude: a response from a client",
            b"\x06\x11\x01\0\x02ok".to_vec(),
        ),
        4 => {
            let high = dice.u64(2..1_000_000);
            let low = dice.u64(1..=high);
            let ids = [request(high, &InfoRequest), request(low, &InfoRequest)];
            ("rude: ids backwards", ids.concat())
        }
        5 => ("rude: cancel of no request", b"\x02\x13\x3f".to_vec()),
        6 => {
            // Read as frames, a hello is a long one that never ends.
            peer.wire.write(&hello()?).await?;
            world.pause(millis(dice, 0, 500)).await;
            world.ledger.did("rude: hello twice");
            return Ok(());
        }
        _ => {
            let whole = request(1, &InfoRequest);
            let part = dice.usize(1..whole.len());
            peer.wire
                .write(whole.get(..part).unwrap_or_default())
                .await?;
            peer.wire.finish();
            world.pause(millis(dice, 0, 500)).await;
            world.ledger.did("rude: half a frame");
            return Ok(());
        }
    };
    peer.wire.write(&bytes).await?;
    goodbye(&mut peer.wire, what).await?;
    world.ledger.did(what);
    Ok(())
}

async fn must_answer(wire: &mut Wire, to: &str) -> Result<Bytes> {
    match timeout(ANSWER_LIMIT, wire.read()).await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => bail!("{to} was answered with an end without a word"),
        Err(_) => bail!("{to} was not answered in {} s", ANSWER_LIMIT.as_secs()),
    }
}

/// Waits for the server's goodbye; what comes before it does not matter.
async fn goodbye(wire: &mut Wire, to: &str) -> Result<()> {
    let mut frames = FrameReader::new();
    loop {
        match frames.next()? {
            Some(Frame::Goodbye(_)) => return Ok(()),
            Some(_) => {}
            None => frames.push(must_answer(wire, to).await?),
        }
    }
}
