//! What a client's own certificate says, for the text that explains a refusal.
//!
//! TLS alerts are coarse: one stands for "expired" and "not valid yet", and none tells when. So the client looks at what
//! it showed, with the code that servers judge by (rustls): asked at the beginning of time, it says from when on a
//! certificate is valid; asked at the end, until when; asked in between, what else it finds wrong with it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CertificateError, ExtendedKeyPurpose, RootCertStore, crypto::ring, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// The most characters of an issuer's name that are kept.
const MAX_ISSUER: usize = 64;

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Showing it as a client.
    Client,
    /// Showing it as a server, and not as a client.
    Server,
    /// Issuing other certificates.
    Authority,
    /// Neither showing it as a client nor as a server.
    Other,
}

/// What the certificate says that a client shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShownCertificate {
    /// Its file.
    pub path: PathBuf,
    /// The first and the last second in which it and its intermediates are valid, since the Unix epoch; nothing if
    /// there is none.
    pub validity: Option<(u64, u64)>,
    /// What it may be used for; nothing if it is unusable in another way.
    pub purpose: Option<Purpose>,
    /// The common name of its issuer (or its organisation), of which 64 characters are kept. It is from the
    /// certificate: whoever shows it has to escape it.
    pub issuer: Option<String>,
}

impl ShownCertificate {
    pub(crate) fn of(path: &Path, chain: &[CertificateDer<'static>]) -> Self {
        let leaf = chain.first();
        let mut all = chain.iter().map(validity);
        let first = all.next().flatten();
        let validity = all.fold(first, |so_far, next| {
            let ((begin, end), (from, until)) = (so_far?, next?);
            Some((begin.max(from), end.min(until)))
        });
        Self {
            path: path.to_owned(),
            validity: validity.filter(|(begin, end)| begin <= end),
            purpose: leaf.and_then(purpose),
            issuer: leaf.and_then(|der| issuer(der)),
        }
    }
}

/// What a server that knows the issuer would find wrong with a certificate at this time. Servers judge validity, then
/// use, then issuer.
fn judge(der: &CertificateDer<'static>, at: u64) -> Result<(), CertificateError> {
    let damaged = |_| CertificateError::BadEncoding;
    // Something has to be trusted. This issued nothing but perhaps itself, so that no signature is computed for it.
    let mut roots = RootCertStore::empty();
    roots.add(der.clone()).map_err(damaged)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|_| CertificateError::BadEncoding)?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    match verifier.verify_client_cert(der, &[], at) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Ok(()),
        Err(rustls::Error::InvalidCertificate(error)) => Err(error),
        Err(error) => Err(damaged(error)),
    }
}

/// The first and the last second in which a certificate is valid.
fn validity(der: &CertificateDer<'static>) -> Option<(u64, u64)> {
    let begin = match judge(der, 0) {
        Err(CertificateError::NotValidYetContext { not_before, .. }) => not_before.as_secs(),
        Err(CertificateError::ExpiredContext { .. } | CertificateError::BadEncoding) => {
            return None;
        }
        // It was valid in 1970.
        _ => 0,
    };
    match judge(der, u64::MAX) {
        Err(CertificateError::ExpiredContext { not_after, .. }) => {
            Some((begin, not_after.as_secs()))
        }
        _ => None,
    }
}

fn purpose(der: &CertificateDer<'static>) -> Option<Purpose> {
    let (begin, _) = validity(der)?;
    match judge(der, begin) {
        Ok(()) => Some(Purpose::Client),
        Err(CertificateError::InvalidPurposeContext { presented, .. }) => {
            match presented.contains(&ExtendedKeyPurpose::ServerAuth) {
                true => Some(Purpose::Server),
                false => Some(Purpose::Other),
            }
        }
        // webpki's words; its errors cannot be named from here.
        Err(error) if error_says(&error, "CaUsedAsEndEntity") => Some(Purpose::Authority),
        Err(_) => None,
    }
}

fn error_says(error: &CertificateError, word: &str) -> bool {
    matches!(error, CertificateError::Other(other) if other.to_string().contains(word))
}

/// DER's tags, as far as they lead to an issuer.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const VERSION: u8 = 0xa0;
}

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

/// The issuer's common name, or its organisation.
fn issuer(der: &[u8]) -> Option<String> {
    let (certificate, _) = element(der, tag::SEQUENCE)?;
    let (mut fields, _) = element(certificate, tag::SEQUENCE)?;
    if let Some((_, rest)) = element(fields, tag::VERSION) {
        fields = rest;
    }
    let (_serial, fields) = element(fields, tag::INTEGER)?;
    let (_algorithm, fields) = element(fields, tag::SEQUENCE)?;
    let (mut name, _) = element(fields, tag::SEQUENCE)?;
    let mut organisation = None;
    while let Some((mut set, rest)) = element(name, tag::SET) {
        while let Some((pair, others)) = element(set, tag::SEQUENCE) {
            let (kind, text) = element(pair, tag::OID)?;
            let (_, text, _) = any_element(text)?;
            let text = || std::str::from_utf8(text).ok();
            match kind {
                COMMON_NAME => return text().map(shortened),
                ORGANISATION => organisation = text(),
                _ => {}
            }
            set = others;
        }
        name = rest;
    }
    organisation.map(shortened)
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_ISSUER).collect()
}

/// The contents of the first element, which must have this tag, and what follows it.
fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, contents, rest) = any_element(der)?;
    (tag == wanted).then_some((contents, rest))
}

/// Tag and contents of the first element, and what follows it.
fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // Files have a MiB at most, which three bytes can tell.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let value = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (value, rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// A time in seconds since the Unix epoch, shown as RFC 3339 has it, in UTC: `2026-11-20T10:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0 / 86_400);
        let of_day = self.0 % 86_400;
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
///
/// Years are taken to begin in March, so that the leap day is their last; 400 of them always have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = match from_march {
        0..=9 => from_march + 3,
        _ => from_march - 9,
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
        ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    /// 2026-01-01.
    const BEGIN: u64 = 1_767_225_600;
    const DAY: u64 = 86_400;

    fn ca(change: impl FnOnce(&mut DistinguishedName)) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        change(&mut params.distinguished_name);
        params.not_before = date_time_ymd(2025, 12, 1);
        params.not_after = date_time_ymd(2026, 3, 1);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(
        ca: &CertifiedIssuer<'static, KeyPair>,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 31);
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, ca).unwrap().der().clone()
    }

    fn named(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        ca(|made| made.push(DnType::CommonName, name))
    }

    fn look(chain: &[CertificateDer<'static>]) -> ShownCertificate {
        ShownCertificate::of(Path::new("client.crt"), chain)
    }

    #[test]
    fn certificates_are_looked_at() {
        use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
        let ca = named("viewer CA");
        let window = Some((BEGIN, BEGIN + 30 * DAY));
        for (usages, purpose) in [
            (&[ClientAuth][..], Purpose::Client),
            (&[], Purpose::Client),
            (&[ServerAuth, ClientAuth], Purpose::Client),
            (&[ServerAuth], Purpose::Server),
            (&[CodeSigning], Purpose::Other),
        ] {
            let shown = look(&[leaf(&ca, usages)]);
            assert_eq!(
                (shown.validity, shown.purpose, shown.issuer.as_deref()),
                (window, Some(purpose), Some("viewer CA"))
            );
        }
        // A CA's own: self-signed. It counts as an intermediate too.
        let own = look(&[ca.der().clone()]);
        assert_eq!(own.purpose, Some(Purpose::Authority));
        assert_eq!(own.validity, Some((BEGIN - 31 * DAY, BEGIN + 59 * DAY)));
        let both = look(&[ca.der().clone(), leaf(&ca, &[])]);
        assert_eq!(
            (both.validity, both.purpose),
            (window, Some(Purpose::Authority))
        );
        let none = look(&[CertificateDer::from(vec![0x30, 0])]);
        assert_eq!(
            (none.validity, none.purpose, none.issuer),
            (None, None, None)
        );
        assert_eq!(look(&[]).validity, None);
    }

    #[test]
    fn a_life_that_is_none_or_began_before_1970_is_looked_at() {
        let ca = named("ca");
        let mut params = CertificateParams::new(vec![]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2026, 2, 1), date_time_ymd(2026, 1, 1));
        let key = KeyPair::generate().unwrap();
        let backwards = params.signed_by(&key, &ca).unwrap().der().clone();
        assert_eq!(look(&[backwards]).validity, None);
        params.not_before = date_time_ymd(1969, 1, 1);
        let old = params.signed_by(&key, &ca).unwrap().der().clone();
        // webpki takes such a time for none.
        assert_eq!(look(&[old]).validity, None);
        params.not_before = date_time_ymd(1970, 1, 1);
        let first = params.signed_by(&key, &ca).unwrap().der().clone();
        assert_eq!(look(&[first]).validity, Some((0, BEGIN)));
    }

    #[test]
    fn issuers_are_named_as_well_as_can_be() {
        let issuer_of = |ca: &CertifiedIssuer<'static, KeyPair>| look(&[leaf(ca, &[])]).issuer;
        let organisation = ca(|name| name.push(DnType::OrganizationName, "Example"));
        assert_eq!(issuer_of(&organisation).as_deref(), Some("Example"));
        let both = ca(|name| {
            name.push(DnType::OrganizationName, "Example");
            name.push(DnType::CommonName, "ops");
        });
        assert_eq!(issuer_of(&both).as_deref(), Some("ops"));
        let country = ca(|name| name.push(DnType::CountryName, "DE"));
        assert_eq!(issuer_of(&country), None);
        let long = named(&"ü".repeat(500));
        assert_eq!(issuer_of(&long), Some("ü".repeat(MAX_ISSUER)));
    }

    #[test]
    fn damaged_certificates_are_looked_at_too() {
        let good = leaf(&named("ca"), &[]);
        for end in 0..good.len() {
            look(&[CertificateDer::from(good[..end].to_vec())]);
        }
        for at in 0..good.len() {
            for byte in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut bad = good.to_vec();
                bad[at] = byte;
                look(&[CertificateDer::from(bad)]);
            }
        }
    }

    #[test]
    fn moments_are_shown() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (BEGIN, "2026-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment(seconds).to_string(), text);
        }
        assert!(!Moment(u64::MAX).to_string().is_empty());
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut previous = civil(0);
        for day in 1..200_000 {
            let next = civil(day);
            assert!(
                next > previous && next.1 <= 12 && next.2 <= 31,
                "{previous:?} {next:?}"
            );
            let carried = next.2 == 1 && (next.1 == previous.1 + 1 || next.1 == 1);
            assert!(carried || next == (previous.0, previous.1, previous.2 + 1));
            previous = next;
        }
    }
}
