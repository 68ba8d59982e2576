//! Checking records.

use core::fmt;
use std::{borrow::Cow, collections::BTreeMap};

use super::{MAC_FIELD, MAX_RECORD, PREFIX, START, mac, text};
use crate::{AuditKey, secret};

/// The most bytes of a line that are looked at; records in JSON lines have far less. A longer line is
/// counted in [`Report::skipped`].
pub const MAX_LINE: usize = 64 * 1024;

/// The most problems that a report names. Past it they are counted.
pub const MAX_PROBLEMS: usize = 1_000;

/// The most runs that a report names and whose order is checked. Past it their records are counted.
pub const MAX_RUNS: usize = 10_000;

/// How deep strings in strings are looked into.
const MAX_DEPTH: usize = 3;

/// What was found in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Lines that were read, of any kind.
    pub lines: u64,
    /// Lines that were longer than [`MAX_LINE`] and not looked at.
    pub skipped: u64,
    /// Records with a right MAC.
    pub records: u64,
    /// How many the server says that it left out, because there were too many.
    pub suppressed: u64,
    /// Records that are missing, as far as numbers tell.
    pub missing: u64,
    /// The runs of the server, in the order of the log.
    pub runs: Vec<Run>,
    /// Records of runs beyond [`MAX_RUNS`].
    pub more_runs: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Problems beyond [`MAX_PROBLEMS`].
    pub more_problems: u64,
}

impl Report {
    /// Whether every record is there and genuine, and there is one at least. Records may still be missing at the end of
    /// each run.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.skipped == 0 && self.more_runs == 0 && self.records > 0
    }
}

/// One run of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// Its id, in hex.
    pub run: String,
    /// The line of its first record here, from 1.
    pub line: u64,
    /// The number of its first record here: 0 unless the start is missing.
    pub first: u64,
    /// The number of its last record here.
    pub last: u64,
}

/// Something that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The line where it shows, from 1.
    pub line: u64,
    /// What it is.
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// It looks like a record and is none: it was changed, cut off, or written by somebody without the key.
    NotGenuine,
    /// Records are missing before it: these numbers, the last included.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// The first records of a run are missing, up to this number.
    StartMissing {
        /// The last that is missing.
        to: u64,
    },
    /// A record that stood there before, or stands out of order, or is of a second run with the same id.
    OutOfOrder {
        /// The id of its run, in hex.
        run: String,
        /// Its number.
        seq: u64,
    },
    /// It does not follow the record before it although its number does: two servers wrote with the same key and the
    /// same run, or records were exchanged between such.
    NotLinked {
        /// Its number.
        seq: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            ProblemKind::NotGenuine => f.write_str(
                "it looks like an audit record, but its MAC is wrong: changed, cut off, or written by another",
            ),
            ProblemKind::Gap { from, to } if from == to => {
                write!(f, "record {from} is missing before it")
            }
            ProblemKind::Gap { from, to } => {
                write!(f, "records {from} to {to} are missing before it")
            }
            ProblemKind::StartMissing { to } => {
                write!(f, "a run begins without its records 0 to {to}")
            }
            ProblemKind::OutOfOrder { run, seq } => {
                write!(f, "record {seq} of the run {run} stands twice or out of order")
            }
            ProblemKind::NotLinked { seq } => {
                write!(f, "record {seq} does not follow the record before it: another server with the same key?")
            }
        }
    }
}

/// Checks the lines of a log. Lines without a record are ignored.
pub fn verify<L: AsRef<[u8]>>(key: &AuditKey, lines: impl IntoIterator<Item = L>) -> Report {
    let mut verifier = Verifier::new(key.clone());
    for line in lines {
        verifier.line(line.as_ref());
    }
    verifier.finish()
}

/// Checks a log line by line.
#[derive(Debug)]
pub struct Verifier {
    key: AuditKey,
    report: Report,
    last: BTreeMap<[u8; 8], Last>,
}

/// The last genuine record of a run.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: usize,
    seq: u64,
    mac: mac::Mac,
}

struct Record {
    run: [u8; 8],
    seq: u64,
    start: bool,
    suppressed: u64,
    prev: [u8; 16],
    mac: mac::Mac,
}

impl Verifier {
    /// At the start of a log.
    #[must_use]
    pub fn new(key: AuditKey) -> Self {
        Self {
            key,
            report: Report::default(),
            last: BTreeMap::new(),
        }
    }

    /// The next line: a record; or a line that has one in it, as it is or as a JSON string; or any other.
    pub fn line(&mut self, line: &[u8]) {
        self.report.lines += 1;
        if line.len() > MAX_LINE {
            self.report.skipped += 1;
            return;
        }
        // Records are ASCII, so that nothing of them is lost here.
        let text = String::from_utf8_lossy(line);
        let mut found = Vec::new();
        find(&text, 0, &mut found);
        for candidate in found {
            match candidate.and_then(|it| self.read(&it)) {
                Some(record) => self.take(&record),
                None => self.problem(ProblemKind::NotGenuine),
            }
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Report {
        self.report
    }

    /// A genuine record, or `None`.
    fn read(&self, record: &str) -> Option<Record> {
        if record.len() > MAX_RECORD {
            return None;
        }
        let (body, rest) = record.rsplit_once(MAC_FIELD)?;
        let mac: mac::Mac = text::unhex(rest.strip_suffix("\"}")?)?;
        if !secret::same(&mac::mac(&self.key, body.as_bytes()), &mac) {
            return None;
        }
        // From here on it is what a chain wrote.
        let run = text::unhex(body.strip_prefix(PREFIX)?.get(..16)?)?;
        let fields = body.get(PREFIX.len() + 17..)?;
        Some(Record {
            run,
            seq: field(fields, "seq")?.parse().ok()?,
            start: field(fields, "op").is_some_and(|op| op == START),
            suppressed: field(fields, "suppressed")?.parse().ok()?,
            prev: text::unhex(&field(fields, "prev")?)?,
            mac,
        })
    }

    fn take(&mut self, record: &Record) {
        self.report.records += 1;
        self.report.suppressed = self.report.suppressed.saturating_add(record.suppressed);
        match self.last.get(&record.run) {
            Some(last) => self.go_on(*last, record),
            None => self.begin(record),
        }
    }

    fn begin(&mut self, record: &Record) {
        if let Some(to) = record.seq.checked_sub(1) {
            self.report.missing = self.report.missing.saturating_add(record.seq);
            self.problem(ProblemKind::StartMissing { to });
        } else if !record.start {
            self.problem(ProblemKind::NotLinked { seq: 0 });
        }
        if self.report.runs.len() >= MAX_RUNS {
            self.report.more_runs += 1;
            return;
        }
        let last = Last {
            at: self.report.runs.len(),
            seq: record.seq,
            mac: record.mac,
        };
        self.last.insert(record.run, last);
        self.report.runs.push(Run {
            run: text::hex(&record.run),
            line: self.report.lines,
            first: record.seq,
            last: record.seq,
        });
    }

    fn go_on(&mut self, last: Last, record: &Record) {
        let expected = last.seq.saturating_add(1);
        if record.seq < expected {
            let run = text::hex(&record.run);
            return self.problem(ProblemKind::OutOfOrder {
                run,
                seq: record.seq,
            });
        }
        if record.seq > expected {
            let missing = record.seq - expected;
            self.report.missing = self.report.missing.saturating_add(missing);
            self.problem(ProblemKind::Gap {
                from: expected,
                to: record.seq - 1,
            });
        } else if !last.mac.starts_with(&record.prev) {
            self.problem(ProblemKind::NotLinked { seq: record.seq });
        }
        if let Some(run) = self.report.runs.get_mut(last.at) {
            run.last = record.seq;
        }
        let next = Last {
            seq: record.seq,
            mac: record.mac,
            ..last
        };
        self.last.insert(record.run, next);
    }

    fn problem(&mut self, kind: ProblemKind) {
        if self.report.problems.len() < MAX_PROBLEMS {
            let line = self.report.lines;
            self.report.problems.push(Problem { line, kind });
        } else {
            self.report.more_problems += 1;
        }
    }
}

/// The value of a field, of text that a chain wrote: fields of a flat object, each after a comma.
fn field<'a>(mut fields: &'a str, name: &str) -> Option<Cow<'a, str>> {
    loop {
        let (key, rest) = fields.strip_prefix(",\"")?.split_once("\":")?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(rest) => {
                let (value, rest) = text::unquote(rest)?;
                (Cow::Owned(value), rest)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (Cow::Borrowed(rest.get(..end)?), rest.get(end..)?)
            }
        };
        if key == name {
            return Some(value);
        }
        fields = rest;
    }
}

/// The records in a text: as they are, and in its JSON strings. `None` stands for one that has no end. Every step goes on
/// behind what it has read, so that the time is in proportion to the text.
fn find(text: &str, depth: usize, found: &mut Vec<Option<String>>) {
    let mut rest = text;
    while let Some((before, _)) = rest.split_once(PREFIX) {
        find_in_strings(before, depth, found);
        let record = rest.get(before.len()..).unwrap_or_default();
        let len = record_len(record);
        found.push(len.and_then(|len| record.get(..len)).map(str::to_owned));
        rest = record
            .get(len.unwrap_or(PREFIX.len())..)
            .unwrap_or_default();
    }
    find_in_strings(rest, depth, found);
}

fn find_in_strings(text: &str, depth: usize, found: &mut Vec<Option<String>>) {
    if depth == MAX_DEPTH || !text.contains("audit") {
        return;
    }
    let mut rest = text;
    while let Some((_, literal)) = rest.split_once('"') {
        let Some(len) = literal_len(literal) else {
            // Its end is missing, and that of a record in it.
            if literal.contains("{\\\"audit\\\":1,") {
                found.push(None);
            }
            return;
        };
        if let Some((value, _)) = text::unquote(literal) {
            find(&value, depth + 1, found);
        }
        rest = literal.get(len..).unwrap_or_default();
    }
}

/// The bytes of a JSON string after its opening quote, the closing one included.
fn literal_len(literal: &str) -> Option<usize> {
    let mut escaped = false;
    literal.bytes().zip(1..).find_map(|(byte, len)| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end.then_some(len)
    })
}

/// The length of the record that a text begins with: up to the end of its object.
fn record_len(text: &str) -> Option<usize> {
    let mut inside = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().take(MAX_RECORD) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'}' if !inside => return Some(at + 1),
            _ => {}
        }
    }
    None
}
