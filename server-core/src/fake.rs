//! A host that does nothing by itself: tests look at what was asked for and say what comes of it. And channels that act.

mod channels;

use std::collections::VecDeque;

use selium_remote_client_protocol::RemoteError;

use crate::{
    Server,
    audit::AuditEvent,
    host::{Host, HostCall},
};

pub use self::channels::{Act, FakeChannels};

/// Records calls.
#[derive(Debug, Default)]
pub struct FakeHost {
    /// What was asked for and not taken yet.
    pub calls: Vec<HostCall>,
    /// What was recorded and not taken yet; not among the calls.
    pub audit: Vec<AuditEvent>,
}

impl Host for FakeHost {
    fn begin(&mut self, call: HostCall) {
        match call {
            HostCall::Audit(event) => self.audit.push(event),
            call => self.calls.push(call),
        }
    }
}

impl FakeHost {
    /// Takes what was asked for.
    pub fn take(&mut self) -> Vec<HostCall> {
        core::mem::take(&mut self.calls)
    }

    /// Takes what was recorded.
    pub fn take_audit(&mut self) -> Vec<AuditEvent> {
        core::mem::take(&mut self.audit)
    }
}

/// The most refusals that wait for their requests. Past it the oldest goes.
const MAX_REFUSALS: usize = 1_024;

/// Requests that are answered with an error before they are looked at.
#[derive(Debug, Default)]
pub(crate) struct Refusals(VecDeque<(u64, RemoteError)>);

impl Refusals {
    /// The oldest refusal of this operation.
    pub(crate) fn take(&mut self, op: u64) -> Result<(), RemoteError> {
        let at = self.0.iter().position(|(refused, _)| *refused == op);
        match at.and_then(|at| self.0.remove(at)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

impl Server {
    /// Lets the next request for this operation (of `ops::op`) that the client's role allows be answered with `error`, and
    /// nothing be done. Called again, it is the one behind that. Tokens are not looked at: a retry is not known.
    pub fn refuse_next(&mut self, op: u64, error: RemoteError) {
        if self.refusals.0.len() >= MAX_REFUSALS {
            self.refusals.0.pop_front();
        }
        self.refusals.0.push_back((op, error));
    }
}
