//! What goes into one write, frame by frame.

use super::{Head, Item, Message, Outbox};
use crate::{
    frame::{FRAME_OVERHEAD, Frame, Gather},
    limits::{MAX_CHUNK, MAX_FRAME, MESSAGE_OVERHEAD},
    payload::Payload,
};

/// What one turn of a lane may send: one full chunk.
const QUANTUM: usize = MAX_CHUNK;

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
        let room = max.saturating_sub(out.len());
        match self.lanes.get(&id).and_then(|lane| lane.items.front()) {
            None => Some(Stop::Turn),
            Some(Item::Message(_)) => self.step_message(id, out, room),
            Some(_) if room < MAX_FRAME / 4 => Some(Stop::Full),
            Some(Item::Gap { next, count }) => {
                let (next, count) = (*next, *count);
                self.step_gap(id, &Frame::Gap { id, next, count }, out)
            }
            Some(Item::End { error }) => {
                let error = error.clone();
                Frame::End { id, error }.encode(out);
                self.remove_current(id);
                Some(Stop::Turn)
            }
        }
    }

    /// Sends a gap, which costs as much as an empty message would.
    fn step_gap(&mut self, id: u64, gap: &Frame, out: &mut Gather) -> Option<Stop> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Some(Stop::Turn);
        };
        if lane.credit.available().min(self.credit.available()) < MESSAGE_OVERHEAD {
            return Some(Stop::Parked);
        }
        lane.credit.take(MESSAGE_OVERHEAD);
        self.credit.take(MESSAGE_OVERHEAD);
        gap.encode(out);
        lane.items.pop_front();
        None
    }

    /// Sends one frame of the message at the lane's front.
    fn step_message(&mut self, id: u64, out: &mut Gather, room: usize) -> Option<Stop> {
        let chunk = match self.next_chunk(id, room) {
            Ok(chunk) => chunk,
            Err(stop) => return Some(stop),
        };
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Some(Stop::Turn);
        };
        let Some(Item::Message(message)) = lane.items.front_mut() else {
            return Some(Stop::Turn);
        };
        let begins = !message.begun;
        if begins && chunk < message.total {
            lane.reserved = message.total;
            self.reserved += message.total;
        }
        let is_request = matches!(message.head, Head::Request { .. });
        let is_data = message.head.is_data();
        let overhead = message.overhead();
        message.take(id, chunk).encode(out);
        let complete = message.rest.is_empty();
        lane.deficit = lane.deficit.saturating_sub(chunk);
        lane.bytes = lane.bytes.saturating_sub(chunk + overhead);
        if is_data {
            lane.credit.take(chunk + overhead);
            self.credit.take(chunk + overhead);
        } else {
            self.control_bytes = self.control_bytes.saturating_sub(chunk);
        }
        if begins && is_request {
            self.unbegun.pop_front();
            self.unpark();
        }
        if complete && self.message_over(id) {
            return Some(Stop::Turn);
        }
        self.tell_room(id);
        None
    }

    /// How many bytes of the message at the lane's front may go now.
    fn next_chunk(&self, id: u64, room: usize) -> Result<usize, Stop> {
        let lane = self.lanes.get(&id).ok_or(Stop::Turn)?;
        let Some(Item::Message(message)) = lane.items.front() else {
            return Err(Stop::Turn);
        };
        let is_request = matches!(message.head, Head::Request { .. });
        if is_request && !message.begun && self.unbegun.front() != Some(&id) {
            return Err(Stop::Parked);
        }
        let mut allowed = message.rest.len().min(MAX_CHUNK);
        if message.head.is_data() {
            let credit = lane.credit.available().min(self.credit.available());
            let overhead = message.overhead();
            if credit <= overhead {
                return Err(Stop::Parked);
            }
            allowed = allowed.min(credit - overhead);
        }
        if room < FRAME_OVERHEAD + allowed.min(MAX_CHUNK / 4) {
            return Err(Stop::Full);
        }
        let chunk = allowed.min(room - FRAME_OVERHEAD);
        let free = self.reassembly.saturating_sub(self.reserved);
        if !message.begun && chunk < message.total && free < message.total {
            // What may go in one frame needs no reassembly, and the next write has room for that frame.
            let fits_a_frame = allowed == message.total;
            return Err(if fits_a_frame {
                Stop::Full
            } else {
                Stop::Parked
            });
        }
        if lane.deficit < chunk {
            return Err(Stop::Turn);
        }
        Ok(chunk)
    }

    /// Takes the lane's front message, which is sent, out of it; answers whether the lane went with it.
    fn message_over(&mut self, id: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return true;
        };
        lane.items.pop_front();
        let reserved = core::mem::take(&mut lane.reserved);
        let over = lane.passing && lane.items.is_empty();
        self.release(reserved);
        if over {
            self.remove_current(id);
        }
        over
    }

    /// Removes the lane whose turn it is: it stands neither in the ring nor among the parked ones.
    fn remove_current(&mut self, id: u64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.placed = false;
        }
        self.remove(id);
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

impl Message {
    /// What the next frame costs in credit besides its bytes.
    pub(super) fn overhead(&self) -> usize {
        if self.head.is_data() && !self.begun {
            MESSAGE_OVERHEAD
        } else {
            0
        }
    }

    /// The next frame, with `chunk` bytes of content.
    fn take(&mut self, id: u64, chunk: usize) -> Frame {
        let begun = core::mem::replace(&mut self.begun, true);
        let total = self.total as u64;
        let chunk: Payload = self.rest.split_to(chunk);
        match self.head {
            Head::Data { .. } if begun => Frame::DataMore { id, chunk },
            _ if begun => Frame::More { id, chunk },
            head => head.frame(id, total, chunk),
        }
    }
}
