//! Streams from the server: what logs and subscriptions have in common.

use std::task::{Context, Poll};

use selium_remote_client_protocol::{ErrorCode, Payload, RemoteError, ops::op};

use crate::{ClientError, call::Held, session::Arrival};

/// What comes next.
#[derive(Debug)]
pub(crate) enum Item {
    Message { sequence: u64, payload: Payload },
    Gap { next: u64, count: Option<u64> },
}

/// Where a stream begins that was asked for with `since` and `tail`, when the server retains what lies from `first` to
/// `next`; without either at `otherwise`.
pub(crate) fn beginning(
    (first, next): (u64, u64),
    since: Option<u64>,
    tail: Option<u64>,
    otherwise: u64,
) -> u64 {
    let tail = tail.map(|tail| next.saturating_sub(tail).max(first));
    since.max(tail).unwrap_or(otherwise)
}

/// A stream of messages and gaps, to its end.
///
/// Its position, the sequence number behind what was read, is all that another connection needs to go on.
#[derive(Debug)]
pub(crate) struct Incoming {
    held: Held,
    op: u64,
    position: u64,
    /// The reason that the server gave, once the stream is over.
    end: Option<Option<String>>,
}

impl Incoming {
    pub(crate) fn new(held: Held, op: u64, position: u64) -> Self {
        Self {
            held,
            op,
            position,
            end: None,
        }
    }

    /// The sequence number behind what was read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Why it ended, once it has, if the server told.
    pub(crate) fn end_reason(&self) -> Option<&str> {
        self.end.as_ref()?.as_deref()
    }

    pub(crate) fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Item, ClientError>>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        let Poll::Ready(arrival) = self.held.poll_arrival(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match arrival {
            Arrival::Message { seq, payload } => {
                self.position = seq.saturating_add(1);
                let sequence = seq;
                Some(Ok(Item::Message { sequence, payload }))
            }
            Arrival::Gap { next, count } => {
                self.position = next;
                Some(Ok(Item::Gap { next, count }))
            }
            Arrival::End(error) => self.ended(error).map(Err),
            Arrival::Closed => {
                self.end = Some(None);
                Some(Err(self.held.closed()))
            }
        })
    }

    /// Ends it here, before the message that was read last.
    pub(crate) fn give_up(&mut self, sequence: u64) {
        self.position = sequence;
        self.end = Some(None);
        self.held.abandon();
    }

    /// "Cancelled" and "unavailable" are how a server says that there is nothing more to come; other codes are faults.
    fn ended(&mut self, error: Option<RemoteError>) -> Option<ClientError> {
        let message = error.as_ref().map(|error| error.message.clone());
        self.end = Some(message.filter(|message| !message.is_empty()));
        let error = error?;
        match error.code {
            ErrorCode::Cancelled | ErrorCode::Unavailable => None,
            _ => Some(self.held.remote(error, op::name(self.op))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_begins_at_the_narrower_of_since_and_tail() {
        let retained = (10, 20);
        assert_eq!(beginning(retained, None, None, 20), 20);
        assert_eq!(beginning(retained, None, None, 10), 10);
        assert_eq!(beginning(retained, Some(3), None, 20), 3);
        assert_eq!(beginning(retained, Some(30), None, 20), 30);
        assert_eq!(beginning(retained, None, Some(4), 20), 16);
        assert_eq!(beginning(retained, None, Some(99), 20), 10);
        assert_eq!(beginning(retained, Some(12), Some(4), 20), 16);
        assert_eq!(beginning(retained, Some(18), Some(4), 20), 18);
    }
}
