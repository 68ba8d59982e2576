//! A client that can say anything: bytes on the stream, or requests that no check of ours has seen.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig,
};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption,
    Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, RootCertStore, SignatureScheme};
use selium_remote_client_protocol::{
    Limits, RemoteError, RequestId, Time,
    client::{ClientConnection, ClientEvent, RequestOptions, StreamKind},
    envelope::{Envelope, ServerEnvelope},
    frame::{Frame, FrameReader, Gather},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    ops::{Common, Request},
};

use crate::{Server, soon};

/// The bytes of a client's envelope in front of its hello, and where among them the hello's length stands
/// (PROTOCOL.md, "The envelope": frozen).
const ENVELOPE_HEAD: usize = 16;
const ENVELOPE_LENGTH: core::ops::Range<usize> = 12..14;

/// A connection with its one stream, on which nothing was sent yet.
#[derive(Debug)]
pub struct Wire {
    /// The connection.
    pub connection: Connection,
    send: SendStream,
    recv: RecvStream,
    endpoint: Endpoint,
}

impl Wire {
    /// Connects, with the certificates of the server's work dir.
    pub async fn open(server: &Server) -> Self {
        Self::open_with(server, TransportConfig::default()).await
    }

    /// Connects with a receive window of so many bytes: what is not read stalls the server's writing soon.
    pub async fn narrow(server: &Server, window: u32) -> Self {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(window.into());
        transport.receive_window(window.into());
        Self::open_with(server, transport).await
    }

    /// Connects with a transport of its own, for instance one that keeps the connection alive.
    pub async fn open_with(server: &Server, transport: TransportConfig) -> Self {
        let tls = selium_remote_certs::client_config(server.certs()).expect("certificates");
        let crypto = QuicClientConfig::try_from(tls).expect("TLS for QUIC");
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let connecting = endpoint
            .connect_with(config, address, "localhost")
            .expect("an attempt");
        let connection = soon("the handshake", connecting)
            .await
            .expect("a connection");
        let (send, recv) = soon("a stream", connection.open_bi())
            .await
            .expect("a stream");
        Self {
            connection,
            send,
            recv,
            endpoint,
        }
    }

    /// Connects, and sends these bytes at once.
    pub async fn saying(server: &Server, bytes: &[u8]) -> Self {
        let mut wire = Self::open(server).await;
        wire.write(bytes).await;
        wire
    }

    /// Connects, says hello and reads the server's; with it, what came behind it (nothing, usually).
    pub async fn greeted(server: &Server) -> (Self, ServerHello) {
        let wire = Self::open(server).await;
        wire.greet().await
    }

    /// Says hello and reads the server's.
    pub async fn greet(self) -> (Self, ServerHello) {
        self.greet_as(&hello()).await
    }

    /// Sends this hello and reads the server's.
    pub async fn greet_as(self, hello: &[u8]) -> (Self, ServerHello) {
        let mut wire = self;
        wire.write(hello).await;
        let mut seen = Vec::new();
        loop {
            match ServerEnvelope::decode(&seen) {
                Envelope::Incomplete => {
                    let more = wire.read().await.expect("the server's hello");
                    seen.extend_from_slice(&more);
                }
                Envelope::Complete(ServerEnvelope::Accepted { hello, .. }, end) => {
                    assert_eq!(end, seen.len(), "bytes behind the server's hello");
                    return (
                        wire,
                        ServerHello::decode(&hello).expect("the server's hello"),
                    );
                }
                other => panic!("{other:?} is no acceptance"),
            }
        }
    }

    /// Sends bytes. That the server has closed by then is no failure.
    pub async fn write(&mut self, bytes: &[u8]) {
        // What the server thinks of them is read, not written.
        let _ = soon("room to write", self.send.write_all(bytes)).await;
    }

    /// The two halves of the stream, for what writes and reads at the same time.
    pub fn halves(&mut self) -> (&mut SendStream, &mut RecvStream) {
        (&mut self.send, &mut self.recv)
    }

    /// What a client says first, with a hello that `change` has changed.
    #[must_use]
    pub fn hello_with(change: impl FnOnce(&mut ClientHello)) -> Vec<u8> {
        let envelope = hello();
        let (head, body) = envelope.split_at(ENVELOPE_HEAD);
        let mut hello = ClientHello::decode(body).expect("our own hello");
        change(&mut hello);
        let body = hello.encode();
        let mut envelope = head.to_vec();
        let length = u16::try_from(body.len()).expect("a short hello");
        envelope[ENVELOPE_LENGTH].copy_from_slice(&length.to_be_bytes());
        envelope.extend(body);
        envelope
    }

    /// Ends our half of the stream.
    pub fn finish(&mut self) {
        // Fails only when the server has stopped it.
        let _ = self.send.finish();
    }

    /// Closes the connection at once, and waits until the server was told.
    pub async fn cut(self) {
        Self::cut_all([self]).await;
    }

    /// Closes these connections at once, and waits until the server was told.
    pub async fn cut_all(wires: impl IntoIterator<Item = Self>) {
        let wires: Vec<Self> = wires.into_iter().collect();
        for wire in &wires {
            wire.connection.close(0u32.into(), b"");
        }
        for wire in &wires {
            soon("the close is sent", wire.endpoint.wait_idle()).await;
        }
    }

    /// The next bytes; `None` at the end, whichever way the stream or the connection ended.
    pub async fn read(&mut self) -> Option<Bytes> {
        let read = soon("bytes or the end", self.recv.read_chunk(usize::MAX, true)).await;
        read.ok().flatten().map(|chunk| chunk.bytes)
    }

    /// All bytes until the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read().await {
            all.extend_from_slice(&bytes);
        }
        all
    }

    /// The error with which the server closes: the only frame that comes. Our half is ended once it was read, and the
    /// server has to end its half then.
    pub async fn goodbye(&mut self) -> RemoteError {
        let mut frames = FrameReader::new();
        let error = loop {
            match frames.next().expect("the server speaks the protocol") {
                Some(Frame::Goodbye(error)) => break error,
                Some(other) => panic!("{other:?} is no goodbye"),
                None => frames.push(self.read().await.expect("a goodbye before the end")),
            }
        };
        self.over().await;
        error
    }

    /// The error with which the server refuses.
    pub async fn refusal(&mut self) -> RemoteError {
        let mut seen = Vec::new();
        let error = loop {
            match ServerEnvelope::decode(&seen) {
                Envelope::Incomplete => {
                    let more = self.read().await.expect("a refusal before the end");
                    seen.extend_from_slice(&more);
                }
                Envelope::Complete(ServerEnvelope::Refused { versions, error }, end) => {
                    assert_eq!(end, seen.len(), "bytes behind the refusal");
                    assert_eq!(versions, (1, 1));
                    break error;
                }
                other => panic!("{other:?} is no refusal"),
            }
        };
        self.over().await;
        error
    }

    /// Ends our half and waits for the end of the server's, on which nothing may come any more.
    pub async fn over(&mut self) {
        self.finish();
        assert_eq!(
            self.rest().await,
            b"",
            "nothing may come behind the last word"
        );
    }
}

/// What a client says first: envelope and hello.
#[must_use]
pub fn hello() -> Vec<u8> {
    let mut core = core();
    core.poll_transmit(MAX_WRITE).expect("the hello").to_vec()
}

/// The bytes of frames.
#[must_use]
pub fn frames(frames: &[Frame]) -> Vec<u8> {
    let mut out = Gather::default();
    for frame in frames {
        frame.encode(&mut out);
    }
    out.finish().concat()
}

fn core() -> ClientConnection {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let limits = Limits::default();
    let mut nonce = [0; 16];
    for half in nonce.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
    }
    let hello = ClientHello::new(nonce, nonce, &limits);
    let config = selium_remote_client_protocol::client::ClientConfig::new(hello, limits);
    ClientConnection::new(config)
}

/// A well-behaved connection, as far as frames go; what the requests say is up to the test.
#[derive(Debug)]
pub struct Peer {
    wire: Wire,
    core: ClientConnection,
    origin: Instant,
    /// The server's hello.
    pub server: ServerHello,
}

impl Peer {
    /// Connects and greets.
    pub async fn connect(server: &Server) -> Self {
        let mut peer = Self {
            wire: Wire::open(server).await,
            core: core(),
            origin: Instant::now(),
            server: ServerHello::new([0; 16], &Limits::default()),
        };
        match peer.event().await {
            ClientEvent::Connected(hello) => peer.server = hello,
            other => panic!("{other:?} is no acceptance"),
        }
        peer
    }

    fn now(&self) -> Time {
        Time::from_origin(self.origin.elapsed())
    }

    /// The next event.
    pub async fn event(&mut self) -> ClientEvent {
        loop {
            while let Some(transmit) = self.core.poll_transmit(MAX_WRITE) {
                self.wire.write(&transmit.to_vec()).await;
            }
            if let Some(event) = self.core.poll_event() {
                return event;
            }
            let bytes = self.wire.read().await;
            let now = self.now();
            match bytes {
                Some(bytes) => self.core.handle_input(now, bytes),
                None => self.core.handle_eof(now),
            }
        }
    }

    /// Makes a request and returns its answer.
    pub async fn ask<R: Request>(&mut self, request: &R) -> Result<Bytes, RemoteError> {
        self.ask_raw(R::OP, request.encode(&Common::default()))
            .await
    }

    /// Makes a request out of bytes.
    pub async fn ask_raw(&mut self, op: u64, body: Bytes) -> Result<Bytes, RemoteError> {
        let id = self.begin(op, body, StreamKind::None);
        match self.event().await {
            ClientEvent::Response {
                id: answered,
                result,
            } if answered == id => result,
            other => panic!("{other:?} is no answer to request {id}"),
        }
    }

    /// Makes a request and does not wait.
    pub fn begin(&mut self, op: u64, body: Bytes, stream: StreamKind) -> RequestId {
        let options = RequestOptions::new(stream);
        self.core
            .request(op, body, options)
            .expect("the core takes it")
    }

    /// Gives back the credit of a message that was read.
    pub fn consume(&mut self, id: RequestId, cost: usize) {
        self.core.consume(id, cost);
    }
}

/// A client's TLS. Its sessions are kept over all its connections, as rustls does when nobody forbids it, and it is
/// counted what becomes of them.
#[derive(Clone, Debug)]
pub struct Tls {
    config: rustls::ClientConfig,
    watch: Arc<Watch>,
}

/// What a [`Tls`] has and has seen.
#[derive(Debug)]
struct Watch {
    identity: Option<Arc<CertifiedKey>>,
    sessions: ClientSessionMemoryCache,
    kept: AtomicUsize,
    offered: AtomicUsize,
    asked: AtomicUsize,
}

/// What came of connecting and saying hello.
#[derive(Debug)]
pub struct Knock {
    /// What the server said.
    pub answer: Answer,
    /// How many bytes of the application came.
    pub bytes: usize,
    /// From the first packet to the answer.
    pub took: Duration,
    /// Whether the client offered an earlier session.
    pub offered: bool,
    /// Whether the server asked for the client's certificate, which it does not where it goes on with an earlier session.
    pub asked: bool,
}

/// What a server says to a client that knocks.
#[derive(Debug)]
pub enum Answer {
    /// Come in.
    Hello(Box<ServerHello>),
    /// This alert of TLS.
    Alert(u8),
    /// The connection ended in another way.
    Closed(String),
    /// Nothing within the time.
    Nothing,
}

impl Knock {
    /// The number of the alert; fails unless it was one, and no byte of the application came.
    #[must_use]
    pub fn alert(&self) -> u8 {
        assert_eq!(
            self.bytes, 0,
            "a refused client was told something: {self:?}"
        );
        match self.answer {
            Answer::Alert(alert) => alert,
            _ => panic!("{self:?} is no alert"),
        }
    }

    /// The server's hello; fails unless it came.
    #[must_use]
    pub fn hello(&self) -> &ServerHello {
        match &self.answer {
            Answer::Hello(hello) => hello,
            _ => panic!("{self:?} is no hello"),
        }
    }
}

impl Tls {
    /// With the certificates of a directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let chain = certificates(&directory.join("client.crt"));
        let key = PrivateKeyDer::from_pem_file(directory.join("client.key")).expect("a key");
        let identity = CertifiedKey::from_der(chain, key, &ring::default_provider());
        Self::new(
            directory,
            Some(identity.expect("a certificate with its key")),
        )
    }

    /// Without a certificate. Trusted is who is trusted in the directory.
    #[must_use]
    pub fn anonymous(directory: &Path) -> Self {
        Self::new(directory, None)
    }

    fn new(directory: &Path, identity: Option<CertifiedKey>) -> Self {
        let mut roots = RootCertStore::empty();
        for root in certificates(&directory.join("ca.crt")) {
            roots.add(root).expect("a CA");
        }
        let watch = Arc::new(Watch {
            identity: identity.map(Arc::new),
            sessions: ClientSessionMemoryCache::new(32),
            kept: AtomicUsize::new(0),
            offered: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        });
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("TLS 1.3")
                .with_root_certificates(roots)
                .with_client_cert_resolver(Arc::clone(&watch) as _);
        config.resumption = Resumption::store(Arc::clone(&watch) as _);
        Self { config, watch }
    }

    /// How many sessions servers have given so far.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.watch.kept.load(Ordering::SeqCst)
    }

    /// Connects to `localhost` and says hello.
    pub async fn knock(&self, port: u16) -> Knock {
        self.knock_for(port, "localhost", crate::PATIENCE).await
    }

    /// Connects, asks for that name and says hello; waits so long for an answer.
    pub async fn knock_for(&self, port: u16, name: &str, limit: Duration) -> Knock {
        let counts = || {
            let count = |it: &AtomicUsize| it.load(Ordering::SeqCst);
            [count(&self.watch.offered), count(&self.watch.asked)]
        };
        let before = counts();
        let crypto = QuicClientConfig::try_from(self.config.clone()).expect("TLS for QUIC");
        let config = ClientConfig::new(Arc::new(crypto));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let begun = Instant::now();
        let mut bytes = 0;
        let said =
            tokio::time::timeout(limit, say_hello(&endpoint, config, port, name, &mut bytes));
        let answer = said.await.unwrap_or(Answer::Nothing);
        let took = begun.elapsed();
        // The server is told, so that it does not wait for us: what says nothing would hold an accept for 30 s.
        endpoint.close(0u32.into(), b"");
        let _ = tokio::time::timeout(Duration::from_millis(100), endpoint.wait_idle()).await;
        let [offered, asked] = counts();
        Knock {
            answer,
            bytes,
            took,
            offered: offered > before[0],
            asked: asked > before[1],
        }
    }
}

impl Tls {
    /// Connects so often, several times at once, without a word; returns how often that was refused by TLS.
    pub async fn besiege(&self, port: u16, count: usize) -> usize {
        const AT_ONCE: usize = 16;
        let crypto = QuicClientConfig::try_from(self.config.clone()).expect("TLS for QUIC");
        let config = ClientConfig::new(Arc::new(crypto));
        let mut besiegers = tokio::task::JoinSet::new();
        for number in 0..AT_ONCE {
            let config = config.clone();
            let turns = (count + number) / AT_ONCE;
            let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
            besiegers.spawn(async move {
                let mut refused = 0;
                for _ in 0..turns {
                    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                    let connecting = endpoint.connect_with(config.clone(), address, "localhost");
                    let error = match connecting.expect("an attempt").await {
                        Ok(connection) => connection.closed().await,
                        Err(error) => error,
                    };
                    refused += usize::from(matches!(ended(&error), Answer::Alert(_)));
                }
                refused
            });
        }
        besiegers.join_all().await.into_iter().sum()
    }
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    let found: Result<_, _> = CertificateDer::pem_file_iter(file)
        .expect("a file of certificates")
        .collect();
    found.expect("certificates")
}

async fn say_hello(
    endpoint: &Endpoint,
    config: ClientConfig,
    port: u16,
    name: &str,
    bytes: &mut usize,
) -> Answer {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connecting = endpoint.connect_with(config, address, name);
    let connection = match connecting.expect("an attempt").await {
        Ok(connection) => connection,
        Err(error) => return ended(&error),
    };
    let lost = |connection: &Connection| match connection.close_reason() {
        Some(error) => ended(&error),
        None => Answer::Closed("the stream has ended".to_owned()),
    };
    // With TLS 1.3 the server judges the client after the client has finished; it may have closed by now.
    let Ok((mut send, mut recv)) = connection.open_bi().await else {
        return lost(&connection);
    };
    // What the server thinks of it is read, not written.
    let _ = send.write_all(&hello()).await;
    let mut seen = Vec::new();
    while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
        *bytes += chunk.bytes.len();
        seen.extend_from_slice(&chunk.bytes);
        match ServerEnvelope::decode(&seen) {
            Envelope::Incomplete => {}
            Envelope::Complete(ServerEnvelope::Accepted { hello, .. }, _) => {
                let hello = ServerHello::decode(&hello).expect("the server's hello");
                return Answer::Hello(Box::new(hello));
            }
            other => return Answer::Closed(format!("{other:?}")),
        }
    }
    lost(&connection)
}

/// QUIC carries alerts as the errors 0x100 to 0x1ff.
fn ended(error: &ConnectionError) -> Answer {
    if let ConnectionError::ConnectionClosed(close) = error
        && let Some(alert) = u64::from(close.error_code).checked_sub(0x100)
        && let Ok(alert) = u8::try_from(alert)
    {
        return Answer::Alert(alert);
    }
    Answer::Closed(error.to_string())
}

impl ResolvesClientCert for Watch {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

impl ClientSessionStore for Watch {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept.fetch_add(1, Ordering::SeqCst);
        self.sessions.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let taken = self.sessions.take_tls13_ticket(name)?;
        self.offered.fetch_add(1, Ordering::SeqCst);
        Some(taken)
    }
}
