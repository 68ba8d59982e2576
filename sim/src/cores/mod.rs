//! One run of the two protocol machines alone: a toy application on each side, over one link after another.
//!
//! ```text
//! script -> Client: ClientConnection -> link -> ServerConnection: ServerEnd
//!              |                                        |
//!              `------------- compared: Truth ----------'
//! ```
//!
//! What server-core does not use is exercised here: streams to the server with their acknowledgements, publications
//! that outlive connections and servers, weights, resets from both sides, half-close, drain from both sides.
//!
//! The laws, kept in every run:
//!
//! - a request reaches the server at most once, with its bytes; it ends exactly once, with the answer that it was given,
//!   with its expiry, or with its connection; so does every stream, with the reason that its ender gave;
//! - what comes on a stream is what was put into it: in order, with boundaries and gaps, a prefix until its end, all of
//!   it when it ends in order;
//! - a published message is handed over once and in order, whatever connections come and go; what is acknowledged was
//!   taken over; when the server is another one, exactly what was not acknowledged is unknown;
//! - behind a drain nothing new runs, and what runs is finished;
//! - two honest machines never end with a protocol error;
//! - over a link that goes on, everything is over in bounded virtual time; what the server holds is bounded;
//! - when all is over, nothing is left at the server, the longest request and answer pass, and fresh streams in both
//!   directions carry a full window that nobody reads: no credit, reassembly or place is missing;
//! - busy streams share a connection by their weights ([`fair`]).

mod client;
pub mod fair;
mod plan;
mod server;

use core::time::Duration;
use std::collections::VecDeque;

use selium_remote_client_protocol::{
    Limits, RequestId, Time,
    limits::{MAX_CHUNK, MAX_FRAME, MESSAGE_OVERHEAD, MIN_CONNECTION_WINDOW},
};

use self::{
    client::{Client, GiveUp},
    plan::{Ask, LONGEST, LogEnd, Reads, Step, Truth, What, limits, script},
    server::{Life, ServerEnd},
};
use crate::{
    link::{LinkKind, Weather, link},
    rng::Dice,
    trace::Trace,
    transport::{Side, Transport},
    world::{
        law::{Law, law},
        report::Report,
    },
};

/// How long a calm link may take for what is left when the script is over.
const PATIENCE: Duration = Duration::from_secs(400);

/// After how long any other link is given up then.
const WORSE_PATIENCE: Duration = Duration::from_secs(100);

/// How long everything is quiet before it is looked for what is left.
const SETTLE: Duration = Duration::from_secs(1);

/// How long the last look takes at most: the longest request, the longest answer and two windows.
const LOOK: Duration = Duration::from_secs(20);

/// How long connections may take to be gone after their client is. QUIC's idle timeout is three of its probe timeouts when
/// those are long, as over a slow path.
const LEAVE: Duration = Duration::from_secs(180);

/// How often things may move without time passing.
const MAX_ROUNDS: u32 = 100_000;

/// What a step of one side needs of the run.
pub(super) struct Around<'a> {
    now: Time,
    truth: &'a mut Truth,
    trace: &'a mut Trace,
    report: &'a mut Report,
    /// The server of this connection drains.
    draining: bool,
    /// It is gone.
    dead: bool,
}

struct Session {
    number: u64,
    link: Box<dyn Transport>,
    server: ServerEnd,
    client_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The script runs.
    Running,
    /// What is left comes to its end, since then.
    Finishing(Time),
    /// All is over since then.
    Settling(Time),
    /// It is looked whether anything is missing.
    Looking(Time),
    Leaving(Time),
}

/// A run.
pub(crate) struct Cores {
    now: Time,
    dice: Dice,
    worst: Weather,
    /// The link's kind by the dice of each.
    quic: u64,
    clock: bool,
    client_limits: Limits,
    server_limits: Limits,
    life: Life,
    lives: u64,
    client: Client,
    sessions: Vec<Session>,
    last_session: u64,
    script: VecDeque<(Duration, Step)>,
    step_at: Time,
    phase: Phase,
    finishing_since: Time,
    looks: [Option<usize>; 3],
    truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) report: Report,
}

impl Cores {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let dice = Dice::new(seed).fork("cores");
        let mut draw = dice.fork("world");
        let small = draw.chance(60);
        let large = !small && draw.chance(10);
        let small_client = small && draw.chance(80);
        let client_limits = limits(&mut draw, small_client);
        let server_limits = limits(&mut draw, small);
        let worst = match draw.chance(40) {
            true => Weather::Calm,
            false => Weather::Any,
        };
        let publications = draw.pick_or(&[0, 1, 1, 2], 1);
        let script = script(
            &mut dice.fork("script"),
            &client_limits,
            &server_limits,
            publications,
            worst == Weather::Calm,
            large,
        );
        let report = Report {
            runs: 1,
            small_windows: u64::from(small),
            ..Report::default()
        };
        Self {
            now: Time::ZERO,
            worst,
            quic: draw.pick_or(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 100], 0),
            clock: draw.chance(70),
            client: Client::new(
                dice.fork("client"),
                client_limits,
                server_limits,
                publications,
            ),
            client_limits,
            server_limits,
            life: Life::new(&mut dice.fork_nth("life", 0)),
            lives: 0,
            sessions: Vec::new(),
            last_session: 0,
            script,
            step_at: Time::ZERO,
            phase: Phase::Running,
            finishing_since: Time::ZERO,
            looks: [None; 3],
            truth: Truth {
                tight: small,
                ..Truth::default()
            },
            trace,
            report,
            dice,
        }
    }

    /// The time, for a failure's words.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Law {
        loop {
            for round in 0.. {
                law!(round < MAX_ROUNDS, "things move for ever and time stands");
                if !self.round()? {
                    break;
                }
            }
            if self.progress()? {
                break;
            }
            let next = self.next();
            law!(next > self.now, "nothing moves, and time does not either");
            self.now = next;
            self.report.moments += 1;
        }
        self.report.seconds = self.now.since_origin().as_secs();
        Ok(())
    }

    fn next(&self) -> Time {
        let phase = match self.phase {
            Phase::Running => Duration::from_secs(30),
            Phase::Finishing(_) => Duration::from_secs(20),
            Phase::Settling(_) => SETTLE,
            Phase::Looking(_) => LOOK,
            Phase::Leaving(_) => LEAVE,
        };
        let running = self.phase == Phase::Running && self.client.is_open();
        self.sessions
            .iter()
            .flat_map(|session| [session.link.next(), session.server.next()])
            .flatten()
            .chain(self.client.next(self.now))
            .chain(running.then_some(self.step_at))
            .map(|at| at.max(self.now.saturating_add(Duration::from_micros(1))))
            .chain(Some(self.now.saturating_add(phase)))
            .min()
            .unwrap_or(self.now)
    }

    fn dial(&mut self) {
        let finishing = self.phase != Phase::Running;
        let weather = self.client.weather(self.worst, finishing);
        self.last_session += 1;
        let number = self.last_session;
        let dice = self.dice.fork_nth("link", number);
        let kind = match self.dice.fork_nth("kind", number).chance(self.quic) {
            true => LinkKind::Quic,
            false => LinkKind::Pipe,
        };
        self.report.quic_links += u64::from(kind == LinkKind::Quic);
        self.report.connections += 1;
        self.sessions.push(Session {
            number,
            link: link(kind, &dice, self.now, weather),
            server: ServerEnd::new(
                number + 10,
                self.server_limits,
                self.clock,
                self.dice.fork_nth("server", number),
            ),
            client_gone: false,
        });
        self.client.dialled(self.now, number, weather);
    }

    /// The client's own session.
    fn current(&mut self) -> Option<&mut Session> {
        let number = self.client.session()?;
        self.sessions
            .iter_mut()
            .find(|session| session.number == number)
    }

    fn round(&mut self) -> Law<bool> {
        let now = self.now;
        let mut moved = false;
        if self.client.dial_at.is_some_and(|at| at <= now) {
            moved = true;
            self.dial();
        }
        while self.phase == Phase::Running
            && self.client.is_open()
            && self.step_at <= now
            && let Some((_, step)) = self.script.pop_front()
        {
            moved = true;
            self.step(step)?;
            let wait = self.script.front().map_or(Duration::ZERO, |next| next.0);
            self.step_at = now.saturating_add(wait);
        }
        let own = self.client.session();
        for session in &mut self.sessions {
            session.link.advance(now);
            let mut around = Around {
                now,
                truth: &mut self.truth,
                trace: &mut self.trace,
                report: &mut self.report,
                draining: session.server.draining,
                dead: session.server.is_over(),
            };
            moved |= session
                .server
                .run(&mut around, &mut self.life, &mut *session.link)?;
            if own == Some(session.number) {
                moved |= self.client.run(&mut around, &mut *session.link)?;
                session.client_gone = self.client.session() != Some(session.number);
            }
        }
        // A server whose link never carried anything has no connection.
        let silent = |session: &Session| !session.server.heard && session.link.next().is_none();
        self.sessions.retain(|session| {
            !session.client_gone || !(session.server.is_over() || silent(session))
        });
        Ok(moved)
    }

    fn step(&mut self, step: Step) -> Law {
        let now = self.now;
        let own = self.client.session();
        let Some(session) = self
            .sessions
            .iter_mut()
            .find(|session| own == Some(session.number))
        else {
            return Ok(());
        };
        let mut around = Around {
            now,
            truth: &mut self.truth,
            trace: &mut self.trace,
            report: &mut self.report,
            draining: session.server.draining,
            dead: session.server.is_over(),
        };
        match step {
            Step::Ask(ask) => {
                self.client.ask(*ask, &mut around)?;
            }
            Step::Push(key, sizes) => self.client.push(key, sizes, &mut around)?,
            Step::Cancel => self.client.give_up(GiveUp::Cancel, &mut around),
            Step::Abandon => self.client.give_up(GiveUp::Abandon, &mut around),
            Step::Reset => self.client.give_up(GiveUp::Reset, &mut around),
            Step::ServerReset => session.server.reset_one(&mut around),
            Step::Ping => self.client.ping(now),
            Step::Drain => {
                self.client.drain(&mut around);
                // It is refused here, at once.
                self.client.ask(Ask::new(What::Plain), &mut around)?;
            }
            Step::ServerDrain => {
                around.report.server_drains += 1;
                session.server.drain();
                // It crosses the drain.
                around.draining = true;
                self.client.ask(Ask::new(What::Plain), &mut around)?;
            }
            Step::Kill => {
                around.report.killed += 1;
                self.client.kill(&mut around, &mut *session.link);
                session.client_gone = true;
            }
            Step::Close => self.client.close(),
            Step::Restart => {
                around.report.restarts += 1;
                around.trace.note(now, 0, "restarts", 0, 0);
                self.lives += 1;
                self.life = Life::new(&mut self.dice.fork_nth("life", self.lives));
                for session in &mut self.sessions {
                    session.link.kill(now, Side::Server);
                    session.server.die();
                }
                return Ok(());
            }
        }
        self.client.events(&mut around)
    }

    /// From the script to what is left, to the last look, to the end.
    fn progress(&mut self) -> Law<bool> {
        let now = self.now;
        let is_open = self.client.is_open();
        let server_idle = self
            .current()
            .is_some_and(|session| session.server.is_idle());
        match self.phase {
            Phase::Running => {
                if self.script.is_empty() && self.step_at <= now {
                    self.truth.finishing = true;
                    self.phase = Phase::Finishing(now);
                    self.finishing_since = now;
                    self.again()?;
                }
            }
            Phase::Finishing(since) => {
                let idle = self.client.is_idle();
                if idle && server_idle {
                    self.phase = Phase::Settling(now);
                    return Ok(false);
                }
                let took = now.saturating_since(since);
                if self.client.is_calm() {
                    law!(
                        took < PATIENCE,
                        "over a calm link what was begun is not over after {took:?}"
                    );
                } else if took >= WORSE_PATIENCE {
                    self.phase = Phase::Finishing(now);
                    self.client.close();
                    self.again()?;
                }
            }
            Phase::Settling(_) | Phase::Looking(_) if !is_open => {
                self.looks = [None; 3];
                self.phase = Phase::Finishing(now);
            }
            // A request that was abandoned may still have been on its way.
            Phase::Settling(_) if !server_idle => self.phase = Phase::Finishing(now),
            Phase::Settling(since) => {
                if now.saturating_since(since) >= SETTLE {
                    // Another link may hold the rest of a frame for good.
                    let calm = self.client.is_calm();
                    if let Some(session) = self.current() {
                        session.server.check_base(calm)?;
                    }
                    self.look()?;
                    self.phase = Phase::Looking(now);
                    self.again()?;
                }
            }
            Phase::Looking(since) => {
                let took = now.saturating_since(since);
                let there = self.looks.iter().flatten().all(|ask| {
                    self.truth
                        .asked
                        .get(*ask)
                        .is_some_and(|asked| match &asked.ask.what {
                            What::Log { sizes, .. } => self.client.has(*ask) == sizes.len(),
                            What::Upload { sizes } => asked.received == sizes.len() as u64,
                            _ => self.client.was_answered(*ask),
                        })
                });
                if there {
                    self.report.bases += 1;
                    self.phase = Phase::Leaving(now);
                    self.client.quits = true;
                    self.client.close();
                    self.again()?;
                } else {
                    law!(
                        took < LOOK || !self.client.is_calm(),
                        "all was over, and a fresh stream does not carry its window, or a long request its answer"
                    );
                    if took >= LOOK {
                        self.client.close();
                        self.again()?;
                    }
                }
            }
            Phase::Leaving(since) => {
                if self.sessions.is_empty() {
                    return Ok(true);
                }
                let left = now.saturating_since(since);
                let states: Vec<String> = self
                    .sessions
                    .iter()
                    .map(|session| {
                        let client = if session.client_gone { "gone" } else { "there" };
                        format!("{} ({client}, {})", session.number, session.server.state())
                    })
                    .collect();
                law!(
                    left < LEAVE,
                    "connections are not gone {left:?} after their client: {}",
                    states.join(", ")
                );
            }
        }
        Ok(false)
    }

    /// Lets everything move that moves now.
    fn again(&mut self) -> Law {
        for round in 0.. {
            law!(round < MAX_ROUNDS, "things move for ever and time stands");
            if !self.round()? {
                break;
            }
        }
        Ok(())
    }

    /// Asks for what only works when nothing is missing.
    fn look(&mut self) -> Law {
        let (client, server) = (self.client_limits, self.server_limits);
        let sizes = |receiver: &Limits| {
            // The connection's window may have shrunk to this, and an eighth of it may not be given back yet.
            let window = receiver.connection_window.min(MIN_CONNECTION_WINDOW);
            let held_back = window.div_ceil(8).min(window - MESSAGE_OVERHEAD) - 1;
            let budget = receiver.stream_window.min(window - held_back);
            let longest = receiver.max_message.min(receiver.reassembly) + MESSAGE_OVERHEAD;
            let each = (budget / 20).clamp(MESSAGE_OVERHEAD + 1, longest);
            vec![each - MESSAGE_OVERHEAD; budget / each]
        };
        let longest_request = server
            .max_request
            .min(server.reassembly.max(MAX_CHUNK))
            .min(client.control_queue - MAX_FRAME)
            .min(LONGEST);
        let longest_answer = client
            .max_message
            .min(client.reassembly.max(MAX_CHUNK))
            .min(LONGEST);
        let asks = [
            Ask {
                reads: Reads::Never,
                ..Ask::new(What::Log {
                    sizes: sizes(&client),
                    gaps: 0,
                    pace: Duration::ZERO,
                    end: LogEnd::Open,
                })
            },
            Ask {
                reads: Reads::Never,
                ..Ask::new(What::Upload {
                    sizes: sizes(&server),
                })
            },
            Ask {
                len: longest_request - 8,
                answer: Ok(longest_answer),
                ..Ask::new(What::Plain)
            },
        ];
        let mut around = Around {
            now: self.now,
            truth: &mut self.truth,
            trace: &mut self.trace,
            report: &mut self.report,
            draining: false,
            dead: false,
        };
        for (ask, look) in asks.into_iter().zip(&mut self.looks) {
            *look = Some(around.truth.asked.len());
            let sent: Option<RequestId> = self.client.ask(ask, &mut around)?;
            law!(sent.is_some(), "all was over, and a request cannot be sent");
        }
        Ok(())
    }
}
