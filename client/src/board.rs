//! Where a client stands with its server: what everybody who uses it and the task that keeps it connected share.
//!
//! ```text
//!         lost                 connected
//!   Up ---------->  Down  -------------------> Up
//!     \               \
//!      '--- closed, lost for good, given up ---'---> Over
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Instant, SystemTime},
};

use futures_channel::oneshot;
use selium_remote_client_protocol::{CloseReason, ErrorCode, RemoteError};

use crate::{
    ClientError, ConnectionEvent, ConnectionState, Reconnect, Server,
    closed::{Asked, Closed, GaveUp},
    link::{ConnectionError, Link},
    publisher::Line,
    reconnect::{ConnectionEvents, Queue, tell},
    session::Session,
};

/// The most requests and streams that wait for a connection.
pub(crate) const MAX_WAITERS: usize = 4_096;

/// A connection that says goodbye when nobody uses it any more.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) Link<Session>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.with(|session, _| session.close());
    }
}

/// One of a client's connections.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) opened: Opened,
    pub(crate) server: Arc<Server>,
    /// Which one, from 1.
    pub(crate) number: u64,
    /// Until when the certificate is valid that was shown.
    pub(crate) expires: Option<SystemTime>,
}

impl Connection {
    pub(crate) fn link(&self) -> &Link<Session> {
        &self.opened.0
    }

    /// Why it is over, once it is.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.link().with(|session, _| session.reason().cloned())
    }

    /// The error of what was going on when it ended.
    pub(crate) fn closed(&self, asked: Option<Asked>) -> ClientError {
        closed(self.link(), asked)
    }
}

/// Why a connection is over.
pub(crate) fn closed(link: &Link<Session>, asked: Option<Asked>) -> ClientError {
    let reason = link.with(|session, _| session.reason().cloned());
    // There is none only if the session was dropped from under the request.
    let reason = reason.unwrap_or_else(closed_here);
    ClientError::Closed(Box::new(Closed::new(reason, link.loss(), asked)))
}

fn closed_here() -> CloseReason {
    CloseReason::Local(RemoteError::new(
        ErrorCode::Cancelled,
        "the client closed the connection",
    ))
}

/// Why there will be no connection any more.
#[derive(Clone, Debug)]
pub(crate) enum Final {
    Closed(CloseReason, Option<ConnectionError>),
    GaveUp {
        error: Arc<ClientError>,
        attempts: u32,
    },
}

impl Final {
    pub(crate) fn error(self, asked: Option<Asked>) -> ClientError {
        match self {
            Final::Closed(reason, loss) => {
                ClientError::Closed(Box::new(Closed::new(reason, loss, asked)))
            }
            Final::GaveUp { error, attempts } => {
                ClientError::GaveUp(Box::new(GaveUp::new(error, attempts, asked)))
            }
        }
    }
}

/// Why a wait for a connection ended without one.
#[derive(Debug)]
pub(crate) enum Unconnected {
    /// Its deadline passed.
    Late,
    /// [`MAX_WAITERS`] wait already.
    Crowded,
    Over(Final),
}

#[derive(Debug)]
enum Phase {
    Up(Arc<Connection>),
    Down,
    Over(Final),
}

#[derive(Debug)]
struct Waiter {
    deadline: Option<Instant>,
    tell: oneshot::Sender<()>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// The server of the latest connection.
    server: Arc<Server>,
    expires: Option<SystemTime>,
    waiters: Vec<Waiter>,
    listeners: Vec<Weak<Mutex<Queue>>>,
    /// Publications that are to be gone on with. What is dropped is cleared away when there are twice as many.
    lines: Vec<Weak<Line>>,
    lines_limit: usize,
    /// Whether the task has something to look at.
    rung: bool,
    bell: Option<Waker>,
}

/// See the module's documentation. Its lock is never held while another one is taken or a waker is called.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    policy: Reconnect,
}

/// What the task has to do while it waits for something else.
pub(crate) enum Chores {
    Over,
    /// Publications to look after, and when a waiter's deadline passes.
    Wait(Vec<Arc<Line>>, Option<Instant>),
}

impl Board {
    pub(crate) fn new(policy: Reconnect, connection: Connection) -> Self {
        Self {
            policy,
            state: Mutex::new(State {
                server: Arc::clone(&connection.server),
                expires: connection.expires,
                phase: Phase::Up(Arc::new(connection)),
                waiters: Vec::new(),
                listeners: Vec::new(),
                lines: Vec::new(),
                lines_limit: 16,
                rung: false,
                bell: None,
            }),
        }
    }

    /// What holds it calls nothing that panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn server(&self) -> Arc<Server> {
        Arc::clone(&self.lock().server)
    }

    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.lock().expires
    }

    /// Whether what was going on when a connection ended may go on with another one.
    pub(crate) fn lasts(&self, connection: &Connection) -> bool {
        let reason = connection.reason();
        reason.is_none_or(|reason| self.policy.lasts(&reason)) && self.policy.is_enabled()
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.policy.is_enabled()
    }

    pub(crate) fn state(&self) -> ConnectionState {
        let connection = match &self.lock().phase {
            Phase::Up(connection) => Arc::clone(connection),
            Phase::Down => return ConnectionState::Reconnecting,
            Phase::Over(_) => return ConnectionState::Closed,
        };
        // The task may not have heard of the end yet.
        match connection.reason() {
            None => ConnectionState::Connected,
            Some(reason) if self.policy.lasts(&reason) => ConnectionState::Reconnecting,
            Some(_) => ConnectionState::Closed,
        }
    }

    /// Why it is over, once it is.
    pub(crate) fn over(&self) -> Option<Final> {
        match &self.lock().phase {
            Phase::Over(end) => Some(end.clone()),
            _ => None,
        }
    }

    /// The connection, if it has a higher number than `behind`; else waits for it.
    pub(crate) async fn connected(
        &self,
        behind: u64,
        deadline: Option<Instant>,
    ) -> Result<Arc<Connection>, Unconnected> {
        loop {
            let (woken, bell) = {
                let mut state = self.lock();
                match &state.phase {
                    Phase::Up(connection) if connection.number > behind => {
                        return Ok(Arc::clone(connection));
                    }
                    Phase::Over(end) => return Err(Unconnected::Over(end.clone())),
                    _ => {}
                }
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    return Err(Unconnected::Late);
                }
                if state.waiters.len() >= MAX_WAITERS {
                    state.waiters.retain(|waiter| !waiter.tell.is_canceled());
                    if state.waiters.len() >= MAX_WAITERS {
                        return Err(Unconnected::Crowded);
                    }
                }
                let (tell, woken) = oneshot::channel();
                state.waiters.push(Waiter { deadline, tell });
                (woken, state.ring())
            };
            wake(bell);
            let _ = woken.await;
        }
    }

    /// Adds a publication that is to be gone on with.
    pub(crate) fn add(&self, line: &Arc<Line>) {
        let mut state = self.lock();
        if state.lines.len() >= state.lines_limit {
            state.lines.retain(|line| line.strong_count() > 0);
            state.lines_limit = state.lines.len().saturating_mul(2).max(16);
        }
        state.lines.push(Arc::downgrade(line));
        let bell = state.ring();
        drop(state);
        wake(bell);
    }

    /// What happens from now on, and first that there is a connection, if so.
    pub(crate) fn listen(&self) -> ConnectionEvents {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let mut state = self.lock();
        state.listeners.retain(|queue| queue.strong_count() > 0);
        let first = match &state.phase {
            Phase::Up(connection) => Some(ConnectionEvent::Connected {
                incarnation: connection.server.incarnation,
                again: connection.number > 1,
            }),
            Phase::Down => None,
            Phase::Over(Final::Closed(..)) => Some(ConnectionEvent::Closed),
            Phase::Over(Final::GaveUp { error, .. }) => Some(ConnectionEvent::GaveUp {
                error: Arc::clone(error),
            }),
        };
        // Before anything else is told: nobody has a waker there yet.
        if let Some(event) = first {
            tell(&queue, event);
        }
        state.listeners.push(Arc::downgrade(&queue));
        drop(state);
        ConnectionEvents::new(queue)
    }

    /// Tells the listeners.
    pub(crate) fn tell(&self, event: &ConnectionEvent) {
        let listeners = self.lock().listeners();
        for queue in listeners {
            tell(&queue, event.clone());
        }
    }

    /// The connection is over: whether another one is wanted.
    pub(crate) fn lost(&self) -> Option<CloseReason> {
        let connection = match &self.lock().phase {
            Phase::Up(connection) => Arc::clone(connection),
            _ => return None,
        };
        let reason = connection.reason().unwrap_or(CloseReason::Lost);
        if !self.policy.lasts(&reason) {
            let loss = connection.link().loss();
            self.tell(&ConnectionEvent::Lost {
                reason: reason.clone(),
            });
            self.end(Final::Closed(reason, loss));
            return None;
        }
        let mut state = self.lock();
        if matches!(state.phase, Phase::Over(_)) {
            return None;
        }
        // It is held here until the lock is free.
        let _old = std::mem::replace(&mut state.phase, Phase::Down);
        state.rung = true;
        let reason_told = reason.clone();
        drop(state);
        self.tell(&ConnectionEvent::Lost {
            reason: reason_told,
        });
        Some(reason)
    }

    /// There is a connection again; `false` when nobody wants it any more.
    pub(crate) fn up(&self, connection: Connection) -> bool {
        let connection = Arc::new(connection);
        let mut state = self.lock();
        if matches!(state.phase, Phase::Over(_)) {
            return false;
        }
        let old = state.server.incarnation;
        let new = connection.server.incarnation;
        state.server = Arc::clone(&connection.server);
        state.expires = connection.expires;
        state.phase = Phase::Up(connection);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        self.tell(&ConnectionEvent::Connected {
            incarnation: new,
            again: true,
        });
        if old != new {
            self.tell(&ConnectionEvent::NewIncarnation { old, new });
        }
        for waiter in waiters {
            let _ = waiter.tell.send(());
        }
        true
    }

    /// Ends it, with the connection that there is. The first reason counts.
    pub(crate) fn end(&self, end: Final) -> Option<Arc<Connection>> {
        let event = match &end {
            Final::Closed(..) => ConnectionEvent::Closed,
            Final::GaveUp { error, .. } => ConnectionEvent::GaveUp {
                error: Arc::clone(error),
            },
        };
        let mut state = self.lock();
        if matches!(state.phase, Phase::Over(_)) {
            return None;
        }
        let phase = std::mem::replace(&mut state.phase, Phase::Over(end));
        let waiters = std::mem::take(&mut state.waiters);
        let lines = std::mem::take(&mut state.lines);
        let listeners = state.listeners();
        let bell = state.ring();
        drop(state);
        wake(bell);
        for waiter in waiters {
            let _ = waiter.tell.send(());
        }
        for queue in listeners {
            tell(&queue, event.clone());
        }
        for line in lines {
            if let Some(line) = line.upgrade() {
                line.wake();
            }
        }
        match phase {
            Phase::Up(connection) => Some(connection),
            _ => None,
        }
    }

    /// Ends it for everybody, because somebody asked for it.
    pub(crate) fn close(&self) -> Option<Arc<Connection>> {
        self.end(Final::Closed(closed_here(), None))
    }

    /// What there is to do; wakes the waiters whose deadline has passed.
    pub(crate) fn chores(&self) -> Chores {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Over(_)) {
            return Chores::Over;
        }
        state.rung = false;
        state.waiters.retain(|waiter| !waiter.tell.is_canceled());
        let now = Instant::now();
        let late = |waiter: &mut Waiter| waiter.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<Waiter> = state.waiters.extract_if(.., late).collect();
        let due = state.waiters.iter().filter_map(|w| w.deadline).min();
        let lines = state.lines.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for waiter in late {
            let _ = waiter.tell.send(());
        }
        Chores::Wait(lines, due)
    }

    /// Lets the task look at its chores.
    pub(crate) fn ring(&self) {
        let bell = self.lock().ring();
        wake(bell);
    }

    /// Waits for chores.
    pub(crate) fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.rung || matches!(state.phase, Phase::Over(_)) {
            return Poll::Ready(());
        }
        state.bell = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl State {
    fn ring(&mut self) -> Option<Waker> {
        self.rung = true;
        self.bell.take()
    }

    fn listeners(&mut self) -> Vec<Arc<Mutex<Queue>>> {
        self.listeners.retain(|queue| queue.strong_count() > 0);
        self.listeners.iter().filter_map(Weak::upgrade).collect()
    }
}

fn wake(bell: Option<Waker>) {
    if let Some(bell) = bell {
        bell.wake();
    }
}
