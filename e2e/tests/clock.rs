//! A server that was granted `TimeRead`: times and ages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use selium_remote_client_protocol::{ErrorCode, hello::Features};
use selium_remote_e2e::{LOGGING, Peer, Server, Wire, block_on, eventually, line, number, text};
use serde_json::{Value, json};

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

/// The clock of the module stands still for 100 ms at a time; a busy machine adds to that.
const SLACK_MS: u64 = 2_000;

fn is_between(ms: u64, from: u64, to: u64) -> bool {
    ms + SLACK_MS >= from && ms <= to + SLACK_MS
}

#[test]
fn times_are_told_where_there_is_a_clock() {
    let before = now_ms();
    let Some(server) = Server::start(&["TimeRead"]) else {
        return;
    };
    let listening = eventually("the module's log", || {
        server
            .log()
            .lines()
            .find(|line| line.ends_with("remote client server listening"))
            .map(str::to_owned)
    });
    assert!(listening.contains("clock=true"), "{listening}");
    let hello = block_on(async { Peer::connect(&server).await.server });
    assert!(hello.features.contains(Features::CLOCK));

    // The server answers, so that from here on `before` and `after` enclose the process's start.
    let id = server.launch(&["hello.wasm", "hello", "--name", "timed"]);
    let after = now_ms();
    let process = eventually("the log line", || {
        let process = server.ps(&[]).remove(0);
        (process["last_log_ms"] != Value::Null).then_some(process)
    });
    assert_eq!(text(&process, "id"), id);
    assert!(
        is_between(number(&process, "started_ms"), before, after),
        "{process}"
    );
    assert!(
        is_between(number(&process, "last_log_ms"), before, now_ms()),
        "{process}"
    );
    assert_eq!(process["stopped_ms"], Value::Null);

    let age = || {
        let table = server.selium(&["ps"]);
        table.succeeded();
        let row = table.stdout.lines().nth(1).expect("a row").to_owned();
        let age = row
            .split_whitespace()
            .last()
            .unwrap()
            .strip_suffix('s')
            .expect(&row)
            .to_owned();
        age.parse::<u64>().expect(&row)
    };
    assert!(age() <= 30);
    eventually("it grows older", || (age() >= 2).then_some(()));

    let info = server.selium(&["info", "-o", "json"]);
    let first = line(&info.stdout);
    assert_eq!(first["clock"], json!(true));
    let uptime = number(&first, "uptime_ms");
    assert!(uptime <= now_ms() - before + SLACK_MS, "{first}");
    eventually("the uptime grows", || {
        let info = line(&server.selium(&["info", "-o", "json"]).stdout);
        (number(&info, "uptime_ms") > uptime + 200).then_some(())
    });
    let shown = server.selium(&["info"]);
    assert!(
        shown
            .stdout
            .lines()
            .any(|line| line == "clock:                   yes"),
        "{shown}"
    );
    assert!(
        !shown
            .stdout
            .lines()
            .any(|line| line == "uptime:                  unknown"),
        "{shown}"
    );

    let before_stop = now_ms();
    server.selium(&["stop", "timed"]).succeeded();
    let inspected = line(&server.selium(&["inspect", "-o", "json", &id]).stdout);
    assert_eq!(text(&inspected, "state"), "stopped");
    assert!(
        is_between(number(&inspected, "stopped_ms"), before_stop, now_ms()),
        "{inspected}"
    );
    let details = server.selium(&["inspect", &id]);
    for key in ["last log: ", "started: ", "stopped: "] {
        let line = details
            .stdout
            .lines()
            .find(|line| line.starts_with(key))
            .expect(key);
        assert!(line.ends_with('Z') && line.contains(" 20"), "{line}");
    }

    // Logs are found and followed as without a clock.
    let mut attached = server.follow(&["start", "hello.wasm", "hello", "-c", LOGGING, "--attach"]);
    attached.line();
    assert_eq!(attached.line(), "INFO  hello: hello from selium");
    attached.interrupt();
    assert_eq!(attached.end().code, Some(0));

    // Who does not say hello is sent away, after 10 s; the server says so.
    let begun = Instant::now();
    let error = block_on(async { Wire::saying(&server, b"SLRC").await.refusal().await });
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    assert_eq!(error.message, "no hello came within 10 s");
    assert!(
        begun.elapsed() >= Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    server.must_answer();
}
