//! Arguments of every type arrive intact; what passes a limit is refused twice: by the command line, and by the server
//! of a client that checks nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use bytes::Bytes;
use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, EntrypointArg, ErrorCode,
    RemoteError,
    limits::MAX_ARGUMENT_BYTES,
    ops::{InfoRequest, ListRequest, ProcessList, ProcessRef, ServerInfo, StartRequest},
};
use selium_remote_e2e::{LOGGING, Peer, Server, Shared, block_on, line, soon, text};

static SERVER: Shared = Shared::new();

/// Starts `args.wasm` and returns the only line that it logs, without its level and target.
fn logged(server: &Server, entrypoint: &str, arguments: &[String]) -> String {
    let mut args = vec!["start", "args.wasm", entrypoint, "--attach", "-c", LOGGING];
    for argument in arguments {
        args.extend(["--arg", argument]);
    }
    let mut attached = server.follow(&args);
    attached.line();
    let line = attached.line();
    attached.interrupt();
    assert_eq!(attached.end().code, Some(0));
    line.strip_prefix("INFO  args: ").expect(&line).to_owned()
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments
        .iter()
        .map(|argument| (*argument).to_owned())
        .collect()
}

#[test]
fn every_type_arrives_intact() {
    let Some(server) = SERVER.get() else { return };
    for (values, expected) in [
        (
            [
                "-128",
                "0",
                "-32768",
                "0",
                "-2147483648",
                "0",
                "-9223372036854775808",
                "0",
                "-1.5",
                "-0.0",
            ],
            "i8=-128 u8=0 i16=-32768 u16=0 i32=-2147483648 u32=0 i64=-9223372036854775808 u64=0 f32=-1.5 f64=-0.0",
        ),
        (
            [
                "127",
                "255",
                "32767",
                "65535",
                "2147483647",
                "4294967295",
                "9223372036854775807",
                "18446744073709551615",
                "3.4028235e38",
                "1.7976931348623157e308",
            ],
            "i8=127 u8=255 i16=32767 u16=65535 i32=2147483647 u32=4294967295 i64=9223372036854775807 \
             u64=18446744073709551615 f32=3.4028235e38 f64=1.7976931348623157e308",
        ),
        (
            [
                "-1",
                "128",
                "-1",
                "32768",
                "-1",
                "2147483648",
                "-1",
                "9223372036854775808",
                "1e-45",
                "5e-324",
            ],
            "i8=-1 u8=128 i16=-1 u16=32768 i32=-1 u32=2147483648 i64=-1 u64=9223372036854775808 f32=1e-45 f64=5e-324",
        ),
        (
            [
                "1",
                "2",
                "3",
                "4",
                "5",
                "6",
                "-4294967297",
                "4294967296",
                "inf",
                "NaN",
            ],
            "i8=1 u8=2 i16=3 u16=4 i32=5 u32=6 i64=-4294967297 u64=4294967296 f32=inf f64=NaN",
        ),
    ] {
        let types = [
            "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64",
        ];
        let arguments: Vec<String> = types
            .iter()
            .zip(values)
            .map(|(kind, value)| format!("{kind}:{value}"))
            .collect();
        assert_eq!(logged(&server, "scalars", &arguments), expected);
    }
}

#[test]
fn texts_and_buffers_arrive_intact() {
    let Some(server) = SERVER.get() else { return };
    let show = |text: &str, blob: &str| {
        logged(
            &server,
            "show",
            &owned(&[text, "u16:7", "u64:9007199254740993", blob]),
        )
    };
    assert_eq!(
        show(
            "utf8:größer, \"so\": 日本 🦀",
            "buffer:hex:00ff10AB7f800001"
        ),
        "text=\"größer, \\\"so\\\": 日本 🦀\" small=7 big=9007199254740993 blob=00ff10ab7f800001"
    );
    assert_eq!(
        show("utf8:", "buffer:12345678"),
        "text=\"\" small=7 big=9007199254740993 blob=3132333435363738"
    );
    // The same with types by --param.
    let mut args = vec!["start", "args.wasm", "text", "--attach", "-c", LOGGING];
    args.extend(["--param", "utf8", "--arg", "note: x"]);
    let mut attached = server.follow(&args);
    attached.line();
    assert_eq!(attached.line(), "INFO  args: len=7 text=\"note: x\"");
}

#[test]
fn two_hundred_kib_arrive_intact() {
    let Some(server) = SERVER.get() else { return };
    // Two buffers, because the system bounds one word of a command line; `big` sums up one of 100 KiB, and the library
    // (below) passes 200 KiB in one.
    let text: String = (0..100 * 1024)
        .map(|n: u32| char::from(b'!' + (n % 89) as u8))
        .collect();
    let sum = text.bytes().map(u32::from).fold(0u32, u32::wrapping_add);
    let expected = format!("len={} sum={sum}", text.len());
    assert_eq!(logged(&server, "big", &[format!("utf8:{text}")]), expected);

    for size in [200 * 1024, MAX_ARGUMENT_BYTES] {
        let text: Vec<u8> = (0..size).map(|n| b'!' + (n % 89) as u8).collect();
        let sum = text
            .iter()
            .copied()
            .map(u32::from)
            .fold(0u32, u32::wrapping_add);
        let answer = block_on(async {
            let start = start("big", vec![EntrypointArg::Buffer(text)]);
            Peer::connect(&server).await.ask(&start).await
        });
        let process = ProcessRef::decode(&answer.expect("it starts")).expect("a process");
        let mut logs = server.follow(&["logs", "-f", &format!("{:016x}", process.id)]);
        assert_eq!(logs.line(), format!("INFO  args: len={size} sum={sum}"));
    }
}

#[test]
fn the_command_line_refuses_what_passes_a_limit() {
    let Some(server) = SERVER.get() else { return };
    let refused = |args: &[&str], message: &str| {
        server.selium(&[&["start"], args].concat()).failed(
            2,
            &format!("error: {message}\n  hint: see `selium start --help`\n"),
        );
        server.must_answer();
    };
    let long = "x".repeat(100_000);
    let shown = format!("{}…", "x".repeat(59));
    refused(
        &[&long, "hello"],
        &format!("the module `{shown}` has 100000 bytes, the limit is 256"),
    );
    refused(
        &["hello.wasm", &long],
        &format!("the entrypoint `{shown}` has 100000 bytes, the limit is 256"),
    );
    let many: Vec<&str> = std::iter::repeat_n(["-a", "u8:1"], 500).flatten().collect();
    refused(
        &[&["hello.wasm", "hello"], &many[..]].concat(),
        "500 arguments are more than the limit of 64",
    );
    let parts = [100_000, 100_000, 62_145].map(|size| format!("buffer:{}", "b".repeat(size)));
    let mut args = vec!["args.wasm", "big"];
    args.extend(parts.iter().flat_map(|part| ["-a", part.as_str()]));
    refused(
        &args,
        "the buffer arguments take 262145 bytes, more than the limit of 262144",
    );
}

fn start(entrypoint: &str, args: Vec<EntrypointArg>) -> StartRequest {
    let kind = |arg: &EntrypointArg| match arg {
        EntrypointArg::Scalar(value) => AbiParam::Scalar(value.kind()),
        EntrypointArg::Buffer(_) => AbiParam::Buffer,
        _ => AbiParam::Scalar(AbiScalarType::U64),
    };
    StartRequest::with(|made| {
        made.module = "args.wasm".into();
        made.entrypoint = entrypoint.into();
        made.capabilities = vec![Capability::ChannelLifecycle, Capability::ChannelWriter];
        made.signature = AbiSignature::new(args.iter().map(kind).collect(), vec![]);
        made.args = args;
        made.log_uri = None;
        made.name = None;
    })
}

/// Asks for a start on a connection that lives on, and returns the error.
async fn refusal(peer: &mut Peer, request: &StartRequest) -> RemoteError {
    let error = peer.ask(request).await.expect_err("it is refused");
    let list = peer
        .ask(&ListRequest::with(|made| {
            made.all = true;
        }))
        .await
        .expect("the server answers");
    let list = ProcessList::decode(&list).expect("a list");
    assert!(
        !list
            .processes
            .iter()
            .any(|process| process.name == "refused"),
        "it was started"
    );
    error
}

#[test]
fn the_server_refuses_it_too() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        let mut peer = Peer::connect(&server).await;
        let fields = |error: &RemoteError| (error.code, error.field.clone(), error.limit);
        let named = |request: StartRequest| {
            let mut made = request;
            made.name = Some("refused".into());
            made
        };

        let half = || EntrypointArg::Buffer(vec![b'x'; MAX_ARGUMENT_BYTES / 2]);
        let together = named(start(
            "big",
            vec![half(), half(), EntrypointArg::Buffer(vec![0])],
        ));
        let error = refusal(&mut peer, &together).await;
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert_eq!(
            error.message,
            "the buffer arguments take 262145 bytes, more than the limit of 262144"
        );
        assert_eq!(error.field.as_deref(), Some("arguments"));

        let with_uri = {
            let mut made = named(start("big", vec![half(), half()]));
            made.log_uri = Some("sel://x".into());
            made
        };
        let error = refusal(&mut peer, &with_uri).await;
        assert_eq!(
            error.message,
            "the buffer arguments take 262151 bytes, more than the limit of 262144"
        );

        for count in [65, 500] {
            let byte = EntrypointArg::Scalar(AbiScalarValue::U8(1));
            let error = refusal(&mut peer, &named(start("big", vec![byte; count]))).await;
            assert_eq!(
                (error.code, error.limit),
                (ErrorCode::TooLarge, Some(64)),
                "{error:?}"
            );
        }
        // Many arguments, few parameters.
        let mut lying = named(start(
            "big",
            vec![EntrypointArg::Scalar(AbiScalarValue::U8(1)); 500],
        ));
        lying.signature = AbiSignature::default();
        let error = refusal(&mut peer, &lying).await;
        assert_eq!(
            fields(&error),
            (ErrorCode::TooLarge, Some("6".into()), Some(64)),
            "{error:?}"
        );

        let long = "x".repeat(100_000);
        let module = {
            let mut made = named(start("big", vec![]));
            made.module = long.clone();
            made
        };
        let error = refusal(&mut peer, &module).await;
        assert_eq!(
            fields(&error),
            (ErrorCode::TooLarge, Some("1".into()), Some(256)),
            "{error:?}"
        );
        let error = refusal(&mut peer, &named(start(&long, vec![]))).await;
        assert_eq!(
            fields(&error),
            (ErrorCode::TooLarge, Some("2".into()), Some(256)),
            "{error:?}"
        );
        assert!(
            error.message.len() < 200,
            "the input is not echoed: {}",
            error.message
        );

        // As long as the limit allows, with characters that a log would have to escape.
        let longest = "\u{7f}".repeat(128);
        for request in [
            {
                let mut made = named(start("big", vec![]));
                made.module = longest.clone();
                made
            },
            named(start(&longest, vec![])),
        ] {
            assert_eq!(
                refusal(&mut peer, &request).await.code,
                ErrorCode::InvalidArgument
            );
        }
        let entrypoint = "e".repeat(256);
        let error = refusal(&mut peer, &named(start(&entrypoint, vec![]))).await;
        assert_eq!(error.code, ErrorCode::NotFound);
        assert_eq!(
            error.message,
            format!("module `args.wasm` has no entrypoint `{entrypoint}`")
        );
        let module = {
            let mut made = named(start("x", vec![]));
            made.module = "m".repeat(256);
            made
        };
        assert_eq!(refusal(&mut peer, &module).await.code, ErrorCode::NotFound);

        // A signature that the arguments do not go with, a log URI that is empty, a body that is none.
        let mut misfit = named(start("text", vec![EntrypointArg::Buffer(vec![])]));
        misfit.signature = AbiSignature::new(vec![AbiParam::Scalar(AbiScalarType::U8)], vec![]);
        let error = refusal(&mut peer, &misfit).await;
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert_eq!(
            error.message,
            "argument 1 is of type buffer, the signature says u8"
        );
        let no_uri = {
            let mut made = named(start("start", vec![]));
            made.log_uri = Some(String::new());
            made
        };
        assert_eq!(
            refusal(&mut peer, &no_uri).await.message,
            "the log URI is empty"
        );
        let error = peer
            .ask_raw(16, Bytes::from_static(b"\xff\xff\xff"))
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{error:?}");
        let error = peer.ask_raw(16, Bytes::new()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{error:?}");
        let error = peer.ask_raw(999, Bytes::new()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported);
        assert_eq!(error.message, "this server has no operation 999");
        // Resources: whatever the number, it never becomes a handle of the runtime.
        for id in [0, 1, 274_877_906_949, u64::MAX] {
            let error = refusal(
                &mut peer,
                &named(start("big", vec![EntrypointArg::Resource(id)])),
            )
            .await;
            assert_eq!(error.code, ErrorCode::NotFound, "{error:?}");
        }

        // Nothing is left in the queue; other tests' starts come and go.
        soon("an empty queue", async {
            loop {
                let info = peer.ask(&InfoRequest).await.expect("the server answers");
                if ServerInfo::decode(&info).expect("counters").starts == 0 {
                    break;
                }
            }
        })
        .await;
    });
    server.must_answer();
    let listed = server.selium(&["info", "-o", "json"]);
    assert_eq!(text(&line(&listed.stdout), "role"), "admin");
}

#[test]
fn the_limit_that_the_server_names_is_the_limit() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        let mut peer = Peer::connect(&server).await;
        let request = start(
            "big",
            vec![EntrypointArg::Buffer(vec![b'x'; MAX_ARGUMENT_BYTES + 1])],
        );
        let error = refusal(&mut peer, &request).await;
        assert_eq!(error.code, ErrorCode::TooLarge, "{error:?}");
        assert!(error.message.contains("262144"), "{error:?}");
        assert_eq!(error.limit, Some(262_144), "{error:?}");
    });
}
