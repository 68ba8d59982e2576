//! Start, ps, inspect, stop: by id, prefix and name; errors that name the thing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use selium_remote_e2e::{LOGGING, Run, Shared, array, eventually, line, number, run, setup, text};
use serde_json::{Value, json};

static SERVER: Shared = Shared::new();

/// The process with this id, as `ps -o json` lists it.
fn listed(processes: &[Value], id: &str) -> Option<Value> {
    processes
        .iter()
        .find(|process| text(process, "id") == id)
        .cloned()
}

fn is_id(text: &str) -> bool {
    text.len() == 16
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn a_process_is_started_listed_and_stopped() {
    let Some(server) = SERVER.get() else { return };
    let started = server.selium(&[
        "start",
        "hello.wasm",
        "hello",
        "--capabilities",
        LOGGING,
        "--name",
        "life",
    ]);
    started.succeeded();
    let id = started
        .stdout
        .strip_suffix('\n')
        .expect("a line")
        .to_owned();
    assert!(is_id(&id), "{started}");
    assert_eq!(started.stderr, format!("started life ({})\n", &id[..8]));

    // In every form. Its log has been found by the time that its line has been read.
    server
        .follow(&["logs", "--follow", &id])
        .until("the greeting", |line| line.contains("hello from selium"));
    let table = server.selium(&["ps"]);
    table.succeeded();
    let mut lines = table.stdout.lines();
    let header: Vec<&str> = lines.next().expect("a header").split_whitespace().collect();
    assert_eq!(
        header,
        ["ID", "NAME", "MODULE", "ENTRYPOINT", "STATE", "LOG", "AGE"]
    );
    let row = lines
        .find(|line| line.starts_with(&id[..8]))
        .expect(&table.stdout);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells,
        [
            &id[..8],
            "life",
            "hello.wasm",
            "hello",
            "started",
            "attached",
            "-"
        ]
    );

    let expected = json!({
        "id": id, "name": "life", "module": "hello.wasm", "entrypoint": "hello", "state": "started",
        "capabilities": ["ChannelLifecycle", "ChannelWriter"], "log": "attached", "log_records": 1,
        "started_ms": null, "stopped_ms": null, "last_log_ms": null,
    });
    assert_eq!(listed(&server.ps(&[]), &id), Some(expected.clone()));
    let by_variable = run({
        let mut command = server.command(&["ps"]);
        command.env("SELIUM_LOG_FORMAT", "json");
        command
    });
    by_variable.succeeded();
    assert_eq!(
        listed(array(&line(&by_variable.stdout)), &id),
        Some(expected)
    );
    for (args, wanted) in [
        (["ps", "-q"], id.as_str()),
        (["ps", "--output=name"], "life"),
    ] {
        let list = server.selium(&args);
        list.succeeded();
        assert!(list.stdout.lines().any(|line| line == wanted), "{list}");
    }
    let wide = server.selium(&["ps", "-o", "wide"]);
    let row = wide
        .stdout
        .lines()
        .find(|line| line.starts_with(&id))
        .expect(&wide.stdout);
    assert!(row.ends_with("ChannelLifecycle,ChannelWriter"), "{row}");

    let stopped = server.selium(&["stop", &id]);
    stopped.printed(&format!("{id}\n"));
    assert_eq!(
        stopped.stderr,
        format!("stop requested: life ({})\n", &id[..8])
    );
    assert_eq!(listed(&server.ps(&[]), &id), None, "ps lists what runs");
    let all = server.ps(&["--all"]);
    assert_eq!(
        text(&listed(&all, &id).expect("ps --all lists it"), "state"),
        "stopped"
    );
    // Stopping what is stopped is no error.
    server.selium(&["stop", &id]).printed(&format!("{id}\n"));
}

#[test]
fn processes_are_named_by_id_prefix_or_name() {
    let Some(server) = SERVER.get() else { return };
    let by_prefix = server.launch(&["hello.wasm", "hello"]);
    let by_name = server.launch(&["hello.wasm", "hello", "--name", "named.one"]);
    // Other tests start processes meanwhile: the id without its last digit is shared with none of them.
    for (target, id) in [(&by_prefix[..15], &by_prefix), ("named.one", &by_name)] {
        let inspected = server.selium(&["inspect", "-o", "json", target]);
        inspected.succeeded();
        assert_eq!(text(&line(&inspected.stdout), "id"), id);
        server.selium(&["stop", target]).printed(&format!("{id}\n"));
        assert_eq!(listed(&server.ps(&[]), id), None);
        assert_eq!(
            text(&listed(&server.ps(&["-a"]), id).expect("listed"), "state"),
            "stopped"
        );
    }

    let taken = server.launch(&["hello.wasm", "hello", "--name", "taken"]);
    server
        .selium(&["start", "hello.wasm", "hello", "--name", "taken"])
        .failed(
            1,
            "error: cannot start `hello.wasm`: already exists: there is a process named `taken`\n",
        );
    // Several at once; what is wrong does not keep the others.
    let other = server.launch(&["hello.wasm", "hello"]);
    let several = server.selium(&["stop", "nobody", &taken, &other]);
    assert_eq!(several.code, Some(1), "{several}");
    assert_eq!(several.stdout, format!("{taken}\n{other}\n"));
}

#[test]
fn a_prefix_that_fits_several_is_refused() {
    let Some(server) = SERVER.get() else { return };
    // With 17 processes two of them share a first digit.
    let ids: Vec<String> = (0..17)
        .map(|_| server.launch(&["hello.wasm", "hello"]))
        .collect();
    let shared = ids
        .iter()
        .map(|id| &id[..1])
        .find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1)
        .expect("two of 17");
    server.selium(&["stop", shared]).failed(
        1,
        &format!(
            "error: cannot stop `{shared}`: invalid argument: `{shared}` fits several processes; give more digits of \
             the id\n"
        ),
    );
    let running = server.ps(&[]);
    for id in &ids {
        assert!(listed(&running, id).is_some(), "{id} was stopped");
    }
}

#[test]
fn exactly_the_capabilities_that_were_passed_are_granted() {
    let Some(server) = SERVER.get() else { return };
    let inspect = |id: &str| {
        let run = server.selium(&["inspect", "--output", "json", id]);
        run.succeeded();
        line(&run.stdout)
    };
    for (args, expected) in [
        (
            &["-c", "ChannelLifecycle", "-c", "ChannelWriter"][..],
            &["ChannelLifecycle", "ChannelWriter"][..],
        ),
        (
            &[
                "--capabilities",
                "ChannelLifecycle,ChannelReader",
                "-c",
                "ChannelWriter",
            ],
            &["ChannelLifecycle", "ChannelReader", "ChannelWriter"],
        ),
        (&["--capability", "TimeRead"], &["TimeRead"]),
        (
            &["-c", "channel-lifecycle,channel_writer,TIMEREAD"],
            &["ChannelLifecycle", "ChannelWriter", "TimeRead"],
        ),
        (&[], &[]),
    ] {
        let started = server.selium(&[&["start", "hello.wasm", "hello"], args].concat());
        started.succeeded();
        let id = started.stdout.trim_end();
        let inspected = inspect(id);
        assert_eq!(inspected["capabilities"], json!(expected));
        let can_log = expected.contains(&"ChannelWriter");
        if can_log {
            eventually("the log is found", || {
                (text(&inspect(id), "log") == "attached").then_some(())
            });
        } else {
            assert_eq!(text(&inspected, "log"), "none");
            assert_eq!(number(&inspected, "log_records"), 0);
        }
        let shown = server.selium(&["inspect", id]);
        shown.succeeded();
        let line = shown
            .stdout
            .lines()
            .find(|line| line.starts_with("capabilities: "))
            .expect(&shown.stdout);
        let expected = if expected.is_empty() {
            "-".to_owned()
        } else {
            expected.join(",")
        };
        assert_eq!(line, format!("capabilities: {expected}"));
    }
}

#[test]
fn a_process_without_a_log_is_started_and_not_attached_to() {
    let Some(server) = SERVER.get() else { return };
    let started = server.selium(&["start", "hello.wasm", "hello", "--name", "mute"]);
    started.succeeded();
    let id = started.stdout.trim_end();
    assert_eq!(
        started.stderr,
        format!(
            "started mute ({})\nit will have no log: it was not given ChannelLifecycle and ChannelWriter\n",
            &id[..8]
        )
    );
    let logs = server.selium(&["logs", "mute"]);
    assert_eq!((logs.code, logs.stdout.as_str()), (Some(1), ""), "{logs}");
    assert_eq!(
        logs.stderr.lines().next(),
        Some(
            "error: cannot show the log of `mute`: not found: `mute` has no log: it was started without \
             ChannelLifecycle and ChannelWriter"
        )
    );

    let before = server.ps(&["-a"]).len();
    for (given, missing, verb, add) in [
        (
            "",
            "ChannelLifecycle and ChannelWriter",
            "are",
            "ChannelLifecycle,ChannelWriter",
        ),
        ("ChannelLifecycle", "ChannelWriter", "is", "ChannelWriter"),
        (
            "ChannelWriter,TimeRead",
            "ChannelLifecycle",
            "is",
            "ChannelLifecycle",
        ),
    ] {
        let mut args = vec![
            "start",
            "hello.wasm",
            "hello",
            "--attach",
            "--name",
            "never-attached",
        ];
        if !given.is_empty() {
            args.extend(["-c", given]);
        }
        server.selium(&args).failed(
            2,
            &format!(
                "error: --attach needs a log, and the process would have none: logging needs ChannelLifecycle and \
                 ChannelWriter, and {missing} {verb} not granted\n  hint: add --capabilities {add}, or leave --attach \
                 out\n"
            ),
        );
    }
    let after = server.ps(&["-a"]);
    assert!(after.len() >= before, "{after:?}");
    assert!(
        !after
            .iter()
            .any(|process| text(process, "name") == "never-attached"),
        "refused before anything started"
    );
}

#[test]
fn the_environment_points_at_the_server() {
    let Some(server) = SERVER.get() else { return };
    let bare = |variables: &[(&str, &str)], args: &[&str]| -> Run {
        let mut command = std::process::Command::new(&server.setup().cli);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SELIUM_") {
                command.env_remove(name);
            }
        }
        // A directory without certificates.
        command
            .current_dir(server.certs())
            .env("SELIUM_NO_WARN", "1")
            .envs(variables.iter().copied())
            .args(args);
        run(command)
    };
    let certs = server.certs();
    let (certs, port) = (certs.to_str().unwrap(), server.port().to_string());
    let all = [
        ("SELIUM_DOMAIN", "127.0.0.1"),
        ("SELIUM_PORT", port.as_str()),
        ("SELIUM_CERT_DIR", certs),
    ];
    let info = bare(&all, &["info", "-o", "json"]);
    info.succeeded();
    let info = line(&info.stdout);
    assert_eq!(
        text(&info, "endpoint"),
        format!("127.0.0.1:{port}"),
        "SELIUM_DOMAIN"
    );
    assert_eq!(info["clock"], json!(false));
    assert_eq!(info["uptime_ms"], Value::Null);
    assert_eq!(info["authenticated"], json!(false));

    // Each of them is needed here, and an option comes before its variable.
    let with_json = [&all[..], &[("SELIUM_LOG_FORMAT", "json")]].concat();
    let started = bare(
        &with_json,
        &[
            "start",
            "hello.wasm",
            "hello",
            "-c",
            LOGGING,
            "--name",
            "by-env",
        ],
    );
    started.succeeded();
    let event = line(&started.stdout);
    assert_eq!(text(&event, "event"), "started");
    assert_eq!(text(&event, "name"), "by-env");
    assert_eq!(text(&event, "module"), "hello.wasm");
    assert!(is_id(text(&event, "id")));
    assert_eq!(
        line(&started.stderr),
        json!({ "note": format!("started by-env ({})", &text(&event, "id")[..8]) })
    );
    let text_again = bare(&with_json, &["--log-format", "text", "stop", "by-env"]);
    text_again.printed(&format!("{}\n", text(&event, "id")));

    let gone = bare(&all[..2], &["ps"]);
    assert_eq!(gone.code, Some(1), "./certs is not there: {gone}");
    assert!(
        gone.stderr
            .starts_with("error: cannot connect: there is no certificate directory certs: "),
        "{gone}"
    );
    let wrong = bare(
        &[
            ("SELIUM_DOMAIN", "localhost"),
            ("SELIUM_PORT", "70000"),
            ("SELIUM_CERT_DIR", certs),
        ],
        &["ps"],
    );
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.starts_with(
            "error: the variable SELIUM_PORT is `70000`: expected a port, 1 to 65535\n"
        ),
        "{wrong}"
    );
    let before = bare(
        &[
            ("SELIUM_DOMAIN", "no.such.host.invalid"),
            ("SELIUM_PORT", "1"),
            ("SELIUM_CERT_DIR", "/nowhere"),
        ],
        &[
            "ps",
            "-q",
            "--domain",
            "localhost",
            "--port",
            &port,
            "--cert-dir",
            certs,
        ],
    );
    before.succeeded();
}

#[test]
fn errors_name_the_thing_and_the_server_lives_on() {
    let Some(server) = SERVER.get() else { return };
    let gone = "hint: `selium ps --all` lists the processes";
    for (args, message) in [
        (
            &["start", "nowhere.wasm", "hello"][..],
            "error: cannot start `nowhere.wasm`: not found: the runtime has no module `nowhere.wasm`; modules are named \
             relative to its modules directory (internal error: Module store error: Error reading filesytem: No such \
             file or directory (os error 2))\n"
                .to_owned(),
        ),
        (
            &["start", "hello.wasm", "nothing"],
            "error: cannot start `hello.wasm`: not found: module `hello.wasm` has no entrypoint `nothing`\n".to_owned(),
        ),
        (
            &["start", "../certs/ca.key", "x"],
            "error: cannot start `../certs/ca.key`: invalid argument: the module id `../certs/ca.key` must be relative \
             and stay inside the runtime's modules directory\n"
                .to_owned(),
        ),
        (
            &["start", "/etc/passwd", "x"],
            "error: cannot start `/etc/passwd`: invalid argument: the module id `/etc/passwd` must be relative and stay \
             inside the runtime's modules directory\n"
                .to_owned(),
        ),
        (
            &["start", "hello.wasm", "hello", "--name", "Not A Name"],
            "error: cannot start `hello.wasm`: invalid argument: the name `Not A Name` may have a-z, 0-9, `-`, `_` and \
             `.` only, and begins with a letter or digit\n"
                .to_owned(),
        ),
        (
            &["start", "hello.wasm", "hello", "-a", "resource:1"],
            "error: cannot start `hello.wasm`: not found: there is no channel `0000000000000001`\n"
                .to_owned(),
        ),
        (
            &["stop", "0000000000000001"],
            format!(
                "error: cannot stop `0000000000000001`: not found: there is no process `0000000000000001`\n  {gone}\n"
            ),
        ),
        (
            &["inspect", "nobody"],
            format!(
                "error: cannot inspect `nobody`: not found: there is no process `nobody`\n  {gone}\n"
            ),
        ),
        (
            &["logs", "nobody"],
            format!(
                "error: cannot show the log of `nobody`: not found: there is no process `nobody`\n  {gone}\n"
            ),
        ),
    ] {
        server.selium(args).failed(1, &message);
        server.must_answer();
    }
    // The rest of these two is the runtime's own.
    for args in [
        &["-a", "u8:1", "-a", "u8:2", "-a", "u8:3"][..],
        &["-a", "f64:1.5"],
    ] {
        let run = server.selium(&[&["start", "args.wasm", "text"], args].concat());
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
        let start = "error: cannot start `args.wasm`: invalid argument: the arguments do not fit entrypoint `text` of \
                     `args.wasm`: ";
        assert!(run.stderr.starts_with(start), "{run}");
        server.must_answer();
    }
    let failed = server.selium(&["--log-format", "json", "inspect", "nobody"]);
    assert_eq!(
        (failed.code, failed.stdout.as_str()),
        (Some(1), ""),
        "{failed}"
    );
    let error = &line(&failed.stderr)["error"];
    assert_eq!(
        (text(error, "kind"), text(error, "code")),
        ("remote", "not found")
    );
}

#[test]
fn wrong_lines_need_no_server() {
    let Some(setup) = setup() else { return };
    // Nobody is there: an attempt to connect would end with exit code 1.
    let selium = |args: &[&str]| -> Run {
        let mut command = std::process::Command::new(&setup.cli);
        command
            .args(["--port", "9", "--cert-dir", "/nowhere"])
            .args(args);
        run(command)
    };
    let hint = "  hint: see `selium start --help`\n";
    for (arg, message) in [
        (
            "u8:256",
            "argument 1 `u8:256` is no u8: expected an integer from 0 to 255",
        ),
        (
            "i64:9223372036854775808",
            "argument 1 `i64:9223372036854775808` is no i64: expected an integer from \
          -9223372036854775808 to 9223372036854775807",
        ),
        (
            "buffer:hex:abc",
            "argument 1 `buffer:hex:abc` is no buffer: expected text, or hex: and pairs of hexadecimal \
          digits",
        ),
        (
            "f32:much",
            "argument 1 `f32:much` is no f32: expected a number",
        ),
        (
            "seven",
            "argument 1 `seven` has no type: write TYPE:VALUE (for example utf8:hello), or name the types with \
          --param",
        ),
    ] {
        selium(&["start", "args.wasm", "text", "-a", arg])
            .failed(2, &format!("error: {message}\n{hint}"));
    }
    let unknown = selium(&[
        "start",
        "hello.wasm",
        "--capabilities",
        "ChannelReader,Everything",
    ]);
    assert_eq!(
        (unknown.code, unknown.stdout.as_str()),
        (Some(2), ""),
        "{unknown}"
    );
    assert_eq!(
        unknown.stderr.lines().next(),
        Some("error: invalid value 'Everything' for '--capabilities <CAPABILITY>'")
    );
    assert!(
        unknown
            .stderr
            .contains("possible values: SessionLifecycle, ChannelLifecycle, "),
        "{unknown}"
    );
    for args in [
        &["stop"][..],
        &["start"],
        &["frobnicate"],
        &["ps", "--all", "now"],
    ] {
        assert_eq!(selium(args).code, Some(2), "{args:?}");
    }
}
