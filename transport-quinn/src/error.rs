//! Why a connection could not be made.

use std::{io, net::IpAddr};

use quinn::{ConnectError, ConnectionError, crypto::rustls::NoInitialCipherSuite};
use thiserror::Error;

use crate::{Cause, cause};

/// What a connection attempt was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Looking the name up.
    Resolve,
    /// Waiting for an answer, or shaking hands (QUIC and TLS).
    Handshake,
    /// Opening the stream.
    Stream,
}

/// Why a connection could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// There is no runtime here. [`crate::dial`] is given one; this is for those who look for it.
    #[error("no async runtime is running here")]
    NoRuntime,
    /// The name could not be looked up.
    #[error("the name could not be looked up")]
    Resolve(#[source] io::Error),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The TLS configuration cannot be used for QUIC.
    #[error("the TLS configuration lacks what QUIC needs")]
    Tls(#[source] NoInitialCipherSuite),
    /// No local UDP socket could be opened.
    #[error("no local UDP socket could be opened")]
    Endpoint(#[source] io::Error),
    /// The attempt could not begin, for example because the server name is none.
    #[error("the connection attempt could not begin")]
    Connect(#[source] ConnectError),
    /// The attempt failed.
    #[error("the connection attempt failed")]
    Connection {
        /// The address that was tried.
        address: IpAddr,
        /// Why.
        source: ConnectionError,
    },
    /// The deadline passed.
    #[error("the deadline passed")]
    Timeout {
        /// What the attempt was doing.
        phase: Phase,
        /// The addresses that gave no answer; none while the name is looked up.
        addresses: Vec<IpAddr>,
    },
}

impl DialError {
    /// What lies behind a failed attempt, where that can be told.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            DialError::Connection { source, .. } => Some(cause(source)),
            DialError::Timeout {
                phase: Phase::Handshake,
                ..
            } => Some(Cause::NoAnswer),
            _ => None,
        }
    }
}
