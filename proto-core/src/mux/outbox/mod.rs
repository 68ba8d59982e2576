//! What waits to be sent, and in which order (PROTOCOL.md, "Order and fairness").
//!
//! ```text
//! urgent   control frames, first in first out, before everything else
//! lanes    one a request id: long requests and responses, stream messages, gaps, ends; deficit round robin
//! ```
//!
//! A lane that cannot go on (no credit, no room in the peer's reassembly) is parked until that changes, so that one
//! round costs nothing for lanes that wait.

mod fill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::credit::SendCredit;
use crate::{RemoteError, frame::Frame, payload::Payload};

/// The start of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Request { op: u64 },
    Response { code: u64 },
    Data { seq: u64 },
}

impl Head {
    fn is_data(self) -> bool {
        matches!(self, Head::Data { .. })
    }

    /// The first frame of a message of `total` bytes.
    pub(crate) fn frame(self, id: u64, total: u64, chunk: Payload) -> Frame {
        match self {
            Head::Request { op } => Frame::Request {
                id,
                op,
                total,
                chunk,
            },
            Head::Response { code } => Frame::Response {
                id,
                code,
                total,
                chunk,
            },
            Head::Data { seq } => Frame::Data {
                id,
                seq,
                total,
                chunk,
            },
        }
    }
}

#[derive(Debug)]
enum Item {
    Message(Message),
    Gap { next: u64, count: Option<u64> },
    End { error: Option<RemoteError> },
}

/// A message that waits, or what is left of it.
#[derive(Debug)]
struct Message {
    head: Head,
    total: usize,
    rest: Payload,
    /// Whether its first frame was sent.
    begun: bool,
}

#[derive(Debug, Default)]
struct Lane {
    items: VecDeque<Item>,
    /// Bytes of all messages in `items`.
    bytes: usize,
    credit: SendCredit,
    deficit: usize,
    /// The weight: turns of a lane are `weight` quanta long.
    weight: usize,
    /// Whether the lane stands in `ring` or `parked`.
    placed: bool,
    /// Bytes of the peer's reassembly that the message in progress holds.
    reserved: usize,
    /// Whether the sender was told that the lane is full, and wants to hear when it is not.
    wants_room: bool,
    /// Whether the lane goes when it is empty: it carries one request or response and no stream.
    passing: bool,
    /// Whether our half of the stream ends with what is in `items`.
    ending: bool,
}

/// Everything that waits to be sent on one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    urgent: VecDeque<Bytes>,
    /// Bytes of urgent frames and of long requests and responses that wait.
    control_bytes: usize,
    lanes: BTreeMap<u64, Lane>,
    ring: VecDeque<u64>,
    parked: Vec<u64>,
    /// Requests in lanes whose first frame was not sent, in the order of their ids: the peer takes ids in that order
    /// only, so that a request neither overtakes a longer one nor is cancelled before it began.
    unbegun: VecDeque<u64>,
    credit: SendCredit,
    /// The peer's reassembly budget, and what of it is taken.
    reassembly: usize,
    reserved: usize,
    stream_window: u64,
    /// Lanes of streams that are over for their sender, and whose end was not sent.
    ending: usize,
    /// Lanes that have room again and whose senders want to hear of it.
    pub(crate) roomy: Vec<u64>,
}

impl Outbox {
    /// Takes over what the peer's hello allows.
    pub(crate) fn open(&mut self, connection_window: u64, stream_window: u64, reassembly: usize) {
        self.credit = SendCredit::new(connection_window);
        self.stream_window = stream_window;
        self.reassembly = reassembly;
    }

    /// Bytes that wait and are not bounded by credit: urgent frames, requests and responses.
    pub(crate) fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// Whether nothing can be sent now.
    pub(crate) fn is_idle(&self) -> bool {
        self.urgent.is_empty() && self.ring.is_empty()
    }

    pub(crate) fn urgent(&mut self, frame: &Frame) {
        let bytes = frame.to_bytes();
        self.control_bytes += bytes.len();
        self.urgent.push_back(bytes);
    }

    /// Drops everything that is not urgent: the connection is closing.
    pub(crate) fn drop_lanes(&mut self) {
        self.lanes.clear();
        self.ring.clear();
        self.parked.clear();
        self.unbegun.clear();
        self.ending = 0;
        self.control_bytes = self.urgent.iter().map(Bytes::len).sum();
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, id: u64, head: Head, payload: Payload) {
        if !head.is_data() {
            self.control_bytes += payload.len();
        }
        if matches!(head, Head::Request { .. }) {
            self.unbegun.push_back(id);
        }
        let passing = !head.is_data() && !self.lanes.contains_key(&id);
        let message = Message {
            head,
            total: payload.len(),
            rest: payload,
            begun: false,
        };
        let lane = self.lane(id);
        lane.passing |= passing;
        lane.bytes += message.rest.len() + message.overhead();
        lane.items.push_back(Item::Message(message));
        self.place(id);
    }

    /// Queues a gap marker behind the lane's messages. Two in a row become one.
    pub(crate) fn gap(&mut self, id: u64, next: u64, count: Option<u64>) {
        let lane = self.lane(id);
        if let Some(Item::Gap {
            next: last_next,
            count: last,
        }) = lane.items.back_mut()
        {
            *last_next = next;
            *last = last.zip(count).map(|(a, b)| a.saturating_add(b));
        } else {
            lane.items.push_back(Item::Gap { next, count });
        }
        self.place(id);
    }

    /// Queues the end of our half behind the lane's messages.
    pub(crate) fn end(&mut self, id: u64, error: Option<RemoteError>) {
        let lane = self.lane(id);
        lane.items.push_back(Item::End { error });
        let ends = !core::mem::replace(&mut lane.ending, true);
        self.ending += usize::from(ends);
        self.place(id);
    }

    /// Streams that are over for their sender, and whose end waits: for credit, or behind messages that do.
    pub(crate) fn ending(&self) -> usize {
        self.ending
    }

    /// Drops a stream's lane, but for a response in front of it: every request is answered. Answers whether there is
    /// such a response.
    pub(crate) fn cut(&mut self, id: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return false;
        };
        let waits = match lane.items.front() {
            Some(Item::Message(message)) if !message.head.is_data() => message.rest.len(),
            _ => {
                self.remove(id);
                return false;
            }
        };
        lane.items.truncate(1);
        lane.bytes = waits;
        lane.wants_room = false;
        lane.passing = true;
        let ended = core::mem::take(&mut lane.ending);
        self.ending = self.ending.saturating_sub(usize::from(ended));
        true
    }

    /// Whether requests wait whose first frame was not sent: what is requested now has to wait behind them.
    pub(crate) fn holds_requests(&self) -> bool {
        !self.unbegun.is_empty()
    }

    /// Drops a request of which the peer has not heard; `false` when it has.
    pub(crate) fn take_back(&mut self, id: u64) -> bool {
        let held = self.unbegun.binary_search(&id).is_ok();
        if held {
            self.remove(id);
        }
        held
    }

    /// Drops a lane with everything in it.
    pub(crate) fn remove(&mut self, id: u64) {
        if let Ok(at) = self.unbegun.binary_search(&id) {
            self.unbegun.remove(at);
            self.unpark();
        }
        let Some(lane) = self.lanes.remove(&id) else {
            return;
        };
        for item in &lane.items {
            if let Item::Message(message) = item
                && !message.head.is_data()
            {
                self.control_bytes = self.control_bytes.saturating_sub(message.rest.len());
            }
        }
        if lane.placed {
            self.ring.retain(|placed| *placed != id);
            self.parked.retain(|placed| *placed != id);
        }
        self.ending = self.ending.saturating_sub(usize::from(lane.ending));
        self.release(lane.reserved);
    }

    /// Lanes, each of which may hold messages.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Bytes that wait to be sent, in lanes or not.
    pub(crate) fn held(&self) -> usize {
        let lanes: usize = self.lanes.values().map(|lane| lane.bytes).sum();
        let urgent: usize = self.urgent.iter().map(Bytes::len).sum();
        lanes + urgent
    }

    /// Bytes of messages that wait in a lane, each with what it costs besides.
    pub(crate) fn queued(&self, id: u64) -> usize {
        self.lanes.get(&id).map_or(0, |lane| lane.bytes)
    }

    /// Remembers that the lane's sender waits for room.
    pub(crate) fn want_room(&mut self, id: u64) {
        self.lane(id).wants_room = true;
    }

    /// Takes a credit frame.
    pub(crate) fn raise(&mut self, id: u64, limit: u64) {
        if id == 0 {
            if self.credit.raise(limit) {
                self.unpark();
            }
            return;
        }
        // Only a lane that exists: a stream that ended needs no credit.
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        if lane.credit.raise(limit)
            && let Some(at) = self.parked.iter().position(|parked| *parked == id)
        {
            self.parked.swap_remove(at);
            self.ring.push_back(id);
        }
    }

    fn lane(&mut self, id: u64) -> &mut Lane {
        let window = self.stream_window;
        self.lanes.entry(id).or_insert_with(|| Lane {
            credit: SendCredit::new(window),
            weight: 1,
            ..Lane::default()
        })
    }

    /// Makes a lane for a stream, so that credit which arrives before its first message is kept.
    pub(crate) fn open_lane(&mut self, id: u64) {
        let _ = self.lane(id);
    }

    fn place(&mut self, id: u64) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && !lane.placed
        {
            lane.placed = true;
            self.ring.push_back(id);
        }
    }

    fn unpark(&mut self) {
        self.ring.extend(self.parked.drain(..));
    }

    fn release(&mut self, bytes: usize) {
        if bytes > 0 {
            self.reserved = self.reserved.saturating_sub(bytes);
            self.unpark();
        }
    }
}
