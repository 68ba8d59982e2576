//! A server, and a client that sends anything.

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
    client::StreamKind,
    envelope::{ClientEnvelope, Envelope},
    frame::{FRAME_OVERHEAD, Frame, FrameReader},
    hello::{ClientHello, Features, ServerHello},
    limits::{MAX_CHUNK, MAX_FRAME, MAX_WRITE, MESSAGE_OVERHEAD, MIN_STREAM_QUEUE},
    server::{ServerConnection, ServerEvent},
};

/// The most steps of one run.
const MAX_STEPS: usize = 400;

/// The longest message of use on streams that have one, in bytes.
const LONGEST: usize = 1_000;

/// What the application knows of a request.
#[derive(Debug, Default)]
struct Asked {
    /// It was answered, or its connection is over.
    answered: bool,
    stream: Option<StreamKind>,
    cancelled: bool,
    /// The stream is over for this side.
    over: bool,
    /// The client has ended its half.
    ended: bool,
    /// What its unread messages cost.
    unread: Vec<usize>,
}

struct Run {
    server: ServerConnection,
    limits: Limits,
    watch: Watch,
    /// The client's bytes as the server reads them.
    opening: Option<Vec<u8>>,
    reader: FrameReader,
    broken: bool,
    frames: usize,
    asked: BTreeMap<u64, Asked>,
    /// The largest message that the client takes.
    longest: usize,
    greeted: bool,
    accepted: bool,
    closed: bool,
    says_goodbye: bool,
    last: u64,
    seq: u64,
    has_clock: bool,
    now: Time,
}

/// A server's input: a client that begins well, or not, and then sends anything, in bytes or in frames, while the
/// application answers as the bytes decide. Whatever comes, events go on as documented, what is held is within the
/// limits, and the output is what a client takes.
pub fn server_input(data: &[u8]) {
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
        run.drain(&mut source);
        run.check();
    }
    run.end(&mut source);
}

fn error() -> RemoteError {
    RemoteError::new(ErrorCode::Internal, "no")
}

impl Run {
    fn new(source: &mut Source<'_>) -> Self {
        let limits = match source.below(3) {
            0 => Limits::default(),
            1 => small(),
            _ => {
                let mut limits = tiny();
                limits.control_queue = 2_000;
                limits
            }
        };
        Self {
            server: ServerConnection::new(limits),
            limits,
            watch: Watch::of_server(),
            opening: Some(Vec::new()),
            reader: FrameReader::new(),
            broken: false,
            frames: 0,
            asked: BTreeMap::new(),
            longest: 0,
            greeted: false,
            accepted: false,
            closed: false,
            says_goodbye: false,
            last: 0,
            seq: 0,
            has_clock: source.flag(),
            now: Time::ZERO,
        }
    }

    /// A good client's beginning: its hello, and some requests.
    fn begin(&mut self, source: &mut Source<'_>) {
        let theirs = match source.below(3) {
            0 => Limits::default(),
            1 => Limits::with(|limits| {
                limits.connection_window = 9_000;
                limits.stream_window = 3_000;
                limits.reassembly = 40_000;
                limits.max_message = 30_000;
            }),
            _ => Limits::with(|limits| {
                limits.connection_window = 33;
                limits.stream_window = 34;
                limits.reassembly = 5;
                limits.max_message = 50;
            }),
        };
        let hello = ClientHello::new([1; 16], [2; 16], &theirs).encode().into();
        let versions = (1, u16::from(source.byte()) + 1);
        self.input(&ClientEnvelope { versions, hello }.encode());
        self.drain(source);
        for _ in 0..source.below(6) {
            let id = self.last + 1;
            let len = source.len(200);
            self.input(
                &Frame::Request {
                    id,
                    op: 1,
                    total: len as u64,
                    chunk: filler(len),
                }
                .to_bytes(),
            );
        }
        self.drain(source);
    }

    fn step(&mut self, source: &mut Source<'_>) {
        self.seq += 1;
        let seq = self.seq;
        match source.below(24) {
            0..=7 => {
                let frame = any_frame(source, self.last);
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
            9 | 10 => {
                let len = source.len(60_000);
                let fails = source.below(4) == 3;
                if let Some((id, asked)) = any_of(&mut self.asked, source) {
                    let result = if fails {
                        Err(error())
                    } else {
                        Ok(vec![0; len])
                    };
                    self.server.respond(id, result);
                    asked.answered = true;
                }
            }
            11 | 12 => self.respond_stream(source),
            13..=15 => {
                let len = source.len(60_000);
                if let Some((id, asked)) = any_of(&mut self.asked, source) {
                    let open = asked.stream == Some(StreamKind::ToClient) && !asked.over;
                    let open = open && !self.closed;
                    let result = self.server.send(id, seq, filler(len));
                    assert!(open || result.is_err(), "sent on a stream that is not open");
                    assert!(len > 0 || result.is_err(), "an empty message");
                    assert!(
                        len <= self.longest || result.is_err(),
                        "a message that the client does not take"
                    );
                }
            }
            16 => {
                let count = source.flag().then(|| source.number());
                if let Some((id, asked)) = any_of(&mut self.asked, source) {
                    let open = asked.stream == Some(StreamKind::ToClient) && !asked.over;
                    let open = open && !self.closed;
                    let result = self.server.gap(id, seq, count);
                    assert_eq!(result.is_ok(), open, "a gap");
                }
            }
            17 => {
                let reason = source.flag().then(error);
                let reset = source.flag();
                if let Some((id, asked)) = any_of(&mut self.asked, source)
                    && asked.stream.is_some()
                {
                    if reset {
                        self.server.reset(id, error());
                    } else {
                        self.server.end(id, reason);
                    }
                    asked.over = true;
                    asked.unread.clear();
                }
            }
            18 => {
                let all = source.flag();
                if let Some((id, asked)) = any_of(&mut self.asked, source) {
                    let read = if all { asked.unread.len() } else { 1 };
                    for cost in asked.unread.drain(..read.min(asked.unread.len())) {
                        self.server.consume(id, cost);
                    }
                }
            }
            19 => {
                let dropped = source.flag();
                // The application acknowledges what it has got.
                if let Some((id, asked)) = any_of(&mut self.asked, source)
                    && !asked.unread.is_empty()
                {
                    self.server.acknowledge(id, seq, dropped);
                }
            }
            20 | 21 => {
                let max = source.len(MAX_WRITE);
                let _ = self.transmit(max);
            }
            22 => {
                let _ = self.transmit(usize::MAX);
            }
            _ => match source.below(16) {
                0 => self.server.close(error()),
                1 => self.server.handle_eof(self.now),
                2 => self.server.refuse(error()),
                3 => self.server.drain(),
                4..=7 => {
                    let by = Duration::from_millis(u64::from(source.word()));
                    self.now = self.now.saturating_add(by);
                }
                8 | 9 => {
                    let weight = Weight::new(source.byte());
                    if let (Some((id, _)), Some(weight)) = (any_of(&mut self.asked, source), weight)
                    {
                        self.server.set_weight(id, weight);
                    }
                }
                _ => self.server.set_queue_share(usize::from(source.word())),
            },
        }
    }

    fn respond_stream(&mut self, source: &mut Source<'_>) {
        let len = source.len(60_000);
        let kind = if source.flag() {
            StreamKind::ToClient
        } else {
            StreamKind::ToServer
        };
        if let Some((id, asked)) = any_of(&mut self.asked, source) {
            let result = self.server.respond_stream(id, vec![0; len], kind);
            if result.is_ok() {
                assert!(!asked.answered && !asked.cancelled && !self.closed);
                asked.stream = Some(kind);
                if has_longest(id) {
                    self.server.set_longest(id, LONGEST);
                }
            }
            asked.answered = true;
        }
    }

    fn input(&mut self, bytes: &[u8]) {
        self.hear(bytes);
        self.server
            .handle_input(self.now, Bytes::copy_from_slice(bytes));
    }

    /// Reads the bytes as the server is about to.
    fn hear(&mut self, bytes: &[u8]) {
        if let Some(seen) = &mut self.opening {
            seen.extend_from_slice(bytes);
            if let Envelope::Complete(envelope, end) = ClientEnvelope::decode(seen)
                && seen.len() == end
                && let Ok(hello) = ClientHello::decode(&envelope.hello)
            {
                self.watch.heard_hello(hello.limits);
                self.longest = hello.limits.max_message;
                self.opening = None;
            }
            return;
        }
        self.reader.push(Bytes::copy_from_slice(bytes));
        while !self.broken {
            match self.reader.next() {
                Ok(Some(frame)) => {
                    self.frames += 1;
                    self.watch.heard(&frame);
                }
                Ok(None) => return,
                Err(_) => self.broken = true,
            }
        }
    }

    fn transmit(&mut self, max: usize) -> bool {
        let Some(write) = self.server.poll_transmit(max) else {
            return false;
        };
        let limit = max.clamp(MAX_FRAME + FRAME_OVERHEAD, MAX_WRITE);
        assert!(write.len() <= limit, "a write of {} bytes", write.len());
        self.watch.sent(write.to_vec().into());
        true
    }

    /// Reads all events, and holds them against what they are said to be.
    fn drain(&mut self, source: &mut Source<'_>) {
        let most = 2 * self.frames + self.asked.len() + 4;
        self.frames = 0;
        let mut count = 0;
        while let Some(event) = self.server.poll_event() {
            count += 1;
            assert!(count <= most, "{count} events of {most}");
            assert!(!self.closed, "{event:?} behind the last event");
            self.event(event, source);
        }
        assert_eq!(self.server.is_closed(), self.closed);
    }

    fn event(&mut self, event: ServerEvent, source: &mut Source<'_>) {
        match event {
            ServerEvent::Hello(_) => {
                assert!(!core::mem::replace(&mut self.greeted, true), "hello twice");
                if source.below(16) == 15 {
                    self.server.refuse(error());
                } else {
                    self.accepted = true;
                    let mut hello = ServerHello::new([9; 16], &self.limits);
                    if self.has_clock {
                        hello.features = Features::CLOCK;
                    }
                    self.server.accept(&hello);
                }
            }
            ServerEvent::Request { id, body, .. } => {
                assert!(self.accepted);
                assert!(id.get() > self.last, "request {id} after {}", self.last);
                assert!(body.len() <= self.limits.max_request);
                self.last = id.get();
                self.asked.insert(id.get(), Asked::default());
            }
            ServerEvent::Refused { id, .. } => {
                assert!(self.accepted);
                assert!(id.get() > self.last, "request {id} after {}", self.last);
                self.last = id.get();
            }
            ServerEvent::Reset { id, .. } => {
                let asked = self.of(id);
                assert!(asked.stream.is_some() && !asked.over);
                asked.over = true;
                asked.unread.clear();
            }
            ServerEvent::Cancelled { id, stream } => {
                let asked = self.of(id);
                if stream {
                    assert!(asked.stream.is_some() && !asked.over);
                    asked.over = true;
                    asked.unread.clear();
                } else {
                    assert!(!asked.answered && !asked.cancelled, "cancelled twice");
                    asked.cancelled = true;
                }
            }
            ServerEvent::Message {
                id, payload, cost, ..
            } => {
                assert_eq!(cost, payload.len() + MESSAGE_OVERHEAD);
                assert!(!payload.is_empty());
                assert!(payload.len() <= self.limits.max_message);
                let asked = self.of(id);
                assert_eq!(asked.stream, Some(StreamKind::ToServer));
                assert!(!asked.over && !asked.ended);
                asked.unread.push(cost);
                if is_released(id) {
                    self.server.release(id, cost);
                }
            }
            ServerEvent::TooLong { id, len, .. } => {
                assert!(len > LONGEST as u64 && has_longest(id));
                let asked = self.of(id);
                assert_eq!(asked.stream, Some(StreamKind::ToServer));
                assert!(!asked.over && !asked.ended);
            }
            ServerEvent::Ended { id } => {
                let asked = self.of(id);
                assert_eq!(asked.stream, Some(StreamKind::ToServer));
                assert!(!asked.over && !asked.ended, "ended twice");
                asked.ended = true;
            }
            ServerEvent::Room { id } => {
                assert_eq!(self.of(id).stream, Some(StreamKind::ToClient));
            }
            ServerEvent::Closed(reason) => {
                self.closed = true;
                // Whoever ends a connection says why; so does who refuses one, or answers version 0.3.3.
                let says = matches!(
                    reason,
                    CloseReason::Local(_) | CloseReason::Protocol(_) | CloseReason::Foreign
                );
                self.says_goodbye = says || reason == CloseReason::Legacy;
            }
        }
    }

    fn of(&mut self, id: RequestId) -> &mut Asked {
        self.asked
            .get_mut(&id.get())
            .expect("a request that was made")
    }

    /// What is held, is within the limits.
    fn check(&mut self) {
        let limits = &self.limits;
        let (requests, streams) = (self.server.requests(), self.server.streams());
        assert!(streams <= limits.max_streams && streams <= requests);
        assert!(
            requests - streams <= limits.max_requests,
            "{requests} requests"
        );
        assert!(self.server.reassembling() <= limits.reassembly + MAX_CHUNK);

        // Each stream may pass its queue by one message; a stream that was ended counts until its end was sent.
        let queue = limits.stream_queue.max(MIN_STREAM_QUEUE);
        let lane = queue + self.longest.min(60_000) + MESSAGE_OVERHEAD;
        let control = limits.control_queue + MAX_FRAME + FRAME_OVERHEAD;
        let partial = MAX_FRAME + FRAME_OVERHEAD;
        let most = control + limits.max_streams * lane + limits.reassembly + MAX_CHUNK + partial;
        let held = self.server.held();
        assert!(held <= most, "{held} bytes are held, of {most}");

        let holds = |(id, _): &(&u64, &Asked)| !is_released(RequestId(**id));
        let holding = self.asked.iter().filter(holds);
        let unread: usize = holding.flat_map(|(_, asked)| &asked.unread).sum();
        let most = limits.connection_window.max(limits.max_connection_window)
            + limits.reassembly
            + self.asked.len() * MESSAGE_OVERHEAD;
        assert!(unread <= most, "{unread} bytes are unread, of {most}");
        if self.closed {
            assert_eq!((requests, streams), (0, 0));
        }
    }

    /// The application answers all that is left; the transport ends; then nothing moves any more.
    fn end(&mut self, source: &mut Source<'_>) {
        for (id, asked) in &mut self.asked {
            let id = RequestId(*id);
            self.server.respond(id, Err(error()));
            self.server.end(id, None);
            asked.over |= asked.stream.is_some();
            asked.answered = true;
        }
        self.drain(source);
        if !self.closed {
            assert_eq!(self.server.streams(), 0);
            // What is left was not read completely.
            assert!(self.server.requests() <= self.limits.max_requests);
        }
        let mut writes = 0;
        while self.transmit(usize::MAX) {
            writes += 1;
            assert!(writes < 10_000, "endless output");
        }
        assert_eq!(self.watch.is_silent(), self.says_goodbye, "the last word");
        self.server.handle_eof(self.now);
        self.drain(source);
        assert!(self.closed);
        self.input(&Frame::Drain.to_bytes());
        for id in self.asked.keys() {
            let id = RequestId(*id);
            self.server.respond(id, Ok(Vec::new()));
            let opened = self
                .server
                .respond_stream(id, Vec::new(), StreamKind::ToClient);
            assert!(opened.is_err(), "a stream of no connection");
            self.server.consume(id, 1);
            self.server.reset(id, error());
            self.server.acknowledge(id, 1, false);
        }
        self.drain(source);
        assert_eq!(self.server.poll_transmit(usize::MAX), None);
        assert!(!self.server.wants_write());
        self.check();
    }
}

/// Whether the messages of a stream hold nothing of the connection's window.
fn is_released(id: RequestId) -> bool {
    id.get() % 2 == 1
}

/// Whether a stream has a longest message.
fn has_longest(id: RequestId) -> bool {
    id.get() % 3 == 1
}

/// One of the requests, near the end first.
fn any_of<'a>(
    asked: &'a mut BTreeMap<u64, Asked>,
    source: &mut Source<'_>,
) -> Option<(RequestId, &'a mut Asked)> {
    let nth = usize::from(source.below(8));
    asked
        .iter_mut()
        .rev()
        .nth(nth)
        .map(|(id, asked)| (RequestId(*id), asked))
}
