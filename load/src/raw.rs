//! Connections below the client library: bytes on the stream, or requests through the protocol machine.
//!
//! One [`Dialer`] is one UDP socket with one TLS configuration, from which any number of connections are made: that is
//! how a client of 0.3.3 made its connections, one for each request.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use selium_remote_client_protocol::{
    Limits, RemoteError, Time,
    client::{self, ClientConnection, ClientEvent, RequestOptions},
    hello::ClientHello,
    limits::MAX_WRITE,
    ops::{Common, Request},
};
use tokio::time::timeout;

use crate::socket::Gate;

/// The name that the server module and the echo servers are bound to.
const SERVER_NAME: &str = "localhost";

/// How often connections are kept alive; the runtime drops those that are silent for 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Makes connections from one socket.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    config: ClientConfig,
    address: SocketAddr,
}

impl Dialer {
    /// To this port on loopback, with the certificates of this directory.
    ///
    /// # Errors
    /// When the certificates cannot be used or there is no socket.
    pub(crate) fn new(certs: &Path, port: u16) -> Result<Self> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).context("a socket")?;
        Self::over(endpoint, certs, port)
    }

    /// As [`Dialer::new`], behind a gate.
    ///
    /// # Errors
    /// As [`Dialer::new`].
    pub(crate) fn behind(gate: &Gate, certs: &Path, port: u16) -> Result<Self> {
        Self::over(gate.endpoint().context("a socket")?, certs, port)
    }

    fn over(endpoint: Endpoint, certs: &Path, port: u16) -> Result<Self> {
        let tls = selium_remote_certs::client_config(certs)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(KEEP_ALIVE));
        config.transport_config(Arc::new(transport));
        Ok(Self {
            endpoint,
            config,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        })
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// When the endpoint takes no more.
    pub(crate) fn begin(&self) -> Result<quinn::Connecting> {
        Ok(self
            .endpoint
            .connect_with(self.config.clone(), self.address, SERVER_NAME)?)
    }

    /// A connection without a stream.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(crate) async fn connection(&self) -> Result<Connection> {
        Ok(self.begin()?.await?)
    }

    /// A connection with its stream, on which nothing was sent yet.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(crate) async fn wire(&self) -> Result<Wire> {
        let connection = self.connection().await?;
        let (send, recv) = connection.open_bi().await?;
        Ok(Wire {
            connection,
            send,
            recv,
        })
    }

    /// A connection that has said hello and was answered.
    ///
    /// # Errors
    /// When the handshake fails or the server refuses.
    pub(crate) async fn peer(&self) -> Result<Peer> {
        Peer::greet(self.wire().await?).await
    }
}

/// A connection with its one stream. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Wire {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

impl Wire {
    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection is over, or the other side stopped the stream.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.send.write_all(bytes).await?)
    }

    /// The next bytes; `None` at the end of the stream, however it ended.
    pub(crate) async fn read(&mut self) -> Option<Bytes> {
        let chunk = self.recv.read_chunk(usize::MAX, true).await;
        chunk.ok().flatten().map(|chunk| chunk.bytes)
    }

    /// Sends bytes and reads as many back.
    ///
    /// # Errors
    /// When the connection is over.
    pub(crate) async fn echo(&mut self, bytes: &[u8]) -> Result<()> {
        self.send.write_all(bytes).await?;
        let mut back = vec![0; bytes.len()];
        self.recv.read_exact(&mut back).await?;
        if back != bytes {
            bail!("the echo is another");
        }
        Ok(())
    }

    /// Ends our half of the stream.
    pub(crate) fn finish(&mut self) {
        // Fails only when the other side has stopped it.
        let _ = self.send.finish();
    }

    /// Closes the connection and waits, for a moment, until the other side was told.
    pub(crate) async fn close(self, dialer: &Dialer) {
        self.connection.close(0u32.into(), b"");
        let _ = timeout(Duration::from_secs(1), dialer.endpoint.wait_idle()).await;
    }
}

/// A connection on which requests can be made, one at a time.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The connection; what is written here is written between the machine's frames.
    pub(crate) wire: Wire,
    core: ClientConnection,
    origin: Instant,
}

/// What a client says first: envelope and hello.
///
/// # Errors
/// When the system has no random numbers.
pub(crate) fn hello() -> Result<Vec<u8>> {
    let hello = core()?.poll_transmit(MAX_WRITE);
    Ok(hello.context("a machine begins with its hello")?.to_vec())
}

fn core() -> Result<ClientConnection> {
    let limits = Limits::default();
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let hello = ClientHello::new(nonce, nonce, &limits);
    let mut config = client::ClientConfig::new(hello, limits);
    // Nobody keeps the time here.
    config.heartbeat = None;
    Ok(ClientConnection::new(config))
}

impl Peer {
    /// Says hello and waits for the answer.
    ///
    /// # Errors
    /// When the server refuses or the connection ends.
    pub(crate) async fn greet(wire: Wire) -> Result<Self> {
        let mut peer = Self {
            wire,
            core: core()?,
            origin: Instant::now(),
        };
        match peer.event().await? {
            ClientEvent::Connected(_) => Ok(peer),
            other => bail!("{other:?} instead of the server's hello"),
        }
    }

    /// Makes a request and waits for its answer.
    ///
    /// # Errors
    /// When the connection ends; the server's error is in the value.
    pub(crate) async fn ask<R: Request>(
        &mut self,
        request: &R,
    ) -> Result<Result<Bytes, RemoteError>> {
        let body = request.encode(&Common::default());
        let id = self
            .core
            .request(R::OP, body, RequestOptions::default())
            .context("a request")?;
        loop {
            match self.event().await? {
                ClientEvent::Response {
                    id: answered,
                    result,
                } if answered == id => {
                    return Ok(result);
                }
                ClientEvent::Closed(reason) => bail!("the connection ended: {reason:?}"),
                _ => {}
            }
        }
    }

    /// Pings the server and waits for the answer.
    ///
    /// # Errors
    /// When the connection ends.
    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.core.ping(Time::from_origin(self.origin.elapsed()));
        loop {
            match self.event().await? {
                ClientEvent::Pong { .. } => return Ok(()),
                ClientEvent::Closed(reason) => bail!("the connection ended: {reason:?}"),
                _ => {}
            }
        }
    }

    /// The next event.
    async fn event(&mut self) -> Result<ClientEvent> {
        loop {
            while let Some(transmit) = self.core.poll_transmit(MAX_WRITE) {
                self.wire.write(&transmit.to_vec()).await?;
            }
            if let Some(event) = self.core.poll_event() {
                return Ok(event);
            }
            let bytes = self.wire.read().await;
            let now = Time::from_origin(self.origin.elapsed());
            match bytes {
                Some(bytes) => self.core.handle_input(now, bytes),
                None => self.core.handle_eof(now),
            }
        }
    }
}
