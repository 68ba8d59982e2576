//! Encodes log records as the runtime expects them: FlatBuffers, `selium.logging.LogRecord`, without file identifier.
//!
//! A general builder writes back to front and indexes into foreign bytes; this one knows a single schema and only ever appends.
//!
//! ```text
//!   0  root offset (20)                20  table: offset to vtable (16)
//!   4  vtable of LogRecord, 16 bytes   24  timestamp_ms  u64 (8-aligned)
//!                                      32  target    36  message        offsets
//!                                      40  fields    44  spans          offsets (fields and spans optional)
//!                                      48  level     i8, 3 bytes padding
//!   52 strings, then vectors and tables of fields and spans, all 4-aligned and all pointed to forwards
//! ```

/// A record to encode; the caller has bounded everything in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Record<'a> {
    /// 0 (trace) to 4 (error).
    pub(super) level: u8,
    pub(super) target: &'a str,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'a str, &'a str)],
    pub(super) spans: &'a [&'a str],
    pub(super) timestamp_ms: u64,
}

const TABLE: usize = 20;
const TARGET: usize = 32;
const MESSAGE: usize = 36;
const FIELDS: usize = 40;
const SPANS: usize = 44;

struct Buffer(Vec<u8>);

impl Buffer {
    fn u16s(&mut self, values: &[u16]) {
        values
            .iter()
            .for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
    }

    fn u32(&mut self, value: usize) {
        // Records are a few kilobytes.
        self.0.extend_from_slice(&(value as u32).to_le_bytes());
    }

    fn pad(&mut self) {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }

    /// Makes the offset at `at` point to the end of what was written so far.
    fn point_here(&mut self, at: usize) {
        let offset = (self.0.len() - at) as u32;
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&offset.to_le_bytes());
        }
    }

    fn string(&mut self, at: usize, text: &str) {
        self.point_here(at);
        self.u32(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self.pad();
    }

    /// A vector of tables that hold only strings, `N` each.
    fn tables<'a, const N: usize>(
        &mut self,
        at: usize,
        rows: impl ExactSizeIterator<Item = [&'a str; N]>,
    ) {
        self.point_here(at);
        let len = rows.len();
        self.u32(len);
        let first = self.0.len();
        (0..len).for_each(|_| self.u32(0));
        // One vtable for all of them: its own size, the table's size, where each string's offset stands.
        let vtable = self.0.len();
        self.u16s(&[4 + 2 * N as u16, 4 + 4 * N as u16]);
        (0..N as u16).for_each(|index| self.u16s(&[4 + 4 * index]));
        self.pad();
        for (index, row) in rows.enumerate() {
            self.point_here(first + 4 * index);
            let table = self.0.len();
            self.u32(table - vtable);
            (0..N).for_each(|_| self.u32(0));
            for (index, text) in row.into_iter().enumerate() {
                self.string(table + 4 + 4 * index, text);
            }
        }
    }
}

/// Encodes `record`.
pub(super) fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut buffer = Buffer(Vec::with_capacity(256 + record.message.len()));
    let optional = |present: bool, offset: usize| if present { (offset - TABLE) as u16 } else { 0 };
    buffer.u32(TABLE);
    buffer.u16s(&[16, 29, 28, 12, 16]);
    buffer.u16s(&[
        optional(!record.fields.is_empty(), FIELDS),
        optional(!record.spans.is_empty(), SPANS),
        4,
    ]);
    buffer.u32(TABLE - 4);
    buffer
        .0
        .extend_from_slice(&record.timestamp_ms.to_le_bytes());
    (0..4).for_each(|_| buffer.u32(0));
    buffer.0.push(record.level);
    buffer.pad();
    buffer.string(TARGET, record.target);
    buffer.string(MESSAGE, record.message);
    if !record.fields.is_empty() {
        buffer.tables(
            FIELDS,
            record.fields.iter().map(|(key, value)| [*key, *value]),
        );
    }
    if !record.spans.is_empty() {
        buffer.tables(SPANS, record.spans.iter().map(|name| [*name]));
    }
    buffer.0
}

#[cfg(test)]
pub(super) mod tests {
    use flatbuffers::{
        Follow, ForwardsUOffset, InvalidFlatbuffer, Table, Vector, Verifiable, Verifier,
    };

    use super::*;

    /// Hand-written accessors of the runtime's schema.
    pub(in crate::log) struct Log<'a>(Table<'a>);
    pub(in crate::log) struct Pair<'a>(Table<'a>);

    type Rows<'a> = ForwardsUOffset<Vector<'a, ForwardsUOffset<Pair<'a>>>>;

    macro_rules! follow {
        ($name:ident) => {
            #[allow(unsafe_code)]
            impl<'a> Follow<'a> for $name<'a> {
                type Inner = Self;
                unsafe fn follow(buf: &'a [u8], loc: usize) -> Self {
                    // SAFETY: only called on verified buffers.
                    Self(unsafe { Table::new(buf, loc) })
                }
            }
        };
    }
    follow!(Log);
    follow!(Pair);

    impl Verifiable for Pair<'_> {
        fn run_verifier(v: &mut Verifier<'_, '_>, pos: usize) -> Result<(), InvalidFlatbuffer> {
            v.visit_table(pos)?
                .visit_field::<ForwardsUOffset<&str>>("key", 4, false)?
                .finish();
            Ok(())
        }
    }

    impl Verifiable for Log<'_> {
        fn run_verifier(v: &mut Verifier<'_, '_>, pos: usize) -> Result<(), InvalidFlatbuffer> {
            v.visit_table(pos)?
                .visit_field::<i8>("level", 4, false)?
                .visit_field::<ForwardsUOffset<&str>>("target", 6, false)?
                .visit_field::<ForwardsUOffset<&str>>("message", 8, false)?
                .visit_field::<Rows<'_>>("fields", 10, false)?
                .visit_field::<Rows<'_>>("spans", 12, false)?
                .visit_field::<u64>("timestamp_ms", 14, false)?
                .finish();
            Ok(())
        }
    }

    #[derive(Debug, Default, PartialEq)]
    pub(in crate::log) struct Decoded {
        pub(in crate::log) level: i8,
        pub(in crate::log) target: String,
        pub(in crate::log) message: String,
        pub(in crate::log) fields: Vec<(String, String)>,
        pub(in crate::log) spans: Vec<String>,
        pub(in crate::log) timestamp_ms: u64,
    }

    /// Verifies with the official verifier, then reads.
    #[allow(unsafe_code)]
    pub(in crate::log) fn decode(bytes: &[u8]) -> Decoded {
        let log = flatbuffers::root::<Log<'_>>(bytes).unwrap();
        let text = |table: &Table<'_>, at| {
            // SAFETY: the buffer was verified with the types that are read.
            unsafe { table.get::<ForwardsUOffset<&str>>(at, None) }
                .unwrap_or("<absent>")
                .to_owned()
        };
        // SAFETY: as above.
        let rows = |at| unsafe { log.0.get::<Rows<'_>>(at, None) };
        Decoded {
            // SAFETY: as above.
            level: unsafe { log.0.get::<i8>(4, Some(0)) }.unwrap(),
            target: text(&log.0, 6),
            message: text(&log.0, 8),
            fields: rows(10)
                .map(|rows| {
                    rows.iter()
                        .map(|row| (text(&row.0, 4), text(&row.0, 6)))
                        .collect()
                })
                .unwrap_or_default(),
            spans: rows(12)
                .map(|rows| rows.iter().map(|row| text(&row.0, 4)).collect())
                .unwrap_or_default(),
            // SAFETY: as above.
            timestamp_ms: unsafe { log.0.get::<u64>(14, Some(0)) }.unwrap(),
        }
    }

    #[test]
    fn official_verifier_reads_what_was_written() {
        for fields in 0..5usize {
            for spans in 0..4usize {
                for len in 0..9 {
                    let text = "é".repeat(len);
                    let pairs: Vec<_> = (0..fields)
                        .map(|n| (&"keykey"[..n], text.as_str()))
                        .collect();
                    let names: Vec<_> = (0..spans).map(|n| &"span"[..n]).collect();
                    let record = Record {
                        level: 4,
                        target: &"target"[..len.min(6)],
                        message: &text,
                        fields: &pairs,
                        spans: &names,
                        timestamp_ms: u64::MAX - 1,
                    };
                    let decoded = decode(&encode(&record));
                    assert_eq!(decoded.level, 4);
                    assert_eq!(decoded.target, record.target);
                    assert_eq!(decoded.message, record.message);
                    let got: Vec<_> = decoded
                        .fields
                        .iter()
                        .map(|(k, v)| (k.as_str(), v.as_str()))
                        .collect();
                    assert_eq!(got, pairs);
                    assert_eq!(decoded.spans, names);
                    assert_eq!(decoded.timestamp_ms, record.timestamp_ms);
                }
            }
        }
    }
}
