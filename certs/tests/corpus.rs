//! The committed corpora of this crate's fuzz target, and what it has found, replayed on the stable toolchain.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use selium_remote_certs::fuzzing::certs_folder;

#[test]
fn committed_inputs_are_taken() {
    let mut count = 0;
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz")
            .join(folder)
            .join("certs_folder");
        let Ok(entries) = fs::read_dir(folder) else {
            continue; // Nothing was found.
        };
        for entry in entries {
            certs_folder(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
    }
    assert!(count > 0, "there is no corpus");
}
