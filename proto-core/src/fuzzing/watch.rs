//! What every machine's output has to be like, whatever its input was.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Source;
use crate::{
    ErrorCode, Payload, RemoteError,
    envelope::{ClientEnvelope, Envelope, ServerEnvelope},
    frame::{Frame, FrameReader},
    hello::{ClientHello, PeerLimits, ServerHello},
    limits::{MAX_CHUNK, MAX_ENVELOPE, MESSAGE_OVERHEAD},
};

/// A message of which not every byte was sent.
#[derive(Debug)]
struct Partial {
    total: u64,
    missing: u64,
}

/// Reads what one machine sends and hears, and panics when it sends what its peer would end the connection for.
///
/// It knows of what the machine heard no sooner than the machine does, and judges no harder than a peer may: of an id
/// that its peer has ended it judges credit only.
#[derive(Debug)]
pub(super) struct Watch {
    server: bool,
    /// The start of the output, until the envelope is complete.
    opening: Option<Vec<u8>>,
    reader: FrameReader,
    /// Nothing more may come.
    silent: bool,
    peer: PeerLimits,
    /// The peer's hello came.
    greeted: bool,
    /// The credit that the peer gave, and what was used of it; 0 is the connection.
    granted: BTreeMap<u64, u64>,
    used: BTreeMap<u64, u64>,
    /// The credit that the peer was given.
    told: BTreeMap<u64, u64>,
    last_request: u64,
    /// Messages in progress: of requests and responses, and of streams.
    control: BTreeMap<u64, Partial>,
    data: BTreeMap<u64, Partial>,
    /// Requests that were answered completely (server), and with what code.
    answered: BTreeMap<u64, u64>,
    /// Streams whose half of this side is over, and ids that it gave up.
    over: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    /// Messages that the peer no longer wants, and that may or may not go on: requests, and of streams.
    unwanted: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    /// Requests that were heard of (server).
    requested: u64,
    codes: BTreeMap<u64, u64>,
}

impl Watch {
    fn new(server: bool) -> Self {
        let nothing = PeerLimits::default();
        Self {
            server,
            opening: Some(Vec::new()),
            reader: FrameReader::new(),
            silent: false,
            peer: nothing,
            greeted: false,
            granted: BTreeMap::new(),
            used: BTreeMap::new(),
            told: BTreeMap::new(),
            last_request: 0,
            control: BTreeMap::new(),
            data: BTreeMap::new(),
            answered: BTreeMap::new(),
            over: BTreeSet::new(),
            gone: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            ended: BTreeSet::new(),
            requested: 0,
            codes: BTreeMap::new(),
        }
    }

    pub(super) fn of_client() -> Self {
        Self::new(false)
    }

    pub(super) fn of_server() -> Self {
        Self::new(true)
    }

    /// The code with which a request was answered.
    pub(super) fn answer(&self, id: u64) -> Option<u64> {
        self.answered.get(&id).copied()
    }

    /// Whether the last frame was a goodbye, or the connection was refused.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The limits of the peer's hello.
    pub(super) fn heard_hello(&mut self, limits: PeerLimits) {
        self.peer = limits;
        self.greeted = true;
        self.granted.insert(0, limits.connection_window);
    }

    /// A frame that the machine is about to get.
    pub(super) fn heard(&mut self, frame: &Frame) {
        match frame {
            Frame::Credit { id, limit } => {
                let window = self.window(*id);
                let granted = self.granted.entry(*id).or_insert(window);
                *granted = (*granted).max(*limit);
            }
            Frame::Request { id, .. } => self.requested = self.requested.max(*id),
            // A request may be answered before all of it was sent.
            Frame::Response { id, .. } if self.control.contains_key(id) => self.let_go(*id),
            // A client's half goes on until it ends; everything else that comes here ends both.
            Frame::End { .. } if self.server => {}
            Frame::Cancel { id } | Frame::Reset { id, .. } | Frame::End { id, .. } => {
                self.ended.insert(*id);
                self.data.remove(id);
            }
            _ => {}
        }
    }

    fn let_go(&mut self, id: u64) {
        self.unwanted.insert(id);
        self.control.remove(&id);
    }

    fn window(&self, id: u64) -> u64 {
        if id == 0 {
            self.peer.connection_window
        } else {
            self.peer.stream_window
        }
    }

    /// Bytes that the machine sends.
    pub(super) fn sent(&mut self, bytes: Bytes) {
        assert!(!bytes.is_empty(), "an empty write");
        assert!(!self.silent, "more after the last word");
        if let Some(mut start) = self.opening.take() {
            start.extend_from_slice(&bytes);
            assert!(start.len() <= MAX_ENVELOPE, "a long opening");
            if self.opened(&start) {
                return;
            }
            self.silent = true;
            return;
        }
        assert!(self.greeted, "more before the hello was answered");
        self.reader.push(bytes);
        while let Some(frame) = self.reader.next().expect("frames, and nothing else") {
            self.frame(frame);
        }
        assert_eq!(self.reader.buffered(), 0, "a write ends inside a frame");
    }

    /// Reads the opening, which is one write; answers whether frames may follow.
    fn opened(&self, start: &[u8]) -> bool {
        if !self.server {
            let Envelope::Complete(envelope, end) = ClientEnvelope::decode(start) else {
                panic!("a client's opening: {start:?}");
            };
            assert_eq!(end, start.len());
            assert!(ClientHello::decode(&envelope.hello).is_ok());
            return true;
        }
        match ServerEnvelope::decode(start) {
            Envelope::Complete(ServerEnvelope::Accepted { hello, .. }, end) => {
                assert_eq!(end, start.len());
                assert!(ServerHello::decode(&hello).is_ok());
                true
            }
            Envelope::Complete(ServerEnvelope::Refused { .. }, end) => {
                assert_eq!(end, start.len());
                false
            }
            Envelope::Legacy => false,
            other => panic!("a server's opening: {other:?}"),
        }
    }

    fn frame(&mut self, frame: Frame) {
        assert!(!self.silent, "a frame behind the goodbye: {frame:?}");
        match &frame {
            Frame::Ping(_) | Frame::Pong(_) | Frame::Drain => {}
            Frame::Goodbye(_) => self.silent = true,
            Frame::Credit { id, limit } => {
                if let Some(before) = self.told.insert(*id, *limit) {
                    assert!(before < *limit, "credit of {id} from {before} to {limit}");
                }
            }
            Frame::Request {
                id, total, chunk, ..
            } => {
                assert!(!self.server, "servers do not ask");
                assert!(
                    *id > self.last_request,
                    "request {id} after {}",
                    self.last_request
                );
                self.last_request = *id;
                self.begin(*id, *total, chunk, false);
            }
            Frame::Response {
                id,
                code,
                total,
                chunk,
            } => {
                assert!(self.server, "clients do not answer");
                assert!(*id <= self.requested, "nobody asked for {id}");
                let before = self.codes.insert(*id, *code);
                assert_eq!(before, None, "request {id} is answered twice");
                assert!(*total <= self.peer.max_message.max(MAX_CHUNK) as u64);
                self.begin(*id, *total, chunk, false);
            }
            Frame::More { id, chunk } => self.proceed(*id, chunk, false),
            Frame::Cancel { id } => {
                assert!(!self.server);
                assert!(*id <= self.last_request, "{id} was never sent");
                self.let_go(*id);
                // An answer may have opened the stream before; nothing is sent on it any more.
                self.data.remove(id);
                self.over.insert(*id);
                self.gone.insert(*id);
            }
            Frame::Data {
                id, total, chunk, ..
            } => {
                self.may_stream(*id);
                assert!(*total > 0, "an empty message");
                assert!(*total <= self.peer.max_message as u64, "a long message");
                self.take(*id, chunk.len() + MESSAGE_OVERHEAD);
                self.begin(*id, *total, chunk, true);
            }
            Frame::DataMore { id, chunk } => {
                self.may_stream(*id);
                self.take(*id, chunk.len());
                self.proceed(*id, chunk, true);
            }
            Frame::Gap { id, .. } => {
                assert!(self.server);
                self.may_stream(*id);
                self.take(*id, MESSAGE_OVERHEAD);
                assert!(!self.data.contains_key(id), "a gap inside a message");
            }
            Frame::Ack { id, .. } => {
                assert!(self.server);
                self.may_stream(*id);
            }
            Frame::End { id, .. } => {
                self.may_stream(*id);
                assert!(!self.data.contains_key(id), "an end inside a message");
                self.over.insert(*id);
            }
            Frame::Reset { id, .. } => {
                // A client may give up a stream of which it has ended its half.
                if self.server {
                    self.may_stream(*id);
                }
                assert!(self.gone.insert(*id), "{id} is over");
                self.data.remove(id);
                self.over.insert(*id);
            }
            Frame::Unknown { kind } => panic!("kind {kind:#04x} is none of ours"),
        }
    }

    fn may_stream(&self, id: u64) {
        assert!(!self.over.contains(&id), "{id} is over");
        if self.server {
            assert_eq!(self.answered.get(&id), Some(&0), "{id} was not opened");
        } else {
            assert!(id <= self.last_request, "{id} was never sent");
        }
    }

    fn take(&mut self, id: u64, bytes: usize) {
        for id in [0, id] {
            let granted = self.granted.get(&id).copied();
            let granted = granted.unwrap_or_else(|| self.window(id));
            let used = self.used.entry(id).or_default();
            *used += bytes as u64;
            assert!(*used <= granted, "{used} of {granted} bytes on {id}");
        }
    }

    fn begin(&mut self, id: u64, total: u64, chunk: &Payload, data: bool) {
        let len = chunk.len() as u64;
        assert!(chunk.len() <= MAX_CHUNK && len <= total);
        let (messages, loose) = self.messages(data);
        let loose = loose.contains(&id);
        if len == total {
            assert!(!messages.contains_key(&id), "two messages of {id} at once");
            self.complete(id, data);
            return;
        }
        let missing = total - len;
        if !loose {
            let before = messages.insert(id, Partial { total, missing });
            assert!(before.is_none(), "two messages of {id} at once");
        }
        let partials = self.control.values().chain(self.data.values());
        let reserved: u64 = partials.map(|partial| partial.total).sum();
        assert!(
            reserved <= self.peer.reassembly as u64,
            "{reserved} bytes to reassemble"
        );
    }

    fn proceed(&mut self, id: u64, chunk: &Payload, data: bool) {
        assert!((1..=MAX_CHUNK).contains(&chunk.len()));
        let (messages, loose) = self.messages(data);
        let Some(partial) = messages.get_mut(&id) else {
            assert!(loose.contains(&id), "{id} goes on with no message");
            return;
        };
        let missing = partial.missing.checked_sub(chunk.len() as u64);
        partial.missing = missing.expect("more than the whole message");
        if partial.missing == 0 {
            messages.remove(&id);
            self.complete(id, data);
        }
    }

    fn messages(&mut self, data: bool) -> (&mut BTreeMap<u64, Partial>, &BTreeSet<u64>) {
        if data {
            (&mut self.data, &self.ended)
        } else {
            (&mut self.control, &self.unwanted)
        }
    }

    fn complete(&mut self, id: u64, data: bool) {
        if self.server
            && !data
            && let Some(code) = self.codes.get(&id)
        {
            self.answered.insert(id, *code);
        }
    }
}

/// Content of so many bytes.
pub(super) fn filler(len: usize) -> Payload {
    const FILLER: &[u8] = &[7; 0x1_0000];
    Payload::from(Bytes::from_static(&FILLER[..len.min(FILLER.len())]))
}

/// Any frame; its id is mostly one of the first `last` and the next few.
pub(super) fn any_frame(source: &mut Source<'_>, last: u64) -> Frame {
    let kind = source.below(19);
    let id = match source.below(16) {
        0 => source.number(),
        nth => (u64::from(nth) % last.saturating_add(2)).max(1),
    };
    let error = |source: &mut Source<'_>| {
        let code = ErrorCode::from_wire(u64::from(source.below(16)));
        let error = RemoteError::new(code, source.text(80));
        if source.flag() {
            error.with_limit(source.number())
        } else {
            error
        }
    };
    // A whole message, the start of one, or what may be longer than it says.
    let message = |source: &mut Source<'_>| {
        let chunk = filler(source.len(MAX_CHUNK + 8));
        let total = match source.below(3) {
            0 => (chunk.len() as u64).saturating_add(source.number()),
            _ => chunk.len() as u64,
        };
        (total, chunk)
    };
    match kind {
        0 => Frame::Ping([source.byte(); 8]),
        1 => Frame::Pong(u64::from(source.below(4)).to_be_bytes()),
        2 => match source.below(4) {
            0 => Frame::Goodbye(error(source)),
            1 => Frame::Drain,
            2 => Frame::Unknown {
                kind: 0x80 | source.byte(),
            },
            _ => Frame::Unknown {
                kind: source.byte(),
            },
        },
        3 | 4 => Frame::Credit {
            id: if source.flag() { 0 } else { id },
            limit: source.number(),
        },
        5 | 6 => {
            let op = source.number();
            let id = last.saturating_add(1 + u64::from(source.below(4) / 3));
            let (total, chunk) = message(source);
            Frame::Request {
                id,
                op,
                total,
                chunk,
            }
        }
        7..=9 => {
            let code = u64::from(source.byte().saturating_sub(200));
            let (total, mut chunk) = message(source);
            if code != 0 {
                chunk = Payload::new();
            }
            let total = if code == 0 { total } else { 0 };
            Frame::Response {
                id,
                code,
                total,
                chunk,
            }
        }
        10 => Frame::More {
            id,
            chunk: message(source).1,
        },
        11 => Frame::Cancel { id },
        12 | 13 => {
            let seq = source.number();
            let (total, chunk) = message(source);
            Frame::Data {
                id,
                seq,
                total,
                chunk,
            }
        }
        14 => Frame::DataMore {
            id,
            chunk: message(source).1,
        },
        15 => Frame::End {
            id,
            error: source.flag().then(|| error(source)),
        },
        16 => Frame::Reset {
            id,
            error: error(source),
        },
        17 => Frame::Gap {
            id,
            next: source.number(),
            count: source.flag().then(|| source.number()),
        },
        _ => Frame::Ack {
            id,
            seq: source.number(),
            may_be_dropped: source.flag(),
        },
    }
}
