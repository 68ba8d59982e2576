//! A server with the roles of a policy, clients of each, and its audit log.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use selium_remote_client::{Client, ClientConfigBuilder};
use selium_remote_client_protocol::{
    Limits, RemoteError, RequestId, Time,
    client::{ClientConnection, ClientEvent, RequestOptions, StreamKind},
    envelope::{Envelope, ServerEnvelope},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    ops::{Common, Request},
};
use serde_json::Value;
use xtask::runtime::{Runtime, module_spec};
use xtask::selium::Selium;
use xtask::workdir::WorkDir;

use crate::{PATIENCE, Run, Server, Setup, eventually, json, run, soon};

/// The name of the role whose clients come in at the port of the arguments.
const ADMIN: &str = "admin";

/// A UDP port that was free a moment ago, from below the range of [`xtask::runtime::free_port`]: a policy has to have
/// its ports before the port of its admin is known, and no two may be the same.
#[must_use]
pub fn role_port() -> u16 {
    let mut number = RandomState::new().build_hasher().finish();
    for _ in 0..1_000 {
        let port = 12_000 + u16::try_from(number % 8_000).unwrap_or_default();
        if UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
        number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1) >> 1;
    }
    panic!("no free UDP port between 12000 and 20000");
}

/// Writes a policy of these roles, each with the lines of its table, and issues a client of the same name for each. Roles
/// but admin get a port each, which `ports` is told.
pub fn write_policy(
    setup: &Setup,
    work: &WorkDir,
    roles: &[(&str, &str)],
    ports: &mut BTreeMap<String, u16>,
) -> PathBuf {
    let mut text = String::new();
    for (name, lines) in roles {
        text.push_str(&format!("[role.{name}]\n"));
        if *name != ADMIN {
            let mut port = role_port();
            while ports.values().any(|taken| *taken == port) {
                port = role_port();
            }
            ports.insert((*name).to_owned(), port);
            text.push_str(&format!("port = {port}\n"));
            let mut issue = work.selium(&setup.cli);
            issue.args(["cert", "issue", name, "--dir", ".", "--role", name]);
            run(issue).succeeded();
        }
        text.push_str(&format!("{lines}\n\n"));
    }
    let path = work.path().join("policy.toml");
    std::fs::write(&path, text).expect("the policy is written");
    path
}

/// A provisioned server with several roles. It ends with this value.
#[derive(Debug)]
pub struct Roles {
    server: Server,
    ports: BTreeMap<String, u16>,
}

impl Roles {
    /// Starts one whose policy has these roles, admin among them, each with the lines of its table; `None` when the tests
    /// are skipped.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start(roles: &[(&str, &str)]) -> Option<Self> {
        let mut ports = BTreeMap::new();
        let server =
            Server::secure(|setup, work| Some(write_policy(setup, work, roles, &mut ports)))?;
        ports.insert(ADMIN.to_owned(), server.port());
        Some(Self { server, ports })
    }

    /// The server, whose own commands are the admin's.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The same, to end it.
    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The names of the roles.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ports.keys().map(String::as_str)
    }

    /// The port of a role.
    ///
    /// # Panics
    /// When there is no such role.
    #[must_use]
    pub fn port(&self, role: &str) -> u16 {
        *self.ports.get(role).expect("a role of the policy")
    }

    /// The certificate directory of the client of a role.
    #[must_use]
    pub fn certs(&self, role: &str) -> PathBuf {
        match role {
            ADMIN => self.server.certs(),
            role => self.server.work().path().join("clients").join(role),
        }
    }

    /// How the library connects as a client of a role.
    #[must_use]
    pub fn config(&self, role: &str) -> ClientConfigBuilder {
        ClientConfigBuilder::default()
            .port(self.port(role))
            .certificate_directory(self.certs(role))
            .connect_timeout(PATIENCE)
            .request_timeout(PATIENCE)
    }

    /// Connects as a client of a role.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn client(&self, role: &str) -> Client {
        let connected = self.config(role).connect().await;
        connected.unwrap_or_else(|error| panic!("no connection for {role}: {error}"))
    }

    /// A command of a client of a role.
    #[must_use]
    pub fn command(&self, role: &str, args: &[&str]) -> Command {
        self.command_at(role, role, args)
    }

    /// A command of a client of `client` at the port of `role`.
    #[must_use]
    pub fn command_at(&self, client: &str, role: &str, args: &[&str]) -> Command {
        let selium = Selium {
            binary: self.server.setup().cli.clone(),
            certs: self.certs(client),
            port: self.port(role),
        };
        let mut command = selium.command(args);
        command.env_remove("RUST_LOG");
        command
    }

    /// Runs a command of a client of a role to its end.
    #[must_use]
    pub fn selium(&self, role: &str, args: &[&str]) -> Run {
        run(self.command(role, args))
    }

    /// How raw connections of a client of a role are made. They resume each other's TLS sessions.
    #[must_use]
    pub fn door(&self, role: &str) -> Door {
        Door::new(&self.certs(role), self.port(role))
    }

    /// Runs the runtime again in the same work dir, with these capabilities besides the documented ones and these options
    /// of its own. The server has to have ended. It starts a new log.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn again(&self, more: &[&str], options: &[&str]) -> Runtime {
        let (setup, port) = (self.server.setup(), self.server.port());
        let spec = module_spec(port, more);
        let started = Runtime::start_with(&setup.runtime, self.server.work(), port, &spec, options);
        let mut runtime = started.expect("a runtime");
        let asking = Selium {
            binary: setup.cli.clone(),
            certs: self.server.certs(),
            port,
        };
        let answers = runtime.wait_until_it_answers(&asking);
        answers.unwrap_or_else(|error| panic!("no runtime: {error:#}"));
        runtime
    }

    /// What `selium audit verify` says of a log, and its exit code.
    #[must_use]
    pub fn verify(&self, log: &str) -> (Value, i32) {
        verify(self.server.setup(), self.server.work().path(), log)
    }

    /// The runtime's log once it holds `what`.
    ///
    /// # Panics
    /// When that takes too long.
    #[must_use]
    pub fn log_with(&self, what: &str, fits: impl Fn(&[Value]) -> bool) -> String {
        eventually(what, || {
            let log = self.server.log();
            fits(&records(&log)).then_some(log)
        })
    }
}

/// The audit records in a runtime's log in JSON, in its order. Each must be all of the message of its line.
///
/// # Panics
/// When one is none.
#[must_use]
pub fn records(log: &str) -> Vec<Value> {
    let texts = record_texts(log);
    texts.iter().map(|record| json::line(record)).collect()
}

/// The same as they were written.
///
/// # Panics
/// When a line is no JSON.
#[must_use]
pub fn record_texts(log: &str) -> Vec<String> {
    // Its last line may be under way.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter(|line| line.contains("audit"));
    let messages = lines.filter_map(|line| {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        Some(line["fields"]["message"].as_str()?.to_owned())
    });
    messages
        .filter(|message| message.starts_with("{\"audit\":"))
        .collect()
}

/// What `selium audit verify` says of a log, and its exit code.
///
/// # Panics
/// When it says nothing.
#[must_use]
pub fn verify(setup: &Setup, work: &Path, log: &str) -> (Value, i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("runtime.log");
    std::fs::write(&path, log).expect("the log is written");
    let mut command = Command::new(&setup.cli);
    command.args(["--log-format", "json", "audit", "verify"]);
    command.arg(&path).arg("--work-dir").arg(work);
    let run = run(command);
    let code = run.code.unwrap_or_else(|| panic!("{run}"));
    assert!(!run.stdout.is_empty(), "{run}");
    (json::line(&run.stdout), code)
}

/// How raw connections are made.
#[derive(Clone, Debug)]
pub struct Door {
    tls: rustls::ClientConfig,
    endpoint: Endpoint,
    address: SocketAddr,
}

impl Door {
    /// To this port, with the certificates of this directory.
    ///
    /// # Panics
    /// When they cannot be used. Has to be called in a tokio runtime.
    #[must_use]
    pub fn new(certs: &Path, port: u16) -> Self {
        let tls = selium_remote_certs::client_config(certs).expect("certificates");
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        Self {
            tls,
            endpoint,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        }
    }

    /// The address from which its connections come, as the server sees it.
    #[must_use]
    pub fn local(&self) -> String {
        self.endpoint.local_addr().expect("an address").to_string()
    }

    /// Connects, and sends nothing yet.
    pub async fn open(&self) -> Line {
        self.open_with(TransportConfig::default()).await
    }

    /// Connects with a transport of its own, and sends nothing yet.
    pub async fn open_with(&self, mut transport: TransportConfig) -> Line {
        // Also for peers that say nothing.
        transport.keep_alive_interval(Some(Duration::from_secs(5)));
        let crypto = QuicClientConfig::try_from(self.tls.clone()).expect("TLS for QUIC");
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let connecting = self
            .endpoint
            .connect_with(config, self.address, "localhost")
            .expect("an attempt");
        let connection = soon("the handshake", connecting).await;
        let connection = connection.expect("a connection");
        let streams = soon("a stream", connection.open_bi()).await;
        let (send, recv) = streams.expect("a stream");
        Line {
            connection,
            send,
            recv,
        }
    }

    /// Waits until all its connections are over.
    pub async fn idle(&self) {
        soon("the connections are over", self.endpoint.wait_idle()).await;
    }
}

/// A raw connection with its one stream.
#[derive(Debug)]
pub struct Line {
    /// The connection.
    pub connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

impl Line {
    /// Sends bytes. That the server has closed by then is no failure.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = soon("room to write", self.send.write_all(bytes)).await;
    }

    /// Ends our half of the stream.
    pub fn finish(&mut self) {
        // Fails only when the server has stopped it.
        let _ = self.send.finish();
    }

    /// The next bytes; `None` at the end, whichever way the stream or the connection ended.
    pub async fn read(&mut self) -> Option<Bytes> {
        let read = soon("bytes or the end", self.recv.read_chunk(usize::MAX, true)).await;
        read.ok().flatten().map(|chunk| chunk.bytes)
    }

    /// The server's answer to what was said: its hello, or why it refuses; `None` when it closed without a word.
    pub async fn answer(&mut self) -> Option<Result<ServerHello, RemoteError>> {
        let mut seen = Vec::new();
        loop {
            match ServerEnvelope::decode(&seen) {
                Envelope::Incomplete => seen.extend_from_slice(&self.read().await?),
                Envelope::Complete(ServerEnvelope::Accepted { hello, .. }, _) => {
                    return Some(Ok(ServerHello::decode(&hello).expect("the server's hello")));
                }
                Envelope::Complete(ServerEnvelope::Refused { error, .. }, _) => {
                    return Some(Err(error));
                }
                other => panic!("{other:?} is no answer"),
            }
        }
    }

    /// Says hello; the answer as of [`Line::answer`].
    pub async fn greet(&mut self) -> Option<Result<ServerHello, RemoteError>> {
        self.write(&crate::hello()).await;
        self.answer().await
    }

    /// Why the server refuses, which it has to do with a word.
    ///
    /// # Panics
    /// When it does not.
    pub async fn refusal(&mut self) -> RemoteError {
        match self.answer().await {
            Some(Err(error)) => error,
            other => panic!("{other:?} is no refusal"),
        }
    }

    /// Closes the connection.
    pub fn cut(self) {
        self.connection.close(0u32.into(), b"");
    }
}

/// A raw connection on which requests are made, with a session of one's choice.
#[derive(Debug)]
pub struct Talker {
    line: Line,
    core: ClientConnection,
    origin: Instant,
    /// The server's hello.
    pub server: ServerHello,
}

impl Talker {
    /// Greets with this session.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn greet(line: Line, session: [u8; 16]) -> Self {
        let limits = Limits::default();
        let mut nonce = [0; 16];
        for half in nonce.chunks_mut(8) {
            half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
        }
        let hello = ClientHello::new(nonce, session, &limits);
        let config = selium_remote_client_protocol::client::ClientConfig::new(hello, limits);
        let mut talker = Self {
            line,
            core: ClientConnection::new(config),
            origin: Instant::now(),
            server: ServerHello::new([0; 16], &limits),
        };
        match talker.event().await {
            ClientEvent::Connected(hello) => talker.server = hello,
            other => panic!("{other:?} is no acceptance"),
        }
        talker
    }

    /// The next event.
    pub async fn event(&mut self) -> ClientEvent {
        loop {
            while let Some(transmit) = self.core.poll_transmit(MAX_WRITE) {
                self.line.write(&transmit.to_vec()).await;
            }
            if let Some(event) = self.core.poll_event() {
                return event;
            }
            let bytes = self.line.read().await;
            let now = Time::from_origin(self.origin.elapsed());
            match bytes {
                Some(bytes) => self.core.handle_input(now, bytes),
                None => self.core.handle_eof(now),
            }
        }
    }

    /// Makes a request; its number and answer.
    pub async fn ask<R: Request>(&mut self, request: &R) -> Answered {
        self.ask_with(request, &Common::default()).await
    }

    /// The same with common fields.
    pub async fn ask_with<R: Request>(&mut self, request: &R, common: &Common) -> Answered {
        self.ask_raw(R::OP, request.encode(common)).await
    }

    /// Makes a request out of bytes. What streams bring meanwhile is dropped.
    pub async fn ask_raw(&mut self, op: u64, body: Bytes) -> Answered {
        let stream = match op {
            selium_remote_client_protocol::ops::op::LOG_FOLLOW => StreamKind::ToClient,
            _ => StreamKind::None,
        };
        let id = self.begin(op, body, stream);
        loop {
            if let ClientEvent::Response {
                id: answered,
                result,
            } = self.event().await
                && answered == id
            {
                return (id.get(), result);
            }
            assert!(
                !self.core.is_closed(),
                "closed before request {id} was answered"
            );
        }
    }

    /// Makes a request and does not wait.
    pub fn begin(&mut self, op: u64, body: Bytes, stream: StreamKind) -> RequestId {
        let options = RequestOptions::new(stream);
        let id = self.core.request(op, body, options);
        id.expect("the core takes it")
    }

    /// Closes the connection.
    pub fn cut(self) {
        self.line.cut();
    }
}

/// The number of a request and its answer.
pub type Answered = (u64, Result<Bytes, RemoteError>);
