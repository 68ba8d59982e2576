//! Connections in memory, for tests (feature `memory`): the other side is called directly, there is no QUIC between.

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use quinn::{ApplicationClose, ConnectionClose, ConnectionError, TransportErrorCode};
use selium_remote_client_protocol::Transmit;

use crate::{
    Runtime, Wire,
    stream::{Ends, Receiver, Sender},
};

/// One side of a connection with its one stream. What waits is woken when that can go on, or when the connection is over.
pub trait Pipe: Send + Sync + 'static {
    /// What has arrived, of at most `max` bytes; nothing at the end of the other side's half.
    ///
    /// # Errors
    /// When the connection is lost.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, ConnectionError>>;

    /// Whether there is room for a write, which comes next.
    ///
    /// # Errors
    /// When the connection is lost.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>>;

    /// Writes.
    fn write(&self, transmit: Transmit);

    /// Nothing more is written.
    fn finish(&self);

    /// Whether the other side has read everything, or the connection is over.
    fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Closes the connection, with what is on its way. Done more than once.
    fn close(&self);
}

/// How a connection in memory is lost, in quinn's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// The other side closed it.
    Closed,
    /// The other side does not know it: it was restarted.
    Reset,
    /// The other side takes no connections.
    Refused,
    /// The other side sent a TLS alert, with this number.
    Alert(u8),
}

impl From<Loss> for ConnectionError {
    fn from(loss: Loss) -> Self {
        let closed = |error_code| {
            ConnectionError::ConnectionClosed(ConnectionClose {
                error_code,
                frame_type: None,
                reason: Bytes::new(),
            })
        };
        match loss {
            Loss::Closed => ConnectionError::ApplicationClosed(ApplicationClose {
                error_code: 0u32.into(),
                reason: Bytes::new(),
            }),
            Loss::Reset => ConnectionError::Reset,
            Loss::Refused => closed(TransportErrorCode::CONNECTION_REFUSED),
            Loss::Alert(alert) => closed(TransportErrorCode::crypto(alert)),
        }
    }
}

impl Wire {
    /// A connection in memory, to be driven on `runtime`.
    #[must_use]
    pub fn in_memory(runtime: &Runtime, address: SocketAddr, pipe: Arc<dyn Pipe>) -> Self {
        let held = Held(Arc::new(Closing(pipe)));
        Self {
            runtime: runtime.clone(),
            address,
            ends: Ends::Memory(held.clone()),
            send: Sender::Memory(held.clone()),
            recv: Receiver::Memory(held),
        }
    }
}

/// Closes the connection with the last of those who hold it.
struct Closing(Arc<dyn Pipe>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[derive(Clone)]
pub(crate) struct Held(Arc<Closing>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    pub(crate) fn pipe(&self) -> &dyn Pipe {
        &*self.0.0
    }

    pub(crate) async fn read(&self, max: usize) -> Result<Option<Bytes>, ConnectionError> {
        poll_fn(|cx| self.pipe().poll_read(cx, max)).await
    }

    pub(crate) async fn write(&self, transmit: Transmit) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.pipe().poll_ready(cx)).await?;
        self.pipe().write(transmit);
        Ok(())
    }

    pub(crate) async fn finish(&self) {
        self.pipe().finish();
        poll_fn(|cx| self.pipe().poll_finished(cx)).await;
    }
}
