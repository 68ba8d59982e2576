//! What the drive loops need of a connection and its stream: quinn's, or (feature `memory`) one in memory.

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, WriteError};
use selium_remote_client_protocol::Transmit;

#[cfg(feature = "memory")]
use crate::memory::Held;

/// The connection: it is closed when this is dropped.
#[derive(Debug)]
pub(crate) enum Ends {
    Quic(Connection, Endpoint),
    #[cfg(feature = "memory")]
    Memory(Held),
}

impl Ends {
    /// Closes the connection, which ends its stream.
    pub(crate) fn close(&self) {
        match self {
            Ends::Quic(connection, _) => connection.close(0u32.into(), b""),
            #[cfg(feature = "memory")]
            Ends::Memory(held) => held.pipe().close(),
        }
    }

    /// Waits until the other side need not be told anything more.
    pub(crate) async fn idle(&self) {
        match self {
            Ends::Quic(_, endpoint) => endpoint.wait_idle().await,
            #[cfg(feature = "memory")]
            Ends::Memory(_) => {}
        }
    }
}

/// The stream's half from the other side.
#[derive(Debug)]
pub(crate) enum Receiver {
    Quic(RecvStream),
    #[cfg(feature = "memory")]
    Memory(Held),
}

impl Receiver {
    /// What has arrived, of at most `max` bytes; nothing at the end. The error is the connection's, if it was lost.
    /// Dropping the future loses nothing.
    pub(crate) async fn read(
        &mut self,
        max: usize,
    ) -> Result<Option<Bytes>, Option<ConnectionError>> {
        match self {
            Receiver::Quic(recv) => match recv.read_chunk(max, true).await {
                Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                Err(ReadError::ConnectionLost(error)) => Err(Some(error)),
                Err(_) => Err(None),
            },
            #[cfg(feature = "memory")]
            Receiver::Memory(held) => held.read(max).await.map_err(Some),
        }
    }
}

/// The stream's half to the other side.
#[derive(Debug)]
pub(crate) enum Sender {
    Quic(SendStream),
    #[cfg(feature = "memory")]
    Memory(Held),
}

impl Sender {
    /// Writes all of it. The error is the connection's, if it was lost.
    pub(crate) async fn write(
        &mut self,
        mut transmit: Transmit,
    ) -> Result<(), Option<ConnectionError>> {
        match self {
            Sender::Quic(send) => match send.write_all_chunks(&mut transmit.parts).await {
                Ok(()) => Ok(()),
                Err(WriteError::ConnectionLost(error)) => Err(Some(error)),
                Err(_) => Err(None),
            },
            #[cfg(feature = "memory")]
            Sender::Memory(held) => held.write(transmit).await.map_err(Some),
        }
    }

    /// Ends this half, and waits until everything has arrived.
    pub(crate) async fn finish(&mut self) {
        match self {
            // Fails only when the stream is finished or stopped, then there is nothing to wait for.
            Sender::Quic(send) => {
                if send.finish().is_ok() {
                    let _ = send.stopped().await;
                }
            }
            #[cfg(feature = "memory")]
            Sender::Memory(held) => held.finish().await,
        }
    }
}
