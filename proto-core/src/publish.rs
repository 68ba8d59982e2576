//! A publication that outlives its connection (PROTOCOL.md, "Publishing").
//!
//! ```text
//! Publication   (client) numbers messages, keeps them until they are acknowledged, sends what is left of them again
//! Intake        (server) takes each number once
//! ```
//!
//! Both belong to one publication, not to one connection: they are kept while connections come and go. Nothing is
//! published twice and nothing is left out as long as both live. When the server's half is gone (another incarnation),
//! the client knows exactly which messages have an unknown outcome: [`Publication::unacknowledged`].

use std::collections::VecDeque;

use thiserror::Error;

use crate::{
    Payload, RequestId, SendError,
    client::ClientConnection,
    limits::{MAX_CHUNK, MESSAGE_OVERHEAD},
};

/// The client's half: numbers from 0, in the order of [`Publication::push`].
#[derive(Debug)]
pub struct Publication {
    /// Messages that were not acknowledged, the oldest first.
    kept: VecDeque<Payload>,
    /// The number of the first of them.
    first: u64,
    /// How many of them were sent on the present stream.
    sent: usize,
    /// How many messages were ever sent, over any stream.
    ever: u64,
    /// What they cost together.
    bytes: usize,
    limit: usize,
}

/// The server says that it has messages which were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server has message {last}, but only {sent} were sent")]
pub struct ResumeError {
    /// The last number that the server has.
    pub last: u64,
    /// How many messages were sent.
    pub sent: u64,
}

impl Publication {
    /// A publication that keeps at most `limit` bytes of messages that were not acknowledged, each with
    /// [`MESSAGE_OVERHEAD`]; at least one chunk.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            first: 0,
            sent: 0,
            ever: 0,
            bytes: 0,
            limit: limit.max(MAX_CHUNK),
        }
    }

    /// Takes a message and answers its number. It is sent by [`Publication::pump`].
    ///
    /// # Errors
    /// [`SendError::Full`] when too much waits for its acknowledgement (a single message is always taken), and
    /// [`SendError::Empty`].
    pub fn push(&mut self, payload: impl Into<Payload>) -> Result<u64, SendError> {
        let payload = payload.into();
        if payload.is_empty() {
            return Err(SendError::Empty);
        }
        let cost = payload.len().saturating_add(MESSAGE_OVERHEAD);
        if !self.kept.is_empty() && self.bytes.saturating_add(cost) > self.limit {
            return Err(SendError::Full);
        }
        let number = self.next();
        self.bytes = self.bytes.saturating_add(cost);
        self.kept.push_back(payload);
        Ok(number)
    }

    /// The number that the next message gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.kept.len() as u64)
    }

    /// Sends what was not sent on this stream, as far as its queue has room: again after
    /// [`ClientEvent::Room`](crate::client::ClientEvent::Room).
    ///
    /// # Errors
    /// When the stream is over, or when the server would never take a message.
    pub fn pump(
        &mut self,
        core: &mut ClientConnection,
        stream: RequestId,
    ) -> Result<(), SendError> {
        while let Some(payload) = self.kept.get(self.sent) {
            let number = self.first.saturating_add(self.sent as u64);
            match core.send(stream, number, payload.clone()) {
                Ok(()) => self.sent += 1,
                Err(SendError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes an acknowledgement of every message up to `number`; how many it was the first one for.
    pub fn acknowledged(&mut self, number: u64) -> usize {
        let mut count = 0usize;
        while self.sent > 0 && self.first <= number {
            let Some(payload) = self.kept.pop_front() else {
                break;
            };
            let cost = payload.len().saturating_add(MESSAGE_OVERHEAD);
            self.bytes = self.bytes.saturating_sub(cost);
            self.first = self.first.saturating_add(1);
            self.sent = self.sent.saturating_sub(1);
            count += 1;
        }
        count
    }

    /// Goes on over a new stream whose answer said that the server has every message up to `last`; how many were
    /// acknowledged by that. What lies behind it is sent again.
    ///
    /// # Errors
    /// When it has more than was ever sent: it is another publication. Nothing has changed then.
    pub fn resume(&mut self, last: Option<u64>) -> Result<usize, ResumeError> {
        let ever = self.ever.max(self.first.saturating_add(self.sent as u64));
        if let Some(last) = last.filter(|last| *last >= ever) {
            return Err(ResumeError { last, sent: ever });
        }
        self.ever = ever;
        let unknown = usize::try_from(ever.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.sent = unknown.min(self.kept.len());
        let count = last.map_or(0, |last| self.acknowledged(last));
        self.sent = 0;
        Ok(count)
    }

    /// Whether every message was acknowledged.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.kept.is_empty()
    }

    /// The messages that were not acknowledged, with their numbers.
    pub fn unacknowledged(&self) -> impl Iterator<Item = (u64, &Payload)> {
        (self.first..).zip(&self.kept)
    }
}

/// The server's half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    last: Option<u64>,
}

impl Intake {
    /// Whether the message is new: hand it over then, and acknowledge it in any case.
    pub fn take(&mut self, number: u64) -> bool {
        let new = self.last.is_none_or(|last| number > last);
        if new {
            self.last = Some(number);
        }
        new
    }

    /// The last number that was taken: what the answer to a resume states.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u8) -> Publication {
        let mut publication = Publication::new(1 << 20);
        for number in 0..count {
            assert_eq!(publication.push(vec![number; 10]), Ok(u64::from(number)));
        }
        publication
    }

    #[test]
    fn what_was_never_sent_is_not_acknowledged() {
        let mut publication = filled(3);
        assert_eq!(publication.acknowledged(2), 0);
        publication.sent = 2;
        assert_eq!(publication.acknowledged(9), 2);
        assert_eq!(publication.unacknowledged().count(), 1);
        assert!(!publication.is_flushed());
    }

    #[test]
    fn a_resume_drops_what_the_server_has() {
        let mut publication = filled(5);
        publication.sent = 4;
        assert_eq!(publication.acknowledged(0), 1);
        assert_eq!(publication.resume(Some(2)), Ok(2));
        let left: Vec<u64> = publication.unacknowledged().map(|(n, _)| n).collect();
        assert_eq!(left, [3, 4]);
        assert_eq!(publication.next(), 5);
    }

    #[test]
    fn a_server_that_has_more_than_was_sent_is_another_one() {
        let mut publication = filled(5);
        publication.sent = 2;
        let error = publication.resume(Some(2)).unwrap_err();
        assert_eq!((error.last, error.sent), (2, 2));
        assert_eq!(publication.unacknowledged().count(), 5);
        assert_eq!(publication.resume(None), Ok(0));
    }

    #[test]
    fn a_stream_that_is_lost_before_much_was_sent_again_forgets_nothing() {
        let mut publication = filled(5);
        publication.sent = 3;
        assert_eq!(publication.resume(None), Ok(0));
        // That stream is lost as well, and the server has got two over the first one.
        assert_eq!(publication.resume(Some(1)), Ok(2));
        assert_eq!(publication.unacknowledged().count(), 3);
    }

    #[test]
    fn the_backlog_is_bounded_but_takes_one_of_any_size() {
        let mut publication = Publication::new(0);
        assert_eq!(publication.push(vec![0; MAX_CHUNK * 2]), Ok(0));
        assert_eq!(publication.push(vec![0; 1]), Err(SendError::Full));
        assert_eq!(publication.push(Vec::<u8>::new()), Err(SendError::Empty));
        publication.sent = 1;
        publication.acknowledged(0);
        assert_eq!(publication.push(vec![0; 1]), Ok(1));
    }

    #[test]
    fn each_number_is_taken_once() {
        let mut intake = Intake::default();
        assert!(intake.take(0));
        assert!(!intake.take(0));
        assert!(intake.take(4));
        assert!(!intake.take(3));
        assert_eq!(intake.last(), Some(4));
    }
}
