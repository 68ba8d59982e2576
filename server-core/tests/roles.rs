//! Who may do what, how much of it, and what is recorded of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests may panic as tests do.

mod world;

use core::time::Duration;

use bytes::Bytes;
use selium_remote_client_protocol::{
    Capability, CapabilitySet, CloseReason, ErrorCode, Limits, RemoteError, Time,
    client::RequestOptions,
    frame::Frame,
    ops::{Common, InfoRequest, InspectRequest, ListRequest, Request, ServerInfo, StopRequest, op},
};
use selium_remote_server_core::{
    AuditEvent, Completion, Config, HostCall, HostProcess, Permission, Policy, Role, RoleId,
    access::{UNKNOWN_ROLE, module_matches},
    audit::{CONNECTION, HELLO, MAX_AUDIT_REASON, MAX_AUDIT_TARGET, MAX_QUEUED_EVENTS, REFUSALS},
    policy::{MAX_PATTERN, MAX_ROLES},
};
use world::{LOGGING, World, follow, spec};

const ADMIN: RoleId = RoleId(0);
const OPERATOR: RoleId = RoleId(1);
const VIEWER: RoleId = RoleId(2);
const NOTHING: RoleId = RoleId(3);
const UNKNOWN: RoleId = RoleId(77);

const CLOCK: Option<u64> = Some(1_700_000_000_000);

fn role(name: &str, permissions: &[Permission]) -> Role {
    let mut role = Role::new(name);
    role.permissions = permissions.iter().copied().collect();
    role
}

/// The ready-made roles, as policies have them.
fn policy() -> Policy {
    let mut operator = role(
        "operator",
        &[
            Permission::Start,
            Permission::Stop,
            Permission::List,
            Permission::Inspect,
            Permission::Logs,
        ],
    );
    operator.modules = vec!["hello*".into(), "apps/*".into()];
    operator.ceiling = LOGGING.into_iter().collect();
    let viewer = role(
        "viewer",
        &[Permission::List, Permission::Inspect, Permission::Logs],
    );
    let roles = vec![Role::admin(), operator, viewer, Role::new("nothing")];
    Policy::new(roles)
}

fn config() -> Config {
    Config {
        policy: policy(),
        ..Config::default()
    }
}

fn timed(policy: Policy) -> World {
    World::new(Config {
        policy,
        unix_origin_ms: CLOCK,
        ..Config::default()
    })
}

/// A policy of one role, changed.
fn one(change: impl FnOnce(&mut Role)) -> Policy {
    let mut role = Role::admin();
    role.name = "only".into();
    change(&mut role);
    Policy::new(vec![role])
}

fn connect(world: &mut World, role: RoleId) -> usize {
    let session = world.peers.len() as u8 + 1;
    world.connect_in(session, Limits::default(), role)
}

/// The answer to a request, if there is one at once.
fn ask(
    world: &mut World,
    peer: usize,
    request: &impl Request,
) -> Option<Result<Bytes, RemoteError>> {
    let id = world.call(peer, request);
    world.peers[peer].answers.remove(&id)
}

fn refusal(world: &mut World, peer: usize, request: &impl Request) -> RemoteError {
    ask(world, peer, request).expect("an answer").unwrap_err()
}

fn raw(world: &mut World, peer: usize, op: u64, body: &'static [u8]) -> RemoteError {
    let body = Bytes::from_static(body);
    let options = RequestOptions::default();
    let id = world.peers[peer].core.request(op, body, options).unwrap();
    world.run();
    world.answer(peer, id).unwrap_err()
}

/// Lets the start in the host succeed.
fn finish_start(world: &mut World, process: u64) {
    let op = world.start_op();
    let result = Ok(HostProcess(process));
    world.complete(Completion::Started { op, result });
    world.host.take();
}

fn finish_stop(world: &mut World) {
    let op = world.stop_op();
    world.complete(Completion::Stopped { op, result: Ok(()) });
    for call in world.host.take() {
        if let HostCall::CloseLog { log } = call {
            world.complete(Completion::LogEnded { log });
        }
    }
}

fn inspect(target: &str) -> InspectRequest {
    InspectRequest::with(|made| {
        made.target = target.into();
    })
}

fn stop(target: &str) -> StopRequest {
    StopRequest::with(|made| {
        made.target = target.into();
    })
}

fn refused(world: &World, peer: usize) -> RemoteError {
    match &world.peers[peer].closed {
        Some(CloseReason::Refused { error, .. }) => error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_operation_with_every_role() {
    // Role by role: info, start, stop, list, inspect, logs.
    let table = [
        (ADMIN, "admin", [true, true, true, true, true, true]),
        (OPERATOR, "operator", [true, true, true, true, true, true]),
        (VIEWER, "viewer", [true, false, false, true, true, true]),
        (
            NOTHING,
            "nothing",
            [true, false, false, false, false, false],
        ),
        (
            UNKNOWN,
            UNKNOWN_ROLE,
            [true, false, false, false, false, false],
        ),
        (
            RoleId(u16::MAX),
            UNKNOWN_ROLE,
            [true, false, false, false, false, false],
        ),
    ];
    let names = ["", "start", "stop", "list", "inspect", "logs"];
    for (id, name, allowed) in table {
        let mut world = World::new(config());
        let admin = connect(&mut world, ADMIN);
        world.started(admin, "web");
        let peer = connect(&mut world, id);
        let hello = world.peers[peer].hello.clone().expect("let in");
        assert_eq!(hello.role, name);
        let ceiling = match id {
            ADMIN => CapabilitySet::all(),
            OPERATOR => LOGGING.into_iter().collect(),
            _ => CapabilitySet::default(),
        };
        assert_eq!(hello.ceiling, ceiling, "{name}");
        world.peers[peer].core.ping(world.now);
        world.run();
        let answers = [
            ask(&mut world, peer, &InfoRequest),
            ask(&mut world, peer, &spec(Some("new"))),
            ask(&mut world, peer, &stop("web")),
            ask(&mut world, peer, &ListRequest::default()),
            ask(&mut world, peer, &inspect("web")),
            ask(&mut world, peer, &follow("web")),
        ];
        for ((answer, allowed), permission) in answers.into_iter().zip(allowed).zip(names) {
            match answer {
                Some(Err(error)) => {
                    assert!(!allowed, "{name}, {permission}: {error}");
                    assert_eq!(error.code, ErrorCode::PermissionDenied);
                    assert_eq!(error.field.as_deref(), Some("operation"));
                    let says = |what: &str| error.message.contains(&format!("`{what}`"));
                    assert!(says(name) && says(permission), "{error}");
                }
                // A start and a stop are with the host.
                _ => assert!(allowed, "{name} may {permission}"),
            }
        }
        let calls = world.host.take();
        let did = |wanted: fn(&HostCall) -> bool| calls.iter().any(wanted);
        assert_eq!(
            did(|call| matches!(call, HostCall::Start { .. })),
            allowed[1]
        );
        assert_eq!(
            did(|call| matches!(call, HostCall::Stop { .. })),
            allowed[2]
        );
    }
}

#[test]
fn every_permission_stands_for_its_own_operation_only() {
    for missing in Permission::ALL {
        let others = Permission::ALL
            .into_iter()
            .filter(|other| *other != missing);
        let mut world = World::new(Config {
            policy: one(|role| role.permissions = others.collect()),
            ..Config::default()
        });
        let a = world.connect();
        let denied = [
            (Permission::Start, ask(&mut world, a, &spec(None))),
            (Permission::Stop, ask(&mut world, a, &stop("x"))),
            (
                Permission::List,
                ask(&mut world, a, &ListRequest::default()),
            ),
            (Permission::Inspect, ask(&mut world, a, &inspect("x"))),
            (Permission::Logs, ask(&mut world, a, &follow("x"))),
        ];
        for (permission, answer) in denied {
            let code = answer.and_then(Result::err).map(|error| error.code);
            let is_denied = code == Some(ErrorCode::PermissionDenied);
            assert_eq!(
                is_denied,
                permission == missing,
                "{permission:?} {missing:?}"
            );
        }
    }
}

#[test]
fn a_denied_client_learns_nothing() {
    let mut world = World::new(config());
    let admin = connect(&mut world, ADMIN);
    let (process, _) = world.started(admin, "web");
    let id = selium_remote_server_core::ids::show(process.id);
    let nobody = connect(&mut world, NOTHING);
    let words = |error: RemoteError| (error.code, error.message, error.field, error.limit);
    let long = "x".repeat(10_000);
    let targets = ["web", &id, &id[..4], "missing", "", &long, "\0"];
    let mut stops: Vec<_> = Vec::new();
    let mut inspects: Vec<_> = Vec::new();
    let mut follows: Vec<_> = Vec::new();
    for target in targets {
        stops.push(words(refusal(&mut world, nobody, &stop(target))));
        inspects.push(words(refusal(&mut world, nobody, &inspect(target))));
        follows.push(words(refusal(&mut world, nobody, &follow(target))));
    }
    for answers in [&mut stops, &mut inspects, &mut follows] {
        answers.dedup();
        assert_eq!(answers.len(), 1, "the same whatever it names: {answers:?}");
    }
    // Names that are taken, modules, arguments, retries and malformed requests are no different.
    let mut starts = vec![
        words(refusal(&mut world, nobody, &spec(Some("web")))),
        words(refusal(&mut world, nobody, &spec(Some("free")))),
    ];
    for module in ["../x", "", "a\\b"] {
        let mut spec = spec(None);
        spec.module = module.into();
        starts.push(words(refusal(&mut world, nobody, &spec)));
    }
    let retry = world.changing(nobody, &spec(None), 1, true);
    starts.push(words(world.answer(nobody, retry).unwrap_err()));
    starts.push(words(raw(&mut world, nobody, op::PROCESS_START, &[])));
    starts.push(words(raw(
        &mut world,
        nobody,
        op::PROCESS_START,
        &[0x40, 0xc7, 0],
    )));
    starts.dedup();
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert!(world.host.take().is_empty());
}

#[test]
fn modules_and_capabilities_of_a_role_are_kept() {
    let mut world = World::new(config());
    let operator = connect(&mut world, OPERATOR);
    let mut start = |module: &str| {
        let mut spec = spec(None);
        spec.module = module.into();
        let answer = ask(&mut world, operator, &spec);
        world.host.take();
        answer.map(|answer| answer.unwrap_err())
    };
    for module in ["hello.wasm", "hello", "apps/a/b.wasm", "apps/"] {
        if let Some(error) = start(module) {
            // Two are in the host at a time; the others wait.
            panic!("{module}: {error}");
        }
    }
    for module in [
        "server.wasm",
        "Hello.wasm",
        "./hello.wasm",
        "xapps/a",
        "apps",
    ] {
        let error = start(module).expect(module);
        assert_eq!(error.code, ErrorCode::PermissionDenied, "{module}");
        assert_eq!(error.field.as_deref(), Some("module"));
        assert!(error.message.contains("`operator`") && error.message.contains(module));
    }
    for module in [
        "apps/../server.wasm",
        "/apps/a",
        "apps\\a",
        "apps/a\0",
        "apps/\n",
        "..",
    ] {
        let error = start(module).expect(module);
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{module}");
        assert_eq!(error.field.as_deref(), Some("module"));
    }
    for capability in Capability::ALL {
        let mut spec = spec(None);
        spec.capabilities = vec![*capability];
        match ask(&mut world, operator, &spec) {
            None => assert!(LOGGING.contains(capability), "{capability}"),
            Some(answer) => {
                let error = answer.unwrap_err();
                assert!(!LOGGING.contains(capability), "{capability}: {error}");
                assert_eq!(error.code, ErrorCode::PermissionDenied);
                assert_eq!(error.field.as_deref(), Some("capabilities"));
                assert!(error.message.contains(&capability.to_string()), "{error}");
            }
        }
    }
    // Without patterns nothing may be started, with any permission.
    let mut world = World::new(Config {
        policy: one(|role| role.modules.clear()),
        ..Config::default()
    });
    let a = world.connect();
    let error = refusal(&mut world, a, &spec(None));
    assert_eq!(error.code, ErrorCode::PermissionDenied);
}

/// Reads a pattern the simple way.
fn model(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=text.len()).any(|at| model(rest, &text[at..])),
        ([wanted, pattern @ ..], [is, text @ ..]) if wanted == is => model(pattern, text),
        _ => false,
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % end
    }

    fn text(&mut self, letters: &[char], most: usize) -> Vec<char> {
        let len = self.below(most + 1);
        (0..len)
            .map(|_| letters[self.below(letters.len())])
            .collect()
    }
}

#[test]
fn patterns_are_those_of_the_model() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(0x5e11);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let mut seen = [0; 2];
    for _ in 0..60_000 {
        let pattern = dice.text(&['a', 'b', '*', '*', '/', 'ä'], 8);
        // Half of the texts are made from the pattern, so that enough match.
        let text = match dice.below(2) {
            0 => dice.text(&['a', 'b', '/', 'ä'], 10),
            _ => {
                let mut text = Vec::new();
                for letter in &pattern {
                    match letter {
                        '*' => text.extend(dice.text(&['a', 'b', '/', 'ä'], 3)),
                        letter => text.push(*letter),
                    }
                }
                if dice.below(3) == 0 && !text.is_empty() {
                    let at = dice.below(text.len());
                    text.remove(at);
                }
                text
            }
        };
        let expected = model(&pattern, &text);
        seen[usize::from(expected)] += 1;
        let pattern: String = pattern.into_iter().collect();
        let text: String = text.into_iter().collect();
        assert_eq!(
            module_matches(&pattern, &text),
            expected,
            "`{pattern}` and `{text}`"
        );
    }
    assert!(seen.iter().all(|count| *count > 5_000), "{seen:?}");
}

#[test]
fn no_pattern_takes_long() {
    // Where backtracking would take 2^80 steps.
    let pattern = "a*".repeat(MAX_PATTERN / 2 - 1) + "b";
    let text = "a".repeat(256);
    for _ in 0..1_000 {
        assert!(!module_matches(&pattern, &text));
    }
}

#[test]
fn connections_of_a_role_are_limited() {
    let mut policy = policy();
    policy.roles[2].limits.connections = 2;
    let mut world = World::new(Config {
        policy,
        max_connections: 4,
        max_refused_of_role: 1,
        ..Config::default()
    });
    let first = connect(&mut world, VIEWER);
    let second = connect(&mut world, VIEWER);
    assert!(world.peers[second].hello.is_some());
    assert!(!world.server.is_full_for(VIEWER));
    let third = connect(&mut world, VIEWER);
    let error = refused(&world, third);
    assert_eq!(error.code, ErrorCode::ResourceExhausted);
    assert!(
        error.message.contains("2 clients of the role `viewer`"),
        "{error}"
    );
    assert!(world.server.is_full_for(VIEWER), "not even to be refused");
    assert!(!world.server.is_full_for(ADMIN));
    let admin = connect(&mut world, ADMIN);
    assert!(world.peers[admin].hello.is_some());
    // All of them count for the server: two viewers, the refused one, and the admin.
    let late = connect(&mut world, OPERATOR);
    let error = refused(&world, late);
    assert!(error.message.contains("4 clients are connected"), "{error}");
    for gone in [first, third, late] {
        let id = world.peers[gone].connection;
        world.server.forget_connection(world.now, id);
    }
    assert!(!world.server.is_full_for(VIEWER));
    let again = connect(&mut world, VIEWER);
    assert!(world.peers[again].hello.is_some(), "its place is free");
}

#[test]
fn a_role_has_its_own_time_for_a_hello() {
    let mut policy = policy();
    policy.roles[2].limits.hello = Duration::from_millis(1_500);
    policy.roles[0].limits.hello = Duration::from_secs(60);
    let mut world = timed(policy);
    let viewer = world.server.open_as(world.now, "1", VIEWER);
    let admin = world.server.open_as(world.now, "2", ADMIN);
    let greeted = connect(&mut world, VIEWER);
    let due = Time::from_millis(1_500);
    assert_eq!(world.server.poll_timeout(), Some(due));
    world.server.handle_timeout(Time::from_millis(1_499));
    assert!(!world.server.is_closed(viewer));
    world.server.handle_timeout(due);
    let words = world.server.poll_transmit(viewer, 65_536).unwrap().to_vec();
    let words = String::from_utf8_lossy(&words).into_owned();
    assert!(words.contains("no hello came within 1.5 s"), "{words}");
    assert!(world.server.is_closed(viewer) && !world.server.is_closed(admin));
    assert!(world.peers[greeted].closed.is_none());
    // The server's own limit is lower than the admin's.
    assert_eq!(world.server.poll_timeout(), Some(Time::from_millis(10_000)));
}

#[test]
fn requests_and_streams_of_a_connection_are_the_roles() {
    let mut policy = policy();
    policy.roles[1].limits.requests = 2;
    policy.roles[1].limits.streams = 1;
    let mut world = World::new(Config {
        policy,
        ..Config::default()
    });
    let admin = connect(&mut world, ADMIN);
    let operator = connect(&mut world, OPERATOR);
    let stated = |world: &World, peer: usize| {
        let hello = world.peers[peer].hello.as_ref().unwrap();
        (hello.max_requests, hello.max_streams)
    };
    assert_eq!(stated(&world, operator), (2, 1));
    assert_eq!(stated(&world, admin), (256, 512), "the server's own");
    world.started(admin, "web");
    assert!(ask(&mut world, operator, &follow("web")).unwrap().is_ok());
    let error = refusal(&mut world, operator, &follow("web"));
    assert_eq!(
        (error.code, error.limit),
        (ErrorCode::ResourceExhausted, Some(1))
    );
    assert!(ask(&mut world, admin, &follow("web")).unwrap().is_ok());
    // Two starts wait for the host; a third request is one too many. (The client keeps to what the hello says by itself.)
    let connection = world.peers[operator].connection;
    let body = spec(None).encode(&Common::default());
    for id in 100..103 {
        let frame = Frame::Request {
            id,
            op: op::PROCESS_START,
            total: body.len() as u64,
            chunk: body.clone().into(),
        };
        world
            .server
            .handle_input(world.now, connection, frame.to_bytes());
    }
    let mut sent = Vec::new();
    while let Some(transmit) = world.server.poll_transmit(connection, 65_536) {
        sent.extend(transmit.to_vec());
    }
    let sent = String::from_utf8_lossy(&sent).into_owned();
    assert!(sent.contains("2 requests are in flight"), "{sent:?}");
    world.run();
    let starts = world.host.take();
    assert_eq!(starts.len(), 2, "{starts:?}");
}

#[test]
fn what_waits_on_a_connection_is_the_roles() {
    let held = |queued_bytes: Option<u32>| {
        let mut policy = policy();
        if let Some(bytes) = queued_bytes {
            policy.roles[2].limits.queued_bytes = bytes;
        }
        let mut world = World::new(Config {
            policy,
            ring_bytes: 4 * 1024 * 1024,
            ..Config::default()
        });
        let admin = connect(&mut world, ADMIN);
        let (_, log) = world.started(admin, "web");
        world.opened(log);
        let tiny = Limits::with(|limits| limits.stream_window = 64);
        let slow = world.connect_in(9, tiny, VIEWER);
        world.peers[slow].reads = false;
        for _ in 0..4 {
            world.call(slow, &follow("web"));
        }
        let text = "x".repeat(1_000);
        for _ in 0..300 {
            world.record(log, &text);
        }
        let info = ask(&mut world, admin, &InfoRequest).unwrap().unwrap();
        ServerInfo::decode(&info).unwrap().held_bytes
    };
    let (few, many) = (held(Some(20_000)), held(None));
    assert!((10_000..=20_000 + 4 * 1_100).contains(&few), "{few}");
    assert!(many > 4 * few, "{many}");
}

#[test]
fn processes_of_a_role_are_limited() {
    let mut policy = policy();
    policy.roles[1].limits.processes = 2;
    let mut world = World::new(Config {
        policy,
        ..Config::default()
    });
    let (admin, a, b) = (
        connect(&mut world, ADMIN),
        connect(&mut world, OPERATOR),
        connect(&mut world, OPERATOR),
    );
    world.started(admin, "not-theirs");
    world.started(a, "one");
    let waiting = world.call(b, &spec(Some("two")));
    assert!(!world.peers[b].answers.contains_key(&waiting));
    let over = |world: &mut World| {
        let error = refusal(world, a, &spec(Some("three")));
        assert_eq!(
            (error.code, error.limit),
            (ErrorCode::ResourceExhausted, Some(2))
        );
        assert!(error.message.contains("`operator`"), "{error}");
    };
    over(&mut world); // One that is under way counts.
    finish_start(&mut world, 9);
    over(&mut world);
    world.started(admin, "still-free");
    // Whoever stops one makes room; it stays in the table.
    world.stop(admin, "one");
    finish_stop(&mut world);
    world.started(a, "three");
    over(&mut world);
    // A failed start gives its place back.
    world.stop(a, "three");
    finish_stop(&mut world);
    world.call(a, &spec(Some("four")));
    over(&mut world);
    let op = world.start_op();
    let result = Err("no".into());
    world.complete(Completion::Started { op, result });
    world.started(a, "three-again");
}

#[test]
fn starts_of_a_role_are_limited_by_the_minute() {
    let limited = || one(|role| role.limits.starts_per_minute = 3);
    let mut world = timed(limited());
    let a = world.connect();
    for n in 0..3 {
        world.started(a, &format!("p{n}"));
    }
    // What is refused for another reason costs nothing.
    assert_eq!(
        refusal(&mut world, a, &spec(Some("p0"))).code,
        ErrorCode::AlreadyExists
    );
    let over = |world: &mut World, wait: &str| {
        let error = refusal(world, a, &spec(Some("late")));
        assert_eq!(
            (error.code, error.limit),
            (ErrorCode::ResourceExhausted, Some(3))
        );
        assert!(
            error
                .message
                .contains("`only` may start 3 processes a minute"),
            "{error}"
        );
        assert!(error.message.contains(wait), "{error}");
    };
    over(&mut world, "in 20 s");
    world.now = Time::from_millis(19_999);
    over(&mut world, "in 1 s");
    world.now = Time::from_millis(20_000);
    world.started(a, "late"); // The name was given back.
    let error = refusal(&mut world, a, &spec(Some("later")));
    assert_eq!(error.code, ErrorCode::ResourceExhausted);
    world.now = Time::from_millis(10 * 60_000);
    for n in 10..13 {
        world.started(a, &format!("p{n}"));
    }
    assert!(
        ask(&mut world, a, &spec(Some("more"))).unwrap().is_err(),
        "no more than 3 at once"
    );
    // Without a clock there is no minute.
    let mut world = World::new(Config {
        policy: limited(),
        ..Config::default()
    });
    let a = world.connect();
    for n in 0..10 {
        world.started(a, &format!("p{n}"));
    }
}

#[test]
fn another_role_gets_nothing_of_a_session() {
    let mut world = World::new(config());
    let admin = world.connect_in(1, Limits::default(), ADMIN);
    let operator = world.connect_in(1, Limits::default(), OPERATOR);
    let own = world.changing(admin, &spec(Some("web")), 1, false);
    let denied = |world: &mut World, token, retry| {
        let id = world.changing(operator, &spec(Some("web")), token, retry);
        let error = world.answer(operator, id).unwrap_err();
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        assert_eq!(error.field.as_deref(), Some("session"));
        assert!(error.message.contains("`operator`"), "{error}");
    };
    denied(&mut world, 1, true); // It runs: not joined.
    denied(&mut world, 1, false);
    finish_start(&mut world, 1);
    assert!(world.answer(admin, own).is_ok());
    denied(&mut world, 1, true); // It is done: not told.
    denied(&mut world, 2, false); // Nothing else either.
    denied(&mut world, 7, true);
    assert!(world.host.take().is_empty());
    // Its own retry gets it, from another connection too, and a session of its own is fine.
    let again = world.connect_in(1, Limits::default(), ADMIN);
    let retry = world.changing(again, &spec(Some("web")), 1, true);
    assert!(world.answer(again, retry).is_ok());
    let other = world.connect_in(2, Limits::default(), OPERATOR);
    world.changing(other, &spec(Some("mine")), 1, false);
    finish_start(&mut world, 2);
}

#[test]
fn roles_of_no_policy_and_too_many_roles_may_do_nothing() {
    let mut world = World::new(Config {
        policy: Policy::new(Vec::new()),
        ..Config::default()
    });
    let a = world.connect();
    assert_eq!(world.peers[a].hello.as_ref().unwrap().role, UNKNOWN_ROLE);
    let error = refusal(&mut world, a, &ListRequest::default());
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert!(ask(&mut world, a, &InfoRequest).unwrap().is_ok());
    let roles = (0..=MAX_ROLES).map(|_| Role::admin()).collect();
    let mut world = World::new(Config {
        policy: Policy::new(roles),
        ..Config::default()
    });
    let last = connect(&mut world, RoleId(MAX_ROLES as u16 - 1));
    let past = connect(&mut world, RoleId(MAX_ROLES as u16));
    assert!(
        ask(&mut world, last, &ListRequest::default())
            .unwrap()
            .is_ok()
    );
    let error = refusal(&mut world, past, &ListRequest::default());
    assert_eq!(error.code, ErrorCode::PermissionDenied);
}

/// Role, operation, target and result of each event.
fn told(events: &[AuditEvent]) -> Vec<(&str, &str, &str, Option<ErrorCode>)> {
    events
        .iter()
        .map(|event| {
            let role: &str = &event.role;
            (
                role,
                event.operation,
                event.target.as_str(),
                event.result.err(),
            )
        })
        .collect()
}

#[test]
fn changing_operations_are_recorded_with_their_results() {
    let mut world = World::new(config());
    let (a, b) = (connect(&mut world, ADMIN), connect(&mut world, OPERATOR));
    let (process, _) = world.started(b, "web");
    let events = world.host.take_audit();
    let event = &events[..];
    assert_eq!(
        told(event),
        [("operator", "process start", "hello.wasm", None)]
    );
    assert_eq!(event[0].process, Some(process.clone()));
    assert_eq!(event[0].peer, "127.0.0.1:1");
    assert_eq!((event[0].reason.as_str(), event[0].suppressed), ("", 0));
    assert!(event[0].request.is_some());

    // What only looks is not recorded.
    ask(&mut world, a, &ListRequest::default());
    ask(&mut world, a, &inspect("web"));
    ask(&mut world, a, &inspect("missing"));
    ask(&mut world, a, &follow("web"));
    ask(&mut world, a, &InfoRequest);
    assert_eq!(world.host.take_audit(), []);

    // A failed start, a bad one, one of a missing process, one that two stop, one that is stopped.
    world.call(a, &spec(Some("bad")));
    let op = world.start_op();
    let result = Err("Path validation failed".into());
    world.complete(Completion::Started { op, result });
    ask(&mut world, a, &spec(Some("No Name")));
    ask(&mut world, a, &stop("missing"));
    world.stop(a, "web");
    world.stop(b, &selium_remote_server_core::ids::show(process.id));
    finish_stop(&mut world);
    world.stop(a, "web");
    let events = world.host.take_audit();
    let id = selium_remote_server_core::ids::show(process.id);
    assert_eq!(
        told(&events),
        [
            (
                "admin",
                "process start",
                "hello.wasm",
                Some(ErrorCode::NotFound)
            ),
            (
                "admin",
                "process start",
                "hello.wasm",
                Some(ErrorCode::InvalidArgument)
            ),
            (
                "admin",
                "process stop",
                "missing",
                Some(ErrorCode::NotFound)
            ),
            ("admin", "process stop", "web", None),
            ("operator", "process stop", id.as_str(), None),
            ("admin", "process stop", "web", None),
        ]
    );
    assert!(events[2].reason.contains("there is no process `missing`"));
    assert!(
        events[3..]
            .iter()
            .all(|event| event.process.as_ref() == Some(&process))
    );

    // Cancelled too late, and before; and one whose client vanished.
    let running = world.call(a, &spec(Some("late")));
    world.peers[a].core.cancel(running);
    world.run();
    finish_start(&mut world, 5);
    let event = world.host.take_audit().pop().unwrap();
    assert_eq!(event.result, Err(ErrorCode::Cancelled));
    assert_eq!(event.process.as_ref().unwrap().name, "late");
    world.call(a, &spec(Some("x")));
    world.call(a, &spec(Some("y")));
    let waiting = world.call(a, &spec(Some("z")));
    world.peers[a].core.cancel(waiting);
    world.run();
    let event = world.host.take_audit().pop().unwrap();
    assert_eq!(
        (event.result, event.process),
        (Err(ErrorCode::Cancelled), None)
    );
    let connection = world.peers[a].connection;
    world.server.forget_connection(world.now, connection);
    finish_start(&mut world, 6);
    let events = world.host.take_audit();
    assert_eq!(
        told(&events),
        [("admin", "process start", "hello.wasm", None)]
    );
    assert_eq!(events[0].peer, "127.0.0.1:0");
}

#[test]
fn a_retry_is_recorded_once() {
    let mut world = World::new(config());
    let a = connect(&mut world, ADMIN);
    world.changing(a, &spec(Some("web")), 1, false);
    world.changing(a, &spec(Some("web")), 1, true);
    finish_start(&mut world, 1);
    world.changing(a, &spec(Some("web")), 1, true);
    assert_eq!(world.host.take_audit().len(), 1);
    world.changing(a, &spec(Some("web")), 9, true);
    let events = world.host.take_audit();
    assert_eq!(events[0].result, Err(ErrorCode::OutcomeUnknown));
}

#[test]
fn refusals_are_recorded() {
    let denied = Some(ErrorCode::PermissionDenied);
    let mut policy = policy();
    policy.roles[1].limits.streams = 0;
    policy.roles[3].limits.connections = 0;
    let mut world = timed(policy);
    let viewer = connect(&mut world, VIEWER);
    ask(&mut world, viewer, &stop("web\n"));
    let mut long = spec(None);
    long.module = "m\u{1b}".repeat(5_000);
    ask(&mut world, viewer, &long);
    let events = world.host.take_audit();
    assert_eq!(events[0].target, "web\\n");
    assert_eq!(
        (
            events[0].role.as_str(),
            events[0].operation,
            events[0].result.err()
        ),
        ("viewer", "process stop", denied)
    );
    assert!(events[0].reason.contains("lacks the permission `stop`"));
    assert!((200..=MAX_AUDIT_TARGET).contains(&events[1].target.len()));
    // Modules, capabilities, sessions.
    let operator = world.connect_in(8, Limits::default(), OPERATOR);
    let mut other = spec(None);
    other.module = "other.wasm".into();
    ask(&mut world, operator, &other);
    let mut above = spec(None);
    above.capabilities = vec![Capability::ProcessLifecycle];
    ask(&mut world, operator, &above);
    let admin = world.connect_in(8, Limits::default(), ADMIN);
    world.changing(admin, &stop("x"), 1, false);
    world.changing(operator, &stop("x"), 1, true);
    let events = world.host.take_audit();
    assert_eq!(
        told(&events),
        [
            ("operator", "process start", "other.wasm", denied),
            ("operator", "process start", "hello.wasm", denied),
            ("admin", "process stop", "x", Some(ErrorCode::NotFound)),
            ("operator", "process stop", "x", denied),
        ]
    );
    assert!(
        events
            .iter()
            .all(|event| event.reason.len() <= MAX_AUDIT_REASON)
    );
    // Streams, connections, hellos that are late or of another protocol, bytes that are none.
    world.started(admin, "web");
    world.host.take_audit();
    let exhausted = Some(ErrorCode::ResourceExhausted);
    ask(&mut world, operator, &follow("web"));
    connect(&mut world, NOTHING);
    world.server.dropped(world.now, "127.0.0.1:99", VIEWER);
    let silent = world.server.open_as(world.now, "127.0.0.1:77", VIEWER);
    let foreign = world.server.open_as(world.now, "127.0.0.1:78", VIEWER);
    let lost = world.server.open_as(world.now, "127.0.0.1:79", VIEWER);
    let bytes = Bytes::from_static(b"GET / HTTP/1.1\r\n");
    world.server.handle_input(world.now, foreign, bytes);
    world.server.handle_eof(world.now, lost);
    world.server.handle_timeout(Time::from_millis(10_000));
    assert!(world.server.is_closed(lost) && !world.server.is_closed(silent));
    let connection = world.peers[viewer].connection;
    let garbage = Bytes::from_static(&[0xff; 64]);
    world.server.handle_input(world.now, connection, garbage);
    world.server.run_host(&mut world.host);
    let events = world.host.take_audit();
    assert_eq!(
        told(&events),
        [
            ("operator", "log follow", "web", exhausted),
            ("nothing", HELLO, "", exhausted),
            ("viewer", HELLO, "", exhausted),
            ("viewer", HELLO, "", Some(ErrorCode::Protocol)),
            ("viewer", HELLO, "", Some(ErrorCode::DeadlineExceeded)),
            ("viewer", CONNECTION, "", Some(ErrorCode::Protocol)),
        ]
    );
    assert_eq!(events[4].peer, "127.0.0.1:77");
    assert_eq!(events[4].request, None);
    // A draining server.
    world.server.drain();
    connect(&mut world, ADMIN);
    let events = world.host.take_audit();
    assert_eq!(
        told(&events),
        [("admin", HELLO, "", Some(ErrorCode::Unavailable))]
    );
}

#[test]
fn limits_that_are_hit_are_recorded() {
    let mut world = timed(one(|role| {
        role.limits.processes = 2;
        role.limits.starts_per_minute = 1;
    }));
    let a = world.connect();
    world.started(a, "one");
    ask(&mut world, a, &spec(None));
    world.now = Time::from_millis(60_000);
    world.started(a, "two");
    ask(&mut world, a, &spec(None));
    let events = world.host.take_audit();
    let reasons: Vec<_> = events.iter().map(|event| event.reason.as_str()).collect();
    assert!(reasons[1].contains("1 processes a minute"), "{reasons:?}");
    assert!(
        reasons[3].contains("2 processes of the role `only` are started"),
        "{reasons:?}"
    );
}

/// Has a client ask so often for what it may not do.
fn flood(world: &mut World, peer: usize, times: u64) {
    for _ in 0..times {
        refusal(world, peer, &stop("web"));
    }
}

#[test]
fn a_flood_of_refusals_is_counted_and_does_not_hide_others() {
    let mut world = timed(policy());
    let (admin, viewer) = (connect(&mut world, ADMIN), connect(&mut world, VIEWER));
    let nobody = connect(&mut world, NOTHING);
    let burst = u64::from(REFUSALS.burst);
    flood(&mut world, viewer, 1_000);
    let events = world.host.take_audit();
    assert_eq!(events.len() as u64, burst);
    assert!(events.iter().all(|event| event.suppressed == 0));
    // Another role's refusals and successes are told, and how many were not.
    flood(&mut world, nobody, 1);
    let events = world.host.take_audit();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].suppressed, 1_000 - burst);
    flood(&mut world, viewer, 10);
    world.started(admin, "web");
    let events = world.host.take_audit();
    assert_eq!(
        told(&events),
        [("admin", "process start", "hello.wasm", None)]
    );
    assert_eq!(events[0].suppressed, 10);
    // With time its own are told again: so many a minute.
    world.now = Time::from_millis(60_000 / u64::from(REFUSALS.per_minute));
    flood(&mut world, viewer, 3);
    let events = world.host.take_audit();
    assert_eq!((events.len(), events[0].suppressed), (1, 0));
    world.now = Time::from_millis(3_600_000);
    flood(&mut world, viewer, burst + 5);
    let events = world.host.take_audit();
    assert_eq!((events.len() as u64, events[0].suppressed), (burst, 2));
}

#[test]
fn what_changes_something_is_always_recorded() {
    let mut world = timed(policy());
    let admin = connect(&mut world, ADMIN);
    flood_of_failures(&mut world, admin);
    world.host.take_audit();
    for n in 0..100 {
        let name = format!("p{n}");
        world.started(admin, &name);
        world.stop(admin, &name);
        finish_stop(&mut world);
        // Stops of what is stopped change nothing, and are free.
        world.stop(admin, &name);
    }
    let events = world.host.take_audit();
    assert_eq!(events.len(), 200);
    assert!(
        events[2..]
            .iter()
            .step_by(2)
            .all(|event| event.suppressed == 1)
    );
}

#[test]
fn a_stop_that_many_ask_for_is_one_change() {
    let mut world = timed(policy());
    let admin = connect(&mut world, ADMIN);
    world.started(admin, "web");
    world.host.take_audit();
    for _ in 0..100 {
        world.stop(admin, "web");
    }
    finish_stop(&mut world);
    let events = world.host.take_audit();
    assert_eq!(events.len() as u32, 1 + REFUSALS.burst);
    assert!(events.iter().all(|event| event.result == Ok(())));
}

fn flood_of_failures(world: &mut World, peer: usize) {
    for _ in 0..100 {
        ask(world, peer, &stop("missing"));
    }
    assert_eq!(world.host.audit.len() as u32, REFUSALS.burst);
}

#[test]
fn without_a_clock_changes_are_the_time_of_the_audit() {
    let mut world = World::new(config());
    let (admin, viewer) = (connect(&mut world, ADMIN), connect(&mut world, VIEWER));
    let burst = u64::from(REFUSALS.burst);
    flood(&mut world, viewer, burst + 1);
    assert_eq!(world.host.take_audit().len() as u64, burst);
    for _ in 0..50 {
        world.peers[viewer].core.ping(world.now);
        world.run();
    }
    flood(&mut world, viewer, 1);
    assert_eq!(world.host.take_audit(), [], "pings are free");
    world.started(admin, "web");
    flood(&mut world, viewer, 2);
    let events = world.host.take_audit();
    let suppressed: Vec<u64> = events.iter().map(|event| event.suppressed).collect();
    assert_eq!(suppressed, [2, 0]);
    // A flood shows itself now and then, ever less often, and nothing is lost count of.
    flood(&mut world, viewer, 10_000);
    let events = world.host.take_audit();
    let suppressed: Vec<u64> = events.iter().map(|event| event.suppressed).collect();
    assert_eq!(suppressed, [64, 128, 256, 512, 1_024, 2_048, 4_096]);
    world.started(admin, "web2");
    let last = world.host.take_audit().pop().unwrap().suppressed;
    let told: u64 = suppressed.iter().sum::<u64>() + suppressed.len() as u64 + last;
    assert_eq!(
        told,
        10_000 + 1,
        "the one that was suppressed before as well"
    );
}

#[test]
fn events_that_wait_for_the_host_are_bounded() {
    let roles = (0..16).map(|n| Role::new(format!("r{n}"))).collect();
    let mut world = timed(Policy::new(roles));
    // A driver that does not come to take them.
    let mut peers = Vec::new();
    for n in 0..16 {
        peers.push(connect(&mut world, RoleId(n)));
    }
    let body = stop("web").encode(&Common::default());
    for peer in &peers {
        let connection = world.peers[*peer].connection;
        for id in 1..=20 {
            let frame = Frame::Request {
                id,
                op: op::PROCESS_STOP,
                total: body.len() as u64,
                chunk: body.clone().into(),
            };
            world
                .server
                .handle_input(world.now, connection, frame.to_bytes());
        }
    }
    world.server.run_host(&mut world.host);
    let mut events = world.host.take_audit();
    assert_eq!(events.len(), MAX_QUEUED_EVENTS);
    // There is room again, and nothing is lost count of.
    flood_again(&mut world, peers[15]);
    events.extend(world.host.take_audit());
    assert_eq!(events.len(), MAX_QUEUED_EVENTS + 1);
    let suppressed: u64 = events.iter().map(|event| event.suppressed).sum();
    assert_eq!(suppressed, 16 * 20 - MAX_QUEUED_EVENTS as u64);
}

fn flood_again(world: &mut World, peer: usize) {
    let connection = world.peers[peer].connection;
    let frame = Frame::Request {
        id: 100,
        op: op::PROCESS_LIST,
        total: 0,
        chunk: Bytes::new().into(),
    };
    world
        .server
        .handle_input(world.now, connection, frame.to_bytes());
    world.server.run_host(&mut world.host);
}
