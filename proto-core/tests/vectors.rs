//! The hex vectors of PROTOCOL.md, both ways: what we encode is what the page says, and the page is decoded to the same.
//!
//! Print the vectors with `SELIUM_PRINT_VECTORS=1 cargo test -p selium-remote-client-protocol --test vectors -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests may panic as tests do.
#![allow(clippy::print_stdout)] // On demand only.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, EntrypointArg, ErrorCode,
    Limits, RemoteError, Weight,
    envelope::{ClientEnvelope, Envelope, ServerEnvelope},
    frame::{Frame, FrameReader},
    hello::{ClientHello, Features, ServerHello},
    ops::{
        Backpressure, ChannelInfo, ChannelList, ChannelState, Common, CreateRequest, DeleteRequest,
        DrainRequest, FollowRequest, FollowStarted, InspectChannelRequest, InspectRequest,
        ListChannelsRequest, ListRequest, LogState, ProcessInfo, ProcessList, ProcessRef,
        ProcessState, PublishRequest, PublishStarted, Request, ServerInfo, ShareRequest,
        StartRequest, StopRequest, SubscribeRequest, SubscribeStarted, decode_target, op,
    },
    varint,
};

/// The vectors of the page, by name.
fn page() -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    let text = std::fs::read_to_string(&path).expect("docs/PROTOCOL.md");
    let mut vectors = BTreeMap::new();
    let mut open: Option<(String, Vec<u8>)> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("```vector ") {
            open = Some((name.trim().to_owned(), Vec::new()));
        } else if line.starts_with("```") {
            if let Some((name, bytes)) = open.take() {
                assert!(
                    vectors.insert(name.clone(), bytes).is_none(),
                    "{name} twice"
                );
            }
        } else if let Some((name, bytes)) = &mut open {
            // Comments behind `#`.
            let hex: String = line.split('#').next().unwrap().split_whitespace().collect();
            for pair in hex.as_bytes().chunks(2) {
                let pair = std::str::from_utf8(pair).unwrap();
                bytes.push(
                    u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{name}: {pair}")),
                );
            }
        }
    }
    vectors
}

fn weighted() -> Common {
    Common::with(|made| {
        made.weight = Weight::new(4);
    })
}

fn client_hello() -> ClientHello {
    let limits = Limits::default();
    let mut hello = ClientHello::new([0xaa; 16], [0xbb; 16], &limits);
    hello.software = "demo".into();
    hello.version = "1.0".into();
    hello
}

fn server_hello() -> ServerHello {
    let mut hello = ServerHello::new([0xcc; 16], &Limits::default());
    hello.features = Features::CLOCK;
    hello.software = "server".into();
    hello.version = "1.0".into();
    hello.ceiling = [Capability::ChannelLifecycle, Capability::ChannelWriter]
        .into_iter()
        .collect();
    hello
}

fn start() -> StartRequest {
    StartRequest::with(|made| {
        made.module = "hello.wasm".into();
        made.entrypoint = "hello".into();
        made.capabilities = vec![Capability::ChannelLifecycle, Capability::ChannelWriter];
        made.signature = AbiSignature::new(
            vec![AbiParam::Buffer, AbiParam::Scalar(AbiScalarType::U16)],
            vec![AbiParam::Scalar(AbiScalarType::I32)],
        );
        made.args = vec![
            EntrypointArg::Buffer(b"hi".to_vec()),
            EntrypointArg::Scalar(AbiScalarValue::U16(7000)),
        ];
        made.log_uri = Some("sel://x".into());
        made.name = Some("web".into());
    })
}

fn process() -> ProcessInfo {
    let mut process = ProcessInfo::default();
    process.id = 0x0123_4567_89ab_cdef;
    process.name = "web".into();
    process.module = "hello.wasm".into();
    process.entrypoint = "hello".into();
    process.state = ProcessState::Stopped;
    process.capabilities = vec![Capability::ChannelWriter];
    process.log = LogState::Ended;
    process.log_records = 3;
    process.started_ms = Some(1_700_000_000_000);
    process.stopped_ms = Some(1_700_000_001_000);
    process.last_log_ms = Some(1_700_000_000_500);
    process
}

fn frames() -> Vec<(&'static str, Frame)> {
    let chunk = |text: &'static str| Bytes::from_static(text.as_bytes()).into();
    let error = || {
        RemoteError::new(ErrorCode::TooLarge, "no")
            .with_field("f")
            .with_limit(256)
            .with_process(1)
    };
    vec![
        ("frame-ping", Frame::Ping(*b"\0\0\0\0\0\0\0\x01")),
        ("frame-pong", Frame::Pong(*b"\0\0\0\0\0\0\0\x01")),
        (
            "frame-goodbye",
            Frame::Goodbye(RemoteError::new(ErrorCode::Cancelled, "bye")),
        ),
        ("frame-drain", Frame::Drain),
        (
            "frame-credit-connection",
            Frame::Credit {
                id: 0,
                limit: 524_288,
            },
        ),
        (
            "frame-credit-stream",
            Frame::Credit {
                id: 7,
                limit: 98_304,
            },
        ),
        (
            "frame-request",
            Frame::Request {
                id: 1,
                op: op::SERVER_INFO,
                total: 0,
                chunk: chunk(""),
            },
        ),
        (
            "frame-response-ok",
            Frame::Response {
                id: 1,
                code: 0,
                total: 2,
                chunk: chunk("ok"),
            },
        ),
        (
            "frame-response-error",
            Frame::Response {
                id: 300,
                code: 7,
                total: error().encode().len() as u64,
                chunk: error().encode().into(),
            },
        ),
        (
            "frame-request-first",
            Frame::Request {
                id: 2,
                op: 16,
                total: 5,
                chunk: chunk("abc"),
            },
        ),
        (
            "frame-more",
            Frame::More {
                id: 2,
                chunk: chunk("de"),
            },
        ),
        ("frame-cancel", Frame::Cancel { id: 2 }),
        (
            "frame-data",
            Frame::Data {
                id: 7,
                seq: 41,
                total: 5,
                chunk: chunk("hello"),
            },
        ),
        (
            "frame-data-first",
            Frame::Data {
                id: 7,
                seq: 42,
                total: 6,
                chunk: chunk("wor"),
            },
        ),
        (
            "frame-data-more",
            Frame::DataMore {
                id: 7,
                chunk: chunk("ld!"),
            },
        ),
        ("frame-end", Frame::End { id: 7, error: None }),
        (
            "frame-end-reason",
            Frame::End {
                id: 7,
                error: Some(RemoteError::new(ErrorCode::Cancelled, "stopped")),
            },
        ),
        (
            "frame-reset",
            Frame::Reset {
                id: 7,
                error: RemoteError::new(ErrorCode::Internal, ""),
            },
        ),
        (
            "frame-gap-counted",
            Frame::Gap {
                id: 7,
                next: 50,
                count: Some(7),
            },
        ),
        (
            "frame-gap-unknown",
            Frame::Gap {
                id: 7,
                next: 50,
                count: None,
            },
        ),
        (
            "frame-ack",
            Frame::Ack {
                id: 7,
                seq: 3,
                may_be_dropped: false,
            },
        ),
        (
            "frame-ack-may-be-dropped",
            Frame::Ack {
                id: 7,
                seq: 3,
                may_be_dropped: true,
            },
        ),
    ]
}

fn ours() -> BTreeMap<String, Vec<u8>> {
    let mut ours = BTreeMap::new();
    let mut add = |name: &str, bytes: Vec<u8>| ours.insert(name.to_owned(), bytes);
    for (name, value) in [
        ("varint-37", 37),
        ("varint-15293", 15_293),
        ("varint-494878333", 494_878_333),
        ("varint-max", varint::MAX),
    ] {
        let mut out = Vec::new();
        varint::put(&mut out, value);
        add(name, out);
    }
    for (name, frame) in frames() {
        add(name, frame.to_bytes().to_vec());
    }
    let client = ClientEnvelope {
        versions: (1, 1),
        hello: client_hello().encode().into(),
    };
    add("envelope-client", client.encode().to_vec());
    let accepted = ServerEnvelope::Accepted {
        version: 1,
        hello: server_hello().encode().into(),
    };
    add("envelope-accepted", accepted.encode().to_vec());
    add("envelope-refused", refused().encode().to_vec());
    let common = Common::with(|made| {
        made.token = Some(9);
        made.retry = true;
        made.deadline_ms = Some(30_000);
        made.weight = None;
    });
    add("request-start", start().encode(&common).to_vec());
    let target = || "web".to_owned();
    let plain = FollowRequest::with(|made| {
        made.target = target();
    });
    add("request-follow-weight", plain.encode(&weighted()).to_vec());
    add(
        "request-stop",
        StopRequest::with(|made| {
            made.target = target();
        })
        .encode(&Common::default())
        .to_vec(),
    );
    add(
        "request-inspect",
        InspectRequest::with(|made| {
            made.target = target();
        })
        .encode(&Common::default())
        .to_vec(),
    );
    add(
        "request-list",
        ListRequest::with(|made| {
            made.cursor = 5;
            made.limit = 100;
            made.all = true;
        })
        .encode(&Common::default())
        .to_vec(),
    );
    add(
        "request-follow",
        follow().encode(&Common::default()).to_vec(),
    );
    add(
        "response-process",
        ProcessRef::new(0x0123_4567_89ab_cdef, "web").encode(),
    );
    add("response-inspect", process().encode());
    add("response-list", list().encode());
    add("response-follow", follow_started().encode());
    add("response-info", info().encode());
    for (name, arg) in args() {
        add(name, arg.encode());
    }
    let none = Common::default();
    let token = Common::with(|made| made.token = Some(9));
    add("request-channel-create", create().encode(&token).to_vec());
    add(
        "request-channel-delete",
        DeleteRequest::with(|made| made.target = "prices".into())
            .encode(&token)
            .to_vec(),
    );
    add(
        "request-channel-drain",
        DrainRequest::with(|made| made.target = "prices".into())
            .encode(&token)
            .to_vec(),
    );
    add(
        "request-channel-inspect",
        InspectChannelRequest::with(|made| made.target = "prices".into())
            .encode(&none)
            .to_vec(),
    );
    add(
        "request-channel-share",
        ShareRequest::with(|made| made.target = "prices".into())
            .encode(&token)
            .to_vec(),
    );
    add(
        "request-channel-list",
        list_channels().encode(&none).to_vec(),
    );
    add("request-subscribe", subscribe().encode(&none).to_vec());
    add("request-publish", publish().encode(&none).to_vec());
    add("response-channel", channel().encode());
    add("response-channel-list", channels().encode());
    add("response-subscribe", subscribe_started().encode());
    add("response-publish", publish_started().encode());
    ours
}

fn create() -> CreateRequest {
    CreateRequest::with(|made| {
        made.capacity = 65_536;
        made.backpressure = Backpressure::Drop;
        made.name = Some("prices".into());
    })
}

fn channel() -> ChannelInfo {
    ChannelInfo::with(|made| {
        made.id = 0x0123_4567_89ab_cdef;
        made.name = "prices".into();
        made.capacity = 65_536;
        made.backpressure = Backpressure::Drop;
        made.state = ChannelState::Draining;
        made.shared = true;
        made.lossless = 0;
        made.lossy = 2;
        made.publishers = 1;
        made.published = 300;
        made.created_ms = Some(1_700_000_000_000);
    })
}

fn list_channels() -> ListChannelsRequest {
    ListChannelsRequest::with(|made| {
        made.cursor = 5;
        made.limit = 100;
    })
}

fn channels() -> ChannelList {
    let mut list = ChannelList::default();
    list.channels.push(channel());
    list.next = Some(6);
    list
}

fn subscribe() -> SubscribeRequest {
    SubscribeRequest::with(|made| {
        made.target = "prices".into();
        made.lossless = true;
        made.since = Some(41);
        made.tail = Some(10);
    })
}

fn subscribe_started() -> SubscribeStarted {
    SubscribeStarted::new(0x0123_4567_89ab_cdef, "prices", 41, 50)
}

fn publish() -> PublishRequest {
    PublishRequest::with(|made| {
        made.target = "prices".into();
        made.publication = 3;
        made.resume = true;
    })
}

fn publish_started() -> PublishStarted {
    let id = 0x0123_4567_89ab_cdef;
    let mut started = PublishStarted::new(id, "prices", 65_536, Backpressure::Drop);
    started.last = Some(299);
    started
}

fn args() -> Vec<(&'static str, EntrypointArg)> {
    let scalar = EntrypointArg::Scalar;
    vec![
        ("arg-i8", scalar(AbiScalarValue::I8(-2))),
        ("arg-u64", scalar(AbiScalarValue::U64(1 << 40))),
        ("arg-f32", scalar(AbiScalarValue::F32(1.5))),
        ("arg-f64", scalar(AbiScalarValue::F64(-0.25))),
        ("arg-buffer", EntrypointArg::Buffer(b"hi".to_vec())),
        ("arg-resource", EntrypointArg::Resource(5)),
    ]
}

fn refused() -> ServerEnvelope {
    let error = RemoteError::new(ErrorCode::Unsupported, "update");
    ServerEnvelope::Refused {
        versions: (1, 1),
        error,
    }
}

fn follow() -> FollowRequest {
    FollowRequest::with(|made| {
        made.target = "web".into();
        made.tail = Some(10);
        made.since = Some(41);
        made.no_follow = true;
    })
}

fn follow_started() -> FollowStarted {
    FollowStarted::new(
        ProcessRef::new(0x0123_4567_89ab_cdef, "web"),
        41,
        50,
        LogState::Attached,
    )
}

fn list() -> ProcessList {
    let mut list = ProcessList::default();
    list.processes.push(process());
    list.next = Some(6);
    list
}

fn info() -> ServerInfo {
    let mut info = ServerInfo::default();
    info.uptime_ms = Some(5_000);
    info.connections = 2;
    info.processes = 3;
    info.streams = 1;
    info.hubs = 3;
    info.ring_bytes = 4_096;
    info
}

#[test]
fn the_page_says_what_we_encode() {
    let ours = ours();
    if std::env::var_os("SELIUM_PRINT_VECTORS").is_some() {
        for (name, bytes) in &ours {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("VECTOR {name} {}", hex.join(" "));
        }
    }
    let page = page();
    for (name, bytes) in &ours {
        assert_eq!(page.get(name), Some(bytes), "{name}");
    }
    let unknown: Vec<_> = page
        .keys()
        .filter(|name| !ours.contains_key(*name))
        .collect();
    assert!(unknown.is_empty(), "nobody checks {unknown:?}");
}

#[test]
fn the_page_is_decoded() {
    let page = page();
    for (name, frame) in frames() {
        let mut reader = FrameReader::new();
        reader.push(Bytes::from(page[name].clone()));
        assert_eq!(reader.next(), Ok(Some(frame)), "{name}");
        assert_eq!(reader.buffered(), 0);
    }
    let bytes = &page["envelope-client"];
    let Envelope::Complete(client, end) = ClientEnvelope::decode(bytes) else {
        panic!()
    };
    assert_eq!(end, bytes.len());
    assert_eq!(ClientHello::decode(&client.hello), Ok(client_hello()));
    let bytes = &page["envelope-accepted"];
    let Envelope::Complete(ServerEnvelope::Accepted { version: 1, hello }, _) =
        ServerEnvelope::decode(bytes)
    else {
        panic!()
    };
    assert_eq!(ServerHello::decode(&hello), Ok(server_hello()));
    let bytes = &page["envelope-refused"];
    assert_eq!(
        ServerEnvelope::decode(bytes),
        Envelope::Complete(refused(), bytes.len())
    );
    assert_eq!(StartRequest::decode(&page["request-start"]), Ok(start()));
    let common = Common::with(|made| {
        made.token = Some(9);
        made.retry = true;
        made.deadline_ms = Some(30_000);
        made.weight = None;
    });
    assert_eq!(Common::decode(&page["request-start"]), Ok(common));
    assert_eq!(
        Common::decode(&page["request-follow-weight"]),
        Ok(weighted())
    );
    assert_eq!(decode_target(&page["request-stop"]), Ok("web".into()));
    assert_eq!(decode_target(&page["request-inspect"]), Ok("web".into()));
    let request = ListRequest::with(|made| {
        made.cursor = 5;
        made.limit = 100;
        made.all = true;
    });
    assert_eq!(ListRequest::decode(&page["request-list"]), Ok(request));
    assert_eq!(FollowRequest::decode(&page["request-follow"]), Ok(follow()));
    let reference = ProcessRef::new(0x0123_4567_89ab_cdef, "web");
    assert_eq!(ProcessRef::decode(&page["response-process"]), Ok(reference));
    assert_eq!(
        ProcessInfo::decode(&page["response-inspect"]),
        Ok(process())
    );
    assert_eq!(ProcessList::decode(&page["response-list"]), Ok(list()));
    assert_eq!(
        FollowStarted::decode(&page["response-follow"]),
        Ok(follow_started())
    );
    assert_eq!(ServerInfo::decode(&page["response-info"]), Ok(info()));
    for (name, arg) in args() {
        assert_eq!(EntrypointArg::decode(&page[name]), Some(arg), "{name}");
    }
    let targets = ["delete", "drain", "inspect", "share"];
    for name in targets.map(|name| format!("request-channel-{name}")) {
        assert_eq!(decode_target(&page[&name]), Ok("prices".into()), "{name}");
    }
    let body = &page["request-channel-create"];
    assert_eq!(CreateRequest::decode(body), Ok(create()));
    assert_eq!(Common::decode(body).map(|common| common.token), Ok(Some(9)));
    let body = &page["request-channel-list"];
    assert_eq!(ListChannelsRequest::decode(body), Ok(list_channels()));
    let body = &page["request-subscribe"];
    assert_eq!(SubscribeRequest::decode(body), Ok(subscribe()));
    let body = &page["request-publish"];
    assert_eq!(PublishRequest::decode(body), Ok(publish()));
    let body = &page["response-channel"];
    assert_eq!(ChannelInfo::decode(body), Ok(channel()));
    let body = &page["response-channel-list"];
    assert_eq!(ChannelList::decode(body), Ok(channels()));
    let body = &page["response-subscribe"];
    assert_eq!(SubscribeStarted::decode(body), Ok(subscribe_started()));
    let body = &page["response-publish"];
    assert_eq!(PublishStarted::decode(body), Ok(publish_started()));
}

/// Each body of the page, taken for every request and response there is, as the fuzz target does.
#[test]
fn the_page_s_bodies_pass_the_fuzz_target() {
    let mut targets = selium_remote_client_protocol::fuzzing::TARGETS.iter();
    let (_, ops) = targets.find(|(name, _)| *name == "ops").unwrap();
    for (name, body) in page() {
        if name.starts_with("request-") || name.starts_with("response-") {
            for which in 0..=u8::MAX {
                ops(&[&[which], &body[..]].concat());
            }
        }
    }
}
