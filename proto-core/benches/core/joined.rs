//! Two machines, joined by nothing but a move.

use bytes::Bytes;
use selium_remote_client_protocol::{
    Limits, RequestId, SendError, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

pub(crate) struct Joined {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    /// What the server answers every request with.
    pub(crate) answer: Vec<u8>,
    /// Responses and pongs that came.
    pub(crate) answers: usize,
    /// Stream messages that came, and their bytes.
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Writes, in both directions.
    pub(crate) writes: usize,
    streams_wanted: bool,
    /// The sequence number of the next stream message.
    seq: u64,
}

impl Joined {
    pub(crate) fn new() -> Self {
        let limits = Limits::default();
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut joined = Self {
            client: ClientConnection::new(ClientConfig::new(hello, limits)),
            server: ServerConnection::new(limits),
            answer: Vec::new(),
            answers: 0,
            messages: 0,
            bytes: 0,
            writes: 0,
            streams_wanted: false,
            seq: 0,
        };
        while joined.step() {}
        let hello = ServerHello::new([9; 16], &limits);
        joined.server.accept(&hello);
        while joined.step() {}
        joined
    }

    /// Opens a stream from the server to the client.
    pub(crate) fn stream(&mut self) -> RequestId {
        self.streams_wanted = true;
        let options = RequestOptions::new(StreamKind::ToClient);
        let id = self.client.request(1, Bytes::new(), options).unwrap();
        while self.step() {}
        self.streams_wanted = false;
        id
    }

    /// One write in each direction, and all that comes of it; `false` when nothing moved.
    pub(crate) fn step(&mut self) -> bool {
        self.up() | self.down()
    }

    fn up(&mut self) -> bool {
        let Some(transmit) = self.client.poll_transmit(MAX_WRITE) else {
            return false;
        };
        self.writes += 1;
        for part in transmit.parts {
            self.server.handle_input(Time::ZERO, part);
        }
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Request { id, .. } if self.streams_wanted => self
                    .server
                    .respond_stream(id, Vec::new(), StreamKind::ToClient)
                    .unwrap(),
                ServerEvent::Request { id, .. } => self.server.respond(id, Ok(self.answer.clone())),
                ServerEvent::Closed(reason) => panic!("{reason}"),
                _ => {}
            }
        }
        true
    }

    fn down(&mut self) -> bool {
        let Some(transmit) = self.server.poll_transmit(MAX_WRITE) else {
            return false;
        };
        self.writes += 1;
        for part in transmit.parts {
            self.client.handle_input(Time::ZERO, part);
            while let Some(event) = self.client.poll_event() {
                match event {
                    ClientEvent::Message {
                        id, payload, cost, ..
                    } => {
                        self.messages += 1;
                        self.bytes += payload.len();
                        self.client.consume(id, cost);
                    }
                    ClientEvent::Response { .. } | ClientEvent::Pong { .. } => self.answers += 1,
                    ClientEvent::Closed(reason) => panic!("{reason}"),
                    _ => {}
                }
            }
        }
        true
    }

    /// Sends `count` messages over the streams in turn, as fast as queues and credit allow, until all were read.
    pub(crate) fn carry(&mut self, streams: &[RequestId], payload: &Bytes, count: usize) {
        let before = self.messages;
        let mut queued = 0;
        while self.messages - before < count {
            while queued < count {
                let id = streams[queued % streams.len()];
                match self.server.send(id, self.seq, payload.clone()) {
                    Ok(()) => {
                        queued += 1;
                        self.seq += 1;
                    }
                    Err(SendError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(self.step(), "nothing moves");
            while self.server.poll_event().is_some() {} // There is room again.
        }
    }

    /// Makes `count` requests at once and reads their answers.
    pub(crate) fn ask(&mut self, body: &Bytes, count: usize) {
        let before = self.answers;
        for _ in 0..count {
            self.client
                .request(1, body.clone(), RequestOptions::default())
                .unwrap();
        }
        while self.answers - before < count {
            assert!(self.step(), "nothing moves");
        }
    }

    /// One ping and its answer.
    pub(crate) fn ping(&mut self) {
        let before = self.answers;
        self.client.ping(Time::ZERO);
        while self.answers == before {
            assert!(self.step(), "nothing moves");
        }
    }
}
