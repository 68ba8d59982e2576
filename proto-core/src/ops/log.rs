//! Logs of processes (PROTOCOL.md, "log follow").

use super::{ProcessRef, Request, op, other};
use crate::{
    fields::{FieldError, FieldReader, FieldWriter},
    limits::{MAX_NAME, MAX_TARGET},
};

/// What the server knows of a process's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum LogState {
    /// It can have no log: it lacks a capability that logging needs.
    #[default]
    None = 0,
    /// It has not shown its log yet.
    Waiting = 1,
    /// Its log is being read.
    Attached = 2,
    /// Its log has ended.
    Ended = 3,
}

/// Follow a process's log. Answered with [`FollowStarted`], then a stream of records from the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowRequest {
    /// As in [`StopRequest`](super::StopRequest).
    pub target: String,
    /// At most so many of the retained records first; all of them when there is no number.
    pub tail: Option<u64>,
    /// Only records with this sequence number or a later one.
    pub since: Option<u64>,
    /// Whether to end after the retained records instead of waiting for new ones.
    pub no_follow: bool,
}

impl Request for FollowRequest {
    const OP: u64 = op::LOG_FOLLOW;

    fn fields(&self, fields: &mut FieldWriter) {
        fields.must_text(1, &self.target);
        if let Some(tail) = self.tail {
            fields.must_uint(2, tail);
        }
        if let Some(since) = self.since {
            fields.must_uint(3, since);
        }
        if self.no_follow {
            fields.must_uint(4, 1);
        }
    }
}

impl FollowRequest {
    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed or there is no target.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut follow = Self::default();
        let mut target = None;
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => target = Some(field.text(MAX_TARGET)?.to_owned()),
                2 => follow.tail = Some(field.uint()?),
                3 => follow.since = Some(field.uint()?),
                4 => follow.no_follow = field.flag()?,
                _ => other(&field)?,
            }
        }
        follow.target = target.ok_or(fields.missing(1))?;
        Ok(follow)
    }
}

/// The answer to a follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowStarted {
    /// The process whose log it is.
    pub process: ProcessRef,
    /// The first sequence number that is still retained.
    pub first: u64,
    /// The sequence number that the next new record will get.
    pub next: u64,
    /// What is known of the log.
    pub log: LogState,
}

impl FollowStarted {
    /// An answer.
    #[must_use]
    pub fn new(process: ProcessRef, first: u64, next: u64, log: LogState) -> Self {
        Self {
            process,
            first,
            next,
            log,
        }
    }

    /// Its fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields
            .uint(1, self.process.id)
            .text(2, &self.process.name)
            .uint(3, self.first)
            .uint(4, self.next)
            .uint(5, self.log as u64);
        fields.finish()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are malformed.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut started = Self::default();
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => started.process.id = field.uint()?,
                2 => started.process.name = field.text(MAX_NAME)?.to_owned(),
                3 => started.first = field.uint()?,
                4 => started.next = field.uint()?,
                5 => {
                    started.log = match field.uint()? {
                        0 => LogState::None,
                        1 => LogState::Waiting,
                        2 => LogState::Attached,
                        _ => LogState::Ended,
                    }
                }
                _ => field.unknown()?,
            }
        }
        Ok(started)
    }
}
