//! A host that does nothing by itself: tests look at what was asked for and say what comes of it. And channels that act.

mod channels;

use crate::{
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
