//! Records between the code that logs (synchronously, anywhere) and the task that writes.

use core::{fmt, task::Waker};
use std::collections::VecDeque;

use tracing_core::LevelFilter;

use super::{
    MAX_FIELDS, MAX_KEY, MAX_MESSAGE, MAX_QUEUED_BYTES, MAX_QUEUED_RECORDS, MAX_SPAN_DEPTH,
    MAX_SPANS, MAX_TARGET, MAX_VALUE,
    flat::{self, Record},
};
use crate::host::clip;

/// Collects formatted text up to a limit and drops the rest, so that the `Debug` of something huge costs no memory.
pub(super) struct Bounded {
    text: String,
    max: usize,
}

impl Bounded {
    pub(super) fn new(max: usize) -> Self {
        Self {
            text: String::new(),
            max,
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let part = clip(text, self.max.saturating_sub(self.text.len()));
        self.text.push_str(part);
        if part.len() < text.len() {
            // Cut for good: nothing shorter that follows may slip in behind the gap.
            self.max = self.text.len();
        }
        Ok(())
    }
}

/// What an event said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, String)>,
}

/// The log's state, one per thread.
pub(super) struct State {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Records lost since the last one that was queued.
    suppressed: u64,
    /// Records lost in all.
    pub(super) suppressed_in_all: u64,
    unix_ms: Option<u64>,
    counter: u64,
    pub(super) max_level: LevelFilter,
    pub(super) waker: Option<Waker>,
    /// Names and reference counts of open spans.
    spans: Vec<Option<(&'static str, u32)>>,
    /// Entered spans, outermost first.
    entered: Vec<u64>,
}

impl State {
    pub(super) const fn new() -> Self {
        Self {
            records: VecDeque::new(),
            bytes: 0,
            suppressed: 0,
            suppressed_in_all: 0,
            unix_ms: None,
            counter: 0,
            max_level: LevelFilter::INFO,
            waker: None,
            spans: Vec::new(),
            entered: Vec::new(),
        }
    }

    pub(super) fn set_now(&mut self, unix_ms: u64) {
        self.unix_ms = Some(unix_ms);
    }

    fn timestamp(&mut self) -> u64 {
        self.unix_ms.unwrap_or_else(|| {
            self.counter += 1;
            self.counter - 1
        })
    }

    /// Encodes a record with all limits applied; `suppressed` becomes a field of its own.
    pub(super) fn encode(
        &mut self,
        level: u8,
        target: &str,
        said: &Said,
        suppressed: u64,
    ) -> Vec<u8> {
        let count = suppressed.to_string();
        let mut fields: Vec<(&str, &str)> = Vec::with_capacity(said.fields.len() + 1);
        fields.extend(
            said.fields
                .iter()
                .take(MAX_FIELDS)
                .map(|(key, value)| (clip(key, MAX_KEY), clip(value, MAX_VALUE))),
        );
        if suppressed > 0 {
            fields.push(("suppressed", &count));
        }
        let timestamp_ms = self.timestamp();
        let names = self
            .entered
            .iter()
            .filter_map(|id| self.span(*id))
            .take(MAX_SPAN_DEPTH);
        let spans: Vec<&str> = names.map(|name| clip(name, MAX_KEY)).collect();
        flat::encode(&Record {
            level,
            target: clip(target, MAX_TARGET),
            message: clip(&said.message, MAX_MESSAGE),
            fields: &fields,
            spans: &spans,
            timestamp_ms,
        })
    }

    /// Queues a record, or counts it as suppressed.
    pub(super) fn push(&mut self, level: u8, target: &str, said: &Said) {
        if self.records.len() >= MAX_QUEUED_RECORDS {
            self.lost_one();
            return;
        }
        let record = self.encode(level, target, said, self.suppressed);
        if self.bytes + record.len() > MAX_QUEUED_BYTES {
            self.lost_one();
            return;
        }
        self.suppressed = 0;
        self.bytes += record.len();
        self.records.push_back(record);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let record = self.records.pop_front()?;
        self.bytes -= record.len();
        Some(record)
    }

    /// Records that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.records.len()
    }

    /// Counts a record that could not be written.
    pub(super) fn lost_one(&mut self) {
        self.suppressed = self.suppressed.saturating_add(1);
        self.suppressed_in_all = self.suppressed_in_all.saturating_add(1);
    }

    /// Records that a dying module will not write any more.
    pub(super) fn unwritten(&self) -> u64 {
        self.suppressed.saturating_add(self.records.len() as u64)
    }

    fn span(&self, id: u64) -> Option<&'static str> {
        self.spans
            .get(Self::index(id))
            .copied()
            .flatten()
            .map(|(name, _)| name)
    }

    fn index(id: u64) -> usize {
        // Ids are index + 1; `MAX_SPANS + 1` stands for all spans that found no room and is never in the table.
        usize::try_from(id).unwrap_or(usize::MAX).wrapping_sub(1)
    }

    pub(super) fn open_span(&mut self, name: &'static str) -> u64 {
        let free = self
            .spans
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.spans.len());
        if free >= MAX_SPANS {
            return MAX_SPANS as u64 + 1;
        }
        match self.spans.get_mut(free) {
            Some(entry) => *entry = Some((name, 1)),
            None => self.spans.push(Some((name, 1))),
        }
        free as u64 + 1
    }

    pub(super) fn clone_span(&mut self, id: u64) {
        if let Some(Some((_, count))) = self.spans.get_mut(Self::index(id)) {
            *count = count.saturating_add(1);
        }
    }

    /// Drops a reference; whether it was the last.
    pub(super) fn close_span(&mut self, id: u64) -> bool {
        let Some(entry) = self.spans.get_mut(Self::index(id)) else {
            return false;
        };
        let Some((_, count)) = entry else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            *entry = None;
        }
        last
    }

    pub(super) fn enter(&mut self, id: u64) {
        // Deeper nesting is not recorded; `exit` finds nothing to remove then.
        if self.entered.len() < MAX_SPANS {
            self.entered.push(id);
        }
    }

    pub(super) fn exit(&mut self, id: u64) {
        if let Some(at) = self.entered.iter().rposition(|entered| *entered == id) {
            self.entered.remove(at);
        }
    }
}
