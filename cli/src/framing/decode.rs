//! From bytes to messages.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::de::{Deserialize, Deserializer, IgnoredAny};

use super::{Framing, base64};
use crate::render::escape;

/// What a line of JSON may have beside the message: other fields, blanks.
const JSON_EXTRA: usize = 64 * 1024;

/// The most bytes that one byte of a message takes in JSON: `\u0000`.
const JSON_ESCAPE: usize = 6;

/// The most characters that are repeated of what a JSON parser says.
const MAX_WHY: usize = 120;

/// Where in the input a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number, from 1.
    pub(crate) message: u64,
    /// Its line, from 1; 0 in framings without lines.
    pub(crate) line: u64,
    /// The byte of the input that it begins with, from 0.
    pub(crate) offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} (", self.message)?;
        if self.line > 0 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "at byte {} of the input)", self.offset)
    }
}

/// An input that cannot be cut into messages for this channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A message is longer than the channel takes.
    TooLong {
        /// Which one.
        place: Place,
        /// Its length, where the input says it.
        length: Option<u64>,
        /// The most bytes.
        limit: usize,
    },
    /// The input ends within a message.
    Truncated {
        /// Which one.
        place: Place,
        /// Its bytes; `None` when its length is cut off.
        length: Option<u64>,
        /// Those that came.
        came: u64,
    },
    /// A line is no JSON that means a message.
    Json {
        /// Which one.
        place: Place,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong {
                place,
                length: Some(length),
                limit,
            } => write!(
                f,
                "{place} has {length} bytes, the channel takes {limit} at most"
            ),
            Self::TooLong {
                place,
                length: None,
                limit,
            } => write!(
                f,
                "{place} is longer than the {limit} bytes that the channel takes"
            ),
            Self::Truncated {
                place,
                length: Some(length),
                came,
            } => write!(
                f,
                "{place} is cut off: it has {length} bytes, and {came} came"
            ),
            Self::Truncated {
                place,
                length: None,
                ..
            } => write!(f, "{place} is cut off: the input ends within its length"),
            Self::Json { place, why } => write!(f, "{place} cannot be read: {why}"),
        }
    }
}

/// Cuts a stream of bytes into messages.
///
/// It holds at most one message that is not complete, and what was fed to it behind that.
#[derive(Debug)]
pub(crate) struct Decoder {
    framing: Framing,
    /// Bytes of the longest message.
    longest: usize,
    /// Bytes of each message but the last, in raw.
    chunk: usize,
    buffer: BytesMut,
    /// So many bytes of the buffer have no newline.
    searched: usize,
    /// Bytes of the input before the buffer.
    offset: u64,
    /// Lines before the buffer.
    lines: u64,
    messages: u64,
    empty: u64,
    gaps: u64,
}

/// What a line of JSON has; other fields are ignored, so that what `channel sub` writes can be read.
#[derive(Debug, serde::Deserialize)]
#[serde(expecting = "an object with \"text\" or \"base64\"")]
struct Line {
    text: Option<String>,
    base64: Option<String>,
    #[serde(default, deserialize_with = "present")]
    gap: bool,
}

/// Whether a field is there, whatever it has.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// What a line of JSON means.
enum Meaning {
    Message(Bytes),
    Gap,
}

impl Decoder {
    /// For messages of at most `longest` bytes; in raw, of `chunk` bytes each but the last. Neither is 0.
    pub(crate) fn new(framing: Framing, longest: usize, chunk: usize) -> Self {
        Self {
            framing,
            longest: longest.max(1),
            chunk: chunk.clamp(1, longest.max(1)),
            buffer: BytesMut::new(),
            searched: 0,
            offset: 0,
            lines: 0,
            messages: 0,
            empty: 0,
            gaps: 0,
        }
    }

    /// Messages without bytes, which were left out: a channel has none.
    pub(crate) fn empty(&self) -> u64 {
        self.empty
    }

    /// Gap markers in JSON, which were left out.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// More of the input.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it is complete; never an empty one.
    ///
    /// # Errors
    /// When the input makes no sense there; it cannot be gone on with.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let message = match self.framing {
            Framing::Line => self.line(false)?,
            Framing::Raw if self.buffer.len() >= self.chunk => Some(self.take(self.chunk)),
            Framing::Raw => None,
            Framing::Len32 => self.len32()?,
            Framing::Json => self.json(false)?,
        };
        self.messages += u64::from(message.is_some());
        Ok(message)
    }

    /// The next message when there is no more input.
    ///
    /// # Errors
    /// As [`Decoder::next`], and when the input ends within a message.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(message) = self.next()? {
            return Ok(Some(message));
        }
        let rest = self.buffer.len();
        let message = match self.framing {
            _ if rest == 0 => None,
            Framing::Line => self.line(true)?,
            Framing::Raw => Some(self.take(rest)),
            Framing::Len32 => {
                let length = self.length();
                return Err(FrameError::Truncated {
                    place: self.place(),
                    length,
                    came: (rest as u64).saturating_sub(4),
                });
            }
            Framing::Json => self.json(true)?,
        };
        self.messages += u64::from(message.is_some());
        Ok(message)
    }

    fn place(&self) -> Place {
        Place {
            message: self.messages + 1,
            line: match self.framing {
                Framing::Line | Framing::Json => self.lines + 1,
                Framing::Raw | Framing::Len32 => 0,
            },
            offset: self.offset,
        }
    }

    fn too_long(&self, length: Option<u64>) -> FrameError {
        FrameError::TooLong {
            place: self.place(),
            length,
            limit: self.longest,
        }
    }

    /// Takes so many bytes from the buffer, or all of them when there are fewer.
    fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.buffer.len());
        self.offset = self.offset.saturating_add(count as u64);
        self.buffer.split_to(count).freeze()
    }

    fn skip(&mut self, count: usize) {
        let count = count.min(self.buffer.len());
        self.offset = self.offset.saturating_add(count as u64);
        self.buffer.advance(count);
    }

    /// Where the line ends with which the buffer begins; at the end of the input its last line may lack the newline.
    fn line_end(&mut self, is_last: bool) -> Option<usize> {
        let unseen = self.buffer.get(self.searched..).unwrap_or_default();
        if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
            return Some(self.searched + at);
        }
        self.searched = self.buffer.len();
        (is_last && self.searched > 0).then_some(self.searched)
    }

    /// Takes a line that ends there from the buffer, and its newline.
    fn take_line(&mut self, end: usize) -> Bytes {
        let line = self.take(end);
        self.skip(1);
        self.searched = 0;
        self.lines += 1;
        line
    }

    fn line(&mut self, is_last: bool) -> Result<Option<Bytes>, FrameError> {
        while let Some(end) = self.line_end(is_last) {
            if end > self.longest {
                return Err(self.too_long(Some(end as u64)));
            }
            let line = self.take_line(end);
            if !line.is_empty() {
                return Ok(Some(line));
            }
            self.empty += 1;
        }
        match self.buffer.len() > self.longest {
            true => Err(self.too_long(None)),
            false => Ok(None),
        }
    }

    /// The length with which the buffer begins.
    fn length(&self) -> Option<u64> {
        let bytes = self.buffer.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes).into())
    }

    fn len32(&mut self) -> Result<Option<Bytes>, FrameError> {
        while let Some(length) = self.length() {
            let Some(count) = usize::try_from(length)
                .ok()
                .filter(|count| *count <= self.longest)
            else {
                return Err(self.too_long(Some(length)));
            };
            if self.buffer.len() - 4 < count {
                return Ok(None);
            }
            self.skip(4);
            if count > 0 {
                return Ok(Some(self.take(count)));
            }
            self.empty += 1;
        }
        Ok(None)
    }

    fn json(&mut self, is_last: bool) -> Result<Option<Bytes>, FrameError> {
        let limit = self
            .longest
            .saturating_mul(JSON_ESCAPE)
            .saturating_add(JSON_EXTRA);
        while let Some(end) = self.line_end(is_last) {
            if end > limit {
                return Err(self.long_json(limit));
            }
            let place = self.place();
            let line = self.take_line(end);
            if line.trim_ascii().is_empty() {
                continue;
            }
            match meaning(&line).map_err(|why| FrameError::Json { place, why })? {
                Meaning::Gap => self.gaps += 1,
                Meaning::Message(message) if message.is_empty() => self.empty += 1,
                Meaning::Message(message) if message.len() > self.longest => {
                    return Err(FrameError::TooLong {
                        place,
                        length: Some(message.len() as u64),
                        limit: self.longest,
                    });
                }
                Meaning::Message(message) => return Ok(Some(message)),
            }
        }
        match self.buffer.len() > limit {
            true => Err(self.long_json(limit)),
            false => Ok(None),
        }
    }

    fn long_json(&self, limit: usize) -> FrameError {
        FrameError::Json {
            place: self.place(),
            why: format!("the line is longer than {limit} bytes"),
        }
    }
}

/// What a line of JSON means.
fn meaning(line: &[u8]) -> Result<Meaning, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // The parser sees one line only, whose number is another one.
        let what = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(what, _)| what);
        let what = escape::cut(what, MAX_WHY);
        match error.column() {
            0 => what,
            column => format!("{what}, at byte {column} of the line"),
        }
    })?;
    match line {
        Line {
            text: Some(text),
            base64: None,
            ..
        } => Ok(Meaning::Message(text.into())),
        Line {
            text: None,
            base64: Some(text),
            ..
        } => match base64::decode(&text) {
            Some(bytes) => Ok(Meaning::Message(bytes.into())),
            None => Err("\"base64\" has something else".to_owned()),
        },
        Line {
            text: Some(_),
            base64: Some(_),
            ..
        } => Err("it has \"text\" and \"base64\"".to_owned()),
        Line { gap: true, .. } => Ok(Meaning::Gap),
        Line { .. } => Err("it has neither \"text\" nor \"base64\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in the input, fed in pieces of this size.
    fn cut(
        mut decoder: Decoder,
        input: &[u8],
        piece: usize,
    ) -> (Vec<Vec<u8>>, Result<Decoder, String>) {
        let mut messages = Vec::new();
        let mut go = || -> Result<(), FrameError> {
            for piece in input.chunks(piece) {
                decoder.feed(piece);
                while let Some(message) = decoder.next()? {
                    messages.push(message.to_vec());
                }
            }
            while let Some(message) = decoder.finish()? {
                messages.push(message.to_vec());
            }
            Ok(())
        };
        let result = go().map_err(|error| error.to_string());
        (messages, result.map(|()| decoder))
    }

    fn fine(framing: Framing, input: &[u8]) -> (Vec<Vec<u8>>, u64, u64) {
        let whole = cut(Decoder::new(framing, 10, 4), input, 1_000);
        for piece in [1, 2, 3, 7] {
            let (messages, decoder) = cut(Decoder::new(framing, 10, 4), input, piece);
            assert_eq!(messages, whole.0, "pieces of {piece}");
            assert!(decoder.is_ok());
        }
        let decoder = whole.1.unwrap();
        (whole.0, decoder.empty(), decoder.gaps())
    }

    fn wrong(framing: Framing, input: &[u8]) -> (usize, String) {
        let error = |piece| {
            let (messages, result) = cut(Decoder::new(framing, 10, 4), input, piece);
            (messages.len(), result.unwrap_err())
        };
        error(1_000)
    }

    #[test]
    fn lines_are_messages_byte_by_byte() {
        let input = b"one\n\ntwo\r\n\xff\xfe\0\n\nlast";
        let (messages, empty, _) = fine(Framing::Line, input);
        assert_eq!(messages, [&b"one"[..], b"two\r", b"\xff\xfe\0", b"last"]);
        assert_eq!(empty, 2);
        assert_eq!(fine(Framing::Line, b"").0.len(), 0);
        assert_eq!(fine(Framing::Line, b"\n").1, 1);
        assert_eq!(fine(Framing::Line, b"0123456789\n").0.len(), 1);
        assert_eq!(fine(Framing::Line, b"0123456789").0.len(), 1);
    }

    #[test]
    fn a_line_that_is_too_long_is_named() {
        assert_eq!(
            wrong(Framing::Line, b"one\n\n01234567890\nx\n"),
            (
                1,
                "message 2 (line 3, at byte 5 of the input) has 11 bytes, the channel takes 10 at most"
                    .to_owned()
            )
        );
        assert_eq!(
            wrong(Framing::Line, b"01234567890").1,
            "message 1 (line 1, at byte 0 of the input) is longer than the 10 bytes that the channel takes"
        );
    }

    #[test]
    fn raw_input_is_cut_where_chunks_end() {
        let (messages, ..) = fine(Framing::Raw, b"0123\n567\0");
        assert_eq!(messages, [&b"0123"[..], b"\n567", b"\0"]);
        assert_eq!(fine(Framing::Raw, b"0123").0.len(), 1);
        assert!(fine(Framing::Raw, b"").0.is_empty());
    }

    #[test]
    fn lengths_come_first() {
        let input = b"\0\0\0\x03a\nb\0\0\0\0\0\0\0\x01\0";
        let (messages, empty, _) = fine(Framing::Len32, input);
        assert_eq!(messages, [&b"a\nb"[..], b"\0"]);
        assert_eq!(empty, 1);
    }

    #[test]
    fn wrong_lengths_are_named() {
        for (input, before, said) in [
            (
                &b"\0\0\0\x01a\0\0"[..],
                1,
                "message 2 (at byte 5 of the input) is cut off: the input ends within its length",
            ),
            (
                b"\0\0\0\x05abc",
                0,
                "message 1 (at byte 0 of the input) is cut off: it has 5 bytes, and 3 came",
            ),
            (
                b"\0\0\0\x05",
                0,
                "message 1 (at byte 0 of the input) is cut off: it has 5 bytes, and 0 came",
            ),
            (
                b"\0\0\0\x01ahello",
                1,
                "message 2 (at byte 5 of the input) has 1751477356 bytes, the channel takes 10 at most",
            ),
        ] {
            assert_eq!(wrong(Framing::Len32, input), (before, said.to_owned()));
        }
    }

    #[test]
    fn json_has_text_or_base64() {
        let input = br#"{"text":"a\nb"}
            {"seq":7,"base64":"/wA=","more":[1,{"x":null}]}

{"gap":null,"next":9}
{"gap":3}
{"text":""}
 {"text" : "\u00e4"}"#;
        let (messages, empty, gaps) = fine(Framing::Json, input);
        assert_eq!(messages, [&b"a\nb"[..], b"\xff\0", "ä".as_bytes()]);
        assert_eq!((empty, gaps), (1, 2));
    }

    #[test]
    fn wrong_json_is_named() {
        for (line, part) in [
            ("hello", "expected value, at byte 1 of the line"),
            ("[1]", "cannot be read: "),
            ("{}", "it has neither \"text\" nor \"base64\""),
            (
                r#"{"text":"a","base64":"YQ=="}"#,
                "it has \"text\" and \"base64\"",
            ),
            (r#"{"base64":"a"}"#, "\"base64\" has something else"),
            (r#"{"text":5}"#, "invalid type: integer `5`"),
            (r#"{"text":"a"} x"#, "trailing characters, at byte 14"),
            (r#"{"text":"#, "EOF while parsing"),
            (r#"{"text":"\ud800"}"#, "cannot be read"),
            (
                r#"{"text":"01234567890"}"#,
                "has 11 bytes, the channel takes 10 at most",
            ),
        ] {
            let (before, said) = wrong(
                Framing::Json,
                format!("{{\"text\":\"x\"}}\n{line}").as_bytes(),
            );
            assert_eq!(before, 1, "{line}");
            assert!(said.contains(part), "{line}: {said}");
            assert!(
                said.starts_with("message 2 (line 2, at byte 13 of the input) "),
                "{line}: {said}"
            );
        }
        let (_, said) = wrong(Framing::Json, &vec![b' '; JSON_EXTRA + 61]);
        assert!(
            said.ends_with("the line is longer than 65596 bytes"),
            "{said}"
        );
    }
}
