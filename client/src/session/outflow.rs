//! Streams to the server: a publication while it has one.
//!
//! ```text
//! opened by the answer --- attach ---> carries --- END, RESET, close ---> over --- detach ---> (gone)
//! ```
//!
//! The [`Publication`] is the part that outlives the stream: it comes with `attach` and goes with `detach`. In between
//! it is pumped whenever the core has room and told what was acknowledged, also while nobody looks.

use std::task::Waker;

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, RemoteError, RequestId, SendError, Weight, publish::Publication,
};

use super::Session;

/// Why a stream to the server is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The server ended it.
    Ended(Option<RemoteError>),
    /// The connection is over; [`Session::reason`] tells why.
    Closed,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too much waits for its acknowledgement. The waker that was given is woken.
    Full,
    /// The stream is over.
    Over,
}

/// How far a publication is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The last number that was acknowledged.
    pub(crate) acknowledged: Option<u64>,
    /// How many messages it took.
    pub(crate) next: u64,
    /// Whether every message was acknowledged.
    pub(crate) flushed: bool,
    /// Whether an acknowledgement said that messages may have been dropped behind it.
    pub(crate) may_be_dropped: bool,
    /// Whether the stream is over.
    pub(crate) over: bool,
}

/// The last number that a publication has the acknowledgement of.
pub(crate) fn acknowledged(publication: &Publication) -> Option<u64> {
    let oldest = publication.unacknowledged().next();
    let first = oldest.map_or(publication.next(), |(number, _)| number);
    first.checked_sub(1)
}

#[derive(Debug, Default)]
pub(super) struct Outflow {
    publication: Option<Publication>,
    may_be_dropped: bool,
    over: Option<Over>,
    waker: Option<Waker>,
}

impl Outflow {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait(&mut self, waker: Option<&Waker>) {
        match (&self.waker, waker) {
            (Some(old), Some(new)) if old.will_wake(new) => {}
            (_, Some(new)) => self.waker = Some(new.clone()),
            (_, None) => {}
        }
    }

    pub(super) fn acknowledged(&mut self, number: u64, may_be_dropped: bool) {
        self.may_be_dropped |= may_be_dropped;
        if let Some(publication) = &mut self.publication
            && publication.acknowledged(number) > 0
        {
            self.wake();
        }
    }

    /// The first reason counts.
    pub(super) fn over(&mut self, over: Over) {
        self.over.get_or_insert(over);
        self.wake();
    }
}

impl Session {
    /// Bytes of the longest message that the server takes.
    pub(crate) fn longest_message(&self) -> usize {
        self.longest
    }

    pub(super) fn outflow_opened(&mut self, id: RequestId, weight: Option<Weight>) {
        self.outflows.insert(id, Outflow::default());
        if let Some(weight) = weight {
            self.core.set_weight(id, weight);
        }
    }

    /// Gives a stream the publication that it carries from now on.
    pub(crate) fn attach(&mut self, id: RequestId, publication: Publication) {
        // It is kept when the stream is over already, for the owner to take back.
        self.outflows
            .entry(id)
            .or_insert_with(|| Outflow {
                over: Some(Over::Closed),
                ..Outflow::default()
            })
            .publication = Some(publication);
        self.pump(id);
        self.settle();
    }

    /// Takes the publication back, of a stream that is over.
    pub(crate) fn detach(&mut self, id: RequestId) -> Option<(Publication, Over)> {
        self.outflows.get(&id)?.over.as_ref()?;
        let outflow = self.outflows.remove(&id)?;
        outflow.publication.zip(outflow.over)
    }

    /// Takes a message and answers its number.
    pub(crate) fn push(
        &mut self,
        id: RequestId,
        message: &Bytes,
        waker: Option<&Waker>,
    ) -> Result<u64, Refusal> {
        let outflow = self.outflows.get_mut(&id).ok_or(Refusal::Over)?;
        if outflow.over.is_some() {
            return Err(Refusal::Over);
        }
        let publication = outflow.publication.as_mut().ok_or(Refusal::Over)?;
        match publication.push(message.clone()) {
            Ok(number) => {
                self.pump(id);
                self.settle();
                Ok(number)
            }
            Err(_) => {
                outflow.wait(waker);
                Err(Refusal::Full)
            }
        }
    }

    /// How far a publication is. The waker that is given is woken when that changes.
    pub(crate) fn standing(&mut self, id: RequestId, waker: Option<&Waker>) -> Standing {
        let Some(outflow) = self.outflows.get_mut(&id) else {
            return Standing {
                over: true,
                ..Standing::default()
            };
        };
        outflow.wait(waker);
        let publication = outflow.publication.as_ref();
        Standing {
            acknowledged: publication.and_then(acknowledged),
            next: publication.map_or(0, Publication::next),
            flushed: publication.is_some_and(Publication::is_flushed),
            may_be_dropped: outflow.may_be_dropped,
            over: outflow.over.is_some(),
        }
    }

    /// The messages of a publication that were not acknowledged.
    pub(crate) fn unacknowledged(&self, id: RequestId) -> Vec<(u64, Bytes)> {
        let outflow = self.outflows.get(&id);
        let publication = outflow.and_then(|outflow| outflow.publication.as_ref());
        publication.map(unacknowledged).unwrap_or_default()
    }

    /// Ends this side's half of a stream, behind what was sent.
    pub(crate) fn finish(&mut self, id: RequestId) {
        self.core.finish(id);
        self.settle();
    }

    /// Sends what the core has room for.
    pub(super) fn pump(&mut self, id: RequestId) {
        let outflow = self.outflows.get_mut(&id);
        let Some(publication) = outflow.and_then(|outflow| outflow.publication.as_mut()) else {
            return;
        };
        match publication.pump(&mut self.core, id) {
            // Over: its end is being told.
            Ok(()) | Err(SendError::NotOpen) => {}
            // Looked at before a message is taken.
            Err(error) => {
                let code = match error {
                    SendError::TooLarge(_) => ErrorCode::TooLarge,
                    _ => ErrorCode::Internal,
                };
                self.core
                    .reset(id, RemoteError::new(code, error.to_string()));
            }
        }
    }
}

/// The messages of a publication that were not acknowledged, with their numbers.
pub(crate) fn unacknowledged(publication: &Publication) -> Vec<(u64, Bytes)> {
    let messages = publication.unacknowledged();
    messages
        .map(|(number, payload)| (number, payload.clone().into_bytes()))
        .collect()
}
