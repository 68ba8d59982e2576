//! The server's rules against a fake host, seen by real client machines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests may panic as tests do.

mod world;

use bytes::Bytes;
use selium_remote_client_protocol::{
    AbiParam, AbiSignature, Capability, CapabilitySet, CloseReason, EntrypointArg, ErrorCode,
    Limits, RemoteError, RequestId, Time,
    client::RequestOptions,
    frame::{Frame, Gather},
    ops::{
        Common, FollowStarted, InfoRequest, ListRequest, LogState, ProcessList, ProcessRef,
        ProcessState, Request, ServerInfo, StartRequest, op,
    },
};
use selium_remote_server_core::{
    Completion, Config, HostCall, HostProcess, LogId, OpId, Policy, Role, host::StopFailure, ids,
};
use world::{LOGGING, World, follow, spec};

#[test]
fn a_process_is_started_followed_and_stopped() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let hello = world.peers[a].hello.clone().unwrap();
    assert!(!hello.authenticated);
    assert_eq!(
        (hello.role.as_str(), hello.ceiling),
        ("admin", CapabilitySet::all())
    );

    let request = world.call(a, &spec(None));
    assert!(
        world.peers[a].answers.is_empty(),
        "not before the host has started it"
    );
    let [
        HostCall::Start {
            op, spec: asked, ..
        },
    ] = &world.host.take()[..]
    else {
        panic!()
    };
    assert_eq!(asked.capabilities, LOGGING, "exactly what was passed in");
    world.complete(Completion::Started {
        op: *op,
        result: Ok(HostProcess(274_877_906_949)),
    });
    let process = ProcessRef::decode(&world.answer(a, request).unwrap()).unwrap();
    assert_eq!(process.name, "hello-1");
    assert_ne!(process.id, 274_877_906_949, "never the runtime's id");
    let [
        HostCall::OpenLog {
            log,
            process: host,
            attempt: 0,
        },
    ] = world.host.take()[..]
    else {
        panic!("the hub attaches right after the start")
    };
    assert_eq!(host, HostProcess(274_877_906_949));

    // The log appears a moment later.
    world.complete(Completion::LogMissing { log });
    assert!(matches!(
        world.host.take()[..],
        [HostCall::OpenLog { attempt: 1, .. }]
    ));
    world.opened(log);
    world.record(log, "hello from selium");
    let id = ids::show(process.id);
    let following = world.call(a, &follow(&id[..8]));
    let started = FollowStarted::decode(&world.answer(a, following).unwrap()).unwrap();
    assert_eq!(
        (started.first, started.next, started.log),
        (0, 1, LogState::Attached)
    );
    world.record(log, "more");
    assert_eq!(
        world.stream(a, following),
        ["0:hello from selium", "1:more"]
    );

    let stopping = world.stop(a, "hello-1");
    let op = world.stop_op();
    assert!(world.peers[a].answers.is_empty());
    world.complete(Completion::Stopped { op, result: Ok(()) });
    assert_eq!(
        ProcessRef::decode(&world.answer(a, stopping).unwrap()).unwrap(),
        process
    );
    assert!(matches!(world.host.take()[..], [HostCall::CloseLog { .. }]));
    world.record(log, "last words");
    world.complete(Completion::LogEnded { log });
    assert_eq!(
        world.stream(a, following)[2..],
        ["2:last words", "end: the process was stopped"]
    );

    // What it said stays readable, and a second stop is no error.
    let again = world.call(a, &follow("hello-1"));
    assert_eq!(world.stream(a, again).len(), 4);
    let stopping = world.stop(a, &id);
    assert!(world.answer(a, stopping).is_ok());
    assert!(world.host.take().is_empty());
    assert_eq!(world.inspect(a, &id).unwrap().state, ProcessState::Stopped);
}

#[test]
fn lists_are_paged_and_show_stopped_processes_on_demand() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    for n in 0..5 {
        world.started(a, &format!("p{n}"));
    }
    world.stop(a, "p1");
    let op = world.stop_op();
    world.complete(Completion::Stopped {
        op,
        result: Err(StopFailure::Gone),
    });
    let mut list = |all, limit, cursor| {
        let request = world.call(
            a,
            &ListRequest::with(|made| {
                made.cursor = cursor;
                made.limit = limit;
                made.all = all;
            }),
        );
        let list = ProcessList::decode(&world.answer(a, request).unwrap()).unwrap();
        let names: Vec<_> = list
            .processes
            .iter()
            .map(|process| process.name.clone())
            .collect();
        (names.join(" "), list.next)
    };
    assert_eq!(list(false, 256, 0), ("p0 p2 p3 p4".into(), None));
    assert_eq!(list(true, 256, 0), ("p0 p1 p2 p3 p4".into(), None));
    let (first, next) = list(true, 2, 0);
    assert_eq!(first, "p0 p1");
    let (second, next) = list(true, 2, next.unwrap());
    assert_eq!(second, "p2 p3");
    assert_eq!(list(true, 2, next.unwrap()), ("p4".into(), None));
}

#[test]
fn bad_requests_name_the_thing_and_change_nothing() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let mut refused = |change: &dyn Fn(&mut StartRequest)| {
        let mut spec = spec(None);
        change(&mut spec);
        let request = world.call(a, &spec);
        assert!(world.host.take().is_empty(), "the host sees nothing");
        let error = world.answer(a, request).unwrap_err();
        (error.code, error.field.unwrap_or_default(), error.limit)
    };
    let too_large = ErrorCode::TooLarge;
    let invalid = ErrorCode::InvalidArgument;
    assert_eq!(
        refused(&|s| s.entrypoint = "x".repeat(100_000)),
        (too_large, "2".into(), Some(256))
    );
    assert_eq!(
        refused(&|s| s.module = "m".repeat(257)),
        (too_large, "1".into(), Some(256))
    );
    assert_eq!(
        refused(&|s| s.module = "../etc/passwd".into()),
        (invalid, "module".into(), None)
    );
    assert_eq!(
        refused(&|s| s.module = "/bin/x".into()),
        (invalid, "module".into(), None)
    );
    assert_eq!(
        refused(&|s| s.module = String::new()),
        (invalid, "module".into(), None)
    );
    assert_eq!(
        refused(&|s| s.entrypoint = "a\0b".into()),
        (invalid, "entrypoint".into(), None)
    );
    assert_eq!(
        refused(&|s| s.name = Some("No Name".into())),
        (invalid, "name".into(), None)
    );
    let buffers = |count: usize, size: usize| {
        move |s: &mut StartRequest| {
            s.signature = AbiSignature::new(vec![AbiParam::Buffer; count], vec![]);
            s.args = vec![EntrypointArg::Buffer(vec![0; size]); count];
        }
    };
    assert_eq!(refused(&buffers(3, 100_000)).0, too_large);
    assert_eq!(refused(&buffers(65, 1)).0, too_large);
    assert_eq!(
        refused(&|s| s.args = vec![EntrypointArg::Buffer(vec![])]),
        (invalid, "arguments".into(), None)
    );
    let resource = |s: &mut StartRequest| {
        s.signature = AbiSignature::new(
            vec![AbiParam::Scalar(
                selium_remote_client_protocol::AbiScalarType::U64,
            )],
            vec![],
        );
        s.args = vec![EntrypointArg::Resource(1)];
    };
    assert_eq!(refused(&resource).0, ErrorCode::NotFound, "no raw handles");
    assert_eq!(
        world.inspect(a, "nobody").unwrap_err().code,
        ErrorCode::NotFound
    );
    let stop = world.stop(a, "1");
    assert_eq!(world.answer(a, stop).unwrap_err().code, ErrorCode::NotFound);
    // All of that left the server as it was.
    world.started(a, "fine");
}

#[test]
fn failed_starts_give_their_names_back() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    for _ in 0..3 {
        let request = world.call(a, &spec(Some("web")));
        let op = world.start_op();
        let words = "internal error: Wasmtime error: entrypoint `hello` not found".to_owned();
        world.complete(Completion::Started {
            op,
            result: Err(words),
        });
        let error = world.answer(a, request).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        assert_eq!(
            error.message,
            "module `hello.wasm` has no entrypoint `hello`"
        );
    }
    world.started(a, "web");
    let request = world.call(a, &spec(Some("web")));
    assert_eq!(
        world.answer(a, request).unwrap_err().code,
        ErrorCode::AlreadyExists
    );
}

#[test]
fn two_starts_at_a_time_and_clients_take_turns() {
    let mut world = World::new(Config {
        max_waiting_starts: 5,
        ..Config::default()
    });
    let (a, b) = (world.connect(), world.connect());
    for n in 0..6 {
        world.call(a, &spec(Some(&format!("a{n}"))));
    }
    let b0 = world.call(b, &spec(Some("b0")));
    let over = world.call(b, &spec(Some("b1")));
    let names = |world: &mut World| -> Vec<String> {
        let name = |call: HostCall| match call {
            HostCall::Start { spec, .. } => spec.name,
            _ => None,
        };
        world.host.take().into_iter().filter_map(name).collect()
    };
    // a0 and a1 went at once; a2 to a5 and b0 wait; the sixth to wait is refused.
    assert_eq!(
        world.answer(b, over).unwrap_err().code,
        ErrorCode::ResourceExhausted
    );
    assert_eq!(names(&mut world), ["a0", "a1"]);
    world.complete(Completion::Started {
        op: OpId(1),
        result: Ok(HostProcess(1)),
    });
    assert_eq!(names(&mut world), ["a2"]);
    world.complete(Completion::Started {
        op: OpId(2),
        result: Err("no".into()),
    });
    assert_eq!(names(&mut world), ["b0"], "not behind all of a's");
    assert!(world.peers[b].answers.is_empty());
    world.complete(Completion::Started {
        op: OpId(4),
        result: Ok(HostProcess(4)),
    });
    assert!(world.answer(b, b0).is_ok());
}

#[test]
fn a_retry_never_starts_twice() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let first = world.changing(a, &spec(Some("web")), 1, false);
    let second = world.changing(a, &spec(Some("web")), 1, true);
    let op = world.start_op();
    assert!(world.host.take().is_empty(), "one start");
    world.complete(Completion::Started {
        op,
        result: Ok(HostProcess(1)),
    });
    let one = world.answer(a, first).unwrap();
    assert_eq!(world.answer(a, second).unwrap(), one);
    world.host.take();
    let third = world.changing(a, &spec(Some("web")), 1, true);
    assert_eq!(world.answer(a, third).unwrap(), one);
    let unknown = world.changing(a, &spec(Some("other")), 7, true);
    assert_eq!(
        world.answer(a, unknown).unwrap_err().code,
        ErrorCode::OutcomeUnknown
    );
    assert!(world.host.take().is_empty());
}

/// A start that waits behind another one, asked for by two connections of one session: the owner's and the retry's ids.
fn joined_start(world: &mut World) -> (usize, RequestId, usize, RequestId) {
    let (a, b) = (world.connect(), world.connect_as(1, Limits::default()));
    let blocking = world.call(b, &spec(Some("first")));
    let owner = world.changing(a, &spec(Some("web")), 1, false);
    let retry = world.changing(b, &spec(Some("web")), 1, true);
    assert!(!world.peers[b].answers.contains_key(&blocking));
    (a, owner, b, retry)
}

fn one_at_a_time() -> World {
    World::new(Config {
        max_starts: 1,
        ..Config::default()
    })
}

fn finish_start(world: &mut World, process: u64) {
    let op = world.start_op();
    world.complete(Completion::Started {
        op,
        result: Ok(HostProcess(process)),
    });
}

#[test]
fn a_start_goes_on_for_those_who_did_not_cancel_it() {
    let mut world = one_at_a_time();
    let (a, owner, b, retry) = joined_start(&mut world);
    world.peers[a].core.cancel(owner);
    world.run();
    let error = world.answer(a, owner).unwrap_err();
    assert_eq!(error.code, ErrorCode::Cancelled);
    finish_start(&mut world, 1);
    finish_start(&mut world, 2);
    let reference = ProcessRef::decode(&world.answer(b, retry).unwrap()).unwrap();
    assert_eq!(reference.name, "web");
    // The host has it already: the canceller hears of the process, the other one gets it.
    let owner = world.changing(a, &spec(Some("again")), 2, false);
    let retry = world.changing(b, &spec(Some("again")), 2, true);
    world.peers[a].core.cancel(owner);
    world.run();
    finish_start(&mut world, 3);
    let error = world.answer(a, owner).unwrap_err();
    let reference = ProcessRef::decode(&world.answer(b, retry).unwrap()).unwrap();
    assert_eq!(error.process, Some(reference.id));
}

#[test]
fn a_start_goes_on_for_a_retry_when_its_first_connection_is_lost() {
    let mut world = one_at_a_time();
    let (a, _, b, retry) = joined_start(&mut world);
    let id = world.peers[a].connection;
    world.server.handle_eof(world.now, id);
    world.server.forget_connection(world.now, id);
    world.run();
    assert!(!world.peers[b].answers.contains_key(&retry));
    finish_start(&mut world, 1);
    finish_start(&mut world, 2);
    let reference = ProcessRef::decode(&world.answer(b, retry).unwrap()).unwrap();
    assert_eq!(reference.name, "web");
}

#[test]
fn common_fields_count_in_every_request() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    for op in [1, 16, 17, 18, 19, 20] {
        // A mandatory field that nobody knows, and a flag that is none.
        for (body, code) in [
            (&[0x40, 0xc7, 0][..], ErrorCode::Unsupported),
            (&[0x40, 0x83, 1, 2][..], ErrorCode::InvalidArgument),
        ] {
            let body = Bytes::from_static(body);
            let id = world.peers[a]
                .core
                .request(op, body, RequestOptions::default())
                .unwrap();
            world.run();
            assert_eq!(
                world.answer(a, id).unwrap_err().code,
                code,
                "operation {op}"
            );
        }
    }
}

#[test]
fn a_follower_waits_for_records_that_are_not_written_yet() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let (_, log) = world.started(a, "web");
    world.opened(log);
    let mut request = follow("web");
    request.since = Some(2);
    let id = world.call(a, &request);
    for text in ["zero", "one", "two", "three"] {
        world.record(log, text);
    }
    let seen = world.stream(a, id);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].contains("two"), "{seen:?}");
}

#[test]
fn cancelling_cancels_before_the_host_has_it_and_tells_after() {
    let mut world = World::new(Config {
        max_starts: 1,
        ..Config::default()
    });
    let a = world.connect();
    let running = world.call(a, &spec(Some("one")));
    let waiting = world.call(a, &spec(Some("two")));
    world.peers[a].core.cancel(running);
    world.peers[a].core.cancel(waiting);
    world.run();
    assert_eq!(
        world.answer(a, waiting).unwrap_err().code,
        ErrorCode::Cancelled
    );
    let op = world.start_op();
    world.complete(Completion::Started {
        op,
        result: Ok(HostProcess(1)),
    });
    let error = world.answer(a, running).unwrap_err();
    assert_eq!(error.code, ErrorCode::Cancelled);
    let id = error.process.expect("the process that exists");
    assert!(error.message.contains(&ids::show(id)));
    assert_eq!(world.inspect(a, "one").unwrap().id, id);
}

#[test]
fn a_start_whose_client_vanished_is_in_the_table() {
    let mut world = World::new(Config {
        max_starts: 1,
        ..Config::default()
    });
    let (a, b) = (world.connect(), world.connect());
    world.call(a, &spec(Some("orphan")));
    world.call(a, &spec(Some("never")));
    world
        .server
        .forget_connection(world.now, world.peers[a].connection);
    let op = world.start_op();
    world.complete(Completion::Started {
        op,
        result: Ok(HostProcess(1)),
    });
    assert_eq!(
        world.inspect(b, "orphan").unwrap().state,
        ProcessState::Started
    );
    assert!(world.inspect(b, "never").is_err());
    assert!(
        world
            .host
            .take()
            .iter()
            .all(|call| !matches!(call, HostCall::Start { .. }))
    );
    // Its name is free again.
    world.call(b, &spec(Some("never")));
    world.start_op();
}

#[test]
fn two_stops_of_one_process_are_one_stop() {
    let mut world = World::new(Config::default());
    let (a, b) = (world.connect(), world.connect());
    world.started(a, "web");
    let one = world.stop(a, "web");
    let two = world.stop(b, "web");
    let op = world.stop_op();
    world.complete(Completion::Stopped { op, result: Ok(()) });
    assert!(world.answer(a, one).is_ok() && world.answer(b, two).is_ok());
}

#[test]
fn followers_share_one_reader_and_see_the_same_numbers() {
    let mut world = World::new(Config {
        ring_bytes: 10 * 67,
        ..Config::default()
    });
    let (a, b) = (world.connect(), world.connect());
    let (_, log) = world.started(a, "web");
    world.opened(log);
    let early = world.call(a, &follow("web"));
    for n in 0..15 {
        world.record(log, &format!("r{n:02}"));
    }
    world.complete(Completion::LogLost { log });
    world.record(log, "rXX");
    assert!(world.host.take().is_empty(), "one reader");
    let late = world.call(b, &follow("web"));
    let seen = world.stream(a, early);
    assert_eq!(seen.len(), 17);
    assert_eq!(seen[14..], ["14:r14", "gap ? ->16", "16:rXX"]);
    let seen = world.stream(b, late);
    assert_eq!(
        seen[..2],
        ["gap 7 ->7", "7:r07"],
        "what the ring no longer holds is counted"
    );
    assert_eq!(seen[seen.len() - 2..], ["gap ? ->16", "16:rXX"]);
    let tail = world.call(b, &{
        let mut made = follow("web");
        made.tail = Some(1);
        made.no_follow = true;
        made
    });
    assert_eq!(world.stream(b, tail), ["16:rXX", "end: over"]);
    let since = world.call(b, &{
        let mut made = follow("web");
        made.since = Some(12);
        made.no_follow = true;
        made
    });
    assert_eq!(world.stream(b, since)[..2], ["12:r12", "13:r13"]);
}

#[test]
fn a_follower_that_does_not_read_is_gapped_and_harms_nobody() {
    let mut world = World::new(Config {
        ring_bytes: 20_000,
        ..Config::default()
    });
    let a = world.connect();
    let slow = world.connect_with(Limits::with(|limits| {
        limits.stream_window = 4_000;
    }));
    let (_, log) = world.started(a, "web");
    world.opened(log);
    let fast = world.call(a, &follow("web"));
    let stuck = world.call(slow, &follow("web"));
    world.peers[slow].reads = false;
    let text = "x".repeat(1_000);
    for _ in 0..300 {
        world.record(log, &text);
    }
    assert_eq!(world.stream(a, fast).len(), 300);
    let seen = world.stream(slow, stuck).len();
    assert!(seen < 10, "bounded by its window: {seen}");
    // When it reads again it learns exactly what it missed.
    world.peers[slow].reads = true;
    let unread: usize = seen * (1_000 + 32);
    for _ in 0..seen {
        world.peers[slow].core.consume(stuck, unread / seen);
    }
    world.run();
    let events = world.stream(slow, stuck);
    let gap = events
        .iter()
        .find(|event| event.starts_with("gap"))
        .expect("a gap");
    let (count, next) = gap[4..].split_once(" ->").unwrap();
    let (count, next): (u64, u64) = (count.parse().unwrap(), next.parse().unwrap());
    let before = events
        .iter()
        .position(|event| event.starts_with("gap"))
        .unwrap() as u64;
    assert_eq!(before + count, next, "numbers add up: {gap}");
    assert!(events.last().unwrap().starts_with("299:"));
}

#[test]
fn a_log_that_never_appears_is_not_looked_for_for_ever() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let (_, log) = world.started(a, "quiet");
    let mut looks = 1;
    loop {
        world.complete(Completion::LogMissing { log });
        match world.host.take()[..] {
            [] => break,
            [HostCall::OpenLog { .. }] => looks += 1,
            ref other => panic!("{other:?}"),
        }
        assert!(looks < 1_000);
    }
    // Somebody who asks for it makes the server look once more.
    world.call(a, &follow("quiet"));
    assert!(matches!(world.host.take()[..], [HostCall::OpenLog { .. }]));
    world.complete(Completion::LogMissing { log });
    world.call(a, &InfoRequest);
    assert!(
        matches!(world.host.take()[..], [HostCall::OpenLog { .. }]),
        "input is its clock"
    );
    assert_eq!(world.inspect(a, "quiet").unwrap().log, LogState::Waiting);
    // Stopped, its followers end.
    world.stop(a, "quiet");
    let op = world.stop_op();
    world.complete(Completion::Stopped { op, result: Ok(()) });
    assert!(matches!(world.host.take()[..], [HostCall::CloseLog { .. }]));
    world.complete(Completion::LogEnded { log });
    let ended = world.peers[a]
        .stream
        .values()
        .flatten()
        .any(|e| e.contains("was stopped"));
    assert!(ended);
}

#[test]
fn without_the_capabilities_there_is_no_log() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let request = world.call(a, &{
        let mut made = spec(Some("mute"));
        made.capabilities = vec![];
        made
    });
    let op = world.start_op();
    world.complete(Completion::Started {
        op,
        result: Ok(HostProcess(1)),
    });
    world.answer(a, request).unwrap();
    assert!(world.host.take().is_empty(), "nothing to look for");
    let request = world.call(a, &follow("mute"));
    let error = world.answer(a, request).unwrap_err();
    assert!(
        error.message.contains("ChannelLifecycle and ChannelWriter"),
        "{error}"
    );
}

#[test]
fn limits_are_stated() {
    let config = Config {
        max_connections: 2,
        max_processes: 2,
        max_stopped: 1,
        ..Config::default()
    };
    let mut world = World::new(config);
    let a = world.connect();
    world.connect();
    let third = world.connect();
    match &world.peers[third].closed {
        Some(CloseReason::Refused { error, .. }) => {
            assert_eq!(error.code, ErrorCode::ResourceExhausted);
            assert!(error.message.contains("2 clients"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    world.started(a, "one");
    world.started(a, "two");
    let request = world.call(a, &spec(Some("three")));
    let error = world.answer(a, request).unwrap_err();
    assert_eq!(
        (error.code, error.limit),
        (ErrorCode::ResourceExhausted, Some(2))
    );
    for name in ["one", "two"] {
        world.stop(a, name);
        let op = world.stop_op();
        world.complete(Completion::Stopped { op, result: Ok(()) });
        let log = match world.host.take()[..] {
            [HostCall::CloseLog { log }] => log,
            ref other => panic!("{other:?}"),
        };
        world.complete(Completion::LogEnded { log });
    }
    // One stopped process is kept; the one stopped first is forgotten, with its log.
    assert!(world.inspect(a, "one").is_err());
    assert!(world.inspect(a, "two").is_ok());
    let request = world.call(a, &InfoRequest);
    let info = ServerInfo::decode(&world.answer(a, request).unwrap()).unwrap();
    assert_eq!((info.processes, info.hubs, info.starts), (1, 1, 0));
}

#[test]
fn streams_are_limited() {
    let limits = Limits::with(|limits| {
        limits.max_streams = 2;
    });
    let mut world = World::new(Config {
        limits,
        ..Config::default()
    });
    let a = world.connect();
    world.started(a, "web");
    let first = world.call(a, &follow("web"));
    assert!(world.answer(a, first).is_ok());
    let second = world.call(a, &follow("web"));
    assert!(world.answer(a, second).is_ok());
    let third = world.call(a, &follow("web"));
    let error = world.answer(a, third).unwrap_err();
    assert_eq!(
        (error.code, error.limit),
        (ErrorCode::ResourceExhausted, Some(2))
    );
    world.peers[a].core.abandon(first);
    world.run();
    let again = world.call(a, &follow("web"));
    assert!(world.answer(a, again).is_ok(), "its place is free again");
}

#[test]
fn incomplete_requests_are_bounded_over_all_connections() {
    let mut world = World::new(Config {
        all_reassembly_bytes: 50_000,
        ..Config::default()
    });
    let (a, b) = (world.connect(), world.connect());
    let half = |world: &mut World, peer: usize, bytes: usize| {
        let connection = world.peers[peer].connection;
        let mut frames = Gather::default();
        let chunk = |len: usize| vec![0; len].into();
        let first = Frame::Request {
            id: 1_000,
            op: 16,
            total: 100_000,
            chunk: chunk(10_000),
        };
        first.encode(&mut frames);
        for _ in 1..bytes / 10_000 {
            let chunk = chunk(10_000);
            Frame::More { id: 1_000, chunk }.encode(&mut frames);
        }
        let frames: Bytes = frames.finish().concat().into();
        world.server.handle_input(world.now, connection, frames);
        world.run();
    };
    half(&mut world, a, 30_000);
    half(&mut world, b, 20_000);
    assert!(world.peers[a].closed.is_none() && world.peers[b].closed.is_none());
    let connection = world.peers[b].connection;
    let chunk = vec![0; 1].into();
    let one_more = Frame::More { id: 1_000, chunk }.to_bytes();
    world.server.handle_input(world.now, connection, one_more);
    world.run();
    match &world.peers[b].closed {
        Some(CloseReason::Peer(error)) => assert_eq!(error.code, ErrorCode::ResourceExhausted),
        other => panic!("{other:?}"),
    }
    assert!(world.peers[a].closed.is_none());
    // What the closed connection held is given back when it is gone.
    world.server.forget_connection(world.now, connection);
    let c = world.connect();
    half(&mut world, c, 20_000);
    assert!(world.peers[c].closed.is_none());
}

#[test]
fn what_waits_for_clients_that_do_not_read_is_bounded() {
    let mut world = World::new(Config {
        ring_bytes: 4 * 1024 * 1024,
        ..Config::default()
    });
    let a = world.connect();
    let slow = world.connect_with(Limits::with(|limits| {
        limits.stream_window = 64;
    }));
    let (_, log) = world.started(a, "web");
    world.opened(log);
    for _ in 0..100 {
        world.call(slow, &follow("web"));
    }
    world.peers[slow].reads = false;
    let text = "x".repeat(1_000);
    for _ in 0..500 {
        world.record(log, &text);
    }
    let request = world.call(a, &InfoRequest);
    let info = ServerInfo::decode(&world.answer(a, request).unwrap()).unwrap();
    // A mebibyte, and one message a stream.
    let most = (1024 * 1024 + 100 * 1_032) as u64;
    assert!(info.held_bytes <= most, "{}", info.held_bytes);
    assert!(
        info.held_bytes >= 500_000,
        "and it does buffer: {}",
        info.held_bytes
    );
}

#[test]
fn a_server_counts_connections_whose_clients_do_not_go() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let bad = world.connect();
    let connection = world.peers[bad].connection;
    let garbage = Bytes::from_static(&[0xff; 64]);
    world.server.handle_input(world.now, connection, garbage);
    let mut count = || {
        let request = world.call(a, &InfoRequest);
        let info = ServerInfo::decode(&world.answer(a, request).unwrap()).unwrap();
        (info.connections, info.zombies)
    };
    assert_eq!(count(), (2, 1));
    world.server.forget_connection(world.now, connection);
    let request = world.call(a, &InfoRequest);
    let info = ServerInfo::decode(&world.answer(a, request).unwrap()).unwrap();
    assert_eq!((info.connections, info.zombies), (1, 0));
}

#[test]
fn rings_are_bounded_together() {
    let config = Config {
        ring_bytes: 10_000,
        all_rings_bytes: 15_000,
        ..Config::default()
    };
    let mut world = World::new(config);
    let a = world.connect();
    let logs: Vec<LogId> = (0..3)
        .map(|n| world.started(a, &format!("p{n}")).1)
        .collect();
    let text = "x".repeat(500);
    for _ in 0..50 {
        for log in &logs {
            world.record(*log, &text);
        }
    }
    let request = world.call(a, &InfoRequest);
    let info = ServerInfo::decode(&world.answer(a, request).unwrap()).unwrap();
    assert!(info.ring_bytes <= 15_000 + 3 * 564, "{}", info.ring_bytes);
}

#[test]
fn hostile_bytes_end_their_connection_only() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let bad = world.connect();
    let connection = world.peers[bad].connection;
    world
        .server
        .handle_input(world.now, connection, Bytes::from_static(&[0xff; 64]));
    world.run();
    match &world.peers[bad].closed {
        Some(CloseReason::Peer(error)) => assert_eq!(error.code, ErrorCode::Protocol),
        other => panic!("{other:?}"),
    }
    let foreign = world.server.open(world.now, "peer");
    world
        .server
        .handle_input(world.now, foreign, Bytes::from_static(b"\0"));
    world.server.forget_connection(world.now, foreign);
    world.started(a, "fine");
}

#[test]
fn who_ends_its_half_at_once_is_still_told() {
    let mut world = World::new(Config::default());
    let id = world.server.open(world.now, "peer");
    let request = Bytes::from_static(b"\x10\0\0\0RMCL\0\0\0\0");
    world.server.handle_input(world.now, id, request);
    world.server.handle_eof(world.now, id);
    assert!(!world.server.is_closed(id), "there is something to say");
    let answer = world.server.poll_transmit(id, 65_536).unwrap().to_vec();
    assert_eq!(&answer[8..12], b"RMCL");
    assert!(world.server.is_closed(id));
    world.server.forget_connection(world.now, id);
    assert!(world.server.poll_transmit(id, 65_536).is_none());
}

#[test]
fn unknown_operations_are_unsupported() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let request = world.peers[a]
        .core
        .request(99, Bytes::new(), RequestOptions::default())
        .unwrap();
    world.run();
    let error = world.answer(a, request).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(error.message.contains("99"));
}

#[test]
fn a_server_with_a_clock_waits_for_a_hello_only_so_long() {
    let mut world = World::new(Config {
        unix_origin_ms: Some(1_700_000_000_000),
        ..Config::default()
    });
    let silent = world.server.open(world.now, "peer");
    let due = world.server.poll_timeout().unwrap();
    assert_eq!(due, Time::from_millis(10_000));
    world.server.handle_timeout(due);
    assert!(
        world.server.poll_transmit(silent, 65_536).is_some(),
        "a word before the end"
    );
    assert!(world.server.is_closed(silent));
    world.now = due;
    let a = world.connect();
    assert!(
        world.peers[a]
            .hello
            .as_ref()
            .unwrap()
            .features
            .contains(selium_remote_client_protocol::hello::Features::CLOCK)
    );
    let (process, _) = world.started(a, "timed");
    let info = world.inspect(a, &ids::show(process.id)).unwrap();
    assert_eq!(info.started_ms, Some(1_700_000_010_000));
}

#[test]
fn logs_that_fall_silent_are_looked_after() {
    let mut world = World::new(Config {
        unix_origin_ms: Some(1),
        ..Config::default()
    });
    let a = world.connect();
    let (_, log) = world.started(a, "web");
    world.opened(log);
    world.record(log, "one");
    let due = Time::from_millis(200);
    assert_eq!(world.server.poll_timeout(), Some(due));
    world.now = due;
    world.server.handle_timeout(due);
    world.run();
    assert_eq!(world.host.take(), [HostCall::NudgeLog { log }]);
    assert_eq!(world.server.poll_timeout(), None);
    // One that has shown nothing yet may hide its first record.
    let (_, silent) = world.started(a, "silent");
    world.opened(silent);
    world.now = Time::from_millis(400);
    world.server.handle_timeout(world.now);
    world.run();
    assert_eq!(world.host.take(), [HostCall::NudgeLog { log: silent }]);
}

#[test]
fn without_a_clock_a_followers_pings_are_the_time_to_look() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    let (_, log) = world.started(a, "web");
    world.opened(log);
    world.record(log, "one");
    world.call(a, &follow("web"));
    let ping = |world: &mut World| {
        world.peers[a].core.ping(world.now);
        world.run();
        world.host.take()
    };
    assert!(
        ping(&mut world).is_empty(),
        "it may be in the middle of a burst"
    );
    for _ in 0..10 {
        world.call(a, &InfoRequest);
    }
    assert!(world.host.take().is_empty(), "other input is no clock");
    world.record(log, "two");
    assert!(ping(&mut world).is_empty());
    assert_eq!(ping(&mut world), [HostCall::NudgeLog { log }]);
    assert!(ping(&mut world).is_empty(), "once a burst");
}

#[test]
fn stopped_processes_are_forgotten_after_a_time() {
    let mut world = World::new(Config {
        unix_origin_ms: Some(1),
        ..Config::default()
    });
    let a = world.connect();
    let (process, log) = world.started(a, "web");
    world.opened(log);
    world.record(log, "one");
    world.stop(a, "web");
    let op = world.stop_op();
    world.complete(Completion::Stopped { op, result: Ok(()) });
    world.complete(Completion::LogEnded { log });
    let hour = Time::from_millis(60 * 60 * 1_000);
    assert_eq!(world.server.poll_timeout(), Some(hour));
    world.now = Time::from_millis(60 * 60 * 1_000 - 1);
    world.server.handle_timeout(world.now);
    assert!(world.inspect(a, &ids::show(process.id)).is_ok());
    world.now = hour;
    world.server.handle_timeout(world.now);
    assert!(world.inspect(a, &ids::show(process.id)).is_err());
    let request = world.call(a, &InfoRequest);
    let info = ServerInfo::decode(&world.answer(a, request).unwrap()).unwrap();
    assert_eq!((info.processes, info.hubs, info.ring_bytes), (0, 0, 0));
}

#[test]
fn a_start_whose_deadline_passed_in_the_queue_is_not_started() {
    let config = Config {
        max_starts: 1,
        unix_origin_ms: Some(1),
        ..Config::default()
    };
    let mut world = World::new(config);
    let a = world.connect();
    world.call(a, &spec(Some("slow")));
    let common = Common::with(|made| {
        made.deadline_ms = Some(1_000);
    });
    let body = spec(Some("late")).encode(&common);
    let late = world.peers[a]
        .core
        .request(StartRequest::OP, body, RequestOptions::default())
        .unwrap();
    world.run();
    let op = world.start_op();
    world.now = Time::from_millis(1_000);
    world.complete(Completion::Started {
        op,
        result: Ok(HostProcess(1)),
    });
    let error = world.answer(a, late).unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    let starts = world.host.take();
    assert!(
        !starts
            .iter()
            .any(|call| matches!(call, HostCall::Start { .. }))
    );
    // Its turn and its name are free again.
    world.call(a, &spec(Some("late")));
    world.start_op();
}

#[test]
fn a_ceiling_is_kept() {
    let ceiling = LOGGING.into_iter().collect();
    let mut role = Role::admin();
    role.name = "operator".into();
    role.ceiling = ceiling;
    let mut world = World::new(Config {
        policy: Policy::new(vec![role]),
        ..Config::default()
    });
    let a = world.connect();
    let mut above = spec(None);
    above.capabilities.push(Capability::ProcessLifecycle);
    let request = world.call(a, &above);
    let error = world.answer(a, request).unwrap_err();
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert!(error.message.contains("operator") && error.message.contains("ProcessLifecycle"));
    world.started(a, "fine");
}

#[test]
fn a_draining_server_refuses_new_clients() {
    let mut world = World::new(Config::default());
    let a = world.connect();
    world.server.drain();
    world.run();
    let late = world.connect();
    assert!(matches!(
        world.peers[late].closed,
        Some(CloseReason::Refused { .. })
    ));
    assert!(world.peers[a].closed.is_none());
}

#[test]
fn unread_answers_are_bounded_over_all_connections() {
    let mut world = World::new(Config {
        all_control_bytes: 300_000,
        ..Config::default()
    });
    let honest = world.connect();
    let deaf = [(); 4].map(|()| world.connect());
    let pings = Frame::Ping([0; 8]).to_bytes().repeat(10_000);
    for at in deaf {
        let id = world.peers[at].connection;
        // Nobody transmits, so that the answers wait.
        world
            .server
            .handle_input(world.now, id, pings.clone().into());
    }
    let closed = deaf
        .iter()
        .filter(|at| world.server.is_closed(world.peers[**at].connection))
        .count();
    let over = deaf.map(|at| world.peers[at].connection);
    world.run();
    let told = deaf
        .iter()
        .filter(|at| world.peers[**at].closed.is_some())
        .count();
    assert_eq!((closed, told), (0, 2), "of {over:?}: two fit");
    assert!(world.peers[honest].closed.is_none());
    world.started(honest, "web");
}

#[test]
fn connections_that_are_to_be_refused_are_bounded_too() {
    let mut world = World::new(Config {
        max_connections: 2,
        max_refused: 3,
        ..Config::default()
    });
    for at in 0..5 {
        assert!(!world.server.is_full(), "{at}");
        world.server.open(world.now, "127.0.0.1:1");
    }
    assert!(world.server.is_full());
}

#[test]
fn a_test_can_refuse_the_next_request_of_a_kind() {
    let mut world = World::new(Config::default());
    let peer = world.connect();
    let error = |message: &str| RemoteError::new(ErrorCode::Unavailable, message);
    world.server.refuse_next(op::SERVER_INFO, error("one"));
    world.server.refuse_next(op::PROCESS_LIST, error("other"));
    world.server.refuse_next(op::SERVER_INFO, error("two"));
    for expected in [Some("one"), Some("two"), None] {
        let request = world.call(peer, &InfoRequest);
        let refused = world.answer(peer, request).err();
        assert_eq!(refused.map(|error| error.message).as_deref(), expected);
    }
    let request = world.call(peer, &ListRequest::default());
    assert_eq!(world.answer(peer, request), Err(error("other")));
}
