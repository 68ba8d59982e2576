//! What lies behind a QUIC connection's error, in terms of what a user can put right.
//!
//! QUIC carries TLS alerts as error codes 0x100 to 0x1ff. The same alert means different things on the two sides: sent
//! here, it is our verdict on the server's certificate; received, it is the server's verdict on ours, or on the name.

use quinn::ConnectionError;

/// What lies behind a connection's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Nobody answers: no server, another port, or UDP is blocked.
    NoAnswer,
    /// The server's certificate was not issued by a CA that is trusted here.
    UnknownIssuer,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet (or the clock here is wrong).
    NotYetValid,
    /// The server's certificate is for other names.
    WrongName,
    /// The server's certificate is not one for servers.
    WrongUse,
    /// The server's certificate is unusable in another way.
    BadServerCertificate,
    /// The server does not accept the certificate that was shown.
    Rejected(Rejection),
    /// The server has no certificate for, or routes nothing to, the name that was asked for.
    UnknownName,
    /// The server insists on an application protocol (ALPN): it is no control plane.
    ApplicationProtocol,
    /// The two sides have no version of QUIC or TLS in common.
    Version,
    /// The server refuses connections.
    Refused,
    /// The server closed the connection.
    Closed,
    /// The server does not know the connection (any more): it was restarted.
    Reset,
    /// Something else.
    Other,
}

/// What the server finds wrong with the client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// None was shown, and it wants one.
    Missing,
    /// It was not issued by the CA that the server trusts.
    UnknownCa,
    /// It has expired, or is not valid yet.
    Expired,
    /// It was revoked.
    Revoked,
    /// It is not a client's.
    WrongUse,
    /// It is unusable in another way.
    Unusable,
}

/// TLS alerts (RFC 8446, 6.2) that are told apart.
mod alert {
    pub(super) const HANDSHAKE_FAILURE: u8 = 40;
    pub(super) const BAD_CERTIFICATE: u8 = 42;
    pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(super) const CERTIFICATE_REVOKED: u8 = 44;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const CERTIFICATE_UNKNOWN: u8 = 46;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const ACCESS_DENIED: u8 = 49;
    pub(super) const DECRYPT_ERROR: u8 = 51;
    pub(super) const PROTOCOL_VERSION: u8 = 70;
    pub(super) const UNRECOGNIZED_NAME: u8 = 112;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

/// With this reason the runtime closes a connection whose name nobody has bound.
const UNROUTED: &[u8] = b"unrouted domain";

/// What lies behind `error`.
#[must_use]
pub fn cause(error: &ConnectionError) -> Cause {
    match error {
        ConnectionError::TimedOut => Cause::NoAnswer,
        ConnectionError::VersionMismatch => Cause::Version,
        ConnectionError::Reset => Cause::Reset,
        ConnectionError::TransportError(error) => match alert_of(error.code.into()) {
            Some(alert) => here(alert, &error.reason),
            None => Cause::Other,
        },
        ConnectionError::ConnectionClosed(close) => match alert_of(close.error_code.into()) {
            Some(alert) => there(alert),
            None if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED => {
                Cause::Refused
            }
            None => Cause::Closed,
        },
        ConnectionError::ApplicationClosed(close) if close.reason.starts_with(UNROUTED) => {
            Cause::UnknownName
        }
        ConnectionError::ApplicationClosed(_) => Cause::Closed,
        _ => Cause::Other,
    }
}

/// The TLS alert in a QUIC error code.
fn alert_of(code: u64) -> Option<u8> {
    code.checked_sub(0x100)
        .and_then(|alert| u8::try_from(alert).ok())
}

/// Our own verdict. The alert is coarse; rustls's words tell more.
fn here(alert: u8, reason: &str) -> Cause {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    match alert {
        // A CA that was made anew has the old one's name but another key: the signature is wrong then, not the issuer.
        alert::UNKNOWN_CA | alert::DECRYPT_ERROR => Cause::UnknownIssuer,
        alert::CERTIFICATE_EXPIRED if says(&["NotValidYet", "not valid yet"]) => Cause::NotYetValid,
        alert::CERTIFICATE_EXPIRED => Cause::Expired,
        _ if says(&["NotValidForName", "not valid for name"]) => Cause::WrongName,
        // What rustls makes of a wrong use; nothing else.
        alert::UNSUPPORTED_CERTIFICATE => Cause::WrongUse,
        alert::BAD_CERTIFICATE | alert::CERTIFICATE_REVOKED | alert::CERTIFICATE_UNKNOWN => {
            Cause::BadServerCertificate
        }
        alert::PROTOCOL_VERSION => Cause::Version,
        alert::NO_APPLICATION_PROTOCOL => Cause::ApplicationProtocol,
        _ => Cause::Other,
    }
}

/// The server's verdict.
fn there(alert: u8) -> Cause {
    match alert {
        alert::CERTIFICATE_REQUIRED => Cause::Rejected(Rejection::Missing),
        alert::UNKNOWN_CA | alert::DECRYPT_ERROR => Cause::Rejected(Rejection::UnknownCa),
        alert::CERTIFICATE_EXPIRED => Cause::Rejected(Rejection::Expired),
        alert::CERTIFICATE_REVOKED => Cause::Rejected(Rejection::Revoked),
        alert::UNSUPPORTED_CERTIFICATE => Cause::Rejected(Rejection::WrongUse),
        alert::BAD_CERTIFICATE | alert::CERTIFICATE_UNKNOWN => Cause::Rejected(Rejection::Unusable),
        // rustls says "access denied" when it has no certificate for the name, others "unrecognized name" or nothing
        // better than "handshake failure".
        alert::ACCESS_DENIED | alert::UNRECOGNIZED_NAME | alert::HANDSHAKE_FAILURE => {
            Cause::UnknownName
        }
        alert::NO_APPLICATION_PROTOCOL => Cause::ApplicationProtocol,
        alert::PROTOCOL_VERSION => Cause::Version,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::{ApplicationClose, ConnectionClose, TransportErrorCode};

    fn closed(alert: u8) -> Cause {
        cause(&ConnectionError::ConnectionClosed(ConnectionClose {
            error_code: TransportErrorCode::crypto(alert),
            frame_type: None,
            reason: bytes::Bytes::new(),
        }))
    }

    #[test]
    fn the_servers_verdicts_are_told_apart() {
        for (alert, expected) in [
            (116, Cause::Rejected(Rejection::Missing)),
            (48, Cause::Rejected(Rejection::UnknownCa)),
            (51, Cause::Rejected(Rejection::UnknownCa)),
            (45, Cause::Rejected(Rejection::Expired)),
            (44, Cause::Rejected(Rejection::Revoked)),
            (43, Cause::Rejected(Rejection::WrongUse)),
            (42, Cause::Rejected(Rejection::Unusable)),
            (46, Cause::Rejected(Rejection::Unusable)),
            (49, Cause::UnknownName),
            (112, Cause::UnknownName),
            (40, Cause::UnknownName),
            (120, Cause::ApplicationProtocol),
            (70, Cause::Version),
            (80, Cause::Other),
        ] {
            assert_eq!(closed(alert), expected, "alert {alert}");
        }
    }

    #[test]
    fn our_verdicts_are_told_apart() {
        for (alert, reason, expected) in [
            (48, "", Cause::UnknownIssuer),
            (51, "", Cause::UnknownIssuer),
            (45, "certificate expired: ...", Cause::Expired),
            (45, "certificate not valid yet: ...", Cause::NotYetValid),
            (42, "certificate not valid for name \"a\"", Cause::WrongName),
            (42, "BadEncoding", Cause::BadServerCertificate),
            (43, "", Cause::WrongUse),
            (44, "", Cause::BadServerCertificate),
            (46, "", Cause::BadServerCertificate),
            (120, "", Cause::ApplicationProtocol),
            (70, "", Cause::Version),
            (80, "", Cause::Other),
        ] {
            assert_eq!(here(alert, reason), expected, "alert {alert}");
        }
    }

    #[test]
    fn other_closings_are_told_apart() {
        let application = |reason: &'static [u8]| {
            cause(&ConnectionError::ApplicationClosed(ApplicationClose {
                error_code: 0u32.into(),
                reason: reason.into(),
            }))
        };
        assert_eq!(application(b"unrouted domain: x"), Cause::UnknownName);
        assert_eq!(application(b"bye"), Cause::Closed);
        assert_eq!(cause(&ConnectionError::TimedOut), Cause::NoAnswer);
        assert_eq!(cause(&ConnectionError::Reset), Cause::Reset);
        let refused = ConnectionError::ConnectionClosed(ConnectionClose {
            error_code: TransportErrorCode::CONNECTION_REFUSED,
            frame_type: None,
            reason: bytes::Bytes::new(),
        });
        assert_eq!(cause(&refused), Cause::Refused);
    }
}
