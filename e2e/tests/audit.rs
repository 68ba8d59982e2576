//! The audit log on the stock runtime: what is in it, whether it comes through whole, what `selium audit verify` finds,
//! and that no flood of refusals ends it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use selium_remote_client::{ErrorCode, Process};
use selium_remote_client_protocol::{
    fields::FieldWriter,
    frame::Frame,
    ops::{Common, ProcessRef, Request as _, StartRequest, StopRequest, op},
};
use selium_remote_e2e::roles::{Answered, Door, Roles, Talker, record_texts, records};
use selium_remote_e2e::{
    LOGGING, PATIENCE, Server, array, block_on, block_on_for, eventually, frames, guests,
    load_tests, number, run, text,
};
use serde_json::{Value, json};
use xtask::runtime::SECURE;

/// What a record's MAC stands behind.
const MAC: &str = ",\\\"mac\\\":\\\"";

fn start(module: &str, name: &str) -> StartRequest {
    StartRequest::with(|made| {
        made.module = module.to_owned();
        made.entrypoint = "hello".to_owned();
        made.name = Some(name.to_owned());
    })
}

fn stop(target: &str) -> StopRequest {
    StopRequest::with(|made| made.target = target.to_owned())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// What is the same in a record whenever it is written.
fn fields(record: &Value) -> Value {
    let mut record = record.clone();
    let fields = record.as_object_mut().expect("an object");
    for name in [
        "audit",
        "run",
        "seq",
        "time_ms",
        "prev",
        "mac",
        "suppressed",
    ] {
        fields.remove(name);
    }
    record
}

/// Fails unless these are the records of one run from its start on, of which nothing was suppressed.
fn is_one_run(all: &[Value]) {
    assert_eq!(all[0]["op"], "audit-start");
    for (seq, record) in all.iter().enumerate() {
        assert_eq!(number(record, "audit"), 1);
        assert_eq!(number(record, "seq"), seq as u64);
        assert_eq!(record["run"], all[0]["run"]);
        assert_eq!(number(record, "suppressed"), 0);
    }
}

/// Fails unless `selium audit verify` finds nothing wrong, in so many records of so many runs.
fn is_whole(roles: &Roles, log: &str, count: usize, runs: usize) -> Value {
    let (report, code) = roles.verify(log);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["whole"], true);
    assert_eq!(number(&report, "records"), count as u64, "{report}");
    assert_eq!(array(&report["runs"]).len(), runs, "{report}");
    assert_eq!(array(&report["problems"]).len(), 0);
    let counts = ["missing", "skipped", "more_runs", "more_problems"];
    assert!(counts.iter().all(|it| number(&report, it) == 0), "{report}");
    report
}

/// The kinds of problems that `selium audit verify` finds, with their lines.
fn problems(roles: &Roles, log: &str) -> Vec<(u64, String)> {
    let (report, code) = roles.verify(log);
    let all = array(&report["problems"]);
    assert_eq!((code, &report["whole"]), (1, &json!(false)), "{report}");
    let kind = |it: &Value| (number(it, "line"), text(it, "kind").to_owned());
    all.iter().map(kind).collect()
}

/// The id in an answer to a start or a stop.
fn process(answered: Answered) -> (u64, String) {
    let (request, answer) = answered;
    let process = ProcessRef::decode(&answer.expect("it is done")).unwrap();
    (request, format!("{:016x}", process.id))
}

fn refused(answered: Answered) -> (u64, ErrorCode, String) {
    let (request, answer) = answered;
    let error = answer.expect_err("a refusal");
    (request, error.code, error.message)
}

#[test]
fn a_run_is_told_record_by_record() {
    let policy = [("admin", ""), ("viewer", "limits = { hello-seconds = 1 }")];
    let before = now_ms();
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    let mut expected = vec![json!({"op": "audit-start", "result": "ok", "request": 0})];
    block_on(async {
        let (door, viewers) = (roles.door("admin"), roles.door("viewer"));
        let mut admin = Talker::greet(door.open().await, [1; 16]).await;
        let mut viewer = Talker::greet(viewers.open().await, [2; 16]).await;
        let done = |op: &str, target: &str, (request, process): (u64, String)| {
            json!({
                "role": "admin", "peer": door.local(), "op": op, "target": target, "result": "ok", "process": process,
                "request": request,
            })
        };
        let not_done = |role: &str, op: &str, target: &str, refused: (u64, ErrorCode, String)| {
            let (request, code, reason) = refused;
            let peer = match role {
                "admin" => door.local(),
                _ => viewers.local(),
            };
            json!({
                "role": role, "peer": peer, "op": op, "target": target, "result": code.as_str(), "reason": reason,
                "request": request,
            })
        };
        let web = process(admin.ask(&start("hello.wasm", "web")).await);
        expected.push(done("process start", "hello.wasm", web.clone()));
        let why = refused(admin.ask(&start("none.wasm", "none")).await);
        assert_eq!(why.1, ErrorCode::NotFound);
        let none = not_done("admin", "process start", "none.wasm", why);
        expected.push(none);
        let why = refused(admin.ask(&start("hello.wasm", "web")).await);
        assert_eq!(why.1, ErrorCode::AlreadyExists);
        expected.push(not_done("admin", "process start", "hello.wasm", why));
        let why = refused(viewer.ask(&stop("web")).await);
        assert_eq!(why.1, ErrorCode::PermissionDenied);
        expected.push(not_done("viewer", "process stop", "web", why));
        let stopped = process(admin.ask(&stop("web")).await);
        assert_eq!(stopped.1, web.1);
        expected.push(done("process stop", "web", stopped));
        // By its id, and again: that changes nothing, and is told.
        let again = process(admin.ask(&stop(&web.1)).await);
        expected.push(done("process stop", &web.1, again));
        let why = refused(admin.ask(&stop("nobody")).await);
        expected.push(not_done("admin", "process stop", "nobody", why));
        // What only looks is not told.
        let _ = roles.client("viewer").await.processes(true).await.unwrap();

        // Hellos: of another protocol, of another version, late.
        let hello = |code: ErrorCode, reason: &str| {
            json!({
                "role": "viewer", "peer": viewers.local(), "op": "hello", "result": code.as_str(), "reason": reason,
                "request": 0,
            })
        };
        let mut foreign = viewers.open().await;
        foreign.write(b"GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(foreign.refusal().await.code, ErrorCode::Protocol);
        let reason = "the peer does not speak this protocol";
        expected.push(hello(ErrorCode::Protocol, reason));
        let mut newer = viewers.open().await;
        let mut greeting = selium_remote_e2e::hello();
        greeting[8..12].copy_from_slice(&[0, 7, 0, 9]);
        newer.write(&greeting).await;
        let error = newer.refusal().await;
        expected.push(hello(error.code, &error.message));
        let mut late = viewers.open().await;
        late.write(b"SLRC").await;
        let error = late.refusal().await;
        assert_eq!(error.message, "no hello came within 1 s");
        expected.push(hello(ErrorCode::DeadlineExceeded, &error.message));
        // One that breaks the protocol once it was let in.
        let mut broken = viewers.open().await;
        assert!(broken.greet().await.unwrap().is_ok());
        broken.write(&[0xff; 64]).await;
        broken.finish();
        while broken.read().await.is_some() {}
        // Clients that go by themselves are not told.
        viewer.cut();
        admin.cut();
    });
    let count = expected.len() + 1;
    let log = roles.log_with("all records", |all| all.len() >= count);
    let all = records(&log);
    is_one_run(&all);
    for (record, expected) in all.iter().zip(&expected) {
        assert_eq!(fields(record), *expected);
    }
    assert_eq!(all.len(), count, "{all:?}");
    let broken = all.last().unwrap();
    assert_eq!(
        (&broken["op"], &broken["result"]),
        (&json!("connection"), &json!("protocol error"))
    );
    // The clock of the module stands still for 100 ms at a time.
    let times: Vec<u64> = all.iter().map(|it| number(it, "time_ms")).collect();
    assert!(times.is_sorted());
    assert!(times[0] + 1_000 >= before && *times.last().unwrap() <= now_ms() + 1_000);
    is_whole(&roles, &log, count, 1);
    let shown = run({
        let mut command = roles.server().work().selium(&roles.server().setup().cli);
        command.args(["audit", "verify", "runtime.log"]);
        command
    });
    shown.succeeded();
    assert!(
        shown.stdout.contains("every record is there and genuine"),
        "{shown}"
    );
}

/// Targets that try to look like something else, or are too long.
fn odd_targets() -> Vec<Vec<u8>> {
    [
        "a\"b\\c",
        "line\nfeed\r\t\0",
        "\x1b[2J\x1b]0;title\x07\u{9b}31m",
        "\u{202e}gro.live\u{2066}",
        "äöü 日本語 🦀",
        "{\"audit\":1,\"run\":\"0000000000000000\",\"seq\":0,\"mac\":\"00\"}",
        "\"},\"fields\":{\"message\":\"forged\"",
    ]
    .into_iter()
    .map(|it| it.as_bytes().to_vec())
    .chain([
        b"\xff\xfe not UTF-8 \xf0\x9f".to_vec(),
        "x".repeat(300).into_bytes(),
        "\u{1}".repeat(300).into_bytes(),
        "🦀".repeat(300).into_bytes(),
        "\"".repeat(300).into_bytes(),
    ])
    .collect()
}

/// Whether a record shows a target as it has to: escaped, and cut where it is too long.
fn shows(record: &Value, target: &[u8]) -> bool {
    let shown = text(record, "target");
    let plain = |c: char| !c.is_control() && !('\u{2028}'..='\u{202f}').contains(&c);
    let expected = String::from_utf8_lossy(target).escape_debug().to_string();
    let cut = shown.strip_suffix("...").unwrap_or(shown);
    let is_short = target.len() < 60;
    shown.chars().all(plain) && (shown == expected || !is_short && expected.starts_with(cut))
}

/// Asks for what it may not do, with each of these targets.
async fn refusals(door: &Door, targets: &[Vec<u8>]) {
    let mut talker = Talker::greet(door.open().await, [9; 16]).await;
    for (n, target) in targets.iter().enumerate() {
        let mut fields = FieldWriter::new();
        fields.must_bytes(1, target);
        let op = [op::PROCESS_STOP, op::PROCESS_START][n % 2];
        let (_, answer) = talker.ask_raw(op, fields.finish().into()).await;
        assert_eq!(answer.unwrap_err().code, ErrorCode::PermissionDenied);
    }
    talker.cut();
}

/// Makes refusals with odd targets, by two roles: more than one role's are told at once.
fn odd_refusals(roles: &Roles) {
    let targets = odd_targets();
    let (some, others) = targets.split_at(6);
    block_on(async {
        refusals(&roles.door("viewer"), some).await;
        refusals(&roles.door("other"), others).await;
    });
}

/// The records in a log of the runtime in text.
fn text_records(log: &str) -> Vec<Value> {
    let record = |line: &str| {
        let begin = line.find("{\"audit\":")?;
        let mut values = serde_json::Deserializer::from_str(&line[begin..]).into_iter();
        values.next()?.ok()
    };
    log.lines().filter_map(record).collect()
}

fn are_odd(all: &[Value]) {
    is_one_run(all);
    let targets = odd_targets();
    assert_eq!(all.len(), 1 + targets.len());
    for (record, target) in all[1..].iter().zip(targets) {
        assert!(
            shows(record, &target),
            "{record}, {:?}",
            String::from_utf8_lossy(&target)
        );
    }
    let long = all
        .iter()
        .filter(|it| it["target"].as_str().is_some_and(|it| it.ends_with("...")));
    assert!(long.count() >= 2);
}

#[test]
fn odd_names_come_through_whole_in_both_formats_and_restarts_are_new_runs() {
    let policy = [
        ("admin", ""),
        ("viewer", ""),
        ("other", "permissions = [\"list\"]"),
    ];
    let Some(mut roles) = Roles::start(&policy) else {
        return;
    };
    let count = 1 + odd_targets().len();
    odd_refusals(&roles);
    let first = roles.log_with("all refusals", |all| all.len() >= count);
    are_odd(&records(&first));
    let texts = record_texts(&first);
    let most = texts.iter().map(String::len).max().unwrap();
    assert!(
        (600..=2_048).contains(&most) && texts.iter().all(|it| it.is_ascii()),
        "{most}"
    );
    assert!(
        first
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
    is_whole(&roles, &first, count, 1);
    roles.server_mut().interrupt();

    // Again, appended to the same log.
    let runtime = roles.again(&SECURE, &["--log-format", "json"]);
    odd_refusals(&roles);
    let second = eventually("the second run", || {
        runtime.log().ok().filter(|log| records(log).len() >= count)
    });
    runtime.stop().unwrap();
    let both = format!("{first}{second}");
    let report = is_whole(&roles, &both, 2 * count, 2);
    let runs = array(&report["runs"]);
    assert_ne!(runs[0]["run"], runs[1]["run"]);
    for run in runs {
        assert_eq!(
            (number(run, "first"), number(run, "last")),
            (0, count as u64 - 1)
        );
    }

    // In the runtime's own format, which is text.
    let runtime = roles.again(&SECURE, &[]);
    odd_refusals(&roles);
    let third = eventually("the third run", || {
        runtime
            .log()
            .ok()
            .filter(|log| text_records(log).len() >= count)
    });
    runtime.stop().unwrap();
    are_odd(&text_records(&third));
    is_whole(&roles, &third, count, 1);
    let a_record = third
        .lines()
        .find(|line| line.contains("\"seq\":1,"))
        .unwrap();
    eprintln!("in the format text: {a_record}");

    // Without TimeRead: no times, and a word on it. Runs are told apart all the same.
    let mut clockless = String::new();
    for _ in 0..2 {
        let runtime = roles.again(&SECURE[..1], &["--log-format", "json"]);
        odd_refusals(&roles);
        let log = eventually("a run without a clock", || {
            runtime.log().ok().filter(|log| records(log).len() >= count)
        });
        runtime.stop().unwrap();
        are_odd(&records(&log));
        assert!(records(&log).iter().all(|it| it.get("time_ms").is_none()));
        assert!(log.contains("without the capability TimeRead no time limits are kept"));
        clockless.push_str(&log);
    }
    is_whole(&roles, &clockless, 2 * count, 2);
    is_whole(&roles, &format!("{both}{third}{clockless}"), 5 * count, 5);
}

/// A run with a few records: its lines.
fn a_run(roles: &Roles) -> Vec<String> {
    for n in 0..3 {
        let name = format!("p{n}");
        let _ = roles
            .server()
            .launch(&["hello.wasm", "hello", "--name", &name]);
        let denied = roles.selium("viewer", &["stop", &name]);
        assert_eq!(denied.code, Some(1), "{denied}");
    }
    let log = roles.log_with("all records", |all| all.len() >= 7);
    log.lines().map(str::to_owned).collect()
}

#[test]
fn what_is_wrong_with_a_log_is_found_and_named() {
    let policy = [("admin", ""), ("viewer", "")];
    let Some(mut roles) = Roles::start(&policy) else {
        return;
    };
    let lines = a_run(&roles);
    let is_record = |line: &str| line.contains("{\\\"audit\\\":1,");
    let at: Vec<usize> = (0..lines.len()).filter(|n| is_record(&lines[*n])).collect();
    assert_eq!(at.len(), 7);
    let joined = |lines: &[String]| lines.join("\n") + "\n";
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        joined(&lines)
    };
    let line = |n: usize| at[n] as u64 + 1;
    let gap = |at: u64| (at, "gap".to_owned());
    let forged = |at: u64| (at, "not_genuine".to_owned());
    is_whole(&roles, &joined(&lines), 7, 1);

    // Lines that are gone: one, several, the first.
    let log = changed(&|lines| drop(lines.remove(at[3])));
    assert_eq!(problems(&roles, &log), [gap(line(4) - 1)]);
    let log = changed(&|lines| {
        lines.remove(at[5]);
        lines.remove(at[4]);
    });
    assert_eq!(problems(&roles, &log), [gap(line(6) - 2)]);
    let (report, _) = roles.verify(&log);
    assert_eq!(number(&report, "missing"), 2);
    let message = text(&report["problems"][0], "message");
    assert!(
        message.ends_with("records 4 to 5 are missing before it"),
        "{message}"
    );
    let log = changed(&|lines| drop(lines.remove(at[0])));
    assert_eq!(
        problems(&roles, &log),
        [(line(1) - 1, "start_missing".to_owned())]
    );
    // Lines twice, and in another order.
    let log = changed(&|lines| {
        let again = lines[at[2]].clone();
        lines.push(again);
    });
    let last = lines.len() as u64 + 1;
    assert_eq!(problems(&roles, &log), [(last, "out_of_order".to_owned())]);
    let log = changed(&|lines| lines.swap(at[2], at[3]));
    let swapped = problems(&roles, &log);
    assert_eq!(swapped[0], gap(line(2)));
    assert_eq!(swapped[1], (line(3), "out_of_order".to_owned()));

    // A byte of it, in each of its fields; the next one shows the gap.
    let record = &lines[at[2]];
    assert!(record.contains("permission denied"), "{record}");
    for field in [
        "audit",
        "run",
        "seq",
        "time_ms",
        "role",
        "peer",
        "op",
        "target",
        "result",
        "reason",
        "request",
        "suppressed",
        "prev",
        "mac",
    ] {
        let name = format!("\\\"{field}\\\":");
        let value = record.find(&name).unwrap_or_else(|| panic!("{field}")) + name.len();
        let value = value
            + record[value..]
                .find(|c: char| c.is_ascii_alphanumeric())
                .unwrap();
        let other = match &record[value..=value] {
            "0" => "1",
            "a" => "b",
            "1" => "2",
            digit if digit.as_bytes()[0].is_ascii_digit() => "1",
            _ => "a",
        };
        let log = changed(&|lines| lines[at[2]].replace_range(value..=value, other));
        let found = problems(&roles, &log);
        // Of another version it is no record at all, as far as can be told: only missed.
        match field {
            "audit" => assert_eq!(found, [gap(line(3))], "{field}"),
            _ => assert_eq!(found, [forged(line(2)), gap(line(3))], "{field}"),
        }
    }
    // Added to its end, and put before its MAC.
    let log = changed(&|lines| {
        let mac = lines[at[2]].find(MAC).unwrap();
        lines[at[2]].insert_str(mac, ",\\\"more\\\":1");
    });
    assert_eq!(problems(&roles, &log), [forged(line(2)), gap(line(3))]);

    // The end cut off: in the middle of a record that shows. Whole records that are missing there do not, and the
    // verdict says so.
    let whole = joined(&lines);
    let end = whole.trim_end().len();
    let from = whole.rfind("{\\\"audit\\\":1,").unwrap() + 20;
    for cut in [
        from,
        whole.rfind(MAC).unwrap(),
        whole.rfind(MAC).unwrap() + 40,
    ] {
        assert!(cut < end);
        assert_eq!(
            problems(&roles, &whole[..cut]),
            [forged(line(6))],
            "{cut} of {end}"
        );
    }
    let log = changed(&|lines| lines.truncate(at[5]));
    is_whole(&roles, &log, 5, 1);

    // Nothing at all; and a log of a server with another key.
    for log in ["", "nothing\n"] {
        let (report, code) = roles.verify(log);
        assert_eq!((code, number(&report, "records")), (1, 0));
    }
    let key = roles.server().work().path().join("control-plane/audit.key");
    let own = std::fs::read_to_string(&key).unwrap();
    let first = if own.starts_with('0') { "1" } else { "0" };
    std::fs::write(&key, format!("{first}{}", &own[1..])).unwrap();
    let found = problems(&roles, &whole);
    assert_eq!(found.len(), 7);
    assert!(found.iter().all(|it| it.1 == "not_genuine"));
    std::fs::write(&key, &own).unwrap();

    // As people read it.
    let path = roles.server().work().path().join("cut.log");
    std::fs::write(&path, changed(&|lines| drop(lines.remove(at[3])))).unwrap();
    let shown = run({
        let mut command = roles.server().work().selium(&roles.server().setup().cli);
        command.args(["audit", "verify", "cut.log"]);
        command
    });
    assert_eq!(shown.code, Some(1), "{shown}");
    let expected = format!("line {}: record 3 is missing before it", line(4) - 1);
    assert!(shown.stdout.lines().any(|it| it == expected), "{shown}");
    assert!(shown.stdout.contains("NOT WHOLE"), "{shown}");

    // Guests that log what looks like a record: one that the runtime was started with; the server's own are not in the
    // runtime's log at all.
    let record = record_texts(&whole).swap_remove(3);
    let forgery = record.replace("\"role\":\"admin\"", "\"role\":\"viewer\"");
    assert_ne!(record, forgery);
    let fakes = [forgery, record];
    roles.server_mut().interrupt();
    for (n, fake) in fakes.iter().enumerate() {
        let hex = fake.bytes().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let guest = format!(
            "path=modules/args.wasm;entrypoint=text;capabilities={LOGGING};args=buffer:hex:{hex}"
        );
        let runtime = roles.again(&SECURE, &["--log-format", "json", "--module", &guest]);
        let builder = selium_remote_client::ProcessBuilder::new("args.wasm", "text")
            .capability(selium_remote_client::Capability::ChannelLifecycle)
            .capability(selium_remote_client::Capability::ChannelWriter)
            .signature(selium_remote_client::AbiSignature::new(
                vec![selium_remote_client::AbiParam::Buffer],
                vec![],
            ))
            .arg_utf8("{\"audit\":1,\"run\":\"by a process of the control plane\"}");
        block_on(async {
            let client = roles.client("admin").await;
            let process = Process::start(&client, builder).await.unwrap();
            let mut log = process.log_channel().await.unwrap();
            let item = selium_remote_e2e::soon("its log", log.next()).await;
            assert!(format!("{item:?}").contains("by a process of the control plane"));
            client.close().await;
        });
        let log = eventually("the forgery and the start", || {
            let log = runtime.log().ok()?;
            (log.contains("len=") && records(&log).len() >= 2).then_some(log)
        });
        runtime.stop().unwrap();
        assert!(!log.contains("by a process of the control plane"));
        let place = log.lines().position(|line| line.contains("len=")).unwrap() as u64 + 1;
        // Its own records are whole. What a guest has read elsewhere is genuine, and out of its place.
        let (kind, runs) = [("not_genuine", 1), ("start_missing", 2)][n];
        assert_eq!(problems(&roles, &log), [(place, kind.to_owned())]);
        let (report, _) = roles.verify(&log);
        let runs_found = array(&report["runs"]);
        assert_eq!(runs_found.len(), runs);
        let own = runs_found
            .iter()
            .find(|it| number(it, "first") == 0)
            .unwrap();
        assert_eq!(number(own, "last"), 1, "{report}");
        let kind = ["not_genuine", "out_of_order"][n];
        let behind = place + lines.len() as u64;
        assert_eq!(
            problems(&roles, &format!("{whole}{log}")),
            [(behind, kind.to_owned())]
        );
    }
}

#[test]
fn a_server_without_a_key_writes_plain_fields() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let id = server.launch(&["hello.wasm", "hello", "--name", "plain"]);
    let none = server.selium(&["stop", "no\"body\n\u{1b}"]);
    assert_eq!(none.code, Some(1), "{none}");
    let log = eventually("two records", || {
        let log = server.log();
        (log.matches("guest_target=audit").count() >= 2).then_some(log)
    });
    let lines: Vec<&str> = log
        .lines()
        .filter(|it| it.contains("guest_target=audit"))
        .collect();
    assert_eq!(lines.len(), 2, "a line each: {lines:?}");
    for part in [
        "role=admin",
        "peer=127.0.0.1:",
        "operation=process start",
        "target=hello.wasm",
        "result=ok",
        &id,
    ] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    for part in [
        "operation=process stop",
        "target=no\\\"body\\n\\u{1b}",
        "result=not found",
        "reason=there is no process",
    ] {
        assert!(lines[1].contains(part), "{part}: {}", lines[1]);
    }
    assert!(!log.contains("{\"audit\""));
    server.must_answer();
}

/// Connections that ask for what they may not do, and how often each.
const ASKERS: usize = 4;
const ASKED: usize = 10_000;
/// How many of them are on their way at a time: fewer than may be.
const AT_A_TIME: usize = 200;

/// Clients that are not let in: how many at a time, and how often each tries.
const KNOCKERS: usize = 8;
const KNOCKS: usize = 250;

/// Asks so often.
async fn ask(roles: &Roles, name: &str) {
    let client = roles.client(name).await;
    for _ in 0..ASKED / AT_A_TIME {
        let answers = join_all((0..AT_A_TIME).map(|_| client.stop("web"))).await;
        for answer in answers {
            assert_eq!(
                answer.unwrap_err().code(),
                Some(ErrorCode::PermissionDenied)
            );
        }
    }
    client.close().await;
}

/// Knocks so often, each time to be sent away; with a word, or without one when too many are.
async fn knock(door: &Door) -> usize {
    let mut words = 0;
    for _ in 0..KNOCKS {
        let mut line = door.open().await;
        match line.greet().await {
            Some(Err(error)) => {
                assert_eq!(error.code, ErrorCode::ResourceExhausted, "{error}");
                words += 1;
            }
            None => {}
            Some(Ok(_)) => panic!("the role is full"),
        }
        line.cut();
    }
    words
}

#[test]
fn a_flood_of_refusals_is_counted_and_does_not_end_the_log() {
    let policy = [
        ("admin", ""),
        ("viewer", ""),
        (
            "crowd",
            "permissions = [\"list\"]\nlimits = { connections = 1 }",
        ),
        ("quiet", "permissions = [\"list\"]"),
    ];
    let Some(mut roles) = Roles::start(&policy) else {
        return;
    };
    let (begun, size) = (Instant::now(), roles.server().log().len());
    let (took, words, quiet) = block_on_for(PATIENCE * 4, async {
        let only = roles.client("crowd").await;
        let door = roles.door("crowd");
        let viewers = async {
            join_all((0..ASKERS).map(|_| ask(&roles, "viewer"))).await;
            begun.elapsed()
        };
        let knockers = async {
            let words: usize = join_all((0..KNOCKERS).map(|_| knock(&door)))
                .await
                .into_iter()
                .sum();
            (words, begun.elapsed())
        };
        // Beside them somebody else is refused, now and then; and admin works.
        let quiet = async {
            let client = roles.client("quiet").await;
            let admin = roles.client("admin").await;
            for n in 0..4 {
                let denied = client.stop(&format!("quiet-{n}")).await;
                assert_eq!(
                    denied.unwrap_err().code(),
                    Some(ErrorCode::PermissionDenied)
                );
                let builder = guests::hello().name(format!("beside-{n}"));
                Process::start(&admin, builder).await.expect("it starts");
            }
            client.close().await;
            admin.close().await;
            4
        };
        let (asked, (words, knocked), quiet) = tokio::join!(viewers, knockers, quiet);
        only.close().await;
        door.idle().await;
        ((asked, knocked), words, quiet)
    });
    let flooded = begun.elapsed();
    // Afterwards a change is told, and with it everything that was not.
    let _ = roles
        .server()
        .launch(&["hello.wasm", "hello", "--name", "after"]);
    let is_start = |it: &&Value| it["op"] == "process start" && it["result"] == "ok";
    let log = roles.log_with("the start after the flood", |all| {
        all.iter().filter(is_start).count() >= 5
    });
    let all = records(&log);
    let report = is_whole(&roles, &log, all.len(), 1);
    let told = |role: &str| {
        let refused = all
            .iter()
            .filter(|it| it["role"] == role && it["result"] != "ok");
        refused.count()
    };
    let suppressed: u64 = all.iter().map(|it| number(it, "suppressed")).sum();
    assert_eq!(number(&report, "suppressed"), suppressed);
    let refused = ASKERS * ASKED + KNOCKERS * KNOCKS + quiet;
    eprintln!(
        "{} denied requests in {:.1?}, {} refused hellos in {:.1?} ({words} with a word): {} records told, {suppressed} \
         suppressed, the log grew by {} bytes",
        ASKERS * ASKED,
        took.0,
        KNOCKERS * KNOCKS,
        took.1,
        all.len(),
        log.len() - size
    );
    assert_eq!(
        told("viewer") + told("crowd") + told("quiet") + suppressed as usize,
        refused
    );
    assert_eq!(
        (told("quiet"), told("admin")),
        (quiet, 0),
        "a budget of its own"
    );
    for role in ["viewer", "crowd"] {
        // 8 at once, and 2 a second.
        let most = 8 + 2 * (flooded.as_secs() as usize + 1) + 1;
        assert!(
            (8..=most).contains(&told(role)),
            "{role}: {}, {most}",
            told(role)
        );
    }
    let info = block_on(async { roles.client("admin").await.info().await.unwrap() });
    assert_eq!(info.suppressed_records, 0, "of the module's own log");

    // Where there is no clock a flood shows itself ever less often, and nothing is lost count of.
    roles.server_mut().interrupt();
    let runtime = roles.again(&SECURE[..1], &["--log-format", "json"]);
    block_on_for(PATIENCE * 4, ask(&roles, "viewer"));
    let _ = roles
        .server()
        .launch(&["hello.wasm", "hello", "--name", "after"]);
    let log = eventually("the start after the flood", || {
        let log = runtime.log().ok()?;
        records(&log).iter().any(|it| is_start(&it)).then_some(log)
    });
    runtime.stop().unwrap();
    let all = records(&log);
    is_whole(&roles, &log, all.len(), 1);
    let suppressed: Vec<u64> = all.iter().map(|it| number(it, "suppressed")).collect();
    let told = all.iter().filter(|it| it["role"] == "viewer").count();
    assert_eq!(told as u64 + suppressed.iter().sum::<u64>(), ASKED as u64);
    eprintln!("without a clock {told} of {ASKED} are told: {suppressed:?}");
    assert_eq!(suppressed[9..12], [64, 128, 256]);
}

/// Starts and stops at a time, and of each role.
const CHANGES: usize = 8;
const PAIRS: usize = 30;

#[test]
fn what_changes_something_is_told_however_fast_it_goes() {
    let policy = [("admin", ""), ("operator", "")];
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    let begun = Instant::now();
    let ids: BTreeSet<String> = block_on_for(PATIENCE * 4, async {
        let clients = [roles.client("admin").await, roles.client("operator").await];
        let change = |n: usize| {
            let client = &clients[n % 2];
            let builder = selium_remote_client::ProcessBuilder::new("hello.wasm", "hello");
            async move {
                let process = Process::start(client, builder).await.expect("it starts");
                let id = process.id().to_string();
                process.stop().await.expect("it stops");
                id
            }
        };
        let changes = stream::iter((0..2 * PAIRS).map(change));
        changes.buffer_unordered(CHANGES).collect().await
    });
    let took = begun.elapsed();
    assert_eq!(ids.len(), 2 * PAIRS);
    let count = 1 + 4 * PAIRS;
    let log = roles.log_with("all changes", |all| all.len() >= count);
    let all = records(&log);
    is_whole(&roles, &log, count, 1);
    let mut seen: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for record in &all[1..] {
        assert_eq!(record["result"], "ok");
        let key = (text(record, "role"), text(record, "op"));
        seen.entry(key)
            .or_default()
            .insert(text(record, "process").to_owned());
    }
    assert_eq!(seen.len(), 4);
    for (key, processes) in &seen {
        assert_eq!(processes.len(), PAIRS, "{key:?}");
        assert!(processes.is_subset(&ids));
    }
    let bytes = log.len() / all.len();
    eprintln!(
        "{} changes in {took:.1?}, {:.0} records a second, {bytes} bytes of the log each",
        4 * PAIRS,
        4.0 * PAIRS as f64 / took.as_secs_f64()
    );
    assert!(took < Duration::from_secs(60));
}

/// Stops at a time: on each connection fewer requests than may be in flight.
const STOPS: usize = 500;
const STOPPERS: usize = 2;

#[test]
fn a_burst_of_changes_is_told() {
    if !load_tests() {
        return;
    }
    // The longest names there are, for the longest records.
    let role = "r".repeat(32);
    let lines = "base = \"operator\"\nlimits = { starts-per-minute = 60000 }";
    let Some(roles) = Roles::start(&[("admin", ""), (&role, lines)]) else {
        return;
    };
    let name = |n: usize| format!("{n:0>63}");
    block_on_for(PATIENCE * 10, async {
        let clients = join_all((0..STOPPERS).map(|_| roles.client(&role))).await;
        let client = &clients[0];
        let starts = (0..STOPS).map(|n| {
            let builder = selium_remote_client::ProcessBuilder::new("hello.wasm", "hello");
            Process::start(client, builder.name(name(n)))
        });
        let starts: Vec<_> = stream::iter(starts)
            .buffer_unordered(CHANGES)
            .collect()
            .await;
        assert!(starts.iter().all(Result::is_ok));
        let names: Vec<String> = (0..STOPS).map(name).collect();
        let stops = names.iter().enumerate();
        let stops = stops.map(|(n, name)| clients[n % STOPPERS].stop(name));
        assert!(join_all(stops).await.iter().all(Result::is_ok));
    });
    // Behind all of them.
    let _ = roles
        .server()
        .launch(&["hello.wasm", "hello", "--name", "last"]);
    let log = roles.log_with("the last record", |all| {
        all.last().is_some_and(|it| it["role"] == "admin")
    });
    is_whole(&roles, &log, 1 + 2 * STOPS + 1, 1);
}

#[test]
fn what_is_no_request_is_told_as_a_refusal() {
    let Some(roles) = Roles::start(&[("admin", ""), ("viewer", "")]) else {
        return;
    };
    let long = stop(&"x".repeat(300_000)).encode(&Common::default());
    block_on(async {
        let door = roles.door("viewer");
        let mut viewer = Talker::greet(door.open().await, [1; 16]).await;
        for body in [&b""[..], b"\xff", b"\x40\xc7\x00", &long] {
            let body = Bytes::copy_from_slice(body);
            let (_, answer) = viewer.ask_raw(op::PROCESS_STOP, body).await;
            assert_eq!(answer.unwrap_err().code, ErrorCode::PermissionDenied);
        }
        viewer.cut();
        // Longer than any may be: no rule of the server's sees it.
        let mut line = door.open().await;
        assert!(line.greet().await.unwrap().is_ok());
        let request = Frame::Request {
            id: 3,
            op: op::PROCESS_STOP,
            total: 400_000,
            chunk: Bytes::from_static(b"x").into(),
        };
        line.write(&frames(&[request])).await;
        assert!(line.read().await.is_some(), "an answer");
        line.cut();
    });
    let log = roles.log_with("the refusals", |all| all.len() >= 6);
    let all = records(&log);
    let told: Vec<_> = all[1..]
        .iter()
        .map(|it| {
            (
                text(it, "result"),
                it["target"].as_str().map(str::len),
                number(it, "request"),
            )
        })
        .collect();
    let denied = "permission denied";
    assert_eq!(
        told,
        [
            (denied, None, 1),
            (denied, None, 2),
            (denied, None, 3),
            (denied, Some(256), 4),
            ("too large", None, 3)
        ]
    );
    assert!(all[1..].iter().all(|it| it["op"] == "process stop"));
    is_whole(&roles, &log, 6, 1);
}
