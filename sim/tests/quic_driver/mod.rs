//! Two machines over a QUIC link in virtual time, driven as the real drivers do it: one transmit at a time, what the
//! stream does not take is kept, and reading never waits for writing.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use selium_remote_client_protocol::{
    Limits, Time,
    client::{ClientConfig, ClientConnection, ClientEvent},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};
use selium_remote_sim::{
    quic::{Profile, Quic, Settings},
    rng::Dice,
    transport::{Read, Side, Transport},
};

/// What uses the machines.
pub trait App {
    /// Does what it can do now; answers whether it did something.
    fn act(&mut self, rig: &mut Rig) -> bool;

    /// When it wants to do something next.
    fn next(&self) -> Option<Time>;

    /// Whether it is through.
    fn done(&self) -> bool {
        false
    }
}

/// How one end of the link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub at: Time,
    pub read: Read,
}

pub struct Rig {
    pub now: Time,
    pub link: Quic,
    pub client: ClientConnection,
    pub server: ServerConnection,
    pub client_events: VecDeque<ClientEvent>,
    pub server_events: VecDeque<ServerEvent>,
    /// How the link ended at the client and at the server.
    pub endings: [Option<Ending>; 2],
    pub connected: Option<Time>,
    server_limits: Limits,
    /// What the streams have not taken yet.
    pending: [VecDeque<Bytes>; 2],
    finished: [bool; 2],
}

impl Rig {
    pub fn new(seed: u64, profile: Profile, settings: &Settings) -> Self {
        Self::with_config(seed, profile, settings, |_| {})
    }

    pub fn with_config(
        seed: u64,
        profile: Profile,
        settings: &Settings,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Self {
        let limits = Limits::default();
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut config = ClientConfig::new(hello, limits);
        change(&mut config);
        Self {
            now: Time::ZERO,
            link: Quic::new(Time::ZERO, &Dice::new(seed), profile, settings),
            client: ClientConnection::new(config),
            server: ServerConnection::new(limits),
            client_events: VecDeque::new(),
            server_events: VecDeque::new(),
            endings: [None, None],
            connected: None,
            server_limits: limits,
            pending: [VecDeque::new(), VecDeque::new()],
            finished: [false; 2],
        }
    }

    /// Runs until the app is through, nothing happens any more, or `end`; answers whether the app is through.
    pub fn run(&mut self, app: &mut impl App, end: Time) -> bool {
        loop {
            self.link.advance(self.now);
            while self.pump() | app.act(self) {}
            if app.done() {
                return true;
            }
            let times = [
                self.link.next(),
                app.next(),
                self.client.poll_timeout(),
                self.server_timeout(),
            ];
            match times.into_iter().flatten().min() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => {
                    self.now = self.now.max(end);
                    return false;
                }
            }
        }
    }

    /// For a failure's message.
    pub fn state(&self) -> String {
        let side = |side| {
            let path = self.link.stats(side).map(|stats| stats.path);
            let counts = self.link.path().counts(side);
            format!("{side:?}: {counts:?}, {path:?}")
        };
        let (now, ends) = (self.now, &self.endings);
        let (up, down) = (side(Side::Client), side(Side::Server));
        format!("{now:?}, {ends:?}\n{up}\n{down}")
    }

    fn pump(&mut self) -> bool {
        let mut moved = self.expire();
        while let Some(read) = self.link.read(self.now, Side::Client) {
            moved = true;
            match read {
                Read::Bytes(bytes) => self.client.handle_input(self.now, bytes),
                read => {
                    self.endings[0] = Some(Ending { at: self.now, read });
                    self.client.handle_eof(self.now);
                }
            }
        }
        while let Some(read) = self.link.read(self.now, Side::Server) {
            moved = true;
            match read {
                Read::Bytes(bytes) => self.server.handle_input(self.now, bytes),
                read => {
                    self.endings[1] = Some(Ending { at: self.now, read });
                    self.server.handle_eof(self.now);
                }
            }
        }
        moved |= self.write(Side::Client) | self.write(Side::Server);
        while let Some(event) = self.client.poll_event() {
            moved = true;
            if matches!(event, ClientEvent::Connected(_)) {
                self.connected = Some(self.now);
            }
            self.client_events.push_back(event);
        }
        while let Some(event) = self.server.poll_event() {
            moved = true;
            if matches!(event, ServerEvent::Hello(_)) {
                let hello = ServerHello::new([9; 16], &self.server_limits);
                self.server.accept(&hello);
            }
            self.server_events.push_back(event);
        }
        moved
    }

    fn expire(&mut self) -> bool {
        let due = self
            .client
            .poll_timeout()
            .is_some_and(|due| due <= self.now);
        if due {
            self.client.handle_timeout(self.now);
            // A machine that stays due would stop the time.
            let next = self.client.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "{next:?} is over");
        }
        due
    }

    fn server_timeout(&self) -> Option<Time> {
        None
    }

    fn write(&mut self, side: Side) -> bool {
        let at = side as usize;
        let mut moved = false;
        loop {
            if self.pending[at].is_empty() {
                let transmit = match side {
                    Side::Client => self.client.poll_transmit(MAX_WRITE),
                    Side::Server => self.server.poll_transmit(MAX_WRITE),
                };
                let Some(transmit) = transmit else { break };
                moved = true;
                self.pending[at].extend(transmit.parts);
            }
            if self.link.writable(side) == 0 {
                return moved;
            }
            let parts = self.pending[at].make_contiguous();
            let mut taken = self.link.write(self.now, side, parts);
            if taken == 0 {
                return moved;
            }
            moved = true;
            while let Some(first) = self.pending[at].front_mut() {
                if first.len() > taken {
                    first.advance(taken);
                    break;
                }
                taken -= first.len();
                self.pending[at].pop_front();
            }
        }
        let closed = match side {
            Side::Client => self.client.is_closed(),
            Side::Server => self.server.is_closed(),
        };
        if closed && !self.finished[at] {
            self.finished[at] = true;
            self.link.finish(self.now, side);
        }
        moved
    }
}

/// Milliseconds.
pub fn millis(time: core::time::Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
