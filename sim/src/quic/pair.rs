//! The two ends and what joins them.

use core::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, ConnectionId, ConnectionIdGenerator,
    ConnectionStats, DatagramEvent, Dir, EcnCodepoint, Endpoint, EndpointConfig, Event,
    NoneTokenStore, ReadError, ServerConfig, StreamEvent, StreamId, Transmit,
    ValidationTokenConfig, VarInt,
};
use selium_remote_client_protocol::{Time, limits::MAX_WRITE};

use super::{
    Profile, Settings,
    tls::{SERVER_NAME, TLS, Tls},
    udp::{Packet, Path},
};
use crate::{
    rng::Dice,
    transport::{Read, Side, Transport},
};

/// Datagrams in one transmit, as the real sockets do it.
const MAX_DATAGRAMS: usize = 10;

/// The most bytes that one read takes, as the real driver does it.
const MAX_READ: usize = 64 * 1024;

/// The finest that timers can be, so that time passes.
const LEAST_TIMER: Duration = Duration::from_micros(1);

/// Connection ids from dice.
struct Ids(Dice);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.word().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn bytes32(mut dice: Dice) -> [u8; 32] {
    let mut bytes = [0; 32];
    for part in bytes.chunks_exact_mut(16) {
        part.copy_from_slice(&dice.bytes16());
    }
    bytes
}

const fn address(side: Side) -> SocketAddr {
    let port = match side {
        Side::Client => 1,
        Side::Server => 2,
    };
    SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// One end.
struct End {
    side: Side,
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    stream: Option<StreamId>,
    /// The stream takes nothing until it says so.
    blocked: bool,
    /// What is written is to end, and has not.
    finishing: bool,
    finished: bool,
    lost: Option<String>,
    /// The reader has heard of the end, or of the loss.
    told: bool,
    /// The reader has heard of the end.
    ended: bool,
    dead: bool,
    due: Option<Time>,
    buffer: Vec<u8>,
    out: Vec<Packet>,
}

impl core::fmt::Debug for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("End")
            .field("side", &self.side)
            .field("stream", &self.stream)
            .field("blocked", &self.blocked)
            .field("lost", &self.lost)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

impl End {
    fn new(side: Side, dice: &Dice, server: Option<ServerConfig>) -> Self {
        let ids = dice.fork("ids");
        let mut config = EndpointConfig::default();
        config
            .rng_seed(Some(bytes32(dice.fork("endpoint"))))
            .cid_generator(move || Box::new(Ids(ids.clone())));
        Self {
            side,
            endpoint: Endpoint::new(Arc::new(config), server.map(Arc::new), true, None),
            connection: None,
            stream: None,
            blocked: false,
            finishing: false,
            finished: false,
            lost: None,
            told: false,
            ended: false,
            dead: false,
            due: None,
            buffer: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Gives a transmit's datagrams to the path.
    fn sent(&mut self, transmit: &Transmit) {
        let ecn = transmit.ecn.map_or(0, |ecn| ecn as u8);
        let all = self.buffer.get(..transmit.size).unwrap_or_default();
        let size = transmit.segment_size.unwrap_or(all.len()).max(1);
        for payload in all.chunks(size) {
            self.out.push(Packet {
                from: self.side,
                payload: Bytes::copy_from_slice(payload),
                ecn,
            });
        }
        self.buffer.clear();
    }

    fn handle(&mut self, now: Instant, packet: &Packet) {
        if self.dead {
            return;
        }
        let event = self.endpoint.handle(
            now,
            address(packet.from),
            None,
            EcnCodepoint::from_bits(packet.ecn),
            BytesMut::from(&packet.payload[..]),
            &mut self.buffer,
        );
        match event {
            None => {}
            Some(DatagramEvent::Response(transmit)) => self.sent(&transmit),
            Some(DatagramEvent::ConnectionEvent(handle, event)) => match &mut self.connection {
                Some((own, connection)) if *own == handle => connection.handle_event(event),
                _ => {}
            },
            // A late copy of the first packet: that connection is over.
            Some(DatagramEvent::NewConnection(incoming)) if self.connection.is_some() => {
                self.endpoint.ignore(incoming);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, now, &mut self.buffer, None) {
                    Ok(connection) => self.connection = Some(connection),
                    Err(error) => {
                        if let Some(transmit) = error.response {
                            self.sent(&transmit);
                        }
                    }
                }
            }
        }
    }

    /// Lets the connection say all that it has to say.
    fn drive(&mut self, now: Instant) {
        let Some((handle, mut connection)) = self.connection.take() else {
            return;
        };
        loop {
            while let Some(transmit) =
                connection.poll_transmit(now, MAX_DATAGRAMS, &mut self.buffer)
            {
                self.sent(&transmit);
            }
            let mut idle = true;
            while let Some(event) = connection.poll_endpoint_events() {
                idle = false;
                if let Some(event) = self.endpoint.handle_event(handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                idle = false;
                self.on(&mut connection, event);
            }
            if idle {
                break;
            }
        }
        self.connection = Some((handle, connection));
    }

    fn on(&mut self, connection: &mut Connection, event: Event) {
        match event {
            Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
            Event::Stream(StreamEvent::Writable { id }) if self.stream == Some(id) => {
                self.blocked = false;
            }
            Event::Connected | Event::Stream(StreamEvent::Available { .. })
                if self.side == Side::Client && self.stream.is_none() =>
            {
                self.stream = connection.streams().open(Dir::Bi);
            }
            // The runtime knows the first stream of a connection only.
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi })
                if self.side == Side::Server && self.stream.is_none() =>
            {
                self.stream = connection.streams().accept(Dir::Bi);
            }
            _ => {}
        }
        if self.finishing
            && let Some(id) = self.stream
        {
            self.finishing = false;
            let _ = connection.send_stream(id).finish();
        }
    }

    fn writable(&self) -> usize {
        let open = self.stream.is_some() && self.lost.is_none() && !self.finished;
        if open && !self.blocked { MAX_WRITE } else { 0 }
    }

    fn write(&mut self, bytes: &[Bytes]) -> usize {
        let (Some((_, connection)), Some(id)) = (&mut self.connection, self.stream) else {
            return 0;
        };
        let mut room = MAX_WRITE;
        let mut bytes: Vec<Bytes> = bytes
            .iter()
            .map(|part| {
                let part = part.slice(..part.len().min(room));
                room -= part.len();
                part
            })
            .filter(|part| !part.is_empty())
            .collect();
        let mut left = bytes.as_mut_slice();
        let mut taken = 0;
        // Until all is written or the stream is blocked, so that it says when it no longer is.
        while !left.is_empty() {
            match connection.send_stream(id).write_chunks(left) {
                Ok(written) => {
                    taken += written.bytes;
                    left = left.get_mut(written.chunks..).unwrap_or_default();
                }
                Err(_) => {
                    self.blocked = true;
                    break;
                }
            }
        }
        taken
    }

    fn finish(&mut self) {
        if core::mem::replace(&mut self.finished, true) {
            return;
        }
        match (&mut self.connection, self.stream) {
            (Some((_, connection)), Some(id)) => {
                // Fails when the connection is over; then there is nothing to end.
                let _ = connection.send_stream(id).finish();
            }
            _ => self.finishing = true,
        }
    }

    /// What is read next, and whether the other end has to be told that there is room.
    fn read(&mut self) -> (Option<Read>, bool) {
        if self.told {
            return (None, false);
        }
        let mut transmit = false;
        if let (Some((_, connection)), Some(id)) = (&mut self.connection, self.stream)
            && let Ok(mut chunks) = connection.recv_stream(id).read(true)
        {
            let next = loop {
                match chunks.next(MAX_READ) {
                    Ok(Some(chunk)) if chunk.bytes.is_empty() => {}
                    next => break next,
                }
            };
            transmit = chunks.finalize().should_transmit();
            match next {
                Ok(Some(chunk)) => return (Some(Read::Bytes(chunk.bytes)), transmit),
                Ok(None) => {
                    self.told = true;
                    self.ended = true;
                    return (Some(Read::End), transmit);
                }
                Err(ReadError::Reset(code)) => {
                    self.lost
                        .get_or_insert(format!("the stream was reset: {code}"));
                }
                Err(ReadError::Blocked) => {}
            }
        }
        let lost = self.lost.clone().map(Read::Lost);
        self.told = lost.is_some();
        (lost, transmit)
    }
}

/// One QUIC connection with one stream, which the client opens with its first write.
///
/// Above `quinn-proto` nothing is buffered. Below are what it buffers itself (up to the sender's send window and the
/// receiver's receive window) and the path.
///
/// [`Transport::writable`] is an upper bound: how much a stream takes is known by writing. A link whose ends have both
/// finished and been read to the end closes itself, as the client's driver does; any other lives on keep-alives until
/// it is killed, closed or lost.
#[derive(Debug)]
pub struct Quic {
    origin: Instant,
    now: Time,
    timer: Duration,
    path: Path,
    client: End,
    server: End,
}

impl Quic {
    /// A link whose client begins to connect at `now`.
    ///
    /// `dice` and `profile` decide about the path, `dice` alone about what the endpoints draw. The profile's times
    /// count from `now`.
    #[must_use]
    pub fn new(now: Time, dice: &Dice, profile: Profile, settings: &Settings) -> Self {
        // One origin: only differences matter, and those are virtual.
        let origin = Instant::now();
        let tls = TLS.as_ref();
        let server = tls.ok().map(|tls| server_config(tls, settings));
        let mut quic = Self {
            origin,
            now,
            timer: settings.timer.max(LEAST_TIMER),
            path: Path::new(now, &dice.fork("path"), profile),
            client: End::new(Side::Client, &dice.fork("client"), None),
            server: End::new(Side::Server, &dice.fork("server"), server),
        };
        match tls {
            Err(error) => {
                quic.client.lost = Some(error.clone());
                quic.server.lost = Some(error.clone());
            }
            Ok(tls) => {
                let config = client_config(tls, settings, dice);
                let now = quic.instant();
                let to = address(Side::Server);
                match quic.client.endpoint.connect(now, config, to, SERVER_NAME) {
                    Ok(connection) => quic.client.connection = Some(connection),
                    Err(error) => quic.client.lost = Some(error.to_string()),
                }
            }
        }
        quic.drive(Side::Client);
        quic
    }

    /// Ends the connection from one side with a word to the other, as dropping a connection does.
    pub fn close(&mut self, now: Time, side: Side) {
        self.reach(now);
        let at = self.instant();
        let end = self.end(side);
        if let Some((_, connection)) = &mut end.connection {
            connection.close(at, VarInt::from_u32(0), Bytes::new());
            end.lost.get_or_insert_with(|| "closed".to_owned());
        }
        self.drive(side);
    }

    /// The path, to look at.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// The path, to change.
    pub const fn path_mut(&mut self) -> &mut Path {
        &mut self.path
    }

    /// Whether the client's handshake is over and its stream can be written.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.client.stream.is_some()
    }

    /// What `quinn-proto` counts at one end: packets, frames, round trip, window of congestion.
    #[must_use]
    pub fn stats(&self, side: Side) -> Option<ConnectionStats> {
        let end = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        end.connection
            .as_ref()
            .map(|(_, connection)| connection.stats())
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn instant(&self) -> Instant {
        self.origin
            .checked_add(self.now.since_origin())
            .unwrap_or(self.origin)
    }

    fn reach(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Carries what an end has to say to the path, and notes when it wants to be woken.
    fn drive(&mut self, side: Side) {
        let (now, at, origin, timer) = (self.now, self.instant(), self.origin, self.timer);
        let end = self.end(side);
        end.drive(at);
        end.due = match &mut end.connection {
            Some((_, connection)) => connection
                .poll_timeout()
                .map(|due| wake(now, due.saturating_duration_since(origin), timer)),
            None => None,
        };
        for packet in core::mem::take(&mut end.out) {
            self.path.send(now, packet);
        }
    }

    fn expire(&mut self, side: Side) {
        let (now, at) = (self.now, self.instant());
        let end = self.end(side);
        if end.due.is_some_and(|due| due <= now) {
            if let Some((_, connection)) = &mut end.connection {
                connection.handle_timeout(at);
            }
            self.drive(side);
        }
    }
}

/// When a timer that is due at `due` fires: late by less than a tick, and later than `now`.
fn wake(now: Time, due: Duration, tick: Duration) -> Time {
    let tick = tick.as_nanos().max(1);
    let due = due.as_nanos().div_ceil(tick).saturating_mul(tick);
    let due = Time::from_origin(Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX)));
    if due > now {
        return due;
    }
    let past = now.since_origin().as_nanos() / tick + 1;
    let past = u64::try_from(past.saturating_mul(tick)).unwrap_or(u64::MAX);
    Time::from_origin(Duration::from_nanos(past))
}

fn server_config(tls: &Tls, settings: &Settings) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(tls.server.clone());
    let mut tokens = ValidationTokenConfig::default();
    // They would be sent or not as the features of the build say.
    tokens.sent(0);
    config
        .transport_config(Arc::new(settings.server.transport()))
        .validation_token_config(tokens);
    config
}

fn client_config(tls: &Tls, settings: &Settings, dice: &Dice) -> ClientConfig {
    let mut config = ClientConfig::new(tls.client.clone());
    let first_id = bytes32(dice.fork("first id"));
    config
        .transport_config(Arc::new(settings.client.transport()))
        .token_store(Arc::new(NoneTokenStore))
        .initial_dst_cid_provider(Arc::new(move || {
            ConnectionId::new(first_id.first_chunk::<20>().map_or(&[0; 20], |id| id))
        }));
    config
}

impl Transport for Quic {
    fn advance(&mut self, now: Time) {
        while let Some(next) = self.next().filter(|next| *next <= now) {
            self.reach(next);
            let mut arrived = [false; 2];
            while let Some((_, packet)) = self.path.deliver(self.now) {
                let at = self.instant();
                let to = packet.from.other();
                self.end(to).handle(at, &packet);
                arrived = match to {
                    Side::Client => [true, arrived[1]],
                    Side::Server => [arrived[0], true],
                };
            }
            if arrived[0] {
                self.drive(Side::Client);
            }
            if arrived[1] {
                self.drive(Side::Server);
            }
            self.expire(Side::Client);
            self.expire(Side::Server);
        }
        self.reach(now);
    }

    fn next(&self) -> Option<Time> {
        let times = [self.path.next(), self.client.due, self.server.due];
        times.into_iter().flatten().min()
    }

    fn writable(&self, side: Side) -> usize {
        match side {
            Side::Client => self.client.writable(),
            Side::Server => self.server.writable(),
        }
    }

    fn write(&mut self, now: Time, side: Side, bytes: &[Bytes]) -> usize {
        self.reach(now);
        let end = self.end(side);
        if end.writable() == 0 {
            return 0;
        }
        let taken = end.write(bytes);
        self.drive(side);
        taken
    }

    fn finish(&mut self, now: Time, side: Side) {
        self.reach(now);
        self.end(side).finish();
        self.drive(side);
    }

    fn read(&mut self, now: Time, side: Side) -> Option<Read> {
        self.reach(now);
        let (read, transmit) = self.end(side).read();
        if transmit {
            self.drive(side);
        }
        if read == Some(Read::End) && self.client.ended && self.server.ended {
            self.close(now, Side::Client);
        }
        read
    }

    fn kill(&mut self, now: Time, side: Side) {
        self.reach(now);
        let end = self.end(side);
        end.dead = true;
        end.connection = None;
        end.due = None;
        end.lost
            .get_or_insert_with(|| "this end was killed".to_owned());
    }
}
