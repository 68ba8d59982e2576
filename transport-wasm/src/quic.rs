//! QUIC listeners and the connections that they accept.
//!
//! What the host gives a guest of a connection is its first bidirectional stream, as a reader and a writer handle, and the remote address as text.
//! There is no finish, no reset and no close reason: a connection ends when both its handles are freed.
//!
//! - The endpoint always binds all IPv4 interfaces, whatever the domain says; the domain is the server name (SNI) that is routed to this listener.
//! - `accept` waits for the handshake *and the first stream* of one connection before it looks at the next, so one silent peer holds up one
//!   listener handle. Binding the same domain and port again yields another handle on the same endpoint; accepting on many
//!   handles at once is the only defence.
//! - The first bind of a port must have completed before the second is started, or one of them may fail with "address in use".
//! - Neither side uses ALPN: a listener without it refuses a client that offers any.

use core::{future::poll_fn, task::Poll};

use bytes::Bytes;
use selium_abi::{
    NetAccept, NetAcceptReply, NetCreateListener, NetProtocol, NetTlsServerConfig, TlsServerBundle,
};

use crate::{
    host::{
        self, HostError, MAX_READ,
        calls::{QuicAccept, QuicBind, QuicRead, QuicWrite, TlsServerConfig},
        clip,
        io::{self, Pieces},
    },
    orphan::Driven,
    slot::{Port, Slot},
};

/// Largest write, in bytes. What is below cannot be reordered any more, so more would delay control answers behind data.
pub const MAX_WRITE: usize = 64 * 1024;

/// Longest domain (server name), in bytes.
pub const MAX_DOMAIN: usize = 255;

/// Largest certificate chain, key or CA bundle, in bytes.
pub const MAX_PEM: usize = 256 * 1024;

/// Longest remote address that is kept, in bytes.
const MAX_ADDRESS: usize = 128;

/// TLS material of a listener.
#[derive(Clone)]
pub struct TlsMaterial {
    /// PEM: the server's certificate chain, its own first.
    pub cert_chain: Vec<u8>,
    /// PEM: the key of the first certificate.
    pub private_key: Vec<u8>,
    /// PEM: the CA certificates that clients' certificates are checked against; `None` accepts any client.
    pub client_ca: Option<Vec<u8>>,
    /// Refuse clients without a certificate; needs `client_ca`.
    pub require_client_auth: bool,
}

impl core::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Never the key.
        f.debug_struct("TlsMaterial")
            .field("require_client_auth", &self.require_client_auth)
            .finish_non_exhaustive()
    }
}

/// A TLS configuration registered with the host. Needs `NetTlsServerConfig`.
///
/// One port has one TLS profile: a second bind with another client CA or requirement is refused as an invalid argument.
#[derive(Debug)]
pub struct TlsConfig {
    slot: Slot,
}

impl TlsConfig {
    /// Registers `material`. The host checks it only when a listener is bound with it.
    ///
    /// Cancel safe: dropped half-way, the configuration is freed when the host has made it.
    ///
    /// # Errors
    /// [`HostError::TooLarge`] over [`MAX_PEM`]; [`HostError::PermissionDenied`] without the capability.
    pub async fn create(material: &TlsMaterial) -> Result<Self, HostError> {
        HostError::check("certificate chain", material.cert_chain.len(), MAX_PEM)?;
        HostError::check("private key", material.private_key.len(), MAX_PEM)?;
        HostError::check(
            "client CA",
            material.client_ca.as_ref().map_or(0, Vec::len),
            MAX_PEM,
        )?;
        let input = NetTlsServerConfig {
            bundle: TlsServerBundle {
                cert_chain_pem: material.cert_chain.clone(),
                private_key_pem: material.private_key.clone(),
                client_ca_pem: material.client_ca.clone(),
                alpn: None,
                require_client_auth: material.require_client_auth,
            },
        };
        let call = host::call::<TlsServerConfig>(&input);
        let reply = Driven::new(call, |result| {
            drop(result.map(|reply| Slot::from_wide(reply.handle)))
        })
        .await?;
        Ok(Self {
            slot: Slot::from_wide(reply.handle)?,
        })
    }
}

/// A bound listener. One `accept` at a time; bind again for more.
#[derive(Debug)]
pub struct Listener {
    port: Port<QuicAccept>,
}

impl Listener {
    /// Binds `domain` and `port`, with the runtime's own certificate or with `tls`. Needs `NetQuicBind`.
    ///
    /// Cancel safe: dropped half-way, the listener is freed when the host has made it. The endpoint behind it stays bound for as long as
    /// the runtime lives, in either case.
    ///
    /// # Errors
    /// [`HostError::TooLarge`] over [`MAX_DOMAIN`]; [`HostError::InvalidArgument`] for unusable TLS material, or another TLS profile than the
    /// port has; [`HostError::Other`] when the address is in use.
    pub async fn bind(domain: &str, port: u16, tls: Option<&TlsConfig>) -> Result<Self, HostError> {
        HostError::check("domain", domain.len(), MAX_DOMAIN)?;
        let input = NetCreateListener {
            protocol: NetProtocol::Quic,
            domain: domain.to_owned(),
            port,
            tls: tls.map(|tls| u64::from(tls.slot.raw())),
        };
        let call = host::call::<QuicBind>(&input);
        let reply = Driven::new(call, |result| {
            drop(result.map(|reply| Slot::from_wide(reply.handle)))
        })
        .await?;
        Ok(Self {
            port: Port::new(Slot::from_wide(reply.handle)?, free_accepted),
        })
    }

    /// Waits for the next connection. Needs `NetQuicAccept`.
    ///
    /// Cancel safe: a dropped future leaves the operation with the listener and the next call resumes it. When the listener is dropped
    /// as well, the host still accepts one more connection, whose handles are then freed at once.
    ///
    /// # Errors
    /// A failed handshake makes `accept` fail: go on accepting. [`HostError::PermissionDenied`] and [`HostError::NotFound`] do not pass.
    pub async fn accept(&mut self) -> Result<Accepted, HostError> {
        let reply = poll_fn(|cx| {
            self.port.poll_operation(cx, |raw| NetAccept {
                handle: u64::from(raw),
            })
        })
        .await?;
        let NetAcceptReply {
            reader,
            writer,
            remote_addr,
        } = reply;
        // Both become owners before either can fail.
        let (reader, writer) = (Slot::from_wide(reader), Slot::from_wide(writer));
        Ok(Accepted {
            reader: Reader {
                port: Port::new(reader?, drop),
            },
            writer: Writer {
                port: Port::new(writer?, drop),
            },
            remote_addr: clip(&remote_addr, MAX_ADDRESS).to_owned(),
        })
    }
}

/// Frees a connection that nobody waited for.
fn free_accepted(reply: NetAcceptReply) {
    drop(Slot::from_wide(reply.reader));
    drop(Slot::from_wide(reply.writer));
}

/// A connection.
#[derive(Debug)]
pub struct Accepted {
    /// Reads what the client sends.
    pub reader: Reader,
    /// Writes to the client.
    pub writer: Writer,
    /// `ADDRESS:PORT` of the client, for people; not verified, at most 128 bytes.
    pub remote_addr: String,
}

/// The receiving half of a connection. Dropping it frees the handle, after a running read has ended.
///
/// A connection whose read is pending cannot be closed: the host keeps it until the peer sends, closes or falls silent for the idle
/// timeout. [`crate::orphan::in_flight`] counts those.
#[derive(Debug)]
pub struct Reader {
    port: Port<QuicRead>,
}

impl Reader {
    /// Reads what has arrived, at most `max` bytes; empty means end of stream. `max` is raised to 1 and cut to [`MAX_READ`]. The host
    /// allocates and zeroes `max` bytes for each read, so ask for what is likely, not for what is possible. Needs `NetQuicRead`.
    ///
    /// Cancel safe: a dropped future leaves the read with the reader, and the next call resumes it, with the `max` that it was
    /// started with. Nothing is lost.
    ///
    /// # Errors
    /// [`HostError::Other`] when the connection failed; every later read fails, too.
    pub async fn read(&mut self, max: u32) -> Result<Bytes, HostError> {
        poll_fn(|cx| self.poll_read(cx, max)).await
    }

    /// Poll form of [`read`](Self::read).
    pub fn poll_read(
        &mut self,
        cx: &mut core::task::Context<'_>,
        max: u32,
    ) -> Poll<Result<Bytes, HostError>> {
        self.port
            .poll_operation(cx, wanted(max))
            .map_ok(|frame| frame.payload)
    }

    /// Begins a read that a later call of [`read`](Self::read) or [`poll_read`](Self::poll_read) takes up, unless one runs already: the host
    /// works on it while something else is done here.
    pub fn begin_read(&mut self, max: u32) {
        self.port.begin(wanted(max));
    }
}

fn wanted(max: u32) -> impl FnOnce(u32) -> io::Read {
    let len = max.clamp(1, MAX_READ);
    move |handle| io::Read { handle, len }
}

/// The sending half of a connection.
///
/// Dropping it frees the handle, after a running write has ended. **Freeing the writer before the peer has read everything loses the
/// unread tail**, and there is no way to finish a stream: last words need an answer from the peer (or time) before the drop.
#[derive(Debug)]
pub struct Writer {
    port: Port<QuicWrite>,
}

impl Writer {
    /// Writes all of `data`, at most [`MAX_WRITE`] bytes. Returns when the host's QUIC stack has taken it, which it does not while the
    /// peer's windows are full. Empty data does nothing. Needs `NetQuicWrite`.
    ///
    /// Cancel safety: once started a write is carried out, also when its future is dropped; the next write waits for it first, and
    /// reports its error. What has not been polled has not been started.
    ///
    /// # Errors
    /// [`HostError::TooLarge`] over [`MAX_WRITE`]; [`HostError::Other`] when the connection failed.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), HostError> {
        self.write_pieces(Pieces::One(data)).await
    }

    /// As [`write`](Self::write), of bytes that lie in pieces.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_parts(&mut self, parts: &[Bytes]) -> Result<(), HostError> {
        self.write_pieces(Pieces::Many(parts)).await
    }

    async fn write_pieces(&mut self, payload: Pieces<'_>) -> Result<(), HostError> {
        HostError::check("write", payload.len(), MAX_WRITE)?;
        self.port.settle().await?;
        if payload.len() == 0 {
            return Ok(());
        }
        poll_fn(|cx| {
            self.port
                .poll_operation(cx, |handle| io::Write { handle, payload })
        })
        .await
        .map(drop)
    }

    /// Whether a write whose future was dropped is still running.
    pub fn is_busy(&self) -> bool {
        self.port.is_busy()
    }

    /// Waits for a running write, then frees the handle. The unread tail is lost, as with a drop.
    ///
    /// Cancel safe: dropped half-way, the handle is freed when the write has ended.
    ///
    /// # Errors
    /// The error of the write that was waited for; the handle is freed in any case.
    pub async fn close(mut self) -> Result<(), HostError> {
        self.port.settle().await
    }
}
