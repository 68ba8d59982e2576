//! A server for tests: the core's own server machine over a quinn endpoint on 127.0.0.1, played by hand.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub(crate) mod dice;
pub(crate) mod hub;
pub(crate) mod runtime;
pub(crate) mod world;

use std::{future::Future, sync::Arc, time::Duration, time::Instant};

use quinn::{Endpoint, RecvStream, SendStream, crypto::rustls::QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ResolvesServerCertUsingSni, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use selium_remote_client::{Client, ClientConfigBuilder, ClientError, Reconnect};
use selium_remote_client_protocol::{
    Limits, RequestId, Time,
    hello::{ClientHello, Features, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use self::hub::Hub;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    runtime::timeout(PATIENCE, future)
        .await
        .expect("it happens soon")
}

/// A certificate authority.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        self.issue(name, |_| ())
    }

    /// A certificate for this name that is changed before it is signed.
    pub(crate) fn issue(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Its own certificate and key.
    pub(crate) fn pem(&self) -> (String, String) {
        (self.issuer.pem(), self.issuer.key().serialize_pem())
    }

    /// A directory with a client certificate of this CA that trusts `servers`.
    pub(crate) fn client_directory(&self, servers: &Ca) -> TempDir {
        let (certificate, key) = self.leaf("client");
        servers.directory(certificate.pem(), key.serialize_pem())
    }

    /// A directory that trusts this CA.
    pub(crate) fn directory(&self, certificates: String, key: String) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca.crt", self.issuer.pem()),
            ("client.crt", certificates),
            ("client.key", key),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// TLS as the runtime offers it: the certificate is chosen by the name, no ALPN.
    fn server_tls(&self, name: &str, clients: Option<&Ca>) -> ServerConfig {
        let (certificate, key) = self.leaf(name);
        let der: CertificateDer<'static> = certificate.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let certified = CertifiedKey::from_der(vec![der], key, &provider).unwrap();
        let mut by_name = ResolvesServerCertUsingSni::new();
        by_name.add(name, certified).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(ca.roots(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        builder.with_cert_resolver(Arc::new(by_name))
    }
}

/// A listening server.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    config: quinn::ServerConfig,
    pub(crate) directory: TempDir,
}

impl Server {
    pub(crate) fn new() -> Self {
        let ca = Ca::new("ca");
        Self::with(&ca, "localhost", None, &[], ca.client_directory(&ca))
    }

    pub(crate) fn with(
        ca: &Ca,
        name: &str,
        clients: Option<&Ca>,
        alpn: &[&[u8]],
        directory: TempDir,
    ) -> Self {
        let mut tls = ca.server_tls(name, clients);
        tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self::of(tls, directory)
    }

    pub(crate) fn of(tls: ServerConfig, directory: TempDir) -> Self {
        let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let config = quinn::ServerConfig::with_crypto(crypto);
        let endpoint = Endpoint::server(config.clone(), ([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            endpoint,
            config,
            directory,
        }
    }

    /// Uses another transport configuration for the connections to come.
    pub(crate) fn set_transport(&self, transport: quinn::TransportConfig) {
        let mut config = self.config.clone();
        config.transport_config(Arc::new(transport));
        self.endpoint.set_server_config(Some(config));
    }

    pub(crate) fn port(&self) -> u16 {
        self.endpoint.local_addr().unwrap().port()
    }

    /// For a client that ends with its connection: what comes of that connection is what most tests are about.
    pub(crate) fn config(&self) -> ClientConfigBuilder {
        ClientConfigBuilder::default()
            .port(self.port())
            .certificate_directory(self.directory.path())
            .reconnect(Reconnect::never())
    }

    /// The next connection with its stream.
    pub(crate) async fn accept(&self) -> (quinn::Connection, SendStream, RecvStream) {
        let connection = self.endpoint.accept().await.unwrap().await.unwrap();
        let (send, recv) = connection.accept_bi().await.unwrap();
        (connection, send, recv)
    }

    /// The next connection, on which the hello is answered and everything else is up to the test.
    pub(crate) async fn peer(&self, limits: Limits) -> Peer {
        let (connection, send, recv) = self.accept().await;
        let (tell, events) = mpsc::unbounded_channel();
        let (commands, orders) = mpsc::unbounded_channel();
        let tell: Tell = Box::new(move |_, event| drop(tell.send(event)));
        runtime::spawn(play(limits, send, recv, tell, orders));
        Peer {
            connection,
            events,
            commands,
        }
    }

    /// A connected client and its server side.
    pub(crate) async fn connect(&self) -> (Client, Peer) {
        self.connect_with(self.config()).await
    }

    pub(crate) async fn connect_with(&self, config: ClientConfigBuilder) -> (Client, Peer) {
        let (client, peer) =
            soon(async { tokio::join!(config.connect(), self.peer(Limits::default())) }).await;
        (client.unwrap(), peer)
    }

    /// A connected client whose server has channels.
    pub(crate) async fn connect_to_hub(
        &self,
        config: ClientConfigBuilder,
        limits: Limits,
    ) -> (Client, HubPeer) {
        let serve = async {
            let (connection, send, recv) = self.accept().await;
            let (orders, received) = mpsc::unbounded_channel();
            let application = Hub::default();
            runtime::spawn(play(limits, send, recv, application, received));
            HubPeer { connection, orders }
        };
        let (client, peer) = soon(async { tokio::join!(config.connect(), serve) }).await;
        (client.unwrap(), peer)
    }

    /// What a client hears that connects to this server while `server` runs.
    pub(crate) async fn refusal(
        &self,
        config: ClientConfigBuilder,
        server: impl Future,
    ) -> ClientError {
        soon(async {
            tokio::select! {
                result = config.connect() => result.expect_err("the connection fails"),
                () = async { server.await; std::future::pending().await } => unreachable!(),
            }
        })
        .await
    }
}

/// What a server does with its events.
pub(crate) trait Application: Send {
    fn event(&mut self, core: &mut ServerConnection, event: ServerEvent);

    /// What it answers to a client that connects.
    fn hello(&mut self, _client: &ClientHello, limits: &Limits) -> ServerHello {
        hello(limits)
    }
}

impl<F: FnMut(&mut ServerConnection, ServerEvent) + Send> Application for F {
    fn event(&mut self, core: &mut ServerConnection, event: ServerEvent) {
        self(core, event);
    }
}

type Order<A> = Box<dyn FnOnce(&mut ServerConnection, &mut A) + Send>;

/// The server's side of a connection to a server with channels.
pub(crate) struct HubPeer {
    pub(crate) connection: quinn::Connection,
    orders: mpsc::UnboundedSender<Order<Hub>>,
}

impl HubPeer {
    /// Does something on the server and answers what came of it.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut ServerConnection, &mut Hub) -> T + Send + 'static,
    ) -> T {
        let (tell, told) = oneshot::channel();
        let order = move |core: &mut ServerConnection, hub: &mut Hub| {
            let _ = tell.send(order(core, hub));
        };
        assert!(self.orders.send(Box::new(order)).is_ok());
        soon(told).await.expect("the server runs")
    }

    /// Waits until something is so on the server.
    pub(crate) async fn until(
        &self,
        what: &str,
        is: impl Fn(&ServerConnection, &Hub) -> bool + Clone + Send + 'static,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is = is.clone();
            if self.ask(move |core, hub| is(core, hub)).await {
                return;
            }
            assert!(Instant::now() < deadline, "it happens soon: {what}");
            tokio::task::yield_now().await;
        }
    }
}

type Tell = Box<dyn FnMut(&mut ServerConnection, ServerEvent) + Send>;

/// The server's side of one connection.
pub(crate) struct Peer {
    pub(crate) connection: quinn::Connection,
    events: mpsc::UnboundedReceiver<ServerEvent>,
    commands: mpsc::UnboundedSender<Order<Tell>>,
}

impl Peer {
    /// Does something on the server.
    pub(crate) fn act(&self, order: impl FnOnce(&mut ServerConnection) + Send + 'static) {
        let _ = self.commands.send(Box::new(|core, _| order(core)));
    }

    /// The next event on the server.
    pub(crate) async fn event(&mut self) -> ServerEvent {
        soon(self.events.recv()).await.expect("the server runs")
    }

    /// The next event, which must be a request with this operation.
    pub(crate) async fn request(&mut self, expected: u64) -> (RequestId, bytes::Bytes) {
        match self.event().await {
            ServerEvent::Request { id, op, body } if op == expected => (id, body),
            other => panic!("{other:?} is no request for {expected}"),
        }
    }
}

pub(crate) fn hello(limits: &Limits) -> ServerHello {
    let mut hello = ServerHello::new([7; 16], limits);
    hello.features = Features::CLOCK;
    hello
}

async fn play<A: Application>(
    limits: Limits,
    mut send: SendStream,
    mut recv: RecvStream,
    mut application: A,
    mut orders: mpsc::UnboundedReceiver<Order<A>>,
) {
    let origin = Instant::now();
    let mut core = ServerConnection::new(limits);
    // A client that has gone takes nothing more; what it said before it went is read all the same.
    let mut gone = false;
    loop {
        while let Some(event) = core.poll_event() {
            match event {
                ServerEvent::Hello(client) => core.accept(&application.hello(&client, &limits)),
                event => application.event(&mut core, event),
            }
        }
        while let Some(mut transmit) = core.poll_transmit(MAX_WRITE) {
            gone = gone || send.write_all_chunks(&mut transmit.parts).await.is_err();
        }
        if core.is_closed() {
            let _ = send.finish();
            let _ = send.stopped().await;
            return;
        }
        let now = Time::from_origin(origin.elapsed());
        tokio::select! {
            chunk = recv.read_chunk(MAX_WRITE, true) => match chunk {
                Ok(Some(chunk)) => core.handle_input(now, chunk.bytes),
                _ => core.handle_eof(now),
            },
            Some(order) = orders.recv() => order(&mut core, &mut application),
        }
    }
}
