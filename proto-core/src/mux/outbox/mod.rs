//! What waits to be sent, and in which order (PROTOCOL.md, "Order and fairness").
//!
//! ```text
//! urgent   control frames, first in first out, before everything else
//! lanes    one a request id: long requests and responses, stream messages, gaps, ends; deficit round robin
//! ```
//!
//! A lane that cannot go on (no credit, no room in the peer's reassembly) leaves the ring until that changes, so that
//! one round costs nothing for lanes that wait.

mod budget;
mod fill;
mod lane;
#[cfg(test)]
mod tests;
mod urgent;

use std::collections::{BTreeMap, VecDeque};

use self::{
    budget::{Budget, Class},
    lane::{Item, Lane, Message, Place},
    urgent::Urgent,
};
use super::credit::SendCredit;
use crate::{RemoteError, frame::Frame, limits::Weight, payload::Payload};

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

    fn class(self) -> Class {
        if self.is_data() {
            Class::Data
        } else {
            Class::Control
        }
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

/// Everything that waits to be sent on one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    urgent: Urgent,
    /// Bytes of long requests and responses that wait.
    long_bytes: usize,
    /// Bytes of all lanes.
    lane_bytes: usize,
    lanes: BTreeMap<u64, Lane>,
    ring: VecDeque<u64>,
    parked: Vec<u64>,
    /// Requests in lanes whose first frame was not sent, in the order of their ids: the peer takes ids in that order
    /// only, so that a request neither overtakes a longer one nor is cancelled before it began.
    unbegun: VecDeque<u64>,
    credit: SendCredit,
    budget: Budget,
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
        self.budget = Budget::new(reassembly);
    }

    /// Bytes that wait and are not bounded by credit: urgent frames, requests and responses.
    pub(crate) fn control_bytes(&self) -> usize {
        self.urgent.len().saturating_add(self.long_bytes)
    }

    /// Whether nothing can be sent now.
    pub(crate) fn is_idle(&self) -> bool {
        self.urgent.is_empty() && self.ring.is_empty()
    }

    pub(crate) fn urgent(&mut self, frame: &Frame) {
        self.urgent.push(frame);
    }

    /// Bytes that wait in lanes.
    pub(crate) fn lane_bytes(&self) -> usize {
        self.lane_bytes
    }

    /// Drops what is urgent: nobody will read it.
    pub(crate) fn drop_urgent(&mut self) {
        self.urgent = Urgent::default();
    }

    /// Drops everything that is not urgent: the connection is closing.
    pub(crate) fn drop_lanes(&mut self) {
        self.lanes.clear();
        self.ring.clear();
        self.parked.clear();
        self.unbegun.clear();
        self.ending = 0;
        self.long_bytes = 0;
        self.lane_bytes = 0;
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, id: u64, head: Head, payload: Payload) {
        if !head.is_data() {
            self.long_bytes += payload.len();
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
        let bytes = message.rest.len() + message.overhead();
        self.lane_bytes += bytes;
        let lane = self.lane(id);
        lane.passing |= passing;
        lane.bytes += bytes;
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
        self.lane_bytes = self
            .lane_bytes
            .saturating_sub(lane.bytes)
            .saturating_add(waits);
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

    /// Whether a response to this id waits, or a part of it.
    pub(crate) fn holds_response(&self, id: u64) -> bool {
        let front = self.lanes.get(&id).and_then(|lane| lane.items.front());
        matches!(front, Some(Item::Message(message)) if !message.head.is_data())
    }

    /// Whether a request waits of which the peer has not heard.
    pub(crate) fn holds(&self, id: u64) -> bool {
        self.unbegun.binary_search(&id).is_ok()
    }

    /// Drops a request of which the peer has not heard; `false` when it has.
    pub(crate) fn take_back(&mut self, id: u64) -> bool {
        let held = self.holds(id);
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
                self.long_bytes = self.long_bytes.saturating_sub(message.rest.len());
            }
        }
        match lane.place {
            Place::Ring => self.ring.retain(|placed| *placed != id),
            Place::Parked => self.parked.retain(|placed| *placed != id),
            Place::Out | Place::NoCredit => {}
        }
        self.ending = self.ending.saturating_sub(usize::from(lane.ending));
        self.lane_bytes = self.lane_bytes.saturating_sub(lane.bytes);
        let class = match lane.items.front() {
            Some(Item::Message(message)) => message.head.class(),
            _ => Class::Data,
        };
        self.release(class, lane.reserved);
        if self.budget.forget(id) {
            self.unpark();
        }
    }

    /// Lanes, each of which may hold messages.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Bytes that wait to be sent, in lanes or not.
    pub(crate) fn held(&self) -> usize {
        self.lane_bytes.saturating_add(self.urgent.len())
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
        if lane.credit.raise(limit) && lane.place == Place::NoCredit {
            lane.place = Place::Ring;
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
        // It may still carry the rest of the request that opened the stream; it does not go with that any more.
        self.lane(id).passing = false;
    }

    /// Sets how long the turns of a stream's lane are.
    pub(crate) fn set_weight(&mut self, id: u64, weight: Weight) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.weight = weight.get();
        }
    }

    fn place(&mut self, id: u64) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && lane.place == Place::Out
        {
            lane.place = Place::Ring;
            self.ring.push_back(id);
        }
    }

    /// Lets everyone try again who waits for what others held.
    fn unpark(&mut self) {
        for id in self.parked.drain(..) {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.place = Place::Ring;
                self.ring.push_back(id);
            }
        }
    }

    fn release(&mut self, class: Class, bytes: usize) {
        if bytes > 0 {
            self.budget.release(class, bytes);
            self.unpark();
        }
    }
}
