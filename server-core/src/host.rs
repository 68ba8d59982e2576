//! What the server asks of the runtime, and what comes back.

use bytes::Bytes;
use selium_remote_client_protocol::ops::{Backpressure, StartRequest};

use crate::audit::AuditEvent;

/// An operation of the host that was asked for and has not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// The runtime's own id of a process. It never leaves the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostProcess(pub u64);

/// A log that the host looks for, reads, or has read. Chosen by the server, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

/// A channel that the server made. Chosen by the server, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostChannel(pub u64);

/// A reader of a channel, on behalf of all subscribers of one kind. Chosen by the server, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// A writer to a channel, on behalf of one publication. Chosen by the server, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub u64);

/// Something to be done in the runtime.
#[derive(Clone, Debug, PartialEq)]
pub enum HostCall {
    /// Start a process. Completes with [`Completion::Started`]; it cannot be cancelled.
    Start {
        /// The operation.
        op: OpId,
        /// What to start; checked against every limit already. Arguments that are resources are the ids of `channels`.
        spec: Box<StartRequest>,
        /// The channels among the arguments, by their ids, each once.
        channels: Vec<(u64, HostChannel)>,
    },
    /// Stop a process. Completes with [`Completion::Stopped`].
    Stop {
        /// The operation.
        op: OpId,
        /// The process.
        process: HostProcess,
    },
    /// Look for a process's log channel and read it from its oldest record on. Completes with
    /// [`Completion::LogOpened`] or [`Completion::LogMissing`]; then [`Completion::LogRecord`]s and
    /// [`Completion::LogLost`]s come until [`Completion::LogEnded`].
    OpenLog {
        /// The log.
        log: LogId,
        /// The process.
        process: HostProcess,
        /// How often the log was looked for before. The host waits longer each time, if it has a clock.
        attempt: u32,
    },
    /// Make the log's reader look once more: its last record may have stayed invisible (see [`crate::quiet`]). Completes
    /// with nothing.
    NudgeLog {
        /// The log.
        log: LogId,
    },
    /// Stop reading a log, after what it holds was read, and free what it takes in the runtime. Completes with
    /// [`Completion::LogEnded`].
    CloseLog {
        /// The log.
        log: LogId,
    },
    /// Create a channel. Completes with [`Completion::ChannelDone`].
    CreateChannel {
        /// The operation.
        op: OpId,
        /// What the server calls it from now on; forgotten when the creation fails.
        channel: HostChannel,
        /// Its size in bytes: a power of two.
        capacity: u32,
        /// What becomes of messages without room.
        backpressure: Backpressure,
    },
    /// Delete a channel for everybody. Completes with [`Completion::ChannelDone`]; its readers and writers end by themselves.
    DeleteChannel {
        /// The operation.
        op: OpId,
        /// The channel.
        channel: HostChannel,
    },
    /// Let a channel take no new messages. Completes with [`Completion::ChannelDone`].
    DrainChannel {
        /// The operation.
        op: OpId,
        /// The channel.
        channel: HostChannel,
    },
    /// Make a channel known to the runtime, for processes. Completes with [`Completion::ChannelDone`].
    ShareChannel {
        /// The operation.
        op: OpId,
        /// The channel.
        channel: HostChannel,
    },
    /// Read a channel. [`Completion::Read`]s and [`Completion::ReadLost`]s come until [`Completion::ReaderEnded`].
    OpenReader {
        /// The reader.
        reader: ReaderId,
        /// The channel.
        channel: HostChannel,
        /// Whether writers wait for it.
        lossless: bool,
    },
    /// Begin no more reads on a reader, until [`HostCall::ResumeReader`]. The one that runs may still bring a message.
    PauseReader {
        /// The reader.
        reader: ReaderId,
    },
    /// Go on reading.
    ResumeReader {
        /// The reader.
        reader: ReaderId,
    },
    /// Make a reader look once more: the last message may have stayed invisible. Completes with nothing.
    NudgeReader {
        /// The reader.
        reader: ReaderId,
    },
    /// Stop reading at once, so that no writer waits for the reader. Completes with [`Completion::ReaderEnded`], unless that
    /// crosses it; what is still read is of no use. It does not come for readers of a channel that was deleted.
    CloseReader {
        /// The reader.
        reader: ReaderId,
    },
    /// Write a message to a channel, behind those that the writer has. Each completes with [`Completion::Written`], in their
    /// order. The host keeps no idle writer open.
    Write {
        /// The writer; it exists from its first message on.
        writer: WriterId,
        /// The channel.
        channel: HostChannel,
        /// The message.
        bytes: Bytes,
    },
    /// Nothing more comes for a writer: once for each that had a message, also when its channel was deleted. What it has is
    /// still written, and completed.
    CloseWriter {
        /// The writer.
        writer: WriterId,
    },
    /// Write down who did what, or was refused. Completes with nothing.
    Audit(AuditEvent),
}

/// Something that came of a [`HostCall`].
#[derive(Clone, Debug, PartialEq)]
pub enum Completion {
    /// A start is over: the process, or the host's words.
    Started {
        /// The operation.
        op: OpId,
        /// The process, or the host's words.
        result: Result<HostProcess, String>,
    },
    /// A stop is over.
    Stopped {
        /// The operation.
        op: OpId,
        /// The host's words when it failed.
        result: Result<(), StopFailure>,
    },
    /// The log is there and is being read.
    LogOpened {
        /// The log.
        log: LogId,
    },
    /// The process has not shown a log (yet).
    LogMissing {
        /// The log.
        log: LogId,
    },
    /// A record was read.
    LogRecord {
        /// The log.
        log: LogId,
        /// Its bytes, as the process wrote them.
        bytes: Bytes,
    },
    /// The reader was too slow: an unknown number of records is missing here.
    LogLost {
        /// The log.
        log: LogId,
    },
    /// The log is over; nothing more comes of it.
    LogEnded {
        /// The log.
        log: LogId,
    },
    /// A create, delete, drain or share is over.
    ChannelDone {
        /// The operation.
        op: OpId,
        /// The host's words when it failed.
        result: Result<(), String>,
    },
    /// The runtime has a channel no more, though the server did not delete it: a process did. What is asked of it from now on
    /// may be answered with anything; its readers and writers end by themselves.
    ChannelGone {
        /// The channel.
        channel: HostChannel,
    },
    /// A message was read.
    Read {
        /// The reader.
        reader: ReaderId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// The reader was too slow: an unknown number of messages is missing here.
    ReadLost {
        /// The reader.
        reader: ReaderId,
    },
    /// The reader is gone; nothing more comes of it.
    ReaderEnded {
        /// The reader.
        reader: ReaderId,
        /// The host's words, when it was not because the reader was closed or the channel deleted or drained.
        error: Option<String>,
    },
    /// The oldest message that a writer had is in the channel, or will never be.
    Written {
        /// The writer.
        writer: WriterId,
        /// The host's words when it failed; later messages of the writer may still succeed.
        result: Result<(), String>,
    },
}

/// Why a stop failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopFailure {
    /// The runtime has no such process (any more).
    Gone,
    /// The host's words.
    Failed(String),
}

/// Carries out what the server asks for. The driver's side of [`HostCall`].
pub trait Host {
    /// Begins `call`; what comes of it goes to [`crate::Server::handle_host`], later and never from within.
    fn begin(&mut self, call: HostCall);

    /// What came at once of the call that was just begun: it could not be.
    fn refused(&mut self) -> Option<Completion> {
        None
    }
}
