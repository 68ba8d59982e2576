//! Certificates as they should not be: of another CA, for another time, for another use. And finding keys where none
//! should be.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};

const HOUR: Duration = Duration::from_secs(3_600);

/// When something is valid, by this machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// From here on.
    pub begin: SystemTime,
    /// Up to here.
    pub end: SystemTime,
}

impl Life {
    /// From an hour ago on, for so long from now on. Certificates know whole seconds: the end is rounded down.
    #[must_use]
    pub fn left(left: Duration) -> Self {
        let now = SystemTime::now();
        let end = since_epoch(now + left).as_secs();
        Self {
            begin: now - HOUR,
            end: SystemTime::UNIX_EPOCH + Duration::from_secs(end),
        }
    }

    /// A day from an hour ago on.
    #[must_use]
    pub fn present() -> Self {
        Self::left(24 * HOUR)
    }

    /// A day that ended an hour ago.
    #[must_use]
    pub fn past() -> Self {
        let now = SystemTime::now();
        Self {
            begin: now - 25 * HOUR,
            end: now - HOUR,
        }
    }

    /// A day that begins in an hour.
    #[must_use]
    pub fn future() -> Self {
        let now = SystemTime::now();
        Self {
            begin: now + HOUR,
            end: now + 25 * HOUR,
        }
    }

    fn set(self, params: &mut CertificateParams) {
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(since_epoch(self.begin).as_secs());
        params.not_after = epoch + Duration::from_secs(since_epoch(self.end).as_secs());
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
}

/// A CA that issues whatever it is told to.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::living(name, Life::present())
    }

    /// A new one with a life of its own.
    #[must_use]
    pub fn living(name: &str, life: Life) -> Self {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        life.set(&mut params);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// The one that `selium cert` made for a role in a work dir; `server` and `runtime` are those of the servers.
    #[must_use]
    pub fn of(work: &Path, role: &str) -> Self {
        let file = |kind: &str| {
            let path = work.join("authority").join(format!("{role}-ca.{kind}"));
            std::fs::read_to_string(path).expect("the CA's files")
        };
        let pem = file("crt");
        let key = KeyPair::from_pem(&file("key")).expect("the CA's key");
        Self {
            issuer: Issuer::from_ca_cert_pem(&pem, key).expect("the CA"),
            pem,
        }
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A client's certificate and its key, in PEM.
    #[must_use]
    pub fn client(&self, life: Life) -> [String; 2] {
        self.issue(&["client"], life, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A server's certificate for these names and its key, in PEM.
    #[must_use]
    pub fn server(&self, names: &[&str], life: Life) -> [String; 2] {
        self.issue(names, life, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn issue(&self, names: &[&str], life: Life, usage: ExtendedKeyUsagePurpose) -> [String; 2] {
        let hosts: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("parameters");
        params
            .distinguished_name
            .push(DnType::CommonName, names.concat());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        life.set(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer);
        [
            certificate.expect("a certificate").pem(),
            key.serialize_pem(),
        ]
    }
}

/// Fills a client's certificate directory; the key is 0600.
pub fn fill(directory: &Path, ca: &str, [certificate, key]: [String; 2]) {
    write(directory, "ca.crt", ca);
    write(directory, "client.crt", &certificate);
    write(directory, "client.key", &key);
}

/// Writes a file of a certificate directory, keys 0600.
pub fn write(directory: &Path, name: &str, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::create_dir_all(directory).expect("a directory");
    let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let file = options.open(directory.join(name));
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("writes");
}

/// The private keys below a folder, in every form in which they could leak.
#[derive(Debug)]
pub struct Secrets {
    secrets: Vec<Secret>,
}

/// A key: where it is from, and what it looks like.
struct Secret {
    file: String,
    forms: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)
    }
}

impl Secrets {
    /// All `*.key` below a folder: private keys in PEM, and audit keys in hexadecimal digits.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        let mut secrets = Vec::new();
        for path in files(folder) {
            if path.extension().is_some_and(|kind| kind == "key") {
                let text = std::fs::read_to_string(&path).expect("a key");
                secrets.push(Secret {
                    file: path.display().to_string(),
                    forms: forms(&text),
                });
            }
        }
        Self { secrets }
    }

    /// Looks for this text too.
    pub fn add(&mut self, what: &str, text: &[u8]) {
        self.secrets.push(Secret {
            file: what.to_owned(),
            forms: vec![text.to_vec()],
        });
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether there are none: then nothing can be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The files of the keys that stand in these bytes.
    #[must_use]
    pub fn within(&self, bytes: &[u8]) -> Vec<&str> {
        let found = self.secrets.iter().filter(|it| it.is_in(bytes));
        found.map(|it| &*it.file).collect()
    }
}

impl Secret {
    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| contains(bytes, form))
    }
}

/// All files below a folder. Links are not followed.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            all.extend(files(&entry.path()));
        } else if kind.is_file() {
            all.push(entry.path());
        }
    }
    all
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    // By the first byte, which is quick in large files.
    let first = form[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(form) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// What a key could be known by: its bytes, as text of any kind, and the lines of its file that have some of it.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    let secret = match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => {
            // ECPrivateKey: version 1, then 32 bytes. What follows is the public key.
            const BEFORE: [u8; 5] = [2, 1, 1, 4, 32];
            let der = key.secret_der();
            let at = der.windows(5).position(|window| window == BEFORE);
            let at = at.expect("a key of ECDSA P-256") + 5;
            // 48 bytes a line.
            let lines = text
                .lines()
                .skip(1 + at / 48)
                .take(1 + (at + 31) / 48 - at / 48);
            forms.extend(lines.map(|line| line.as_bytes().to_vec()));
            der[at..at + 32].to_vec()
        }
        Err(_) => {
            let digits = text.trim_end().as_bytes();
            let pairs = digits.chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair).expect("digits");
                u8::from_str_radix(pair, 16).expect("hexadecimal digits")
            });
            pairs.collect()
        }
    };
    assert_eq!(secret.len(), 32);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push(hex.to_uppercase().into_bytes());
    forms.push(hex.into_bytes());
    // As Rust's `Debug` and JSON write lists.
    for between in [", ", ","] {
        let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
        forms.push(numbers.join(between).into_bytes());
    }
    // Base64 of bytes among which it begins at any place; the digits at both ends have bits of its neighbours.
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(&secret);
        let digits = base64(&bytes);
        forms.push(digits[4..40].to_vec());
    }
    forms.push(secret);
    forms
}

/// Whole groups of three bytes only.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).flat_map(|group| {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift) as usize & 63])
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_every_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let [certificate, key] = Authority::new("ca").client(Life::present());
        write(&folder.path().join("deep"), "client.key", &key);
        let audit: String = (0..32).map(|byte| format!("{:02x}", byte * 7)).collect();
        write(folder.path(), "audit.key", &format!("{audit}\n"));
        let secrets = Secrets::below(folder.path());
        assert_eq!(secrets.len(), 2);
        assert!(secrets.within(certificate.as_bytes()).is_empty());
        for line in key.lines().skip(1).take(2) {
            assert_eq!(secrets.within(format!("x{line}").as_bytes()).len(), 1);
        }
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let der = der.secret_der();
        for bytes in [
            der.to_vec(),
            format!("{der:?}").into_bytes(),
            base64(der),
            base64(&der[1..]),
            base64(&der[2..]),
            serde_json::to_vec(der).expect("JSON"),
        ] {
            assert_eq!(secrets.within(&bytes).len(), 1);
            assert!(secrets.within(&bytes[..bytes.len() / 4]).is_empty());
        }
        assert_eq!(secrets.within(format!("key={audit}!").as_bytes()).len(), 1);
    }
}
