//! A server over a fake host, with real client machines.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use selium_remote_client_protocol::{
    Capability, CloseReason, Limits, RemoteError, RequestId, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    hello::{ClientHello, ServerHello},
    ops::{
        Common, FollowRequest, InspectRequest, ProcessInfo, ProcessRef, Request, StartRequest,
        StopRequest, op,
    },
};
use selium_remote_server_core::{
    Completion, Config, ConnectionId, HostCall, HostProcess, LogId, OpId, RoleId, Server,
    fake::FakeHost,
};

/// A client and what it has seen.
pub(crate) struct Peer {
    pub(crate) core: ClientConnection,
    pub(crate) connection: ConnectionId,
    pub(crate) hello: Option<ServerHello>,
    pub(crate) answers: BTreeMap<RequestId, Result<Bytes, RemoteError>>,
    /// Stream events as text: `3:bytes`, `gap 2 ->5`, `end: why`.
    pub(crate) stream: BTreeMap<RequestId, Vec<String>>,
    pub(crate) closed: Option<CloseReason>,
    /// Whether it reads its streams.
    pub(crate) reads: bool,
    /// Whether nothing that the server sends comes through.
    pub(crate) deaf: bool,
    /// What it has not read.
    pub(crate) unread: Vec<(RequestId, usize)>,
    /// Acknowledgements: up to which number, and whether it may be dropped.
    pub(crate) acks: BTreeMap<RequestId, Vec<(u64, bool)>>,
    /// Errors with which streams ended.
    pub(crate) ended: BTreeMap<RequestId, Option<RemoteError>>,
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) host: FakeHost,
    pub(crate) peers: Vec<Peer>,
    pub(crate) now: Time,
}

pub(crate) const LOGGING: [Capability; 2] =
    [Capability::ChannelLifecycle, Capability::ChannelWriter];

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            server: Server::new(config),
            host: FakeHost::default(),
            peers: Vec::new(),
            now: Time::ZERO,
        }
    }

    /// Connects a client; answers its number.
    pub(crate) fn connect(&mut self) -> usize {
        self.connect_with(Limits::default())
    }

    pub(crate) fn connect_with(&mut self, limits: Limits) -> usize {
        let session = self.peers.len() as u8 + 1;
        self.connect_as(session, limits)
    }

    pub(crate) fn connect_as(&mut self, session: u8, limits: Limits) -> usize {
        self.connect_in(session, limits, RoleId(0))
    }

    pub(crate) fn connect_in(&mut self, session: u8, limits: Limits, role: RoleId) -> usize {
        let at = self.peers.len();
        let hello = ClientHello::new([at as u8 + 1; 16], [session; 16], &limits);
        let peer = format!("127.0.0.1:{at}");
        let connection = self.server.open_as(self.now, &peer, role);
        self.peers.push(Peer {
            core: ClientConnection::new(ClientConfig::new(hello, limits)),
            connection,
            hello: None,
            answers: BTreeMap::new(),
            stream: BTreeMap::new(),
            closed: None,
            reads: true,
            deaf: false,
            unread: Vec::new(),
            acks: BTreeMap::new(),
            ended: BTreeMap::new(),
        });
        self.run();
        at
    }

    pub(crate) fn run(&mut self) {
        loop {
            let mut moved = false;
            for peer in &mut self.peers {
                while let Some(transmit) = peer.core.poll_transmit(usize::MAX) {
                    moved = true;
                    let bytes = transmit.to_vec().into();
                    self.server.handle_input(self.now, peer.connection, bytes);
                }
            }
            while let Some(id) = self.server.poll_ready() {
                let peer = self.peers.iter().find(|peer| peer.connection == id);
                if peer.is_some_and(|peer| peer.deaf) {
                    continue;
                }
                while let Some(transmit) = self.server.poll_transmit(id, usize::MAX) {
                    moved = true;
                    let peer = self.peers.iter_mut().find(|peer| peer.connection == id);
                    if let Some(peer) = peer {
                        peer.core.handle_input(self.now, transmit.to_vec().into());
                    }
                }
            }
            for peer in &mut self.peers {
                while let Some(event) = peer.core.poll_event() {
                    moved = true;
                    peer.event(event);
                }
            }
            if !moved {
                break;
            }
        }
        self.server.run_host(&mut self.host);
    }

    /// One write of at most so many bytes comes through to a client; how many bytes it had.
    pub(crate) fn trickle(&mut self, peer: usize, max: usize) -> usize {
        let id = self.peers[peer].connection;
        let Some(transmit) = self.server.poll_transmit(id, max) else {
            return 0;
        };
        let bytes = Bytes::from(transmit.to_vec());
        let len = bytes.len();
        self.peers[peer].core.handle_input(self.now, bytes);
        self.run();
        len
    }

    pub(crate) fn call<R: Request>(&mut self, peer: usize, request: &R) -> RequestId {
        let stream = match R::OP {
            op::LOG_FOLLOW | op::SUBSCRIBE => StreamKind::ToClient,
            op::PUBLISH => StreamKind::ToServer,
            _ => StreamKind::None,
        };
        let options = RequestOptions::new(stream);
        let body = request.encode(&Common::default());
        let id = self.peers[peer].core.request(R::OP, body, options).unwrap();
        self.run();
        id
    }

    pub(crate) fn changing<R: Request>(
        &mut self,
        peer: usize,
        request: &R,
        token: u64,
        retry: bool,
    ) -> RequestId {
        let common = Common::with(|made| {
            made.token = Some(token);
            made.retry = retry;
            made.deadline_ms = None;
            made.weight = None;
        });
        let body = request.encode(&common);
        let id = self.peers[peer]
            .core
            .request(R::OP, body, RequestOptions::default())
            .unwrap();
        self.run();
        id
    }

    pub(crate) fn answer(&mut self, peer: usize, id: RequestId) -> Result<Bytes, RemoteError> {
        self.peers[peer].answers.remove(&id).expect("an answer")
    }

    pub(crate) fn complete(&mut self, completion: Completion) {
        self.server.handle_host(self.now, completion);
        self.run();
    }

    /// The host's side of the start that waits: it succeeds as this process.
    pub(crate) fn start_op(&mut self) -> OpId {
        let at = self
            .host
            .calls
            .iter()
            .position(|call| matches!(call, HostCall::Start { .. }))
            .expect("a start");
        match self.host.calls.remove(at) {
            HostCall::Start { op, .. } => op,
            other => panic!("{other:?}"),
        }
    }

    /// Starts a logging process; answers its id, and its log.
    pub(crate) fn started(&mut self, peer: usize, name: &str) -> (ProcessRef, LogId) {
        let request = self.call(peer, &spec(Some(name)));
        let op = self.start_op();
        self.complete(Completion::Started {
            op,
            result: Ok(HostProcess(op.0 << 40)),
        });
        let process = ProcessRef::decode(&self.answer(peer, request).unwrap()).unwrap();
        let log = match self.host.take()[..] {
            [
                HostCall::OpenLog {
                    log, attempt: 0, ..
                },
            ] => log,
            ref other => panic!("{other:?}"),
        };
        (process, log)
    }

    pub(crate) fn opened(&mut self, log: LogId) {
        self.complete(Completion::LogOpened { log });
    }

    pub(crate) fn record(&mut self, log: LogId, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.complete(Completion::LogRecord { log, bytes });
    }

    pub(crate) fn inspect(
        &mut self,
        peer: usize,
        target: &str,
    ) -> Result<ProcessInfo, RemoteError> {
        let request = self.call(
            peer,
            &InspectRequest::with(|made| {
                made.target = target.into();
            }),
        );
        let answer = self.answer(peer, request)?;
        Ok(ProcessInfo::decode(&answer).unwrap())
    }

    pub(crate) fn stop(&mut self, peer: usize, target: &str) -> RequestId {
        self.call(
            peer,
            &StopRequest::with(|made| {
                made.target = target.into();
            }),
        )
    }

    /// Lets the stop in the host succeed.
    pub(crate) fn stop_op(&mut self) -> OpId {
        let mut calls = self.host.take();
        calls.retain(|call| !matches!(call, HostCall::NudgeLog { .. }));
        match calls[..] {
            [HostCall::Stop { op, .. }] => op,
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stream(&self, peer: usize, id: RequestId) -> Vec<&str> {
        let seen = self.peers[peer].stream.get(&id);
        seen.into_iter().flatten().map(String::as_str).collect()
    }
}

impl Peer {
    pub(crate) fn event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Connected(hello) => self.hello = Some(hello),
            ClientEvent::Response { id, result } => {
                assert!(self.answers.insert(id, result).is_none(), "answered twice");
            }
            ClientEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                let text = String::from_utf8_lossy(&payload.into_bytes()).into_owned();
                self.see(id, format!("{seq}:{text}"));
                self.unread.push((id, cost));
                if self.reads {
                    self.read();
                }
            }
            ClientEvent::Gap {
                id,
                next,
                count,
                cost,
            } => {
                let count = count.map_or("?".to_owned(), |count| count.to_string());
                self.see(id, format!("gap {count} ->{next}"));
                self.core.consume(id, cost);
            }
            ClientEvent::Ended { id, error } => {
                self.ended.insert(id, error.clone());
                let why = error.map_or("over".to_owned(), |error| error.message);
                self.see(id, format!("end: {why}"));
            }
            ClientEvent::Acknowledged {
                id,
                seq,
                may_be_dropped,
            } => {
                let acks = self.acks.entry(id).or_default();
                assert!(
                    acks.last().is_none_or(|(last, _)| *last < seq),
                    "ACKs count up"
                );
                acks.push((seq, may_be_dropped));
            }
            ClientEvent::Closed(reason) => self.closed = Some(reason),
            _ => {}
        }
    }

    /// Reads everything that has come.
    pub(crate) fn read(&mut self) {
        self.read_some(usize::MAX);
    }

    /// Reads so many of the messages that have come.
    pub(crate) fn read_some(&mut self, count: usize) {
        let count = count.min(self.unread.len());
        for (id, cost) in self.unread.drain(..count) {
            self.core.consume(id, cost);
        }
    }

    pub(crate) fn see(&mut self, id: RequestId, what: String) {
        self.stream.entry(id).or_default().push(what);
    }
}

pub(crate) fn spec(name: Option<&str>) -> StartRequest {
    StartRequest::with(|made| {
        made.module = "hello.wasm".into();
        made.entrypoint = "hello".into();
        made.capabilities = LOGGING.to_vec();
        made.name = name.map(str::to_owned);
    })
}

pub(crate) fn follow(target: &str) -> FollowRequest {
    FollowRequest::with(|made| {
        made.target = target.into();
    })
}
