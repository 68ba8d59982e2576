//! `selium channel`, as far as it needs no server. What needs one is in the end-to-end suite.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;

use common::{fine, json, refused, run};
use tempfile::TempDir;

/// What no server is asked for, and what is said about it.
#[test]
fn wrong_lines_are_refused_before_connecting() {
    let dir = TempDir::new().unwrap();
    let long = "x".repeat(129);
    let name = "x".repeat(64);
    for (line, parts) in [
        (
            "channel create --capacity 0",
            &["--capacity", "16777216", "16MiB"][..],
        ),
        ("channel create --capacity 17MiB", &["16MiB"]),
        ("channel create --capacity 64K", &["KiB or MiB"]),
        ("channel create --capacity 1.5MiB", &["KiB or MiB"]),
        (
            &format!("channel create {name}"),
            &[
                "the name",
                "has 64 bytes, the limit is 63",
                "selium channel create --help",
            ],
        ),
        ("channel create a b", &["unexpected argument 'b'"]),
        ("channel delete", &["<CHANNEL>..."]),
        (
            &format!("channel delete a {long}"),
            &[
                "has 129 bytes, the limit is 128",
                "selium channel delete --help",
            ],
        ),
        (&format!("channel rm {long}"), &["the limit is 128"]),
        (
            &format!("channel drain {long}"),
            &["selium channel drain --help"],
        ),
        (
            &format!("channel share {long}"),
            &["selium channel share --help"],
        ),
        (
            &format!("channel inspect {long}"),
            &["selium channel inspect --help"],
        ),
        (
            &format!("channel pub {long}"),
            &["selium channel pub --help"],
        ),
        (
            &format!("channel sub {long}"),
            &["selium channel sub --help"],
        ),
        ("channel ls -q -o json", &["cannot be used with"]),
        (
            "channel ls -o yaml",
            &["[possible values: table, wide, json, name]"],
        ),
        ("channel pub", &["<CHANNEL>"]),
        (
            "channel pub a --framing lines",
            &["[possible values: line, raw, len32, json]"],
        ),
        (
            "channel pub a --chunk 1KiB",
            &["--chunk goes with --framing raw"],
        ),
        ("channel pub a --framing raw --chunk 0", &["--chunk"]),
        ("channel pub a --count 0", &["--count"]),
        ("channel pub a --timeout 0", &["--timeout"]),
        ("channel sub a --count 0", &["--count"]),
        ("channel sub a --tail -1", &["unexpected argument '-1'"]),
        ("channel sub a --since x", &["--since"]),
        (
            "channel sub a --chunk 1",
            &["unexpected argument '--chunk'"],
        ),
        ("channel ls --port 0", &["invalid port: it is 0, expected"]),
        (
            "channel ls --domain localhost:7000",
            &["invalid domain", "localhost:7000", "without its port"],
        ),
        ("channel frobnicate", &["unrecognized subcommand"]),
        (
            "start echo.wasm -a channel:",
            &["argument 1 `channel:` is no channel", "name of a channel"],
        ),
        (
            &format!("start echo.wasm -a channel-handle:{long}"),
            &["is no channel-handle", "at most 128 bytes"],
        ),
        (
            "start echo.wasm -p channel -a channel-handle:x",
            &["is of type channel-handle, --param says channel"],
        ),
        (
            "start echo.wasm -p channel",
            &["argument 1 is missing", "name of a channel"],
        ),
    ] {
        refused(dir.path(), 2, line, parts);
    }
}

#[test]
fn errors_are_json_when_that_is_wanted() {
    let dir = TempDir::new().unwrap();
    for line in [
        "--log-format json channel create --capacity 0",
        "channel pub a --chunk 1KiB --log-format json",
    ] {
        let said = run(dir.path(), line);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert_eq!(json(&said.err)["error"]["kind"], "usage", "{said:?}");
        assert!(said.out.is_empty(), "{said:?}");
    }
}

#[test]
fn a_file_is_opened_before_connecting() {
    let dir = TempDir::new().unwrap();
    refused(
        dir.path(),
        1,
        "channel pub jobs --file missing.txt",
        &["missing.txt cannot be opened: No such file"],
    );
    // What is right gets as far as the certificates.
    fs::write(dir.path().join("jobs.txt"), "job\n").unwrap();
    for line in [
        "channel pub jobs --file jobs.txt --framing LEN32 -n 3 --timeout 2",
        "channel pub jobs --file - --framing raw --chunk 16MiB",
        "channel publish jobs",
        "channel sub jobs --lossless --tail 0 --since-seq 7 --framing json -n 1",
        "channel subscribe jobs",
        "channel create --capacity 1 --drop",
        "channel create jobs --capacity 16MiB",
        "channel rm jobs prices",
        "channel list -o wide",
        "ch ls -q",
        "channel share jobs",
        "channel drain jobs",
        "channel inspect jobs -o json",
        "start echo.wasm -a channel:jobs -a channel-handle:jobs",
        "start echo.wasm -p channel -p channel-handle -a jobs -a jobs",
    ] {
        refused(dir.path(), 1, line, &["cannot connect", "client.crt"]);
    }
}

#[test]
fn help_names_what_there_is() {
    let dir = TempDir::new().unwrap();
    let help = fine(dir.path(), "channel --help").out;
    for part in [
        "create", "delete", "rm", "drain", "ls", "inspect", "share", "pub", "sub",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    for (command, parts) in [
        ("create", &["--capacity", "--drop", "64KiB", "63 bytes"][..]),
        ("delete", &["Examples:", "<CHANNEL>..."]),
        ("drain", &["Examples:", "<CHANNEL>..."]),
        ("share", &["Examples:", "<CHANNEL>...", "channel:NAME"]),
        ("inspect", &["Examples:", "<CHANNEL>", "from outside"]),
        ("ls", &["park", "drop", "draining", "Examples:"]),
        (
            "pub",
            &[
                "--file",
                "--framing",
                "--chunk",
                "--count",
                "--timeout",
                "len32",
                "base64",
                "124",
                "130",
                "Examples:",
            ],
        ),
        (
            "sub",
            &[
                "--lossless",
                "--tail",
                "--since",
                "--framing",
                "--count",
                "--timeout",
                "\"gap\"",
                "one a second",
                "124",
                "Examples:",
            ],
        ),
    ] {
        let help = fine(dir.path(), &format!("channel {command} --help")).out;
        for part in parts {
            assert!(help.contains(part), "{command}, {part}: {help}");
        }
        assert!(
            help.lines().all(|line| line.chars().count() <= 120),
            "{help}"
        );
    }
    let help = fine(dir.path(), "start --help").out;
    assert!(
        help.contains("channel:NAME") && help.contains("channel-handle:NAME"),
        "{help}"
    );
    let help = fine(dir.path(), "--help").out;
    assert!(help.contains("channel") && help.contains("124"), "{help}");
}
