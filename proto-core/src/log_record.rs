//! Log records of guests: FlatBuffers of `selium.logging.LogRecord`, read with every offset checked.
//!
//! A record travels through the control plane as the guest wrote it. Its bytes are hostile input even from good guests
//! (a lossy read of the runtime's ring can be torn), so this reader checks every offset, follows nothing twice, and
//! allocates no more than a small multiple of the record's own length.
//!
//! ```text
//! LogRecord { level: byte, target: string, message: string, fields: [Field], spans: [Span], timestamp_ms: ulong }
//! Field { key: string, value: string }            Span { name: string, fields: [Field] }
//! ```

use core::fmt;

use thiserror::Error;

/// How severe a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Trace.
    #[default]
    Trace,
    /// Debug.
    Debug,
    /// Info.
    Info,
    /// Warn.
    Warn,
    /// Error.
    Error,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LogLevel::Trace => "TRACE",
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warn => "WARN",
            LogLevel::Error => "ERROR",
        })
    }
}

/// A key and a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogField {
    /// The key.
    pub key: String,
    /// The value, as the guest printed it.
    pub value: String,
}

/// A span that the record was written in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSpan {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<LogField>,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecord {
    /// How severe.
    pub level: LogLevel,
    /// Where from, by convention the guest's module path.
    pub target: String,
    /// What.
    pub message: String,
    /// Details.
    pub fields: Vec<LogField>,
    /// The spans, as the guest listed them.
    pub spans: Vec<LogSpan>,
    /// Milliseconds since the Unix epoch; a mere counter when the guest has no clock (see [`LogRecord::time_ms`]).
    pub timestamp_ms: u64,
}

/// The bytes are no log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("no log record: {what} at byte {at}")]
pub struct LogRecordError {
    /// Where, in bytes.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Timestamps before this one (2001-09-09) are counters of guests without a clock.
const FIRST_REAL_TIME_MS: u64 = 1_000_000_000_000;

/// The most texts of one record, so that offsets which share a text cannot multiply it.
const MAX_TEXTS: usize = 1_024;

impl LogRecord {
    /// When it was written (milliseconds since the Unix epoch), if its guest has a clock.
    #[must_use]
    pub fn time_ms(&self) -> Option<u64> {
        (self.timestamp_ms >= FIRST_REAL_TIME_MS).then_some(self.timestamp_ms)
    }

    /// Reads a record. Text that is not UTF-8 is read with replacement characters.
    ///
    /// # Errors
    /// When an offset points outside, or the record names more text than it can hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogRecordError> {
        let mut reader = Reader {
            bytes,
            texts: MAX_TEXTS,
            text_bytes: bytes.len().saturating_mul(2),
        };
        let root = reader.table(0)?;
        let level = match root.field(&reader, 4)? {
            Some(at) => reader.array(at)?,
            None => [0u8],
        };
        let timestamp_ms = match root.field(&reader, 14)? {
            Some(at) => u64::from_le_bytes(reader.array(at)?),
            None => 0,
        };
        Ok(Self {
            level: match level {
                [1] => LogLevel::Debug,
                [3] => LogLevel::Warn,
                [4] => LogLevel::Error,
                [0] => LogLevel::Trace,
                _ => LogLevel::Info,
            },
            target: reader.text(&root, 6)?,
            message: reader.text(&root, 8)?,
            fields: reader.fields(&root, 10)?,
            spans: reader.spans(&root, 12)?,
            timestamp_ms,
        })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    texts: usize,
    text_bytes: usize,
}

/// A table: where it and its vtable stand.
struct Table {
    at: usize,
    vtable: usize,
    vtable_len: usize,
}

impl Table {
    /// Where the field with this vtable offset stands, if the table has it.
    fn field(&self, reader: &Reader<'_>, slot: usize) -> Result<Option<usize>, LogRecordError> {
        if slot + 2 > self.vtable_len {
            return Ok(None);
        }
        let offset = usize::from(u16::from_le_bytes(reader.array(self.vtable + slot)?));
        Ok((offset != 0).then_some(self.at + offset))
    }
}

impl Reader<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], LogRecordError> {
        at.checked_add(N)
            .and_then(|end| self.bytes.get(at..end))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(LogRecordError {
                at: at.min(self.bytes.len()),
                what: "the record ends",
            })
    }

    /// Follows the forward offset at `at`.
    fn follow(&self, at: usize) -> Result<usize, LogRecordError> {
        let offset = u32::from_le_bytes(self.array(at)?) as usize;
        at.checked_add(offset)
            .filter(|to| offset > 0 && *to < self.bytes.len())
            .ok_or(LogRecordError {
                at,
                what: "an offset points outside",
            })
    }

    /// The table that the offset at `at` points to.
    fn table(&self, at: usize) -> Result<Table, LogRecordError> {
        let at = self.follow(at)?;
        let back = i64::from(i32::from_le_bytes(self.array(at)?));
        let outside = LogRecordError {
            at,
            what: "a vtable lies outside",
        };
        let vtable = usize::try_from(at as i64 - back).map_err(|_| outside)?;
        let vtable_len = usize::from(u16::from_le_bytes(self.array(vtable)?));
        if vtable_len < 4 || vtable + vtable_len > self.bytes.len() {
            return Err(outside);
        }
        Ok(Table {
            at,
            vtable,
            vtable_len,
        })
    }

    /// The elements' places of the vector that the field points to.
    fn vector(&self, table: &Table, slot: usize) -> Result<Vec<usize>, LogRecordError> {
        let Some(field) = table.field(self, slot)? else {
            return Ok(Vec::new());
        };
        let at = self.follow(field)?;
        let count = u32::from_le_bytes(self.array(at)?) as usize;
        let first = at + 4;
        if count > self.bytes.len().saturating_sub(first) / 4 {
            return Err(LogRecordError {
                at,
                what: "a vector ends outside",
            });
        }
        Ok((0..count).map(|index| first + 4 * index).collect())
    }

    fn text(&mut self, table: &Table, slot: usize) -> Result<String, LogRecordError> {
        let Some(field) = table.field(self, slot)? else {
            return Ok(String::new());
        };
        let at = self.follow(field)?;
        let len = u32::from_le_bytes(self.array(at)?) as usize;
        let text = (at + 4)
            .checked_add(len)
            .and_then(|end| self.bytes.get(at + 4..end))
            .ok_or(LogRecordError {
                at,
                what: "a text ends outside",
            })?;
        let too_much = LogRecordError {
            at,
            what: "more text than the record can hold",
        };
        self.texts = self.texts.checked_sub(1).ok_or(too_much)?;
        self.text_bytes = self.text_bytes.checked_sub(len).ok_or(too_much)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn fields(&mut self, table: &Table, slot: usize) -> Result<Vec<LogField>, LogRecordError> {
        let mut fields = Vec::new();
        for at in self.vector(table, slot)? {
            let field = self.table(at)?;
            fields.push(LogField {
                key: self.text(&field, 4)?,
                value: self.text(&field, 6)?,
            });
            self.count(at)?;
        }
        Ok(fields)
    }

    fn spans(&mut self, table: &Table, slot: usize) -> Result<Vec<LogSpan>, LogRecordError> {
        let mut spans = Vec::new();
        for at in self.vector(table, slot)? {
            let span = self.table(at)?;
            spans.push(LogSpan {
                name: self.text(&span, 4)?,
                fields: self.fields(&span, 6)?,
            });
            self.count(at)?;
        }
        Ok(spans)
    }

    /// Counts a table against the number of texts, so that empty tables are bounded too.
    fn count(&mut self, at: usize) -> Result<(), LogRecordError> {
        self.texts = self.texts.checked_sub(1).ok_or(LogRecordError {
            at,
            what: "more tables than a record may have",
        })?;
        Ok(())
    }
}

with!(LogRecord, LogSpan, LogField);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a table of offsets to what follows; enough of FlatBuffers to build records for the reader.
    struct Builder(Vec<u8>);

    impl Builder {
        fn u32(&mut self, value: usize) {
            self.0.extend((value as u32).to_le_bytes());
        }

        fn patch(&mut self, at: usize) {
            let to = self.0.len() - at;
            self.0[at..at + 4].copy_from_slice(&(to as u32).to_le_bytes());
        }

        fn text(&mut self, at: usize, text: &str) {
            self.patch(at);
            self.u32(text.len());
            self.0.extend(text.as_bytes());
            self.0.push(0);
        }

        /// A table with `slots` offset fields; answers where the first field stands.
        fn table(&mut self, at: usize, slots: usize) -> usize {
            let vtable = self.0.len();
            self.0.extend((4 + 2 * slots as u16).to_le_bytes());
            self.0.extend((4 + 4 * slots as u16).to_le_bytes());
            for slot in 0..slots as u16 {
                self.0.extend((4 + 4 * slot).to_le_bytes());
            }
            self.patch(at);
            let back = self.0.len() - vtable;
            self.u32(back);
            let first = self.0.len();
            self.0.extend(vec![0; 4 * slots]);
            first
        }

        fn vector(&mut self, at: usize, count: usize) -> usize {
            self.patch(at);
            self.u32(count);
            let first = self.0.len();
            self.0.extend(vec![0; 4 * count]);
            first
        }
    }

    fn record(target: &str, message: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = Builder(vec![0; 4]);
        let at = builder.table(0, 4);
        builder.0[at] = 3; // level: warn
        builder.text(at + 4, target);
        builder.text(at + 8, message);
        let first = builder.vector(at + 12, fields.len());
        for (index, (key, value)) in fields.iter().enumerate() {
            let field = builder.table(first + 4 * index, 2);
            builder.text(field, key);
            builder.text(field + 4, value);
        }
        builder.0
    }

    #[test]
    fn a_record_is_read() {
        let bytes = record("hello::guest", "hellö", &[("n", "1"), ("who", "me")]);
        let record = LogRecord::decode(&bytes).unwrap();
        assert_eq!(record.level, LogLevel::Warn);
        assert_eq!(record.target, "hello::guest");
        assert_eq!(record.message, "hellö");
        assert_eq!(record.fields[1].key, "who");
        assert_eq!(record.fields[1].value, "me");
        assert_eq!(record.time_ms(), None);
    }

    #[test]
    fn shared_offsets_cannot_multiply_text() {
        let mut builder = Builder(vec![0; 4]);
        let at = builder.table(0, 4);
        builder.text(at + 4, "");
        builder.text(at + 8, "");
        let first = builder.vector(at + 12, 500);
        let long = "x".repeat(4_000);
        let field = builder.table(first, 2);
        builder.text(field, &long);
        builder.text(field + 4, "");
        for index in 1..500 {
            // All point at the first field's table.
            let from = first + 4 * index;
            let to = (field - 4 - from) as u32;
            builder.0[from..from + 4].copy_from_slice(&to.to_le_bytes());
        }
        let error = LogRecord::decode(&builder.0).unwrap_err();
        assert_eq!(error.what, "more text than the record can hold");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = LogRecord::decode(&bytes);
        }

        #[test]
        fn torn_records_are_read_without_panic(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut bytes = record("target", "message", &[("key", "value"), ("k", "v")]);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            if let Ok(record) = LogRecord::decode(&bytes) {
                let text: usize = record.fields.iter().map(|f| f.key.len() + f.value.len()).sum();
                prop_assert!(text <= 6 * bytes.len());
            }
        }
    }
}
