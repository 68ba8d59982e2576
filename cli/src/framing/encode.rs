//! From messages to bytes.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Framing, base64};
use crate::render::escape;

/// How messages are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    framing: Framing,
    /// Whether lines are for a terminal, which must not act on them.
    is_shown: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Json<'a> {
    Text { seq: u64, text: &'a str },
    Base64 { seq: u64, base64: String },
}

#[derive(Serialize)]
struct Gap {
    gap: Option<u64>,
    next: u64,
}

impl Encoder {
    /// For a terminal, `line` shows control characters escaped; else every framing writes exact bytes.
    pub(crate) fn new(framing: Framing, is_terminal: bool) -> Self {
        Self {
            framing,
            is_shown: is_terminal,
        }
    }

    /// Writes a message behind what `out` has. A message has fewer than 2^32 bytes.
    pub(crate) fn message(self, sequence: u64, message: &[u8], out: &mut Vec<u8>) {
        match self.framing {
            Framing::Line if self.is_shown => {
                out.extend_from_slice(shown(message).as_bytes());
                out.push(b'\n');
            }
            Framing::Line => {
                out.extend_from_slice(message);
                out.push(b'\n');
            }
            Framing::Raw => out.extend_from_slice(message),
            Framing::Len32 => {
                // A channel holds 16 MiB at most, and a message is no longer.
                let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(message);
            }
            Framing::Json => {
                let json = match std::str::from_utf8(message) {
                    Ok(text) => Json::Text {
                        seq: sequence,
                        text,
                    },
                    Err(_) => Json::Base64 {
                        seq: sequence,
                        base64: base64::encode(message),
                    },
                };
                out.extend_from_slice(escape::json(&json).as_bytes());
                out.push(b'\n');
            }
        }
    }
}

/// Missing messages as a line of JSON; `next` is the number of the message that comes next.
pub(crate) fn gap_json(count: Option<u64>, next: u64) -> String {
    escape::json(&Gap { gap: count, next })
}

/// A message for a terminal: what it might act on is escaped, and so are bytes that are no text.
fn shown(message: &[u8]) -> String {
    let mut out = String::with_capacity(message.len());
    for part in message.utf8_chunks() {
        out.push_str(&escape::line(part.valid()));
        for byte in part.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(framing: Framing, is_terminal: bool, messages: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (sequence, message) in messages.iter().enumerate() {
            Encoder::new(framing, is_terminal).message(sequence as u64, message, &mut out);
        }
        out
    }

    #[test]
    fn bytes_are_exact() {
        let messages: [&[u8]; 3] = [b"one", b"\xff\x1b\0\r", b"a\nb"];
        assert_eq!(
            written(Framing::Line, false, &messages),
            b"one\n\xff\x1b\0\r\na\nb\n"
        );
        for is_terminal in [true, false] {
            assert_eq!(
                written(Framing::Raw, is_terminal, &messages),
                b"one\xff\x1b\0\ra\nb"
            );
            assert_eq!(
                written(Framing::Len32, is_terminal, &messages),
                b"\0\0\0\x03one\0\0\0\x04\xff\x1b\0\r\0\0\0\x03a\nb"
            );
        }
    }

    #[test]
    fn json_is_stable() {
        let out = written(Framing::Json, false, &[b"a\"\n\x1b", b"\xff\0"]);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"seq\":0,\"text\":\"a\\\"\\n\\u001b\"}\n{\"seq\":1,\"base64\":\"/wA=\"}\n"
        );
        assert_eq!(gap_json(Some(3), 9), r#"{"gap":3,"next":9}"#);
        assert_eq!(gap_json(None, 9), r#"{"gap":null,"next":9}"#);
    }

    #[test]
    fn a_terminal_is_not_acted_on() {
        let out = written(
            Framing::Line,
            true,
            &["ü\x1b[2J\nx".as_bytes(), b"a\xff\xc3b\xe2\x82"],
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ü\\u{1b}[2J\\nx\na\\xff\\xc3b\\xe2\\x82\n"
        );
    }
}
