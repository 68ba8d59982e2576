//! A word to clients of version 0.3.3.
//!
//! They speak FlatBuffers without a preface: a request is one buffer with the identifier `RMCL`, a response is a
//! little-endian length and a buffer. This module writes the one response that they can print: an error.

/// What a client of version 0.3.3 is told.
pub const ADVICE: &str = "this control plane speaks a newer protocol than your client (0.3.3): \
     update `selium` and selium-remote-client to 1.0 or later";

/// The number of `ErrorResponse` in the union of payloads.
const ERROR_RESPONSE: u8 = 14;

/// The most bytes of a message.
const MAX_MESSAGE: usize = 512;

/// A response of version 0.3.3 that says `message` (cut to 512 bytes): a u32 little-endian length, then the buffer
///
/// ```text
///  0  offset of the root (20)     20  root:          vtable's distance, payload's offset, payload's type
///  4  "RMCL"                      32  error's vtable (padded)
///  8  root's vtable (padded)      44  error:         vtable's distance, message's offset
///                                 52  message:       length, bytes, NUL
/// ```
#[must_use]
pub fn error_response(message: &str) -> Vec<u8> {
    let message = crate::error::clip(message, MAX_MESSAGE);
    let mut buffer = Vec::with_capacity(64 + message.len());
    let u16s = |buffer: &mut Vec<u8>, values: &[u16]| {
        for value in values {
            buffer.extend(value.to_le_bytes());
        }
    };
    let u32s = |buffer: &mut Vec<u8>, values: &[u32]| {
        for value in values {
            buffer.extend(value.to_le_bytes());
        }
    };
    u32s(&mut buffer, &[20]);
    buffer.extend(b"RMCL");
    // At 8, the root's vtable: 8 bytes long, the table 12 bytes; payload_type at 8, payload at 4. Then padding to 20.
    u16s(&mut buffer, &[8, 12, 8, 4, 0, 0]);
    // At 20, the root: its vtable lies 12 bytes before; the payload 20 bytes after its field at 24; the union's type.
    u32s(&mut buffer, &[12, 20]);
    buffer.extend([ERROR_RESPONSE, 0, 0, 0]);
    // At 32, the error's vtable: 6 bytes long, the table 8 bytes; message at 4. Then padding to 44.
    u16s(&mut buffer, &[6, 8, 4, 0, 0, 0]);
    // At 44, the error: its vtable lies 12 bytes before; the message 4 bytes after its field at 48.
    u32s(&mut buffer, &[12, 4]);
    u32s(&mut buffer, &[message.len() as u32]);
    buffer.extend(message.as_bytes());
    buffer.push(0);
    while !buffer.len().is_multiple_of(4) {
        buffer.push(0);
    }
    let mut response = (buffer.len() as u32).to_le_bytes().to_vec();
    response.extend(buffer);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn u16_at(bytes: &[u8], at: usize) -> usize {
        u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()) as usize
    }

    /// Follows the buffer as a FlatBuffers reader does.
    #[test]
    fn a_flatbuffers_reader_finds_the_message() {
        let response = error_response("update, please");
        let (length, buffer) = response.split_at(4);
        assert_eq!(u32_at(length, 0), buffer.len());
        assert_eq!(&buffer[4..8], b"RMCL");
        let root = u32_at(buffer, 0);
        let vtable = root - u32_at(buffer, root);
        assert_eq!(u16_at(buffer, vtable), 8);
        assert_eq!(buffer[root + u16_at(buffer, vtable + 4)], ERROR_RESPONSE);
        let field = root + u16_at(buffer, vtable + 6);
        let error = field + u32_at(buffer, field);
        let vtable = error - u32_at(buffer, error);
        let field = error + u16_at(buffer, vtable + 4);
        let text = field + u32_at(buffer, field);
        let len = u32_at(buffer, text);
        assert_eq!(&buffer[text + 4..text + 4 + len], b"update, please");
        assert_eq!(buffer[text + 4 + len], 0);
    }
}
