//! What the server asks of the runtime, and what comes back.

use bytes::Bytes;
use selium_remote_client_protocol::ops::StartRequest;

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

/// Something to be done in the runtime.
#[derive(Clone, Debug, PartialEq)]
pub enum HostCall {
    /// Start a process. Completes with [`Completion::Started`]; it cannot be cancelled.
    Start {
        /// The operation.
        op: OpId,
        /// What to start; checked against every limit already.
        spec: Box<StartRequest>,
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
