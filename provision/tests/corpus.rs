//! The committed corpora of this crate's fuzz targets, and what they have found, replayed on the stable toolchain.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use selium_remote_provision::fuzzing;

fn replay(target: &str, body: fn(&[u8])) {
    let mut count = 0;
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz")
            .join(folder)
            .join(target);
        let Ok(entries) = fs::read_dir(folder) else {
            continue; // Nothing was found.
        };
        for entry in entries {
            body(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
    }
    assert!(count > 0, "there is no corpus");
}

#[test]
fn provision_segment() {
    replay("provision_segment", fuzzing::provision_segment);
}

#[test]
fn policy_file() {
    replay("policy_file", fuzzing::policy_file);
}

#[test]
fn audit_log() {
    replay("audit_log", fuzzing::audit_log);
}
