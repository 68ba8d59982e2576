//! Writing down who did what: records that follow from each other when there is a key, plain ones otherwise.

use std::fmt::Write as _;

use selium_remote_provision::{
    AuditKey,
    audit::{Chain, Event, run_id},
};
use selium_remote_server_core::{AuditEvent, ids};

/// The target of the records in the module's log.
const TARGET: &str = "audit";

/// The log of this run.
#[derive(Debug)]
pub(crate) enum AuditLog {
    /// Without a key.
    Plain,
    /// With a key, before the first record.
    Waiting(AuditKey),
    /// With a key.
    Chained(Box<Chain>),
}

/// What there is to tell this run from others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since the Unix epoch at the server's start, if there is a clock.
    pub(crate) origin_ms: Option<u64>,
    /// The same now.
    pub(crate) now_ms: Option<u64>,
    /// The server's incarnation, if there is one yet.
    pub(crate) incarnation: Option<[u8; 16]>,
}

impl AuditLog {
    pub(crate) fn new(key: Option<AuditKey>) -> Self {
        key.map_or(Self::Plain, Self::Waiting)
    }

    /// Begins the run, if this moment is like no other: with a clock it is.
    pub(crate) fn begin(&mut self, moment: Moment) {
        if moment.origin_ms.is_some() {
            self.chain(moment, "");
        }
    }

    /// Writes a record.
    pub(crate) fn record(&mut self, moment: Moment, event: &AuditEvent) {
        match self.chain(moment, &event.peer) {
            Some(chain) => say(&chain.record(&Event {
                time_ms: moment.now_ms,
                role: &event.role,
                peer: &event.peer,
                op: event.operation,
                target: Some(&event.target),
                result: event.result,
                reason: &event.reason,
                process: &process(event),
                request: event.request.map_or(0, |request| request.get()),
                suppressed: event.suppressed,
            })),
            None => plain(event),
        }
    }

    /// The chain, begun if it was not; `None` without a key.
    fn chain(&mut self, moment: Moment, peer: &str) -> Option<&mut Chain> {
        if let Self::Waiting(key) = self {
            let mut unlike = String::new();
            // Writing to a string cannot fail.
            let _ = write!(
                unlike,
                "{:?} {:?} {peer}",
                moment.origin_ms, moment.incarnation
            );
            let run = run_id(key, unlike.as_bytes());
            let (chain, first) = Chain::start(key.clone(), run, moment.now_ms);
            say(&first);
            *self = Self::Chained(Box::new(chain));
        }
        match self {
            Self::Chained(chain) => Some(chain),
            _ => None,
        }
    }
}

fn process(event: &AuditEvent) -> String {
    event
        .process
        .as_ref()
        .map_or_else(String::new, |process| ids::show(process.id))
}

fn say(record: &str) {
    tracing::info!(target: TARGET, "{record}");
}

fn plain(event: &AuditEvent) {
    tracing::info!(
        target: TARGET,
        role = event.role,
        peer = event.peer,
        operation = event.operation,
        target = event.target,
        result = event.result.err().map_or("ok", |code| code.as_str()),
        reason = event.reason,
        process = process(event),
        request = event.request.map(|request| request.get()),
        suppressed = event.suppressed,
        "audit"
    );
}
