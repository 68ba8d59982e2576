//! What was done, what went wrong, and what should not have gone wrong.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// How many unexpected errors are kept word for word; the others are counted.
const MAX_KEPT: usize = 20;

/// The book of a soak. One thread writes it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    done: RefCell<BTreeMap<&'static str, u64>>,
    legitimate: RefCell<BTreeMap<String, u64>>,
    unexpected: RefCell<Vec<String>>,
    unexpected_count: Cell<u64>,
    starts: Cell<u64>,
    connections: Cell<u64>,
}

impl Ledger {
    /// Something was done.
    pub(super) fn did(&self, what: &'static str) {
        self.did_often(what, 1);
    }

    /// Something was done so many times.
    pub(super) fn did_often(&self, what: &'static str, times: u64) {
        *self.done.borrow_mut().entry(what).or_default() += times;
    }

    /// A process was started, or may have been.
    pub(super) fn started(&self) {
        self.starts.set(self.starts.get() + 1);
    }

    /// A connection was made, or begun.
    pub(super) fn connected(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// An error that goes with what was done.
    pub(super) fn legitimate(&self, what: impl Into<String>) {
        *self.legitimate.borrow_mut().entry(what.into()).or_default() += 1;
    }

    /// An error that should not have been.
    pub(super) fn unexpected(&self, who: &str, what: &str) {
        self.unexpected_count.set(self.unexpected_count.get() + 1);
        let mut unexpected = self.unexpected.borrow_mut();
        if unexpected.len() < MAX_KEPT {
            let line = format!("{who}: {what}");
            eprintln!("unexpected: {line}");
            unexpected.push(line);
        }
    }

    /// Processes started so far.
    pub(super) fn starts(&self) -> u64 {
        self.starts.get()
    }

    /// Connections begun so far.
    pub(super) fn connections(&self) -> u64 {
        self.connections.get()
    }

    /// How many errors should not have been.
    pub(super) fn unexpected_count(&self) -> u64 {
        self.unexpected_count.get()
    }

    /// What was done, by kind.
    pub(super) fn done(&self) -> Vec<(&'static str, u64)> {
        self.done
            .borrow()
            .iter()
            .map(|(what, times)| (*what, *times))
            .collect()
    }

    /// Errors that go with what was done, by kind.
    pub(super) fn errors(&self) -> Vec<(String, u64)> {
        let errors = self.legitimate.borrow();
        errors
            .iter()
            .map(|(what, times)| (what.clone(), *times))
            .collect()
    }

    /// The first errors that should not have been.
    pub(super) fn kept(&self) -> Vec<String> {
        self.unexpected.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_little_is_kept() {
        let ledger = Ledger::default();
        for _ in 0..MAX_KEPT + 5 {
            ledger.unexpected("visitor", "hm");
            ledger.legitimate("not found");
            ledger.did("list");
        }
        assert_eq!(ledger.unexpected_count(), 25);
        assert_eq!(ledger.kept().len(), MAX_KEPT);
        assert_eq!(ledger.errors(), [("not found".to_owned(), 25)]);
        assert_eq!(ledger.done(), [("list", 25)]);
    }
}
