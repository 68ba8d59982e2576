//! Making a connection: name, address, QUIC and TLS, the stream; all before one deadline.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt,
    crypto::rustls::QuicClientConfig,
};

use tracing::Instrument as _;

use crate::{
    DialError, Link, Machine, Phase, Runtime, drive,
    stream::{Ends, Receiver, Sender},
};

/// The most addresses of a name that are tried; the others would only get a share of the time too short to answer.
pub const MAX_ADDRESSES: usize = 8;

/// How often the connection is kept alive: well within [`IDLE_TIMEOUT`], and within what NATs remember of UDP.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// After how long without a sign of life the connection is lost. The runtime uses the same 30 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The name that is asked for when a server is dialled by its IP address.
const NAME_OF_ADDRESSES: &str = "localhost";

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    server_name: String,
}

impl Target {
    /// A server by its domain, which is also the name that is asked for.
    ///
    /// The runtime routes connections by that name (TLS SNI), and addresses are not names: for an IP address the name
    /// is `localhost`, which is what the documented arguments of the server module bind.
    #[must_use]
    pub fn new(domain: impl Into<String>, port: u16) -> Self {
        let host = domain.into();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.map(str::to_owned).unwrap_or(host);
        let server_name = match host.parse::<IpAddr>() {
            Ok(_) => NAME_OF_ADDRESSES.to_owned(),
            Err(_) => host.clone(),
        };
        Self {
            host,
            port,
            server_name,
        }
    }

    /// Asks for another name.
    #[must_use]
    pub fn with_server_name(mut self, server_name: impl Into<String>) -> Self {
        self.server_name = server_name.into();
        self
    }

    /// The domain or address that is dialled.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name that is asked for (TLS SNI), and that the server's certificate must be valid for.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.server_name
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Bytes that may be on their way below the core (PROTOCOL.md, "Credit").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Windows {
    /// From the server, received and not read by the machine: the most that one round trip carries. The machine reads
    /// at once and bounds stream data by its own credit (a connection window of 512 KiB to 4 MiB), so that this only
    /// has to be large enough not to be the narrower of the two.
    pub receive: u32,
    /// To the server, sent and not acknowledged. What is handed to QUIC cannot be overtaken any more, so that this is
    /// what a `stop` may have to wait behind.
    pub send: u32,
}

impl Default for Windows {
    /// 5 MiB to receive (the largest window of the core, and room for answers), 256 KiB to send.
    fn default() -> Self {
        Self {
            receive: 5 * 1024 * 1024,
            send: 256 * 1024,
        }
    }
}

/// A connection with its one stream, not driven yet. Dropping it closes the connection.
#[derive(Debug)]
pub struct Wire {
    pub(crate) runtime: Runtime,
    /// Where the server is.
    pub(crate) address: SocketAddr,
    pub(crate) ends: Ends,
    pub(crate) send: Sender,
    pub(crate) recv: Receiver,
}

impl Wire {
    /// Where the server is.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the task that drives `machine`, whose times are durations since `origin`. The task ends when the machine
    /// is over. It runs in the `tracing` span that is current here.
    #[must_use]
    pub fn drive<M: Machine>(self, machine: M, origin: Instant) -> Link<M> {
        let link = Link::new(machine, origin, self.address);
        let task = drive::run(
            self.runtime.clone(),
            link.clone(),
            self.ends,
            self.send,
            self.recv,
        );
        self.runtime.spawn(task.in_current_span());
        link
    }
}

/// Connects to `target` before `deadline`, on this runtime.
///
/// IPv4 addresses are tried first, because the runtime listens on those only. Each address gets an equal share of the
/// time that is left. An address whose server answers, even with a refusal, ends the search.
///
/// # Errors
/// See [`DialError`].
///
/// # Cancel safety
/// Dropping the future gives the attempt up and leaves nothing behind.
pub async fn dial(
    runtime: &Runtime,
    target: &Target,
    tls: rustls::ClientConfig,
    windows: Windows,
    deadline: Instant,
) -> Result<Wire, DialError> {
    let config = client_config(tls, windows)?;
    let addresses = resolve(runtime, target, deadline).await?;
    let mut silent = Vec::new();
    let mut failure = None;
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left.div_f64((addresses.len() - tried) as f64);
        let deadline = Instant::now() + share;
        match attempt(runtime, target, *address, config.clone(), deadline).await {
            Ok(wire) => return Ok(wire),
            Err(DialError::Timeout {
                phase: Phase::Handshake,
                ..
            }) => silent.push(address.ip()),
            // The machine may have no IPv6, say: another address may still do.
            Err(error @ DialError::Endpoint(_)) => failure = Some(error),
            Err(error) => return Err(error),
        }
        tracing::debug!(%address, "no connection");
    }
    match failure {
        Some(failure) if silent.is_empty() => Err(failure),
        _ => Err(DialError::Timeout {
            phase: Phase::Handshake,
            addresses: silent,
        }),
    }
}

async fn resolve(
    runtime: &Runtime,
    target: &Target,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let (host, port) = (target.host.clone(), target.port);
    let lookup = move || -> io::Result<Vec<_>> {
        let addresses = (host.as_str(), port).to_socket_addrs()?;
        Ok(addresses.take(4 * MAX_ADDRESSES).collect())
    };
    let Some(looked_up) = runtime.unblock(deadline, lookup).await else {
        return Err(DialError::Timeout {
            phase: Phase::Resolve,
            addresses: Vec::new(),
        });
    };
    let mut addresses = looked_up.map_err(DialError::Resolve)?;
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() {
        return Err(DialError::NoAddress);
    }
    Ok(addresses)
}

async fn attempt(
    runtime: &Runtime,
    target: &Target,
    address: SocketAddr,
    config: ClientConfig,
    deadline: Instant,
) -> Result<Wire, DialError> {
    let timeout = |phase| DialError::Timeout {
        phase,
        addresses: vec![address.ip()],
    };
    let failed = |source| DialError::Connection {
        address: address.ip(),
        source,
    };
    let local = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    // Quinn's own way would choose a runtime by itself.
    let endpoint = UdpSocket::bind(local)
        .and_then(|socket| Endpoint::new(EndpointConfig::default(), None, socket, runtime.quinn()))
        .map_err(DialError::Endpoint)?;
    let connecting = endpoint
        .connect_with(config, address, &target.server_name)
        .map_err(DialError::Connect)?;
    let connection = match runtime.timeout_at(deadline, connecting).await {
        Some(Ok(connection)) => connection,
        Some(Err(quinn::ConnectionError::TimedOut)) | None => {
            return Err(timeout(Phase::Handshake));
        }
        Some(Err(error)) => return Err(failed(error)),
    };
    let (send, recv) = match runtime.timeout_at(deadline, connection.open_bi()).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return Err(failed(error)),
        None => return Err(timeout(Phase::Stream)),
    };
    Ok(Wire {
        runtime: runtime.clone(),
        address: connection.remote_address(),
        ends: Ends::Quic(connection, endpoint),
        send: Sender::Quic(send),
        recv: Receiver::Quic(recv),
    })
}

fn client_config(tls: rustls::ClientConfig, windows: Windows) -> Result<ClientConfig, DialError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(DialError::Tls)?;
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .stream_receive_window(VarInt::from_u32(windows.receive))
        .receive_window(VarInt::from_u32(windows.receive))
        .send_window(u64::from(windows.send))
        // The server opens no streams and sends no datagrams.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_ask_for_localhost() {
        let named = Target::new("api.example", 7000);
        assert_eq!(
            (named.server_name(), named.to_string().as_str()),
            ("api.example", "api.example:7000")
        );
        for (address, shown) in [
            ("127.0.0.1", "127.0.0.1:1"),
            ("::1", "[::1]:1"),
            ("[::1]", "[::1]:1"),
        ] {
            let target = Target::new(address, 1);
            assert_eq!(
                (target.server_name(), target.to_string().as_str()),
                ("localhost", shown)
            );
        }
        assert_eq!(
            Target::new("::1", 1).with_server_name("a").server_name(),
            "a"
        );
    }
}
