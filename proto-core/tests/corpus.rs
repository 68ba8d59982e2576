//! The committed corpora of the fuzz targets, and what they have found, replayed on the stable toolchain.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs, panic,
    path::{Path, PathBuf},
};

use selium_remote_client_protocol::fuzzing::TARGETS;

/// The first words of targets whose bodies live in other crates, which replay them themselves.
const ELSEWHERE: [&str; 5] = ["certs_", "wasm_", "audit_", "policy_", "provision_"];

fn fuzz(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz")
        .join(folder)
}

/// The names in a folder, in order; none when there is no such folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let ours = |names: BTreeSet<String>| -> BTreeSet<String> {
        names
            .into_iter()
            .filter(|name| !ELSEWHERE.iter().any(|first| name.starts_with(first)))
            .collect()
    };
    assert_eq!(ours(names(&fuzz("corpus"))), targets);
    let regressions = ours(names(&fuzz("regressions")));
    assert!(regressions.is_subset(&targets), "{regressions:?}");
    let programs: BTreeSet<String> = names(&fuzz("fuzz_targets"))
        .iter()
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .collect();
    assert_eq!(ours(programs), targets);
}

#[test]
fn committed_inputs_are_taken() {
    let mut failed = Vec::new();
    let mut count = 0;
    for (target, body) in TARGETS {
        let mut inputs = 0;
        for folder in ["corpus", "regressions"] {
            let folder = fuzz(folder).join(target);
            for name in names(&folder) {
                let path = folder.join(name);
                let input = fs::read(&path).unwrap();
                inputs += 1;
                if panic::catch_unwind(|| body(&input)).is_err() {
                    failed.push(path);
                }
            }
        }
        assert!(inputs > 0, "{target} has no inputs");
        count += inputs;
    }
    assert!(
        failed.is_empty(),
        "{} of {count} inputs: {failed:#?}",
        failed.len()
    );
}
