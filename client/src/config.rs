//! How to connect, and connecting.

mod environment;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use futures_channel::oneshot;

use selium_remote_certs::{CA_FILE, CertificateDirectory, CertificateError, ShownCertificate};
use selium_remote_client_protocol::{
    CloseReason, Limits, Time,
    client::ClientConfig,
    hello::ClientHello,
    limits::{MAX_CHUNK, MESSAGE_OVERHEAD},
};

use tracing::Instrument as _;

use crate::{
    Client, ClientError, Reconnect, Server,
    board::{Board, Connection, Opened, closed},
    call::Inner,
    failure::{ConnectFailure, Place},
    link::{Cause, DialError, Link, Phase, Target, Windows, Wire, cause, dial, runtime, unblock},
    session::{Greeting, Session},
    spans,
    supervisor::Supervisor,
};

/// Bytes of stream data that may be on their way at first, on the connection and on a stream: room for two messages of 64 KiB on each of four streams.
/// With less, a stream of such messages waits for the credit of each. The connection's window follows the path from then on.
const CONNECTION_WINDOW: usize = 4 * STREAM_WINDOW;
const STREAM_WINDOW: usize = 128 * 1024 + 2 * MESSAGE_OVERHEAD;

/// The domain that is connected to by default.
pub const DEFAULT_DOMAIN: &str = "localhost";

/// The UDP port that is connected to by default.
pub const DEFAULT_PORT: u16 = 7000;

/// The certificate directory that is used by default.
pub const DEFAULT_CERTIFICATE_DIRECTORY: &str = "./certs";

/// How long connecting may take by default.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take by default.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of the largest answer or stream message accepted by default.
pub const DEFAULT_RESPONSE_LIMIT: usize = 1024 * 1024;

/// The least response limit: one chunk, so that every error fits.
pub const MIN_RESPONSE_LIMIT: usize = MAX_CHUNK;

/// The longest timeout: a day. Longer ones count as a day.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// How to connect. The default: `localhost`, port 7000, certificates in `./certs`, 10 s to connect, 30 s a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfigBuilder {
    domain: String,
    port: u16,
    server_name: Option<String>,
    certificate_directory: PathBuf,
    response_limit: usize,
    connect_timeout: Duration,
    request_timeout: Duration,
    pub(crate) reconnect: Reconnect,
    /// The way to a server in memory, instead of all that.
    #[cfg(feature = "test-util")]
    pub(crate) door: Option<crate::test_util::Door>,
}

impl Default for ClientConfigBuilder {
    fn default() -> Self {
        Self {
            domain: DEFAULT_DOMAIN.to_owned(),
            port: DEFAULT_PORT,
            server_name: None,
            certificate_directory: PathBuf::from(DEFAULT_CERTIFICATE_DIRECTORY),
            response_limit: DEFAULT_RESPONSE_LIMIT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            reconnect: Reconnect::default(),
            #[cfg(feature = "test-util")]
            door: None,
        }
    }
}

impl ClientConfigBuilder {
    /// Whether and how a lost connection is made again: [`Reconnect::default`], or [`Reconnect::never`] for programs that
    /// do better to end then. The first connection is tried once, in any case.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// The server's domain or IP address.
    ///
    /// The server routes connections by the domain (TLS SNI), which must be the one that its module's arguments bind.
    /// For an IP address `localhost` is asked for; see [`ClientConfigBuilder::server_name`].
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = domain.into();
        self
    }

    /// The server's UDP port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Asks the server for another name than the domain: for servers that are dialled by an address, or by a name that
    /// they do not know of. The server's certificate must be valid for it.
    #[must_use]
    pub fn server_name(mut self, server_name: impl Into<String>) -> Self {
        self.server_name = Some(server_name.into());
        self
    }

    /// The directory with `ca.crt`, `client.crt` and `client.key`.
    #[must_use]
    pub fn certificate_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.certificate_directory = directory.into();
        self
    }

    /// Bytes of the largest answer or stream message that is accepted (at least [`MIN_RESPONSE_LIMIT`]); twice as many
    /// are held at most while such messages arrive. The server is told; one that passes it loses the connection.
    #[must_use]
    pub fn response_limit(mut self, bytes: usize) -> Self {
        self.response_limit = bytes.max(MIN_RESPONSE_LIMIT);
        self
    }

    /// How long connecting may take in all: reading the certificates, looking the domain up, shaking hands, and the
    /// server's answer to the hello. At most [`MAX_TIMEOUT`].
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// How long each request may take, waiting for a connection included. At most [`MAX_TIMEOUT`].
    /// [`Client::with_timeout`] has others for single calls.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Connects (PROTOCOL.md, "A connection's life"). Success means that the server has answered: it is a control plane
    /// that this client can talk to, and it accepts the client's certificate, if it looks at it.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] for a domain or a port that cannot be one; otherwise what is wrong with the
    /// certificates, the way to the server, or the server; see [`ClientError`]. Refused
    /// certificates are final ([`ClientError::is_auth`]), most others may pass ([`ClientError::is_retryable`]).
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn connect(self) -> Result<Client, ClientError> {
        self.check()?;
        let mut session = [0; 16];
        getrandom::fill(&mut session).map_err(ClientError::Random)?;
        let server = self.target().to_string();
        let span = spans::connection(&server, 1, 1);
        let (connection, ended) = self.open(session, 1).instrument(span.clone()).await?;
        spans::connected(&span, &connection.server);
        let timeout = self.request_timeout;
        let board = Arc::new(Board::new(self.reconnect.clone(), connection));
        // From here on, dropping this future closes it.
        let client = Client::new(Inner::new(Arc::clone(&board)), timeout);
        let supervisor = Supervisor::new(board, self, session);
        let runtime = runtime().map_err(|_| ClientError::NoRuntime)?;
        runtime.spawn(supervisor.run(ended).instrument(spans::client(&server)));
        Ok(client)
    }

    /// What is connected to.
    pub(crate) fn target(&self) -> Target {
        let target = Target::new(self.domain.as_str(), self.port);
        match &self.server_name {
            Some(name) => target.with_server_name(name.as_str()),
            None => target,
        }
    }

    /// Makes a connection of a session, and something that tells when it is over.
    pub(crate) async fn open(
        &self,
        session: [u8; 16],
        number: u64,
    ) -> Result<(Connection, oneshot::Receiver<()>), ClientError> {
        let origin = Instant::now();
        let mut attempt = Attempt::new(self, origin);
        let wire = self.wire(&mut attempt).await?;

        let deadline = Time::from_origin(self.connect_timeout);
        let (mut machine, greeting) = Session::new(self.protocol(session)?, deadline);
        let ended = machine.ended();
        // From here on, dropping this future says goodbye.
        let opened = Opened(wire.drive(machine, origin));
        let address = opened.0.remote_address();
        let place = Place::new(&attempt.target, vec![address.ip()]);
        let hello = match greeting.await.unwrap_or(Greeting::Closed) {
            Greeting::Hello(hello) => *hello,
            Greeting::TimedOut => return Err(attempt.no_hello(&place)),
            Greeting::Closed => return Err(attempt.turned_away(&place, &opened.0)),
        };
        let server = Server::new(address, hello);
        tracing::debug!(server = %place, software = %server.software, version = %server.version, "connected");
        let shown = attempt.shown.as_ref().and_then(|shown| shown.validity);
        let expires = shown.and_then(|(_, end)| UNIX_EPOCH.checked_add(Duration::from_secs(end)));
        let connection = Connection {
            opened,
            server: Arc::new(server),
            number,
            expires,
        };
        Ok((connection, ended))
    }

    /// Makes a connection that is not driven yet.
    async fn wire(&self, attempt: &mut Attempt) -> Result<Wire, ClientError> {
        #[cfg(feature = "test-util")]
        if let Some(door) = &self.door {
            let dialled = door.dial(attempt.deadline).await;
            return dialled.map_err(|error| attempt.failed(error));
        }
        let tls = attempt.certificates().await?;
        dial(&attempt.target, tls, Windows::default(), attempt.deadline)
            .await
            .map_err(|error| attempt.failed(error))
    }

    fn protocol(&self, session: [u8; 16]) -> Result<ClientConfig, ClientError> {
        let limits = Limits::with(|limits| {
            limits.max_message = self.response_limit;
            limits.reassembly = self.response_limit.saturating_mul(2);
            limits.connection_window = CONNECTION_WINDOW;
            limits.stream_window = STREAM_WINDOW;
        });
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(ClientError::Random)?;
        let mut hello = ClientHello::new(nonce, session, &limits);
        hello.software = env!("CARGO_PKG_NAME").to_owned();
        hello.version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(ClientConfig::new(hello, limits))
    }
}

/// One attempt to connect: what its errors have to name.
struct Attempt {
    target: Target,
    directory: PathBuf,
    timeout: Duration,
    deadline: Instant,
    /// What the server is shown, once it was loaded.
    shown: Option<ShownCertificate>,
}

impl Attempt {
    fn new(config: &ClientConfigBuilder, origin: Instant) -> Self {
        Self {
            target: config.target(),
            directory: config.certificate_directory.clone(),
            timeout: config.connect_timeout,
            deadline: origin + config.connect_timeout,
            shown: None,
        }
    }

    async fn certificates(&mut self) -> Result<rustls::ClientConfig, ClientError> {
        let directory = self.directory.clone();
        let load = move || -> Result<_, CertificateError> {
            let directory = CertificateDirectory::load(directory)?;
            for warning in directory.warnings() {
                tracing::warn!("{warning}");
            }
            Ok((directory.client_config()?, directory.shown()))
        };
        match unblock(self.deadline, load).await {
            Ok(Some(loaded)) => {
                let (config, shown) = loaded?;
                self.shown = Some(shown);
                Ok(config)
            }
            Ok(None) => Err(self.late(format!(
                "reading the certificates in {} took too long: check the file system",
                self.directory.display()
            ))),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn late(&self, what: String) -> ClientError {
        ClientError::Timeout {
            what,
            after: self.timeout,
        }
    }

    fn ca(&self) -> PathBuf {
        Path::new(&self.directory).join(CA_FILE)
    }

    fn not_connected(
        &self,
        place: &Place,
        cause: Cause,
        source: Option<crate::link::ConnectionError>,
    ) -> ClientError {
        let failure = ConnectFailure::new(place, &self.ca(), self.timeout, cause, source)
            .with_shown(self.shown.as_ref());
        ClientError::Connect(Box::new(failure))
    }

    /// Translates what the transport says.
    fn failed(&self, error: DialError) -> ClientError {
        let at = |addresses| Place::new(&self.target, addresses);
        let unresolved = |source: Option<io::Error>| ClientError::Resolve {
            target: self.target.to_string(),
            source,
        };
        let tls = |source| ClientError::Tls {
            server_name: self.target.server_name().to_owned(),
            source,
        };
        match error {
            DialError::NoRuntime => ClientError::NoRuntime,
            DialError::Resolve(source) => unresolved(Some(source)),
            DialError::NoAddress => unresolved(None),
            DialError::Tls(source) => tls(source.into()),
            DialError::Endpoint(source) => ClientError::Endpoint(source),
            DialError::Connect(source) => tls(source.into()),
            DialError::Connection { address, source } => {
                self.not_connected(&at(vec![address]), cause(&source), Some(source))
            }
            DialError::Timeout { phase: Phase::Resolve, .. } => self.late(format!(
                "looking up {} took too long: check the name service of this machine",
                self.target
            )),
            DialError::Timeout { phase: Phase::Stream, addresses } => self.late(format!(
                "{} accepted the connection but lets no stream be opened: another service may have this port",
                at(addresses)
            )),
            DialError::Timeout { addresses, .. } => {
                self.not_connected(&at(addresses), Cause::NoAnswer, None)
            }
            // What a later transport may add.
            _ => self.not_connected(&at(Vec::new()), Cause::Other, None),
        }
    }

    fn no_hello(&self, place: &Place) -> ClientError {
        self.late(format!(
            "{place} accepted the connection but did not answer the hello: its remote-client module is not running, \
             hangs, or has all its waiting accepts taken; look into the log of its runtime"
        ))
    }

    /// Why the connection ended before the server's hello came. With TLS 1.3 the server judges the client's certificate
    /// after the handshake, so that its refusal shows here.
    fn turned_away(&self, place: &Place, link: &Link<Session>) -> ClientError {
        let server = place.to_string();
        match link.with(|session, _| session.reason().cloned()) {
            Some(CloseReason::Legacy) => ClientError::Legacy { server },
            Some(CloseReason::Foreign) => ClientError::NotSelium { server },
            Some(CloseReason::Refused { versions, error }) => ClientError::Refused {
                server,
                versions,
                error: Box::new(error),
            },
            Some(CloseReason::Lost) => {
                let loss = link.loss();
                self.not_connected(place, loss.as_ref().map_or(Cause::Closed, cause), loss)
            }
            _ => closed(link, None),
        }
    }
}
