//! Frames to bytes and back, without a machine.

use std::hint::black_box;

use bytes::Bytes;
use selium_remote_client_protocol::{
    Payload,
    frame::{Frame, FrameReader, Gather},
    limits::{MAX_CHUNK, MAX_WRITE},
};

use crate::{Case, report::SIZES};

/// What QUIC hands out at a time.
const PACKET: usize = 1_200;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in SIZES {
        cases.push(encode(payload));
    }
    for payload in SIZES {
        cases.push(decode("decode", payload, usize::MAX));
    }
    for payload in SIZES {
        cases.push(decode("decode, packets", payload, PACKET));
    }
    cases
}

/// The frames of one write's worth of messages (of one message at least).
fn frames(payload: usize) -> Vec<Frame> {
    let message = Bytes::from(vec![7u8; payload]);
    let mut frames = Vec::new();
    for seq in 0..(MAX_WRITE / (payload + 16)).max(1) as u64 {
        let mut rest = message.clone();
        let chunk = Payload::from(rest.split_to(MAX_CHUNK.min(rest.len())));
        frames.push(Frame::Data {
            id: 5,
            seq,
            total: payload as u64,
            chunk,
        });
        while !rest.is_empty() {
            let chunk = Payload::from(rest.split_to(MAX_CHUNK.min(rest.len())));
            frames.push(Frame::DataMore { id: 5, chunk });
        }
    }
    frames
}

fn encode(payload: usize) -> Case {
    let frames = frames(payload);
    Case {
        what: "encode",
        payload,
        frames: frames.len(),
        run: Box::new(move || {
            let mut out = Gather::default();
            for frame in &frames {
                black_box(frame).encode(&mut out);
            }
            black_box(out.finish());
            1
        }),
    }
}

fn decode(what: &'static str, payload: usize, piece: usize) -> Case {
    let frames = frames(payload);
    let mut out = Gather::default();
    for frame in &frames {
        frame.encode(&mut out);
    }
    let input = Bytes::from(out.finish().concat());
    let count = frames.len();
    let mut reader = FrameReader::new();
    Case {
        what,
        payload,
        frames: count,
        run: Box::new(move || {
            let mut input = input.clone();
            let mut seen = 0;
            while !input.is_empty() {
                reader.push(input.split_to(piece.min(input.len())));
                while let Some(frame) = reader.next().unwrap() {
                    black_box(frame);
                    seen += 1;
                }
            }
            assert_eq!(seen, count);
            1
        }),
    }
}
