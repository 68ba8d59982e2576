//! `selium audit verify`: the binary, and logs that are made here.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use common::{Said, command, fine, json, refused, run, said, set_mode};
use selium_remote_client_protocol::ErrorCode;
use selium_remote_provision::AuditKey;
use selium_remote_provision::audit::{Chain, Event, MAX_LINE, verify};
use serde_json::json;
use tempfile::TempDir;

const KEY: [u8; 32] = *b"a key of the audit log, 32 bytes";

/// A folder with the key where `server install` puts it, and as `other.key` another one.
fn prepared() -> TempDir {
    let folder = TempDir::new().unwrap();
    let control_plane = folder.path().join("work/control-plane");
    fs::create_dir_all(&control_plane).unwrap();
    for (path, key) in [
        (control_plane.join("audit.key"), KEY),
        (folder.path().join("other.key"), [7; 32]),
    ] {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(&path, format!("{hex}\n")).unwrap();
        set_mode(&path, 0o600);
    }
    folder
}

/// The records of a run: its start and so many more.
fn records(run: u8, count: u64) -> Vec<String> {
    chain(AuditKey::new(KEY), run, count)
}

fn chain(key: AuditKey, run: u8, count: u64) -> Vec<String> {
    let (mut chain, first) = Chain::start(key, [run; 8], Some(1_764_000_000_000));
    let mut records = vec![first];
    for request in 1..=count {
        let refused = request % 2 == 0;
        records.push(chain.record(&Event {
            time_ms: Some(1_764_000_000_000 + request),
            role: "operator",
            peer: "192.0.2.7:5013",
            op: "start",
            target: Some("he\"llo\\.wasm"),
            result: if refused {
                Err(ErrorCode::PermissionDenied)
            } else {
                Ok(())
            },
            reason: if refused { "a capability" } else { "" },
            process: if refused { "" } else { "00000000000000a7" },
            request,
            suppressed: u64::from(request == 3),
        }));
    }
    records
}

/// A line of the runtime with `--log-format json`.
fn wrapped(record: &str) -> String {
    json!({"timestamp": "2026-01-01T00:00:00Z", "level": "INFO", "fields": {"message": record}})
        .to_string()
}

fn log(folder: &TempDir, lines: &[String]) {
    let mut text = lines.join("\n");
    text.push('\n');
    fs::write(folder.path().join("log"), text).unwrap();
}

const VERIFY: &str = "audit verify log --work-dir work";

fn check(folder: &Path, line: &str, code: i32, parts: &[&str]) -> Said {
    let said = run(folder, line);
    assert_eq!(said.code, Some(code), "{line}: {said:?}");
    for part in parts {
        assert!(said.out.contains(part), "{line}, {part}: {said:?}");
    }
    said
}

#[test]
fn a_whole_log_is_whole() {
    let folder = prepared();
    let (one, two) = (records(1, 5), records(2, 0));
    let noise = [
        "starting".to_owned(),
        "{\"level\":\"INFO\"}".to_owned(),
        String::new(),
    ];
    let plain = [&noise[..], &one, &noise, &two].concat();
    let in_json: Vec<_> = [&one[..], &two]
        .concat()
        .iter()
        .map(|it| wrapped(it))
        .collect();
    for (lines, first, second) in [(plain, 4, 13), (in_json, 1, 7)] {
        log(&folder, &lines);
        let said = check(
            folder.path(),
            VERIFY,
            0,
            &[
                "RUN               RECORDS  LINE\n",
                &format!("0101010101010101  0..5     {first}\n"),
                &format!("0202020202020202  0..0     {second}\n"),
                &format!("lines:      {}\n", lines.len()),
                "records:    7\n",
                "suppressed: 1\n",
                "missing:    0\n",
                "skipped:    0\n",
                "problems:   0\n",
                "every record is there and genuine",
            ],
        );
        assert_eq!(said.err, "");
        let said = fine(folder.path(), &format!("{VERIFY} --log-format json"));
        let found = json(&said.out);
        assert_eq!(
            found,
            json!({
                "whole": true, "lines": lines.len(), "records": 7, "suppressed": 1, "missing": 0, "skipped": 0,
                "runs": [
                    {"run": "0101010101010101", "line": first, "first": 0, "last": 5},
                    {"run": "0202020202020202", "line": second, "first": 0, "last": 0},
                ],
                "more_runs": 0, "problems": [], "more_problems": 0,
            })
        );
        // Elsewhere, with its key, and from stdin.
        let work = folder.path().join("work");
        fine(&work, "audit verify ../log");
        fine(
            folder.path(),
            "audit verify log --key work/control-plane/audit.key",
        );
        let mut child = command(folder.path(), "", "audit verify - --work-dir work");
        let file = fs::File::open(folder.path().join("log")).unwrap();
        let said = said_of(child.stdin(file));
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("records:    7\n"), "{said:?}");
    }
}

fn said_of(command: &mut std::process::Command) -> Said {
    said(command.output().unwrap())
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let folder = prepared();
    let all = records(1, 6);
    let without = |gone: &[usize]| -> Vec<String> {
        let kept = all.iter().enumerate().filter(|(at, _)| !gone.contains(at));
        kept.map(|(_, record)| record.clone()).collect()
    };
    let mut changed = all.clone();
    changed[2] = changed[2].replace("permission denied", "ok");
    assert_ne!(changed[2], all[2]);
    let mut swapped = all.clone();
    swapped.swap(3, 4);
    let mut cut = all.clone();
    cut[6].truncate(100);
    let cases: [(Vec<String>, &[&str], &[&str]); 6] = [
        (
            without(&[3, 4]),
            &["line 4: records 3 to 4 are missing", "missing:    2\n"],
            &["gap"],
        ),
        (
            without(&[0]),
            &["line 1: a run begins without its records 0 to 0"],
            &["start_missing"],
        ),
        (
            changed,
            &[
                "line 3: it looks like an audit record",
                "line 4: record 2 is missing",
            ],
            &["not_genuine", "gap"],
        ),
        (
            swapped,
            &[
                "line 5: record 3 of the run 0101010101010101",
                "out of order",
            ],
            &["gap", "out_of_order"],
        ),
        (cut, &["line 7: it looks like"], &["not_genuine"]),
        (
            [&all[..], &all[..1]].concat(),
            &["line 8: record 0 of the run"],
            &["out_of_order"],
        ),
    ];
    for (lines, parts, kinds) in cases {
        for lines in [lines.clone(), lines.iter().map(|it| wrapped(it)).collect()] {
            log(&folder, &lines);
            let said = check(folder.path(), VERIFY, 1, parts);
            assert!(said.out.contains("NOT WHOLE"), "{said:?}");
            let said = run(folder.path(), &format!("{VERIFY} --log-format json"));
            assert_eq!(said.code, Some(1), "{said:?}");
            let found = json(&said.out);
            assert_eq!(found["whole"], false);
            let problems = found["problems"].as_array().unwrap();
            let found: Vec<_> = problems
                .iter()
                .map(|it| it["kind"].as_str().unwrap())
                .collect();
            assert_eq!(found, kinds, "{said:?}");
            assert!(
                problems
                    .iter()
                    .all(|it| it["line"].is_u64() && it["message"].is_string())
            );
        }
    }
    // What is missing at the end cannot be told.
    log(&folder, &without(&[5, 6]));
    check(folder.path(), VERIFY, 0, &["0..4"]);
}

#[test]
fn another_key_proves_nothing() {
    let folder = prepared();
    log(&folder, &records(1, 3));
    let said = check(
        folder.path(),
        "audit verify log --key other.key",
        1,
        &[
            "line 1: it looks like an audit record, but its MAC is wrong",
            "records:    0\n",
            "problems:   4\n",
        ],
    );
    assert!(
        said.err
            .contains("no record is genuine by the key other.key"),
        "{said:?}"
    );
    log(&folder, &["nothing".to_owned()]);
    let said = check(
        folder.path(),
        VERIFY,
        1,
        &["records:    0\n", "problems:   0\n", "NOT WHOLE"],
    );
    assert!(
        said.err.contains("there is no audit record in log"),
        "{said:?}"
    );
    fs::write(folder.path().join("log"), "").unwrap();
    check(folder.path(), VERIFY, 1, &["lines:      0\n"]);
}

#[test]
fn thousands_of_problems_are_counted() {
    let folder = prepared();
    let lines = vec![records(1, 0)[0].replace("seq", "sqe"); 1_500];
    log(&folder, &lines);
    check(
        folder.path(),
        VERIFY,
        1,
        &["and 500 more problems", "problems:   1500\n"],
    );
}

/// With less memory than the line has bytes.
#[test]
fn an_endless_line_takes_no_memory() {
    let folder = prepared();
    let record = records(1, 0).remove(0);
    let mut child = command(
        folder.path(),
        "ulimit -v 400000;",
        "audit verify - --work-dir work",
    );
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{record}").unwrap();
    let part = vec![b'x'; 1024 * 1024];
    for _ in 0..600 {
        stdin.write_all(&part).unwrap();
    }
    writeln!(stdin, "\nend").unwrap();
    drop(stdin);
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in [
        "lines:      3\n",
        "records:    1\n",
        "skipped:    1\n",
        "NOT WHOLE",
    ] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    // The longest that is looked at.
    let long = format!("{}{record}", " ".repeat(MAX_LINE - record.len()));
    log(&folder, std::slice::from_ref(&long));
    assert!(verify(&AuditKey::new(KEY), [&long]).is_whole());
    fine(folder.path(), VERIFY);
    log(&folder, &[format!(" {long}")]);
    check(folder.path(), VERIFY, 1, &["skipped:    1\n"]);
}

#[test]
fn missing_files_and_wrong_usage_are_named() {
    let folder = prepared();
    log(&folder, &records(1, 3));
    refused(
        folder.path(),
        1,
        "audit verify log",
        &[
            "there is no audit key control-plane/audit.key",
            "selium server install",
            "--work-dir",
            "--key",
        ],
    );
    refused(
        folder.path(),
        1,
        "audit verify none --work-dir work",
        &["none cannot be read: "],
    );
    refused(
        folder.path(),
        1,
        "audit verify work --work-dir work",
        &["work cannot be read: "],
    );
    refused(
        folder.path(),
        1,
        "audit verify log --key log",
        &["log is no audit key"],
    );
    for line in [
        "audit",
        "audit verify",
        "audit frobnicate",
        "audit verify log --key other.key --work-dir work",
        "audit verify log log",
    ] {
        assert_eq!(run(folder.path(), line).code, Some(2), "{line}");
    }
    set_mode(&folder.path().join("work/control-plane/audit.key"), 0o604);
    let said = fine(folder.path(), VERIFY);
    assert!(
        said.err.contains(
            "warning: other users may use the audit key work/control-plane/audit.key (mode 604)"
        ),
        "{said:?}"
    );
}

#[test]
fn help_says_what_it_proves() {
    let folder = TempDir::new().unwrap();
    let help = fine(folder.path(), "audit verify --help").out;
    for part in [
        "What it proves",
        "What it does not prove",
        "the end of a run",
        "Exit codes:",
        "stdin",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(fine(folder.path(), "--help").out.contains("audit"));
}
