//! What waits for one request id.

use std::collections::VecDeque;

use super::Head;
use crate::{
    RemoteError, frame::Frame, limits::MESSAGE_OVERHEAD, mux::credit::SendCredit, payload::Payload,
};

#[derive(Debug)]
pub(super) enum Item {
    Message(Message),
    Gap { next: u64, count: Option<u64> },
    End { error: Option<RemoteError> },
}

/// A message that waits, or what is left of it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) head: Head,
    pub(super) total: usize,
    pub(super) rest: Payload,
    /// Whether its first frame was sent.
    pub(super) begun: bool,
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
    pub(super) fn take(&mut self, id: u64, chunk: usize) -> Frame {
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

/// Where a lane stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: nothing waits.
    #[default]
    Out,
    /// In the ring.
    Ring,
    /// Among the parked ones: it waits for what others hold.
    Parked,
    /// Nowhere, until credit of its own comes.
    NoCredit,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) items: VecDeque<Item>,
    /// Bytes of all messages in `items`, with what they cost besides.
    pub(super) bytes: usize,
    pub(super) credit: SendCredit,
    /// What it may send before its turn is over, as it costs credit.
    pub(super) deficit: usize,
    /// How many quanta its turns are long.
    pub(super) weight: usize,
    pub(super) place: Place,
    /// Bytes of the peer's reassembly that the message in progress holds.
    pub(super) reserved: usize,
    /// Whether the sender was told that the lane is full, and wants to hear when it is not.
    pub(super) wants_room: bool,
    /// Whether the lane goes when it is empty: it carries one request or response and no stream.
    pub(super) passing: bool,
    /// Whether our half of the stream ends with what is in `items`.
    pub(super) ending: bool,
}
