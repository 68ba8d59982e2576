//! What the server is and what it is willing to hold.

use core::time::Duration;

use selium_remote_client_protocol::{Limits, limits::MESSAGE_OVERHEAD};

use crate::policy::Policy;

/// Configuration of a [`crate::Server`]. Every limit states what happens past it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Limits of each connection's protocol machine.
    pub limits: Limits,
    /// Open connections. Past it a new client is refused with "resource exhausted".
    pub max_connections: usize,
    /// Connections beyond that which may wait for their refusal. Past it a connection is dropped without a word.
    pub max_refused: usize,
    /// The same for each role's connections beyond the role's own limit; see [`crate::Server::is_full_for`].
    pub max_refused_of_role: usize,
    /// Bytes of answers and other control frames that may wait on all connections together. Past it the connection on
    /// which most wait is closed.
    pub all_control_bytes: usize,
    /// Bytes that all connections' streams may queue together. Each connection gets an equal share, but at least 64 KiB.
    pub all_queues_bytes: usize,
    /// Bytes of incomplete requests that all connections may hold together. Past it the connection that passes it ends.
    pub all_reassembly_bytes: usize,
    /// Processes that are started and not stopped. Past it a start is refused with "resource exhausted".
    pub max_processes: usize,
    /// Stopped processes that stay in the table, with their logs, for `ps --all` and `logs`. Past it the one that was
    /// stopped first is forgotten.
    pub max_stopped: usize,
    /// How long a stopped process stays in the table, with its log; needs a clock.
    pub retention: Duration,
    /// Starts in the host at a time: each compiles a module on one of the runtime's worker threads.
    pub max_starts: usize,
    /// Starts that wait for the host. Past it a start is refused with "resource exhausted".
    pub max_waiting_starts: usize,
    /// Bytes that one log's replay ring holds. Past it the oldest records go.
    pub ring_bytes: usize,
    /// Bytes that all replay rings hold together. Past it the ring that gets a record gives up its oldest.
    pub all_rings_bytes: usize,
    /// Channels. Past it a create is refused with "resource exhausted".
    pub max_channels: usize,
    /// Bytes that all channels may hold together. Past it likewise.
    pub all_channel_bytes: usize,
    /// Bytes that one channel's ring holds, for each of its two kinds of subscribers. Past it the oldest messages go that
    /// lossless subscribers have got; when there are none the channel is not read, but for one message.
    pub channel_ring_bytes: usize,
    /// Bytes that all those rings hold together. Past it the ring that gets a message gives up its oldest, or its channel
    /// is not read until its subscribers have got everything, but for one message.
    pub all_channel_rings_bytes: usize,
    /// How long a lossless subscriber may take nothing, not a byte, while its channel's ring has no room for more and
    /// messages wait for it; needs a clock. Past it its subscription ends with "resource exhausted".
    pub stalled_subscriber: Duration,
    /// How long a channel is read without lossy subscribers, for those that come back; not at all without a clock.
    pub reader_grace: Duration,
    /// Bytes of published messages, each with 64 more, that wait in the host. One half is shared out equally among the
    /// roles, the other is everybody's. Past it the publication that passes it is reset with "resource exhausted"; it can
    /// be gone on with.
    pub all_publication_bytes: usize,
    /// The same of one session's publications. Past it only those are reset that have more than an equal part of it.
    pub session_publication_bytes: usize,
    /// Publications without a stream that are remembered, of which the host has nothing. Past it one is forgotten: of
    /// the role that has most, of that role's session that has most, the one detached first. Going on with it is
    /// answered "outcome unknown".
    pub max_publications: usize,
    /// Sessions whose outcomes are remembered. Past it the one used longest ago is forgotten.
    pub max_sessions: usize,
    /// Outcomes that are remembered per session. Past it the oldest is forgotten; a retry of it is answered
    /// "outcome unknown".
    pub max_outcomes: usize,
    /// How long a connection may take for its hello; needs a clock. Past it it is refused.
    pub hello_timeout: Duration,
    /// Wall-clock time at the origin of [`selium_remote_client_protocol::Time`], in milliseconds since the Unix epoch;
    /// `None` without a clock.
    pub unix_origin_ms: Option<u64>,
    /// Who may do what, and how much of it.
    pub policy: Policy,
    /// Whether clients are authenticated here.
    pub authenticated: bool,
}

impl Default for Config {
    /// An unprovisioned server without a clock.
    fn default() -> Self {
        Self {
            // A window that grew would be owed to each of a thousand clients: on this side it only shrinks. A
            // stream's has room for two messages of 64 KiB: a publication that waits for each acknowledgement is slow.
            limits: Limits::with(|limits| {
                limits.stream_window = 128 * 1024 + 2 * MESSAGE_OVERHEAD;
                limits.connection_window = 4 * limits.stream_window;
                limits.max_connection_window = limits.connection_window;
            }),
            max_connections: 1_024,
            max_refused: 256,
            max_refused_of_role: 32,
            all_control_bytes: 64 * 1024 * 1024,
            all_queues_bytes: 64 * 1024 * 1024,
            all_reassembly_bytes: 64 * 1024 * 1024,
            max_processes: 1_024,
            max_stopped: 256,
            retention: Duration::from_secs(60 * 60),
            max_starts: 2,
            max_waiting_starts: 1_024,
            ring_bytes: 256 * 1024,
            all_rings_bytes: 16 * 1024 * 1024,
            max_channels: 256,
            all_channel_bytes: 64 * 1024 * 1024,
            channel_ring_bytes: 1024 * 1024,
            all_channel_rings_bytes: 16 * 1024 * 1024,
            stalled_subscriber: Duration::from_secs(30),
            reader_grace: Duration::from_secs(30),
            all_publication_bytes: 64 * 1024 * 1024,
            // Some 300 streams of a connection, each with its window full, and what is counted besides.
            session_publication_bytes: 40 * 1024 * 1024,
            max_publications: 1_024,
            max_sessions: 256,
            max_outcomes: 1_024,
            hello_timeout: Duration::from_secs(10),
            unix_origin_ms: None,
            policy: Policy::default(),
            authenticated: false,
        }
    }
}
