//! Frames round trip, over any chunking, and bad ones are refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{error::ErrorCode, limits::MAX_CHUNK};

fn chunk(max: usize) -> impl Strategy<Value = Payload> {
    proptest::collection::vec(any::<u8>(), 1..max).prop_map(Payload::from)
}

fn id() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..100, 1..=varint::MAX]
}

fn error() -> impl Strategy<Value = RemoteError> {
    (1u64..15, ".{0,40}")
        .prop_map(|(code, message)| RemoteError::new(ErrorCode::from_wire(code), message))
}

/// Any frame that a sender may make.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        any::<[u8; 8]>().prop_map(Frame::Ping),
        any::<[u8; 8]>().prop_map(Frame::Pong),
        error().prop_map(Frame::Goodbye),
        Just(Frame::Drain),
        (0..=varint::MAX, 0..=varint::MAX).prop_map(|(id, limit)| Frame::Credit { id, limit }),
        (id(), id(), 0u64..9999, chunk(MAX_CHUNK)).prop_map(|(id, op, more, chunk)| {
            Frame::Request {
                id,
                op,
                total: chunk.len() as u64 + more,
                chunk,
            }
        }),
        (id(), 0u64..20, 0u64..9999, chunk(3000)).prop_map(|(id, code, more, chunk)| {
            Frame::Response {
                id,
                code,
                total: chunk.len() as u64 + more,
                chunk,
            }
        }),
        (id(), id(), 0u64..9999, chunk(3000)).prop_map(|(id, seq, more, chunk)| {
            Frame::Data {
                id,
                seq,
                total: chunk.len() as u64 + more,
                chunk,
            }
        }),
        (id(), chunk(3000)).prop_map(|(id, chunk)| Frame::More { id, chunk }),
        (id(), chunk(3000)).prop_map(|(id, chunk)| Frame::DataMore { id, chunk }),
        id().prop_map(|id| Frame::Cancel { id }),
        (id(), proptest::option::of(error())).prop_map(|(id, error)| Frame::End { id, error }),
        (id(), error()).prop_map(|(id, error)| Frame::Reset { id, error }),
        (id(), id(), proptest::option::of(0..varint::MAX))
            .prop_map(|(id, next, count)| Frame::Gap { id, next, count }),
        (id(), id(), any::<bool>()).prop_map(|(id, seq, may_be_dropped)| Frame::Ack {
            id,
            seq,
            may_be_dropped
        }),
        (0x80u8..).prop_map(|kind| Frame::Unknown { kind }),
    ]
}

fn read_all(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        rest = later;
        reader.push(Bytes::copy_from_slice(now));
        while let Some(frame) = reader.next()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

#[test]
fn lengths_are_checked_before_anything_else() {
    let read = |bytes: &'static [u8]| {
        let mut reader = FrameReader::new();
        reader.push(Bytes::from_static(bytes));
        reader.next().map_err(|error| error.kind)
    };
    // A length of 2^62 - 1.
    assert_eq!(read(&[0xff; 8]), Err(FrameErrorKind::TooLong(varint::MAX)));
    assert_eq!(read(&[0]), Err(FrameErrorKind::TooShort));
    assert_eq!(read(&[1, kind::PING]), Err(FrameErrorKind::TooShort));
    assert_eq!(
        read(&[2, kind::PING, 0]),
        Err(FrameErrorKind::Body(kind::PING))
    );
    assert_eq!(read(&[2, 0x7f, 1]), Err(FrameErrorKind::UnknownKind(0x7f)));
    assert_eq!(
        read(&[2, kind::CANCEL, 0]),
        Err(FrameErrorKind::Id(kind::CANCEL))
    );
    assert_eq!(
        read(&[2, kind::DRAIN, 1]),
        Err(FrameErrorKind::Id(kind::DRAIN))
    );
    assert_eq!(read(&[2, kind::MORE, 1]), Err(FrameErrorKind::Chunk(0)));
    assert_eq!(
        read(&[5, kind::DATA, 1, 0, 0, 9]),
        Err(FrameErrorKind::Chunk(1))
    );
    assert_eq!(
        read(&[4, kind::DATA, 1, 0, 9]),
        Err(FrameErrorKind::Chunk(0))
    );
}

#[test]
fn long_contents_are_not_copied() {
    let content = Bytes::from(vec![7u8; 8000]);
    let frame = Frame::Data {
        id: 1,
        seq: 1,
        total: 8000,
        chunk: content.clone().into(),
    };
    let mut out = Gather::default();
    frame.encode(&mut out);
    let parts = out.finish();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[1].as_ptr(), content.as_ptr());

    let input = frame.to_bytes();
    let mut reader = FrameReader::new();
    reader.push(input.clone());
    let Some(Frame::Data { chunk, .. }) = reader.next().unwrap() else {
        panic!("a data frame");
    };
    assert!(input.as_ptr_range().contains(&chunk.into_bytes().as_ptr()));
}

proptest! {
    #[test]
    fn frames_round_trip_over_any_chunking(frames in proptest::collection::vec(frame(), 1..8), cuts in proptest::collection::vec(0usize..40, 0..60)) {
        let mut out = Gather::default();
        for frame in &frames {
            frame.encode(&mut out);
        }
        let len = out.len();
        let bytes = Payload::from(out.finish()).to_vec();
        prop_assert_eq!(bytes.len(), len);
        prop_assert_eq!(read_all(&bytes, &cuts), Ok(frames));
    }

    #[test]
    fn any_input_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(0usize..40, 0..20)) {
        let whole = read_all(&bytes, &[]);
        prop_assert_eq!(read_all(&bytes, &cuts), whole);
    }
}
