//! The committed corpora of this crate's fuzz target, and what it has found, replayed on the stable toolchain.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use selium_remote_transport_wasm::fuzzing::wasm_host_replies;

#[test]
fn committed_inputs_are_taken() {
    let mut count = 0;
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz")
            .join(folder)
            .join("wasm_host_replies");
        let Ok(entries) = fs::read_dir(folder) else {
            continue; // Nothing was found.
        };
        for entry in entries {
            wasm_host_replies(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
    }
    assert!(count > 0, "there is no corpus");
}
