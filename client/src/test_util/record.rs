//! Log records as guests write them: FlatBuffers, `selium.logging.LogRecord`, without file identifier. What reads them is
//! `selium_remote_client_protocol::log_record`.

use bytes::Bytes;

use crate::{LogField, LogLevel, LogRecord};

/// Appends, and lets offsets that were written before point to what comes.
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: usize) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u16s(&mut self, values: &[u16]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.0.extend(bytes);
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Makes the offset at `at` point to what is written next.
    fn point_here(&mut self, at: usize) {
        let offset = u32::try_from(self.0.len() - at).unwrap_or(u32::MAX);
        self.set(at, &offset.to_le_bytes());
    }

    fn text(&mut self, at: usize, text: &str) {
        self.point_here(at);
        self.u32(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// A table with so many fields of 4 bytes, and `behind` them one of 8, if so; answers where the first field stands.
    fn table(&mut self, at: usize, fields: u16, behind: bool) -> usize {
        let vtable = self.0.len();
        let long = u16::from(behind);
        self.u16s(&[4 + 2 * (fields + long), 4 + 4 * fields + 8 * long]);
        (0..fields + long).for_each(|field| self.u16s(&[4 + 4 * field]));
        self.point_here(at);
        self.u32(self.0.len() - vtable);
        let first = self.0.len();
        let len = 4 * usize::from(fields) + 8 * usize::from(long);
        self.0.resize(first + len, 0);
        first
    }

    /// A vector of so many offsets; answers where the first one stands.
    fn vector(&mut self, at: usize, len: usize) -> usize {
        self.point_here(at);
        self.u32(len);
        let first = self.0.len();
        self.0.resize(first + 4 * len, 0);
        first
    }

    fn fields(&mut self, at: usize, fields: &[LogField]) {
        let first = self.vector(at, fields.len());
        for (index, LogField { key, value, .. }) in fields.iter().enumerate() {
            let field = self.table(first + 4 * index, 2, false);
            self.text(field, key);
            self.text(field + 4, value);
        }
    }
}

/// The bytes of a record.
pub(super) fn encode(record: &LogRecord) -> Bytes {
    let mut writer = Writer(vec![0; 4]);
    let root = writer.table(0, 5, true);
    let level = match record.level {
        LogLevel::Trace => 0,
        LogLevel::Debug => 1,
        LogLevel::Info => 2,
        LogLevel::Warn => 3,
        LogLevel::Error => 4,
    };
    writer.set(root, &[level]);
    writer.set(root + 20, &record.timestamp_ms.to_le_bytes());
    writer.text(root + 4, &record.target);
    writer.text(root + 8, &record.message);
    writer.fields(root + 12, &record.fields);
    let spans = writer.vector(root + 16, record.spans.len());
    for (index, span) in record.spans.iter().enumerate() {
        let at = writer.table(spans + 4 * index, 2, false);
        writer.text(at, &span.name);
        writer.fields(at + 4, &span.fields);
    }
    writer.0.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogSpan;

    #[test]
    fn what_is_written_is_read() {
        let field = |key: &str, value: &str| {
            LogField::with(|made| {
                made.key = key.to_owned();
                made.value = value.to_owned();
            })
        };
        for level in [
            LogLevel::Trace,
            LogLevel::Debug,
            LogLevel::Info,
            LogLevel::Warn,
            LogLevel::Error,
        ] {
            let record = LogRecord::with(|made| {
                made.level = level;
                made.target = "a::b".to_owned();
                made.message = "wörds".to_owned();
                made.fields = vec![field("k", "v"), field("", "")];
                made.spans = vec![
                    LogSpan::with(|span| span.name = "outer".to_owned()),
                    LogSpan::with(|span| {
                        span.name = "inner".to_owned();
                        span.fields = vec![field("n", "1")];
                    }),
                ];
                made.timestamp_ms = u64::MAX - 1;
            });
            assert_eq!(LogRecord::decode(&encode(&record)), Ok(record));
        }
        let empty = LogRecord::default();
        assert_eq!(LogRecord::decode(&encode(&empty)), Ok(empty));
    }
}
