//! The client's example for async-std, run as a user runs it. Built by `cargo build --example async_std -p
//! selium-remote-client --no-default-features --features async-std`.

#![cfg(feature = "async-std")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use selium_remote_e2e::{Following, Server, run};
use xtask::proc::is_executable;

/// Where the example is: cargo puts examples beside the tests' own folder.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.parent().and_then(Path::parent).expect("two folders");
    let path = target.join("examples/async_std");
    assert!(is_executable(&path), "{} is missing", path.display());
    path
}

/// The example with these arguments and an environment of its own.
fn example(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SELIUM_") {
            command.env_remove(name);
        }
    }
    command
        .env("SELIUM_PORT", server.port().to_string())
        .env("SELIUM_CERT_DIR", server.certs())
        .env_remove("RUST_LOG")
        .args(args);
    command
}

#[test]
fn async_std() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut example_runs = Following::start(example(&server, &["hello.wasm", "start"]));
    let note = example_runs.note("the start", |line| line.starts_with("started "));
    let id = note.split(' ').nth(1).expect("an id");
    assert_eq!(example_runs.line(), "INFO hello from selium");
    example_runs.must_run();
    server.selium(&["stop", id]).succeeded();
    let ended = example_runs.end();
    ended.printed("INFO hello from selium\n");
    assert!(
        ended.stderr.ends_with("the process was stopped\n"),
        "{ended}"
    );

    let usage = run(example(&server, &[]));
    assert_eq!(usage.code, Some(2), "{usage}");
    assert!(usage.stderr.contains("usage: async_std "), "{usage}");
    let missing = run(example(&server, &["nowhere.wasm", "start"]));
    assert_eq!(missing.code, Some(1), "{missing}");
    assert!(missing.stderr.contains("nowhere.wasm"), "{missing}");
    let mut nobody = example(&server, &["hello.wasm", "start"]);
    nobody.env("SELIUM_CERT_DIR", "nowhere");
    let nobody = run(nobody);
    assert_eq!((nobody.code, &*nobody.stdout), (Some(1), ""), "{nobody}");
    assert!(nobody.stderr.starts_with("error: "), "{nobody}");
    server.must_answer();
}
