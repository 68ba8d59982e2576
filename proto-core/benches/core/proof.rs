//! That long payloads are not copied: the same memory goes in and comes out.

use bytes::Bytes;
use selium_remote_client_protocol::{
    Time, client::ClientEvent, limits::MAX_WRITE, payload::SHARE_FROM,
};

use crate::joined::Joined;

/// The length of the message that is followed.
const LEN: usize = 64 * 1024;

/// Pieces shorter than this may be copied.
const SHORT: usize = SHARE_FROM;

/// What was seen of one message of 64 KiB.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Bytes of it that left in a transmit, in the memory that was handed to `send`.
    pub(crate) sent_in_place: usize,
    /// Bytes of it that came in an event, in the memory that was handed to `handle_input`.
    pub(crate) received_in_place: usize,
}

impl Proof {
    pub(crate) fn holds(&self) -> bool {
        // Credit may cut it so that its last piece is a short one.
        self.sent_in_place > LEN - SHORT && self.received_in_place > LEN - SHORT
    }
}

/// Follows one message.
pub(crate) fn no_copies() -> Proof {
    let mut joined = Joined::new();
    let id = joined.stream();
    let message = Bytes::from(vec![7u8; LEN]);
    joined.server.send(id, 0, message.clone()).unwrap();
    let mut inputs: Vec<Bytes> = Vec::new();
    let mut proof = Proof {
        sent_in_place: 0,
        received_in_place: 0,
    };
    loop {
        while let Some(transmit) = joined.client.poll_transmit(MAX_WRITE) {
            for part in transmit.parts {
                joined.server.handle_input(Time::ZERO, part);
            }
        }
        let Some(transmit) = joined.server.poll_transmit(MAX_WRITE) else {
            panic!("the message does not arrive");
        };
        proof.sent_in_place += within(&transmit.parts, std::slice::from_ref(&message));
        // A transport reads into memory of its own.
        let input = Bytes::from(transmit.to_vec());
        inputs.push(input.clone());
        joined.client.handle_input(Time::ZERO, input);
        while let Some(event) = joined.client.poll_event() {
            if let ClientEvent::Message { payload, .. } = event {
                let pieces: Vec<Bytes> = payload.pieces().cloned().collect();
                proof.received_in_place += within(&pieces, &inputs);
                return proof;
            }
        }
    }
}

/// How many bytes of `pieces` lie in the memory of `of`.
fn within(pieces: &[Bytes], of: &[Bytes]) -> usize {
    let inside = |piece: &&Bytes| {
        of.iter().any(|whole| {
            let (whole, piece) = (whole.as_ptr_range(), piece.as_ptr_range());
            whole.start <= piece.start && piece.end <= whole.end
        })
    };
    pieces.iter().filter(inside).map(Bytes::len).sum()
}
