//! The server: connections in, host calls out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, RemoteError, RequestId, Time, Transmit, ops::StartRequest, server::ServerEvent,
};

use crate::{
    Config,
    access::Roles,
    audit::{Asked, Audit},
    channel_ops::Change,
    channels::Channels,
    connection::{Connection, ConnectionId, Counted},
    deadlines::Deadlines,
    follow::LOOKS_IN_A_ROW,
    host::{Completion, Host, HostCall, LogId, OpId, ReaderId},
    ids::Ids,
    publications::{Bounds, Publications},
    quiet::Quiet,
    ring::Entry,
    sessions::{Sessions, Token},
    starts::StartQueue,
    table::Table,
    topic::TopicId,
};

/// The least that a connection's streams may queue, however many connections there are.
const MIN_QUEUE_SHARE: usize = 64 * 1024;

/// What only the driver counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Records of the server's own log that were suppressed.
    pub suppressed_records: u64,
    /// Operations of the runtime that nobody waits for any more and that have not ended.
    pub orphans: u64,
}

/// A request that waits for something: who is to be answered.
pub(crate) type Waiter = (ConnectionId, RequestId);

/// A start that waits for the host or runs in it.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) spec: StartRequest,
    pub(crate) name: String,
    pub(crate) waiter: Waiter,
    pub(crate) token: Option<Token>,
    pub(crate) asked: Asked,
    /// When its client stops waiting, if it said so and there is a clock.
    pub(crate) deadline: Option<Time>,
    /// Its client asked to cancel it when the host had it already.
    pub(crate) cancelled: bool,
}

/// A stop that runs in the host.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) ordinal: u64,
    pub(crate) waiters: Vec<(Waiter, Option<Token>, Asked)>,
}

/// The server. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Server {
    pub(crate) config: Config,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) last_connection: u64,
    pub(crate) roles: Roles,
    pub(crate) audit: Audit,
    /// Connections that may have something to transmit, or are to be closed.
    pub(crate) ready: BTreeSet<ConnectionId>,
    pub(crate) calls: VecDeque<HostCall>,
    pub(crate) table: Table,
    pub(crate) logs: BTreeMap<LogId, u64>,
    /// Who follows the log of the process with this number.
    pub(crate) followers: BTreeMap<u64, BTreeSet<Waiter>>,
    /// Logs that may not have shown their last record.
    pub(crate) quiet: Quiet<LogId>,
    pub(crate) last_log: u64,
    pub(crate) ring_bytes: usize,
    pub(crate) channels: Channels,
    /// What is being done with channels in the host.
    pub(crate) changing: BTreeMap<OpId, Change>,
    pub(crate) readers: BTreeMap<ReaderId, TopicId>,
    pub(crate) last_reader: u64,
    /// Readers that may not have shown their last message.
    pub(crate) quiet_readers: Quiet<ReaderId>,
    /// Sources whose readers nobody needs, until when they stay.
    pub(crate) lingering: Deadlines<TopicId>,
    /// Lossless subscribers that hold writers back, until when they may.
    pub(crate) stalled: Deadlines<Waiter>,
    /// Bytes that the rings of all sources hold.
    pub(crate) topic_bytes: usize,
    pub(crate) publications: Publications,
    /// What all connections hold.
    pub(crate) total: Counted,
    pub(crate) counters: HostCounters,
    pub(crate) starts: StartQueue<Start>,
    pub(crate) starting: BTreeMap<OpId, Start>,
    pub(crate) stopping: BTreeMap<OpId, Stop>,
    last_op: u64,
    pub(crate) sessions: Sessions<Waiter>,
    pub(crate) ids: Option<Ids>,
    pub(crate) now: Time,
    pub(crate) draining: bool,
    /// Requests that a test has refused.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) refusals: crate::fake::Refusals,
}

impl Server {
    /// A server without connections.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            connections: BTreeMap::new(),
            last_connection: 0,
            roles: Roles::new(&config),
            audit: Audit::default(),
            ready: BTreeSet::new(),
            calls: VecDeque::new(),
            table: Table::default(),
            logs: BTreeMap::new(),
            followers: BTreeMap::new(),
            quiet: Quiet::default(),
            last_log: 0,
            ring_bytes: 0,
            channels: Channels::default(),
            changing: BTreeMap::new(),
            readers: BTreeMap::new(),
            last_reader: 0,
            quiet_readers: Quiet::default(),
            lingering: Deadlines::default(),
            stalled: Deadlines::default(),
            topic_bytes: 0,
            publications: Publications::new(
                config.max_publications,
                Bounds {
                    bytes: config.all_publication_bytes,
                    session_bytes: config.session_publication_bytes,
                    roles: config.policy.roles.len(),
                },
            ),
            total: Counted::default(),
            counters: HostCounters::default(),
            starts: StartQueue::new(config.max_starts, config.max_waiting_starts),
            starting: BTreeMap::new(),
            stopping: BTreeMap::new(),
            last_op: 0,
            sessions: Sessions::new(config.max_sessions, config.max_outcomes),
            ids: None,
            now: Time::ZERO,
            draining: false,
            #[cfg(any(test, feature = "test-util"))]
            refusals: crate::fake::Refusals::default(),
            config,
        }
    }

    /// Takes bytes from a connection.
    pub fn handle_input(&mut self, now: Time, id: ConnectionId, bytes: Bytes) {
        self.now = now;
        let mut pinged = false;
        if let Some(connection) = self.connections.get_mut(&id) {
            let pings = connection.core.pings();
            connection.core.handle_input(now, bytes);
            pinged = connection.core.pings() != pings;
        }
        self.bound_reassembly(id);
        self.events(id);
        self.look_again(id, pinged);
        if pinged && self.config.unix_origin_ms.is_none() {
            self.nudge_readers(id);
        }
        self.count(id);
        self.shed();
    }

    /// The client sends nothing more. What is left to say to it can still be transmitted; then the driver calls
    /// [`Server::forget_connection`].
    pub fn handle_eof(&mut self, now: Time, id: ConnectionId) {
        self.now = now;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.core.handle_eof(now);
        }
        self.events(id);
    }

    /// Takes what came of a host call.
    pub fn handle_host(&mut self, now: Time, completion: Completion) {
        self.now = now;
        match completion {
            Completion::Started { op, result } => self.started(op, result),
            Completion::Stopped { op, result } => self.stopped(op, result),
            Completion::LogOpened { log } => {
                self.with_hub(log, |process| process.hub.opened());
                // Its first record may be hidden as well.
                self.quiet.touched(log, now);
            }
            Completion::LogMissing { log } => {
                self.with_hub(log, |process| process.hub.missing());
                self.look(log, LOOKS_IN_A_ROW);
            }
            Completion::LogRecord { log, bytes } => self.push(log, Entry::Record(bytes)),
            Completion::LogLost { log } => self.push(log, Entry::Lost),
            Completion::LogEnded { log } => {
                self.quiet.remove(log);
                self.with_hub(log, |process| process.hub.ended());
                self.pump_log(log);
            }
            Completion::ChannelDone { op, result } => self.channel_done(op, result),
            Completion::ChannelGone { channel } => self.channel_gone(channel),
            Completion::Read { reader, bytes } => self.read(reader, Entry::Record(bytes)),
            Completion::ReadLost { reader } => self.read(reader, Entry::Lost),
            Completion::ReaderEnded { reader, error } => self.reader_ended(reader, error),
            Completion::Written { writer, result } => self.written(writer, result),
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        if self.config.unix_origin_ms.is_none() {
            return;
        }
        self.refuse_late(now);
        while let Some(log) = self.quiet.pop(now) {
            self.calls.push_back(HostCall::NudgeLog { log });
        }
        while let Some(reader) = self.quiet_readers.pop(now) {
            self.calls.push_back(HostCall::NudgeReader { reader });
        }
        self.close_lingering();
        self.end_stalled();
        let retention = self.config.retention;
        while let Some(ordinal) = self.table.stopped_before(now, retention) {
            self.forget(ordinal);
        }
    }

    /// When [`Server::handle_timeout`] is due; never without a clock.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.config.unix_origin_ms?;
        self.connections
            .values()
            .filter(|connection| connection.is_silent())
            .map(|connection| connection.hello_by)
            .chain(self.quiet.next())
            .chain(self.quiet_readers.next())
            .chain(self.lingering.next())
            .chain(self.stalled.next())
            .chain(
                self.table
                    .first_stopped()
                    .map(|at| at.saturating_add(self.config.retention)),
            )
            .min()
    }

    /// The next connection that may have something to transmit, or is closed. Each is given once until something
    /// changes on it.
    #[must_use]
    pub fn poll_ready(&mut self) -> Option<ConnectionId> {
        self.ready.pop_first()
    }

    /// The next write on a connection.
    #[must_use]
    pub fn poll_transmit(&mut self, id: ConnectionId, max: usize) -> Option<Transmit> {
        let transmit = self.connections.get_mut(&id)?.core.poll_transmit(max);
        self.count(id);
        // A write makes room for what followers wait to send.
        self.drain_events(id);
        transmit
    }

    /// The next thing to do in the runtime.
    #[must_use]
    pub fn poll_host(&mut self) -> Option<HostCall> {
        let call = self.calls.pop_front()?;
        if matches!(call, HostCall::Audit(_)) {
            self.audit.taken();
        }
        Some(call)
    }

    /// Hands everything that is to be done to `host`.
    pub fn run_host(&mut self, host: &mut impl Host) {
        while let Some(call) = self.poll_host() {
            host.begin(call);
            if let Some(completion) = host.refused() {
                self.handle_host(self.now, completion);
            }
        }
    }

    /// Whether a connection is over: once nothing is left to transmit, its transport can be closed.
    #[must_use]
    pub fn is_closed(&self, id: ConnectionId) -> bool {
        self.connections
            .get(&id)
            .is_none_or(|connection| connection.core.is_closed() && !connection.core.wants_write())
    }

    /// Takes no new clients and requests; what runs is finished.
    pub fn drain(&mut self) {
        self.draining = true;
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.core.drain();
            }
            self.ready.insert(id);
        }
    }

    /// The id of this incarnation of the server; there is one once a client was greeted.
    #[must_use]
    pub fn incarnation(&self) -> Option<[u8; 16]> {
        self.ids.as_ref().map(Ids::incarnation)
    }

    /// Takes what only the driver counts, for the answers to "server info".
    pub fn set_counters(&mut self, counters: HostCounters) {
        self.counters = counters;
    }

    /// Bytes that one connection's streams may queue now.
    pub(crate) fn queue_share(&self) -> usize {
        let share = self.config.all_queues_bytes / self.connections.len().max(1);
        share.max(MIN_QUEUE_SHARE)
    }

    /// Milliseconds since the Unix epoch, if there is a clock.
    pub(crate) fn unix_ms(&self) -> Option<u64> {
        let since = u64::try_from(self.now.since_origin().as_millis()).ok()?;
        Some(self.config.unix_origin_ms?.saturating_add(since))
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        self.last_op += 1;
        OpId(self.last_op)
    }

    /// The ids of this incarnation; they exist once a client was greeted.
    pub(crate) fn ids(&self) -> Option<&Ids> {
        self.ids.as_ref()
    }

    /// Handles everything that a connection's machine has to say, and has its transport looked after.
    pub(crate) fn events(&mut self, id: ConnectionId) {
        self.drain_events(id);
        self.ready.insert(id);
    }

    fn drain_events(&mut self, id: ConnectionId) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let Some(event) = connection.core.poll_event() else {
                return;
            };
            match event {
                ServerEvent::Hello(hello) => self.greet(id, &hello),
                ServerEvent::Request {
                    id: request,
                    op,
                    body,
                } => {
                    self.request((id, request), op, &body);
                }
                ServerEvent::Refused {
                    id: request,
                    op,
                    error,
                } => self.record_refusal((id, request), op, &[], &error),
                ServerEvent::Cancelled {
                    id: request,
                    stream,
                } => {
                    self.cancelled((id, request), stream);
                }
                ServerEvent::Reset { id: request, .. } => self.cancelled((id, request), true),
                ServerEvent::Room { id: request } => {
                    self.pump(id, request);
                    self.pump_subscriber(id, request);
                }
                ServerEvent::Message {
                    id: request,
                    seq,
                    payload,
                    cost,
                } => self.published((id, request), seq, payload, cost),
                ServerEvent::TooLong {
                    id: request, len, ..
                } => self.publishes_too_much((id, request), len),
                ServerEvent::Ended { id: request } => self.publication_ended((id, request)),
                ServerEvent::Closed(reason) => self.closed(id, &reason),
                _ => {}
            }
        }
    }

    /// Keeps the outcome of a changing request and answers everyone else who waits for it.
    pub(crate) fn finish_token(
        &mut self,
        token: Option<Token>,
        result: &Result<Vec<u8>, RemoteError>,
    ) -> Vec<Waiter> {
        match token {
            Some(token) => self.sessions.finish(token, result),
            None => Vec::new(),
        }
    }

    /// Answers a request.
    pub(crate) fn respond(&mut self, waiter: Waiter, result: Result<Vec<u8>, RemoteError>) {
        let (id, request) = waiter;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.core.respond(request, result);
            self.count(id);
            self.ready.insert(id);
        }
    }

    /// Counts what a connection holds now.
    pub(crate) fn count(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let before = core::mem::replace(
                &mut connection.counted,
                Counted {
                    control: connection.core.queued(),
                    reassembling: connection.core.reassembling(),
                },
            );
            self.total = self.total.without(before).with(connection.counted);
        }
    }

    /// Ends a connection that passes the limit on incomplete requests.
    fn bound_reassembly(&mut self, id: ConnectionId) {
        let before = self.total.reassembling;
        self.count(id);
        let after = self.total.reassembling;
        if after <= before || after <= self.config.all_reassembly_bytes {
            return;
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.core.close(RemoteError::new(
                ErrorCode::ResourceExhausted,
                "too many requests are incomplete on all connections together",
            ));
        }
        self.count(id);
    }

    /// Closes connections on which most answers wait, until the others' fit.
    fn shed(&mut self) {
        while self.total.control > self.config.all_control_bytes {
            let most = self
                .connections
                .iter()
                .filter(|(_, connection)| !connection.core.is_closed())
                .max_by_key(|(_, connection)| connection.counted.control)
                .map(|(id, _)| *id);
            let Some(id) = most else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.core.give_up(RemoteError::new(
                    ErrorCode::ResourceExhausted,
                    "too many answers wait on all connections together, most of them here",
                ));
            }
            self.count(id);
            self.events(id);
        }
    }
}
