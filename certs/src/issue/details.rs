//! What a certificate says.

use std::{fmt::Write as _, net::IpAddr, path::Path};

use ring::digest;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    public_key::PublicKey,
};

use crate::CertificateWarning;
use crate::file::{self, Secret};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// How long before its end a CA is due: its successor must be spread before the last certificates of it are issued.
const CA_DUE: i64 = 365 * DAY;

/// Where in its life a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It is not valid yet.
    NotYet,
    /// It is valid, and no renewal is due.
    Fresh,
    /// It is valid, with less than a third of its lifetime left (a CA: less than a year).
    Due,
    /// It is not valid any more.
    Expired,
}

/// What a certificate says. The texts are from the certificate: whoever shows them has to escape them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// Whom it is for.
    pub subject: String,
    /// The common name in the subject.
    pub common_name: Option<String>,
    /// Who issued it.
    pub issuer: String,
    /// Its number, in hexadecimal digits.
    pub serial: String,
    /// From when on it is valid, in seconds since the Unix epoch.
    pub not_before: i64,
    /// The last second in which it is valid.
    pub not_after: i64,
    /// The DNS names.
    pub dns: Vec<String>,
    /// The IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it may issue others.
    pub is_ca: bool,
    /// What it may be used for in TLS: `server`, `client`, `any`, `other`; nothing means that it does not say.
    pub usages: Vec<&'static str>,
    /// The kind of its key.
    pub key: String,
    /// The subject key identifier, in hexadecimal digits.
    pub key_id: Option<String>,
    /// The key identifier of its issuer, in hexadecimal digits.
    pub authority_key_id: Option<String>,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal digits.
    pub key_fingerprint: String,
    /// The public key (SubjectPublicKeyInfo).
    pub(super) public_key: Vec<u8>,
    /// Whether it names itself as its issuer.
    pub(super) is_self_issued: bool,
}

impl Details {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("there are bytes behind its end".to_owned());
        }
        let mut details = Self {
            subject: certificate.subject().to_string(),
            common_name: common_name(&certificate),
            issuer: certificate.issuer().to_string(),
            serial: hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            dns: Vec::new(),
            addresses: Vec::new(),
            is_ca: certificate.is_ca(),
            usages: Vec::new(),
            key: key_kind(&certificate),
            key_id: None,
            authority_key_id: None,
            fingerprint: sha256(der),
            key_fingerprint: sha256(certificate.public_key().raw),
            public_key: certificate.public_key().raw.to_owned(),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        };
        for extension in certificate.iter_extensions() {
            details.extension(extension.parsed_extension());
        }
        Ok(details)
    }

    fn extension(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::SubjectKeyIdentifier(id) => self.key_id = Some(hex(id.0)),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| hex(id.0));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
                        GeneralName::IPAddress(bytes) => self.addresses.extend(address(bytes)),
                        _ => {}
                    }
                }
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let known = [
                    (usage.server_auth, "server"),
                    (usage.client_auth, "client"),
                    (usage.any, "any"),
                ];
                self.usages
                    .extend(known.iter().filter(|(is, _)| *is).map(|(_, name)| *name));
                if self.usages.is_empty() {
                    self.usages.push("other");
                }
            }
            _ => {}
        }
    }

    /// Where in its life it is.
    #[must_use]
    pub fn age(&self, now: UnixTime) -> Age {
        let now = seconds(now);
        let left = self.not_after.saturating_sub(now);
        let lifetime = self.not_after.saturating_sub(self.not_before);
        if now < self.not_before {
            Age::NotYet
        } else if left < 0 {
            Age::Expired
        } else if (self.is_ca && left < CA_DUE.min(lifetime / 3))
            || (!self.is_ca && left < lifetime / 3)
        {
            Age::Due
        } else {
            Age::Fresh
        }
    }

    /// All names that clients may dial.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        self.dns.iter().cloned().chain(addresses).collect()
    }
}

/// What is known of a private key without showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyDetails {
    /// SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal digits.
    pub fingerprint: String,
    /// The public key (SubjectPublicKeyInfo).
    pub(super) public_key: Vec<u8>,
}

impl KeyDetails {
    pub(super) fn of(key: &Secret) -> Result<Self, String> {
        let key = rustls::crypto::ring::sign::any_supported_type(key)
            .map_err(|error| error.to_string())?;
        let public_key = key.public_key().ok_or("its kind is not known")?;
        Ok(Self {
            fingerprint: sha256(&public_key),
            public_key: public_key.to_vec(),
        })
    }
}

/// A certificate file's contents: the certificates with what they say.
pub(super) type Chain = Vec<(CertificateDer<'static>, Details)>;

/// Reads a certificate file, and what its certificates say.
pub(super) fn chain(path: &Path) -> Result<Chain, String> {
    let certificates = file::certificates(path).map_err(|error| super::error::fact(&error))?;
    certificates
        .into_iter()
        .map(|der| match Details::parse(&der) {
            Ok(details) => Ok((der, details)),
            Err(why) => Err(format!(
                "a certificate in {} is damaged ({why})",
                path.display()
            )),
        })
        .collect()
}

/// The first certificate of a chain.
pub(super) fn leaf(chain: &Chain) -> Option<&Details> {
    chain.first().map(|(_, details)| details)
}

/// Reads a private key's file, and a warning when others may read it.
pub(super) fn key(path: &Path) -> Result<(Secret, KeyDetails, Option<CertificateWarning>), String> {
    let (key, warning) = file::private_key(path).map_err(|error| super::error::fact(&error))?;
    let details = KeyDetails::of(&key).map_err(|why| {
        format!(
            "the private key in {} cannot be used ({why})",
            path.display()
        )
    })?;
    Ok((key, details, warning))
}

fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(ToOwned::to_owned)
}

fn key_kind(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed() {
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => "ECDSA P-256".to_owned(),
            384 => "ECDSA P-384".to_owned(),
            size => format!("elliptic curve of {size} bits"),
        },
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        _ => match certificate.public_key().algorithm.algorithm.to_id_string() {
            id if id == "1.3.101.112" => "Ed25519".to_owned(),
            id => format!("algorithm {id}"),
        },
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Seconds since the Unix epoch.
pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
