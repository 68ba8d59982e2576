//! That a build for another runtime carries no tokio runtime: quinn needs tokio's `sync`, and nobody needs more.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, process::Command};

/// What of tokio may be built. `default` is empty.
const ALLOWED: [&str; 2] = ["default", "sync"];

/// Who may ask for it.
const MAY_ASK: [&str; 2] = ["quinn", "quinn-udp"];

/// What this crate is built with: no development dependencies, which tests have and applications do not.
fn tree(args: &[&str]) -> String {
    let tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--package", env!("CARGO_PKG_NAME")])
        .args(["--edges", "normal,features", "--prefix", "depth"])
        .args(["--offline", "--locked"])
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{errors}");
    String::from_utf8(tree.stdout).unwrap()
}

/// What is built of tokio, and the packages that ask for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tokio {
    features: BTreeSet<String>,
    asked_by: BTreeSet<String>,
}

impl Tokio {
    /// Of this crate with one feature.
    fn of_a_build_with(feature: &str) -> Self {
        Self::read(&tree(&[
            "--no-default-features",
            "--features",
            feature,
            "--invert",
            "tokio",
        ]))
    }

    /// Reads a tree that was turned upside down: below tokio are its features, below each who asks for it.
    fn read(tree: &str) -> Self {
        let mut read = Self::default();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let name = line.trim_start_matches(|c: char| c.is_ascii_digit());
            let depth: usize = line[..line.len() - name.len()].parse().unwrap();
            let mut words = name.split(' ');
            let package = words.next().unwrap();
            match (depth, package, words.next()) {
                (1, "tokio", Some("feature")) => {
                    let feature = words.next().unwrap().trim_matches('"');
                    read.features.insert(feature.to_owned());
                }
                // One feature asks for another: whoever asks for that one is listed there.
                (1 | 2, "tokio", _) => {}
                (1 | 2, package, _) => {
                    read.asked_by.insert(package.to_owned());
                }
                _ => {}
            }
        }
        read
    }

    /// What is there and should not be.
    fn superfluous(&self) -> Vec<&str> {
        let features = self.features.iter().map(|name| (name, &ALLOWED));
        let askers = self.asked_by.iter().map(|name| (name, &MAY_ASK));
        features
            .chain(askers)
            .filter(|(name, allowed)| !allowed.contains(&name.as_str()))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

#[test]
fn builds_for_other_runtimes_carry_no_tokio_runtime() {
    for feature in ["async-std", "smol"] {
        let tokio = Tokio::of_a_build_with(feature);
        assert_eq!(tokio.superfluous(), [""; 0], "{feature}: {tokio:?}");
        // The tree was read at all.
        assert!(tokio.features.contains("sync"), "{feature}: {tokio:?}");
        assert!(tokio.asked_by.contains("quinn"), "{feature}: {tokio:?}");
    }
}

#[test]
fn a_tokio_runtime_would_be_seen() {
    let tokio = Tokio::of_a_build_with("tokio");
    let superfluous = tokio.superfluous();
    for expected in ["rt", "net", "time", "selium-remote-transport-tokio"] {
        assert!(superfluous.contains(&expected), "{expected}: {tokio:?}");
    }
    // All features together are what cargo makes of the whole workspace, say.
    assert!(
        !Tokio::of_a_build_with("tokio,smol")
            .superfluous()
            .is_empty()
    );
}

#[test]
fn whoever_asks_for_tokio_is_seen() {
    let tree = "0tokio v1.0.0\n1tokio feature \"default\"\n2other v1.0.0\n3third v1.0.0\n1tokio feature \"sync\"\n\
                2quinn v0.11.0 (*)\n1tokio feature \"rt\"\n2tokio feature \"full\"\n1plain v1.0.0 (/there)\n";
    let tokio = Tokio::read(tree);
    assert_eq!(tokio.superfluous(), ["rt", "other", "plain"]);
}

/// What only a server in memory needs: the server's rules, and connections that are none.
#[test]
fn builds_without_a_server_in_memory_have_nothing_of_it() {
    let memory = "selium-remote-transport-quinn feature \"memory\"";
    let has = |features: &[&str]| {
        let transport = [features, &["--invert", "selium-remote-transport-quinn"]].concat();
        let rules = tree(features).contains("selium-remote-server-core");
        (rules, tree(&transport).contains(memory))
    };
    for runtime in ["tokio", "async-std", "smol"] {
        let without = ["--no-default-features", "--features", runtime];
        assert_eq!(has(&without), (false, false), "{runtime}");
        let with = [&without[..], &["--features", "test-util"]].concat();
        assert_eq!(has(&with), (true, true), "{runtime}: it would be seen");
    }
    assert_eq!(has(&[]), (false, false));
    // And it brings no runtime.
    let smol = Tokio::of_a_build_with("smol,test-util");
    assert_eq!(smol.superfluous(), [""; 0], "{smol:?}");
}
