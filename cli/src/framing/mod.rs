//! Messages in a stream of bytes: how `channel pub` cuts its input, and how `channel sub` writes its output.
//!
//! | framing | a message is | exact for |
//! | --- | --- | --- |
//! | `line` | a line, without its newline | messages without newlines |
//! | `raw` | so many bytes of the input; nothing between messages in the output | the bytes, not their boundaries |
//! | `len32` | its length in four bytes, the highest first, then its bytes | every message |
//! | `json` | a line of JSON with its bytes as text or in base64 | every message |

mod base64;
mod decode;
mod encode;
#[cfg(test)]
mod laws;

use clap::ValueEnum;

pub(crate) use decode::{Decoder, FrameError};
pub(crate) use encode::{Encoder, gap_json};

/// How messages lie in a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Framing {
    /// A message a line, without the newline
    Line,
    /// Bytes without boundaries
    Raw,
    /// Each message behind its length: four bytes, the highest first
    Len32,
    /// A JSON object a line, with "text" or "base64"
    Json,
}
