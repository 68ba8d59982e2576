//! Both machines against each other: hello, requests, a stream with credit and messages of several frames, the end.
//!
//! Built for wasm32-unknown-unknown the module imports nothing, neither clock nor randomness nor anything else:
//! `cargo xtask test` builds it and looks. `cargo run -p selium-remote-client-protocol --example imports_nothing` runs it
//! natively.

use std::hint::black_box;
use std::process::ExitCode;

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError, RequestId, SendError, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

/// Messages of the stream, and the bytes of each: more than credit allows at once, and several frames long.
const MESSAGES: u64 = 20;
const LEN: usize = 50_000;

struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    now: Time,
    stream: Option<RequestId>,
    queued: u64,
    /// Whole messages that the client has read.
    read: u64,
    ended: bool,
}

impl Pair {
    fn new() -> Self {
        let limits = Limits::default();
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        Self {
            client: ClientConnection::new(ClientConfig::new(hello, limits)),
            server: ServerConnection::new(limits),
            now: Time::ZERO,
            stream: None,
            queued: 0,
            read: 0,
            ended: false,
        }
    }

    /// Carries everything until nothing moves any more.
    fn run(&mut self) {
        loop {
            let up = self.client.poll_transmit(MAX_WRITE);
            for part in up.iter().flat_map(|transmit| &transmit.parts) {
                self.server.handle_input(self.now, part.clone());
            }
            while let Some(event) = self.server.poll_event() {
                self.server_event(event);
            }
            self.fill();
            let down = self.server.poll_transmit(MAX_WRITE);
            for part in down.iter().flat_map(|transmit| &transmit.parts) {
                self.client.handle_input(self.now, part.clone());
            }
            while let Some(event) = self.client.poll_event() {
                self.client_event(event);
            }
            self.client.handle_timeout(self.now);
            if up.is_none() && down.is_none() {
                return;
            }
        }
    }

    fn server_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello(_) => {
                let hello = ServerHello::new([9; 16], &Limits::default());
                self.server.accept(&hello);
            }
            ServerEvent::Request { id, op: 1, .. } => {
                let opened = self
                    .server
                    .respond_stream(id, Vec::new(), StreamKind::ToClient);
                self.stream = opened.is_ok().then_some(id);
            }
            ServerEvent::Request { id, .. } => {
                let error = RemoteError::new(ErrorCode::Unsupported, "no such operation");
                self.server.respond(id, Err(error));
            }
            other => drop(black_box(other)),
        }
    }

    /// Sends what is left to send, and the end behind it.
    fn fill(&mut self) {
        let Some(id) = self.stream else {
            return;
        };
        while self.queued < MESSAGES {
            let message = Bytes::from(vec![7u8; LEN]);
            match self.server.send(id, self.queued, message) {
                Ok(()) => self.queued += 1,
                Err(SendError::Full) => return,
                Err(_) => break,
            }
        }
        self.server.end(id, None);
        self.stream = None;
    }

    fn client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Message {
                id, payload, cost, ..
            } => {
                self.read += u64::from(black_box(payload).len() == LEN);
                self.client.consume(id, cost);
            }
            ClientEvent::Ended { error: None, .. } => self.ended = true,
            other => drop(black_box(other)),
        }
    }
}

fn main() -> ExitCode {
    let mut pair = Pair::new();
    pair.run();
    let follow = RequestOptions::new(StreamKind::ToClient);
    let asked = pair.client.request(1, Bytes::new(), follow).is_ok()
        && pair
            .client
            .request(2, Bytes::from_static(b"?"), RequestOptions::default())
            .is_ok();
    pair.client.ping(pair.now);
    pair.run();
    pair.client.close();
    pair.run();
    if asked && pair.ended && pair.read == MESSAGES && pair.server.is_closed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
