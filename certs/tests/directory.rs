//! Every way in which a certificate directory can be wrong, and what the error says.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use selium_remote_certs::{
    CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, CertificateDirectory, CertificateError,
    CertificateWarning, MAX_FILE, client_config,
};
use tempfile::TempDir;

/// A directory as `selium-runtime generate-certs` makes it.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let client = CertificateParams::new(vec!["client".to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        directory.write(CA_FILE, ca.pem());
        directory.write(CLIENT_CERTIFICATE_FILE, client.pem());
        directory.write(CLIENT_KEY_FILE, key.serialize_pem());
        directory.mode(CLIENT_KEY_FILE, 0o600);
        directory
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.file(name), text).unwrap();
    }

    #[cfg(unix)]
    fn mode(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    fn mode(&self, _name: &str, _mode: u32) {}

    fn error(&self) -> CertificateError {
        client_config(self.0.path()).unwrap_err()
    }
}

/// Every error says where, what is expected, and how to make it.
fn says_it(error: &CertificateError, path: &Path) {
    let text = error.to_string();
    for word in [
        path.to_str().unwrap(),
        "ca.crt, client.crt and client.key",
        "selium-runtime generate-certs --output-dir",
    ] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn a_good_directory_is_loaded() {
    let directory = Directory::new();
    let loaded = CertificateDirectory::load(directory.0.path()).unwrap();
    assert_eq!(loaded.warnings(), []);
    assert_eq!(loaded.ca_path(), directory.file(CA_FILE));
    let config = loaded.client_config().unwrap();
    assert!(
        config.alpn_protocols.is_empty(),
        "the runtime refuses clients with ALPN"
    );
    assert!(config.client_auth_cert_resolver.has_certs());
    assert!(!format!("{loaded:?}").contains("PRIVATE"));
}

#[test]
fn all_roots_are_trusted_and_other_sections_skipped() {
    let directory = Directory::new();
    let more = Directory::new();
    let both = [&directory, &more].map(|d| fs::read_to_string(d.file(CA_FILE)).unwrap());
    let params = "# a comment\n-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n";
    directory.write(CA_FILE, format!("{params}{}", both.concat()));
    assert!(client_config(directory.0.path()).is_ok());
}

#[test]
fn a_missing_directory_is_named() {
    let missing = tempfile::tempdir().unwrap().path().join("certs");
    let error = client_config(&missing).unwrap_err();
    assert!(
        matches!(error, CertificateError::DirectoryMissing { .. }),
        "{error}"
    );
    says_it(&error, &missing);
}

#[test]
fn a_file_is_no_directory() {
    let directory = Directory::new();
    let error = client_config(directory.file(CA_FILE)).unwrap_err();
    assert!(
        matches!(error, CertificateError::NotADirectory { .. }),
        "{error}"
    );
}

#[test]
fn each_missing_file_is_named() {
    for name in [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE] {
        let directory = Directory::new();
        fs::remove_file(directory.file(name)).unwrap();
        let error = directory.error();
        assert!(
            matches!(error, CertificateError::FileMissing { .. }),
            "{error}"
        );
        says_it(&error, &directory.file(name));
    }
}

#[test]
fn wrong_contents_are_told_apart() {
    type Expected = fn(&CertificateError) -> bool;
    let cases: [(&str, &[u8], Expected); 6] = [
        (CA_FILE, b" \n", |e| {
            matches!(e, CertificateError::Empty { .. })
        }),
        (CA_FILE, b"hello", |e| {
            matches!(e, CertificateError::Nothing { .. })
        }),
        (CLIENT_KEY_FILE, b"hello", |e| {
            matches!(e, CertificateError::Nothing { .. })
        }),
        (
            CLIENT_CERTIFICATE_FILE,
            b"-----BEGIN CERTIFICATE-----\nAAAA\n",
            |e| matches!(e, CertificateError::Pem { .. }),
        ),
        (
            CA_FILE,
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            |e| matches!(e, CertificateError::Certificate { .. }),
        ),
        (
            CLIENT_KEY_FILE,
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            |e| matches!(e, CertificateError::Key { .. }),
        ),
    ];
    for (name, contents, expected) in cases {
        let directory = Directory::new();
        directory.write(name, contents);
        let error = directory.error();
        assert!(expected(&error), "{name}: {error:?}");
        says_it(&error, &directory.file(name));
    }
}

#[test]
fn a_key_in_place_of_a_certificate_is_noticed() {
    let directory = Directory::new();
    let key = fs::read(directory.file(CLIENT_KEY_FILE)).unwrap();
    directory.write(CLIENT_CERTIFICATE_FILE, key);
    let error = directory.error();
    assert!(
        matches!(
            error,
            CertificateError::Nothing {
                expected: "certificate",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_encrypted_key_is_named_as_such() {
    let directory = Directory::new();
    directory.write(
        CLIENT_KEY_FILE,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let error = directory.error();
    assert!(
        matches!(error, CertificateError::EncryptedKey { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("openssl pkey"));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let directory = Directory::new();
    directory.write(
        CLIENT_KEY_FILE,
        KeyPair::generate().unwrap().serialize_pem(),
    );
    let error = directory.error();
    assert!(
        matches!(error, CertificateError::KeyMismatch { .. }),
        "{error}"
    );
    says_it(&error, &directory.file(CLIENT_CERTIFICATE_FILE));
}

#[test]
fn sizes_are_bounded() {
    let directory = Directory::new();
    directory.write(CA_FILE, vec![b'x'; MAX_FILE as usize + 1]);
    let error = directory.error();
    assert!(
        matches!(error, CertificateError::TooLarge { .. }),
        "{error}"
    );
    says_it(&error, &directory.file(CA_FILE));
}

#[test]
fn a_directory_in_place_of_a_file_is_named() {
    let directory = Directory::new();
    fs::remove_file(directory.file(CLIENT_KEY_FILE)).unwrap();
    fs::create_dir(directory.file(CLIENT_KEY_FILE)).unwrap();
    let error = directory.error();
    assert!(
        matches!(error, CertificateError::NotAFile { .. }),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_named() {
    let directory = Directory::new();
    directory.mode(CLIENT_KEY_FILE, 0o000);
    if fs::read(directory.file(CLIENT_KEY_FILE)).is_ok() {
        return; // The superuser reads everything.
    }
    let error = directory.error();
    assert!(
        matches!(error, CertificateError::Unreadable { .. }),
        "{error}"
    );
    says_it(&error, &directory.file(CLIENT_KEY_FILE));
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_in_circles_is_unreadable() {
    let directory = Directory::new();
    fs::remove_file(directory.file(CA_FILE)).unwrap();
    std::os::unix::fs::symlink(directory.file(CA_FILE), directory.file(CA_FILE)).unwrap();
    let error = directory.error();
    assert!(
        matches!(error, CertificateError::Unreadable { .. }),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_warned_of() {
    let directory = Directory::new();
    directory.mode(CLIENT_KEY_FILE, 0o644);
    let loaded = CertificateDirectory::load(directory.0.path()).unwrap();
    let path = directory.file(CLIENT_KEY_FILE);
    assert_eq!(
        loaded.warnings(),
        [CertificateWarning::KeyOpenToOthers {
            path: path.clone(),
            mode: 0o644
        }]
    );
    let text = loaded.warnings()[0].to_string();
    assert!(
        text.contains(&format!("chmod 600 {}", path.display())),
        "{text}"
    );
}
