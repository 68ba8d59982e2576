//! Writing records.

use core::fmt::Write as _;

use selium_remote_client_protocol::ErrorCode;

use super::{MAC_FIELD, MAX_REASON, MAX_TARGET, MAX_TEXT, PREFIX, START, mac, text};
use crate::AuditKey;

/// The records of one run of the server, one after another.
#[derive(Clone, Debug)]
pub struct Chain {
    key: AuditKey,
    run: [u8; 8],
    seq: u64,
    last: mac::Mac,
}

/// What a record is about.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When it happened, in milliseconds since the Unix epoch, where there is a clock.
    pub time_ms: Option<u64>,
    /// The role of who asked.
    pub role: &'a str,
    /// The address of who asked.
    pub peer: &'a str,
    /// What was asked for.
    pub op: &'a str,
    /// What it was about.
    pub target: Option<&'a str>,
    /// What came of it.
    pub result: Result<(), ErrorCode>,
    /// Why not; empty when it was done.
    pub reason: &'a str,
    /// The process that was started or stopped, by its id; empty when there is none.
    pub process: &'a str,
    /// The number of the request on its connection; 0 when it is about none.
    pub request: u64,
    /// How many records were left out since the last one.
    pub suppressed: u64,
}

impl Chain {
    /// Starts a chain, and gives its first record. `run` should differ from run to run, see [`run_id`]. Where two runs have
    /// the same, the records of one can be passed off as those of the other.
    #[must_use]
    pub fn start(key: AuditKey, run: [u8; 8], time_ms: Option<u64>) -> (Self, String) {
        let mut chain = Self {
            key,
            run,
            seq: 0,
            last: [0; 32],
        };
        let record = chain.write(&Event {
            time_ms,
            role: "",
            peer: "",
            op: START,
            target: None,
            result: Ok(()),
            reason: "",
            process: "",
            request: 0,
            suppressed: 0,
        });
        (chain, record)
    }

    /// The record of an event: one line without its end, [`super::MAX_RECORD`] bytes at most. Every record that was made
    /// must be logged, in this order; one that is not shows as a gap.
    #[must_use]
    pub fn record(&mut self, event: &Event<'_>) -> String {
        // Only the first record starts a run, whatever a caller makes of a client's words.
        let op = match event.op {
            START => "",
            op => op,
        };
        self.write(&Event { op, ..*event })
    }

    fn write(&mut self, event: &Event<'_>) -> String {
        let mut out = String::with_capacity(512);
        out.push_str(PREFIX);
        out.push_str(&text::hex(&self.run));
        out.push('"');
        number(&mut out, "seq", self.seq);
        if let Some(time) = event.time_ms {
            number(&mut out, "time_ms", time);
        }
        let texts = [
            ("role", event.role, MAX_TEXT),
            ("peer", event.peer, MAX_TEXT),
            ("op", event.op, MAX_TEXT),
            ("target", event.target.unwrap_or_default(), MAX_TARGET),
            (
                "result",
                event.result.map_or_else(ErrorCode::as_str, |()| "ok"),
                MAX_TEXT,
            ),
            ("reason", event.reason, MAX_REASON),
            ("process", event.process, MAX_TEXT),
        ];
        for (name, value, limit) in texts {
            if !value.is_empty() {
                field(&mut out, name);
                text::string(&mut out, value, limit);
            }
        }
        number(&mut out, "request", event.request);
        number(&mut out, "suppressed", event.suppressed);
        field(&mut out, "prev");
        let (prev, _) = self.last.split_at(16);
        out.push('"');
        out.push_str(&text::hex(prev));
        out.push('"');
        self.last = mac::mac(&self.key, out.as_bytes());
        // 2^64 records are never written; a saturated number would only be reported.
        self.seq = self.seq.saturating_add(1);
        out.push_str(MAC_FIELD);
        out.push_str(&text::hex(&self.last));
        out.push_str("\"}");
        out
    }
}

/// The id of a run, out of what is different in each: the time of its start, or, where there is no clock, what is known of
/// the first client.
#[must_use]
pub fn run_id(key: &AuditKey, unlike: &[u8]) -> [u8; 8] {
    let hash = mac::mac(key, &[b"run\0", unlike].concat());
    let mut run = [0; 8];
    for (to, from) in run.iter_mut().zip(hash) {
        *to = from;
    }
    run
}

/// A line of text that follows from the key and `what`, and from which nothing of the key follows.
pub(crate) fn secret_line(key: &AuditKey, what: &[u8]) -> String {
    text::hex(&mac::mac(key, &[b"line\0", what].concat()))
}

fn field(out: &mut String, name: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
}

fn number(out: &mut String, name: &str, value: u64) {
    field(out, name);
    let _ = write!(out, "{value}"); // Writing to a string cannot fail.
}
