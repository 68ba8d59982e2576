//! UDP sockets for clients that do not play along: they can fall silent in the middle, or never speak at all.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, TokioRuntime, UdpPoller};

/// What becomes of the datagrams that an endpoint sends.
#[derive(Debug)]
enum Fate {
    /// They leave until this is set; then they are lost, goodbyes included.
    LostWhen(AtomicBool),
    /// They are kept here and never leave.
    Kept(Mutex<Vec<Vec<u8>>>),
}

/// What becomes of the datagrams that an endpoint sends, to be changed from outside.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Fate>);

impl Gate {
    /// Datagrams leave, for now.
    pub(crate) fn open() -> Self {
        Self(Arc::new(Fate::LostWhen(AtomicBool::new(false))))
    }

    /// Datagrams are kept.
    pub(crate) fn keeping() -> Self {
        Self(Arc::new(Fate::Kept(Mutex::new(Vec::new()))))
    }

    /// From now on nothing leaves any more, whatever is closed or dropped.
    pub(crate) fn shut(&self) {
        if let Fate::LostWhen(lost) = &*self.0 {
            lost.store(true, Ordering::Relaxed);
        }
    }

    /// The datagrams that were kept, and none of them a second time.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        match &*self.0 {
            Fate::Kept(kept) => {
                std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Fate::LostWhen(_) => Vec::new(),
        }
    }

    /// Whether the datagram may leave.
    fn pass(&self, transmit: &Transmit<'_>) -> bool {
        match &*self.0 {
            Fate::LostWhen(lost) => !lost.load(Ordering::Relaxed),
            Fate::Kept(kept) => {
                let datagram = transmit.contents.to_vec();
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(datagram);
                false
            }
        }
    }

    /// A client's endpoint on loopback behind this gate.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub(crate) fn endpoint(&self) -> io::Result<Endpoint> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let socket = Gated {
            inner: TokioRuntime.wrap_udp_socket(socket)?,
            gate: self.clone(),
        };
        Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            None,
            Arc::new(socket),
            Arc::new(TokioRuntime),
        )
    }
}

/// A socket behind a gate.
#[derive(Debug)]
struct Gated {
    inner: Arc<dyn AsyncUdpSocket>,
    gate: Gate,
}

impl AsyncUdpSocket for Gated {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.gate.pass(transmit) {
            self.inner.try_send(transmit)
        } else {
            Ok(())
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
