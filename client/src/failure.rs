//! Connections that were not made: what lies behind it, and what to do.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use selium_remote_certs::{CLIENT_CERTIFICATE_FILE, Moment, Purpose, ShownCertificate};

use crate::link::{Cause, ConnectionError, Rejection, Target};

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
    /// When it failed, by the clock of this machine: since the Unix epoch.
    at: Duration,
    /// The certificate that was shown.
    shown: Option<Box<ShownCertificate>>,
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
            at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            shown: None,
            source,
        }
    }

    pub(crate) fn with_shown(mut self, shown: Option<&ShownCertificate>) -> Self {
        self.shown = shown.cloned().map(Box::new);
        self
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
                | Cause::WrongUse
                | Cause::BadServerCertificate
                | Cause::Rejected(_)
        )
    }

    /// What the server finds wrong with the client's certificate, as far as the alert tells and a look at the certificate
    /// completes it.
    fn rejected(&self, f: &mut fmt::Formatter<'_>, rejection: Rejection) -> fmt::Result {
        let server = &self.server;
        let file = match &self.shown {
            Some(shown) => shown.path.clone(),
            None => self.ca.with_file_name(CLIENT_CERTIFICATE_FILE),
        };
        let file = file.display();
        if rejection == Rejection::Missing {
            return write!(
                f,
                "{server} asks for a client certificate and got none: it takes no key of the kind of {file}; \
                 `selium cert issue` makes those that it takes (ECDSA P-256)"
            );
        }
        write!(
            f,
            "{server} does not accept the client certificate in {file}: "
        )?;
        match rejection {
            Rejection::UnknownCa => self.other_ca(f),
            Rejection::Expired => self.expired(f),
            Rejection::Revoked => {
                f.write_str("it was revoked; ask whoever runs the server for a new one")
            }
            rejection => self.unusable(f, rejection),
        }
    }

    fn other_ca(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown.as_ref().and_then(|shown| shown.issuer.as_ref()) {
            Some(issuer) => write!(f, "its CA, {issuer:?}, is not trusted on this port")?,
            None => f.write_str("its CA is not trusted on this port")?,
        }
        f.write_str(
            "; each role has its own port and CA: check the port, or use a certificate of its role. \
             If the server's CAs were changed, `selium server install` has to be run again there",
        )
    }

    /// The alert is the same for both ends of a certificate's life.
    fn expired(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.at.as_secs();
        let Some((begin, end)) = self.shown.as_ref().and_then(|shown| shown.validity) else {
            return write!(
                f,
                "it has expired or is not valid yet; {RENEW}. Check the clocks of both machines, too"
            );
        };
        let (begins, ends) = (Moment(begin), Moment(end));
        if now > end {
            write!(f, "it expired on {ends} ({} ago); {RENEW}", Span(now - end))
        } else if now < begin {
            write!(
                f,
                "it is not valid before {begins} (in {}); check the clock of this machine, and of the one that made it",
                Span(begin - now)
            )
        } else {
            write!(
                f,
                "the server takes it for expired or not valid yet, but by the clock of this machine it is valid (from \
                 {begins} to {ends}); check the clocks of both machines"
            )
        }
    }

    fn unusable(&self, f: &mut fmt::Formatter<'_>, rejection: Rejection) -> fmt::Result {
        f.write_str(match self.shown.as_ref().and_then(|shown| shown.purpose) {
            Some(Purpose::Server) => "it is a server's certificate",
            Some(Purpose::Authority) => "it is a CA's certificate",
            _ if rejection == Rejection::WrongUse => "it is not a client's certificate",
            _ => "it cannot be used (`selium cert status` may tell why)",
        })?;
        f.write_str(
            "; `selium cert issue NAME` where the CAs are makes a client's, `selium cert import` puts it here",
        )
    }
}

/// How to come by a certificate that has not expired.
const RENEW: &str =
    "`selium cert renew NAME` where the CAs are makes a new one, `selium cert import` puts it here";

/// Seconds as people say them: two days, not 172,801 s.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.0 {
            seconds @ 0..120 => (seconds, "second"),
            seconds @ 120..7_200 => (seconds / 60, "minute"),
            seconds @ 7_200..172_800 => (seconds / 3_600, "hour"),
            seconds => (seconds / 86_400, "day"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
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
                 the server's certificate, or check that this is the right server; with certificates of `selium cert` \
                 the server has to be one that `selium server install` made",
                self.ca.display()
            ),
            Cause::Expired => write!(
                f,
                "the certificate of {server} has expired: renew it there (`selium cert renew`, then `selium server \
                 install` again) and restart the runtime"
            ),
            Cause::NotYetValid => write!(
                f,
                "the certificate of {server} is not valid yet: check the clocks of both machines"
            ),
            Cause::WrongName => write!(
                f,
                "the certificate of {server} is not valid for the name `{name}`: connect by a domain that it is made \
                 for (the server routes connections by the same name), or renew it there with this name too (`selium cert \
                 renew server --server-name ...` with all its names, then `selium server install` again)"
            ),
            Cause::WrongUse => write!(
                f,
                "the certificate of {server} is not one for servers, perhaps a client's: give it one that is (`selium \
                 cert renew server`, then `selium server install` again), or check that this is the right server"
            ),
            Cause::BadServerCertificate => write!(
                f,
                "the certificate of {server} cannot be used: `selium cert status` there tells why, `selium cert renew` \
                 makes a new one (and `selium-runtime generate-certs` all of them)"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_as_people_do() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7_199, "119 minutes"),
            (7_200, "2 hours"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
            (u64::MAX, "213503982334601 days"),
        ] {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}
