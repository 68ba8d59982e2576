//! How clients reach the server: connections in memory.

use std::{
    fmt,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use selium_remote_client_protocol::Transmit;
use selium_remote_transport_quinn::{
    Runtime, Wire,
    memory::{Loss, Pipe},
};

use super::{
    faults::Refusal,
    guest::live,
    state::{PIPE_BYTES, Shared, State},
};
use crate::link::{ConnectionError, DialError, Phase, runtime};

/// Where the server is said to be.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The TLS alert of a server that does not know the CA of a client's certificate.
const UNKNOWN_CA: u8 = 48;

/// The way to a server.
#[derive(Clone)]
pub(crate) struct Door(pub(super) Arc<Shared>);

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl PartialEq for Door {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Door {}

/// An attempt to connect that waits.
struct Caller<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.shared
            .change(|state| state.callers.remove(&self.number));
    }
}

impl Door {
    /// Connects before `deadline`.
    pub(crate) async fn dial(&self, deadline: Instant) -> Result<Wire, DialError> {
        let runtime = runtime()?;
        let shared = &self.0;
        let caller = shared.change(|state| {
            state.last_caller += 1;
            state.last_caller
        });
        let caller = Caller {
            shared,
            number: caller,
        };
        let entered = poll_fn(|cx| shared.change(|state| enter(state, caller.number, cx)));
        let entered = runtime.timeout_at(deadline, entered).await;
        let number = entered
            .ok_or_else(|| DialError::Timeout {
                phase: Phase::Handshake,
                addresses: vec![ADDRESS],
            })?
            .map_err(|loss| DialError::Connection {
                address: ADDRESS,
                source: loss.into(),
            })?;
        let line = Line {
            shared: Arc::clone(shared),
            number,
        };
        let address = SocketAddr::new(ADDRESS, 0);
        let wire = Wire::in_memory(&runtime, address, Arc::new(line));
        runtime.spawn(attend(Arc::clone(shared), number, runtime.clone()));
        Ok(wire)
    }
}

fn enter(state: &mut State, caller: u64, cx: &mut Context<'_>) -> Poll<Result<u64, Loss>> {
    if state.over {
        return Poll::Ready(Err(Loss::Refused));
    }
    Poll::Ready(match state.faults.refusing {
        Some(Refusal::Silence) => {
            state.callers.insert(caller, cx.waker().clone());
            return Poll::Pending;
        }
        Some(Refusal::Overload) => Err(Loss::Refused),
        Some(Refusal::Certificate) => Err(Loss::Alert(UNKNOWN_CA)),
        // Dropped without a word.
        None if state.core.is_full() => Err(Loss::Closed),
        None => Ok(state.open()),
    })
}

/// Lets guests live on the runtime of a client, as long as that is connected: whose task comes first has the guest.
async fn attend(shared: Arc<Shared>, number: u64, runtime: Runtime) {
    loop {
        let birth = poll_fn(|cx| {
            shared.look(|state| {
                if let Some(birth) = state.births.pop_front() {
                    return Poll::Ready(Some(birth));
                }
                match state.conns.get_mut(&number) {
                    Some(conn) if conn.lost.is_none() => {
                        conn.midwife = Some(cx.waker().clone());
                        Poll::Pending
                    }
                    _ => Poll::Ready(None),
                }
            })
        });
        match birth.await {
            Some(birth) => runtime.spawn(live(Arc::clone(&shared), birth)),
            None => return,
        }
    }
}

/// A client's side of a connection.
struct Line {
    shared: Arc<Shared>,
    number: u64,
}

impl Pipe for Line {
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, ConnectionError>> {
        self.shared.change(|state| {
            let mute = state.faults.mute;
            let Some(conn) = state.conns.get_mut(&self.number) else {
                return Poll::Ready(Err(Loss::Closed.into()));
            };
            if let Some(loss) = conn.lost {
                return Poll::Ready(Err(loss.into()));
            }
            if !mute {
                if let Some(bytes) = conn.take(max) {
                    // There is room again.
                    state.pump(self.number);
                    return Poll::Ready(Ok(Some(bytes)));
                }
                if conn.core.is_none() {
                    return Poll::Ready(Ok(None));
                }
            }
            conn.reader = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.shared.look(|state| {
            let Some(conn) = state.conns.get_mut(&self.number) else {
                return Poll::Ready(Err(Loss::Closed.into()));
            };
            if let Some(loss) = conn.lost {
                return Poll::Ready(Err(loss.into()));
            }
            if conn.inbox_bytes < PIPE_BYTES {
                return Poll::Ready(Ok(()));
            }
            conn.writer = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn write(&self, transmit: Transmit) {
        self.shared.change(|state| {
            let conn = state.conns.get_mut(&self.number);
            if let Some(conn) = conn.filter(|conn| conn.core.is_some()) {
                conn.inbox_bytes += transmit.len();
                conn.inbox.extend(transmit.parts);
            }
        });
    }

    fn finish(&self) {
        self.shared.change(|state| {
            if let Some(conn) = state.conns.get_mut(&self.number) {
                conn.finished = true;
            }
        });
    }

    fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared
            .look(|state| match state.conns.get_mut(&self.number) {
                Some(conn) if !conn.is_read() => {
                    conn.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            })
    }

    fn close(&self) {
        self.shared.change(|state| {
            // Whoever waits hears that it is over.
            state.lose(self.number, Loss::Closed);
            state.conns.remove(&self.number);
        });
    }
}
