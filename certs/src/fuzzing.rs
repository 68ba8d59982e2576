//! The bodies of this crate's fuzz targets. **Unstable and private**: only there with the feature `fuzzing`, for `fuzz/`
//! and for the tests of this crate.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "to panic is how these functions report"
)]

use std::fs;

use crate::{CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, CertificateDirectory};

/// A certificate directory with any files in it: it is loaded, or refused with a reason. The files stand behind each
/// other, with zero bytes between.
pub fn certs_folder(data: &[u8]) {
    let folder = std::env::temp_dir().join(format!("selium-fuzz-certs-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let mut parts = data.splitn(3, |byte| *byte == 0);
    for name in [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE] {
        let part = parts.next().unwrap_or_default();
        fs::write(folder.join(name), part).expect("writes");
    }
    match CertificateDirectory::load(&folder) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(directory) => {
            if let Err(error) = directory.client_config() {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
