//! What waits to be sent, and in which order (PROTOCOL.md, "Order and fairness").
//!
//! ```text
//! urgent   control frames, first in first out, before everything else
//! lanes    one a request id: long requests and responses, stream messages, gaps, ends; deficit round robin
//! ```
//!
//! A lane that cannot go on (no credit, no room in the peer's reassembly) is parked until that changes, so that one
//! round costs nothing for lanes that wait.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::credit::SendCredit;
use crate::{
    RemoteError,
    frame::{FRAME_OVERHEAD, Frame, Gather},
    limits::{MAX_CHUNK, MAX_FRAME, MESSAGE_OVERHEAD},
    payload::Payload,
};

/// What one turn of a lane may send: one full chunk.
const QUANTUM: usize = MAX_CHUNK;

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
}

#[derive(Debug)]
enum Item {
    Message {
        head: Head,
        total: usize,
        rest: Payload,
        begun: bool,
    },
    Gap {
        next: u64,
        count: Option<u64>,
    },
    End {
        error: Option<RemoteError>,
    },
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
    /// Lanes that have room again and whose senders want to hear of it.
    pub(crate) roomy: Vec<u64>,
}

/// Why a lane's front item was not sent.
#[derive(PartialEq, Eq)]
enum Stop {
    /// The lane's turn is over, or it is empty.
    Turn,
    /// Credit or reassembly is missing.
    Parked,
    /// The write is full.
    Full,
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
        let lane = self.lane(id);
        lane.passing |= passing;
        lane.bytes += payload.len();
        lane.items.push_back(Item::Message {
            head,
            total: payload.len(),
            rest: payload,
            begun: false,
        });
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
        self.lane(id).items.push_back(Item::End { error });
        self.place(id);
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
            if let Item::Message { head, rest, .. } = item
                && !head.is_data()
            {
                self.control_bytes = self.control_bytes.saturating_sub(rest.len());
            }
        }
        if lane.placed {
            self.ring.retain(|placed| *placed != id);
            self.parked.retain(|placed| *placed != id);
        }
        self.release(lane.reserved);
    }

    /// Bytes of messages that wait in a lane.
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

    /// Fills one write of at most `max` bytes (at least one frame's worth).
    pub(crate) fn fill(&mut self, out: &mut Gather, max: usize) {
        let max = max.max(MAX_FRAME + FRAME_OVERHEAD);
        loop {
            while let Some(frame) = self.urgent.front() {
                if out.len() + frame.len() > max {
                    return;
                }
                out.raw(frame);
                self.control_bytes = self.control_bytes.saturating_sub(frame.len());
                self.urgent.pop_front();
            }
            let Some(id) = self.ring.pop_front() else {
                return;
            };
            match self.step(id, out, max) {
                None => self.ring.push_front(id),
                Some(Stop::Full) => {
                    self.ring.push_front(id);
                    return;
                }
                Some(Stop::Parked) => self.parked.push(id),
                Some(Stop::Turn) => self.turn_over(id),
            }
        }
    }

    /// Puts a lane at the end of the ring, or out of it when it is empty.
    fn turn_over(&mut self, id: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        if lane.items.is_empty() {
            lane.placed = false;
            lane.deficit = 0;
        } else {
            lane.deficit += QUANTUM * lane.weight;
            self.ring.push_back(id);
        }
    }

    /// Sends one frame of a lane; `None` when the lane may go on.
    fn step(&mut self, id: u64, out: &mut Gather, max: usize) -> Option<Stop> {
        let (credit, free) = (self.credit, self.reassembly.saturating_sub(self.reserved));
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Some(Stop::Turn);
        };
        let Some(item) = lane.items.front_mut() else {
            return Some(Stop::Turn);
        };
        let room = max.saturating_sub(out.len());
        let next_request = self.unbegun.front().copied();
        let (head, total, rest, begun) = match item {
            Item::Message {
                head,
                total,
                rest,
                begun,
            } => (*head, *total, rest, begun),
            marker => {
                if room < MAX_FRAME / 4 {
                    return Some(Stop::Full);
                }
                let over = matches!(marker, Item::End { .. });
                if !over {
                    // A gap costs as much as an empty message would.
                    if lane.credit.available().min(credit.available()) < MESSAGE_OVERHEAD {
                        return Some(Stop::Parked);
                    }
                    lane.credit.take(MESSAGE_OVERHEAD);
                    self.credit.take(MESSAGE_OVERHEAD);
                }
                marker.frame(id).encode(out);
                lane.items.pop_front();
                if over {
                    lane.placed = false;
                    self.remove(id);
                    return Some(Stop::Turn);
                }
                return None;
            }
        };
        let overhead = if head.is_data() && !*begun {
            MESSAGE_OVERHEAD
        } else {
            0
        };
        let mut chunk = rest.len().min(MAX_CHUNK);
        if head.is_data() {
            let allowed = lane.credit.available().min(credit.available());
            if allowed <= overhead {
                return Some(Stop::Parked);
            }
            chunk = chunk.min(allowed - overhead);
        }
        if room < FRAME_OVERHEAD + chunk.min(MAX_CHUNK / 4) {
            return Some(Stop::Full);
        }
        chunk = chunk.min(room - FRAME_OVERHEAD);
        let begins = !*begun && matches!(head, Head::Request { .. });
        if (!*begun && chunk < total && free < total) || (begins && next_request != Some(id)) {
            return Some(Stop::Parked);
        }
        if lane.deficit < chunk {
            return Some(Stop::Turn);
        }
        lane.deficit -= chunk;
        if begins {
            self.unbegun.pop_front();
            self.ring.extend(self.parked.drain(..));
        }
        if !*begun && chunk < total {
            lane.reserved = total;
            self.reserved += total;
        }
        let content = rest.split_to(chunk);
        frame(id, head, total, *begun, content).encode(out);
        *begun = true;
        let complete = rest.is_empty();
        lane.bytes = lane.bytes.saturating_sub(chunk);
        if head.is_data() {
            lane.credit.take(chunk + overhead);
            self.credit.take(chunk + overhead);
        }
        if !head.is_data() {
            self.control_bytes = self.control_bytes.saturating_sub(chunk);
        }
        if complete {
            lane.items.pop_front();
            let reserved = core::mem::take(&mut lane.reserved);
            let over = lane.passing && lane.items.is_empty();
            lane.placed &= !over;
            self.release(reserved);
            if over {
                self.remove(id);
                return Some(Stop::Turn);
            }
        }
        self.tell_room(id);
        None
    }

    /// Notes that a lane whose sender waits has become half empty.
    fn tell_room(&mut self, id: u64) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && lane.wants_room
            && lane.bytes < MAX_CHUNK
        {
            lane.wants_room = false;
            self.roomy.push(id);
        }
    }
}

impl Item {
    /// The frame of a gap or an end.
    fn frame(&self, id: u64) -> Frame {
        match self {
            Item::Gap { next, count } => Frame::Gap {
                id,
                next: *next,
                count: *count,
            },
            Item::End { error } => Frame::End {
                id,
                error: error.clone(),
            },
            Item::Message {
                head,
                total,
                rest,
                begun,
            } => frame(id, *head, *total, *begun, rest.clone()),
        }
    }
}

fn frame(id: u64, head: Head, total: usize, begun: bool, chunk: Payload) -> Frame {
    let total = total as u64;
    match head {
        Head::Data { .. } if begun => Frame::DataMore { id, chunk },
        _ if begun => Frame::More { id, chunk },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameReader;

    fn frames(outbox: &mut Outbox, max: usize) -> Vec<Frame> {
        let mut out = Gather::default();
        outbox.fill(&mut out, max);
        let mut reader = FrameReader::new();
        for part in out.finish() {
            reader.push(part);
        }
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            frames.push(frame);
        }
        frames
    }

    fn open() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.open(1 << 30, 1 << 30, 1 << 20);
        outbox
    }

    fn data(outbox: &mut Outbox, id: u64, bytes: usize) {
        outbox.message(id, Head::Data { seq: 1 }, vec![0; bytes].into());
    }

    #[test]
    fn control_goes_before_data() {
        let mut outbox = open();
        data(&mut outbox, 1, 100);
        outbox.urgent(&Frame::Drain);
        let frames = frames(&mut outbox, 65536);
        assert_eq!(frames[0], Frame::Drain);
        assert!(matches!(frames[1], Frame::Data { .. }));
    }

    #[test]
    fn busy_lanes_share_evenly() {
        let mut outbox = open();
        for id in 1..=4 {
            // Message sizes differ widely; bytes must not.
            let size = [100, 1000, 16 * 1024, 50_000][id as usize - 1];
            for _ in 0..(600_000 / size) {
                data(&mut outbox, id, size);
            }
        }
        let mut sent = [0usize; 5];
        for _ in 0..20 {
            for frame in frames(&mut outbox, 65536) {
                match frame {
                    Frame::Data { id, chunk, .. } | Frame::DataMore { id, chunk } => {
                        sent[id as usize] += chunk.len();
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let fair = sent.iter().sum::<usize>() / 4;
        for id in 1..=4 {
            assert!(
                sent[id].abs_diff(fair) * 10 <= fair,
                "lane {id} sent {} of {fair}: {sent:?}",
                sent[id]
            );
        }
    }

    #[test]
    fn a_lane_without_credit_waits_alone() {
        let mut outbox = Outbox::default();
        outbox.open(1 << 20, 100, 1 << 20);
        data(&mut outbox, 1, 500);
        data(&mut outbox, 2, 50);
        let first = frames(&mut outbox, 65536);
        assert_eq!(first.len(), 2, "{first:?}");
        assert!(outbox.is_idle());
        outbox.raise(1, 1_000);
        let rest = frames(&mut outbox, 65536);
        assert!(
            matches!(&rest[..], [Frame::DataMore { id: 1, chunk }] if chunk.len() == 500 + 32 - 100),
            "{rest:?}"
        );
    }

    #[test]
    fn reassembly_of_the_peer_is_respected() {
        let mut outbox = Outbox::default();
        outbox.open(1 << 30, 1 << 30, 50_000);
        data(&mut outbox, 1, 40_000);
        data(&mut outbox, 2, 40_000);
        let mut begun = Vec::new();
        let mut open_now = 0usize;
        loop {
            let frames = frames(&mut outbox, 20_000);
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                if let Frame::Data { id, total, .. } = frame {
                    begun.push(id);
                    open_now = total as usize;
                }
            }
            assert!(open_now <= 50_000);
        }
        assert_eq!(begun, [1, 2]);
        assert!(outbox.is_idle() && outbox.parked.is_empty());
    }

    #[test]
    fn gaps_in_a_row_become_one_and_ends_come_last() {
        let mut outbox = open();
        data(&mut outbox, 1, 10);
        outbox.gap(1, 5, Some(2));
        outbox.gap(1, 9, Some(3));
        outbox.gap(1, 10, None);
        outbox.end(1, None);
        let frames = frames(&mut outbox, 65536);
        assert_eq!(
            frames[1..],
            [
                Frame::Gap {
                    id: 1,
                    next: 10,
                    count: None
                },
                Frame::End { id: 1, error: None }
            ]
        );
        assert!(
            outbox.lanes.is_empty(),
            "an ended lane leaves nothing behind"
        );
    }
}
