//! Limits against abuse, per role as the policy has them, on the stock runtime: what is past a limit is refused with a
//! word on it, and clients of other roles notice nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use quinn::TransportConfig;
use selium_remote_client::{Client, ClientError, ErrorCode, ErrorKind, Process, ProcessBuilder};
use selium_remote_client_protocol::{
    RemoteError,
    frame::{Frame, FrameReader},
    ops::{Common, FollowRequest, Request, StartRequest},
};
use selium_remote_e2e::roles::{Line, Roles, records};
use selium_remote_e2e::{PATIENCE, Wire, block_on, block_on_for, eventually, frames, guests, text};
use serde_json::Value;

/// The longest that an honest client may wait for an answer, on a busy machine.
const SERVICE: Duration = Duration::from_secs(5);

/// Rounds of an honest client at least.
const ROUNDS: usize = 3;

/// Does something while an honest client of another role pings, asks, starts and stops, and is served.
async fn beside<T>(roles: &Roles, what: &str, work: impl Future<Output = T>) -> T {
    let client = roles.client("admin").await;
    let over = Cell::new(false);
    let honest = async {
        let (mut rounds, mut worst) = (0, Duration::ZERO);
        while !over.get() || rounds < ROUNDS {
            let begun = Instant::now();
            client.ping().await.expect("a pong");
            client.info().await.expect("counters");
            worst = worst.max(begun.elapsed());
            if rounds == 0 {
                let process = start(&client).await.expect("it starts");
                process.stop().await.expect("it stops");
            }
            rounds += 1;
        }
        (rounds, worst)
    };
    let work = async {
        let result = work.await;
        over.set(true);
        result
    };
    let (result, (rounds, worst)) = tokio::join!(work, honest);
    eprintln!("{what}: {rounds} pairs of ping and info of another role, at most {worst:.1?}");
    assert!(worst <= SERVICE, "{what}: {worst:.1?}");
    client.close().await;
    result
}

/// Starts a process that cannot log.
async fn start(client: &Client) -> Result<Process, ClientError> {
    Process::start(client, ProcessBuilder::new("hello.wasm", "hello")).await
}

fn remote(error: ClientError) -> RemoteError {
    match error {
        ClientError::Remote { error, .. } | ClientError::Refused { error, .. } => *error,
        other => panic!("{other} is no answer of the server"),
    }
}

/// Fails unless this says that a limit was passed.
fn exhausted(error: &RemoteError, limit: Option<u64>, message: &str) {
    assert_eq!(error.code, ErrorCode::ResourceExhausted, "{error:?}");
    assert_eq!(error.limit, limit, "{error:?}");
    assert_eq!(error.message, message);
}

/// The records of refusals of a role, once there are so many, in a log that is whole.
fn refusals(roles: &Roles, role: &str, count: usize) -> Vec<Value> {
    let of_role = |it: &&Value| it["role"] == role && it["result"] != "ok";
    let log = roles.log_with("the refusals", |all| {
        all.iter().filter(of_role).count() >= count
    });
    let (report, code) = roles.verify(&log);
    assert_eq!(code, 0, "{report}");
    records(&log)
        .into_iter()
        .filter(|it| of_role(&it))
        .collect()
}

#[test]
fn connections_of_a_role() {
    let policy = [
        ("admin", ""),
        ("few", "base = \"viewer\"\nlimits = { connections = 2 }"),
    ];
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    let message = "2 clients of the role `few` are connected, which is the limit";
    block_on(beside(&roles, "connections", async {
        let clients = [roles.client("few").await, roles.client("few").await];
        let error = roles.config("few").connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.is_retryable());
        exhausted(&remote(error), None, message);
        let run = roles.selium("few", &["ps"]);
        assert_eq!(run.code, Some(1), "{run}");
        assert!(
            run.stderr
                .contains(&format!("resource exhausted: {message}")),
            "{run}"
        );
        // Who is in stays in, and who leaves makes room.
        for client in &clients {
            client.processes(true).await.expect("it is served");
        }
        let [first, second] = clients;
        first.close().await;
        let begun = Instant::now();
        let third = loop {
            match roles.config("few").connect().await {
                Ok(client) => break client,
                Err(error) => exhausted(&remote(error), None, message),
            }
            assert!(begun.elapsed() < PATIENCE, "no room is made");
        };
        // Those that are refused and stay are bounded as well: past 32 they are dropped without a word.
        let door = roles.door("few");
        let knock = async || {
            let mut line = door.open().await;
            let answer = line.greet().await;
            (line, answer)
        };
        let mut lines: Vec<Line> = Vec::new();
        let (mut refused, mut dropped) = (0, 0);
        for _ in 0..60 {
            let (line, answer) = knock().await;
            match answer {
                Some(Err(error)) => {
                    exhausted(&error, None, message);
                    refused += 1;
                }
                None => dropped += 1,
                Some(Ok(_)) => panic!("one too many"),
            }
            lines.push(line);
        }
        // Those before that are still going take places, too.
        assert!(
            (8..=32).contains(&refused) && dropped >= 28,
            "{refused} with a word, {dropped} without"
        );
        second.processes(true).await.expect("it is served");
        lines.into_iter().for_each(Line::cut);
        door.idle().await;
        second.close().await;
        third.close().await;
    }));
    eventually("there is room again", || {
        (roles.selium("few", &["ps"]).code == Some(0)).then_some(())
    });
    let told = refusals(&roles, "few", 8);
    assert!(
        told.iter()
            .all(|it| it["op"] == "hello" && it["result"] == "resource exhausted")
    );
    assert_eq!(text(&told[0], "reason"), message);
}

#[test]
fn time_for_a_hello() {
    let policy = [
        ("admin", ""),
        ("hasty", "base = \"viewer\"\nlimits = { hello-seconds = 1 }"),
    ];
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    let hello = selium_remote_e2e::hello();
    block_on(beside(&roles, "late hellos", async {
        let (hasty, door) = (roles.door("hasty"), roles.door("admin"));
        // A peer of another role that has more time.
        let mut patient = door.open().await;
        patient.write(&hello[..8]).await;
        // All of them after the same time: silent behind the preface, a byte of it, all but the last byte.
        let late = [8, 1, hello.len() - 1].map(|bytes| {
            let (hasty, hello) = (&hasty, &hello);
            async move {
                let mut line = hasty.open().await;
                let begun = Instant::now();
                line.write(&hello[..bytes]).await;
                (line.refusal().await, begun.elapsed())
            }
        });
        // And one that goes on, a byte at a time.
        let drip = async {
            let mut line = hasty.open().await;
            let begun = Instant::now();
            for byte in &hello {
                line.write(&[*byte]).await;
                let pause = Duration::from_millis(100);
                if tokio::time::timeout(pause, line.connection.closed())
                    .await
                    .is_ok()
                    || begun.elapsed() > Duration::from_secs(3)
                {
                    break;
                }
            }
            let error = line.refusal().await;
            (error, Duration::from_secs(1))
        };
        let (late, drip) = tokio::join!(join_all(late), drip);
        for (error, took) in late.into_iter().chain([drip]) {
            assert_eq!(error.code, ErrorCode::DeadlineExceeded);
            assert_eq!(error.message, "no hello came within 1 s");
            // The clock of the module stands still for 100 ms at a time.
            let in_time = Duration::from_millis(850)..Duration::from_secs(1) + SERVICE;
            assert!(in_time.contains(&took), "{took:.1?}");
        }
        patient.write(&hello[8..]).await;
        assert!(patient.answer().await.unwrap().is_ok(), "it had 10 s");
        patient.cut();
        // Who said hello in time stays.
        let client = roles.client("hasty").await;
        client.processes(true).await.expect("it is served");
        client.close().await;
    }));
    let told = refusals(&roles, "hasty", 4);
    assert!(
        told.iter()
            .all(|it| it["op"] == "hello" && it["result"] == "deadline exceeded")
    );
}

/// The answers to so many requests, with their numbers.
async fn answers(line: &mut Line, count: usize) -> Vec<(u64, Result<(), RemoteError>)> {
    let (mut reader, mut answers) = (FrameReader::new(), Vec::new());
    while answers.len() < count {
        match reader.next().expect("the server speaks the protocol") {
            Some(Frame::Response {
                id, code, chunk, ..
            }) => answers.push((
                id,
                match code {
                    0 => Ok(()),
                    code => Err(
                        RemoteError::decode(ErrorCode::from_wire(code), &chunk.to_vec())
                            .expect("an error"),
                    ),
                },
            )),
            Some(_) => {}
            None => reader.push(line.read().await.expect("an answer")),
        }
    }
    answers
}

fn request<R: Request>(id: u64, request: &R) -> Frame {
    let body = request.encode(&Common::default());
    Frame::Request {
        id,
        op: R::OP,
        total: body.len() as u64,
        chunk: body.into(),
    }
}

fn follow(target: &str) -> FollowRequest {
    FollowRequest::with(|made| made.target = target.to_owned())
}

#[test]
fn requests_and_streams_of_a_connection() {
    let policy = [
        ("admin", ""),
        (
            "narrow",
            "base = \"operator\"\nlimits = { requests = 4, streams = 2 }",
        ),
    ];
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    let _ = roles
        .server()
        .launch(&["hello.wasm", "hello", "--name", "web"]);
    block_on(beside(&roles, "requests and streams", async {
        let door = roles.door("narrow");
        let mut line = door.open().await;
        let hello = line.greet().await.unwrap().unwrap();
        assert_eq!((hello.max_requests, hello.max_streams), (4, 2));
        // Ten starts in one packet, from a client that does not keep to its hello: four are taken.
        let hello_wasm = StartRequest::with(|made| {
            made.module = "hello.wasm".to_owned();
            made.entrypoint = "hello".to_owned();
        });
        let all: Vec<Frame> = (1..=10).map(|id| request(id, &hello_wasm)).collect();
        line.write(&frames(&all)).await;
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for (id, answer) in answers(&mut line, 10).await {
            match answer {
                Ok(()) => done.push(id),
                Err(error) => {
                    assert_eq!(
                        (error.code, error.limit),
                        (ErrorCode::ResourceExhausted, Some(4))
                    );
                    assert!(
                        error.message.contains("4 requests are in flight"),
                        "{error}"
                    );
                    refused.push(id);
                }
            }
        }
        done.sort_unstable();
        assert_eq!((done.as_slice(), refused.len()), (&[1, 2, 3, 4][..], 6));
        // It goes on where it has room, and so do others of its role.
        let two: Vec<Frame> = (11..=13).map(|id| request(id, &follow("web"))).collect();
        line.write(&frames(&two)).await;
        let mut streams = answers(&mut line, 3).await;
        let (id, error) = streams.pop().unwrap();
        let error = error.unwrap_err();
        assert_eq!(
            (id, error.code, error.limit),
            (13, ErrorCode::ResourceExhausted, Some(2))
        );
        assert!(
            streams.iter().all(|(_, answer)| answer.is_ok()),
            "{streams:?}"
        );
        let mut other = door.open().await;
        assert!(other.greet().await.unwrap().is_ok());
        other.write(&frames(&[request(1, &follow("web"))])).await;
        assert!(answers(&mut other, 1).await[0].1.is_ok());
        line.write(&frames(&[
            Frame::Cancel { id: 11 },
            request(14, &follow("web")),
        ]))
        .await;
        assert!(
            answers(&mut line, 1).await[0].1.is_ok(),
            "there is room again"
        );
        // The library keeps to it by itself.
        let client = roles.client("narrow").await;
        let starts = join_all((0..10).map(|_| start(&client))).await;
        let kept = starts
            .iter()
            .filter(|it| matches!(it, Err(ClientError::Exhausted { limit: 4 })));
        assert_eq!(kept.count(), 6, "{starts:?}");
        client.close().await;
        line.cut();
        other.cut();
    }));
    let told = refusals(&roles, "narrow", 7);
    let count = |op: &str| told.iter().filter(|it| it["op"] == op).count();
    assert_eq!((count("process start"), count("log follow")), (6, 1));
}

/// Streams of a peer that never reads.
const STREAMS: u64 = 30;

#[test]
fn bytes_that_wait_on_a_connection() {
    let policy = [
        ("admin", ""),
        (
            "thin",
            "base = \"viewer\"\nlimits = { queued-bytes = 65536 }",
        ),
    ];
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    // The same by a role without such a limit; it is what the limit prevents.
    let held = |role: &str| {
        block_on_for(PATIENCE * 2, async {
            let client = roles.client("admin").await;
            let builder = guests::storm(3_000).name(role);
            let process = Process::start(&client, builder).await.expect("it starts");
            let narrow = || {
                let mut transport = TransportConfig::default();
                transport.stream_receive_window(2_048_u32.into());
                transport.receive_window(2_048_u32.into());
                transport
            };
            let mut line = roles.door(role).open_with(narrow()).await;
            let greedy = Wire::hello_with(|hello| {
                hello.limits.connection_window = u64::MAX;
                hello.limits.stream_window = u64::MAX;
            });
            line.write(&greedy).await;
            assert!(line.answer().await.unwrap().is_ok());
            let all: Vec<Frame> = (1..=STREAMS).map(|id| request(id, &follow(role))).collect();
            line.write(&frames(&all)).await;
            // Until the storm is over, or hangs (ARCHITECTURE.md, "Logs").
            let (mut most, mut seen, mut since) = (0, 0, Instant::now());
            while since.elapsed() < Duration::from_secs(1) {
                let count = process.inspect().await.expect("it is there").log_records;
                if count != seen {
                    (seen, since) = (count, Instant::now());
                }
                most = most.max(client.info().await.expect("counters").held_bytes);
            }
            assert!(seen > 500, "a storm: {seen}");
            line.cut();
            process.stop().await.expect("it stops");
            client.close().await;
            most
        })
    };
    let (thin, wide) = (held("thin"), held("admin"));
    eprintln!(
        "{STREAMS} streams that nobody reads: {thin} bytes held where 65536 may be, {wide} where 1 MiB may"
    );
    // Each stream has at least 4 KiB, and one record more.
    assert!(thin <= 65_536 + STREAMS * (4_096 + 1_024), "{thin}");
    assert!(wide > 2 * thin, "{wide}");
    // Which is no refusal: records become a gap.
    assert!(
        records(&roles.server().log())
            .iter()
            .all(|it| it["result"] == "ok")
    );
}

#[test]
fn processes_of_a_role() {
    let policy = [
        ("admin", ""),
        ("small", "base = \"operator\"\nlimits = { processes = 2 }"),
        ("none", "base = \"operator\"\nlimits = { processes = 0 }"),
    ];
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    let message = "2 processes of the role `small` are started, which is the limit";
    block_on(beside(&roles, "processes", async {
        let (one, two) = (roles.client("small").await, roles.client("small").await);
        let first = start(&one).await.expect("it starts");
        start(&two).await.expect("it starts");
        for client in [&one, &two] {
            exhausted(&remote(start(client).await.unwrap_err()), Some(2), message);
        }
        let never = remote(start(&roles.client("none").await).await.unwrap_err());
        assert_eq!(
            (never.code, never.limit),
            (ErrorCode::ResourceExhausted, Some(0))
        );
        // Whoever stops one makes room.
        let admin = roles.client("admin").await;
        admin.stop(&first.id().to_string()).await.expect("it stops");
        start(&one).await.expect("there is room");
        exhausted(&remote(start(&two).await.unwrap_err()), Some(2), message);
        // They outlive their clients, and count.
        one.close().await;
        two.close().await;
        let again = roles.client("small").await;
        exhausted(&remote(start(&again).await.unwrap_err()), Some(2), message);
        again.close().await;
        admin.close().await;
    }));
    let run = roles.selium("small", &["start", "hello.wasm", "hello"]);
    run.failed(
        1,
        &format!("error: cannot start `hello.wasm`: resource exhausted: {message}\n"),
    );
    let told = refusals(&roles, "small", 5);
    assert!(
        told.iter()
            .all(|it| text(it, "reason") == message && text(it, "op") == "process start")
    );
}

#[test]
fn starts_of_a_role_a_minute() {
    let policy = [
        ("admin", ""),
        (
            "rare",
            "base = \"operator\"\nlimits = { starts-per-minute = 30 }",
        ),
        (
            "none",
            "base = \"operator\"\nlimits = { starts-per-minute = 0 }",
        ),
    ];
    let Some(roles) = Roles::start(&policy) else {
        return;
    };
    let message =
        "the role `rare` may start 30 processes a minute, which is the limit; the next one in ";
    block_on(beside(&roles, "starts a minute", async {
        let client = roles.client("rare").await;
        let begun = Instant::now();
        let mut started = 0_u64;
        let error = loop {
            assert!(started < 100, "no start is refused");
            match start(&client).await {
                Ok(_) => started += 1,
                Err(error) => break remote(error),
            }
        };
        // One comes back in 2 s.
        let most = 30 + begun.elapsed().as_secs() / 2 + 1;
        assert!((30..=most).contains(&started), "{started} of {most}");
        assert_eq!(
            (error.code, error.limit),
            (ErrorCode::ResourceExhausted, Some(30))
        );
        let wait = error.message.strip_prefix(message).expect(&error.message);
        let wait: u64 = wait.strip_suffix(" s").unwrap().parse().unwrap();
        assert!((1..=2).contains(&wait), "{error}");
        // What is refused for another reason costs nothing.
        for _ in 0..10 {
            let unknown = ProcessBuilder::new("hello.wasm", "hello").name("No Name");
            let error = remote(Process::start(&client, unknown).await.unwrap_err());
            assert_eq!(error.code, ErrorCode::InvalidArgument);
        }
        // After that time, and not long before.
        let begun = Instant::now();
        loop {
            match start(&client).await {
                Ok(_) => break,
                Err(error) => assert!(remote(error).message.starts_with(message)),
            }
            assert!(begun.elapsed() < SERVICE, "it never comes back");
        }
        let took = begun.elapsed();
        assert!(
            took + Duration::from_millis(200) >= Duration::from_secs(wait - 1),
            "{took:.1?}"
        );
        let never = remote(start(&roles.client("none").await).await.unwrap_err());
        let message = "the role `none` may start 0 processes a minute, which is the limit";
        exhausted(&never, Some(0), message);
        client.close().await;
    }));
    let told = refusals(&roles, "rare", 1);
    assert!(text(&told[0], "reason").starts_with(message));
}
