//! Log records of guests.

use super::Source;
use crate::log_record::{LogField, LogLevel, LogRecord, LogSpan};

/// The log-record decoder: the first byte says whether the rest is a record's bytes, or decides how one is written and
/// then torn. What is read is no larger than what was there, and reads the same when it is written again.
pub fn log_record(data: &[u8]) {
    let mut source = Source::new(data);
    if source.flag() {
        let mut bytes = write_log_record(&any_record(&mut source));
        check(&bytes);
        while !source.is_empty() {
            let (at, byte) = (usize::from(source.word()), source.byte());
            let at = at % bytes.len();
            bytes[at] = byte;
            if source.below(32) == 31 {
                bytes.truncate(at.max(1));
            }
            check(&bytes);
        }
    } else {
        check(source.rest());
    }
}

fn check(bytes: &[u8]) {
    let record = match LogRecord::decode(bytes) {
        Ok(record) => record,
        Err(error) => {
            assert!(error.at <= bytes.len(), "the error lies behind the record");
            return;
        }
    };
    let texts = texts(&record);
    // A byte that is no text takes three as a replacement character; offsets that share a text can double it.
    let text_bytes: usize = texts.iter().map(|text| text.len()).sum();
    assert!(text_bytes <= 6 * bytes.len(), "text from nowhere");
    let tables = record.spans.len()
        + record.fields.len()
        + record
            .spans
            .iter()
            .map(|span| span.fields.len())
            .sum::<usize>();
    assert!(tables <= 1_024, "more tables than a record may have");
    assert_eq!(
        record.time_ms().is_some(),
        record.timestamp_ms >= 1_000_000_000_000
    );
    assert_eq!(LogRecord::decode(&write_log_record(&record)), Ok(record));
}

fn texts(record: &LogRecord) -> Vec<&str> {
    let mut texts = vec![record.target.as_str(), record.message.as_str()];
    let fields = record
        .fields
        .iter()
        .chain(record.spans.iter().flat_map(|span| &span.fields));
    for field in fields {
        texts.extend([field.key.as_str(), field.value.as_str()]);
    }
    texts.extend(record.spans.iter().map(|span| span.name.as_str()));
    texts
}

fn any_record(source: &mut Source<'_>) -> LogRecord {
    let levels = [
        LogLevel::Trace,
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Warn,
        LogLevel::Error,
    ];
    let fields = |source: &mut Source<'_>| {
        (0..source.below(6))
            .map(|_| LogField {
                key: source.text(40),
                value: source.text(300),
            })
            .collect()
    };
    LogRecord {
        level: levels[usize::from(source.below(5))],
        target: source.text(100),
        message: source.text(2_000),
        fields: fields(source),
        spans: (0..source.below(4))
            .map(|_| LogSpan {
                name: source.text(40),
                fields: fields(source),
            })
            .collect(),
        timestamp_ms: source.number(),
    }
}

/// Writes a record as a FlatBuffer, one table after another; texts that are empty are left out.
#[must_use]
pub fn write_log_record(record: &LogRecord) -> Vec<u8> {
    let mut out = Writer(vec![0; 4]);
    // Slots of the root: level, target, message, fields, spans, timestamp; the timestamp takes two words.
    let root = out.table(0, &[4, 4, 4, 4, 4, 8]);
    out.0[root[0]] = match record.level {
        LogLevel::Trace => 0,
        LogLevel::Debug => 1,
        LogLevel::Info => 2,
        LogLevel::Warn => 3,
        LogLevel::Error => 4,
    };
    let time = root[5];
    out.0[time..time + 8].copy_from_slice(&record.timestamp_ms.to_le_bytes());
    out.text(&root, 1, &record.target);
    out.text(&root, 2, &record.message);
    out.fields(&root, 3, &record.fields);
    let first = out.vector(root[4], record.spans.len());
    for (index, span) in record.spans.iter().enumerate() {
        let table = out.table(first + 4 * index, &[4, 4]);
        out.text(&table, 0, &span.name);
        out.fields(&table, 1, &span.fields);
    }
    out.0
}

/// Enough of FlatBuffers to write records: everything stands behind what points to it.
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: usize) {
        self.0.extend((value as u32).to_le_bytes());
    }

    fn point_here(&mut self, at: usize) {
        let offset = (self.0.len() - at) as u32;
        self.0[at..at + 4].copy_from_slice(&offset.to_le_bytes());
    }

    /// A table with fields of these sizes, to which `at` points; answers where its fields stand, and last its vtable.
    fn table(&mut self, at: usize, sizes: &[usize]) -> Vec<usize> {
        let vtable = self.0.len();
        let u16s = |out: &mut Vec<u8>, value: usize| out.extend((value as u16).to_le_bytes());
        u16s(&mut self.0, 4 + 2 * sizes.len());
        u16s(&mut self.0, 4 + sizes.iter().sum::<usize>());
        let mut offset = 4;
        for size in sizes {
            u16s(&mut self.0, offset);
            offset += size;
        }
        self.point_here(at);
        self.u32(self.0.len() - vtable);
        let mut places = Vec::new();
        for size in sizes {
            places.push(self.0.len());
            self.0.extend(vec![0; *size]);
        }
        places.push(vtable);
        places
    }

    /// A text, or no field when it is empty.
    fn text(&mut self, table: &[usize], slot: usize, text: &str) {
        if text.is_empty() {
            let vtable = table[table.len() - 1];
            let place = vtable + 4 + 2 * slot;
            self.0[place..place + 2].fill(0);
            return;
        }
        self.point_here(table[slot]);
        self.u32(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn vector(&mut self, at: usize, count: usize) -> usize {
        self.point_here(at);
        self.u32(count);
        let first = self.0.len();
        self.0.extend(vec![0; 4 * count]);
        first
    }

    fn fields(&mut self, table: &[usize], slot: usize, fields: &[LogField]) {
        let first = self.vector(table[slot], fields.len());
        for (index, field) in fields.iter().enumerate() {
            let table = self.table(first + 4 * index, &[4, 4]);
            self.text(&table, 0, &field.key);
            self.text(&table, 1, &field.value);
        }
    }
}
