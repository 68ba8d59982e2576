//! Connections that were not made or did not last: what lies behind it, and what to do.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use selium_remote_certs::CLIENT_CERTIFICATE_FILE;
use selium_remote_client_protocol::CloseReason;

use crate::link::{Cause, ConnectionError, Rejection, Target, cause};

/// What an error about a changing request ends with.
pub(crate) const OUTCOME_UNKNOWN: &str =
    "outcome unknown: it may have happened; look with `selium ps` before trying again";

/// A duration as people write it.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{} s", self.0.as_secs()),
            _ => write!(f, "{} ms", self.0.as_millis()),
        }
    }
}

/// Which server, as errors name it: the domain and port, and the addresses behind them.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) target: Target,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Place {
    pub(crate) fn new(target: &Target, addresses: Vec<IpAddr>) -> Self {
        Self {
            target: target.clone(),
            addresses,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)?;
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        if addresses.is_empty() || addresses == [self.target.host()] {
            return Ok(());
        }
        write!(f, " ({})", addresses.join(", "))
    }
}

/// Why no connection came about. The text says what lies behind it and what to do; the source is what QUIC said.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectFailure {
    /// The server: domain and port, and the addresses that were tried.
    pub server: String,
    /// The UDP port.
    pub port: u16,
    /// The name that the server was asked for (TLS SNI).
    pub server_name: String,
    /// What lies behind it.
    pub cause: Cause,
    /// The file with the certificates that are trusted.
    pub ca: PathBuf,
    /// How long the whole attempt might have taken.
    pub timeout: Duration,
    source: Option<ConnectionError>,
}

impl ConnectFailure {
    pub(crate) fn new(
        place: &Place,
        ca: &Path,
        timeout: Duration,
        cause: Cause,
        source: Option<ConnectionError>,
    ) -> Self {
        Self {
            server: place.to_string(),
            port: place.target.port(),
            server_name: place.target.server_name().to_owned(),
            cause,
            ca: ca.to_owned(),
            timeout,
            source,
        }
    }

    /// Whether the server refused the client's certificate, or the client the server's.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        matches!(
            self.cause,
            Cause::UnknownIssuer
                | Cause::Expired
                | Cause::NotYetValid
                | Cause::WrongName
                | Cause::BadServerCertificate
                | Cause::Rejected(_)
        )
    }

    fn rejected(&self, f: &mut fmt::Formatter<'_>, rejection: Rejection) -> fmt::Result {
        let certificate = self.ca.with_file_name(CLIENT_CERTIFICATE_FILE);
        write!(
            f,
            "{} does not accept the client certificate in {}: ",
            self.server,
            certificate.display()
        )?;
        f.write_str(match rejection {
            Rejection::UnknownCa => {
                "it was not issued by the CA that the server trusts on this port; use a certificate of that CA \
                 (each role has its own), or check the port"
            }
            Rejection::Expired => {
                "it has expired or is not valid yet; renew it, and check the clocks of both machines"
            }
            Rejection::Revoked => "it was revoked; ask whoever runs the server for a new one",
            Rejection::Missing => {
                "none was shown that fits what the server asks for; check that the file holds a client certificate"
            }
            _ => {
                "it is unusable as a client certificate; make a new one \
                 (`selium-runtime generate-certs --output-dir <dir>`)"
            }
        })
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, name) = (&self.server, &self.server_name);
        match self.cause {
            Cause::NoAnswer => write!(
                f,
                "no answer from {server} within {}: is the runtime running with the remote-client module, and is \
                 UDP port {} reachable?",
                Seconds(self.timeout),
                self.port
            ),
            Cause::UnknownIssuer => write!(
                f,
                "the certificate of {server} was not issued by a CA in {}: use the ca.crt that was made together with \
                 the server's certificate (the runtime's certificate directory), or check that this is the right server",
                self.ca.display()
            ),
            Cause::Expired => write!(
                f,
                "the certificate of {server} has expired: renew it on the server and restart the runtime"
            ),
            Cause::NotYetValid => write!(
                f,
                "the certificate of {server} is not valid yet: check the clocks of both machines"
            ),
            Cause::WrongName => write!(
                f,
                "the certificate of {server} is not valid for the name `{name}`: connect by a domain that it is made \
                 for (the server routes connections by the same name)"
            ),
            Cause::BadServerCertificate => write!(
                f,
                "the certificate of {server} cannot be used: make new ones with \
                 `selium-runtime generate-certs --output-dir <dir>`"
            ),
            Cause::Rejected(rejection) => self.rejected(f, rejection),
            Cause::UnknownName => write!(
                f,
                "{server} does not serve the domain `{name}`: the server routes connections by that name (TLS SNI); \
                 use the domain that the arguments of its remote-client module bind"
            ),
            Cause::ApplicationProtocol => write!(
                f,
                "{server} insists on an application protocol (ALPN), which a control plane never does: another service \
                 has this port; check the port"
            ),
            Cause::Version => write!(
                f,
                "{server} speaks no common version of QUIC or TLS: another service may have this port; check the port"
            ),
            Cause::Refused => write!(
                f,
                "{server} refuses new connections: it is shutting down or overloaded; try again later"
            ),
            Cause::Closed => write!(
                f,
                "{server} closed the connection before it answered the hello: look into the log of its runtime"
            ),
            Cause::Reset => write!(
                f,
                "{server} was restarted while the connection was made: try again"
            ),
            _ => write!(
                f,
                "the connection to {server} failed: check domain and port, and look into the log of its runtime"
            ),
        }
    }
}

impl Error for ConnectFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// Why a connection is over, as the requests on it hear it. The source is what QUIC said, if it was QUIC's end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Why, in terms of the protocol.
    pub reason: CloseReason,
    /// Whether a request that changes something was waiting for its answer: its outcome is unknown then.
    pub changing: bool,
    source: Option<ConnectionError>,
}

impl Closed {
    pub(crate) fn new(
        reason: CloseReason,
        source: Option<ConnectionError>,
        changing: bool,
    ) -> Self {
        Self {
            reason,
            changing,
            source,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            CloseReason::Peer(error) => write!(f, "the server closed the connection: {error}")?,
            CloseReason::Local(error) => write!(f, "the connection was closed here: {error}")?,
            CloseReason::Protocol(what) => write!(
                f,
                "the server broke the protocol ({what}): update the older of this client ({}) and the server's module",
                env!("CARGO_PKG_VERSION")
            )?,
            CloseReason::Silent => f.write_str(
                "nothing comes from the server any more: the network is down, the runtime was stopped, or its \
                 remote-client module hangs; connect again, and look into the log of the runtime",
            )?,
            CloseReason::Lost => f.write_str(match self.source.as_ref().map(cause) {
                Some(Cause::NoAnswer) => {
                    "the connection was lost, nothing comes from the server any more: check the network and whether \
                     the runtime still runs, then connect again"
                }
                Some(Cause::Reset) => {
                    "the connection was lost, the server was restarted: connect again; ids from before are void"
                }
                _ => {
                    "the connection was lost, the server ended it without a goodbye: check whether the runtime still \
                     runs, then connect again"
                }
            })?,
            other => other.fmt(f)?,
        }
        match self.changing {
            true => write!(f, "; {OUTCOME_UNKNOWN}"),
            false => Ok(()),
        }
    }
}

impl Error for Closed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
