//! Log records, gaps and unreadable records: one line each.

use std::collections::BTreeMap;

use selium_remote_client::{LogField, LogLevel, LogRecord, LogSpan};
use serde::Serialize;

use super::{escape, process::full_id, time};

/// The most bytes of an unreadable record that are shown.
const MAX_RAW: usize = 64;

/// A record as text: `TIME LEVEL TARGET SPAN{key=value}:SPAN: MESSAGE key=value`.
///
/// The time is there only if the guest has a clock. Everything that the guest wrote stays on this one line.
pub(crate) fn text(record: &LogRecord, color: bool) -> String {
    let mut head = Vec::with_capacity(4);
    if let Some(ms) = record.time_ms() {
        head.push(time::rfc3339(ms));
    }
    head.push(level(record.level, color));
    if !record.target.is_empty() {
        head.push(escape::line(&record.target).into_owned());
    }
    let spans: Vec<String> = outermost_first(record)
        .map(|span| {
            let name = escape::line(&span.name);
            if span.fields.is_empty() {
                name.into_owned()
            } else {
                format!("{name}{{{}}}", fields(&span.fields))
            }
        })
        .collect();
    if !spans.is_empty() {
        head.push(spans.join(":"));
    }
    let bare = record.target.is_empty() && spans.is_empty();
    let mut out = head.join(" ");
    if !record.message.is_empty() {
        out.push_str(if bare { " " } else { ": " });
        out.push_str(&escape::line(&record.message));
    }
    if !record.fields.is_empty() {
        out.push(' ');
        out.push_str(&fields(&record.fields));
    }
    out
}

fn fields(fields: &[LogField]) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|field| {
            format!(
                "{}={}",
                escape::line(&field.key),
                escape::line(&field.value)
            )
        })
        .collect();
    pairs.join(" ")
}

fn level(level: LogLevel, color: bool) -> String {
    let text = format!("{level:<5}");
    if !color {
        return text;
    }
    let code = match level {
        LogLevel::Trace => 35,
        LogLevel::Debug => 34,
        LogLevel::Info => 32,
        LogLevel::Warn => 33,
        LogLevel::Error => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What stands on a line of JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Log {
        time: Option<String>,
        level: &'static str,
        target: &'a str,
        spans: Vec<Span<'a>>,
        message: &'a str,
        fields: BTreeMap<&'a str, &'a str>,
        sequence: u64,
        process: String,
    },
    Gap {
        count: Option<u64>,
        next: u64,
        process: String,
    },
    Unreadable {
        sequence: u64,
        message: String,
        bytes: usize,
        hex: String,
        process: String,
    },
}

#[derive(Serialize)]
struct Span<'a> {
    name: &'a str,
    fields: BTreeMap<&'a str, &'a str>,
}

/// Fields as an object: of several with the same key the last one stays.
fn object(fields: &[LogField]) -> BTreeMap<&str, &str> {
    fields
        .iter()
        .map(|field| (field.key.as_str(), field.value.as_str()))
        .collect()
}

/// A record as JSON.
pub(crate) fn json(process: u64, sequence: u64, record: &LogRecord) -> String {
    escape::json(&Event::Log {
        time: record.time_ms().map(time::rfc3339),
        level: match record.level {
            LogLevel::Trace => "TRACE",
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warn => "WARN",
            LogLevel::Error => "ERROR",
        },
        target: &record.target,
        spans: outermost_first(record)
            .map(|span| Span {
                name: &span.name,
                fields: object(&span.fields),
            })
            .collect(),
        message: &record.message,
        fields: object(&record.fields),
        sequence,
        process: full_id(process),
    })
}

/// Lost records as text.
pub(crate) fn gap_text(count: Option<u64>) -> String {
    match count {
        Some(1) => "-- 1 record lost --".to_owned(),
        Some(count) => format!("-- {count} records lost --"),
        None => "-- records lost (count unknown) --".to_owned(),
    }
}

/// Lost records as JSON; `next` is the sequence number of the record that comes next.
pub(crate) fn gap_json(process: u64, count: Option<u64>, next: u64) -> String {
    escape::json(&Event::Gap {
        count,
        next,
        process: full_id(process),
    })
}

/// A record that could not be read, as text.
pub(crate) fn unreadable_text(sequence: u64, why: &str, bytes: &[u8]) -> String {
    let more = if bytes.len() > MAX_RAW { "…" } else { "" };
    format!(
        "-- record {sequence} is unreadable: {}; {} bytes: {}{more} --",
        escape::line(why),
        bytes.len(),
        escape::hex(bytes, MAX_RAW),
    )
}

/// A record that could not be read, as JSON: how long it is, and the hexadecimal digits of its first 64 bytes.
pub(crate) fn unreadable_json(process: u64, sequence: u64, why: String, bytes: &[u8]) -> String {
    escape::json(&Event::Unreadable {
        sequence,
        message: why,
        bytes: bytes.len(),
        hex: escape::hex(bytes, MAX_RAW),
        process: full_id(process),
    })
}

/// The spans as people read them. Guests list them from the innermost outwards.
fn outermost_first(record: &LogRecord) -> impl Iterator<Item = &LogSpan> {
    record.spans.iter().rev()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(key: &str, value: &str) -> LogField {
        LogField::with(|field| {
            field.key = key.into();
            field.value = value.into();
        })
    }

    fn span(name: &str, fields: Vec<LogField>) -> LogSpan {
        LogSpan::with(|span| {
            span.name = name.into();
            span.fields = fields;
        })
    }

    fn record() -> LogRecord {
        LogRecord::with(|record| {
            record.level = LogLevel::Info;
            record.target = "hello::guest".into();
            record.message = "hello from selium".into();
            record.fields = vec![field("n", "1"), field("who", "\"me\"")];
            record.spans = vec![span("inner", vec![field("id", "7")]), span("outer", vec![])];
            record.timestamp_ms = 1_795_337_387_123;
        })
    }

    #[test]
    fn text_is_stable() {
        assert_eq!(
            text(&record(), false),
            "2026-11-22T08:49:47.123Z INFO  hello::guest outer:inner{id=7}: hello from selium n=1 who=\"me\""
        );
        let mut without = record();
        without.timestamp_ms = 12;
        without.spans.clear();
        without.fields.clear();
        assert_eq!(
            text(&without, false),
            "INFO  hello::guest: hello from selium"
        );
        assert_eq!(
            text(&without, true),
            "\x1b[32mINFO \x1b[0m hello::guest: hello from selium"
        );
        let bare = LogRecord::with(|record| {
            record.message = "m".into();
            record.level = LogLevel::Error;
        });
        assert_eq!(text(&bare, false), "ERROR m");
        assert_eq!(text(&LogRecord::default(), false), "TRACE");
    }

    #[test]
    fn a_guest_cannot_forge_lines_or_escapes() {
        let hostile = LogRecord::with(|record| {
            record.target = "t\n".into();
            record.message = "one\n2026 ERROR two\x1b]0;x\x07\u{9b}".into();
            record.fields = vec![field("k\r", "v\n")];
            record.spans = vec![span("s\n", vec![])];
        });
        assert_eq!(
            text(&hostile, false),
            "TRACE t\\n s\\n: one\\n2026 ERROR two\\u{1b}]0;x\\u{7}\\u{9b} k\\r=v\\n"
        );
        assert!(!json(1, 1, &hostile).contains(|c: char| c.is_control()));
    }

    #[test]
    fn json_is_stable() {
        assert_eq!(
            json(0xc0_ffee, 42, &record()),
            r#"{"event":"log","time":"2026-11-22T08:49:47.123Z","level":"INFO","target":"hello::guest","spans":["#
                .to_owned()
                + r#"{"name":"outer","fields":{}},{"name":"inner","fields":{"id":"7"}}],"message":"hello from selium","#
                + r#""fields":{"n":"1","who":"\"me\""},"sequence":42,"process":"0000000000c0ffee"}"#
        );
        let twice =
            LogRecord::with(|record| record.fields = vec![field("k", "1"), field("k", "2")]);
        let shown = json(1, 1, &twice);
        assert!(
            shown.contains(r#""time":null"#) && shown.contains(r#""fields":{"k":"2"}"#),
            "{shown}"
        );
    }

    #[test]
    fn gaps_say_how_many() {
        assert_eq!(gap_text(Some(1)), "-- 1 record lost --");
        assert_eq!(gap_text(Some(17)), "-- 17 records lost --");
        assert_eq!(gap_text(None), "-- records lost (count unknown) --");
        assert_eq!(
            gap_json(1, None, 9),
            r#"{"event":"gap","count":null,"next":9,"process":"0000000000000001"}"#
        );
    }

    #[test]
    fn unreadable_records_are_shown_in_part() {
        let bytes = [0xab; 100];
        let shown = unreadable_text(3, "no log record: x at byte 4", &bytes);
        let start = "ab".repeat(64);
        assert_eq!(
            shown,
            format!(
                "-- record 3 is unreadable: no log record: x at byte 4; 100 bytes: {start}… --"
            )
        );
        assert_eq!(
            unreadable_json(1, 3, "why".into(), &[1, 2]),
            r#"{"event":"unreadable","sequence":3,"message":"why","bytes":2,"hex":"0102","process":"0000000000000001"}"#
        );
    }
}
