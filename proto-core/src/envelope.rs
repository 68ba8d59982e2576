//! The frozen envelope: preface, version range and refusal (PROTOCOL.md, "The envelope").
//!
//! These bytes stay as they are for ever and precede everything that has a version, so that any two versions can tell
//! each other why they do not go together.
//!
//! ```text
//! client -> server   magic 8 | lowest version 2 | highest version 2 | hello length 2 | reserved 2 | hello
//! server -> client   magic 8 | chosen version 2 | lowest 2 | highest 2 | body length 2 | body
//! ```
//!
//! All integers are big-endian. A chosen version of 0 is a refusal: its body is an error code (2 bytes) and a message.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    error::{ErrorCode, RemoteError, clip},
    limits::MAX_ENVELOPE,
};

/// The first eight bytes of a client. Bytes 4 to 7 are not `RMCL`, by which requests of version 0.3.3 are known.
pub const CLIENT_MAGIC: [u8; 8] = *b"SLRC\r\n\x1a\n";

/// The first eight bytes of a server's answer.
pub const SERVER_MAGIC: [u8; 8] = *b"SLRS\r\n\x1a\n";

/// Bytes before the hello (client) or the body (server).
pub const ENVELOPE_HEADER: usize = 16;

/// The versions of the protocol that this library speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// The first thing on the wire: what the client speaks, and its hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEnvelope {
    /// Lowest and highest version that the client speaks.
    pub versions: (u16, u16),
    /// The hello, as fields.
    pub hello: Bytes,
}

/// The server's answer to the envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEnvelope {
    /// The server goes on in this version; its hello follows as fields.
    Accepted {
        /// The chosen version.
        version: u16,
        /// The hello, as fields.
        hello: Bytes,
    },
    /// The server refuses and closes.
    Refused {
        /// Lowest and highest version that the server speaks.
        versions: (u16, u16),
        /// Why.
        error: RemoteError,
    },
}

/// What the start of the input turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope<T> {
    /// More bytes are needed.
    Incomplete,
    /// The envelope, and the number of bytes that it took.
    Complete(T, usize),
    /// A message of version 0.3.3 (a FlatBuffer with identifier `RMCL`).
    Legacy,
    /// Something else.
    Foreign,
}

fn u16_at(input: &[u8], at: usize) -> u16 {
    let byte = |at| input.get(at).copied().unwrap_or_default();
    u16::from_be_bytes([byte(at), byte(at + 1)])
}

fn encode(magic: [u8; 8], words: [u16; 4], body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(ENVELOPE_HEADER + body.len());
    out.put_slice(&magic);
    for word in words {
        out.put_u16(word);
    }
    out.put_slice(body);
    out.freeze()
}

/// Splits an envelope with this magic and a length at `len_at`; `legacy_at` is where version 0.3.3 has its identifier.
fn split(
    input: &[u8],
    magic: &[u8; 8],
    len_at: usize,
    legacy_at: usize,
) -> Envelope<core::ops::Range<usize>> {
    let seen = input.len().min(magic.len());
    if input.get(..seen) != magic.get(..seen) {
        return match input.get(legacy_at..legacy_at + 4) {
            Some(b"RMCL") => Envelope::Legacy,
            Some(_) => Envelope::Foreign,
            None => Envelope::Incomplete,
        };
    }
    if input.len() < ENVELOPE_HEADER {
        return Envelope::Incomplete;
    }
    let end = ENVELOPE_HEADER + usize::from(u16_at(input, len_at));
    if end > MAX_ENVELOPE {
        return Envelope::Foreign;
    }
    if input.len() < end {
        return Envelope::Incomplete;
    }
    Envelope::Complete(ENVELOPE_HEADER..end, end)
}

impl ClientEnvelope {
    /// The bytes; a hello past [`MAX_ENVELOPE`] is a bug of the caller and is cut by the encoding of its length.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        debug_assert!(ENVELOPE_HEADER + self.hello.len() <= MAX_ENVELOPE);
        let words = [self.versions.0, self.versions.1, self.hello.len() as u16, 0];
        encode(CLIENT_MAGIC, words, &self.hello)
    }

    /// Looks at the start of a client's bytes.
    #[must_use]
    pub fn decode(input: &[u8]) -> Envelope<Self> {
        match split(input, &CLIENT_MAGIC, 12, 4) {
            Envelope::Complete(body, end) => Envelope::Complete(
                Self {
                    versions: (u16_at(input, 8), u16_at(input, 10)),
                    hello: Bytes::copy_from_slice(input.get(body).unwrap_or_default()),
                },
                end,
            ),
            Envelope::Incomplete => Envelope::Incomplete,
            Envelope::Legacy => Envelope::Legacy,
            Envelope::Foreign => Envelope::Foreign,
        }
    }

    /// The highest version that both sides speak.
    #[must_use]
    pub fn common_version(&self) -> Option<u16> {
        let version = self.versions.1.min(VERSIONS.1);
        (version >= self.versions.0 && version >= VERSIONS.0).then_some(version)
    }
}

impl ServerEnvelope {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Accepted { version, hello } => {
                debug_assert!(ENVELOPE_HEADER + hello.len() <= MAX_ENVELOPE);
                let words = [*version, VERSIONS.0, VERSIONS.1, hello.len() as u16];
                encode(SERVER_MAGIC, words, hello)
            }
            Self::Refused { versions, error } => {
                let message = clip(&error.message, MAX_ENVELOPE - ENVELOPE_HEADER - 2);
                let mut body = Vec::with_capacity(2 + message.len());
                body.put_u16(error.code.to_wire());
                body.put_slice(message.as_bytes());
                let words = [0, versions.0, versions.1, body.len() as u16];
                encode(SERVER_MAGIC, words, &body)
            }
        }
    }

    /// Looks at the start of a server's bytes.
    #[must_use]
    pub fn decode(input: &[u8]) -> Envelope<Self> {
        // A response of version 0.3.3 has a length before the FlatBuffer, so its identifier stands at 8.
        let (body, end) = match split(input, &SERVER_MAGIC, 14, 8) {
            Envelope::Complete(body, end) => (input.get(body).unwrap_or_default(), end),
            Envelope::Incomplete => return Envelope::Incomplete,
            Envelope::Legacy => return Envelope::Legacy,
            Envelope::Foreign => return Envelope::Foreign,
        };
        let version = u16_at(input, 8);
        let envelope = if version == 0 {
            let message = body.get(2..).unwrap_or_default();
            Self::Refused {
                versions: (u16_at(input, 10), u16_at(input, 12)),
                error: RemoteError::new(
                    ErrorCode::from_wire(u64::from(u16_at(body, 0))),
                    String::from_utf8_lossy(message),
                ),
            }
        } else {
            Self::Accepted {
                version,
                hello: Bytes::copy_from_slice(body),
            }
        };
        Envelope::Complete(envelope, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_agreed_on() {
        let common = |versions| {
            ClientEnvelope {
                versions,
                hello: Bytes::new(),
            }
            .common_version()
        };
        assert_eq!(common((1, 1)), Some(1));
        assert_eq!(common((1, 9)), Some(1));
        assert_eq!(common((2, 9)), None);
        assert_eq!(common((0, 0)), None);
    }

    #[test]
    fn others_are_told_apart() {
        assert_eq!(ClientEnvelope::decode(b""), Envelope::Incomplete);
        assert_eq!(ClientEnvelope::decode(b"SLRC"), Envelope::Incomplete);
        assert_eq!(
            ClientEnvelope::decode(b"\x10\0\0\0RMCL...."),
            Envelope::Legacy
        );
        assert_eq!(ClientEnvelope::decode(b"GET / HTTP"), Envelope::Foreign);
        assert_eq!(
            ServerEnvelope::decode(b"\x40\0\0\0\x10\0\0\0RMCL"),
            Envelope::Legacy
        );
        let mut long = CLIENT_MAGIC.to_vec();
        long.extend([0, 1, 0, 1, 0xff, 0xff, 0, 0]);
        assert_eq!(ClientEnvelope::decode(&long), Envelope::Foreign);
    }

    proptest! {
        #[test]
        fn round_trips(low: u16, high: u16, hello in proptest::collection::vec(any::<u8>(), 0..900), code in 1u64..15, message in ".{0,200}") {
            let client = ClientEnvelope { versions: (low, high), hello: hello.clone().into() };
            let bytes = client.encode();
            prop_assert_eq!(ClientEnvelope::decode(&bytes), Envelope::Complete(client, bytes.len()));
            for cut in 0..bytes.len() {
                prop_assert_eq!(ClientEnvelope::decode(&bytes[..cut]), Envelope::Incomplete);
            }

            for server in [
                ServerEnvelope::Accepted { version: high.max(1), hello: hello.into() },
                ServerEnvelope::Refused {
                    versions: VERSIONS,
                    error: RemoteError::new(ErrorCode::from_wire(code), message),
                },
            ] {
                let bytes = server.encode();
                prop_assert!(bytes.len() <= MAX_ENVELOPE);
                prop_assert_eq!(ServerEnvelope::decode(&bytes), Envelope::Complete(server, bytes.len()));
            }
        }
    }
}
