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
        "`selium cert init` or `issue`",
        "`selium cert import`",
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
fn swapped_files_are_noticed() {
    // The client's two files: either is read first.
    let directory = Directory::new();
    let key = fs::read(directory.file(CLIENT_KEY_FILE)).unwrap();
    let certificate = fs::read(directory.file(CLIENT_CERTIFICATE_FILE)).unwrap();
    directory.write(CLIENT_CERTIFICATE_FILE, &key);
    let misplaced = |file: &str, found: &str, expected: &str| {
        let error = directory.error();
        assert!(
            matches!(error, CertificateError::Misplaced { .. }),
            "{error}"
        );
        let text = error.to_string();
        let path = directory.file(file);
        let fact = format!("{} holds a {found} instead of a {expected}", path.display());
        assert!(text.starts_with(&fact), "{text}");
        says_it(&error, &path);
    };
    misplaced(CLIENT_CERTIFICATE_FILE, "private key", "certificate");
    directory.write(CLIENT_KEY_FILE, &certificate);
    misplaced(CLIENT_CERTIFICATE_FILE, "private key", "certificate");
    directory.write(CLIENT_CERTIFICATE_FILE, &certificate);
    misplaced(CLIENT_KEY_FILE, "certificate", "private key");
    directory.write(CA_FILE, &key);
    misplaced(CA_FILE, "private key", "certificate");
}

#[test]
fn a_swapped_ca_is_noticed() {
    let directory = Directory::new();
    let ca = fs::read(directory.file(CA_FILE)).unwrap();
    let client = fs::read(directory.file(CLIENT_CERTIFICATE_FILE)).unwrap();
    directory.write(CA_FILE, client);
    directory.write(CLIENT_CERTIFICATE_FILE, ca);
    let error = directory.error();
    assert!(matches!(error, CertificateError::Swapped { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("client.crt and ca.crt are swapped"),
        "{error}"
    );
    says_it(&error, &directory.file(CLIENT_CERTIFICATE_FILE));
}

#[test]
fn files_that_were_cut_off_are_noticed() {
    for name in [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE] {
        let whole = Directory::new();
        let text = fs::read(whole.file(name)).unwrap();
        // Whatever is left: nothing, a part of the first line, a section without an end, or with half of one. The last
        // byte is a line break, and does not matter.
        for left in 0..text.len() - 1 {
            whole.write(name, &text[..left]);
            let error = whole.error();
            assert!(
                matches!(
                    error,
                    CertificateError::Empty { .. }
                        | CertificateError::Nothing { .. }
                        | CertificateError::Pem { .. }
                ),
                "{name}, {left} bytes: {error:?}"
            );
            says_it(&error, &whole.file(name));
        }
    }
}

/// All that is said of an error, with its causes.
fn everything(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(format!("{error}; {error:?}"), |all, cause| {
        format!("{all}; {cause}; {cause:?}")
    })
}

#[test]
fn errors_contain_nothing_of_a_key() {
    let directory = Directory::new();
    let key = fs::read_to_string(directory.file(CLIENT_KEY_FILE)).unwrap();
    let (secret, lines) = (
        key.lines().nth(1).unwrap().to_owned(),
        key.lines().collect::<Vec<_>>(),
    );
    // As text, and as a list of bytes.
    let listed = format!("{:?}", secret.as_bytes());
    let listed = listed.trim_matches(['[', ']']);
    let damaged = [
        lines.concat(),
        lines[..lines.len() - 1].concat(),
        format!("{}{}", lines[0].trim_end_matches('-'), lines[1..].concat()),
        key.replace(" KEY", " NOTE"),
        key.replacen('M', "*", 1),
        key.replacen("END", "ENDE", 1),
        key.replacen("M", "MM", 1),
    ];
    for (name, text) in [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE]
        .into_iter()
        .flat_map(|name| damaged.iter().map(move |text| (name, text)))
    {
        let directory = Directory::new();
        directory.write(name, text);
        let said = everything(&directory.error());
        assert!(
            !said.contains(&secret[..16]) && !said.contains(&listed[..40]),
            "{name}: {said}"
        );
        // It is the key that is looked for.
        assert!(text.contains(&secret[1..]), "{text}");
    }
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
    for name in [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE] {
        let directory = Directory::new();
        fs::remove_file(directory.file(name)).unwrap();
        fs::create_dir(directory.file(name)).unwrap();
        let error = directory.error();
        assert!(
            matches!(error, CertificateError::NotAFile { .. }),
            "{error}"
        );
        says_it(&error, &directory.file(name));
    }
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
    let path = directory.file(CLIENT_KEY_FILE);
    for mode in [0o644, 0o640, 0o620, 0o604, 0o777] {
        directory.mode(CLIENT_KEY_FILE, mode);
        let loaded = CertificateDirectory::load(directory.0.path()).unwrap();
        assert_eq!(
            loaded.warnings(),
            [CertificateWarning::KeyOpenToOthers {
                path: path.clone(),
                mode
            }]
        );
        let text = loaded.warnings()[0].to_string();
        let (shown, command) = (
            format!("(mode {mode:o})"),
            format!("chmod 600 {}", path.display()),
        );
        assert!(text.contains(&shown) && text.contains(&command), "{text}");
    }
    for mode in [0o600, 0o400, 0o700] {
        directory.mode(CLIENT_KEY_FILE, mode);
        let loaded = CertificateDirectory::load(directory.0.path()).unwrap();
        assert_eq!(loaded.warnings(), [], "mode {mode:o}");
    }
}
