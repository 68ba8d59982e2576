//! A server that outlives its connections, for one client: what it has executed, its channels and publications, and when
//! it cuts a connection or forgets everything.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use quinn::Connection;
use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError,
    hello::{ClientHello, ServerHello},
    ops::{Common, ProcessRef, ServerInfo, op},
    server::{ServerConnection, ServerEvent},
};
use tokio::sync::mpsc;

use super::{Application, Server, hello, hub::Hub, play, runtime};

/// When a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before the event is looked at: it never reached the server.
    Before,
    /// Behind it: what it was answered does not reach the client.
    Behind,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) hub: Hub,
    /// The channels of the runs that are over.
    pub(crate) past: Vec<Hub>,
    pub(crate) incarnation: u8,
    /// Which connection it is, from 1. What is left of others is not heard.
    pub(crate) connections: u64,
    /// The session of the client.
    pub(crate) session: Option<[u8; 16]>,
    /// What changing requests came to, by their tokens.
    results: BTreeMap<u64, Result<Vec<u8>, RemoteError>>,
    /// The tokens of the starts that were executed.
    pub(crate) started: Vec<u64>,
    /// Every request that came: operation, token, whether it was a retry.
    pub(crate) asked: Vec<(u64, Option<u64>, bool)>,
    /// After how many events the connection is cut, and how.
    pub(crate) cut: Option<(usize, Cut)>,
    connection: Option<Connection>,
}

impl State {
    /// Another run of the server: everything is forgotten.
    pub(crate) fn restart(&mut self) {
        self.incarnation += 1;
        self.past.push(std::mem::take(&mut self.hub));
        self.results.clear();
        self.sever();
    }

    /// Ends the connection without a goodbye.
    pub(crate) fn sever(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close(0u32.into(), b"cut");
        }
        self.cut = None;
    }

    fn counted(&mut self) -> Option<Cut> {
        let (left, cut) = self.cut.as_mut()?;
        *left = left.saturating_sub(1);
        (*left == 0).then_some(*cut)
    }

    fn request(
        &mut self,
        core: &mut ServerConnection,
        id: selium_remote_client_protocol::RequestId,
        operation: u64,
        body: &[u8],
    ) {
        let common = Common::decode(body).unwrap();
        self.asked.push((operation, common.token, common.retry));
        if let Some(token) = common.token {
            let unknown = || Err(RemoteError::new(ErrorCode::OutcomeUnknown, "not known"));
            if let Some(result) = self.results.get(&token) {
                return core.respond(id, result.clone());
            } else if common.retry {
                return core.respond(id, unknown());
            }
        }
        match operation {
            op::PROCESS_START => {
                let token = common.token.expect("a start has a token");
                self.started.push(token);
                let result = Ok(ProcessRef::new(token, format!("p{token}")).encode());
                self.results.insert(token, result.clone());
                core.respond(id, result);
            }
            op::SERVER_INFO => {
                let mut info = ServerInfo::default();
                info.connections = self.connections;
                core.respond(id, Ok(info.encode()));
            }
            op::LOG_FOLLOW => self.hub.follow(core, id, body),
            _ => self.hub.request(core, id, operation, body),
        }
    }
}

struct Serve {
    state: Arc<Mutex<State>>,
    number: u64,
}

impl Application for Serve {
    fn hello(&mut self, client: &ClientHello, limits: &Limits) -> ServerHello {
        let mut state = self.state.lock().unwrap();
        let session = *state.session.get_or_insert(client.session);
        assert_eq!(session, client.session, "the session outlives connections");
        let mut hello = hello(limits);
        hello.incarnation = [state.incarnation; 16];
        hello
    }

    fn event(&mut self, core: &mut ServerConnection, event: ServerEvent) {
        let mut state = self.state.lock().unwrap();
        if state.connections != self.number || state.connection.is_none() {
            return;
        }
        let cut = state.counted();
        if cut == Some(Cut::Before) {
            return state.sever();
        }
        match event {
            ServerEvent::Request { id, op, body } => state.request(core, id, op, &body),
            event => state.hub.event(core, event),
        }
        if cut == Some(Cut::Behind) {
            state.sever();
        }
    }
}

/// The way to it.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    refusing: Arc<AtomicBool>,
}

impl World {
    /// Lets `server` accept one connection after the other.
    pub(crate) fn new(server: &Server) -> Self {
        let world = Self {
            state: Arc::default(),
            refusing: Arc::default(),
        };
        let endpoint = server.endpoint.clone();
        let Self { state, refusing } = world.clone();
        runtime::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                if refusing.load(Ordering::Relaxed) {
                    incoming.refuse();
                    continue;
                }
                let Ok(connection) = incoming.await else {
                    continue;
                };
                let Ok((send, recv)) = connection.accept_bi().await else {
                    continue;
                };
                let number = {
                    let mut state = state.lock().unwrap();
                    state.hub.disconnected();
                    state.connections += 1;
                    state.connection = Some(connection);
                    state.connections
                };
                let serve = Serve {
                    state: Arc::clone(&state),
                    number,
                };
                let (orders, received) = mpsc::unbounded_channel();
                runtime::spawn(async move {
                    play(Limits::default(), send, recv, serve, received).await;
                    drop(orders);
                });
            }
        });
        world
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Whether new connections are refused.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::Relaxed);
    }
}
