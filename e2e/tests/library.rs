//! The client library: start, logs, stop, close.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use selium_remote_client::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, Client, ClientError,
    ErrorCode, ErrorKind, LogItem, LogOptions, LogState, LogStream, Process, ProcessBuilder,
    ProcessState,
};
use selium_remote_e2e::{Server, Shared, block_on, soon};

static SERVER: Shared = Shared::new();

const U32: AbiParam = AbiParam::Scalar(AbiScalarType::U32);

fn storm(count: u32) -> ProcessBuilder {
    ProcessBuilder::new("storm.wasm", "start")
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter)
        .signature(AbiSignature::new(vec![U32], vec![]))
        .arg_scalar(AbiScalarValue::U32(count))
}

/// A storm that has logged all its lines, and its log, opened right after the start and not read.
///
/// A guest can hang in the middle: its SDK can lose a wake-up of the runtime. A fresh reader of such a log finds nothing
/// more either. That is not what is tested here, so another one is started then.
async fn whole_storm(client: &Client, name: &str, lines: u32) -> (Process, LogStream) {
    for attempt in 1..=8 {
        let name = format!("{name}-{attempt}");
        let process = Process::start(client, storm(lines).name(&name))
            .await
            .expect("it starts");
        assert_eq!(process.name(), Some(name.as_str()));
        let log = process.log_channel().await.expect("its log");
        let (mut records, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            if last_line(&process).await == Some(u64::from(lines)) {
                return (process, log);
            }
            let now = process.inspect().await.expect("it is there").log_records;
            if now != records {
                (records, since) = (now, Instant::now());
            }
        }
        eprintln!("a storm hung after {records} of {lines} lines; another one");
        process.stop().await.expect("it stops");
    }
    panic!("every storm hung");
}

/// The number of the last line that the server has of a storm.
async fn last_line(process: &Process) -> Option<u64> {
    let options = LogOptions::new().tail(1).follow(false);
    let mut log = process.logs(options).await.expect("its log");
    match soon("the last line", log.next()).await?.expect("no error") {
        LogItem::Record { record, .. } => record.message.strip_prefix("line ")?.parse().ok(),
        _ => None,
    }
}

/// What was read of a storm: the numbers of its lines, and how many are missing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    lines: Vec<u64>,
    lost: u64,
    gaps_of_unknown_size: u64,
}

/// Reads a storm from its first line up to its last; numbers have to agree with what the gaps say.
async fn read(stream: &mut LogStream, last: u64) -> Seen {
    let mut seen = Seen::default();
    let mut expected = 0;
    while seen.lines.last() != Some(&last) {
        let item = soon("the next item", stream.next())
            .await
            .expect("the stream goes on")
            .expect("no error");
        match item {
            LogItem::Record { sequence, record } => {
                assert_eq!(
                    sequence, expected,
                    "sequence numbers have no holes but those that are told"
                );
                expected += 1;
                let number: u64 = record
                    .message
                    .strip_prefix("line ")
                    .expect("a line")
                    .parse()
                    .unwrap();
                assert!(
                    seen.lines.last().is_none_or(|last| *last < number),
                    "{number} twice or out of order"
                );
                let fields: Vec<(&str, &str)> = record
                    .fields
                    .iter()
                    .map(|field| (field.key.as_str(), field.value.as_str()))
                    .collect();
                let even = number.is_multiple_of(2).to_string();
                assert_eq!(
                    fields,
                    [
                        ("number", number.to_string().as_str()),
                        ("even", even.as_str())
                    ]
                );
                if seen.gaps_of_unknown_size == 0 {
                    assert_eq!(
                        number,
                        sequence + 1,
                        "without a gap of the runtime, lines and numbers agree"
                    );
                }
                seen.lines.push(number);
            }
            LogItem::Gap { next, count } => {
                assert!(
                    next > expected,
                    "a gap goes forward: next {next}, expected {expected}, count {count:?}, {seen:?}"
                );
                match count {
                    Some(count) => {
                        assert_eq!(count, next - expected, "a counted gap counts right");
                        seen.lost += count;
                    }
                    None => seen.gaps_of_unknown_size += 1,
                }
                expected = next;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(stream.position(), expected);
    }
    seen
}

#[test]
fn start_follow_stop_close() {
    // One of its own: the server's counters are looked at.
    let Some(server) = Server::start(&[]) else {
        return;
    };
    const LINES: u64 = 1_200;
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        assert!(!client.server().authenticated && !client.server().has_clock);
        let (process, mut stream) = whole_storm(&client, "lib-storm", 1_200).await;
        assert_eq!(stream.process(), process.id());
        let seen = read(&mut stream, LINES).await;
        if seen.gaps_of_unknown_size == 0 {
            assert_eq!(
                seen.lines.len() as u64 + seen.lost,
                LINES,
                "every line was seen, or its loss was told"
            );
        }
        // The server retains 256 KiB of a log.
        assert!(
            seen.lines.len() >= 500,
            "{} of {LINES} lines",
            seen.lines.len()
        );

        // A second reader of what is retained: the same numbers, without waiting.
        let options = LogOptions::new().follow(false);
        let mut again = process.logs(options).await.expect("its log again");
        assert_eq!(
            (again.next_sequence(), again.log_state()),
            (LINES, LogState::Attached)
        );
        let first = again.first_sequence();
        let retained = read(&mut again, LINES).await;
        assert_eq!(retained.lines, (first + 1..=LINES).collect::<Vec<_>>());
        assert_eq!(
            (retained.lost, retained.gaps_of_unknown_size),
            (first, 0),
            "what is not retained is told"
        );
        assert!(soon("the end", again.next()).await.is_none());
        assert_eq!(again.end_reason(), None);

        // Dropping a stream ends it on the server, and nothing else.
        assert_eq!(client.info().await.expect("counters").streams, 1);
        drop(stream);
        soon("the stream is gone on the server", async {
            while client.info().await.expect("counters").streams != 0 {}
        })
        .await;
        let info = process.inspect().await.expect("it is there");
        assert_eq!(
            (info.state, info.log_records),
            (ProcessState::Started, LINES)
        );

        let id = process.id();
        process.stop().await.expect("it stops");
        let stopped = client
            .inspect(&id.to_string())
            .await
            .expect("it is still known");
        assert_eq!(stopped.state, ProcessState::Stopped);
        assert!(
            !client
                .processes(false)
                .await
                .expect("a list")
                .iter()
                .any(|process| process.id == id.0)
        );
        assert!(
            client
                .processes(true)
                .await
                .expect("a list")
                .iter()
                .any(|process| process.id == id.0)
        );

        let other = client.clone();
        client.close().await;
        assert!(other.is_closed());
        let error = other.info().await.expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let Some(server) = SERVER.get() else { return };
    // Far more than the server retains (256 KiB a log) and than is on the way to a client (64 KiB a stream).
    const LINES: u64 = 6_000;
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        // Nothing is read until the storm is over.
        let (process, mut slow) = whole_storm(&client, "slow-storm", 6_000).await;
        let seen = read(&mut slow, LINES).await;
        assert!(
            seen.lost > 0 || seen.gaps_of_unknown_size > 0,
            "more was logged than can be kept: {}",
            seen.lines.len()
        );
        if seen.gaps_of_unknown_size == 0 {
            assert_eq!(seen.lines.len() as u64 + seen.lost, LINES);
        }
        process.stop().await.expect("it stops");
        let end = soon("the end", StreamExt::next(&mut slow)).await;
        assert!(end.is_none(), "{end:?}");
        assert_eq!(slow.end_reason(), Some("the process was stopped"));
    });
}

#[test]
fn errors_are_typed() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        let code = |error: ClientError| match error {
            ClientError::Remote { error, .. } => (error.code, error.field),
            other => panic!("{other:?}"),
        };
        let named = |field: &str| Some(field.to_owned());
        let start = |builder| Process::start(&client, builder);
        let error = start(ProcessBuilder::new("nowhere.wasm", "start"))
            .await
            .unwrap_err();
        assert_eq!(code(error), (ErrorCode::NotFound, named("module")));
        let error = start(ProcessBuilder::new("hello.wasm", "nothing"))
            .await
            .unwrap_err();
        assert_eq!(code(error), (ErrorCode::NotFound, named("entrypoint")));
        let error = start(ProcessBuilder::new("storm.wasm", "start"))
            .await
            .unwrap_err();
        assert_eq!(
            code(error),
            (ErrorCode::InvalidArgument, named("arguments"))
        );
        let error = client.stop("ffffffffffffffff").await.unwrap_err();
        assert_eq!(code(error), (ErrorCode::NotFound, named("target")));
        let mute = start(ProcessBuilder::new("hello.wasm", "hello"))
            .await
            .expect("it starts");
        let error = mute.logs(LogOptions::new()).await.unwrap_err();
        assert_eq!(code(error), (ErrorCode::NotFound, named("log")));
        assert!(client.ping().await.is_ok(), "the connection lives on");
        client.close().await;
    });
}

#[test]
fn requests_run_side_by_side() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        let starts = (0..12).map(|n| Process::start(&client, storm(10).name(format!("side-{n}"))));
        let infos = (0..100).map(|_| client.info());
        let (processes, infos) = tokio::join!(
            futures_util::future::join_all(starts),
            futures_util::future::join_all(infos)
        );
        assert!(infos.iter().all(Result::is_ok));
        for (n, process) in processes.into_iter().enumerate() {
            let process = process.unwrap_or_else(|error| panic!("start {n}: {error}"));
            let mut stream = process.log_channel().await.expect("its log");
            let seen = read(&mut stream, 10).await;
            assert_eq!(seen.lines, (1..=10).collect::<Vec<_>>());
            process.stop().await.expect("it stops");
        }
    });
}
