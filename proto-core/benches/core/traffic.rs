//! Whole round trips: sent, transmitted, handed in, read, credit given back.

use bytes::Bytes;
use selium_remote_client_protocol::{
    limits::MAX_CHUNK,
    ops::{Common, ListRequest, Request as _},
};

use crate::{Case, joined::Joined, report::SIZES};

/// Bytes of a server's answer with ten processes in it, about.
const LIST_ANSWER: usize = 800;

/// Round trips of one run: reading the clock takes as long as a small part of one.
const TURNS: usize = 64;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in SIZES {
        cases.push(data("data", payload, 1));
    }
    for payload in [64, 1024, 16 * 1024] {
        cases.push(data("data, 64 streams", payload, 64));
    }
    cases.push(ping());
    let list = ListRequest::default().encode(&Common::default());
    for at_once in [1, 64] {
        let what = ["request", "request, 64 at once"][usize::from(at_once > 1)];
        cases.push(request(what, Bytes::new(), 40, at_once));
        cases.push(request(what, list.clone(), LIST_ANSWER, at_once));
    }
    cases
}

fn data(what: &'static str, payload: usize, streams: usize) -> Case {
    let messages = (256 * 1024 / payload).clamp(16, 1024).max(streams);
    let frames = messages * payload.div_ceil(MAX_CHUNK);
    let bytes = Bytes::from(vec![7u8; payload]);
    let mut joined = Joined::new();
    let streams: Vec<_> = (0..streams).map(|_| joined.stream()).collect();
    Case {
        what,
        payload,
        frames,
        run: Box::new(move || {
            let before = (joined.bytes, joined.writes);
            joined.carry(&streams, &bytes, messages);
            assert_eq!(joined.bytes - before.0, messages * payload);
            joined.writes - before.1
        }),
    }
}

fn request(what: &'static str, body: Bytes, answer: usize, at_once: usize) -> Case {
    let turns = TURNS.div_ceil(at_once);
    let mut joined = Joined::new();
    joined.answer = vec![7; answer];
    Case {
        what,
        payload: answer,
        frames: turns * at_once,
        run: Box::new(move || {
            let before = joined.writes;
            for _ in 0..turns {
                joined.ask(&body, at_once);
            }
            joined.writes - before
        }),
    }
}

fn ping() -> Case {
    let mut joined = Joined::new();
    Case {
        what: "ping",
        payload: 8,
        frames: TURNS,
        run: Box::new(move || {
            let before = joined.writes;
            for _ in 0..TURNS {
                joined.ping();
            }
            joined.writes - before
        }),
    }
}
