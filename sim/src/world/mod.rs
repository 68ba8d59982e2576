//! One run: a server over a runtime that acts, clients over links, and the laws that hold between them.
//!
//! ```text
//! script -> client -> link -> wire -> Server -> host
//!              |                                 |
//!              `---- follow, answers: compared --' (what the host knows is the truth)
//! ```
//!
//! Time jumps to the next thing that happens by itself: a link carries something, a timer of a machine, the host, a
//! client's script. At each such moment everything moves until nothing does.
//!
//! The laws, kept in every run:
//!
//! - every request ends exactly once: with an answer, its expiry, or the close of its connection ([`client`]);
//! - what a follower gets are the guest's records, in order, each once, with its bytes; what is missing is counted
//!   exactly where a count is given, and was not to be had ([`follow`]);
//! - the host executes a changing request at most once, whatever is lost ([`host`]), "ok" means that it did, a retry gets
//!   the outcome of the first, and an error that says "never" is kept ([`client`]);
//! - two honest machines never end with a protocol error, cut links included ([`client`]);
//! - everything ends in bounded virtual time: requests, connections, the run; who reads a log has all of it in the end;
//! - the server holds no more than its limits allow, at any time; when all clients are gone, every counter is at its
//!   base.

mod client;
mod follow;
pub mod host;
pub mod law;
mod probe;
pub mod report;
mod script;
mod wire;

use core::time::Duration;
use std::collections::BTreeMap;

use selium_remote_client_protocol::{
    Limits, Time,
    limits::{MAX_FRAME, MIN_STREAM_QUEUE},
    ops::{ListRequest, ProcessList, ProcessState, StopRequest},
};
use selium_remote_server_core::{Config, Server};

use self::{
    client::{Around, Client, Known},
    host::{HostProfile, SimHost},
    law::{Broken, Law, law},
    probe::Probe,
    report::Report,
    wire::Wire,
};
use crate::{
    hostile::client::Hostile,
    link::{LinkKind, Weather, link},
    rng::Dice,
    trace::Trace,
};

pub(crate) use wire::flush;

/// How long the world goes on after the clients want nothing more: logs that show late, hidden records, stalls.
const SETTLE: Duration = Duration::from_secs(45);

/// How long connections may take to be gone after their clients are: the longest is the idle timeout of a dead link.
const LEAVE: Duration = Duration::from_secs(90);

/// When a run has to be over.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// How often things may move without time passing.
const MAX_ROUNDS: u32 = 100_000;

/// How often the server's counters are looked at.
const PROBE_EVERY: Duration = Duration::from_millis(700);

/// Bytes of one process in the runtime's log plan; more than any ring of a draw, less than would make runs long.
const VOLUME: usize = 300_000;

/// A record is at most this long (`HostProfile::volume` aside).
const LONGEST_RECORD: usize = 200_000;

/// How the server's clock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// There is none: it is always [`Time::ZERO`].
    None,
    /// It is exact.
    Exact,
    /// It is looked at every 100 ms, as the module does.
    Ticks,
}

const TICK_MS: u64 = 100;

impl Clock {
    fn floor(self, now: Time) -> Time {
        let ms = u64::try_from(now.since_origin().as_millis()).unwrap_or(u64::MAX);
        match self {
            Clock::None => Time::ZERO,
            Clock::Exact => now,
            Clock::Ticks => Time::from_millis(ms - ms % TICK_MS),
        }
    }

    /// When a server's timeout comes to be seen.
    fn ceil(self, due: Time) -> Time {
        let floor = self.floor(due);
        if self == Clock::Ticks && floor < due {
            return floor.saturating_add(Duration::from_millis(TICK_MS));
        }
        due
    }
}

/// What the laws need to know of how this run was drawn.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Bytes of one log's ring.
    ring_bytes: usize,
    /// Rings may be smaller than that, because all together are at their limit.
    rings_tight: bool,
    /// The longest record that the client takes.
    longest_record: usize,
    /// Stopped processes may be forgotten while they are followed.
    forgets: bool,
    /// Outcomes may be forgotten.
    forgetful: bool,
    /// The server has a clock.
    clock: bool,
    /// The server may close honest connections because all of them together hold too much.
    crowded: bool,
}

impl Rules {
    /// The largest window that these limits can come to.
    fn window(limits: &Limits) -> usize {
        limits.connection_window.max(limits.max_connection_window)
    }
}

/// A world in which everybody is honest, or one with hostile clients in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Honest clients only.
    Honest,
    /// Hostile clients beside honest ones.
    Hostile,
}

pub(crate) struct World {
    now: Time,
    dice: Dice,
    kind: LinkKind,
    worst: Weather,
    clock: Clock,
    rules: Rules,
    config: Config,
    server: Server,
    host: SimHost,
    probe: Probe,
    probe_at: Time,
    clients: Vec<Client>,
    hostiles: Vec<Hostile>,
    wires: BTreeMap<u64, Wire>,
    last_wire: u64,
    known: Known,
    pub(crate) trace: Trace,
    pub(crate) report: Report,
    idle_since: Option<Time>,
    /// What the clients held when they had been idle for long.
    arrived: usize,
    quit_at: Option<Time>,
    most_held: u64,
}

/// Draws the server's limits. Small ones are met, large ones are the usual ones.
fn limits(dice: &mut Dice, peers: Peers) -> Limits {
    let hostile = peers == Peers::Hostile;
    let small = dice.chance(50);
    Limits::with(|limits| {
        if small {
            limits.stream_queue = dice.size(1_000..=64_000);
            limits.connection_queue = dice.size(10_000..=200_000);
            limits.control_queue = dice.size(300_000..=1_000_000);
            limits.max_requests = dice.size(4..=64);
            limits.max_streams = dice.size(1..=16);
        }
        if hostile {
            limits.control_queue = 48 * 1024;
            limits.max_request = 160 * 1024;
            limits.reassembly = 256 * 1024;
            limits.connection_window = 32 * 1024;
            limits.max_requests = 32;
        }
    })
}

impl World {
    pub(crate) fn new(seed: u64, kind: LinkKind, peers: Peers, trace: Trace) -> Law<Self> {
        let dice = Dice::new(seed);
        let mut draw = dice.fork("world");
        let hostile = peers == Peers::Hostile;
        let clock = draw.pick_or(
            &[Clock::None, Clock::Exact, Clock::Ticks, Clock::Ticks],
            Clock::Exact,
        );
        let worst = if hostile || draw.chance(20) {
            Weather::Calm
        } else {
            Weather::Any
        };
        let tight_rings = draw.chance(15);
        let config = Config {
            limits: limits(&mut draw, peers),
            unix_origin_ms: (clock != Clock::None).then_some(1_700_000_000_000),
            max_starts: draw.size(1..=3),
            max_waiting_starts: draw.pick_or(&[1, 1_024], 1_024),
            max_stopped: draw.pick_or(&[1, 256, 256, 256], 256),
            max_outcomes: draw.pick_or(&[2, 1_024, 1_024, 1_024], 1_024),
            ring_bytes: draw.pick_or(&[700, 8_000, 256 * 1024, 256 * 1024], 8_000),
            all_rings_bytes: if tight_rings { 4_000 } else { 16 << 20 },
            all_queues_bytes: draw.pick_or(&[100_000, 64 << 20], 64 << 20),
            all_reassembly_bytes: if hostile { 600 * 1024 } else { 64 << 20 },
            ..Config::default()
        };
        let rules = Rules {
            ring_bytes: config.ring_bytes,
            rings_tight: tight_rings,
            longest_record: 0,
            forgets: config.max_stopped < 256,
            forgetful: config.max_outcomes < 1_024,
            clock: clock != Clock::None,
            crowded: hostile,
        };
        let host = SimHost::new(
            dice.fork("host"),
            HostProfile {
                slowest: draw.pick_or(&[5, 300, 3_000], 300),
                failures: draw.pick_or(&[0, 10, 30], 10),
                clock: clock != Clock::None,
                max_starts: config.max_starts,
                volume: VOLUME,
            },
        );
        let mut server = Server::new(config.clone());
        let probe = Probe::new(&mut server, Time::ZERO)?;
        let count = if hostile {
            2
        } else {
            draw.pick_or(&[1, 2, 2, 3, 4], 2)
        };
        let calm = worst == Weather::Calm;
        let clients = (1..=count)
            .map(|number| Client::new(number, dice.fork_nth("client", number), calm))
            .collect();
        let mut world = Self {
            now: Time::ZERO,
            dice,
            kind,
            worst,
            clock,
            rules,
            config,
            server,
            host,
            probe,
            probe_at: Time::ZERO,
            clients,
            hostiles: Vec::new(),
            wires: BTreeMap::new(),
            last_wire: 0,
            known: Known::default(),
            trace,
            report: Report::default(),
            idle_since: None,
            arrived: 0,
            quit_at: None,
            most_held: 0,
        };
        if hostile {
            for nth in 0..draw.within(1..=2) {
                let wire = world.dial(Weather::Calm);
                let dice = world.dice.fork_nth("hostile", nth);
                let limits = world.config.limits;
                let clock = world.rules.clock;
                world
                    .hostiles
                    .push(Hostile::draw(100 + nth, wire, dice, &limits, clock));
            }
        }
        Ok(world)
    }

    /// The time, and the laws' findings, for a failure's words.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    fn server_now(&self) -> Time {
        self.clock.floor(self.now)
    }

    /// Makes a link and opens the server's end of it.
    fn dial(&mut self, weather: Weather) -> u64 {
        self.last_wire += 1;
        let number = self.last_wire;
        let dice = self.dice.fork_nth("link", number);
        let link = link(self.kind, &dice, self.now, weather);
        let peer = format!("127.0.0.1:{number}");
        let now = self.server_now();
        let connection = self.server.open(now, &peer);
        let max_write = self
            .dice
            .fork_nth("max write", number)
            .pick_or(&[64 * 1024, 64 * 1024, 1_400], 64 * 1024);
        let wire = Wire::new(number, link, connection, max_write);
        self.wires.insert(number, wire);
        self.report.connections += 1;
        number
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Law {
        self.report.runs = 1;
        self.report.clockless += u64::from(self.clock == Clock::None);
        while !self.is_over() {
            self.moment()?;
        }
        self.clean_up()?;
        self.report.seconds = self.now.since_origin().as_secs();
        self.report.nudges = self.host.nudges;
        self.report.starts = self
            .host
            .starts
            .values()
            .map(|start| u64::from(start.times))
            .sum();
        self.report.held = self.most_held;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.quit_at.is_some() && self.wires.is_empty() && self.clients.iter().all(Client::is_gone)
    }

    /// Lets everything move that moves now, and goes on to the next moment.
    fn moment(&mut self) -> Law {
        self.settle()?;
        self.progress()?;
        let next = self.next();
        law!(next > self.now, "nothing moves, and time does not either");
        law!(
            next.since_origin() < LONGEST,
            "the run does not come to its end"
        );
        self.now = next;
        self.report.moments += 1;
        Ok(())
    }

    /// When something happens next, or the run's phase ends.
    fn next(&self) -> Time {
        let phase = match (self.quit_at, self.idle_since) {
            (Some(quit), _) => quit.saturating_add(LEAVE),
            (None, Some(idle)) => idle.saturating_add(SETTLE),
            (None, None) => self.now.saturating_add(Duration::from_secs(5)),
        };
        self.next_event().map_or(phase, |next| next.min(phase))
    }

    /// When something happens next by itself.
    fn next_event(&self) -> Option<Time> {
        let server = self.server.poll_timeout().map(|due| self.clock.ceil(due));
        self.wires
            .values()
            .filter_map(|wire| wire.link.next())
            .chain(self.clients.iter().filter_map(Client::next))
            .chain(self.hostiles.iter().filter_map(Hostile::next))
            .chain(self.host.next())
            .chain(server)
            // What is due is looked at in the next moment at the earliest.
            .map(|at| at.max(self.now.saturating_add(Duration::from_micros(1))))
            .min()
    }

    /// Moves everything until nothing moves.
    fn settle(&mut self) -> Law {
        for round in 0.. {
            law!(round < MAX_ROUNDS, "things move for ever and time stands");
            if !self.round()? {
                break;
            }
        }
        if self.probe_at <= self.now {
            self.probe_at = self.now.saturating_add(PROBE_EVERY);
            self.check_counters()?;
        }
        Ok(())
    }

    fn round(&mut self) -> Law<bool> {
        let (now, server_now) = (self.now, self.server_now());
        let mut moved = false;
        for wire in self.wires.values_mut() {
            wire.link.advance(now);
            moved |= wire.read(now, server_now, &mut self.server, &mut self.trace);
        }
        while let Some(done) = self.host.pop(now, &mut self.trace) {
            moved = true;
            self.server.handle_host(server_now, done);
        }
        let due = |server: &Server| server.poll_timeout().is_some_and(|due| due <= server_now);
        if due(&self.server) {
            moved = true;
            self.server.handle_timeout(server_now);
            law!(!due(&self.server), "the server's timeout does not move on");
        }
        while let Some(call) = self.server.poll_host() {
            moved = true;
            self.host.begin(now, call, &mut self.trace)?;
        }
        self.wake()?;
        for wire in self.wires.values_mut() {
            moved |= wire.write(now, server_now, &mut self.server, &mut self.trace)?;
        }
        self.wake()?;
        moved |= self.run_clients()?;
        moved |= self.run_hostiles()?;
        self.wires.retain(|_, wire| !wire.is_over());
        Ok(moved)
    }

    /// Wakes the writers that have something to write.
    fn wake(&mut self) -> Law {
        let mut probe = false;
        while let Some(id) = self.server.poll_ready() {
            probe |= id == self.probe.connection;
            if let Some(wire) = self.wires.values_mut().find(|wire| wire.connection == id) {
                wire.woken = true;
            }
        }
        if probe {
            let now = self.server_now();
            self.probe.pump(&mut self.server, now)?;
        }
        Ok(())
    }

    fn run_clients(&mut self) -> Law<bool> {
        let mut moved = false;
        for at in 0..self.clients.len() {
            let (now, worst) = (self.now, self.worst);
            let dials = |client: &Client| client.dial_at.is_some_and(|at| at <= now);
            let weather = self
                .clients
                .get(at)
                .filter(|client| dials(client))
                .map(|client| client.weather(worst));
            let wire = weather.map(|weather| (self.dial(weather), weather));
            let Some(client) = self.clients.get_mut(at) else {
                break;
            };
            if let Some((wire, weather)) = wire {
                moved = true;
                client.dialled(now, wire, weather);
            }
            let wire = client.wire();
            let Some(wire) = wire.and_then(|wire| self.wires.get_mut(&wire)) else {
                continue;
            };
            let mut around = Around {
                now,
                rules: &self.rules,
                host: &mut self.host,
                known: &mut self.known,
                trace: &mut self.trace,
                report: &mut self.report,
            };
            moved |= client.run(&mut around, wire)?;
        }
        Ok(moved)
    }

    fn run_hostiles(&mut self) -> Law<bool> {
        let mut moved = false;
        for hostile in &mut self.hostiles {
            let Some(wire) = self.wires.get_mut(&hostile.wire) else {
                continue;
            };
            moved |= hostile.run(self.now, &mut *wire.link, &mut self.trace, &mut self.report)?;
            wire.client_gone = hostile.is_gone();
        }
        Ok(moved)
    }

    /// From running to settling, from settling to leaving.
    fn progress(&mut self) -> Law {
        let now = self.now;
        if let Some(quit) = self.quit_at {
            let left = now.saturating_since(quit);
            let wires = self.wires.len();
            law!(
                left < LEAVE,
                "{wires} connections are not gone {left:?} after their clients"
            );
            return Ok(());
        }
        let idle =
            self.clients.iter().all(Client::is_idle) && self.hostiles.iter().all(Hostile::is_gone);
        if !idle {
            self.idle_since = None;
            return Ok(());
        }
        let since = *self.idle_since.get_or_insert(now);
        if now.saturating_since(since) < SETTLE {
            return Ok(());
        }
        // A long record over a small window and a long path takes longer than that.
        let arrived = self.clients.iter().map(Client::held).sum();
        if arrived > core::mem::replace(&mut self.arrived, arrived) {
            self.idle_since = Some(now);
            return Ok(());
        }
        let mut around = Around {
            now,
            rules: &self.rules,
            host: &mut self.host,
            known: &mut self.known,
            trace: &mut self.trace,
            report: &mut self.report,
        };
        for client in &self.clients {
            client.check_complete(&mut around)?;
        }
        self.quit_at = Some(now);
        for client in &mut self.clients {
            client.quit(now);
        }
        self.settle()
    }

    /// The server's counters, against what it may hold.
    fn check_counters(&mut self) -> Law {
        let now = self.server_now();
        let info = self.probe.info(&mut self.server, now)?;
        self.report.probes += 1;
        let config = &self.config;
        let limits = &config.limits;
        let open = self.wires.values().filter(|wire| !wire.forgotten).count() as u64;
        let (connections, streams) = (info.connections, info.streams as usize);
        law!(
            connections == open + 1,
            "the server tells of {connections} connections, there are {open} and the probe"
        );
        law!(
            streams <= limits.max_streams * connections as usize,
            "{streams} streams are open"
        );
        // Per connection: answers, records, requests that are not complete, a frame that is not complete.
        let share = (config.all_queues_bytes / connections as usize)
            .max(64 * 1024)
            .min(limits.connection_queue);
        let each = limits.control_queue
            + share
            + limits.max_streams.min(streams + 1) * (MIN_STREAM_QUEUE + LONGEST_RECORD)
            + limits.reassembly
            + 2 * MAX_FRAME;
        let held = info.held_bytes as usize;
        law!(
            held <= each * open as usize,
            "the server holds {held} bytes for {open} connections, at most {each} each"
        );
        self.most_held = self.most_held.max(info.held_bytes);
        let hubs = info.hubs as usize;
        let ring = config.ring_bytes.max(LONGEST_RECORD + 64);
        let rings = (hubs * ring).min(config.all_rings_bytes + hubs * (LONGEST_RECORD + 64));
        law!(
            info.ring_bytes as usize <= rings,
            "{hubs} rings hold {} bytes",
            info.ring_bytes
        );
        let starts = config.max_waiting_starts + config.max_starts;
        law!(
            info.starts as usize <= starts,
            "{} starts wait or run",
            info.starts
        );
        Ok(())
    }

    /// Lets time pass, with nobody there but the probe.
    fn pass(&mut self, until: Time) -> Law {
        while self.now < until {
            self.settle()?;
            self.now = self.next_event().map_or(until, |next| next.min(until));
        }
        self.settle()
    }

    /// When all clients are gone: the server is back at its base. Then it stops what runs and forgets it.
    fn clean_up(&mut self) -> Law {
        // Starts that run in the host when their clients go run to their end.
        let rest = Duration::from_secs(60);
        self.pass(self.now.saturating_add(rest))?;
        let now = self.server_now();
        let info = self.probe.info(&mut self.server, now)?;
        law!(
            (info.connections, info.streams, info.starts) == (1, 0, 0)
                && (info.zombies, info.held_bytes) == (0, 0),
            "all clients are gone, and the server has {info:?}"
        );
        self.host.settle_down();
        let list = ListRequest::with(|made| {
            made.all = true;
        });
        let id = self.probe.ask(&mut self.server, now, &list)?;
        let list = self.probe.answer(id)?;
        let list = ProcessList::decode(&list).map_err(|e| Broken(format!("list: {e}")))?;
        let running = |state| state == ProcessState::Started;
        for process in list.processes.iter().filter(|p| running(p.state)) {
            let target = format!("{:016x}", process.id);
            let now = self.server_now();
            self.probe.ask(
                &mut self.server,
                now,
                &StopRequest::with(|made| {
                    made.target = target;
                }),
            )?;
            self.pass(self.now.saturating_add(Duration::from_millis(20)))?;
        }
        self.pass(self.now.saturating_add(rest))?;
        let waits = self.probe.waits;
        law!(waits == 0, "{waits} stops are not answered");
        if self.clock == Clock::None {
            return Ok(());
        }
        let retention = self.config.retention + Duration::from_secs(1);
        self.pass(self.now.saturating_add(retention))?;
        let now = self.server_now();
        let info = self.probe.info(&mut self.server, now)?;
        law!(
            (info.processes, info.hubs, info.ring_bytes) == (0, 0, 0),
            "an hour after all processes were stopped, the server has {info:?}"
        );
        Ok(())
    }
}
