//! An observer on the wire: reads both directions with a reader of its own and keeps accounts of its own.
//!
//! It is told what each side has sent, what has arrived, and what the receivers have read or given up. Whatever the
//! machines do, it asserts what PROTOCOL.md says of credit, reassembly, order and endings.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use selium_remote_client_protocol::{
    Limits,
    frame::{Frame, FrameReader},
    limits::{MAX_CHUNK, MESSAGE_OVERHEAD},
};

/// A side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// A message whose first frame was seen, and not its last.
#[derive(Clone, Copy, Debug)]
struct Begun {
    data: bool,
    total: u64,
    left: u64,
    /// Whether its receiver has no use for it any more; the sender may go on or not.
    void: bool,
}

/// What one side does as a sender.
#[derive(Debug)]
struct Sender {
    reader: FrameReader,
    /// Credit that has arrived: of streams, and of the connection as 0.
    limits: BTreeMap<u64, u64>,
    used: BTreeMap<u64, u64>,
    first: (u64, u64),
    begun: BTreeMap<u64, Begun>,
    budget: u64,
    max_message: u64,
    /// The least sequence number that may come next.
    next: BTreeMap<u64, u64>,
    ended: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    last_request: u64,
    acknowledged: BTreeMap<u64, u64>,
    said_goodbye: bool,
}

/// What one side does as a receiver of stream data.
#[derive(Debug)]
struct Receiver {
    reader: FrameReader,
    windows: (u64, u64),
    /// Credit that it gave.
    granted: BTreeMap<u64, u64>,
    first: (u64, u64),
    received: BTreeMap<u64, u64>,
    /// What complete messages cost that were not read.
    unread: BTreeMap<u64, u64>,
    /// What of it holds nothing of the connection's window.
    kept: BTreeMap<u64, u64>,
    /// Messages in reassembly: what they cost so far, and bytes missing.
    partial: BTreeMap<u64, (u64, u64)>,
    /// Streams that it has given up.
    dropped: BTreeSet<u64>,
    /// The most credit that it may have given at any time so far.
    most: BTreeMap<u64, u64>,
    /// Bytes of messages in reassembly that it takes.
    budget: u64,
}

/// Both sides, as senders and receivers.
#[derive(Debug)]
pub(crate) struct Watch {
    senders: [Sender; 2],
    receivers: [Receiver; 2],
}

fn at(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

impl Watch {
    /// For two machines with these limits, whose hellos have crossed.
    pub(crate) fn new(client: &Limits, server: &Limits) -> Self {
        Self {
            senders: [Sender::new(server), Sender::new(client)],
            receivers: [Receiver::new(client), Receiver::new(server)],
        }
    }

    /// A side has written these bytes.
    pub(crate) fn sent(&mut self, side: Side, bytes: &[u8]) {
        let sender = &mut self.senders[at(side)];
        sender.reader.push(Bytes::copy_from_slice(bytes));
        while let Some(frame) = self.senders[at(side)].reader.next().expect("a frame") {
            if let Frame::Credit { id, limit } = frame {
                self.receivers[at(side)].grants(id, limit);
            }
            self.senders[at(side)].sends(side, &frame);
        }
    }

    /// Bytes that a side has written arrive at the other.
    pub(crate) fn arrived(&mut self, from: Side, bytes: &[u8]) {
        let to = at(from.other());
        let receiver = &mut self.receivers[to];
        receiver.reader.push(Bytes::copy_from_slice(bytes));
        while let Some(frame) = self.receivers[to].reader.next().expect("a frame") {
            self.receivers[to].receives(&frame);
            self.senders[to].hears(&frame);
        }
    }

    /// A side has read a message or a gap of this cost.
    pub(crate) fn consumed(&mut self, by: Side, id: u64, cost: usize) {
        let receiver = &mut self.receivers[at(by)];
        if let Some(unread) = receiver.unread.get_mut(&id) {
            *unread = unread.checked_sub(cost as u64).expect("it was unread");
        }
        if let Some(kept) = receiver.kept.get_mut(&id) {
            *kept = kept.saturating_sub(cost as u64);
        }
        receiver.note(id);
    }

    /// The server has given back the connection's credit of a message, and keeps it.
    pub(crate) fn released(&mut self, id: u64, cost: usize) {
        let receiver = &mut self.receivers[at(Side::Server)];
        *receiver.kept.entry(id).or_default() += cost as u64;
        receiver.note(id);
    }

    /// A side has given up what it receives of a stream.
    pub(crate) fn dropped(&mut self, by: Side, id: u64) {
        self.receivers[at(by)].drop(id);
    }

    /// The credit of the connection that a side has given.
    pub(crate) fn credit(&self, by: Side) -> u64 {
        let receiver = &self.receivers[at(by)];
        let granted = receiver.granted.get(&0).copied();
        granted.unwrap_or(receiver.first.0)
    }

    /// What a side has received of all streams, as it costs credit.
    pub(crate) fn received(&self, by: Side) -> u64 {
        let received = self.receivers[at(by)].received.get(&0);
        received.copied().unwrap_or_default()
    }

    /// Bytes of messages in reassembly that a side may hold, by what it was sent.
    pub(crate) fn in_reassembly(&self, sender: Side) -> u64 {
        self.senders[at(sender)].reserved()
    }
}

impl Sender {
    fn new(receiver: &Limits) -> Self {
        Self {
            reader: FrameReader::new(),
            limits: BTreeMap::new(),
            used: BTreeMap::new(),
            first: (
                receiver.connection_window as u64,
                receiver.stream_window as u64,
            ),
            begun: BTreeMap::new(),
            budget: receiver.reassembly as u64,
            max_message: receiver.max_message as u64,
            next: BTreeMap::new(),
            ended: BTreeSet::new(),
            answered: BTreeSet::new(),
            last_request: 0,
            acknowledged: BTreeMap::new(),
            said_goodbye: false,
        }
    }

    fn reserved(&self) -> u64 {
        let counts = self.begun.values().filter(|begun| !begun.void);
        counts.map(|begun| begun.total).sum()
    }

    /// Stream data costs credit that the sender has.
    fn pays(&mut self, side: Side, id: u64, cost: usize) {
        for (of, first) in [(0, self.first.0), (id, self.first.1)] {
            let limit = self.limits.get(&of).copied().unwrap_or(first).max(first);
            let used = self.used.entry(of).or_default();
            *used += cost as u64;
            assert!(*used <= limit, "{side:?} sent {used} of {limit} on {of}");
        }
    }

    fn begins(&mut self, id: u64, data: bool, total: u64, chunk: usize) {
        assert!(chunk <= MAX_CHUNK && chunk as u64 <= total);
        assert!(chunk > 0 || total == 0);
        let left = total - chunk as u64;
        let overlaps = self.begun.get(&id).is_some_and(|begun| !begun.void);
        assert!(!overlaps, "{id}: messages overlap");
        if left > 0 {
            let begun = Begun {
                data,
                total,
                left,
                void: false,
            };
            self.begun.insert(id, begun);
            assert!(self.reserved() <= self.budget, "past the reassembly budget");
        }
    }

    fn proceeds(&mut self, id: u64, data: bool, chunk: usize) {
        let begun = self.begun.get_mut(&id).expect("a message in progress");
        assert_eq!(begun.data, data, "{id}: another message");
        assert!(chunk > 0 && chunk <= MAX_CHUNK);
        begun.left = begun.left.checked_sub(chunk as u64).expect("an overrun");
        if begun.left == 0 {
            self.begun.remove(&id);
        }
    }

    fn numbers(&mut self, id: u64, seq: u64, then: u64) {
        assert!(!self.ended.contains(&id), "{id}: behind its end");
        let next = self.next.entry(id).or_default();
        assert!(seq >= *next, "{id}: number {seq} comes below {next}");
        *next = then;
    }

    fn sends(&mut self, side: Side, frame: &Frame) {
        assert!(!self.said_goodbye, "{frame:?} behind a goodbye");
        match frame {
            Frame::Request {
                id, total, chunk, ..
            } => {
                assert!(*id > self.last_request, "ids increase");
                self.last_request = *id;
                self.begins(*id, false, *total, chunk.len());
            }
            Frame::Response {
                id, total, chunk, ..
            } => {
                assert!(self.answered.insert(*id), "{id}: answered twice");
                assert!(*total <= self.max_message);
                self.begins(*id, false, *total, chunk.len());
            }
            Frame::More { id, chunk } => self.proceeds(*id, false, chunk.len()),
            Frame::Data {
                id,
                seq,
                total,
                chunk,
            } => {
                assert!(*total <= self.max_message && *total > 0);
                self.numbers(*id, *seq, *seq + 1);
                self.begins(*id, true, *total, chunk.len());
                self.pays(side, *id, chunk.len() + MESSAGE_OVERHEAD);
            }
            Frame::DataMore { id, chunk } => {
                assert!(!self.ended.contains(id), "{id}: behind its end");
                self.proceeds(*id, true, chunk.len());
                self.pays(side, *id, chunk.len());
            }
            Frame::Gap { id, next, .. } => {
                assert!(!self.begun.contains_key(id), "{id}: a gap in a message");
                self.numbers(*id, *next, *next);
                self.pays(side, *id, MESSAGE_OVERHEAD);
            }
            Frame::End { id, .. } => {
                assert!(self.ended.insert(*id), "{id}: two ends");
                assert!(!self.begun.contains_key(id), "{id}: an end in a message");
            }
            Frame::Ack { id, seq, .. } => {
                let last = self.acknowledged.entry(*id).or_default();
                assert!(*seq >= *last, "{id}: acknowledgements count up");
                *last = *seq;
            }
            Frame::Reset { id, .. } => {
                self.begun.remove(id);
                self.ended.insert(*id);
            }
            Frame::Cancel { id } => self.is_void(*id),
            Frame::Goodbye(_) => self.said_goodbye = true,
            _ => {}
        }
    }

    fn is_void(&mut self, id: u64) {
        if let Some(begun) = self.begun.get_mut(&id) {
            begun.void = true;
        }
    }

    /// What the other side says of what this side sends.
    fn hears(&mut self, frame: &Frame) {
        match frame {
            Frame::Credit { id, limit } => {
                let known = self.limits.entry(*id).or_default();
                *known = (*known).max(*limit);
            }
            Frame::Cancel { id } | Frame::Reset { id, .. } | Frame::End { id, .. }
                if self.begun.get(id).is_some_and(|begun| begun.data) =>
            {
                self.begun.remove(id);
            }
            Frame::Response { id, .. } => self.is_void(*id),
            _ => {}
        }
    }
}

impl Receiver {
    fn new(limits: &Limits) -> Self {
        let first = (limits.connection_window, limits.stream_window);
        let most = limits.max_connection_window.max(first.0);
        let scaled = first.1 as u128 * most as u128 / first.0.max(1) as u128;
        let stream = if most == first.0 {
            first.1 as u128
        } else {
            scaled.max(first.1 as u128)
        };
        Self {
            reader: FrameReader::new(),
            windows: (most as u64, stream as u64),
            granted: BTreeMap::new(),
            first: (first.0 as u64, first.1 as u64),
            received: BTreeMap::new(),
            unread: BTreeMap::new(),
            kept: BTreeMap::new(),
            partial: BTreeMap::new(),
            dropped: BTreeSet::new(),
            most: BTreeMap::new(),
            budget: limits.reassembly as u64,
        }
    }

    fn receives(&mut self, frame: &Frame) {
        match frame {
            Frame::Data {
                id, total, chunk, ..
            } => self.data(*id, Some(*total), chunk.len()),
            Frame::DataMore { id, chunk } => self.data(*id, None, chunk.len()),
            Frame::Gap { id, .. } => {
                self.counts(*id, MESSAGE_OVERHEAD as u64);
                if !self.dropped.contains(id) {
                    *self.unread.entry(*id).or_default() += MESSAGE_OVERHEAD as u64;
                }
                self.note(*id);
            }
            Frame::Reset { id, .. } | Frame::Cancel { id } => self.drop(*id),
            _ => {}
        }
    }

    fn counts(&mut self, id: u64, cost: u64) {
        *self.received.entry(0).or_default() += cost;
        *self.received.entry(id).or_default() += cost;
    }

    fn data(&mut self, id: u64, total: Option<u64>, len: usize) {
        let len = len as u64;
        let overhead = if total.is_some() {
            MESSAGE_OVERHEAD as u64
        } else {
            0
        };
        self.counts(id, len + overhead);
        if !self.dropped.contains(&id) {
            let partial = self.partial.entry(id).or_default();
            if let Some(total) = total {
                *partial = (0, total);
            }
            partial.0 += len + overhead;
            partial.1 = partial.1.saturating_sub(len);
            if partial.1 == 0 {
                let cost = partial.0;
                self.partial.remove(&id);
                *self.unread.entry(id).or_default() += cost;
            }
        }
        self.note(id);
    }

    fn drop(&mut self, id: u64) {
        self.dropped.insert(id);
        self.unread.remove(&id);
        self.kept.remove(&id);
        self.partial.remove(&id);
        self.note(id);
    }

    /// Notes the credit that may be given now: consumed + in reassembly + window + missing.
    fn note(&mut self, id: u64) {
        let unread = self.unread.get(&id).copied().unwrap_or_default();
        let missing = self.partial.get(&id).map_or(0, |partial| partial.1);
        let all_kept: u64 = self.kept.values().sum();
        let all_unread = self.unread.values().sum::<u64>() - all_kept;
        let all_missing: u64 = self.partial.values().map(|partial| partial.1).sum();
        let arrived: u64 = self.partial.values().map(|partial| partial.0).sum();
        let overheads = (self.received.len() * MESSAGE_OVERHEAD) as u64;
        let room = self.windows.0 + self.budget + overheads;
        let held = all_unread + arrived;
        assert!(held <= room, "{held} bytes unread, at most {room}");
        for (of, unread, missing, window) in [
            (id, unread, missing, self.windows.1),
            (0, all_unread, all_missing, self.windows.0),
        ] {
            let received = self.received.get(&of).copied().unwrap_or_default();
            let mut now = received - unread + missing + window;
            if of != 0 {
                // A message that has begun on a stream may be completed, whatever is unread before it.
                now = now.max(received + missing);
            }
            let most = self.most.entry(of).or_default();
            *most = (*most).max(now);
        }
    }

    fn grants(&mut self, id: u64, limit: u64) {
        let first = if id == 0 { self.first.0 } else { self.first.1 };
        let before = self.granted.insert(id, limit).unwrap_or(first);
        assert!(limit > before, "credit of {id}: {limit} after {before}");
        let window = if id == 0 {
            self.windows.0
        } else {
            self.windows.1
        };
        let most = self.most.get(&id).copied().unwrap_or(window).max(window);
        assert!(limit <= most, "credit of {id}: {limit}, at most {most}");
    }
}
