//! Roles on the stock runtime: every operation with every ready-made role and with ones of a policy; what a refused client
//! is told, and that it learns nothing else; ports and sessions of other roles.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use bytes::Bytes;
use selium_remote_client::{ErrorCode, ErrorKind};
use selium_remote_client_protocol::{
    Capability, CapabilitySet, RemoteError,
    client::{ClientEvent, StreamKind},
    ops::{
        Common, CreateRequest, DeleteRequest, DrainRequest, FollowRequest, InfoRequest,
        InspectChannelRequest, InspectRequest, ListChannelsRequest, ListRequest, ProcessList,
        ProcessRef, PublishRequest, Request as _, ShareRequest, StartRequest, StopRequest,
        SubscribeRequest, op,
    },
};
use selium_remote_e2e::roles::{Answered, Roles, Talker, records};
use selium_remote_e2e::{Run, WARNING, array, block_on, line, text};

/// A role made out of a ready-made one: few modules, and a smaller ceiling.
const DEPLOY: &str = "base = \"operator\"\nmodules = [\"hello*\"]\nceiling = [\"ChannelLifecycle\", \"ChannelWriter\"]";

/// A role that may only start.
const STARTER: &str = "permissions = [\"start\"]\nmodules = [\"hello*\"]";

/// All of them.
const POLICY: [(&str, &str); 5] = [
    ("admin", ""),
    ("operator", ""),
    ("viewer", ""),
    ("deploy", DEPLOY),
    ("starter", STARTER),
];

/// One role for each of the permissions that are about channels.
const CHANNEL_ROLES: [(&str, &str); 4] = [
    ("listener", "permissions = [\"subscribe\"]"),
    ("maker", "permissions = [\"channels\"]"),
    ("sender", "permissions = [\"publish\"]"),
    ("strict", "permissions = [\"subscribe-lossless\"]"),
];

/// The hint of every denied command.
const HINT: &str =
    "\n  hint: `selium info` shows the role of this client and what it may pass on\n";

/// An operation as it is asked for, and who may do it.
struct Row {
    op: u64,
    /// What it asks for; nothing when it is open to everybody.
    permission: Option<&'static str>,
    /// Who of [`POLICY`] may do it.
    allowed: &'static [&'static str],
    /// A request by a client of this role, with the name of a process and of a channel that are there for it.
    body: fn(role: &str, process: &str) -> Bytes,
    /// The same on the command line.
    args: fn(role: &str, process: &str) -> Vec<String>,
    /// How the command line says that it cannot, and for want of which operation: it may need another one first.
    cannot: &'static str,
    needs: (u64, &'static str),
    /// What the audit log has as the target.
    target: fn(process: &str) -> String,
}

const EVERYBODY: &[&str] = &["admin", "deploy", "operator", "starter", "viewer"];
const STARTERS: &[&str] = &["admin", "deploy", "operator", "starter"];
const STOPPERS: &[&str] = &["admin", "deploy", "operator"];
const VIEWERS: &[&str] = &["admin", "deploy", "operator", "viewer"];
const MAKERS: &[&str] = &["admin", "deploy", "maker", "operator"];
const LISTENERS: &[&str] = &["admin", "deploy", "listener", "operator"];
const STRICT: &[&str] = &["admin", "strict"];
const SENDERS: &[&str] = &["admin", "deploy", "operator", "sender"];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn start(module: &str, name: Option<&str>, capabilities: &[Capability]) -> StartRequest {
    StartRequest::with(|made| {
        made.module = module.to_owned();
        made.entrypoint = "hello".to_owned();
        made.name = name.map(str::to_owned);
        made.capabilities = capabilities.to_vec();
    })
}

fn stop(target: &str) -> StopRequest {
    StopRequest::with(|made| made.target = target.to_owned())
}

fn inspect(target: &str) -> InspectRequest {
    InspectRequest::with(|made| made.target = target.to_owned())
}

fn follow(target: &str) -> FollowRequest {
    FollowRequest::with(|made| {
        made.target = target.to_owned();
        made.no_follow = true;
    })
}

/// The rows of operations on processes.
fn process_rows() -> Vec<Row> {
    vec![
        Row {
            op: op::SERVER_INFO,
            permission: None,
            allowed: EVERYBODY,
            body: |_, _| InfoRequest.encode(&Common::default()),
            args: |_, _| words(&["info"]),
            cannot: "cannot tell about the server",
            needs: (op::SERVER_INFO, ""),
            target: |_| String::new(),
        },
        Row {
            op: op::PROCESS_START,
            permission: Some("start"),
            allowed: STARTERS,
            body: |role, _| {
                let name = format!("raw-{role}");
                start("hello.wasm", Some(&name), &[]).encode(&Common::default())
            },
            args: |role, _| {
                words(&[
                    "start",
                    "hello.wasm",
                    "hello",
                    "--name",
                    &format!("cli-{role}"),
                ])
            },
            cannot: "cannot start `hello.wasm`",
            needs: (op::PROCESS_START, "start"),
            target: |_| "hello.wasm".to_owned(),
        },
        Row {
            op: op::PROCESS_STOP,
            permission: Some("stop"),
            allowed: STOPPERS,
            body: |_, process| stop(process).encode(&Common::default()),
            args: |_, process| words(&["stop", process]),
            cannot: "cannot stop `{}`",
            needs: (op::PROCESS_STOP, "stop"),
            target: |process| process.to_owned(),
        },
        Row {
            op: op::PROCESS_LIST,
            permission: Some("list"),
            allowed: VIEWERS,
            body: |_, _| ListRequest::default().encode(&Common::default()),
            args: |_, _| words(&["ps"]),
            cannot: "cannot list the processes",
            needs: (op::PROCESS_LIST, "list"),
            target: |_| String::new(),
        },
        Row {
            op: op::PROCESS_INSPECT,
            permission: Some("inspect"),
            allowed: VIEWERS,
            body: |_, process| inspect(process).encode(&Common::default()),
            args: |_, process| words(&["inspect", process]),
            cannot: "cannot inspect `{}`",
            needs: (op::PROCESS_INSPECT, "inspect"),
            target: |process| process.to_owned(),
        },
        Row {
            op: op::LOG_FOLLOW,
            permission: Some("logs"),
            allowed: VIEWERS,
            body: |_, process| follow(process).encode(&Common::default()),
            args: |_, process| words(&["logs", process]),
            cannot: "cannot show the log of `{}`",
            needs: (op::LOG_FOLLOW, "logs"),
            target: |process| process.to_owned(),
        },
    ]
}

/// The rows of what is done with channels as wholes.
fn changing_rows() -> Vec<Row> {
    let row = |op| Row {
        op,
        permission: Some("channels"),
        allowed: MAKERS,
        body: |_, _| Bytes::new(),
        args: |_, _| Vec::new(),
        cannot: "",
        needs: (op, "channels"),
        target: |channel| channel.to_owned(),
    };
    vec![
        Row {
            body: |_, channel| {
                let request = CreateRequest::with(|made| {
                    made.capacity = 1_024;
                    made.name = Some(format!("new-{channel}"));
                });
                request.encode(&Common::default())
            },
            args: |_, channel| words(&["channel", "create", &format!("new-{channel}")]),
            cannot: "cannot create the channel `new-{}`",
            target: |channel| format!("new-{channel}"),
            ..row(op::CHANNEL_CREATE)
        },
        Row {
            body: |_, channel| {
                DrainRequest::with(|made| made.target = channel.to_owned())
                    .encode(&Common::default())
            },
            args: |_, channel| words(&["channel", "drain", channel]),
            cannot: "cannot drain the channel `{}`",
            ..row(op::CHANNEL_DRAIN)
        },
        Row {
            body: |_, channel| {
                DeleteRequest::with(|made| made.target = channel.to_owned())
                    .encode(&Common::default())
            },
            args: |_, channel| words(&["channel", "delete", channel]),
            cannot: "cannot delete the channel `{}`",
            ..row(op::CHANNEL_DELETE)
        },
    ]
}

/// The rows of what changes little about channels.
fn looking_rows() -> Vec<Row> {
    vec![
        Row {
            op: op::CHANNEL_SHARE,
            permission: Some("channels"),
            allowed: MAKERS,
            body: |_, channel| {
                ShareRequest::with(|made| made.target = channel.to_owned())
                    .encode(&Common::default())
            },
            args: |_, channel| words(&["channel", "share", channel]),
            cannot: "cannot share the channel `{}`",
            needs: (op::CHANNEL_SHARE, "channels"),
            target: |channel| channel.to_owned(),
        },
        Row {
            op: op::CHANNEL_LIST,
            permission: Some("subscribe"),
            allowed: LISTENERS,
            body: |_, _| ListChannelsRequest::default().encode(&Common::default()),
            args: |_, _| words(&["channel", "ls"]),
            cannot: "cannot list the channels",
            needs: (op::CHANNEL_LIST, "subscribe"),
            target: |_| String::new(),
        },
        Row {
            op: op::CHANNEL_INSPECT,
            permission: Some("subscribe"),
            allowed: LISTENERS,
            body: |_, channel| {
                InspectChannelRequest::with(|made| made.target = channel.to_owned())
                    .encode(&Common::default())
            },
            args: |_, channel| words(&["channel", "inspect", channel]),
            cannot: "cannot inspect the channel `{}`",
            needs: (op::CHANNEL_INSPECT, "subscribe"),
            target: |channel| channel.to_owned(),
        },
    ]
}

/// The rows of reading and writing. Subscribing asks for one of two permissions.
fn using_rows() -> Vec<Row> {
    vec![
        Row {
            op: op::SUBSCRIBE,
            permission: Some("subscribe"),
            allowed: LISTENERS,
            body: |_, channel| subscribe(channel, false).encode(&Common::default()),
            args: |_, channel| words(&["channel", "sub", channel, "--count", "1"]),
            cannot: "cannot subscribe to `{}`",
            needs: (op::SUBSCRIBE, "subscribe"),
            target: |channel| channel.to_owned(),
        },
        Row {
            op: op::SUBSCRIBE,
            permission: Some("subscribe-lossless"),
            allowed: STRICT,
            body: |_, channel| subscribe(channel, true).encode(&Common::default()),
            args: |_, channel| words(&["channel", "sub", channel, "--count", "1", "--lossless"]),
            cannot: "cannot subscribe to `{}`",
            needs: (op::SUBSCRIBE, "subscribe-lossless"),
            target: |channel| channel.to_owned(),
        },
        Row {
            op: op::PUBLISH,
            permission: Some("publish"),
            allowed: SENDERS,
            body: |_, channel| {
                let request = PublishRequest::with(|made| {
                    made.target = channel.to_owned();
                    made.publication = 1;
                });
                request.encode(&Common::default())
            },
            args: |_, channel| words(&["channel", "pub", channel]),
            cannot: "cannot publish to `{}`",
            needs: (op::PUBLISH, "publish"),
            target: |channel| channel.to_owned(),
        },
    ]
}

fn subscribe(target: &str, lossless: bool) -> SubscribeRequest {
    SubscribeRequest::with(|made| {
        made.target = target.to_owned();
        made.lossless = lossless;
    })
}

#[test]
fn every_operation_has_a_row() {
    // What a new operation needs is a row.
    let known = (0..4_096).filter(|op| op::name(*op) != op::name(u64::MAX));
    let rows = [
        process_rows(),
        changing_rows(),
        looking_rows(),
        using_rows(),
    ];
    let mut with_row: Vec<u64> = rows.iter().flatten().map(|row| row.op).collect();
    with_row.sort_unstable();
    with_row.dedup();
    assert_eq!(known.collect::<Vec<_>>(), with_row);
}

/// Makes a request of a row. What its stream brings is dropped with the connection.
async fn ask(talker: &mut Talker, row: &Row, body: Bytes) -> Answered {
    let kind = match row.op {
        op::SUBSCRIBE => StreamKind::ToClient,
        op::PUBLISH => StreamKind::ToServer,
        _ => return talker.ask_raw(row.op, body).await,
    };
    let id = talker.begin(row.op, body, kind);
    loop {
        match talker.event().await {
            ClientEvent::Response {
                id: answered,
                result,
            } if answered == id => return (id.get(), result),
            ClientEvent::Closed(reason) => panic!("closed before {id} was answered: {reason:?}"),
            _ => {}
        }
    }
}

fn lacks(role: &str, permission: &str) -> String {
    // Which of the two stands in the request, which is not read for who has neither.
    let permission = match permission {
        "subscribe-lossless" if !LISTENERS.contains(&role) => "subscribe",
        permission => permission,
    };
    format!("the role `{role}` may not do this: it lacks the permission `{permission}`")
}

fn is_denied(error: &RemoteError, message: &str, field: &str) {
    assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
    assert_eq!(error.message, message);
    assert_eq!(error.field.as_deref(), Some(field));
    assert_eq!((error.limit, error.process), (None, None));
}

/// What a denied command says.
fn denied(run: &Run, cannot: &str, message: &str) {
    run.failed(
        1,
        &format!("error: {cannot}: permission denied: {message}{HINT}"),
    );
}

/// A refusal: role, operation, target, message, and the number of the request where it is known.
type Refusal = (String, &'static str, String, String, Option<u64>);

/// Has each role do what is in these rows, once as frames and once on the command line, then `more`. In all so many
/// are refused: a role's budget for telling so in the audit log is eight at once.
fn with_every_role(
    policy: &[(&str, &str)],
    rows: &[Row],
    refused: usize,
    more: impl FnOnce(&Roles, &mut Vec<Refusal>),
) {
    let Some(roles) = Roles::start(policy) else {
        return;
    };
    let mut refusals: Vec<Refusal> = Vec::new();
    for role in roles.names() {
        let process = format!("of-{role}");
        let again = format!("again-{role}");
        for name in [&process, &again] {
            let _ = roles
                .server()
                .launch(&["hello.wasm", "hello", "--name", name]);
            let server = roles.server();
            server.selium(&["channel", "create", name]).succeeded();
            block_on(async {
                let admin = roles.client("admin").await;
                let options = selium_remote_client::PublishOptions::new();
                let mut publisher = admin.publish(name, options).await.expect("a publication");
                publisher.send("hello").await.expect("it is sent");
                publisher.close().await.expect("it is acknowledged");
            });
        }
        // As frames.
        let answers: Vec<Answered> = block_on(async {
            roles
                .client(role)
                .await
                .ping()
                .await
                .expect("pings are open to everybody");
            // Sessions belong to a role.
            let session = std::array::from_fn(|at| role.as_bytes()[at % role.len()]);
            let mut talker = Talker::greet(roles.door(role).open().await, session).await;
            assert_eq!(talker.server.role, role);
            let mut answers = Vec::new();
            for row in rows {
                answers.push(ask(&mut talker, row, (row.body)(role, &process)).await);
            }
            talker.cut();
            answers
        });
        for (row, (number, answer)) in rows.iter().zip(answers) {
            let what = format!("{role}, {}", op::name(row.op));
            match (row.allowed.contains(&role), answer) {
                (true, Ok(_)) => {}
                (false, Err(error)) => {
                    let message = lacks(role, row.permission.unwrap());
                    is_denied(&error, &message, "operation");
                    let target = (row.target)(&process);
                    refusals.push((
                        role.to_owned(),
                        op::name(row.op),
                        target,
                        message,
                        Some(number),
                    ));
                }
                (allowed, answer) => panic!("{what}: allowed is {allowed}, but {answer:?}"),
            }
        }
        // On the command line.
        for row in rows {
            let args = (row.args)(role, &again);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let run = roles.selium(role, &args);
            if row.allowed.contains(&role) {
                run.succeeded();
                assert!(!run.stderr.contains(WARNING), "{run}");
                continue;
            }
            let message = lacks(role, row.needs.1);
            denied(&run, &row.cannot.replace("{}", &again), &message);
            let target = (row.target)(&again);
            refusals.push((
                role.to_owned(),
                op::name(row.needs.0),
                target,
                message,
                None,
            ));
        }
        roles.selium(role, &["ping", "--count", "1"]).succeeded();
    }
    more(&roles, &mut refusals);

    // Every denial is in the audit log, in the order of each role, and none besides.
    assert_eq!(refusals.len(), refused);
    let is_denial = |record: &&serde_json::Value| record["result"] == "permission denied";
    let log = roles.log_with("all refusals", |all| {
        all.iter().filter(is_denial).count() >= refusals.len()
    });
    let all = records(&log);
    for role in roles.names() {
        let of_role = all
            .iter()
            .filter(is_denial)
            .filter(|it| it["role"] == *role);
        let told: Vec<_> = of_role
            .map(|it| {
                (
                    text(it, "op"),
                    it["target"].as_str().unwrap_or(""),
                    text(it, "reason"),
                    &it["request"],
                )
            })
            .collect();
        let expected: Vec<_> = refusals.iter().filter(|it| it.0 == *role).collect();
        assert_eq!(told.len(), expected.len(), "{role}: {told:?}");
        for (told, (_, op, target, reason, request)) in told.iter().zip(expected) {
            assert_eq!(
                (told.0, told.1, told.2),
                (*op, target.as_str(), reason.as_str()),
                "{role}"
            );
            // The command line makes one request on its connection.
            assert_eq!(told.3.as_u64(), Some(request.unwrap_or(1)), "{told:?}");
        }
    }
    let (report, code) = roles.verify(&log);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["suppressed"], 0);
}

#[test]
fn every_operation_with_every_role() {
    with_every_role(&POLICY, &process_rows(), 13, |roles, refusals| {
        // As JSON.
        let run = roles.selium("viewer", &["--log-format", "json", "stop", "x"]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
        let message = lacks("viewer", "stop");
        let error = &line(&run.stderr)["error"];
        assert_eq!(text(error, "kind"), "remote");
        assert_eq!(text(error, "code"), "permission denied");
        assert_eq!(
            text(error, "message"),
            format!("cannot stop `x`: permission denied: {message}")
        );
        assert_eq!(array(&error["hints"]).len(), 1);
        refusals.push((
            "viewer".to_owned(),
            "process stop",
            "x".to_owned(),
            message,
            None,
        ));

        // What was denied was not done.
        let ps = roles.server().ps(&["--all"]);
        let state = |name: &str| {
            let found = ps.iter().find(|process| text(process, "name") == name);
            found.map(|process| text(process, "state").to_owned())
        };
        for role in roles.names() {
            let starts = STARTERS.contains(&role).then(|| "started".to_owned());
            let stops = match STOPPERS.contains(&role) {
                true => "stopped",
                false => "started",
            };
            for way in ["raw", "cli"] {
                assert_eq!(state(&format!("{way}-{role}")), starts, "{role}");
            }
            for way in ["of", "again"] {
                assert_eq!(
                    state(&format!("{way}-{role}")).as_deref(),
                    Some(stops),
                    "{role}"
                );
            }
        }
    });
}

/// The channels as admin sees them.
fn channel_list(roles: &Roles) -> Vec<serde_json::Value> {
    let run = roles.server().selium(&["channel", "ls", "-o", "json"]);
    run.succeeded();
    array(&line(&run.stdout)).clone()
}

#[test]
fn channels_are_changed_by_those_who_may() {
    let policy = [&POLICY[..], &CHANNEL_ROLES].concat();
    with_every_role(&policy, &changing_rows(), 5 * 3 * 2, |roles, _| {
        let all = channel_list(roles);
        for role in roles.names() {
            for way in ["of", "again"] {
                let state = |name: &str| {
                    let found = all.iter().find(|channel| text(channel, "name") == name);
                    found.map(|channel| text(channel, "state").to_owned())
                };
                let (old, new) = (format!("{way}-{role}"), format!("new-{way}-{role}"));
                let open = Some("open".to_owned());
                match MAKERS.contains(&role) {
                    true => assert_eq!((state(&old), state(&new)), (None, open), "{role}"),
                    false => assert_eq!((state(&old), state(&new)), (open, None), "{role}"),
                }
            }
        }
    });
}

#[test]
fn channels_are_looked_at_by_those_who_may() {
    let policy = [&POLICY[..], &CHANNEL_ROLES].concat();
    with_every_role(&policy, &looking_rows(), 5 * 3 * 2, |roles, _| {
        for channel in channel_list(roles) {
            let (_, role) = text(&channel, "name").split_once('-').unwrap();
            assert_eq!(channel["shared"], MAKERS.contains(&role), "{channel}");
        }
    });
}

#[test]
fn channels_are_used_by_those_who_may() {
    let policy = [&POLICY[..], &CHANNEL_ROLES].concat();
    with_every_role(&policy, &using_rows(), (5 + 7 + 5) * 2, |roles, _| {
        for channel in channel_list(roles) {
            assert_eq!(
                channel["published"], 1,
                "the one of the beginning: {channel}"
            );
            assert_eq!(channel["shared"], false);
        }
    });
}

#[test]
fn modules_and_capabilities_are_those_of_the_role() {
    let Some(roles) = Roles::start(&POLICY) else {
        return;
    };
    let logging = [Capability::ChannelLifecycle, Capability::ChannelWriter];
    let operators = [&logging[..], &[Capability::TimeRead]].concat();
    block_on(async {
        let mut deploy = Talker::greet(roles.door("deploy").open().await, [1; 16]).await;
        let mut start_of = async |module: &str| {
            let request = start(module, None, &[]);
            deploy.ask(&request).await.1.map(|answer| {
                ProcessRef::decode(&answer).expect("a process");
            })
        };
        assert_eq!(start_of("hello.wasm").await, Ok(()));
        // Patterns are met, and the runtime has no such module.
        let error = start_of("hello-none.wasm").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        // Modules that there are, files that are none, and modules that there are not are all the same.
        for module in [
            "storm.wasm",
            "selium_remote_client_server.wasm",
            "modules/hello.wasm",
            "./hello.wasm",
            "Hello.wasm",
            " hello.wasm",
            "none.wasm",
        ] {
            let error = start_of(module).await.unwrap_err();
            let message = format!("the role `deploy` may not start the module `{module}`");
            is_denied(&error, &message, "module");
        }
        for module in ["hello/../storm.wasm", "/hello.wasm", "hello\\x", "hello\n"] {
            let error = start_of(module).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{module}");
        }
        // Each capability by itself, and behind one that is allowed.
        for (role, ceiling) in [
            ("admin", Capability::ALL),
            ("operator", &operators),
            ("deploy", &logging),
            ("starter", &[]),
        ] {
            let mut talker = Talker::greet(roles.door(role).open().await, [2; 16]).await;
            for capability in Capability::ALL {
                let allowed = ceiling.contains(capability);
                let with = match ceiling.first() {
                    Some(first) if first != capability => vec![*first, *capability],
                    _ => vec![*capability],
                };
                let (_, answer) = talker.ask(&start("hello.wasm", None, &with)).await;
                match answer {
                    Err(error) if error.code == ErrorCode::PermissionDenied => {
                        assert!(!allowed, "{role}, {capability}: {error}");
                        let message = format!("the role `{role}` may not pass on {capability}");
                        is_denied(&error, &message, "capabilities");
                    }
                    answer => assert!(allowed, "{role}, {capability}: {answer:?}"),
                }
            }
            talker.cut();
        }
        deploy.cut();
    });
    denied(
        &roles.selium("deploy", &["start", "storm.wasm", "start"]),
        "cannot start `storm.wasm`",
        "the role `deploy` may not start the module `storm.wasm`",
    );
    denied(
        &roles.selium(
            "operator",
            &[
                "start",
                "hello.wasm",
                "hello",
                "-c",
                "ChannelWriter,ProcessLifecycle",
            ],
        ),
        "cannot start `hello.wasm`",
        "the role `operator` may not pass on ProcessLifecycle",
    );
    // What the hello says of all that.
    for (role, ceiling) in [
        ("admin", CapabilitySet::all()),
        ("operator", operators.iter().copied().collect()),
        ("viewer", CapabilitySet::default()),
        ("deploy", logging.iter().copied().collect()),
        ("starter", CapabilitySet::default()),
    ] {
        let names: Vec<&str> = ceiling.iter().map(|it| it.name()).collect();
        let run = roles.selium(role, &["info", "-o", "json"]);
        run.succeeded();
        assert_eq!(run.stderr, "", "no warning: {run}");
        let info = line(&run.stdout);
        assert_eq!(text(&info, "role"), role);
        assert_eq!(info["authenticated"], true);
        assert_eq!(info["ceiling"], serde_json::json!(names));
        let shown = roles.selium(role, &["info"]).stdout;
        let has = |line: &str| shown.lines().any(|it| it == line);
        let granted = match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(","),
        };
        assert!(has(&format!("role:                    {role}")), "{shown}");
        assert!(has("authenticates clients:   yes"), "{shown}");
        assert!(
            has(&format!("may grant:               {granted}")),
            "{shown}"
        );
        let hello = block_on(async { roles.client(role).await.server().clone() });
        assert_eq!(
            (hello.role.as_str(), hello.ceiling, hello.authenticated),
            (role, ceiling, true)
        );
    }
}

#[test]
fn a_denied_client_learns_nothing_else() {
    let Some(roles) = Roles::start(&POLICY) else {
        return;
    };
    let id = roles
        .server()
        .launch(&["hello.wasm", "hello", "--name", "secret"]);
    let long = "x".repeat(10_000);
    let targets = ["secret", &id, &id[..8], &id[..1], "none", "", &long, "\0"];
    block_on(async {
        let mut starter = Talker::greet(roles.door("starter").open().await, [1; 16]).await;
        let mut viewer = Talker::greet(roles.door("viewer").open().await, [2; 16]).await;
        let same = |answers: Vec<Answered>| {
            let mut errors: Vec<_> = answers.into_iter().map(|it| it.1.unwrap_err()).collect();
            let count = errors.len();
            errors.dedup();
            assert_eq!(errors.len(), 1, "the same whatever it names: {errors:?}");
            assert_eq!(errors[0].code, ErrorCode::PermissionDenied);
            count
        };
        let (mut stops, mut inspects, mut follows) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets {
            stops.push(starter.ask(&stop(target)).await);
            inspects.push(starter.ask(&inspect(target)).await);
            follows.push(starter.ask(&follow(target)).await);
        }
        for answers in [stops, inspects, follows] {
            assert_eq!(same(answers), targets.len());
        }
        // Names that are taken, modules that there are or not or that cannot be, tokens, retries, and what is no request.
        let mut starts = Vec::new();
        for (module, name) in [
            ("hello.wasm", Some("secret")),
            ("hello.wasm", Some("free")),
            ("none.wasm", None),
            ("../x", None),
            ("", None),
            ("hello.wasm", Some("No Name")),
        ] {
            let request = start(module, name, &[Capability::ProcessLifecycle]);
            starts.push(viewer.ask(&request).await);
            let common = Common::with(|common| {
                common.token = Some(7);
                common.retry = name.is_none();
            });
            starts.push(viewer.ask_with(&request, &common).await);
        }
        for body in [&b""[..], b"\x40\xc7\x00", &[0xff; 64]] {
            starts.push(
                viewer
                    .ask_raw(op::PROCESS_START, Bytes::copy_from_slice(body))
                    .await,
            );
        }
        assert_eq!(same(starts), 15);
        starter.cut();
        viewer.cut();
    });
    // Nor by the command line.
    for command in ["stop", "inspect", "logs"] {
        let said = ["secret", &id, "none"].map(|target| {
            let run = roles.selium("starter", &[command, target]);
            (run.code, run.stdout, run.stderr.replace(target, "TARGET"))
        });
        assert_eq!(said[0].0, Some(1));
        assert!(said[0] == said[1] && said[1] == said[2], "{said:?}");
    }
    let processes = roles.server().ps(&["--all"]);
    assert_eq!(processes.len(), 1, "{processes:?}");
    assert_eq!(text(&processes[0], "state"), "started");
}

#[test]
fn nobody_comes_in_by_another_roles_port() {
    let Some(roles) = Roles::start(&POLICY) else {
        return;
    };
    let names: Vec<&str> = roles.names().collect();
    block_on(async {
        for client in &names {
            for role in &names {
                let config = roles
                    .config(role)
                    .certificate_directory(roles.certs(client));
                match config.connect().await {
                    Ok(connected) => {
                        assert_eq!(client, role, "{client} came in by the port of {role}");
                        assert_eq!(connected.server().role, **role);
                        connected.close().await;
                    }
                    Err(error) => {
                        assert_ne!(client, role, "{error}");
                        assert!(error.is_auth(), "{client} at the port of {role}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Authentication);
                    }
                }
            }
        }
    });
    let run = selium_remote_e2e::run(roles.command_at("viewer", "admin", &["stop", "x"]));
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
    let port = roles.port("admin");
    let begin = format!(
        "error: cannot connect: localhost:{port} (127.0.0.1) does not accept the client certificate"
    );
    assert!(run.stderr.starts_with(&begin), "{run}");
    for words in [
        "Selium viewer CA",
        "is not trusted on this port; each role has its own port and CA",
    ] {
        assert!(run.stderr.contains(words), "{run}");
    }
    // The runtime tells the server nothing of handshakes that fail, so that nothing of them is in the audit log.
    roles.server().must_answer();
    let all = records(&roles.server().log());
    assert_eq!(all.len(), 1, "the record of the start only: {all:?}");
}

#[test]
fn sessions_and_tokens_do_not_cross_roles() {
    let Some(roles) = Roles::start(&POLICY) else {
        return;
    };
    let token = |token: u64, retry: bool| {
        Common::with(|common| {
            common.token = Some(token);
            common.retry = retry;
        })
    };
    let request = |name: &str| start("hello.wasm", Some(name), &[]);
    let foreign = |answer: Result<Bytes, RemoteError>, role: &str| {
        let message = format!(
            "the session began under another role than `{role}`; its requests and their outcomes are not yours"
        );
        is_denied(&answer.unwrap_err(), &message, "session");
    };
    let denials = block_on(async {
        let (first, second) = ([0x51; 16], [0x52; 16]);
        let mut admin = Talker::greet(roles.door("admin").open().await, first).await;
        let mut operator = Talker::greet(roles.door("operator").open().await, first).await;
        let mut denials = Vec::new();
        let (_, own) = admin.ask_with(&request("web"), &token(1, false)).await;
        let web = ProcessRef::decode(&own.unwrap()).unwrap();
        for (number, retry) in [(1, true), (1, false), (2, false), (7, true)] {
            let (id, answer) = operator
                .ask_with(&request("web"), &token(number, retry))
                .await;
            foreign(answer, "operator");
            denials.push(("operator", id));
        }
        let (id, answer) = operator.ask_with(&stop("web"), &token(3, false)).await;
        foreign(answer, "operator");
        denials.push(("operator", id));
        // Nor does admin get anything of others' sessions.
        let mut operator = Talker::greet(roles.door("operator").open().await, second).await;
        let (_, answer) = operator
            .ask_with(&request("theirs"), &token(1, false))
            .await;
        let theirs = ProcessRef::decode(&answer.unwrap()).unwrap();
        let mut other = Talker::greet(roles.door("admin").open().await, second).await;
        let (id, answer) = other.ask_with(&request("theirs"), &token(1, true)).await;
        foreign(answer, "admin");
        denials.push(("admin", id));
        // Their own retries are answered with what came of the first.
        let (_, retry) = admin.ask_with(&request("web"), &token(1, true)).await;
        assert_eq!(ProcessRef::decode(&retry.unwrap()).unwrap(), web);
        let (_, retry) = operator.ask_with(&request("theirs"), &token(1, true)).await;
        assert_eq!(ProcessRef::decode(&retry.unwrap()).unwrap(), theirs);
        let (_, list) = admin.ask(&ListRequest::default()).await;
        let list = ProcessList::decode(&list.unwrap()).unwrap();
        let listed: Vec<&str> = list.processes.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(listed, ["web", "theirs"]);
        denials
    });
    let log = roles.log_with("the refusals", |all| all.len() >= 1 + 2 + denials.len());
    let told: Vec<_> = records(&log)
        .iter()
        .filter(|it| it["result"] == "permission denied")
        .map(|it| (text(it, "role").to_owned(), it["request"].as_u64().unwrap()))
        .collect();
    let denials: Vec<_> = denials
        .into_iter()
        .map(|(role, id)| (role.to_owned(), id))
        .collect();
    assert_eq!(told, denials);
    // That one tried to use another's session is told to be that.
    assert!(log.contains("the session began under another role"));
}
