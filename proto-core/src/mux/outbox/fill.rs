//! What goes into one write, frame by frame.

use super::{Head, Item, Outbox, lane::Place};
use crate::{
    frame::{FRAME_OVERHEAD, Frame, Gather},
    limits::{MAX_CHUNK, MAX_FRAME, MESSAGE_OVERHEAD},
};

/// What one turn of a lane of weight 1 may send, as it costs credit: one full chunk that begins a message.
const QUANTUM: usize = MAX_CHUNK + MESSAGE_OVERHEAD;

/// Why a lane's front item was not sent.
#[derive(PartialEq, Eq)]
enum Stop {
    /// The lane's turn is over, or it is empty.
    Turn,
    /// The connection's credit is missing, or reassembly, or its turn among the requests.
    Parked,
    /// Its own credit is missing.
    NoCredit,
    /// The write is full.
    Full,
}

impl Outbox {
    /// Fills one write of at most `max` bytes (at least one frame's worth).
    pub(crate) fn fill(&mut self, out: &mut Gather, max: usize) {
        let max = max.max(MAX_FRAME + FRAME_OVERHEAD);
        if !self.urgent.is_empty() {
            self.urgent.take(max, out);
            if !self.urgent.is_empty() {
                return;
            }
        }
        loop {
            let Some(id) = self.ring.pop_front() else {
                return;
            };
            match self.step(id, out, max) {
                None => self.ring.push_front(id),
                Some(Stop::Full) => {
                    self.ring.push_front(id);
                    return;
                }
                Some(Stop::Parked) => {
                    self.stand(id, Place::Parked);
                    self.parked.push(id);
                }
                Some(Stop::NoCredit) => {
                    self.stand(id, Place::NoCredit);
                    // Others need not wait behind it.
                    if self.budget.forget(id) {
                        self.unpark();
                    }
                }
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
            lane.place = Place::Out;
            lane.deficit = 0;
        } else {
            lane.deficit += QUANTUM * lane.weight;
            self.ring.push_back(id);
        }
    }

    fn stand(&mut self, id: u64, place: Place) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.place = place;
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
        if lane.credit.available() < MESSAGE_OVERHEAD {
            return Some(Stop::NoCredit);
        }
        if self.credit.available() < MESSAGE_OVERHEAD {
            return Some(Stop::Parked);
        }
        if lane.deficit < MESSAGE_OVERHEAD {
            return Some(Stop::Turn);
        }
        lane.deficit -= MESSAGE_OVERHEAD;
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
        let whole = begins && chunk == message.total;
        if begins && !whole {
            lane.reserved = message.total;
        }
        let is_request = matches!(message.head, Head::Request { .. });
        let is_data = message.head.is_data();
        let overhead = message.overhead();
        message.take(id, chunk).encode(out);
        let complete = message.rest.is_empty();
        lane.deficit = lane.deficit.saturating_sub(chunk + overhead);
        lane.bytes = lane.bytes.saturating_sub(chunk + overhead);
        self.lane_bytes = self.lane_bytes.saturating_sub(chunk + overhead);
        if is_data {
            lane.credit.take(chunk + overhead);
            self.credit.take(chunk + overhead);
        } else {
            self.long_bytes = self.long_bytes.saturating_sub(chunk);
        }
        if begins && is_request {
            self.unbegun.pop_front();
            self.unpark();
        }
        if whole && self.budget.forget(id) {
            self.unpark(); // It stood in the line while it had less credit.
        }
        if begins && !whole && self.budget.has_line() {
            self.unpark(); // The next one may fit as well.
        }
        if complete && self.message_over(id) {
            return Some(Stop::Turn);
        }
        self.tell_room(id);
        None
    }

    /// How many bytes of the message at the lane's front may go now. A message that begins, and needs reassembly, has it
    /// then.
    fn next_chunk(&mut self, id: u64, room: usize) -> Result<usize, Stop> {
        let lane = self.lanes.get(&id).ok_or(Stop::Turn)?;
        let Some(Item::Message(message)) = lane.items.front() else {
            return Err(Stop::Turn);
        };
        let is_request = matches!(message.head, Head::Request { .. });
        if is_request && !message.begun && self.unbegun.front() != Some(&id) {
            return Err(Stop::Parked);
        }
        let overhead = message.overhead();
        let mut allowed = message.rest.len().min(MAX_CHUNK);
        if message.head.is_data() {
            if lane.credit.available() <= overhead {
                return Err(Stop::NoCredit);
            }
            let credit = lane.credit.available().min(self.credit.available());
            if credit <= overhead {
                return Err(Stop::Parked);
            }
            allowed = allowed.min(credit - overhead);
        }
        if room < FRAME_OVERHEAD + allowed.min(MAX_CHUNK / 4) {
            return Err(Stop::Full);
        }
        let chunk = allowed.min(room - FRAME_OVERHEAD);
        let begins = !message.begun && chunk < message.total;
        if begins && allowed == message.total {
            // It needs no reassembly in one frame, for which the next write has room.
            return Err(Stop::Full);
        }
        if lane.deficit < chunk + overhead {
            return Err(Stop::Turn);
        }
        let (class, total) = (message.head.class(), message.total);
        if begins && !self.budget.reserve(class, id, total) {
            return Err(Stop::Parked);
        }
        Ok(chunk)
    }

    /// Takes the lane's front message, which is sent, out of it; answers whether the lane went with it.
    fn message_over(&mut self, id: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return true;
        };
        let class = match lane.items.pop_front() {
            Some(Item::Message(message)) => message.head.class(),
            _ => return false,
        };
        let reserved = core::mem::take(&mut lane.reserved);
        let over = lane.passing && lane.items.is_empty();
        self.release(class, reserved);
        if over {
            self.remove_current(id);
        }
        over
    }

    /// Removes the lane whose turn it is: it stands neither in the ring nor among the parked ones.
    fn remove_current(&mut self, id: u64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.place = Place::Out;
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
