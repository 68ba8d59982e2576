//! Logs of processes, as streams.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use selium_remote_client_protocol::{
    log_record::{LogRecord, LogRecordError},
    ops::{FollowRequest, FollowStarted, LogState},
};

use crate::{
    ClientError, ProcessId,
    call::{Ask, Held},
    incoming::{Incoming, Item, Source, beginning},
};

/// Which part of a log is wanted. The default: all records that the server retains, then new ones as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    tail: Option<u64>,
    since: Option<u64>,
    no_follow: bool,
}

impl LogOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of the retained records only the last ones, so many at most.
    #[must_use]
    pub fn tail(mut self, records: u64) -> Self {
        self.tail = Some(records);
        self
    }

    /// Only records with this sequence number or a later one. [`LogStream::position`] is the number to go on with
    /// after a connection was lost: nothing comes twice then, and what is missing is told.
    #[must_use]
    pub fn since(mut self, sequence: u64) -> Self {
        self.since = Some(sequence);
        self
    }

    /// Whether to wait for new records behind the retained ones (the default), or to end there.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.no_follow = !follow;
        self
    }

    pub(crate) fn request(self, target: String) -> FollowRequest {
        FollowRequest::with(|made| {
            made.target = target;
            made.tail = self.tail;
            made.since = self.since;
            made.no_follow = self.no_follow;
        })
    }
}

/// What a log has next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogItem {
    /// A record.
    Record {
        /// Its number in the log, counted by the server from 0.
        sequence: u64,
        /// The record.
        record: LogRecord,
    },
    /// Something that is no log record: the guest wrote it, or the runtime tore it.
    Unreadable {
        /// Its number in the log.
        sequence: u64,
        /// What is wrong.
        error: LogRecordError,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Records are missing here.
    Gap {
        /// The number of the next record.
        next: u64,
        /// How many are missing, where that is known: the server counts what it dropped itself, not what the runtime
        /// did.
        count: Option<u64>,
    },
}

/// A process's log: a stream of [`LogItem`]s (PROTOCOL.md, "Operations" and "Credit").
///
/// It ends (`None`) when everything that was asked for has come: the records retained, without
/// [`LogOptions::follow`]; otherwise when the log has ended or the process was stopped. [`LogStream::end_reason`] tells
/// which. Everything else is an error, after which it is over too: [`ClientError::Remote`] when the server gives up,
/// [`ClientError::Closed`] and [`ClientError::GaveUp`] when there is no connection any more.
///
/// When the connection is lost and made again ([`Reconnect`](crate::Reconnect)), the stream goes on behind what was read,
/// as soon as it is read on: nothing comes twice, and what the server does not have any more is a [`LogItem::Gap`]. A
/// server that was restarted knows nothing of the log: [`ClientError::NewIncarnation`].
///
/// What arrives is held until it is read, 64 KiB at most (one record may be larger); the server waits meanwhile and
/// drops the oldest records when it has to, which a [`LogItem::Gap`] tells. Dropping the stream ends it on the server.
pub struct LogStream {
    incoming: Incoming,
    process: ProcessId,
    name: String,
    first: u64,
    next: u64,
    state: LogState,
}

impl fmt::Debug for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStream")
            .field("process", &self.process)
            .field("position", &self.position())
            .field("end_reason", &self.end_reason())
            .finish_non_exhaustive()
    }
}

impl LogStream {
    pub(crate) fn new(held: Held, ask: Ask, started: FollowStarted, options: LogOptions) -> Self {
        let retained = (started.first, started.next);
        let position = beginning(retained, options.since, options.tail, started.first);
        let source = Source::Log {
            request: options.request(ProcessId(started.process.id).to_string()),
            end: options.no_follow.then_some(started.next),
        };
        Self {
            incoming: Incoming::new(held, source, ask, position),
            process: ProcessId(started.process.id),
            name: started.process.name,
            first: started.first,
            next: started.next,
            state: started.log,
        }
    }

    /// The process whose log it is.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// The process's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first sequence number that the server still had when the stream began.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.first
    }

    /// The sequence number that the next new record was to get when the stream began: records before it are old ones.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// What the server knew of the log when the stream began.
    #[must_use]
    pub fn log_state(&self) -> LogState {
        self.state
    }

    /// The sequence number behind what was read: what to give to [`LogOptions::since`] to go on here.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.incoming.position()
    }

    /// Why the stream ended, once it has, if the server told; for example "the process was stopped".
    #[must_use]
    pub fn end_reason(&self) -> Option<&str> {
        self.incoming.end_reason()
    }

    /// The next item, for programs without a stream library.
    ///
    /// # Errors
    /// As the stream.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<LogItem, ClientError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<LogItem, ClientError>>> {
        let polled = self.incoming.poll_item(cx);
        polled.map(|item| item.map(|item| item.map(LogItem::from)))
    }
}

impl From<Item> for LogItem {
    fn from(item: Item) -> Self {
        match item {
            Item::Message { sequence, payload } => {
                let bytes = payload.into_bytes();
                match LogRecord::decode(&bytes) {
                    Ok(record) => LogItem::Record { sequence, record },
                    Err(error) => LogItem::Unreadable {
                        sequence,
                        error,
                        bytes,
                    },
                }
            }
            Item::Gap { next, count } => LogItem::Gap { next, count },
        }
    }
}

impl Stream for LogStream {
    type Item = Result<LogItem, ClientError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl FusedStream for LogStream {
    fn is_terminated(&self) -> bool {
        self.incoming.is_over()
    }
}
