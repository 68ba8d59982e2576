//! Order, fairness, and what waits.

use super::*;
use crate::{
    frame::{FrameReader, Gather},
    limits::MESSAGE_OVERHEAD,
};

fn frames(outbox: &mut Outbox, max: usize) -> Vec<Frame> {
    let mut out = Gather::default();
    outbox.fill(&mut out, max);
    let mut reader = FrameReader::new();
    for part in out.finish() {
        reader.push(part);
    }
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        frames.push(frame);
    }
    frames
}

fn open() -> Outbox {
    let mut outbox = Outbox::default();
    outbox.open(1 << 30, 1 << 30, 1 << 20);
    outbox
}

fn data(outbox: &mut Outbox, id: u64, bytes: usize) {
    outbox.message(id, Head::Data { seq: 1 }, vec![0; bytes].into());
}

#[test]
fn control_goes_before_data() {
    let mut outbox = open();
    data(&mut outbox, 1, 100);
    outbox.urgent(&Frame::Drain);
    let frames = frames(&mut outbox, 65536);
    assert_eq!(frames[0], Frame::Drain);
    assert!(matches!(frames[1], Frame::Data { .. }));
}

#[test]
fn busy_lanes_share_evenly() {
    let mut outbox = open();
    for id in 1..=4 {
        // Message sizes differ widely; what they cost must not.
        let size = [100, 1000, 16 * 1024, 50_000][id as usize - 1];
        for _ in 0..(600_000 / size) {
            data(&mut outbox, id, size);
        }
    }
    let mut sent = [0usize; 5];
    for _ in 0..20 {
        for frame in frames(&mut outbox, 65536) {
            match frame {
                Frame::Data { id, chunk, .. } => {
                    sent[id as usize] += chunk.len() + MESSAGE_OVERHEAD;
                }
                Frame::DataMore { id, chunk } => sent[id as usize] += chunk.len(),
                other => panic!("{other:?}"),
            }
        }
    }
    let fair = sent.iter().sum::<usize>() / 4;
    for id in 1..=4 {
        assert!(
            sent[id].abs_diff(fair) * 10 <= fair,
            "lane {id} sent {} of {fair}: {sent:?}",
            sent[id]
        );
    }
}

#[test]
fn weights_are_proportions() {
    let mut outbox = open();
    for id in 1..=3u64 {
        outbox.open_lane(id);
        outbox.set_weight(id, Weight::new([1, 2, 5][id as usize - 1]).unwrap());
        for _ in 0..200 {
            data(&mut outbox, id, 20_000);
        }
    }
    let mut sent = [0usize; 4];
    while sent.iter().sum::<usize>() < 2_000_000 {
        for frame in frames(&mut outbox, 65536) {
            if let Frame::Data { id, chunk, .. } | Frame::DataMore { id, chunk } = frame {
                sent[id as usize] += chunk.len();
            }
        }
    }
    let part = sent.iter().sum::<usize>() / 8;
    for (id, weight) in [(1, 1), (2, 2), (3, 5)] {
        let share = part * weight;
        assert!(sent[id].abs_diff(share) * 10 <= share, "{sent:?}");
    }
}

#[test]
fn a_stream_without_credit_holds_up_no_long_message() {
    let mut outbox = Outbox::default();
    outbox.open(1 << 20, 40_000, 100_000);
    data(&mut outbox, 1, 45_000); // Begins, and holds most of what streams may have.
    data(&mut outbox, 2, 30_000);
    data(&mut outbox, 2, 30_000); // Has no credit when its turn comes.
    data(&mut outbox, 3, 30_000);
    let mut seen = Vec::new();
    for round in 0..50 {
        if round == 20 {
            outbox.raise(1, 50_000);
        }
        for frame in frames(&mut outbox, 20_000) {
            if let Frame::Data { id, .. } = frame {
                seen.push(id);
            }
        }
    }
    assert_eq!(seen[..3], [1, 2, 3], "{seen:?}");
}

#[test]
fn a_lane_without_credit_waits_alone() {
    let mut outbox = Outbox::default();
    outbox.open(1 << 20, 100, 1 << 20);
    data(&mut outbox, 1, 500);
    data(&mut outbox, 2, 50);
    let first = frames(&mut outbox, 65536);
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(outbox.is_idle());
    outbox.raise(1, 1_000);
    let rest = frames(&mut outbox, 65536);
    assert!(
        matches!(&rest[..], [Frame::DataMore { id: 1, chunk }] if chunk.len() == 500 + 32 - 100),
        "{rest:?}"
    );
}

#[test]
fn reassembly_of_the_peer_is_respected() {
    let mut outbox = Outbox::default();
    outbox.open(1 << 30, 1 << 30, 50_000);
    data(&mut outbox, 1, 40_000);
    data(&mut outbox, 2, 40_000);
    let mut begun = Vec::new();
    let mut open_now = 0usize;
    loop {
        let frames = frames(&mut outbox, 20_000);
        if frames.is_empty() {
            break;
        }
        for frame in frames {
            if let Frame::Data { id, total, .. } = frame {
                begun.push(id);
                open_now = total as usize;
            }
        }
        assert!(open_now <= 50_000);
    }
    assert_eq!(begun, [1, 2]);
    assert!(outbox.is_idle() && outbox.parked.is_empty());
    assert_eq!(outbox.budget.reserved(), 0);
}

#[test]
fn gaps_in_a_row_become_one_and_ends_come_last() {
    let mut outbox = open();
    data(&mut outbox, 1, 10);
    outbox.gap(1, 5, Some(2));
    outbox.gap(1, 9, Some(3));
    outbox.gap(1, 10, None);
    outbox.end(1, None);
    let frames = frames(&mut outbox, 65536);
    assert_eq!(
        frames[1..],
        [
            Frame::Gap {
                id: 1,
                next: 10,
                count: None
            },
            Frame::End { id: 1, error: None }
        ]
    );
    assert!(
        outbox.lanes.is_empty(),
        "an ended lane leaves nothing behind"
    );
}
