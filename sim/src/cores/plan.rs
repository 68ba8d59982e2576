//! What happens in a run of the cores, drawn from the seed, and the truth with which every event is compared.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::LazyLock,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use selium_remote_client_protocol::{ErrorCode, Limits, Weight, limits::MAX_CHUNK};

use crate::rng::{Dice, mix};

/// The longest message, request or answer of a run.
pub(super) const LONGEST: usize = 200_000;

/// A message begins somewhere in so many bytes of the pattern.
const OFFSETS: usize = 1 << 16;

static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let words = (0..((OFFSETS + LONGEST) / 8 + 2) as u64).map(mix);
    words.flat_map(u64::to_le_bytes).collect()
});

/// The bytes that belong to a key, without a copy.
pub(super) fn content(key: u64, len: usize) -> Bytes {
    let at = (mix(key) % OFFSETS as u64) as usize;
    PATTERN.slice(at..at + len.min(LONGEST))
}

/// The key of message `seq` of request `ask`.
pub(super) fn message_key(ask: usize, seq: u64) -> u64 {
    mix(mix(ask as u64) ^ seq)
}

/// The key of a published message.
pub(super) fn published_key((publication, life): PubId, number: u64) -> u64 {
    mix(mix(0x5b ^ (publication << 32) ^ life) ^ number)
}

/// A publication, and which life of it: it begins anew when the server is another one.
pub(super) type PubId = (u64, u64);

/// How a reader reads what is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    AtOnce,
    Every(Duration),
    /// Not before the end of the run.
    Late,
    /// Never: it is looked at how much comes nevertheless.
    Never,
}

impl Reads {
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0..=6 => Reads::AtOnce,
            7 | 8 => Reads::Every(dice.millis(1..=100)),
            _ => Reads::Late,
        }
    }
}

/// How the server ends a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogEnd {
    End,
    Error(ErrorCode),
    Reset(ErrorCode),
    /// It does not: the client does.
    Open,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// An answer.
    Plain,
    /// A stream to the client.
    Log {
        sizes: Vec<usize>,
        /// Percent of places at which messages are missing.
        gaps: u64,
        pace: Duration,
        end: LogEnd,
    },
    /// A stream to the server that ends behind its last message.
    Upload { sizes: Vec<usize> },
    /// A stream to the server for a publication that goes on over streams.
    Publish { id: PubId },
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) what: What,
    pub(super) len: usize,
    /// Bytes of the answer, or an error.
    pub(super) answer: Result<usize, ErrorCode>,
    /// How long the server thinks.
    pub(super) delay: Duration,
    pub(super) deadline: Option<Duration>,
    pub(super) weight: Weight,
    pub(super) reads: Reads,
}

impl Ask {
    pub(super) fn new(what: What) -> Self {
        Self {
            what,
            len: 0,
            answer: Ok(0),
            delay: Duration::ZERO,
            deadline: None,
            weight: Weight::default(),
            reads: Reads::AtOnce,
        }
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Ask(Box<Ask>),
    /// Messages for a publication.
    Push(u64, Vec<usize>),
    Cancel,
    Abandon,
    /// The client resets one of its streams.
    Reset,
    /// The server resets one of them.
    ServerReset,
    Ping,
    Drain,
    ServerDrain,
    Kill,
    Close,
    /// The server dies; another one is there.
    Restart,
}

/// What a stream's server handed over at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Message { seq: u64, len: usize },
    Gap { next: u64, count: Option<u64> },
}

/// A request, and what became of it at the server.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    /// The server has it.
    pub(super) seen: bool,
    /// What it was answered with.
    pub(super) answered: Option<Result<(), ErrorCode>>,
    /// What was put into its stream to the client.
    pub(super) items: Vec<Item>,
    /// How the server ended its stream: abruptly or not, and why.
    pub(super) over: Option<(bool, Option<ErrorCode>)>,
    /// Messages that came on its stream to the server.
    pub(super) received: u64,
}

/// What became of a life of a publication.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Lengths of the messages.
    pub(super) pushed: Vec<usize>,
    /// How many the server took over.
    pub(super) taken: u64,
}

/// What everybody knows.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) asked: Vec<Asked>,
    pub(super) published: BTreeMap<PubId, Published>,
    /// Limits are small enough for "resource exhausted".
    pub(super) tight: bool,
    /// The run comes to its end: who has not read does now.
    pub(super) finishing: bool,
}

impl Truth {
    pub(super) fn add(&mut self, ask: Ask) -> usize {
        self.asked.push(Asked {
            ask,
            seen: false,
            answered: None,
            items: Vec::new(),
            over: None,
            received: 0,
        });
        self.asked.len() - 1
    }
}

/// The body of a request: its number, then its content.
pub(super) fn body(number: usize, len: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(8 + len);
    body.put_u64(number as u64);
    body.put_slice(&content(number as u64, len));
    body.freeze()
}

/// Limits of one side; small ones from one byte of content on.
pub(super) fn limits(dice: &mut Dice, small: bool) -> Limits {
    let window = |dice: &mut Dice| match dice.below(4) {
        0 => dice.size(33..=70),
        1 => dice.size(71..=600),
        2 => dice.size(601..=5_000),
        _ => dice.size(5_001..=40_000),
    };
    Limits::with(|limits| {
        if small {
            limits.stream_window = window(dice);
            limits.connection_window = if dice.chance(50) {
                limits.stream_window.saturating_mul(dice.size(1..=4))
            } else {
                window(dice)
            };
            limits.max_connection_window =
                limits.connection_window + dice.pick_or(&[0, 0, 20_000], 0);
            limits.max_message = dice.size(500..=60_000);
            limits.reassembly = limits.max_message + dice.pick_or(&[0, 10_000, 50_000], 0);
            limits.stream_queue = dice.size(100..=64_000);
            limits.connection_queue = dice.size(4_000..=200_000);
            limits.control_queue = dice.size(300_000..=1_000_000);
            limits.max_request = dice.size(20_000..=200_000);
            limits.max_requests = dice.size(3..=32);
            limits.max_streams = dice.size(2..=16);
        } else {
            limits.max_message = 200_000;
            limits.reassembly = 400_000;
        }
    })
}

/// What one direction carries at most, by what its receiver takes.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// The longest message.
    message: usize,
    /// Bytes of one stream.
    volume: usize,
}

impl Way {
    fn to(receiver: &Limits, large: bool) -> Self {
        let window = receiver.stream_window.min(receiver.connection_window);
        let most = if large { 400_000 } else { 40_000 };
        Self {
            message: receiver
                .max_message
                .min(receiver.reassembly)
                .min(window.saturating_mul(15)),
            volume: window.saturating_mul(40).min(most),
        }
    }

    /// Lengths of a stream's messages.
    fn sizes(&self, dice: &mut Dice, most: u64) -> Vec<usize> {
        let longest = match dice.below(4) {
            0 => 20,
            1 | 2 => 1_000,
            _ => self.message,
        };
        let longest = longest.min(self.message);
        let mut left = self.volume;
        let mut sizes = Vec::new();
        for _ in 0..dice.within(0..=most) {
            let len = dice.size(1..=longest);
            if len + 32 > left {
                break;
            }
            left -= len + 32;
            sizes.push(len);
        }
        sizes
    }
}

/// Draws what happens: what, and how long after the step before.
pub(super) fn script(
    dice: &mut Dice,
    client: &Limits,
    server: &Limits,
    publications: u64,
    calm: bool,
    large: bool,
) -> VecDeque<(Duration, Step)> {
    let steps = if large {
        dice.within(20..=60)
    } else {
        dice.within(2..=14)
    };
    let hurry = dice.pick_or(&[0, 5, 100, 100, 1_000], 100);
    let (up, down) = (Way::to(server, large), Way::to(client, large));
    let most = if large { 60 } else { 12 };
    (0..steps)
        .map(|_| {
            let wait = dice.millis(0..=hurry);
            let step = match dice.below(100) {
                0..=17 => plain(dice, client, server),
                18..=37 => log(dice, down, most),
                38..=47 => upload(dice, up, most),
                48..=69 if publications > 0 => {
                    Step::Push(dice.below(publications), up.sizes(dice, most))
                }
                48..=69 => upload(dice, up, most),
                70..=76 => Step::Cancel,
                77..=79 => Step::Abandon,
                80..=83 => Step::Reset,
                84..=87 => Step::ServerReset,
                88..=89 => Step::Ping,
                90 => Step::Drain,
                91 => Step::ServerDrain,
                92..=94 if !calm => Step::Kill,
                95..=96 if !calm => Step::Close,
                97..=98 if !calm => Step::Restart,
                _ => plain(dice, client, server),
            };
            (wait, step)
        })
        .collect()
}

fn thinking(dice: &mut Dice) -> Duration {
    let most = dice.pick_or(&[0, 0, 20, 1_500], 0);
    dice.millis(0..=most)
}

fn length(dice: &mut Dice, most: usize) -> usize {
    let most = match dice.below(8) {
        0 => most,
        1 => most.min(MAX_CHUNK + 10),
        _ => most.min(300),
    };
    dice.size(0..=most)
}

fn ask(dice: &mut Dice, what: What) -> Ask {
    Ask {
        delay: thinking(dice),
        deadline: dice.chance(10).then(|| dice.millis(1..=1_500)),
        weight: Weight::new(dice.within(1..=16) as u8).unwrap_or_default(),
        reads: Reads::draw(dice),
        answer: match dice.chance(5) {
            true => Err(ErrorCode::NotFound),
            false => Ok(length(dice, 300)),
        },
        ..Ask::new(what)
    }
}

fn plain(dice: &mut Dice, client: &Limits, server: &Limits) -> Step {
    let mut ask = ask(dice, What::Plain);
    ask.len = length(dice, server.max_request.min(LONGEST));
    if ask.answer.is_ok() {
        // Sometimes more than the client takes.
        ask.answer = Ok(length(dice, client.max_message * 9 / 8).min(LONGEST));
    }
    Step::Ask(Box::new(ask))
}

fn log(dice: &mut Dice, way: Way, most: u64) -> Step {
    let what = What::Log {
        sizes: way.sizes(dice, most),
        gaps: dice.pick_or(&[0, 0, 10, 40], 0),
        pace: Duration::from_millis(dice.pick_or(&[0, 0, 0, 30], 0)),
        end: match dice.below(8) {
            0..=2 => LogEnd::End,
            3 | 4 => LogEnd::Error(ErrorCode::Unavailable),
            5 => LogEnd::Reset(ErrorCode::Internal),
            _ => LogEnd::Open,
        },
    };
    Step::Ask(Box::new(ask(dice, what)))
}

fn upload(dice: &mut Dice, way: Way, most: u64) -> Step {
    let what = What::Upload {
        sizes: way.sizes(dice, most),
    };
    Step::Ask(Box::new(ask(dice, what)))
}
