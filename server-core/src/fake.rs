//! A host that does nothing by itself: tests look at what was asked for and say what comes of it.

use crate::host::{Host, HostCall};

/// Records calls.
#[derive(Debug, Default)]
pub struct FakeHost {
    /// What was asked for and not taken yet.
    pub calls: Vec<HostCall>,
}

impl Host for FakeHost {
    fn begin(&mut self, call: HostCall) {
        self.calls.push(call);
    }
}

impl FakeHost {
    /// Takes what was asked for.
    pub fn take(&mut self) -> Vec<HostCall> {
        core::mem::take(&mut self.calls)
    }
}
