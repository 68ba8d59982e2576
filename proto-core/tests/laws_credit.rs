//! Credit: never past the limit, never lost. (The observer of tests/common/watch.rs checks both senders and both
//! receivers on the wire, here and in the model and the laws of progress.)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use bytes::Bytes;
use common::{Pair, config, watch::Side, world::World};
use proptest::{collection::vec, prelude::*};
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, RemoteError, RequestId, Time,
    client::{ClientEvent, StreamKind},
    frame::Frame,
    limits::MESSAGE_OVERHEAD,
    server::ServerEvent,
};

fn limits(connection: usize, stream: usize) -> Limits {
    Limits::with(|limits| {
        limits.connection_window = connection;
        limits.max_connection_window = connection;
        limits.stream_window = stream;
        limits.reassembly = 100_000;
        limits.max_message = 50_000;
    })
}

fn data(id: RequestId, seq: u64, len: usize) -> Bytes {
    let id = id.get();
    let chunk: Vec<u8> = vec![0; len];
    let total = len as u64;
    Frame::Data {
        id,
        seq,
        total,
        chunk: chunk.into(),
    }
    .to_bytes()
}

fn closed_for_credit(pair: &mut Pair) -> bool {
    pair.collect();
    let reason = match (pair.client_events.last(), pair.server_events.last()) {
        (Some(ClientEvent::Closed(reason)), _) | (_, Some(ServerEvent::Closed(reason))) => reason,
        _ => return false,
    };
    matches!(reason, CloseReason::Protocol(why) if why.contains("without credit"))
}

proptest! {
    #![proptest_config(config(64))]

    /// All of a window is taken, and not one byte more, on the stream and on the connection.
    #[test]
    fn a_receiver_takes_its_window_and_not_a_byte_more(
        windows in [33usize..9_000, 33usize..9_000],
        sizes in vec(1usize..3_000, 1..30),
        to_server: bool,
    ) {
        let limits = limits(windows[0], windows[1]);
        let mut pair = Pair::open(limits, limits);
        let kind = if to_server { StreamKind::ToServer } else { StreamKind::ToClient };
        let id = pair.stream(kind);
        let put = |pair: &mut Pair, seq, len| {
            let bytes = data(id, seq, len);
            match to_server {
                true => pair.server.handle_input(Time::ZERO, bytes),
                false => pair.client.handle_input(Time::ZERO, bytes),
            }
        };
        let mut left = windows[0].min(windows[1]);
        let mut seq = 0;
        for size in sizes.iter().cycle() {
            // The last one fills the window to the last byte.
            let most = left - MESSAGE_OVERHEAD;
            let len = if most <= size + MESSAGE_OVERHEAD { most } else { *size };
            put(&mut pair, seq, len);
            pair.assert_open();
            seq += 1;
            left -= len + MESSAGE_OVERHEAD;
            if left == 0 {
                break;
            }
        }
        prop_assert!(!closed_for_credit(&mut pair));
        put(&mut pair, seq, 1);
        prop_assert!(closed_for_credit(&mut pair));
    }

    /// When all is read, or given up, or was sent to what is over, more than a third of each window is open again,
    /// however often: credit that was lost anywhere would add up.
    #[test]
    fn credit_comes_back_from_whatever_becomes_of_a_stream(
        windows in [400usize..9_000, 400usize..9_000],
        rounds in vec((0u8..6, vec(1usize..6_000, 1..5), any::<bool>(), 0usize..3), 20..40),
    ) {
        let limits = limits(windows[0], windows[1].min(windows[0]));
        let mut world = World::open(limits, limits, false);
        for (fate, sizes, to_server, late) in rounds {
            let (kind, from, to) = match to_server {
                true => (StreamKind::ToServer, Side::Client, Side::Server),
                false => (StreamKind::ToClient, Side::Server, Side::Client),
            };
            let id = world.stream(kind);
            for (seq, len) in sizes.iter().enumerate() {
                let message = vec![0; *len];
                let _ = match to_server {
                    true => world.client.send(id, seq as u64, message),
                    false => world.server.send(id, seq as u64, message),
                };
            }
            if !to_server && fate % 2 == 0 {
                world.server.gap(id, 1_000, None).unwrap();
            }
            // Some of it crosses, some of it crosses with what ends the stream.
            world.write(from, 1);
            world.arrive(from, late * 500);
            end(&mut world, id, fate, to_server);
            loop {
                world.run();
                if !read(&mut world) {
                    break;
                }
            }
            world.assert_open();
            if fate >= 4 {
                world.client.abandon(id);
                world.watch.dropped(Side::Client, id.get());
                world.run();
            }
            let open = world.watch.credit(to) - world.watch.received(to);
            let window = limits.connection_window as u64;
            prop_assert!(open * 3 > window, "{:?} has {} of {} left", to, open, window);
        }
    }
}

fn end(world: &mut World, id: RequestId, fate: u8, to_server: bool) {
    let error = || RemoteError::new(ErrorCode::Internal, "no");
    match fate {
        0 => {
            world.watch.dropped(Side::Client, id.get());
            world.client.abandon(id);
        }
        1 => {
            world.watch.dropped(Side::Client, id.get());
            world.client.cancel(id);
        }
        2 => {
            world.watch.dropped(Side::Server, id.get());
            world.server.reset(id, error());
        }
        3 if to_server => {
            world.watch.dropped(Side::Client, id.get());
            world.client.reset(id, error());
        }
        3 | 4 => {
            world.watch.dropped(Side::Server, id.get());
            world.server.end(id, None);
        }
        _ => world.client.finish(id),
    }
}

/// Reads everything that has come; answers whether there was anything.
fn read(world: &mut World) -> bool {
    let mut any = false;
    while let Some(event) = world.client.poll_event() {
        if let ClientEvent::Message { id, cost, .. } | ClientEvent::Gap { id, cost, .. } = event {
            any = true;
            world.consume(Side::Client, id, cost);
        }
    }
    while let Some(event) = world.server.poll_event() {
        if let ServerEvent::Message { id, cost, .. } = event {
            any = true;
            world.consume(Side::Server, id, cost);
        }
    }
    any
}
