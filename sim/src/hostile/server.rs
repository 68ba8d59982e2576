//! A hostile server, and an honest client of it.
//!
//! The client asks for a log, for the server's counters and for a list; then the server does what its attack says. How
//! the client ends is asserted, and that it hands out no more than it gave credit for.

use bytes::Bytes;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, RequestId, Time,
    client::{
        ClientConfig, ClientConnection, ClientEvent, RequestError, RequestOptions, StreamKind,
    },
    envelope::ServerEnvelope,
    frame::{Frame, Gather},
    hello::{ClientHello, ServerHello},
    ops::{Common, FollowRequest, InfoRequest, Request},
};

use crate::{
    rng::Dice,
    world::law::{Broken, Law, law},
};

/// The client's windows.
const WINDOW: usize = 16 * 1024;

/// Its reassembly budget.
const REASSEMBLY: usize = 64 * 1024;

/// Frames of a flood.
const FLOOD: u64 = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    UnaskedAnswer,
    UnaskedData,
    UnaskedGap,
    UnaskedEnd,
    DataBeforeTheAnswer,
    AnsweredTwice,
    AnsweredTwiceHalf,
    CreditOverrun,
    Gaps,
    Pings,
    PingsUnread,
    Credits,
    Unknown,
    Drains,
    HugeLength,
    HugeTotal,
    HugeMessage,
    HalfMessages,
    EmptyMessage,
    Overlong,
    Requests,
    MandatoryKind,
    AbsurdHello,
    EmptyHello,
    WrongVersion,
    Garbage,
    Legacy,
    Goodbye,
}

const ATTACKS: &[Attack] = &[
    Attack::UnaskedAnswer,
    Attack::UnaskedData,
    Attack::UnaskedGap,
    Attack::UnaskedEnd,
    Attack::DataBeforeTheAnswer,
    Attack::AnsweredTwice,
    Attack::AnsweredTwiceHalf,
    Attack::CreditOverrun,
    Attack::Gaps,
    Attack::Pings,
    Attack::PingsUnread,
    Attack::Credits,
    Attack::Unknown,
    Attack::Drains,
    Attack::HugeLength,
    Attack::HugeTotal,
    Attack::HugeMessage,
    Attack::HalfMessages,
    Attack::EmptyMessage,
    Attack::Overlong,
    Attack::Requests,
    Attack::MandatoryKind,
    Attack::AbsurdHello,
    Attack::EmptyHello,
    Attack::WrongVersion,
    Attack::Garbage,
    Attack::Legacy,
    Attack::Goodbye,
];

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// With a protocol error that has these words.
    Protocol(&'static str),
    /// Because the server does not read.
    Exhausted,
    /// Told by the server.
    Peer,
    Legacy,
    Foreign,
    /// Not at all.
    Lives,
}

impl Attack {
    fn fate(self) -> Fate {
        match self {
            Attack::UnaskedAnswer
            | Attack::UnaskedData
            | Attack::UnaskedGap
            | Attack::UnaskedEnd => Fate::Protocol("nobody asked for it"),
            Attack::DataBeforeTheAnswer => Fate::Protocol("no such stream"),
            Attack::AnsweredTwiceHalf => Fate::Protocol("answered twice"),
            Attack::CreditOverrun | Attack::Gaps => Fate::Protocol("without credit"),
            Attack::PingsUnread => Fate::Exhausted,
            Attack::HugeLength => Fate::Protocol("past the limit"),
            Attack::HugeTotal | Attack::HugeMessage => {
                Fate::Protocol("longer than our hello allows")
            }
            Attack::HalfMessages => Fate::Protocol("exceed the budget"),
            Attack::EmptyMessage => Fate::Protocol("is empty"),
            Attack::Overlong => Fate::Protocol(""),
            Attack::Requests => Fate::Protocol("sends no requests"),
            Attack::MandatoryKind => Fate::Protocol("is not known here"),
            Attack::EmptyHello => Fate::Protocol("hello"),
            Attack::WrongVersion => Fate::Protocol("version"),
            Attack::Garbage => Fate::Foreign,
            Attack::Legacy => Fate::Legacy,
            Attack::Goodbye => Fate::Peer,
            // A late answer is dropped quietly, and so is what is optional.
            Attack::AnsweredTwice
            | Attack::Pings
            | Attack::Credits
            | Attack::Unknown
            | Attack::Drains
            | Attack::AbsurdHello => Fate::Lives,
        }
    }
}

struct Victim {
    core: ClientConnection,
    dice: Dice,
    now: Time,
    /// Whether what it writes is taken.
    read: bool,
    sent: u64,
    answers: Vec<RequestId>,
    /// Bytes that were handed out and not read.
    unread: usize,
    events: u64,
    closed: Option<CloseReason>,
}

impl Victim {
    /// Sends bytes to it, in pieces.
    fn feed(&mut self, bytes: impl Into<Bytes>) -> Law {
        let mut bytes = bytes.into();
        self.sent += bytes.len() as u64;
        while !bytes.is_empty() {
            let most = self.dice.pick_or(&[1_000_000, 1_000_000, 10_000, 60], 60);
            let piece = bytes.split_to(self.dice.size(1..=most).min(bytes.len()));
            self.core.handle_input(self.now, piece);
            self.settle()?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Law {
        let mut gather = Gather::default();
        frame.encode(&mut gather);
        self.feed(gather.finish().concat())
    }

    fn settle(&mut self) -> Law {
        while self.read && self.core.poll_transmit(usize::MAX).is_some() {}
        while let Some(event) = self.core.poll_event() {
            law!(
                self.closed.is_none(),
                "an event behind the close: {event:?}"
            );
            self.events += 1;
            match event {
                ClientEvent::Response { id, .. } => {
                    law!(!self.answers.contains(&id), "request {id} ends twice");
                    self.answers.push(id);
                }
                ClientEvent::Message { cost, .. } | ClientEvent::Gap { cost, .. } => {
                    self.unread += cost;
                    let most = WINDOW + REASSEMBLY + 64;
                    law!(
                        self.unread <= most,
                        "{} bytes are unread, credit was given for {most}",
                        self.unread
                    );
                }
                ClientEvent::Closed(reason) => self.closed = Some(reason),
                _ => {}
            }
        }
        Ok(())
    }
}

fn response(id: u64, total: u64, len: usize) -> Frame {
    Frame::Response {
        id,
        code: 0,
        total,
        chunk: filler(len).into(),
    }
}

fn data(id: u64, seq: u64, total: u64, len: usize) -> Frame {
    Frame::Data {
        id,
        seq,
        total,
        chunk: filler(len).into(),
    }
}

fn filler(len: usize) -> Bytes {
    vec![0x61; len].into()
}

/// Runs the attack of this seed; answers how many bytes were sent.
pub(crate) fn run(seed: u64) -> Law<u64> {
    let mut dice = Dice::new(seed).fork("hostile server");
    let attack = dice.pick_or(ATTACKS, Attack::HugeLength);
    let limits = Limits::with(|limits| {
        limits.connection_window = WINDOW;
        limits.stream_window = WINDOW;
        limits.max_connection_window = WINDOW;
        limits.max_message = REASSEMBLY;
        limits.reassembly = REASSEMBLY;
        limits.control_queue = 32 * 1024;
    });
    let hello = ClientHello::new(dice.bytes16(), dice.bytes16(), &limits);
    let mut victim = Victim {
        core: ClientConnection::new(ClientConfig::new(hello, limits)),
        dice,
        now: Time::from_millis(1),
        read: true,
        sent: 0,
        answers: Vec::new(),
        unread: 0,
        events: 0,
        closed: None,
    };
    let told = |broken: Broken| Broken(format!("hostile server, {attack:?}: {broken}"));
    victim.settle().map_err(told)?;
    play(attack, &mut victim).map_err(told)?;
    let fate = attack.fate();
    let met = match (&victim.closed, fate) {
        (Some(CloseReason::Protocol(words)), Fate::Protocol(wanted)) => words.contains(wanted),
        (Some(CloseReason::Local(error)), Fate::Exhausted) => {
            error.code == ErrorCode::ResourceExhausted
        }
        (Some(CloseReason::Peer(_)), Fate::Peer)
        | (Some(CloseReason::Legacy), Fate::Legacy)
        | (Some(CloseReason::Foreign), Fate::Foreign)
        | (None, Fate::Lives) => true,
        _ => false,
    };
    law!(
        met,
        "hostile server, {attack:?} was to end the client with {fate:?}, it ended with {:?}",
        victim.closed
    );
    // Whatever was done to it, what is over is over.
    law!(
        victim.closed.is_some() == victim.core.is_closed(),
        "the client is closed and does not say so"
    );
    Ok(victim.sent)
}

fn play(attack: Attack, victim: &mut Victim) -> Law {
    let mut hello = ServerHello::new([3; 16], &Limits::default());
    match attack {
        Attack::Garbage => return victim.feed(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n")),
        Attack::Legacy => {
            return victim.feed(Bytes::from_static(b"\x40\0\0\0\x10\0\0\0RMCL\0\0\0\0"));
        }
        Attack::AbsurdHello => {
            hello.max_requests = usize::MAX >> 2;
            hello.max_streams = usize::MAX >> 2;
            hello.max_request = usize::MAX >> 2;
            hello.limits.connection_window = u64::MAX >> 2;
            hello.limits.stream_window = u64::MAX >> 2;
            hello.limits.max_message = usize::MAX >> 2;
            hello.limits.reassembly = usize::MAX >> 2;
        }
        _ => {}
    }
    let envelope = ServerEnvelope::Accepted {
        version: if attack == Attack::WrongVersion { 9 } else { 1 },
        hello: if attack == Attack::EmptyHello {
            Bytes::new()
        } else {
            hello.encode().into()
        },
    };
    victim.feed(envelope.encode())?;
    if victim.closed.is_some() {
        return Ok(());
    }
    // 1: a follow, answered; 2: info, answered; 3: info, never answered.
    let follow = FollowRequest::with(|made| {
        made.target = "a".to_owned();
    });
    let common = Common::default();
    let to_client = RequestOptions::new(StreamKind::ToClient);
    let plain = RequestOptions::default();
    let unsent = |error: RequestError| Broken(format!("the victim cannot ask: {error}"));
    let ask = |core: &mut ClientConnection, options| {
        let body = match options {
            true => follow.encode(&common),
            false => InfoRequest.encode(&common),
        };
        let (op, options) = match options {
            true => (FollowRequest::OP, to_client),
            false => (InfoRequest::OP, plain),
        };
        core.request(op, body, options).map_err(unsent)
    };
    for stream in [true, false, false] {
        ask(&mut victim.core, stream)?;
    }
    if attack == Attack::DataBeforeTheAnswer {
        return victim.frame(&data(1, 0, 1, 1));
    }
    victim.frame(&response(1, 0, 0))?;
    victim.frame(&response(2, 10, 10))?;
    strike(attack, victim)?;
    if attack.fate() == Fate::Lives {
        // It still serves: what was asked is answered, and it can ask, unless it was told not to.
        victim.frame(&response(3, 10, 10))?;
        let answered = victim.answers.len();
        law!(answered == 3, "{answered} of 3 requests have ended");
        let asks = ask(&mut victim.core, false).is_ok();
        law!(
            asks != (attack == Attack::Drains),
            "asking on works: {asks}"
        );
    }
    Ok(())
}

fn strike(attack: Attack, victim: &mut Victim) -> Law {
    match attack {
        Attack::UnaskedAnswer => victim.frame(&response(77, 0, 0)),
        Attack::UnaskedData => victim.frame(&data(77, 0, 1, 1)),
        Attack::UnaskedEnd => victim.frame(&Frame::End {
            id: 77,
            error: None,
        }),
        Attack::UnaskedGap => victim.frame(&Frame::Gap {
            id: 77,
            next: 1,
            count: Some(1),
        }),
        Attack::AnsweredTwice => victim.frame(&response(2, 10, 10)),
        Attack::AnsweredTwiceHalf => {
            victim.frame(&response(3, 20_000, 10))?;
            victim.frame(&response(3, 20_000, 10))
        }
        Attack::CreditOverrun => {
            for seq in 0..=(WINDOW / 1_032) as u64 {
                victim.frame(&data(1, seq, 1_000, 1_000))?;
            }
            Ok(())
        }
        Attack::Gaps => {
            for next in 1..=FLOOD {
                victim.frame(&Frame::Gap {
                    id: 1,
                    next,
                    count: Some(1),
                })?;
            }
            Ok(())
        }
        Attack::Pings | Attack::PingsUnread => {
            victim.read = attack == Attack::Pings;
            for n in 0..FLOOD {
                victim.frame(&Frame::Ping(n.to_be_bytes()))?;
            }
            Ok(())
        }
        Attack::Credits => {
            for n in 0..FLOOD {
                let (id, limit) = (n % 4, n << 40);
                victim.frame(&Frame::Credit { id, limit })?;
            }
            Ok(())
        }
        Attack::Unknown => {
            for n in 0..FLOOD {
                let kind = 0x80 + (n % 128) as u8;
                victim.frame(&Frame::Unknown { kind })?;
            }
            Ok(())
        }
        Attack::Drains => {
            for _ in 0..FLOOD {
                victim.frame(&Frame::Drain)?;
            }
            let events = victim.events;
            law!(events < 10, "{events} events for one drain said many times");
            Ok(())
        }
        Attack::HugeLength => victim.feed(vec![0xff; 8]),
        Attack::HugeTotal => victim.frame(&response(3, (1 << 62) - 1, 10)),
        Attack::HugeMessage => victim.frame(&data(1, 0, (1 << 62) - 1, 10)),
        Attack::HalfMessages => {
            victim.frame(&data(1, 0, REASSEMBLY as u64 - 10, 10))?;
            victim.frame(&response(3, 20_000, 10))
        }
        Attack::EmptyMessage => victim.frame(&data(1, 0, 0, 0)),
        Attack::Overlong => {
            victim.frame(&data(1, 0, 30, 20))?;
            victim.frame(&Frame::DataMore {
                id: 1,
                chunk: filler(20).into(),
            })
        }
        Attack::Requests => victim.frame(&Frame::Cancel { id: 1 }),
        Attack::MandatoryKind => victim.feed(vec![2, 0x42, 1]),
        Attack::Goodbye => victim.frame(&Frame::Goodbye(
            selium_remote_client_protocol::RemoteError::new(ErrorCode::Internal, "bye"),
        )),
        Attack::DataBeforeTheAnswer
        | Attack::AbsurdHello
        | Attack::EmptyHello
        | Attack::WrongVersion
        | Attack::Garbage
        | Attack::Legacy => Ok(()),
    }
}
