//! Making certificates, and looking into them: what `selium cert` consists of.
//!
//! # Where things are
//!
//! | folder (all 0700) | file | what |
//! | --- | --- | --- |
//! | `certs/` | `ca.crt` | the CA of the control plane's server: what clients trust |
//! | | `client.crt`, `client.key` | the first client, of the role admin |
//! | | `server.crt`, `server.key` | the runtime's own, of a CA that nothing else here trusts |
//! | `control-plane/` | `server.crt`, `server.key` | what the control plane's server shows: for `selium server install` |
//! | | `clients-ROLE.crt` | the CAs whose clients have that role |
//! | `clients/NAME/` | `ca.crt`, `client.crt`, `client.key` | what `issue` makes, until it is handed over |
//! | `authority/` | `server-ca.*`, `runtime-ca.*`, `ROLE-ca.*` | the CAs: certificates and **private keys** |
//! | | `issued/NAME.crt` | a copy of every certificate that was issued |
//!
//! `certs/` is what the documented commands of runtime and client read. Any guest may use the key in
//! `certs/server.key`, because the runtime lets guests listen with it; this is why the control plane's server has
//! another key, of another CA. `authority/` is read by nothing but these functions, and may be kept elsewhere.
//!
//! # What is made
//!
//! ECDSA P-256 keys; CAs for ten years, which issue no other CAs; certificates for 90 days by default, valid from five
//! minutes ago. Serial numbers are random. A server's certificate is for servers only and always names `localhost`,
//! `127.0.0.1` and `::1`; a client's is for clients only. Keys have the mode 0600 whatever the umask is, certificates
//! 0644 less the umask. Nothing is replaced unless that is asked for; what is renewed keeps owner and mode.
//!
//! # A role is a CA
//!
//! The runtime tells the control plane nothing about a client but the port that it came to, so that the CA decides what
//! a client may do. There is no revocation: a certificate that must not be used any more is waited out, or its role
//! gets a new CA.
//!
//! # A new CA without a gap
//!
//! A file of CAs may have several. For a role: move `ROLE-ca.crt` and `ROLE-ca.key` out of `authority/`; the next
//! [`Layout::issue`] for that role makes a new CA and adds it to `control-plane/clients-ROLE.crt`, where both are then
//! trusted; when everybody has a new certificate, take the old one out. For the server: add the new CA to every
//! client's `ca.crt`, then let the server show its new certificate, then take the old CA out.
//!
//! All functions take the time from their caller, block on the file system, and never put anything of a private key
//! into an error or a result.

mod authority;
mod bundle;
mod details;
mod error;
mod init;
mod list;
mod name;
mod renew;
mod server;
mod status;
mod verify;
mod write;

use std::path::{Path, PathBuf};

use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

pub use authority::{BACKDATED, CA_DAYS, DEFAULT_DAYS, MAX_DAYS};
pub use bundle::{Bundle, Import, import};
pub use details::{Age, Details, KeyDetails};
pub use error::IssueError;
pub use init::{Init, Issue};
pub use list::{Entry, MAX_ENTRIES};
pub use name::{Host, MAX_HOSTS, MAX_NAME, MAX_ROLE, Name, NameError, Role};
pub use renew::Renew;
pub use server::{Certificates, ServerIdentity};
pub use status::{Check, Contents, Item, Status, Verdict, inspect};
pub use verify::Refusal;

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    work: PathBuf,
    certs: PathBuf,
    authority: PathBuf,
}

/// What an operation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The files that were written, in that order.
    pub files: Vec<PathBuf>,
    /// The certificates that were issued or taken over.
    pub certificates: Vec<Details>,
    /// What should be known.
    pub notes: Vec<String>,
    /// What should be put right.
    pub warnings: Vec<String>,
    /// What should have been done and could not be.
    pub failures: Vec<String>,
}

impl Layout {
    /// The usual places under a folder, which is the work dir of a runtime.
    #[must_use]
    pub fn new(work: impl Into<PathBuf>) -> Self {
        let work = plain(work.into());
        Self {
            certs: work.join("certs"),
            authority: work.join("authority"),
            work,
        }
    }

    /// With the CAs elsewhere.
    #[must_use]
    pub fn with_authority(self, authority: impl Into<PathBuf>) -> Self {
        let authority = authority.into();
        Self { authority, ..self }
    }

    /// With the clients' directory elsewhere. The rest is not about it then, so that [`Layout::status`] looks at nothing
    /// else.
    #[must_use]
    pub fn with_certs(self, certs: impl Into<PathBuf>) -> Self {
        let certs = plain(certs.into());
        Self { certs, ..self }
    }

    /// What runtime and clients read.
    #[must_use]
    pub fn certs(&self) -> &Path {
        &self.certs
    }

    /// What the control plane's server is provisioned with.
    #[must_use]
    pub fn control_plane(&self) -> PathBuf {
        self.work.join("control-plane")
    }

    /// Where the CAs are.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Where `issue` puts what it makes for somebody.
    #[must_use]
    pub fn client(&self, name: &Name) -> PathBuf {
        self.work.join("clients").join(name.as_str())
    }

    /// Whether the clients' directory belongs to the rest.
    fn is_whole(&self) -> bool {
        let usual = self.work.join("certs");
        let same = |a: &Path, b: &Path| {
            let (a, b) = (a.canonicalize().ok(), b.canonicalize().ok());
            a.is_some() && a == b
        };
        self.certs == usual || same(&self.certs, &usual)
    }

    fn clients(&self) -> PathBuf {
        self.work.join("clients")
    }

    /// The CAs whose clients have a role.
    #[must_use]
    pub fn clients_of(&self, role: &Role) -> PathBuf {
        self.control_plane().join(format!("clients-{role}.crt"))
    }

    fn issued(&self) -> PathBuf {
        self.authority.join("issued")
    }

    fn copy(&self, name: &Name) -> PathBuf {
        self.issued().join(format!("{name}.crt"))
    }
}

/// The path without `./` in front, which reads better.
fn plain(path: PathBuf) -> PathBuf {
    path.strip_prefix(".").map(Path::to_owned).unwrap_or(path)
}

/// The name of the file with a server's certificates.
pub const SERVER_CERTIFICATE_FILE: &str = "server.crt";

/// The name of the file with a server's private key.
pub const SERVER_KEY_FILE: &str = "server.key";

/// The stem of the files of the server's CA.
const SERVER_CA: &str = "server";

/// The stem of the files of the runtime's CA.
const RUNTIME_CA: &str = "runtime";

/// A certificate as text.
fn pem_certificate(der: &[u8]) -> String {
    let mut out = String::new();
    encode(&mut out, "CERTIFICATE", der);
    out
}

/// A private key as text.
fn pem_key(key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    // Room for all of it from the start: a text that grows leaves copies behind.
    let mut out = Zeroizing::new(String::with_capacity(2 * key.secret_der().len() + 128));
    encode(&mut out, label, key.secret_der());
    out
}

/// PEM: base64 in lines of 64.
fn encode(out: &mut String, label: &str, der: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |index: u32| {
        let digit = usize::try_from(index & 63)
            .ok()
            .and_then(|index| DIGITS.get(index));
        digit.map_or('A', |digit| char::from(*digit))
    };
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let at = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for place in 0..4_usize {
                let shift = 18 - 6 * place;
                out.push(match place > group.len() {
                    true => '=',
                    false => digit(bits >> shift),
                });
            }
        }
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;

    #[test]
    fn text_of_any_length_is_read_back() {
        for length in (0..200).chain([4_095, 4_096]) {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7 % 256) as u8).collect();
            let text = pem_certificate(&bytes);
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(read.as_ref(), bytes, "{length}");
            assert!(text.lines().all(|line| line.len() <= 64));
        }
    }

    #[test]
    fn the_places_are_the_documented_ones() {
        let layout = Layout::new(".");
        assert_eq!(layout.certs(), Path::new("certs"));
        assert_eq!(layout.authority(), Path::new("authority"));
        let layout = Layout::new("./work").with_certs("./work/certs/");
        assert_eq!(layout.certs(), Path::new("work/certs"));
        assert!(layout.is_whole());
        let layout = Layout::new("w").with_authority("/safe");
        assert_eq!(layout.control_plane(), Path::new("w/control-plane"));
        assert_eq!(
            layout.clients_of(&Role::admin()),
            Path::new("w/control-plane/clients-admin.crt")
        );
        assert_eq!(layout.client(&Name::admin()), Path::new("w/clients/admin"));
        assert_eq!(
            layout.copy(&Name::admin()),
            Path::new("/safe/issued/admin.crt")
        );
    }
}
