//! A client, and a server that sends anything.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Source,
    source::{small, tiny},
    watch::{Watch, any_frame, filler},
};
use crate::{
    CloseReason, ErrorCode, Limits, RemoteError, RequestId, Time, Weight,
    client::{
        ClientConfig, ClientConnection, ClientEvent, RequestError, RequestOptions, StreamKind,
    },
    envelope::{ENVELOPE_HEADER, Envelope, ServerEnvelope},
    frame::{FRAME_OVERHEAD, Frame, FrameReader},
    hello::{ClientHello, ServerHello},
    limits::{MAX_FRAME, MAX_WRITE, MESSAGE_OVERHEAD},
};

/// The most steps of one run.
const MAX_STEPS: usize = 400;

/// What is known of a request.
#[derive(Debug)]
struct Sent {
    kind: StreamKind,
    opened: bool,
    over: bool,
    /// It was given up: nothing more may be heard of it.
    abandoned: bool,
    /// What its unread messages cost.
    unread: Vec<usize>,
}

/// The server's bytes as the client reads them, so that the watch hears what the client hears.
#[derive(Debug)]
struct Heard {
    opening: Option<Vec<u8>>,
    reader: FrameReader,
    /// Frames that were fed.
    frames: usize,
    broken: bool,
}

struct Run {
    client: ClientConnection,
    limits: Limits,
    watch: Watch,
    heard: Heard,
    sent: BTreeMap<u64, Sent>,
    now: Time,
    connected: bool,
    closed: bool,
    draining: bool,
    says_goodbye: bool,
    seq: u64,
}

/// A client's input: a connection with requests and streams, then a server that sends anything, in bytes or in frames,
/// while the application goes on. Whatever comes, events go on as documented, what is held is within the limits, and the
/// output is what a server takes.
pub fn client_input(data: &[u8]) {
    let mut source = Source::new(data);
    let mut run = Run::new(&mut source);
    if source.below(8) < 7 {
        run.begin(&mut source);
    }
    for _ in 0..MAX_STEPS {
        if source.is_empty() {
            break;
        }
        run.step(&mut source);
        run.drain();
    }
    run.end();
}

impl Run {
    fn new(source: &mut Source<'_>) -> Self {
        let limits = match source.below(3) {
            0 => Limits::default(),
            1 => small(),
            _ => {
                let mut limits = tiny();
                limits.control_queue = 20_000;
                limits
            }
        };
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut config = ClientConfig::new(hello, limits);
        config.max_requests = 1 + usize::from(source.below(12));
        if source.flag() {
            config.heartbeat = None;
        }
        Self {
            client: ClientConnection::new(config),
            limits,
            watch: Watch::of_client(),
            heard: Heard {
                opening: Some(Vec::new()),
                reader: FrameReader::new(),
                frames: 0,
                broken: false,
            },
            sent: BTreeMap::new(),
            now: Time::ZERO,
            connected: false,
            closed: false,
            draining: false,
            says_goodbye: false,
            seq: 0,
        }
    }

    /// A good server's beginning: it accepts, and answers some of the requests that are made at once.
    fn begin(&mut self, source: &mut Source<'_>) {
        let _ = self.transmit(usize::MAX);
        let theirs = match source.below(3) {
            0 => Limits::default(),
            1 => Limits::with(|limits| {
                limits.connection_window = 9_000;
                limits.stream_window = 3_000;
                limits.reassembly = 40_000;
                limits.max_message = 30_000;
                limits.max_request = 30_000;
                limits.max_requests = 8;
            }),
            _ => Limits::with(|limits| {
                limits.connection_window = 33;
                limits.stream_window = 34;
                limits.reassembly = 5;
                limits.max_request = 100;
                limits.max_requests = 2;
            }),
        };
        let hello = ServerHello::new([9; 16], &theirs).encode().into();
        let accepted = ServerEnvelope::Accepted { version: 1, hello };
        self.input(&accepted.encode());
        self.drain();
        for _ in 0..source.below(6) {
            self.request(source);
        }
        let answers = source.byte();
        for id in (1..=self.sent.len() as u64).filter(|id| answers >> (id % 8) & 1 == 1) {
            let _ = self.transmit(usize::MAX);
            let chunk = filler(2);
            self.frame(&Frame::Response {
                id,
                code: 0,
                total: 2,
                chunk,
            });
        }
        self.drain();
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.below(20) {
            0..=7 => {
                let frame = any_frame(source, self.sent.len() as u64);
                let bytes = frame.to_bytes();
                match source.below(8) {
                    0 => {
                        let at = source.len(bytes.len());
                        self.input(&bytes[..at]);
                        self.input(&bytes[at..]);
                    }
                    1 => self.input(&[&bytes[..], &bytes[..]].concat()),
                    _ => self.input(&bytes),
                }
            }
            8 => {
                let len = source.len(64);
                let bytes = source.bytes(len).to_vec();
                self.input(&bytes);
            }
            9 | 10 => self.request(source),
            11 => {
                if let Some((id, sent)) = any_of(&mut self.sent, source) {
                    if source.flag() {
                        sent.abandoned = true;
                        sent.unread.clear();
                        self.client.abandon(id);
                    } else {
                        if sent.opened {
                            sent.unread.clear();
                        }
                        self.client.cancel(id);
                    }
                }
            }
            12 => self.consume(source),
            13 | 14 => {
                self.seq += 1;
                let seq = self.seq;
                let len = source.len(50_000);
                if let Some((id, sent)) = any_of(&mut self.sent, source) {
                    let open = sent.opened && !sent.over && !sent.abandoned;
                    let open = open && sent.kind == StreamKind::ToServer && !self.closed;
                    let result = self.client.send(id, seq, filler(len));
                    assert!(open || result.is_err(), "sent on a stream that is not open");
                    if len == 0 {
                        assert!(result.is_err(), "an empty message");
                    }
                }
            }
            15 => {
                let what = source.below(4);
                let weight = Weight::new(source.byte());
                if let Some((id, sent)) = any_of(&mut self.sent, source) {
                    match (what, weight) {
                        (0, _) => {
                            if sent.opened {
                                sent.unread.clear();
                            }
                            let error = RemoteError::new(ErrorCode::Internal, "no");
                            self.client.reset(id, error);
                        }
                        (1, Some(weight)) => self.client.set_weight(id, weight),
                        _ => self.client.finish(id),
                    }
                }
            }
            16 => self.client.ping(self.now),
            17 => {
                let by = Duration::from_millis(source.number().min(100_000));
                self.now = self.now.saturating_add(by);
                self.client.handle_timeout(self.now);
                let due = self.client.poll_timeout();
                assert!(due.is_none_or(|due| due > self.now), "due before now");
            }
            18 => {
                let max = source.len(MAX_WRITE);
                let _ = self.transmit(max);
            }
            _ => match source.below(16) {
                0 => self.client.close(),
                1 => self.client.handle_eof(self.now),
                2 => {
                    self.draining |= self.connected;
                    self.client.drain();
                }
                _ => {
                    let _ = self.transmit(usize::MAX);
                }
            },
        }
    }

    fn frame(&mut self, frame: &Frame) {
        self.input(&frame.to_bytes());
    }

    fn input(&mut self, bytes: &[u8]) {
        self.hear(bytes);
        self.client
            .handle_input(self.now, Bytes::copy_from_slice(bytes));
    }

    /// Reads the bytes as the client is about to.
    fn hear(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let heard = &mut self.heard;
        let mut bytes = Bytes::copy_from_slice(bytes);
        if let Some(seen) = &mut heard.opening {
            seen.extend_from_slice(&bytes);
            let Envelope::Complete(ServerEnvelope::Accepted { hello, .. }, end) =
                ServerEnvelope::decode(seen)
            else {
                return;
            };
            let Ok(hello) = ServerHello::decode(&hello) else {
                return;
            };
            self.watch.heard_hello(hello.limits);
            bytes = Bytes::copy_from_slice(&seen[end..]);
            assert!(end >= ENVELOPE_HEADER);
            heard.opening = None;
        }
        heard.reader.push(bytes);
        while !heard.broken {
            match heard.reader.next() {
                Ok(Some(frame)) => {
                    heard.frames += 1;
                    self.watch.heard(&frame);
                }
                Ok(None) => return,
                Err(_) => heard.broken = true,
            }
        }
    }

    fn request(&mut self, source: &mut Source<'_>) {
        let kind = match source.below(4) {
            0 | 1 => StreamKind::None,
            2 => StreamKind::ToClient,
            _ => StreamKind::ToServer,
        };
        let len = source.len(50_000);
        let deadline = source.flag().then(|| {
            self.now
                .saturating_add(Duration::from_millis(source.number()))
        });
        let options = RequestOptions::new(kind).deadline(deadline);
        let closed = self.closed;
        match self.client.request(source.number(), filler(len), options) {
            Ok(id) => {
                assert!(!closed && self.connected, "a request of no connection");
                assert!(!self.draining, "a request of a connection that drains");
                let sent = Sent {
                    kind,
                    opened: false,
                    over: false,
                    abandoned: false,
                    unread: Vec::new(),
                };
                assert_eq!(id.get(), self.sent.len() as u64 + 1, "ids count up");
                self.sent.insert(id.get(), sent);
            }
            Err(RequestError::NotOpen) => assert!(closed || !self.connected),
            Err(_) => assert!(!closed && self.connected),
        }
    }

    /// Reads the oldest message of a stream.
    fn consume(&mut self, source: &mut Source<'_>) {
        let all = source.flag();
        if let Some((id, sent)) = any_of(&mut self.sent, source) {
            let read = if all { sent.unread.len() } else { 1 };
            for cost in sent.unread.drain(..read.min(sent.unread.len())) {
                self.client.consume(id, cost);
            }
        }
    }

    fn transmit(&mut self, max: usize) -> bool {
        let Some(write) = self.client.poll_transmit(max) else {
            return false;
        };
        let limit = max.clamp(MAX_FRAME + FRAME_OVERHEAD, MAX_WRITE);
        assert!(write.len() <= limit, "a write of {} bytes", write.len());
        self.watch.sent(write.to_vec().into());
        true
    }

    /// Reads all events, and holds them against what they are said to be.
    fn drain(&mut self) {
        let most = 2 * self.heard.frames + 2 * self.sent.len() + 4;
        self.heard.frames = 0;
        let mut count = 0;
        while let Some(event) = self.client.poll_event() {
            count += 1;
            assert!(count <= most, "{count} events of {most}");
            assert!(!self.closed, "{event:?} behind the last event");
            self.event(event);
        }
        assert_eq!(self.client.is_closed(), self.closed);
        if self.closed {
            assert_eq!(self.client.poll_timeout(), None);
        }
        let open = self.sent.values().filter(|sent| !sent.over);
        let unread: usize = open.flat_map(|sent| &sent.unread).sum();
        let streams = self.sent.len();
        // Messages in reassembly count as read until they are complete.
        let most = self
            .limits
            .connection_window
            .max(self.limits.max_connection_window)
            + self.limits.reassembly
            + streams * MESSAGE_OVERHEAD;
        assert!(unread <= most, "{unread} bytes are unread, of {most}");
    }

    fn event(&mut self, event: ClientEvent) {
        if !matches!(event, ClientEvent::Connected(_) | ClientEvent::Closed(_)) {
            assert!(self.connected, "{event:?} before the hello");
        }
        match event {
            ClientEvent::Connected(_) => {
                assert!(!core::mem::replace(&mut self.connected, true));
            }
            ClientEvent::Response { id, result } => {
                let sent = self.of(id);
                assert!(!sent.opened && !sent.over, "request {id} ended twice");
                if result.is_ok() && sent.kind != StreamKind::None {
                    sent.opened = true;
                } else {
                    sent.over = true;
                }
            }
            ClientEvent::Expired { id } => {
                let sent = self
                    .sent
                    .get_mut(&id.get())
                    .expect("a request that was made");
                assert!(!sent.opened && !sent.over, "request {id} ended twice");
                assert!(!sent.abandoned, "{id} was given up");
                sent.over = true;
                sent.abandoned = true;
            }
            ClientEvent::Message {
                id, payload, cost, ..
            } => {
                assert_eq!(cost, payload.len() + MESSAGE_OVERHEAD);
                assert!(!payload.is_empty());
                self.streaming(id, StreamKind::ToClient).unread.push(cost);
            }
            ClientEvent::Gap { id, cost, .. } => {
                assert_eq!(cost, MESSAGE_OVERHEAD);
                self.streaming(id, StreamKind::ToClient).unread.push(cost);
            }
            ClientEvent::Acknowledged { id, .. } => drop(self.streaming(id, StreamKind::ToServer)),
            ClientEvent::Ended { id, .. } => {
                let sent = self.of(id);
                assert!(sent.opened && !sent.over, "stream {id} ended twice");
                sent.over = true;
            }
            ClientEvent::Room { id } => assert!(self.of(id).kind == StreamKind::ToServer),
            ClientEvent::Pong { .. } => {}
            ClientEvent::Draining => self.draining = true,
            ClientEvent::Closed(reason) => {
                self.closed = true;
                // Whoever ends an open connection says why.
                self.says_goodbye = self.connected
                    && matches!(
                        reason,
                        CloseReason::Local(_) | CloseReason::Protocol(_) | CloseReason::Silent
                    );
            }
        }
    }

    fn of(&mut self, id: RequestId) -> &mut Sent {
        let sent = self.sent.get_mut(&id.get());
        let sent = sent.expect("a request that was made");
        assert!(!sent.abandoned, "{id} was given up");
        sent
    }

    fn streaming(&mut self, id: RequestId, kind: StreamKind) -> &mut Sent {
        let sent = self.of(id);
        assert!(sent.opened && !sent.over, "stream {id} is not open");
        assert_eq!(sent.kind, kind);
        sent
    }

    /// The transport ends; then nothing moves any more.
    fn end(&mut self) {
        self.drain();
        let mut writes = 0;
        while self.transmit(usize::MAX) {
            writes += 1;
            assert!(writes < 10_000, "endless output");
        }
        assert_eq!(self.watch.is_silent(), self.says_goodbye, "goodbye");
        self.client.handle_eof(self.now);
        self.drain();
        assert!(self.closed);
        self.input(&Frame::Drain.to_bytes());
        self.client.handle_timeout(Time::from_millis(u64::MAX));
        self.client.ping(self.now);
        for id in self.sent.keys() {
            self.client.consume(RequestId(*id), 1);
            self.client.abandon(RequestId(*id));
            self.client.cancel(RequestId(*id));
        }
        self.drain();
        assert_eq!(self.client.poll_transmit(usize::MAX), None);
    }
}

/// One of the requests, near the end first.
fn any_of<'a>(
    sent: &'a mut BTreeMap<u64, Sent>,
    source: &mut Source<'_>,
) -> Option<(RequestId, &'a mut Sent)> {
    let nth = usize::from(source.below(8));
    sent.iter_mut()
        .rev()
        .nth(nth)
        .map(|(id, sent)| (RequestId(*id), sent))
}
