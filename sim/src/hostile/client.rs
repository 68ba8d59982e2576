//! A hostile client: it sends what its attack says over a link of its own, beside honest clients of the same server.
//!
//! Each attack has a fate: how PROTOCOL.md says that it ends. The server's answers are read, as far as the attack reads
//! at all, and compared with it; what the server holds meanwhile is bounded by the world's own law.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError, Time,
    envelope::{ClientEnvelope, Envelope, ServerEnvelope},
    frame::{Frame, FrameReader, Gather},
    hello::ClientHello,
    ops::{Common, FollowRequest, InfoRequest, Request, op},
};

use crate::{
    rng::Dice,
    trace::Trace,
    transport::{Read, Side, Transport},
    world::{
        flush,
        law::{Broken, Law, law},
        report::Report,
    },
};

/// When an attack has to have come to its end.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a peer that does not read keeps that up.
const DEAF: Duration = Duration::from_secs(8);

/// Frames of a flood. One more thing to do for each costs the server; that they are many does not change its answer.
const FLOOD: u32 = 3_000;

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Stream data on a request that is over, far more than the connection's window: it is dropped, and its credit
    /// returns at once.
    DataOfTheDead,
    /// A request with a lower id than the one before.
    IdsBackwards,
    /// A request with the same id.
    IdReused,
    /// A response to nothing.
    UnaskedAnswer,
    /// A gap, which only a server sends.
    UnaskedGap,
    /// An acknowledgement, which only a server sends.
    UnaskedAck,
    /// Stream data for an id that was never used.
    DataOnNothing,
    /// A cancel of an id that was never used.
    CancelOfNothing,
    /// A kind below 0x80 that nobody knows.
    MandatoryKind,
    /// A frame of 2^62 - 1 bytes.
    HugeLength,
    /// A request of 2^62 - 1 bytes: begun, and answered.
    HugeTotal,
    /// Two hellos in one write.
    HelloTwice,
    /// A second hello after the answer.
    HelloAgain,
    /// Nothing at all.
    HelloNever,
    /// Another protocol.
    Foreign,
    /// Version 0.3.3.
    Legacy,
    /// Many pings, whose answers are read.
    Pings,
    /// Many pings, whose answers are not read.
    DeafPings,
    /// Many credits.
    Credits,
    /// Many frames of an optional kind.
    Unknown,
    /// Streams that are opened and cancelled at once.
    RapidReset,
    /// The same, and nothing is read.
    DeafReset,
    /// Requests whose answers are not read.
    DeafRequests,
    /// A window of one byte that grows by one byte.
    OneByteWindow,
    /// Requests that are begun and never completed, past the reassembly budget.
    HalfMessages,
    /// More requests at a time than the hello allows, each begun and not completed.
    ManyRequests,
    /// A message that holds more than it said.
    Overlong,
}

/// Every attack.
const ATTACKS: &[Attack] = &[
    Attack::DataOfTheDead,
    Attack::IdsBackwards,
    Attack::IdReused,
    Attack::UnaskedAnswer,
    Attack::UnaskedGap,
    Attack::UnaskedAck,
    Attack::DataOnNothing,
    Attack::CancelOfNothing,
    Attack::MandatoryKind,
    Attack::HugeLength,
    Attack::HugeTotal,
    Attack::HelloTwice,
    Attack::HelloAgain,
    Attack::HelloNever,
    Attack::Foreign,
    Attack::Legacy,
    Attack::Pings,
    Attack::DeafPings,
    Attack::Credits,
    Attack::Unknown,
    Attack::RapidReset,
    Attack::DeafReset,
    Attack::DeafRequests,
    Attack::OneByteWindow,
    Attack::HalfMessages,
    Attack::ManyRequests,
    Attack::Overlong,
];

/// How an attack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// With a goodbye of this code, whose message has these words.
    Goodbye(ErrorCode, &'static str),
    /// With a refusal of this code, or a goodbye if the hello was answered already.
    Refused(ErrorCode),
    /// With the answer that version 0.3.3 understands.
    LegacyAnswer,
    /// Not at all: the last request is answered as any other.
    Lives,
    /// With nothing: the server has no clock to lose patience with.
    Waits,
}

impl Attack {
    fn fate(self, clock: bool) -> Fate {
        use ErrorCode::{DeadlineExceeded, Protocol, ResourceExhausted};
        match self {
            Attack::IdsBackwards | Attack::IdReused => Fate::Goodbye(Protocol, "ids must increase"),
            Attack::UnaskedAnswer | Attack::UnaskedGap | Attack::UnaskedAck => {
                Fate::Goodbye(Protocol, "a client does not send this")
            }
            Attack::DataOnNothing | Attack::CancelOfNothing => {
                Fate::Goodbye(Protocol, "was never made")
            }
            Attack::MandatoryKind => Fate::Goodbye(Protocol, "is not known here"),
            Attack::HugeLength => Fate::Goodbye(Protocol, "past the limit"),
            Attack::HelloTwice => Fate::Refused(Protocol),
            Attack::HelloAgain => Fate::Goodbye(Protocol, ""),
            Attack::HelloNever if clock => Fate::Refused(DeadlineExceeded),
            Attack::HelloNever => Fate::Waits,
            Attack::Foreign => Fate::Refused(Protocol),
            Attack::Legacy => Fate::LegacyAnswer,
            Attack::DeafPings | Attack::DeafReset | Attack::DeafRequests => {
                Fate::Goodbye(ResourceExhausted, "does not read")
            }
            Attack::HalfMessages => Fate::Goodbye(Protocol, "exceed the budget"),
            Attack::Overlong => Fate::Goodbye(Protocol, ""),
            Attack::HugeTotal
            | Attack::DataOfTheDead
            | Attack::Pings
            | Attack::Credits
            | Attack::Unknown
            | Attack::RapidReset
            | Attack::OneByteWindow
            | Attack::ManyRequests => Fate::Lives,
        }
    }

    fn is_deaf(self) -> bool {
        matches!(
            self,
            Attack::DeafPings | Attack::DeafReset | Attack::DeafRequests
        )
    }

    /// Whether it needs the server's hello first.
    fn greets(self) -> bool {
        !matches!(
            self,
            Attack::HelloTwice | Attack::HelloNever | Attack::Foreign | Attack::Legacy
        )
    }
}

/// What the server has said.
#[derive(Debug, Default)]
struct Seen {
    envelope: Vec<u8>,
    greeted: bool,
    refused: Option<RemoteError>,
    legacy: bool,
    goodbye: Option<RemoteError>,
    pongs: u64,
    /// Codes of answers.
    answers: BTreeMap<u64, u64>,
    ended: bool,
}

/// A hostile client.
pub(crate) struct Hostile {
    number: u64,
    pub(crate) wire: u64,
    attack: Attack,
    fate: Fate,
    limits: Limits,
    dice: Dice,
    begun: Option<Time>,
    opened: bool,
    sent_all: bool,
    last_id: u64,
    pings: u64,
    left: u32,
    unsent: VecDeque<Bytes>,
    reader: FrameReader,
    seen: Seen,
    gone: bool,
}

fn bytes(frame: &Frame) -> Bytes {
    let mut gather = Gather::default();
    frame.encode(&mut gather);
    gather.finish().concat().into()
}

fn info(id: u64) -> Frame {
    Frame::Request {
        id,
        op: op::SERVER_INFO,
        total: 0,
        chunk: InfoRequest.encode(&Common::default()).into(),
    }
}

fn filler(len: usize) -> Bytes {
    vec![0x61; len].into()
}

impl Hostile {
    pub(crate) fn draw(
        number: u64,
        wire: u64,
        mut dice: Dice,
        limits: &Limits,
        clock: bool,
    ) -> Self {
        let attack = dice.pick_or(ATTACKS, Attack::HugeLength);
        Self {
            number,
            wire,
            attack,
            fate: attack.fate(clock),
            limits: *limits,
            dice,
            begun: None,
            opened: false,
            sent_all: false,
            last_id: 0,
            pings: 0,
            left: FLOOD,
            unsent: VecDeque::new(),
            reader: FrameReader::new(),
            seen: Seen::default(),
            gone: false,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// When it does something next by itself.
    pub(crate) fn next(&self) -> Option<Time> {
        let begun = self.begun.filter(|_| !self.gone)?;
        let due = if self.attack.is_deaf() { DEAF } else { LONGEST };
        Some(begun.saturating_add(due))
            .into_iter()
            .chain([begun.saturating_add(LONGEST)])
            .min()
    }

    fn hello(&mut self) -> Bytes {
        let mut limits = Limits::default();
        if self.attack == Attack::OneByteWindow {
            limits.connection_window = 1;
            limits.stream_window = 1;
        }
        let hello = ClientHello::new(self.dice.bytes16(), self.dice.bytes16(), &limits);
        ClientEnvelope {
            versions: (1, 1),
            hello: hello.encode().into(),
        }
        .encode()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The attack's next bytes; `None` when it is through.
    fn more(&mut self) -> Option<Bytes> {
        if !core::mem::replace(&mut self.opened, true) {
            return match self.attack {
                Attack::HelloNever => None,
                Attack::Foreign => Some(Bytes::from_static(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
                Attack::Legacy => Some(Bytes::from_static(b"\x10\0\0\0RMCL\0\0\0\0\0\0\0\0")),
                Attack::HelloTwice => {
                    let hello = self.hello();
                    // If the second one comes when the first was answered, its first bytes announce a frame of almost
                    // 5,000.
                    Some([&hello[..], &hello[..], &[0; 8_000]].concat().into())
                }
                _ => Some(self.hello()),
            };
        }
        if !self.attack.greets() {
            self.sent_all = true;
            return None;
        }
        if !self.seen.greeted || self.sent_all {
            return None;
        }
        if !self.attack.is_deaf() && self.unanswered() > 200 {
            return None; // It floods, and reads what comes of it.
        }
        if self.left == 0 {
            self.sent_all = true;
            let id = self.next_id();
            return Some(bytes(&info(id)));
        }
        self.left -= 1;
        Some(self.attack_once())
    }

    /// What was asked and not answered yet.
    fn unanswered(&self) -> u64 {
        match self.attack {
            Attack::Pings => self.pings.saturating_sub(self.seen.pongs),
            Attack::RapidReset => self.last_id.saturating_sub(self.seen.answers.len() as u64),
            _ => 0,
        }
    }

    /// The attack, or one step of it.
    fn attack_once(&mut self) -> Bytes {
        let step = FLOOD - self.left;
        let id = self.last_id;
        let unasked = |frame: Frame| bytes(&frame);
        // Most are over after one step, behind a request that is answered.
        let first = bytes(&info(id + 1));
        let once = |frame: Bytes| -> Bytes { [&first[..], &frame[..]].concat().into() };
        match self.attack {
            Attack::DataOfTheDead => {
                if step == 1 {
                    self.next_id();
                    return first;
                }
                if step > 40 {
                    self.left = 0;
                }
                unasked(Frame::Data {
                    id: 1,
                    seq: u64::from(step),
                    total: 16_000,
                    chunk: filler(16_000).into(),
                })
            }
            Attack::IdsBackwards => {
                self.last([&bytes(&info(9))[..], &bytes(&info(5))[..]].concat())
            }
            Attack::IdReused => self.last(once(bytes(&info(id + 1))).to_vec()),
            Attack::UnaskedAnswer => self.last(
                once(unasked(Frame::Response {
                    id: 1,
                    code: 0,
                    total: 0,
                    chunk: Bytes::new().into(),
                }))
                .to_vec(),
            ),
            Attack::UnaskedGap => self.last(
                once(unasked(Frame::Gap {
                    id: 1,
                    next: 7,
                    count: None,
                }))
                .to_vec(),
            ),
            Attack::UnaskedAck => self.last(
                once(unasked(Frame::Ack {
                    id: 1,
                    seq: 7,
                    may_be_dropped: false,
                }))
                .to_vec(),
            ),
            Attack::DataOnNothing => self.last(
                unasked(Frame::Data {
                    id: 77,
                    seq: 0,
                    total: 1,
                    chunk: filler(1).into(),
                })
                .to_vec(),
            ),
            Attack::CancelOfNothing => self.last(unasked(Frame::Cancel { id: 77 }).to_vec()),
            Attack::MandatoryKind => self.last(vec![2, 0x42, 1]),
            Attack::HugeLength => self.last(vec![0xff; 8]),
            Attack::HelloAgain => {
                let mut hello = self.hello().to_vec();
                // The hello's first bytes announce a frame of almost 5,000.
                hello.extend([0; 8_000]);
                self.last(hello)
            }
            Attack::HugeTotal => {
                self.left = 0;
                let id = self.next_id();
                unasked(Frame::Request {
                    id,
                    op: op::SERVER_INFO,
                    total: (1 << 62) - 1,
                    chunk: filler(100).into(),
                })
            }
            Attack::Overlong => {
                let half = unasked(Frame::Request {
                    id: 1,
                    op: op::SERVER_INFO,
                    total: 30,
                    chunk: filler(20).into(),
                });
                let more = unasked(Frame::More {
                    id: 1,
                    chunk: filler(20).into(),
                });
                self.last([&half[..], &more[..]].concat())
            }
            Attack::Pings | Attack::DeafPings => {
                let mut many = Vec::new();
                self.pings += 8;
                for at in 0..8u64 {
                    many.extend_from_slice(&bytes(&Frame::Ping(
                        (at ^ u64::from(step)).to_be_bytes(),
                    )));
                }
                many.into()
            }
            Attack::Credits if step == 1 => {
                self.next_id();
                first
            }
            Attack::Credits => unasked(Frame::Credit {
                id: u64::from(step % 2),
                limit: u64::from(step),
            }),
            Attack::Unknown => unasked(Frame::Unknown {
                kind: 0x80 + (step % 128) as u8,
            }),
            Attack::DeafRequests => {
                let mut many = Vec::new();
                for _ in 0..4 {
                    let id = self.next_id();
                    many.extend_from_slice(&bytes(&info(id)));
                }
                many.into()
            }
            Attack::RapidReset | Attack::DeafReset | Attack::OneByteWindow => {
                if self.attack == Attack::OneByteWindow && step > 4 {
                    // Every stream, and the connection, may have one byte more.
                    return unasked(Frame::Credit {
                        id: u64::from(step % 5),
                        limit: u64::from(step / 5),
                    });
                }
                let id = self.next_id();
                let follow = FollowRequest::with(|made| {
                    made.target = self.target();
                });
                let body = follow.encode(&Common::default());
                let open = unasked(Frame::Request {
                    id,
                    op: op::LOG_FOLLOW,
                    total: body.len() as u64,
                    chunk: body.into(),
                });
                if self.attack == Attack::OneByteWindow {
                    return open;
                }
                let cancel = unasked(Frame::Cancel { id });
                let mut both = [&open[..], &cancel[..]].concat();
                if self.attack == Attack::DeafReset {
                    // Whether or not it opened a stream, there is an answer to read.
                    for _ in 0..3 {
                        let id = self.next_id();
                        both.extend_from_slice(&bytes(&info(id)));
                    }
                }
                both.into()
            }
            Attack::HalfMessages => {
                let id = self.next_id();
                unasked(Frame::Request {
                    id,
                    op: op::PROCESS_START,
                    total: self.limits.max_request as u64,
                    chunk: filler(10).into(),
                })
            }
            Attack::ManyRequests => {
                if step > 40 {
                    self.left = 0;
                }
                let id = self.next_id();
                // They are cancelled at the end, so that the last request is taken.
                let mut all = unasked(Frame::Request {
                    id,
                    op: op::PROCESS_START,
                    total: 50,
                    chunk: filler(10).into(),
                })
                .to_vec();
                if step > 40 {
                    for id in 1..=id {
                        all.extend_from_slice(&bytes(&Frame::Cancel { id }));
                    }
                }
                all.into()
            }
            Attack::HelloTwice | Attack::HelloNever | Attack::Foreign | Attack::Legacy => {
                Bytes::new()
            }
        }
    }

    /// Something after which nothing else is sent.
    fn last(&mut self, bytes: Vec<u8>) -> Bytes {
        self.left = 0;
        self.sent_all = true;
        bytes.into()
    }

    /// Names under which honest clients start processes.
    fn target(&mut self) -> String {
        let (client, at) = (self.dice.within(1..=2), self.dice.within(0..=3));
        format!("guest-{client}-{at}")
    }

    /// Does what can be done now; answers whether that was anything.
    pub(crate) fn run(
        &mut self,
        now: Time,
        link: &mut dyn Transport,
        trace: &mut Trace,
        report: &mut Report,
    ) -> Law<bool> {
        if self.gone {
            return Ok(false);
        }
        let begun = *self.begun.get_or_insert(now);
        let age = now.saturating_since(begun);
        let mut moved = false;
        while !self.seen.ended
            && (!self.attack.is_deaf() || !self.seen.greeted || age >= DEAF)
            && let Some(read) = link.read(now, Side::Client)
        {
            moved = true;
            self.take(read)
                .map_err(|broken| Broken(format!("{:?}: {broken}", self.attack)))?;
        }
        loop {
            moved |= flush(link, now, Side::Client, &mut self.unsent)?;
            if !self.unsent.is_empty() {
                break;
            }
            let Some(bytes) = self.more() else {
                break;
            };
            report.attack_bytes += bytes.len() as u64;
            trace.note(now, self.number, "attacks", bytes.len() as u64, 0);
            self.unsent.push_back(bytes);
            moved = true;
        }
        let met = self.is_met();
        law!(
            met || age < LONGEST,
            "{:?} was to end with {:?}, and after {age:?} the server has said {:?}",
            self.attack,
            self.fate,
            (
                &self.seen.goodbye,
                &self.seen.refused,
                self.seen.answers.last_key_value()
            )
        );
        let waited = self.fate != Fate::Waits || age >= LONGEST;
        if met && waited {
            report.attacks += 1;
            self.gone = true;
            link.kill(now, Side::Client);
            moved = true;
        }
        Ok(moved)
    }

    fn take(&mut self, read: Read) -> Law {
        let Read::Bytes(bytes) = read else {
            self.seen.ended = true;
            return Ok(());
        };
        if !self.seen.greeted {
            self.seen.envelope.extend_from_slice(&bytes);
            match ServerEnvelope::decode(&self.seen.envelope) {
                Envelope::Incomplete => {}
                Envelope::Complete(ServerEnvelope::Accepted { .. }, end) => {
                    self.seen.greeted = true;
                    let rest = self.seen.envelope.split_off(end);
                    self.reader.push(rest.into());
                }
                Envelope::Complete(ServerEnvelope::Refused { error, .. }, _) => {
                    self.seen.refused = Some(error);
                }
                Envelope::Legacy => self.seen.legacy = true,
                Envelope::Foreign => return Err(Broken("the server is foreign".to_owned())),
            }
        } else {
            self.reader.push(bytes);
        }
        let wrong = |error| Broken(format!("the server's frames: {error}"));
        while let Some(frame) = self.reader.next().map_err(wrong)? {
            law!(
                self.seen.goodbye.is_none(),
                "a frame behind the goodbye: {frame:?}"
            );
            match frame {
                Frame::Goodbye(error) => self.seen.goodbye = Some(error),
                Frame::Response { id, code, .. } => {
                    let old = self.seen.answers.insert(id, code);
                    law!(old.is_none(), "request {id} was answered twice");
                }
                Frame::Pong(_) => self.seen.pongs += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn is_met(&self) -> bool {
        let seen = &self.seen;
        match self.fate {
            Fate::Goodbye(code, words) => seen
                .goodbye
                .as_ref()
                .is_some_and(|error| error.code == code && error.message.contains(words)),
            Fate::Refused(code) => {
                let told = seen.refused.as_ref().or(seen.goodbye.as_ref());
                told.is_some_and(|error| error.code == code)
            }
            Fate::LegacyAnswer => seen.legacy,
            Fate::Lives => {
                let answered = seen.answers.get(&self.last_id) == Some(&0);
                let all = seen.answers.len() as u64 == self.last_id;
                self.sent_all && answered && all && seen.goodbye.is_none()
            }
            Fate::Waits => seen.refused.is_none() && seen.goodbye.is_none(),
        }
    }
}
