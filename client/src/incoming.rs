//! Streams from the server: what logs and subscriptions have in common.

use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, Payload, RemoteError,
    client::StreamKind,
    ops::{FollowRequest, Request, SubscribeRequest, op},
};

use crate::{
    ClientError,
    call::{Ask, Held},
    session::Arrival,
};

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

/// What to ask for when a stream has to go on over another connection.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A log, and where the stream ends that does not follow it.
    Log {
        request: FollowRequest,
        end: Option<u64>,
    },
    Channel(SubscribeRequest),
}

impl Source {
    fn op(&self) -> u64 {
        match self {
            Source::Log { .. } => FollowRequest::OP,
            Source::Channel(_) => SubscribeRequest::OP,
        }
    }

    /// What is lost when the server is another one.
    fn lost(&self, position: u64) -> String {
        match self {
            Source::Log { request, .. } => format!(
                "what the log of the process {} had from record {position} on cannot be told; its id is void",
                request.target
            ),
            Source::Channel(request) => format!(
                "what the channel {} had from message {position} on cannot be told; its id is void",
                request.target
            ),
        }
    }
}

type Resuming = Pin<Box<dyn Future<Output = Result<(Bytes, Held), ClientError>> + Send>>;

/// A stream of messages and gaps, to its end, over as many connections as it takes.
///
/// Its position, the sequence number behind what was read, is all that another connection needs to go on.
pub(crate) struct Incoming {
    held: Held,
    source: Source,
    ask: Ask,
    position: u64,
    /// Whether something was read: before that, the server also tells what is missing at the beginning of a log.
    began: bool,
    /// The stream was lost with its connection, and another one is asked for. (The lock makes it `Sync`.)
    resuming: Mutex<Option<Resuming>>,
    /// The reason that the server gave, once the stream is over.
    end: Option<Option<String>>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("held", &self.held)
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    pub(crate) fn new(held: Held, source: Source, ask: Ask, position: u64) -> Self {
        Self {
            held,
            source,
            ask,
            position,
            began: false,
            resuming: Mutex::new(None),
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
        loop {
            if self.end.is_some() {
                return Poll::Ready(None);
            }
            match self.poll_resumed(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.end = Some(None);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
            let Poll::Ready(arrival) = self.held.poll_arrival(cx) else {
                return Poll::Pending;
            };
            return Poll::Ready(match arrival {
                Arrival::Message { seq, payload } => {
                    self.began = true;
                    self.position = seq.saturating_add(1);
                    let sequence = seq;
                    Some(Ok(Item::Message { sequence, payload }))
                }
                Arrival::Gap { next, count } => {
                    self.began = true;
                    self.position = next;
                    Some(Ok(Item::Gap { next, count }))
                }
                Arrival::End(error) => self.ended(error).map(Err),
                Arrival::Closed if self.held.lasts() => {
                    self.resume();
                    continue;
                }
                Arrival::Closed => {
                    self.end = Some(None);
                    Some(Err(self.held.closed()))
                }
            });
        }
    }

    /// Asks for the stream again, on the next connection.
    fn resume(&mut self) {
        let inner = std::sync::Arc::clone(&self.held.inner);
        let behind = self.held.behind();
        let ask = self.ask.stream(StreamKind::ToClient, self.ask.weight);
        let position = self.position;
        let resuming: Resuming = match self.source.clone() {
            // Everything that was to come has.
            Source::Log { end: Some(end), .. } if position >= end => {
                self.end = Some(None);
                return;
            }
            Source::Log { mut request, .. } => {
                // Nothing of the whole log was read: what is missing at its beginning is still to be told.
                let whole = request.since.is_none() && request.tail.is_none() && !self.began;
                request.since = (!whole).then_some(position);
                request.tail = None;
                Box::pin(async move { inner.resume(&request, ask, behind).await })
            }
            Source::Channel(mut request) => {
                request.since = Some(position);
                request.tail = None;
                Box::pin(async move { inner.resume(&request, ask, behind).await })
            }
        };
        *self.resuming() = Some(resuming);
    }

    fn resuming(&mut self) -> &mut Option<Resuming> {
        self.resuming
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the stream that was asked for again, if there is one.
    fn poll_resumed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let Some(resuming) = self.resuming() else {
            return Poll::Ready(Ok(()));
        };
        let Poll::Ready(result) = resuming.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        *self.resuming() = None;
        Poll::Ready(match result {
            Ok((_, held)) => {
                self.held = held;
                tracing::debug!(position = self.position, "a stream goes on");
                Ok(())
            }
            Err(ClientError::NewIncarnation { old, new, .. }) => Err(ClientError::NewIncarnation {
                old,
                new,
                lost: self.source.lost(self.position),
            }),
            Err(error) => Err(error),
        })
    }

    /// Ends it here, before the message that was read last.
    pub(crate) fn give_up(&mut self, sequence: u64) {
        self.position = sequence;
        self.end = Some(None);
        *self.resuming() = None;
        self.held.abandon();
    }

    /// "Cancelled" and "unavailable" are how a server says that there is nothing more to come; other codes are faults.
    fn ended(&mut self, error: Option<RemoteError>) -> Option<ClientError> {
        let message = error.as_ref().map(|error| error.message.clone());
        self.end = Some(message.filter(|message| !message.is_empty()));
        let error = error?;
        match error.code {
            ErrorCode::Cancelled | ErrorCode::Unavailable => None,
            _ => Some(self.held.remote(error, op::name(self.source.op()))),
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
