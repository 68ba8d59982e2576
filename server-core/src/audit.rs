//! What is recorded of who did what: changing operations with their results, and refusals.
//!
//! Events come out as [`HostCall::Audit`]; whoever writes them numbers and authenticates them. A changing operation that
//! changed something is always told: such operations are bounded by the server's limits and by what the host can do.
//! Everything else (refusals, failures, stops of what is stopped) costs a client nothing, and a flood of it must not make
//! the runtime stop forwarding the module's log. So each role has a budget of its own, which another role cannot use up,
//! and what does not fit is counted and told with the next event.

use selium_remote_client_protocol::{
    CloseReason, ErrorCode, RemoteError, RequestId,
    error::clip,
    fields::FieldReader,
    limits::{MAX_ERROR_MESSAGE, MAX_MODULE},
    ops::{self, ProcessRef, op},
};

use crate::{
    connection::ConnectionId,
    host::HostCall,
    policy::RoleId,
    requests::Reply,
    server::{Server, Waiter},
    sessions::Token,
};

/// The most bytes of an event's target. A module id fits, unless most of its characters have to be escaped.
pub const MAX_AUDIT_TARGET: usize = MAX_MODULE;

/// The most bytes of an event's reason: a sentence. The client got all of it.
pub const MAX_AUDIT_REASON: usize = 200;

/// The most bytes of a peer's address that are kept: the longest there is, with a zone and a port, has 63.
pub const MAX_PEER: usize = 64;

/// The most events that may wait for the host before refusals are suppressed: a driver takes them after each input.
pub const MAX_QUEUED_EVENTS: usize = 64;

/// What one role's refusals may add to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditBudget {
    /// Events at once.
    pub burst: u32,
    /// Events a minute that come back; needs a clock.
    pub per_minute: u32,
}

/// The budget of each role. Of 16 roles and the unknown one together: 136 events at once and 34 a second, of less than a
/// KiB each, so that even a concerted flood stays far below the 512 KiB that the runtime's forwarding may lag behind.
///
/// Without a clock one event comes back with each operation that changed something. Pings give none: they are free, so
/// that a flood could pay for itself. So that a flood is seen all the same, one suppressed event is told for 64, then for
/// 128, 256 and so on: few, however long it lasts.
pub const REFUSALS: AuditBudget = AuditBudget {
    burst: 8,
    per_minute: 120,
};

/// How many events are suppressed, at first, before one is told all the same where there is no clock.
const FIRST_TOLD: u64 = 64;

/// The operation of events on hellos that were refused.
pub const HELLO: &str = "hello";

/// The operation of events on connections that the server ended.
pub const CONNECTION: &str = "connection";

/// Something that was done or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// The role of who asked for it.
    pub role: String,
    /// Its address, as the host tells it.
    pub peer: String,
    /// The operation's name, [`HELLO`] or [`CONNECTION`].
    pub operation: &'static str,
    /// What it was to be done with, as the client named it: a module id for a start, a process or a channel for
    /// others (the name that it got, for a channel that was created). Control characters, quotes and backslashes are
    /// escaped; cut at [`MAX_AUDIT_TARGET`].
    pub target: String,
    /// Whether it was done.
    pub result: Result<(), ErrorCode>,
    /// Why not, as the client was told; cut at [`MAX_AUDIT_REASON`]. Empty when it was done.
    pub reason: String,
    /// The process that was started or stopped. With an error, it was started in spite of it ("cancelled, started as").
    pub process: Option<ProcessRef>,
    /// The request, on its connection.
    pub request: Option<RequestId>,
    /// Events of all roles that were not told since the last one.
    pub suppressed: u64,
}

/// Who asked for what, kept until it is done.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) role: RoleId,
    peer: String,
    operation: &'static str,
    pub(crate) target: String,
    request: Option<RequestId>,
}

/// What there is to tell of an operation.
pub(crate) enum Done<'a> {
    /// It changed something.
    Changed(Option<&'a ProcessRef>),
    /// It changed something, and its client was told an error.
    ChangedBut(&'a ProcessRef, &'a RemoteError),
    /// What was asked for was so already.
    WasSo(Option<&'a ProcessRef>),
    /// It was refused, or it failed.
    Failed(&'a RemoteError),
}

/// What counts the events.
#[derive(Debug)]
pub(crate) struct Audit {
    suppressed: u64,
    /// Without a clock, one is told when so many are suppressed.
    told_at: u64,
    queued: usize,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            suppressed: 0,
            told_at: FIRST_TOLD,
            queued: 0,
        }
    }
}

impl Audit {
    /// The host has taken an event.
    pub(crate) fn taken(&mut self) {
        self.queued = self.queued.saturating_sub(1);
    }
}

impl Server {
    /// Who asks for what.
    pub(crate) fn asked(&self, waiter: Waiter, op: u64, body: &[u8]) -> Asked {
        let (id, request) = waiter;
        let connection = self.connections.get(&id);
        Asked {
            role: self.role_of(id),
            peer: connection.map_or_else(String::new, |connection| connection.peer.clone()),
            operation: ops::op::name(op),
            target: target(op, body),
            request: Some(request),
        }
    }

    /// Records what came of an operation.
    pub(crate) fn record(&mut self, asked: &Asked, done: &Done<'_>) {
        let (error, process, changed) = match *done {
            Done::Changed(process) => (None, process, true),
            Done::ChangedBut(process, error) => (Some(error), Some(process), true),
            Done::WasSo(process) => (None, process, false),
            Done::Failed(error) => (Some(error), None, false),
        };
        if changed {
            self.changed();
        } else if !self.may_tell(asked.role) {
            return;
        }
        let reason = error.map_or("", |error| &error.message);
        let event = AuditEvent {
            role: self.roles.get(asked.role).role.name.clone(),
            peer: asked.peer.clone(),
            operation: asked.operation,
            target: asked.target.clone(),
            result: error.map_or(Ok(()), |error| Err(error.code)),
            reason: clip(reason, MAX_AUDIT_REASON).to_owned(),
            process: process.cloned(),
            request: asked.request,
            suppressed: core::mem::take(&mut self.audit.suppressed),
        };
        self.audit.queued += 1;
        self.calls.push_back(HostCall::Audit(event));
    }

    /// Records that a request was refused.
    pub(crate) fn record_refusal(
        &mut self,
        waiter: Waiter,
        op: u64,
        body: &[u8],
        error: &RemoteError,
    ) {
        let asked = self.asked(waiter, op, body);
        self.record(&asked, &Done::Failed(error));
    }

    /// Answers a changing request, and everyone who joined it, and records what came of it.
    pub(crate) fn conclude(
        &mut self,
        asked: &Asked,
        waiter: Waiter,
        token: Option<Token>,
        result: Reply,
    ) {
        if let Err(error) = &result {
            self.record(asked, &Done::Failed(error));
        }
        self.settle(waiter, token, result);
    }

    /// Records that the server ended a connection, if it did.
    pub(crate) fn record_close(&mut self, id: ConnectionId, reason: &CloseReason) {
        let error = match reason {
            CloseReason::Local(error) => error.clone(),
            CloseReason::Protocol(words) => {
                RemoteError::new(ErrorCode::Protocol, clip(words, MAX_ERROR_MESSAGE))
            }
            CloseReason::Foreign => RemoteError::new(ErrorCode::Protocol, reason.to_string()),
            CloseReason::Legacy => RemoteError::new(ErrorCode::Unsupported, reason.to_string()),
            // It went by itself.
            _ => return,
        };
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let operation = if connection.accepted {
            CONNECTION
        } else {
            HELLO
        };
        let peer = connection.peer.clone();
        self.record_peer(connection.role, peer, operation, &error);
    }

    /// Records a refusal that belongs to no request.
    pub(crate) fn record_peer(
        &mut self,
        role: RoleId,
        peer: String,
        operation: &'static str,
        error: &RemoteError,
    ) {
        let asked = Asked {
            role,
            peer,
            operation,
            target: String::new(),
            request: None,
        };
        self.record(&asked, &Done::Failed(error));
    }

    /// Whether one more event of this role that changed nothing may be told; counts it otherwise.
    fn may_tell(&mut self, role: RoleId) -> bool {
        let (now, audit) = (self.now, &mut self.audit);
        if audit.queued < MAX_QUEUED_EVENTS && self.roles.get_mut(role).refusals.take(now) {
            return true;
        }
        if self.config.unix_origin_ms.is_none()
            && audit.suppressed >= audit.told_at
            && audit.queued < MAX_QUEUED_EVENTS
        {
            audit.told_at = audit.told_at.saturating_mul(2);
            return true;
        }
        audit.suppressed = audit.suppressed.saturating_add(1);
        false
    }

    /// Something was changed: without a clock, that is what time is measured by.
    fn changed(&mut self) {
        if self.config.unix_origin_ms.is_none() {
            for state in self.roles.iter_mut() {
                state.refusals.give();
            }
        }
    }
}

/// What a request is about: the first field of those that name something, and the name of a channel that is to be.
fn target(op: u64, body: &[u8]) -> String {
    let wanted = match op {
        op::PROCESS_START | op::PROCESS_STOP | op::PROCESS_INSPECT | op::LOG_FOLLOW => 1,
        op::CHANNEL_DELETE | op::CHANNEL_DRAIN | op::CHANNEL_INSPECT | op::CHANNEL_SHARE => 1,
        op::SUBSCRIBE | op::PUBLISH => 1,
        op::CHANNEL_CREATE => 3,
        _ => return String::new(),
    };
    let mut fields = FieldReader::new(body);
    let named = loop {
        match fields.next() {
            Ok(Some(field)) if field.number < wanted => {}
            Ok(Some(field)) if field.number == wanted => {
                break field.bytes(usize::MAX).unwrap_or_default();
            }
            _ => return String::new(),
        }
    };
    let named = named.get(..MAX_AUDIT_TARGET).unwrap_or(named);
    let shown = String::from_utf8_lossy(named).escape_debug().to_string();
    clip(&shown, MAX_AUDIT_TARGET).to_owned()
}

#[cfg(test)]
mod tests {
    use selium_remote_client_protocol::fields::FieldWriter;

    use super::*;

    #[test]
    fn targets_are_short_and_plain_whatever_was_sent() {
        let body = |bytes: &[u8]| {
            let mut fields = FieldWriter::new();
            fields.must_bytes(1, bytes);
            fields.finish()
        };
        let stop = |bytes: &[u8]| target(op::PROCESS_STOP, &body(bytes));
        assert_eq!(stop(b"web"), "web");
        assert_eq!(stop(b"a\n\"\x1b[2J"), "a\\n\\\"\\u{1b}[2J");
        assert_eq!(stop(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        for long in [vec![b'x'; 100_000], vec![0; 300], "ä".repeat(300).into()] {
            let shown = stop(&long);
            assert!((200..=MAX_AUDIT_TARGET).contains(&shown.len()), "{shown}");
            assert!(!shown.chars().any(char::is_control));
        }
        let mut fields = FieldWriter::new();
        fields.must_uint(1, 7).must_uint(2, 1).must_text(3, "data");
        let create = fields.finish();
        assert_eq!(target(op::CHANNEL_CREATE, &create), "data");
        assert_eq!(target(op::CHANNEL_CREATE, &body(b"7")), "");
        assert_eq!(target(op::SUBSCRIBE, &body(b"data")), "data");
        assert_eq!(target(op::PROCESS_LIST, &body(b"x")), "");
        assert_eq!(target(op::PROCESS_STOP, &[]), "");
        assert_eq!(target(op::PROCESS_STOP, &[0xff; 9]), "");
    }
}
