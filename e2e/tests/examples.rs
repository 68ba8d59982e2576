//! The examples of the client library, each run as a user runs it.
//!
//! `cargo test --workspace` builds them; before a test of this package alone, `cargo build --examples -p
//! selium-remote-client` does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use selium_remote_client::{
    Channel, ChannelBuilder, Client, SubscribeItem, SubscribeOptions, Subscriber,
};
use selium_remote_e2e::certificates::{Authority, Life, fill};
use selium_remote_e2e::{Following, PATIENCE, Run, Server, Shared, block_on, run, setup, soon};
use xtask::proc::{Guard, is_executable};
use xtask::runtime::{Runtime, module_spec};

static SERVER: Shared = Shared::new();

/// Those that are run here.
const HERE: [&str; 6] = [
    "fan_in",
    "mtls",
    "publish_stdin",
    "reconnect",
    "request_reply",
    "start_and_follow",
];

/// The one that is run here without a server: it brings its own.
const ALONE: &str = "in_memory";

/// Those that are not: they need another build of the library, and have a test of their own (`example_async_std.rs`).
const ELSEWHERE: [&str; 1] = ["async_std"];

const STOPPED: &str = "the process was stopped";

const GREETING: &str = "INFO hello from selium";

/// Where the example is: cargo puts examples beside the tests' own folder.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.parent().and_then(Path::parent).expect("two folders");
    let path = target.join("examples").join(name);
    assert!(
        is_executable(&path),
        "{} is missing: `cargo build --examples -p selium-remote-client` makes it",
        path.display()
    );
    path
}

/// An example with these arguments and an environment of its own.
fn example(name: &str, port: u16, certs: &Path, args: &[&str]) -> Command {
    assert!(HERE.contains(&name), "{name} is not in the list");
    let mut command = Command::new(program(name));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SELIUM_") {
            command.env_remove(name);
        }
    }
    command
        .env("SELIUM_PORT", port.to_string())
        .env("SELIUM_CERT_DIR", certs)
        .env_remove("RUST_LOG")
        .args(args);
    command
}

/// The same, pointed at a server.
fn at(server: &Server, name: &str, args: &[&str]) -> Command {
    example(name, server.port(), &server.certs(), args)
}

/// Fails unless it failed with this exit code, printed nothing, and named its reason.
fn failed(run: &Run, code: i32, words: &str) {
    assert_eq!((run.code, &*run.stdout), (Some(code), ""), "{run}");
    assert!(run.stderr.contains(words), "{words:?}: {run}");
}

/// Waits for a line on stdout that fits, if there was none: it may have come while something on stderr was waited for.
fn printed(example: &mut Following, what: &str, fits: impl Fn(&str) -> bool) {
    if !example.seen().iter().any(|line| fits(line)) {
        let _line = example.until(what, fits);
    }
}

/// Waits until the greeting of `hello.wasm` was printed so often.
fn greeted(example: &mut Following, times: usize) {
    while example.seen().len() < times {
        assert_eq!(example.line(), GREETING);
    }
    assert_eq!(example.seen(), vec![GREETING; times]);
}

#[test]
fn every_example_is_run_by_a_test() {
    if setup().is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/examples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the examples")
        .map(|entry| entry.expect("an example").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let others = ELSEWHERE.iter().chain([&ALONE]);
    let mut expected: Vec<&str> = HERE.iter().chain(others).copied().collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for name in HERE {
        program(name);
    }
}

#[test]
fn examples_say_what_is_wrong() {
    let Some(server) = SERVER.get() else { return };
    let certs = server.certs();
    let certs = certs.to_str().expect("UTF-8");
    let usual = [
        ("fan_in", &[][..]),
        ("mtls", &[certs]),
        ("publish_stdin", &["x"]),
        ("reconnect", &["name", "hello.wasm", "start"]),
        ("request_reply", &["x"]),
        ("start_and_follow", &["hello.wasm", "start"]),
    ];
    assert_eq!(usual.map(|(name, _)| name), HERE);
    for (name, args) in usual {
        if !args.is_empty() {
            failed(&run(at(&server, name, &[])), 2, &format!("usage: {name} "));
        }
        let mut command = at(&server, name, args);
        command.env("SELIUM_PORT", "65536");
        let run = run(command);
        assert_eq!(run.code, Some(1), "{run}");
        assert!(run.stderr.contains("error: invalid SELIUM_PORT: "), "{run}");
    }
    for (name, args, word) in [
        (
            "start_and_follow",
            &["nowhere.wasm", "start"][..],
            "nowhere.wasm",
        ),
        (
            "reconnect",
            &["name", "nowhere.wasm", "start"],
            "nowhere.wasm",
        ),
        ("fan_in", &["nobody-here"], "nobody-here"),
        ("publish_stdin", &["no-channel-here"], "no-channel-here"),
    ] {
        let run = run(at(&server, name, args));
        failed(&run, 1, word);
        assert!(run.stderr.contains("error: "), "{run}");
    }
}

#[test]
fn in_memory() {
    if setup().is_none() {
        return;
    }
    let mut command = Command::new(program(ALONE));
    command.env("SELIUM_PORT", "65536").env_remove("RUST_LOG");
    let run = run(command);
    run.succeeded();
    let first = run.stdout.lines().next();
    assert_eq!(first, Some("it works, and tidies up"), "{run}");
    assert_eq!((run.stdout.lines().count(), &*run.stderr), (6, ""), "{run}");
}

#[test]
fn start_and_follow() {
    let Some(server) = SERVER.get() else { return };
    let args = ["hello.wasm", "start"];
    let started = |example: &mut Following| {
        let note = example.note("the start", |line| line.starts_with("started hello-"));
        let name = note.split(' ').nth(1).expect("a name").to_owned();
        greeted(example, 1);
        name
    };
    let is_stopped = |name: &str| {
        let listed = server.ps(&["--all"]);
        let process = listed.iter().find(|process| process["name"] == name);
        assert_eq!(process.expect("it is listed")["state"], "stopped");
    };

    // Ctrl-C stops the process and shows what is left of its log.
    let mut example = Following::start(at(&server, "start_and_follow", &args));
    let name = started(&mut example);
    example.must_run();
    example.interrupt();
    let ended = example.end();
    ended.printed(&format!("{GREETING}\n"));
    assert!(ended.stderr.ends_with(&format!("{STOPPED}\n")), "{ended}");
    is_stopped(&name);

    // Somebody else stops it.
    let mut example = Following::start(at(&server, "start_and_follow", &args));
    let name = started(&mut example);
    example.must_run();
    server.selium(&["stop", &name]).succeeded();
    let ended = example.end();
    ended.printed(&format!("{GREETING}\n"));
    assert!(ended.stderr.ends_with(&format!("{STOPPED}\n")), "{ended}");
    is_stopped(&name);
}

#[test]
fn request_reply() {
    // One of its own: nothing may be left behind.
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let one = run(at(
        &server,
        "request_reply",
        &["hello", "and again", "ünïcödé"],
    ));
    one.printed("hello\nand again\nünïcödé\n");
    let requests: Vec<String> = (0..100).map(|number| format!("request {number}")).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let many = run(at(&server, "request_reply", &requests));
    many.printed(
        &requests
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );

    // A request that is refused before it is sent; everything is put away all the same.
    let long = "x".repeat(64 * 1024 + 1);
    let refused = run(at(&server, "request_reply", &["short", &long]));
    assert_eq!(
        (refused.code, &*refused.stdout),
        (Some(1), "short\n"),
        "{refused}"
    );
    assert!(
        refused.stderr.contains("too long: the channel holds 65536"),
        "{refused}"
    );
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        assert_eq!(client.channels().await.expect("a list"), []);
        assert_eq!(client.processes(false).await.expect("a list"), []);
        assert_eq!(client.processes(true).await.expect("a list").len(), 3);
    });
}

#[test]
fn fan_in() {
    // One of its own: without names it follows everybody.
    let Some(server) = Server::start(&["TimeRead"]) else {
        return;
    };
    let tick = |name: &str, ticks: &str| {
        let ticks = format!("u32:{ticks}");
        let more = ["-c", "TimeRead", "-a", &ticks, "-a", "u32:20"];
        let _id = server.launch(&[&["ticker.wasm", "--name", name][..], &more].concat());
    };
    tick("short", "3");
    tick("long", "1000000");
    server
        .selium(&["start", "hello.wasm", "--name", "mute"])
        .succeeded();

    for args in [&["short", "long"][..], &[]] {
        let mut example = Following::start(at(&server, "fan_in", args));
        if args.is_empty() {
            example.note("who has no log", |line| line.starts_with("mute: "));
        }
        example.note("how many", |line| line == "following 2 logs");
        for name in ["short", "long"] {
            let third = format!("{name}: INFO tick 3");
            printed(&mut example, "some of each", |line| line == third);
        }
        if !args.is_empty() {
            example.must_run();
            continue; // Killed.
        }
        // The end of one is not the end of the other.
        server.selium(&["stop", "short"]).succeeded();
        example.note("its end", |line| line == format!("short: {STOPPED}"));
        let tick = |line: &str| line.strip_prefix("long: INFO tick ")?.parse::<usize>().ok();
        let last = example.seen().iter().filter_map(|line| tick(line)).max();
        let later = last.expect("a tick") + 50;
        example.until("the other goes on", |line| tick(line) == Some(later));
        example.must_run();
        server.selium(&["stop", "long"]).succeeded();
        let ended = example.end();
        ended.succeeded();
        assert!(
            ended.stderr.ends_with(&format!("long: {STOPPED}\n")),
            "{ended}"
        );
        // Every record of each once, in its order.
        for name in ["short", "long"] {
            let prefix = format!("{name}: INFO tick ");
            let ticks = ended
                .stdout
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix));
            let ticks: Vec<usize> = ticks.map(|tick| tick.parse().unwrap()).collect();
            assert_eq!(ticks, (1..=ticks.len()).collect::<Vec<_>>(), "{name}");
        }
    }
}

/// An example that is fed through a pipe.
struct Fed {
    process: Guard,
    /// Bytes that went into the pipe.
    fed: Arc<AtomicUsize>,
    feeder: JoinHandle<()>,
    errors: JoinHandle<String>,
}

impl Fed {
    fn start(mut command: Command, input: Vec<u8>) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example runs");
        let mut process = Guard::new(child);
        let mut stdin = process.child().stdin.take().expect("a pipe");
        let mut stderr = process.child().stderr.take().expect("a pipe");
        let fed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fed);
        let feeder = thread::spawn(move || {
            for piece in input.chunks(1_000) {
                if stdin.write_all(piece).is_err() {
                    return; // It has ended.
                }
                count.fetch_add(piece.len(), Ordering::Relaxed);
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("UTF-8 on stderr");
            text
        });
        Self {
            process,
            fed,
            feeder,
            errors,
        }
    }

    fn fed(&self) -> usize {
        self.fed.load(Ordering::Relaxed)
    }

    /// The exit code and what was said on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.process.wait_within(PATIENCE).expect("its status");
        let code = status.expect("it ends in time").code();
        self.feeder.join().expect("it was fed");
        (code, self.errors.join().expect("its errors"))
    }
}

async fn lossless(client: &Client, name: &str, capacity: u32) -> Subscriber {
    let builder = ChannelBuilder::new(capacity).name(name);
    let channel = Channel::create_with(client, builder).await;
    let options = SubscribeOptions::new().lossless(true);
    let channel = channel.expect("a channel");
    channel.subscribe_with(options).await.expect("a subscriber")
}

async fn message(subscriber: &mut Subscriber) -> Vec<u8> {
    let item = soon("a message", subscriber.next()).await;
    match item.expect("the stream goes on").expect("no error") {
        SubscribeItem::Message { payload, .. } => payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn publish_stdin() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        let mut subscriber = lossless(&client, "lines", 1_024).await;

        // Lines are messages, byte by byte; empty ones are none, and the last one needs no end.
        let input = b"one\n\n\xff\x00two \r\n\nthree".to_vec();
        let fed = Fed::start(at(&server, "publish_stdin", &["lines"]), input);
        for expected in [&b"one"[..], b"\xff\x00two \r", b"three"] {
            assert_eq!(message(&mut subscriber).await, expected);
        }
        assert_eq!(fed.end(), (Some(0), "3 messages published\n".to_owned()));
        let empty = Fed::start(at(&server, "publish_stdin", &["lines"]), vec![]);
        assert_eq!(empty.end(), (Some(0), "0 messages published\n".to_owned()));

        // The longest line, and one that is longer: what came before it is published.
        let longest = vec![b'x'; 1_024];
        let input = [&longest[..], b"\n", &longest, b"y\nnever read\n"].concat();
        let fed = Fed::start(at(&server, "publish_stdin", &["lines"]), input);
        assert_eq!(message(&mut subscriber).await, longest);
        let (code, errors) = fed.end();
        assert_eq!(code, Some(1), "{errors}");
        assert!(
            errors.starts_with("1 messages published\nerror: "),
            "{errors}"
        );
        assert!(
            errors.contains("too long: the channel holds 1024"),
            "{errors}"
        );
        client.delete_channel("lines").await.expect("deleted");
        client.close().await;
    });
}

#[test]
fn publish_stdin_reads_no_faster_than_the_channel() {
    let Some(server) = SERVER.get() else { return };
    // Far more than fits into the channel, the example, the server and all that lies between.
    const LINES: usize = 40_000;
    let line = |number: usize| format!("{number:>99}");
    let input: String = (0..LINES).map(|number| line(number) + "\n").collect();
    let total = input.len();
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        let mut subscriber = lossless(&client, "full", 4_096).await;
        let fed = Fed::start(at(&server, "publish_stdin", &["full"]), input.into_bytes());

        // Nobody reads: it stops taking lines.
        let (begun, mut last, mut since) = (Instant::now(), 0, Instant::now());
        while last == 0 || since.elapsed() < Duration::from_secs(1) {
            let now = fed.fed();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            assert!(begun.elapsed() < PATIENCE, "{now} bytes and no end");
            tokio::task::yield_now().await;
        }
        println!("{last} of {total} bytes were taken while nobody read");
        assert!(last < total / 2, "{last} of {total} bytes were taken");

        // Somebody reads: nothing was lost.
        for number in 0..LINES {
            assert_eq!(message(&mut subscriber).await, line(number).as_bytes());
        }
        let expected = format!("{LINES} messages published\n");
        assert_eq!(fed.end(), (Some(0), expected));
        client.delete_channel("full").await.expect("deleted");
        client.close().await;
    });
}

#[test]
fn publish_stdin_tells_what_may_be_lost() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        // Held up by a subscriber that does not read: lines are on their way when the channel goes.
        let subscriber = lossless(&client, "doomed", 1_024).await;
        let input = "x\n".repeat(100_000).into_bytes();
        let fed = Fed::start(at(&server, "publish_stdin", &["doomed"]), input);
        soon("the channel is full", async {
            let mut published = 0;
            loop {
                let info = client.inspect_channel("doomed").await.expect("it is there");
                if info.published > 0 && info.published == published {
                    return;
                }
                published = info.published;
            }
        })
        .await;
        client.delete_channel("doomed").await.expect("deleted");
        let (code, errors) = fed.end();
        assert_eq!(code, Some(1), "{errors}");
        let lines: Vec<&str> = errors.lines().collect();
        assert!(lines[0].ends_with(" messages published"), "{errors}");
        assert!(lines[1].ends_with(" more may have been"), "{errors}");
        assert!(
            lines[2].starts_with("error: publishing to `doomed` ended: "),
            "{errors}"
        );
        drop(subscriber);
        client.close().await;
    });
}

#[test]
fn reconnect() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let args = ["greeter", "hello.wasm", "start"];
    let mut example = Following::start(at(&server, "reconnect", &args));
    example.note("the connection", |line| line == "connected");
    example.note("the start", |line| line.starts_with("started greeter ("));
    greeted(&mut example, 1);

    server.interrupt();
    example.note("the loss", |line| line.starts_with("connection lost: "));
    example.note("an attempt", |line| line.starts_with("attempt 1 in "));
    // Another run of the same server: the same port, the same certificates.
    let (setup, port) = (server.setup(), server.port());
    let spec = module_spec(port, &[]);
    let runtime = Runtime::start_with(&setup.runtime, server.work(), port, &spec, &[]);
    let _runtime = runtime.expect("a runtime");
    example.note("the next one", |line| line == "connected again");
    example.note("its age", |line| line == "the server was restarted");
    example.note("the start", |line| line.starts_with("started greeter ("));
    greeted(&mut example, 2);

    server.selium(&["stop", "greeter"]).succeeded();
    let ended = example.end();
    ended.succeeded();
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), [GREETING; 2]);
    assert!(ended.stderr.ends_with(&format!("{STOPPED}\n")), "{ended}");
}

#[test]
fn mtls() {
    let Some(server) = Server::secure(|_, _| None) else {
        return;
    };
    let (work, port) = (server.work().path(), server.port());
    let server_ca = std::fs::read_to_string(server.certs().join("ca.crt")).expect("a CA");
    let admins = Authority::of(work, "admin");
    let of = |name: &str, identity| {
        let directory = work.join(name);
        fill(&directory, &server_ca, identity);
        directory
    };
    let connect = |directory: &Path| {
        let directory = directory.to_str().expect("UTF-8");
        run(example("mtls", port, Path::new("unused"), &[directory]))
    };

    let right = connect(&server.certs());
    right.succeeded();
    let lines: Vec<&str> = right.stdout.lines().collect();
    assert!(lines[0].starts_with("connected to "), "{right}");
    assert!(lines[0].ends_with(" as admin"), "{right}");
    let days = lines[1].strip_prefix("the certificate is valid for ");
    let days = days.and_then(|days| days.strip_suffix(" more days"));
    let days = days.expect(lines[1]);
    assert!(days.parse::<u32>().unwrap() >= 14, "{right}");
    assert_eq!(right.stderr, "", "{right}");

    let soon = Life::left(Duration::from_secs(12 * 60 * 60));
    let ending = connect(&of("ending", admins.client(soon)));
    ending.succeeded();
    assert!(ending.stdout.contains("valid for 0 more days"), "{ending}");
    assert!(ending.stderr.contains("warning: renew it"), "{ending}");

    let expired = connect(&of("expired", admins.client(Life::past())));
    failed(&expired, 1, "it expired on ");
    assert!(
        expired.stderr.ends_with("hint: renew your certificate\n"),
        "{expired}"
    );

    let other = Authority::new("another company");
    let stranger = connect(&of("stranger", other.client(Life::present())));
    assert_eq!(stranger.code, Some(1), "{stranger}");
    assert!(stranger.stderr.contains("another company"), "{stranger}");
    assert!(
        stranger
            .stderr
            .contains("hint: this is another role's port"),
        "{stranger}"
    );

    let fooled = work.join("fooled");
    fill(&fooled, other.pem(), admins.client(Life::present()));
    let fooled = connect(&fooled);
    assert_eq!(fooled.code, Some(1), "{fooled}");
    assert!(
        fooled.stderr.contains("hint: this may not be your server"),
        "{fooled}"
    );

    let missing = connect(&work.join("missing"));
    failed(&missing, 1, "missing");
    assert!(
        missing.stderr.ends_with("hint: look at the files\n"),
        "{missing}"
    );
    server.must_answer();
}

#[test]
fn mtls_warns_where_nobody_is_authenticated() {
    let Some(server) = SERVER.get() else { return };
    let certs = server.certs();
    let run = run(at(&server, "mtls", &[certs.to_str().expect("UTF-8")]));
    run.succeeded();
    assert!(run.stdout.contains(" as admin\n"), "{run}");
    assert!(
        run.stderr.contains("warning: whoever reaches this server"),
        "{run}"
    );
}
