//! Following logs: backlog, then live; who ends it, and what is said then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use selium_remote_e2e::{Following, LOGGING, PATIENCE, Server, Shared, line, lines, number, text};
use serde_json::{Value, json};

static SERVER: Shared = Shared::new();

/// The number of a tick, and whether its line begins with a time.
fn tick(line: &str) -> (u32, bool) {
    let (head, number) = line
        .split_once("INFO  ticker: tick ")
        .unwrap_or_else(|| panic!("no tick: {line}"));
    let is_time = head.len() == 25
        && head.ends_with("Z ")
        && head.as_bytes()[10] == b'T'
        && head.starts_with("20");
    assert!(head.is_empty() || is_time, "{line}");
    (number.parse().unwrap(), is_time)
}

/// Starts a ticker that goes on for longer than any test; `-c` comes with it.
fn ticker(server: &Server, name: &str, interval_ms: u32) -> String {
    let started = server.selium(&[
        "start",
        "ticker.wasm",
        "ticker",
        "-c",
        LOGGING,
        "-c",
        "TimeRead",
        "-a",
        "u32:100000",
        "-a",
        &format!("u32:{interval_ms}"),
        "--name",
        name,
    ]);
    started.succeeded();
    started.stdout.trim_end().to_owned()
}

#[test]
fn the_log_is_shown_until_ctrl_c_which_does_not_stop_the_process() {
    let Some(server) = SERVER.get() else { return };
    let mut attached = server.follow(&[
        "start",
        "hello.wasm",
        "hello",
        "-c",
        LOGGING,
        "--name",
        "seen",
        "--attach",
    ]);
    let id = attached.line();
    assert_eq!(attached.line(), "INFO  hello: hello from selium");
    // The guest has ended by itself, which the runtime does not tell: the command goes on.
    server.must_answer();
    attached.must_run();
    attached.interrupt();
    let run = attached.end();
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(
        run.stdout,
        format!("{id}\nINFO  hello: hello from selium\n")
    );
    assert_eq!(
        run.stderr,
        format!(
            "started seen ({})\ndetached from seen ({id}); it goes on running; stop it with `selium stop {id}`\n",
            &id[..8]
        )
    );
    assert!(
        server
            .ps(&[])
            .iter()
            .any(|process| text(process, "id") == id && text(process, "state") == "started")
    );
}

#[test]
fn backlog_and_live_records_come_once_and_in_order() {
    let Some(server) = SERVER.get() else { return };
    let id = ticker(&server, "steady", 20);
    // The backlog is what was logged before `logs` was typed.
    let mut first = server.follow(&["logs", "-f", "steady"]);
    first.until("some ticks", |line| line.ends_with("tick 10"));
    let mut second = server.follow(&["logs", "--follow", &id]);
    for attached in [&mut first, &mut second] {
        attached.until("more ticks", |line| line.ends_with("tick 60"));
    }
    // Stopped by another command: the log ends, and says why.
    server.selium(&["stop", "steady"]).succeeded();
    let mut longest = Vec::new();
    for attached in [first, second] {
        let run = attached.end();
        assert_eq!(run.code, Some(0), "{run}");
        assert_eq!(
            run.stderr,
            format!(
                "the log of steady ({}) ended: the process was stopped\n",
                &id[..8]
            )
        );
        let ticks: Vec<(u32, bool)> = run.stdout.lines().map(tick).collect();
        let expected: Vec<(u32, bool)> = (1..).take(ticks.len()).map(|n| (n, true)).collect();
        assert_eq!(
            ticks, expected,
            "nothing missing, nothing twice, each with a time"
        );
        assert!(ticks.len() >= 60);
        longest.push(ticks);
    }
    assert_eq!(longest[0], longest[1], "both saw it to the end");

    // And it is still readable afterwards.
    let later = server.selium(&["logs", &id]);
    later.succeeded();
    assert_eq!(
        later.stdout.lines().map(tick).collect::<Vec<_>>(),
        longest[0]
    );
    assert_eq!(later.stderr, "");
}

#[test]
fn a_guest_without_a_clock_logs_without_a_time() {
    let Some(server) = SERVER.get() else { return };
    let args = [
        "start",
        "ticker.wasm",
        "ticker",
        "-c",
        LOGGING,
        "-a",
        "u32:50",
        "-a",
        "u32:0",
        "--attach",
    ];
    let mut attached = server.follow(&args);
    attached.until("the last tick", |line| line.ends_with("tick 50"));
    attached.interrupt();
    let run = attached.end();
    let ticks: Vec<(u32, bool)> = run.stdout.lines().skip(1).map(tick).collect();
    assert_eq!(ticks, (1..=50).map(|n| (n, false)).collect::<Vec<_>>());

    // The guest asks for a pause, and is told that it was not granted the clock.
    let args = [
        "start",
        "ticker.wasm",
        "ticker",
        "-c",
        LOGGING,
        "-a",
        "u32:2",
        "-a",
        "u32:1",
        "--attach",
    ];
    let mut attached = server.follow(&args);
    attached.until("the last tick", |line| line.ends_with("tick 2"));
    assert_eq!(
        attached.seen()[1..],
        [
            "INFO  ticker: tick 1",
            "WARN  ticker: no pauses, TimeRead is not granted: driver error: permission denied",
            "INFO  ticker: tick 2",
        ]
    );
}

#[test]
fn every_line_of_json_is_one_object() {
    let Some(server) = SERVER.get() else { return };
    let args = [
        "start",
        "storm.wasm",
        "start",
        "-c",
        LOGGING,
        "-a",
        "u32:30",
        "--attach",
        "--log-format",
        "json",
        "--name",
        "json-storm",
    ];
    let mut attached = server.follow(&args);
    let id = text(&line(&attached.line()), "id").to_owned();
    attached.until("the last line", |line| {
        line.contains(r#""message":"line 30""#)
    });
    attached.interrupt();
    let run = attached.end();
    assert_eq!(run.code, Some(0), "{run}");
    let objects = lines(&run.stdout);
    let (started, records) = objects.split_first().unwrap();
    assert_eq!(
        *started,
        json!({ "event": "started", "id": id, "name": "json-storm", "module": "storm.wasm" })
    );
    for (record, n) in records.iter().zip(1u64..) {
        // Spans stand from the outermost inwards; the guest's SDK lists them the other way round.
        let expected = json!({
            "event": "log", "time": null, "level": "INFO", "target": "storm", "message": format!("line {n}"),
            "fields": { "number": n.to_string(), "even": (n % 2 == 0).to_string() },
            "spans": [{ "name": "storm", "fields": {} }, { "name": "gust", "fields": {} }],
            "sequence": n - 1, "process": id,
        });
        assert_eq!(*record, expected);
    }
    assert_eq!(records.len(), 30);
    // Notes are JSON too.
    let notes = lines(&run.stderr);
    assert_eq!(notes.len(), 2, "{run}");
    assert!(notes.iter().all(|note| note["note"].is_string()), "{run}");

    // The same with times, as text.
    let text_of_it = server.selium(&["logs", "--tail", "1", "json-storm"]);
    text_of_it.printed("INFO  storm storm:gust: line 30 number=30 even=true\n");
}

fn sequences(values: &[Value]) -> Vec<(u64, String)> {
    let pair = |value: &Value| (number(value, "sequence"), text(value, "message").to_owned());
    values.iter().map(pair).collect()
}

#[test]
fn followers_see_the_same_numbers_and_parts_can_be_asked_for() {
    let Some(server) = SERVER.get() else { return };
    let id = ticker(&server, "numbers", 10);
    let follow = || server.follow(&["logs", "-f", "--log-format", "json", "numbers"]);
    let (mut one, mut other) = (follow(), follow());
    one.until("ticks", |line| line.contains(r#""message":"tick 30""#));
    other.until("ticks", |line| line.contains(r#""message":"tick 30""#));
    let mut tail = server.follow(&[
        "logs",
        "-f",
        "--tail",
        "2",
        "--log-format",
        "json",
        "numbers",
    ]);
    let mut since = server.follow(&[
        "logs",
        "-f",
        "--since-seq",
        "20",
        "--log-format",
        "json",
        "numbers",
    ]);
    tail.line();
    since.line();
    server.selium(&["stop", &id]).succeeded();
    let seen = |attached: Following| {
        let run = attached.end();
        assert_eq!(run.code, Some(0), "{run}");
        sequences(&lines(&run.stdout))
    };
    let all = seen(one);
    assert!(all.len() >= 30);
    assert_eq!(
        all,
        (0..all.len() as u64)
            .map(|n| (n, format!("tick {}", n + 1)))
            .collect::<Vec<_>>()
    );
    assert_eq!(seen(other), all, "the same numbers for the same records");
    let late = seen(tail);
    assert!(late[0].0 >= 28, "it began with the newest: {:?}", late[0]);
    assert_eq!(late[..], all[late[0].0 as usize..]);
    assert_eq!(seen(since)[..], all[20..]);

    // After the stop, without --follow: exact parts.
    let last = all.len() as u64;
    let read = |args: &[&str]| {
        let run = server.selium(&[&["logs", "--log-format", "json", &id], args].concat());
        run.succeeded();
        (sequences(&lines(&run.stdout)), run.stderr)
    };
    assert_eq!(read(&[]), (all.clone(), String::new()));
    assert_eq!(read(&["--tail", "2"]).0[..], all[all.len() - 2..]);
    assert_eq!(read(&["--tail", "100000"]).0, all);
    assert_eq!(
        read(&["--since-seq", &(last - 3).to_string()]).0[..],
        all[all.len() - 3..]
    );
    assert_eq!(read(&["--since-seq", "0"]).0, all);
    let none =
        json!({ "note": format!("the server has no such records of numbers ({})", &id[..8]) });
    for args in [["--tail", "0"], ["--since-seq", &last.to_string()]] {
        let (records, note) = read(&args);
        assert_eq!((records.len(), line(&note)), (0, none.clone()), "{args:?}");
    }
}

#[test]
fn both_parts_at_once_are_what_both_allow() {
    let Some(server) = SERVER.get() else { return };
    let args = [
        "start",
        "storm.wasm",
        "start",
        "-c",
        LOGGING,
        "-a",
        "u32:10",
        "--attach",
    ];
    let mut attached = server.follow(&args);
    let id = attached.line();
    attached.until("the last line", |line| line.contains("line 10 "));
    let messages = |tail: &str, since: &str| {
        let run = server.selium(&["logs", "--tail", tail, "--since-seq", since, &id]);
        run.succeeded();
        run.stdout.lines().count()
    };
    assert_eq!(messages("5", "8"), 2, "--since-seq is the narrower");
    assert_eq!(messages("2", "3"), 2, "--tail is the narrower");
}

#[test]
fn a_runtime_that_ends_ends_the_log_with_an_error() {
    // Asked or killed, it says nothing any more: the client has to find out by itself.
    let (Some(mut asked), Some(mut killed)) = (Server::start(&[]), Server::start(&[])) else {
        return;
    };
    let follow = |server: &Server| {
        let id = ticker(server, "cut", 20);
        let mut attached = server.follow(&["logs", "--follow", "cut"]);
        attached.until("ticks", |line| line.ends_with("tick 5"));
        (id, attached)
    };
    let followers = [follow(&asked), follow(&killed)];
    asked.interrupt();
    killed.kill();
    for (id, attached) in followers {
        // A ping after at most 5 s, and 20 s for its answer.
        let run = attached.end_within(2 * PATIENCE);
        let seen = run.stdout.lines().count();
        assert!(seen >= 5, "{run}");
        assert_eq!(run.code, Some(1), "{run}");
        assert_eq!(
            run.stderr,
            format!(
                "error: the log of `cut` broke off: nothing comes from the server any more: the network is down, the \
                 runtime was stopped, or its remote-client module hangs; connect again, and look into the log of the \
                 runtime\n  hint: this did not stop the process; `selium logs --follow --since-seq {seen} {id}` shows \
                 the rest of its log\n"
            )
        );
    }
}
