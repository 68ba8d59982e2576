//! `selium channel` on the stock runtime: files that go through a channel and come out byte by byte, and how commands end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use selium_remote_e2e::{
    Dice, PATIENCE, Run, Server, Shared, array, eventually, line, lines, number, text,
};
use tempfile::TempDir;
use xtask::proc::Guard;

static SERVER: Shared = Shared::new();

/// What the capabilities of a guest are that reads and writes channels.
const CHANNELS: &str = "ChannelLifecycle,ChannelReader,ChannelWriter";

// --- Helpers

/// Creates a channel and returns its id.
fn create(server: &Server, args: &[&str]) -> String {
    let mut all = vec!["channel", "create"];
    all.extend(args);
    let run = server.selium(&all);
    run.succeeded();
    run.stdout.trim_end().to_owned()
}

fn delete(server: &Server, names: &[&str]) {
    let mut all = vec!["channel", "delete"];
    all.extend(names);
    server.selium(&all).succeeded();
}

/// What `selium channel inspect` says in JSON.
fn inspect(server: &Server, target: &str) -> serde_json::Value {
    let run = server.selium(&["channel", "inspect", target, "-o", "json"]);
    run.succeeded();
    line(&run.stdout)
}

/// `selium channel pub` of these bytes.
fn publish(server: &Server, folder: &Path, channel: &str, args: &[&str], input: &[u8]) -> Run {
    let file = folder.join(format!("in-{channel}"));
    fs::write(&file, input).expect("the input is written");
    let file = file.to_str().unwrap();
    let mut all = vec!["channel", "pub", channel, "--file", file];
    all.extend(args);
    server.selium(&all)
}

/// A `selium channel sub` whose output goes to a file, byte by byte.
struct Sub {
    process: Guard,
    out: PathBuf,
    err: PathBuf,
}

impl Sub {
    /// Starts one, and waits until it is subscribed.
    fn start(server: &Server, folder: &Path, channel: &str, args: &[&str]) -> Self {
        let mut all = vec!["channel", "sub", channel];
        all.extend(args);
        let name = format!("{channel}-{}", args.concat().replace('/', "_"));
        let (out, err) = (
            folder.join(format!("out-{name}")),
            folder.join(format!("err-{name}")),
        );
        let child = server
            .command(&all)
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("a file"))
            .stderr(File::create(&err).expect("a file"))
            .spawn()
            .expect("the command runs");
        let mut sub = Self {
            process: Guard::new(child),
            out,
            err,
        };
        eventually("the subscription", || {
            let said = sub.said();
            let ended = sub.process.ended().expect("its state");
            assert!(ended.is_none(), "it has ended with {ended:?}: {said}");
            said.contains("subscribed to").then_some(())
        });
        sub
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.err).expect("its errors")
    }

    fn written(&self) -> Vec<u8> {
        fs::read(&self.out).expect("its output")
    }

    /// Waits for its end: the exit code and all that it wrote.
    fn end(mut self) -> (Option<i32>, Vec<u8>, String) {
        let status = self.process.wait_within(PATIENCE).expect("its status");
        let status = status.unwrap_or_else(|| panic!("it does not end: {}", self.said()));
        (status.code(), self.written(), self.said())
    }

    /// The same, when all has to be well.
    fn bytes(self) -> Vec<u8> {
        let (code, bytes, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(
            said.lines().count(),
            1,
            "nothing but that it is subscribed: {said}"
        );
        bytes
    }
}

/// So many random bytes.
fn random(dice: &mut Dice, length: u64) -> Vec<u8> {
    (0..length).map(|_| dice.below(256) as u8).collect()
}

/// Random messages, some of them text.
fn messages(dice: &mut Dice, count: usize, longest: u64) -> Vec<Vec<u8>> {
    let message = |n| {
        let length = 1 + dice.below(longest);
        if n % 3 == 0 {
            let text: String = (0..length)
                .map(|_| {
                    "aZ \u{e4}\"\\\n\u{1b}\u{1f600}"
                        .chars()
                        .nth(dice.below(9) as usize)
                        .unwrap()
                })
                .collect();
            text.into_bytes()
        } else {
            random(dice, length)
        }
    };
    (0..count).map(message).collect()
}

fn len32(messages: &[Vec<u8>]) -> Vec<u8> {
    let framed = messages.iter().map(|message| {
        let length = u32::try_from(message.len()).unwrap();
        [&length.to_be_bytes()[..], message].concat()
    });
    framed.collect::<Vec<_>>().concat()
}

fn published(run: &Run, count: usize, name: &str) {
    run.printed("");
    let messages = if count == 1 { "message," } else { "messages," };
    let begin = format!("published {} {messages} ", grouped(count));
    assert!(run.stderr.starts_with(&begin), "{begin}: {run}");
    assert!(run.stderr.contains(&format!("to {name} (")), "{run}");
}

fn grouped(count: usize) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ => format!("{},{:03}", count / 1_000, count % 1_000),
    }
}

// --- Channels as wholes

#[test]
fn channels_are_made_listed_changed_and_deleted() {
    let Some(server) = Server::start(&["TimeRead"]) else {
        return;
    };
    let selium = |args: &[&str]| server.selium(&[&["channel"], args].concat());
    selium(&["ls", "-q"]).printed("");
    let run = selium(&["create", "jobs", "--capacity", "100KiB"]);
    run.succeeded();
    let id = run.stdout.trim_end().to_owned();
    assert_eq!(id.len(), 16, "{run}");
    assert_eq!(
        run.stderr,
        format!(
            "created jobs ({}): 128KiB, writers wait when it is full\n",
            &id[..8]
        )
    );
    let run = selium(&["create", "--drop", "--log-format", "json"]);
    run.succeeded();
    let made = line(&run.stdout);
    assert_eq!(text(&made, "event"), "created");
    assert_eq!(text(&made, "mode"), "drop");
    assert_eq!(number(&made, "capacity"), 65_536);
    let (other, other_name) = (text(&made, "id").to_owned(), text(&made, "name").to_owned());

    let run = selium(&["create", "jobs"]);
    run.failed(
        1,
        &format!(
            "error: cannot create the channel `jobs`: already exists: there is a channel named `jobs`\n{}",
            run.stderr.split_once('\n').unwrap().1
        ),
    );
    selium(&["ls", "-q"]).printed(&format!("{id}\n{other}\n"));
    selium(&["ls", "-o", "name"]).printed(&format!("jobs\n{other_name}\n"));
    let table = selium(&["ls"]);
    table.succeeded();
    let rows: Vec<Vec<&str>> = table
        .stdout
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(
        rows[1][..7],
        [&id[..8], "jobs", "128KiB", "park", "open", "0", "0"]
    );
    assert_eq!(rows[2][2..5], ["64KiB", "drop", "open"]);
    let json = selium(&["ls", "-o", "json"]);
    let all = line(&json.stdout);
    assert_eq!(array(&all).len(), 2);
    assert_eq!(array(&all)[0], inspect(&server, &id[..10]));

    // Several at once, also when one of them fails.
    let run = selium(&["share", "jobs", "none", &other]);
    assert_eq!(run.code, Some(1), "{run}");
    assert_eq!(run.stdout, format!("{id}\n{other}\n"));
    assert!(
        run.stderr
            .contains("cannot share the channel `none`: not found"),
        "{run}"
    );
    let shared = inspect(&server, "jobs");
    assert_eq!(
        (&shared["shared"], text(&shared, "state")),
        (&true.into(), "open")
    );
    for _ in 0..2 {
        selium(&["drain", "jobs"]).printed(&format!("{id}\n"));
    }
    assert_eq!(text(&inspect(&server, "jobs"), "state"), "draining");
    let folder = TempDir::new().unwrap();
    let run = publish(&server, folder.path(), "jobs", &[], b"x\n");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(
        run.stderr
            .starts_with("error: cannot publish to `jobs`: unavailable: "),
        "{run}"
    );
    // A drained channel has nothing more to say.
    let run = selium(&["sub", "jobs"]);
    run.printed("");
    assert!(run.stderr.contains("it takes no new messages"), "{run}");
    selium(&["rm", "jobs", &other_name]).printed(&format!("{id}\n{other}\n"));
    selium(&["ls", "-q"]).printed("");
    for command in ["inspect", "delete", "drain", "share", "pub", "sub"] {
        let run = selium(&[command, "jobs"]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
        assert!(run.stderr.contains("`jobs`: not found: "), "{run}");
    }
}

// --- Bytes

#[test]
fn files_come_out_as_they_went_in() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let mut dice = Dice::seeded("files");
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let sub = |channel: &str, framing: &str, count: usize| {
        let count = count.to_string();
        let args = ["--lossless", "--framing", framing, "--count", &count];
        Sub::start(&server, folder, channel, &args)
    };

    // Raw: any file, cut anywhere.
    create(&server, &["raw", "--capacity", "64KiB"]);
    let file = random(&mut dice, 1_000_003);
    for chunk in [None, Some(60_000), Some(4_096)] {
        let size = chunk.unwrap_or(65_536);
        let count = file.len().div_ceil(size);
        let subscriber = sub("raw", "raw", count);
        let chunk = size.to_string();
        let args = match chunk.as_str() {
            "65536" => vec!["--framing", "raw"],
            chunk => vec!["--framing", "raw", "--chunk", chunk],
        };
        published(&publish(&server, folder, "raw", &args, &file), count, "raw");
        assert!(subscriber.bytes() == file, "raw, {size}");
    }

    // Lines: any bytes but newlines, and none that are empty.
    create(&server, &["line"]);
    let mut file = Vec::new();
    let mut count = 0;
    for _ in 0..2_000 {
        let length = 1 + dice.below(200);
        file.extend(random(&mut dice, length).iter().map(|byte| match byte {
            b'\n' => b' ',
            byte => *byte,
        }));
        file.push(b'\n');
        count += 1;
    }
    for last in ["", "the last one has no newline"] {
        let subscriber = sub("line", "line", count + usize::from(!last.is_empty()));
        let input = [&file, last.as_bytes()].concat();
        let run = publish(&server, folder, "line", &["--framing", "line"], &input);
        published(&run, count + usize::from(!last.is_empty()), "line");
        let expected = match last {
            "" => input,
            _ => [&input[..], b"\n"].concat(),
        };
        assert!(subscriber.bytes() == expected, "line");
    }
    let subscriber = sub("line", "line", 2);
    let run = publish(&server, folder, "line", &[], b"\n\none\n\ntwo\n\n");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(
        run.stderr.contains("left out 4 messages without bytes"),
        "{run}"
    );
    assert_eq!(subscriber.bytes(), b"one\ntwo\n");

    // Lengths: any messages.
    create(&server, &["len32"]);
    let some = messages(&mut dice, 1_500, 2_000);
    let file = len32(&some);
    let subscriber = sub("len32", "len32", some.len());
    let run = publish(&server, folder, "len32", &["--framing", "len32"], &file);
    published(&run, some.len(), "len32");
    assert!(subscriber.bytes() == file, "len32");

    // JSON: what comes out goes in again, and means the same.
    create(&server, &["json"]);
    let subscriber = sub("json", "json", some.len());
    let run = publish(&server, folder, "json", &["--framing", "len32"], &file);
    published(&run, some.len(), "json");
    let json = subscriber.bytes();
    let values = lines(std::str::from_utf8(&json).expect("JSON is text"));
    assert_eq!(values.len(), some.len());
    for (at, (value, message)) in values.iter().zip(&some).enumerate() {
        assert_eq!(number(value, "seq"), at as u64);
        match std::str::from_utf8(message) {
            Ok(message) => assert_eq!(text(value, "text"), message),
            Err(_) => assert!(value["base64"].is_string(), "{value}"),
        }
    }
    let subscriber = sub("json", "len32", some.len());
    let run = publish(&server, folder, "json", &["--framing", "json"], &json);
    published(&run, some.len(), "json");
    assert!(subscriber.bytes() == file, "json and back");
    delete(&server, &["raw", "line", "len32", "json"]);
}

#[test]
fn one_command_feeds_another() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let mut dice = Dice::seeded("pipes");
    let folder = TempDir::new().unwrap();
    let some = messages(&mut dice, 500, 5_000);
    let file = len32(&some);
    for name in ["pipe-a", "pipe-b"] {
        create(&server, &[name]);
    }
    let count = some.len().to_string();
    let args = ["--lossless", "--framing", "len32", "--count", &count];
    let end = Sub::start(&server, folder.path(), "pipe-b", &args);
    let mut middle = server
        .command(&[&["channel", "sub", "pipe-a"], &args[..]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let (out, err) = (middle.stdout.take().unwrap(), middle.stderr.take().unwrap());
    let mut middle = Guard::new(middle);
    let mut said = String::new();
    BufReader::new(err).read_line(&mut said).expect("a note");
    assert!(said.contains("subscribed to pipe-a"), "{said}");
    let mut last = server.command(&["channel", "pub", "pipe-b", "--framing", "len32"]);
    let last = last
        .stdin(out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut last = Guard::new(last.expect("the command runs"));
    let run = publish(
        &server,
        folder.path(),
        "pipe-a",
        &["--framing", "len32"],
        &file,
    );
    published(&run, some.len(), "pipe-a");
    assert!(end.bytes() == file);
    for process in [&mut middle, &mut last] {
        let status = process.wait_within(PATIENCE).expect("its status");
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
    delete(&server, &["pipe-a", "pipe-b"]);
}

// --- Ends

#[test]
fn publishing_ends_when_everything_is_in_the_channel() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    create(&server, &["eof"]);
    let input: String = (0..500).map(|n| format!("line {n}\n")).collect();
    for round in 1..=3 {
        let run = publish(&server, folder.path(), "eof", &[], input.as_bytes());
        published(&run, 500, "eof");
        assert_eq!(number(&inspect(&server, "eof"), "published"), 500 * round);
    }
    // From stdin, which stays open for a while: what is there is published at once.
    let sub = Sub::start(&server, folder.path(), "eof", &["--since", "1500"]);
    let mut command = server.command(&["channel", "pub", "eof"]);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Guard::new(child.expect("the command runs"));
    let mut stdin = child.child().stdin.take().expect("a pipe");
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        eventually(word, || {
            let written = sub.written();
            written
                .ends_with(format!("{word}\n").as_bytes())
                .then_some(())
        });
        assert!(child.ended().expect("its state").is_none());
    }
    drop(stdin);
    let status = child.wait_within(PATIENCE).expect("its status");
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    // --count of both.
    let two = Sub::start(&server, folder.path(), "eof", &["-n", "2"]);
    let run = publish(
        &server,
        folder.path(),
        "eof",
        &["--count", "3"],
        b"a\nb\nc\nd\n",
    );
    published(&run, 3, "eof");
    assert_eq!(two.bytes(), b"a\nb\n");
    assert_eq!(number(&inspect(&server, "eof"), "published"), 1_505);
    // Ctrl-C ends a subscription well, unless something was still to come.
    let counting = Sub::start(&server, folder.path(), "eof", &["--count", "9"]);
    for (sub, code) in [(sub, 0), (counting, 130)] {
        sub.process.interrupt().expect("the signal is sent");
        let (ended, _, said) = sub.end();
        assert_eq!(ended, Some(code), "{said}");
    }
    // So does the end of the channel.
    let (open, counting) = (
        Sub::start(&server, folder.path(), "eof", &["--framing", "raw"]),
        Sub::start(&server, folder.path(), "eof", &["--count", "7"]),
    );
    delete(&server, &["eof"]);
    let (code, _, said) = open.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the channel was deleted"), "{said}");
    let (code, _, said) = counting.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("0 of 7 messages came"), "{said}");
}

#[test]
fn nothing_waits_longer_than_its_timeout() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    create(&server, &["late", "--capacity", "4KiB"]);
    let begun = Instant::now();
    let run = server.selium(&["channel", "sub", "late", "--timeout", "0.5"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(124), ""), "{run}");
    assert!(run.stderr.contains("no message came on late ("), "{run}");
    assert!(begun.elapsed() < PATIENCE / 2);
    // A subscriber that is stopped takes nothing, and the channel is full some time.
    let sub = Sub::start(&server, folder.path(), "late", &["--lossless"]);
    let pid = sub.process.id().to_string();
    let signal = |name: &str| run_quietly(Command::new("kill").args([name, &pid]));
    signal("-STOP");
    let mut input = vec![b'x'; 4_000];
    input.push(b'\n');
    let run = publish(
        &server,
        folder.path(),
        "late",
        &["--timeout", "0.5"],
        &input.repeat(3_000),
    );
    signal("-CONT");
    assert_eq!((run.code, run.stdout.as_str()), (Some(124), ""), "{run}");
    assert!(
        run.stderr
            .contains("nothing was acknowledged by `late` within 0.5 s"),
        "{run}"
    );
    assert!(run.stderr.contains("the outcome is unknown"), "{run}");
    assert!(begun.elapsed() < PATIENCE);
    sub.process.interrupt().expect("the signal is sent");
    assert_eq!(sub.end().0, Some(0));
    delete(&server, &["late"]);
}

fn run_quietly(command: &mut Command) {
    let status = command.status().expect("it runs");
    assert!(status.success(), "{command:?}");
}

#[test]
fn a_reader_that_has_enough_ends_a_subscription_quietly() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    create(&server, &["head"]);
    // The shell's `selium channel sub head | head -1`.
    let mut child = server
        .command(&["channel", "sub", "head"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let mut child = Guard::new(child);
    let mut err = BufReader::new(err);
    let mut said = String::new();
    err.read_line(&mut said).expect("a note");
    assert!(said.contains("subscribed to head"), "{said}");
    publish(&server, folder.path(), "head", &[], b"first\nsecond\n").succeeded();
    let mut out = BufReader::new(out);
    let mut first = String::new();
    out.read_line(&mut first).expect("a line");
    assert_eq!(first, "first\n");
    drop(out);
    assert!(child.ended().expect("its state").is_none());
    publish(&server, folder.path(), "head", &[], b"third\n").succeeded();
    let status = child.wait_within(PATIENCE).expect("its status");
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut err, &mut rest).expect("its errors");
    assert_eq!(rest, "", "not a word");
    eventually("the subscription is over", || {
        (number(&inspect(&server, "head"), "lossy_subscribers") == 0).then_some(())
    });
    delete(&server, &["head"]);
}

#[test]
fn what_makes_no_sense_ends_publishing_and_what_was_before_is_published() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    create(&server, &["sense", "--capacity", "1KiB"]);
    let long = "x".repeat(1_025);
    for (framing, input, words) in [
        ("line", format!("good\n{long}\nmore\n").into_bytes(), "1"),
        ("len32", b"\0\0\0\x04good\xff\xff\xff\xffrest".to_vec(), "1"),
        ("len32", b"\0\0\0\x04good\0\0\0\x04cut".to_vec(), "1"),
        ("json", b"{\"text\":\"good\"}\n{\"no\":1}\n".to_vec(), "1"),
    ] {
        let sub = Sub::start(&server, folder.path(), "sense", &["--count", words]);
        let run = publish(
            &server,
            folder.path(),
            "sense",
            &["--framing", framing],
            &input,
        );
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
        assert!(
            run.stderr.contains("1 message was acknowledged before it"),
            "{run}"
        );
        assert_eq!(sub.bytes(), b"good\n");
    }
    assert_eq!(number(&inspect(&server, "sense"), "published"), 4);
    let run = publish(
        &server,
        folder.path(),
        "sense",
        &["--framing", "raw", "--chunk", "2KiB"],
        b"x",
    );
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("--chunk is 2048 bytes"), "{run}");
    delete(&server, &["sense"]);
}

// --- Guests

#[test]
fn a_guest_is_started_with_channels() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    for (entrypoint, kind) in [("echo", "channel"), ("echo_handles", "channel-handle")] {
        let requests = format!("requests-{kind}");
        let answers = format!("answers-{kind}");
        let id = create(&server, &[&requests]);
        create(&server, &[&answers]);
        // By name, and by a part of the id.
        let (one, two) = (format!("{kind}:{}", &id[..8]), format!("{kind}:{answers}"));
        let run = server.selium(&[
            "start",
            "echo.wasm",
            entrypoint,
            "-c",
            CHANNELS,
            "--arg",
            &one,
            "--arg",
            &two,
        ]);
        run.succeeded();
        let process = run.stdout.lines().next().expect("its id").to_owned();
        assert_eq!(inspect(&server, &requests)["shared"], true);
        let sub = Sub::start(
            &server,
            folder.path(),
            &answers,
            &["--count", "3", "--lossless"],
        );
        let run = publish(&server, folder.path(), &requests, &[], b"what\nis\nthat\n");
        published(&run, 3, &requests);
        assert_eq!(sub.bytes(), b"what\nis\nthat\n");
        server.selium(&["stop", &process]).succeeded();
        delete(&server, &[&requests, &answers]);
    }
    // What there is not, and what a process cannot be given.
    let run = server.selium(&[
        "start",
        "echo.wasm",
        "echo",
        "-c",
        CHANNELS,
        "-a",
        "channel:none",
    ]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
    assert!(
        run.stderr
            .contains("cannot find the channel `none`: not found"),
        "{run}"
    );
    // A guest writes, and the command line reads.
    create(&server, &["hose", "--capacity", "1MiB"]);
    let sub = Sub::start(
        &server,
        folder.path(),
        "hose",
        &["--framing", "len32", "--lossless", "--count", "1000"],
    );
    let args = ["channel:hose", "u32:100", "u64:1000"];
    let mut start = vec![
        "start",
        "firehose.wasm",
        "start",
        "-c",
        "ChannelLifecycle,ChannelWriter",
    ];
    start.extend(args.iter().flat_map(|arg| ["-a", arg]));
    server.selium(&start).succeeded();
    let bytes = sub.bytes();
    assert_eq!(bytes.len(), 1_000 * 104);
    for (at, framed) in bytes.chunks(104).enumerate() {
        assert_eq!(framed[..4], [0, 0, 0, 100]);
        assert_eq!(framed[4..12], (at as u64).to_le_bytes());
        assert!(framed[12..].iter().all(|byte| *byte == at as u8));
    }
    delete(&server, &["hose"]);
}
