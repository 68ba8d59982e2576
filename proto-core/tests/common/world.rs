//! Two machines over pipes that hold bytes back, with an observer on the wire.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use selium_remote_client_protocol::{
    Limits, RequestId, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    hello::{ClientHello, Features, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

use super::watch::{Side, Watch};

pub(crate) struct World {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) watch: Watch,
    pub(crate) now: Time,
    /// Bytes on their way.
    pub(crate) up: BytesMut,
    pub(crate) down: BytesMut,
}

impl World {
    /// Both are open. The server has a clock when it is told so.
    pub(crate) fn open(client_limits: Limits, server_limits: Limits, clock: bool) -> Self {
        let hello = ClientHello::new([1; 16], [2; 16], &client_limits);
        let mut config = ClientConfig::new(hello, client_limits);
        config.heartbeat = None;
        let mut client = ClientConnection::new(config);
        let mut server = ServerConnection::new(server_limits);
        let hello = client.poll_transmit(MAX_WRITE).unwrap();
        server.handle_input(Time::ZERO, hello.to_vec().into());
        assert!(matches!(server.poll_event(), Some(ServerEvent::Hello(_))));
        let mut hello = ServerHello::new([9; 16], &server_limits);
        if clock {
            hello.features = Features::CLOCK;
        }
        server.accept(&hello);
        let answer = server.poll_transmit(MAX_WRITE).unwrap();
        client.handle_input(Time::ZERO, answer.to_vec().into());
        assert!(matches!(
            client.poll_event(),
            Some(ClientEvent::Connected(_))
        ));
        Self {
            client,
            server,
            watch: Watch::new(&client_limits, &server_limits),
            now: Time::ZERO,
            up: BytesMut::new(),
            down: BytesMut::new(),
        }
    }

    /// A side writes once, into the pipe.
    pub(crate) fn write(&mut self, side: Side, max: usize) -> bool {
        let (transmit, pipe) = match side {
            Side::Client => (self.client.poll_transmit(max), &mut self.up),
            Side::Server => (self.server.poll_transmit(max), &mut self.down),
        };
        let Some(transmit) = transmit else {
            return false;
        };
        assert!(!transmit.is_empty() && transmit.len() <= MAX_WRITE);
        let bytes = transmit.to_vec();
        self.watch.sent(side, &bytes);
        pipe.extend_from_slice(&bytes);
        true
    }

    /// At most so many bytes that a side wrote arrive at the other.
    pub(crate) fn arrive(&mut self, from: Side, max: usize) -> bool {
        let pipe = match from {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        };
        let bytes: Bytes = pipe.split_to(max.min(pipe.len())).freeze();
        if bytes.is_empty() {
            return false;
        }
        self.watch.arrived(from, &bytes);
        match from {
            Side::Client => self.server.handle_input(self.now, bytes),
            Side::Server => self.client.handle_input(self.now, bytes),
        }
        true
    }

    /// Carries everything in both directions until nothing moves any more.
    pub(crate) fn run(&mut self) {
        while [Side::Client, Side::Server]
            .into_iter()
            .fold(false, |moved, side| {
                moved | self.write(side, MAX_WRITE) | self.arrive(side, usize::MAX)
            })
        {}
    }

    pub(crate) fn consume(&mut self, by: Side, id: RequestId, cost: usize) {
        self.watch.consumed(by, id.get(), cost);
        match by {
            Side::Client => self.client.consume(id, cost),
            Side::Server => self.server.consume(id, cost),
        }
    }

    /// The server keeps a message, which holds nothing of the connection's window any more.
    pub(crate) fn release(&mut self, id: RequestId, cost: usize) {
        self.watch.released(id.get(), cost);
        self.server.release(id, cost);
    }

    /// A stream that is open on both sides.
    pub(crate) fn stream(&mut self, kind: StreamKind) -> RequestId {
        let options = RequestOptions::new(kind);
        let id = self.client.request(1, Bytes::new(), options).unwrap();
        self.run();
        let event = std::iter::from_fn(|| self.server.poll_event()).last();
        assert!(matches!(event, Some(ServerEvent::Request { .. })));
        self.server.respond_stream(id, Vec::new(), kind).unwrap();
        self.run();
        let event = std::iter::from_fn(|| self.client.poll_event()).last();
        assert!(matches!(
            event,
            Some(ClientEvent::Response { result: Ok(_), .. })
        ));
        id
    }

    pub(crate) fn assert_open(&self) {
        assert!(!self.client.is_closed() && !self.server.is_closed());
    }
}

/// The bytes of a message: another pattern for each number, so that a swap, a loss or a repetition shows.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (seed.wrapping_mul(0x9e37_79b9).wrapping_add(at * 131) >> 3) as u8)
        .collect()
}

/// Streams of both directions that are kept busy: numbered messages of given sizes, read as they come.
pub(crate) struct Traffic {
    pub(crate) streams: BTreeMap<RequestId, Flow>,
    /// What the server keeps of streams that it does not read, instead of leaving it unread.
    pub(crate) keeps: Option<Vec<(RequestId, usize)>>,
}

/// One of them.
pub(crate) struct Flow {
    pub(crate) kind: StreamKind,
    pub(crate) sizes: Vec<usize>,
    pub(crate) queued: usize,
    pub(crate) got: usize,
    /// Whether its receiver reads.
    pub(crate) is_read: bool,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            streams: BTreeMap::new(),
            keeps: None,
        }
    }

    pub(crate) fn add(
        &mut self,
        world: &mut World,
        kind: StreamKind,
        sizes: Vec<usize>,
        is_read: bool,
    ) -> RequestId {
        let id = world.stream(kind);
        let flow = Flow {
            kind,
            sizes,
            queued: 0,
            got: 0,
            is_read,
        };
        self.streams.insert(id, flow);
        id
    }

    /// Queues as much as the machines take.
    pub(crate) fn queue(&mut self, world: &mut World) -> bool {
        let mut moved = false;
        for (id, flow) in &mut self.streams {
            while let Some(size) = flow.sizes.get(flow.queued) {
                let seq = flow.queued as u64;
                let message = pattern(id.get() * 1_000 + seq, *size);
                let sent = match flow.kind {
                    StreamKind::ToServer => world.client.send(*id, seq, message),
                    _ => world.server.send(*id, seq, message),
                };
                if sent.is_err() {
                    break;
                }
                moved = true;
                flow.queued += 1;
            }
        }
        moved
    }

    /// Takes a message that came: the next one of its stream, whole.
    pub(crate) fn take(
        &mut self,
        world: &mut World,
        id: RequestId,
        seq: u64,
        payload: &[u8],
        cost: usize,
    ) {
        let flow = self.streams.get_mut(&id).expect("a stream of ours");
        assert_eq!(seq, flow.got as u64, "{id}: the next one");
        assert!(flow.got < flow.queued, "{id}: nobody sent it");
        let expected = pattern(id.get() * 1_000 + seq, flow.sizes[flow.got]);
        assert!(payload == expected, "{id}: other bytes");
        flow.got += 1;
        if flow.is_read {
            let by = match flow.kind {
                StreamKind::ToServer => Side::Server,
                _ => Side::Client,
            };
            world.consume(by, id, cost);
        } else if let (StreamKind::ToServer, Some(kept)) = (flow.kind, &mut self.keeps) {
            world.release(id, cost);
            kept.push((id, cost));
        }
    }

    /// Whether all came of the streams that are read.
    pub(crate) fn is_complete(&self) -> bool {
        self.streams
            .values()
            .all(|flow| !flow.is_read || flow.got == flow.sizes.len())
    }
}
