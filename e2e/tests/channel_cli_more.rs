//! `selium channel pub` and `sub` when nothing comes for a while, and when too much comes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use selium_remote_e2e::{PATIENCE, Server, Shared, eventually, line, number};
use tempfile::TempDir;
use xtask::proc::Guard;

static SERVER: Shared = Shared::new();

/// Starts a command whose errors go to a file.
fn spawn(mut command: Command, err: &Path, stdin: Stdio, stdout: Stdio) -> Child {
    let err = File::create(err).expect("a file");
    let command = command.stdin(stdin).stdout(stdout).stderr(err);
    command.spawn().expect("the command runs")
}

fn inspect(server: &Server, channel: &str) -> serde_json::Value {
    let run = server.selium(&["channel", "inspect", channel, "-o", "json"]);
    run.succeeded();
    line(&run.stdout)
}

/// Waits until a subscription stands.
fn subscribed(err: &Path) {
    eventually("the subscription", || {
        let said = fs::read_to_string(err).expect("its errors");
        said.contains("subscribed to").then_some(())
    });
}

#[test]
fn a_publisher_with_nothing_to_send_hears_that_its_channel_is_gone() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    for (change, words) in [("delete", "not found"), ("drain", "unavailable")] {
        let channel = format!("quiet-{change}");
        server.selium(&["channel", "create", &channel]).succeeded();
        let err = folder.path().join(change);
        let command = server.command(&["channel", "pub", &channel]);
        let mut child = spawn(command, &err, Stdio::piped(), Stdio::null());
        // Its input stays open.
        let input = child.stdin.take();
        let mut child = Guard::new(child);
        eventually("the publication", || {
            (number(&inspect(&server, &channel), "publishers") == 1).then_some(())
        });
        server.selium(&["channel", change, &channel]).succeeded();
        let status = child.wait_within(PATIENCE).expect("its status");
        let said = fs::read_to_string(&err).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{said}");
        let begin = format!("error: publishing to `{channel}` broke off: {words}");
        assert!(said.starts_with(&begin), "{said}");
        assert!(said.contains("0 messages were acknowledged"), "{said}");
        drop(input);
    }
}

/// How many messages a warning says are lost, with commas in the number.
fn lost(warning: &str) -> u64 {
    let digits = warning.split(' ').next().unwrap().replace(',', "");
    digits.parse().unwrap_or_else(|_| panic!("{warning}"))
}

#[test]
fn what_a_slow_subscriber_loses_is_told_in_few_lines() {
    const MESSAGES: u64 = 48_000;
    const LENGTH: usize = 1_000;
    let Some(server) = SERVER.get() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let create = ["channel", "create", "busy", "--capacity", "1MiB"];
    server.selium(&create).succeeded();
    // With a lossless one beside it, the server knows what the other one loses.
    let fast = spawn(
        server.command(&["channel", "sub", "busy", "--lossless"]),
        &path("fast"),
        Stdio::null(),
        Stdio::null(),
    );
    let mut fast = Guard::new(fast);
    subscribed(&path("fast"));
    let begun = Instant::now();
    let mut slow = spawn(
        server.command(&["channel", "sub", "busy"]),
        &path("slow"),
        Stdio::null(),
        Stdio::piped(),
    );
    let mut output = slow.stdout.take().unwrap();
    let mut slow = Guard::new(slow);
    subscribed(&path("slow"));

    let mut input = vec![b'x'; LENGTH];
    input.push(b'\n');
    fs::write(path("input"), input.repeat(MESSAGES as usize)).unwrap();
    let file = path("input");
    server
        .selium(&["channel", "pub", "busy", "--file", file.to_str().unwrap()])
        .succeeded();
    server.selium(&["channel", "drain", "busy"]).succeeded();
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).unwrap();
    let status = slow.wait_within(PATIENCE).expect("its status");
    let said = fs::read_to_string(path("slow")).unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{said}");
    let status = fast.wait_within(PATIENCE).expect("its status");
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let fast = fs::read_to_string(path("fast")).unwrap();
    assert!(!fast.contains("lost"), "{fast}");

    assert_eq!(bytes.len() % input.len(), 0);
    let came = (bytes.len() / input.len()) as u64;
    assert!(bytes.chunks(input.len()).all(|message| message == input));
    let warnings = said
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "));
    let (total, lines): (Vec<&str>, Vec<&str>) =
        warnings.partition(|line| line.starts_with("in all, "));
    assert!(!lines.is_empty(), "nothing was lost: {said}");
    assert!(
        lines.len() as u64 <= begun.elapsed().as_secs() + 2,
        "{said}"
    );
    let sum: u64 = lines.iter().map(|line| lost(line)).sum();
    assert_eq!(came + sum, MESSAGES, "{came} came: {said}");
    if let Some(total) = total.first() {
        assert_eq!(lost(&total["in all, ".len()..]), sum, "{said}");
    }
    server.selium(&["channel", "delete", "busy"]).succeeded();
}
