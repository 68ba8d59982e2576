//! Reads and writes, which carry all data, encoded and decoded by hand: each byte is copied once on its way to the host and once on its way from
//! there. The ABI's own functions copy it three times each, and byte by byte in a module that is optimised for size.
//!
//! What rkyv makes of these types is fixed, since the host checks it: the fields in order, lowest byte first, behind the payload, to which a
//! field points by how far it lies from the field. The tests compare both ways with the ABI's own functions.

use bytes::Bytes;

use super::error::HostError;
use crate::channel::Frame;

/// The bytes of a number, and of a frame's head and a write's: three numbers, the first of which is the handle or the writer.
const NUMBER: usize = 4;
const HEAD: usize = 3 * NUMBER;

/// How much is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) handle: u32,
    pub(crate) len: u32,
}

/// What is to be written: these pieces, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    pub(crate) handle: u32,
    pub(crate) payload: Pieces<'a>,
}

/// Bytes, in pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pieces<'a> {
    One(&'a [u8]),
    Many(&'a [Bytes]),
}

impl Pieces<'_> {
    /// Bytes in all.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Many(pieces) => pieces.iter().map(Bytes::len).sum(),
        }
    }
}

pub(crate) fn encode_read(read: &Read, args: &mut Vec<u8>) {
    args.extend_from_slice(&read.handle.to_le_bytes());
    args.extend_from_slice(&read.len.to_le_bytes());
}

pub(crate) fn encode_write(write: &Write<'_>, args: &mut Vec<u8>) -> Result<(), HostError> {
    let len = write.payload.len();
    let padded = len.next_multiple_of(NUMBER);
    let malformed = |_| HostError::Malformed("argument");
    // From the pointer, behind the handle, back to the payload.
    let back = i32::try_from(padded + NUMBER).map_err(malformed)?;
    let count = u32::try_from(len).map_err(malformed)?;
    args.reserve(padded + HEAD);
    let begin = args.len();
    match write.payload {
        Pieces::One(bytes) => args.extend_from_slice(bytes),
        Pieces::Many(pieces) => pieces.iter().for_each(|it| args.extend_from_slice(it)),
    }
    args.resize(begin + padded, 0);
    args.extend_from_slice(&write.handle.to_le_bytes());
    args.extend_from_slice(&(-back).to_le_bytes());
    args.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

/// What was read, in memory of its own.
pub(crate) fn decode_frame(reply: &[u8]) -> Result<Frame, HostError> {
    frame(reply).ok_or(HostError::Malformed("reply"))
}

fn frame(reply: &[u8]) -> Option<Frame> {
    let (before, head) = reply.split_last_chunk::<HEAD>()?;
    let [a, b, _, _, head @ ..] = *head;
    let [p0, p1, p2, p3, l0, l1, l2, l3] = head;
    let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
    let back = i32::from_le_bytes([p0, p1, p2, p3]);
    // From the pointer's own place, which is behind the writer's number.
    let pointer = i64::try_from(before.len() + NUMBER).ok()?;
    let begin = usize::try_from(pointer + i64::from(back)).ok()?;
    let payload = before.get(begin..begin.checked_add(len)?)?;
    Some(Frame {
        writer_id: u16::from_le_bytes([a, b]),
        payload: Bytes::copy_from_slice(payload),
    })
}

#[cfg(test)]
mod tests {
    use selium_abi::{IoFrame, IoRead, IoWrite, decode_rkyv, encode_rkyv};

    use super::*;

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|at| at as u8).collect()
    }

    #[test]
    fn arguments_are_those_of_the_abi() {
        for len in (1..70).chain([4_096, 65_537]) {
            let payload = payload(len);
            let theirs = encode_rkyv(&IoWrite {
                handle: 0x0102_0304,
                payload: payload.clone(),
            })
            .unwrap();
            let (head, rest) = payload.split_at(len / 3);
            let pieces = [
                Bytes::copy_from_slice(head),
                Bytes::new(),
                Bytes::copy_from_slice(rest),
            ];
            for pieces in [Pieces::One(&payload), Pieces::Many(&pieces)] {
                assert_eq!(pieces.len(), len);
                let mut ours = Vec::new();
                let write = Write {
                    handle: 0x0102_0304,
                    payload: pieces,
                };
                encode_write(&write, &mut ours).unwrap();
                assert_eq!(ours, theirs, "{len}");
                assert_eq!(decode_rkyv::<IoWrite>(&ours).unwrap().payload, payload);
            }
        }
        let mut ours = Vec::new();
        let (handle, len) = (7, 0x0a0b_0c0d);
        encode_read(&Read { handle, len }, &mut ours);
        assert_eq!(ours, encode_rkyv(&IoRead { handle, len }).unwrap());
    }

    #[test]
    fn replies_are_those_of_the_abi() {
        for len in (0..70).chain([4_096, 65_537]) {
            let payload = payload(len);
            let reply = encode_rkyv(&IoFrame {
                writer_id: 0x0708,
                payload: payload.clone(),
            })
            .unwrap();
            let frame = decode_frame(&reply).unwrap();
            assert_eq!((frame.writer_id, &*frame.payload), (0x0708, &*payload));
            // Cut off, it is none, or it ends somewhere in the payload, where anything may stand.
            for cut in 0..reply.len().min(40) {
                let _ = decode_frame(&reply[..cut]);
            }
        }
    }

    #[test]
    fn no_reply_points_out_of_itself() {
        let reply = |back: i32, len: u32| {
            let mut reply = vec![1, 2, 3, 4, 9, 0, 0, 0];
            reply.extend_from_slice(&back.to_le_bytes());
            reply.extend_from_slice(&len.to_le_bytes());
            decode_frame(&reply).map(|frame| frame.payload.to_vec())
        };
        assert_eq!(reply(-8, 4).unwrap(), [1, 2, 3, 4]);
        assert_eq!(reply(-6, 2).unwrap(), [3, 4]);
        let malformed = Err(HostError::Malformed("reply"));
        for (back, len) in [
            (-9, 1),
            (-8, 5),
            (-3, 1),
            (0, 1),
            (-8, u32::MAX),
            (i32::MIN, 1),
            (i32::MAX, 0),
        ] {
            assert_eq!(reply(back, len), malformed, "{back} {len}");
        }
        assert_eq!(decode_frame(&[0; 11]), Err(HostError::Malformed("reply")));
    }
}
