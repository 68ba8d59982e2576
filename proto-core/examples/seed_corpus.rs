//! Writes the first inputs of the fuzz targets, made with the real encoders: `fuzz/corpus/TARGET/seed-NAME`.
//!
//! The same ones each time. See `fuzz/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for developers"
)]

use std::{fs, path::Path};

use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, EntrypointArg, ErrorCode,
    Limits, RemoteError, Weight,
    envelope::{ClientEnvelope, ServerEnvelope, VERSIONS},
    frame::Frame,
    fuzzing,
    hello::{ClientHello, ServerHello},
    log_record::{LogField, LogLevel, LogRecord, LogSpan},
    ops::{
        Backpressure, ChannelInfo, ChannelList, ChannelState, Common, CreateRequest, FollowRequest,
        FollowStarted, InspectChannelRequest, InspectRequest, ListChannelsRequest, ListRequest,
        LogState, ProcessInfo, ProcessList, ProcessRef, PublishRequest, PublishStarted, Request,
        ServerInfo, StartRequest, StopRequest, SubscribeRequest, SubscribeStarted,
    },
};

/// Seeds of the targets that make decisions out of bytes: how many, and how long they are.
const SCRIPTS: [usize; 16] = [
    16, 32, 48, 64, 96, 128, 160, 192, 256, 256, 320, 320, 384, 384, 512, 512,
];

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut count = 0;
    for (target, name, bytes) in seeds() {
        assert!(
            fuzzing::TARGETS.iter().any(|(known, _)| *known == target),
            "no target {target}"
        );
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("seed-{name}")), bytes).expect("writes");
        count += 1;
    }
    println!("{count} seeds");
}

type Seed = (&'static str, String, Vec<u8>);

fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    frames(&mut seeds);
    openings(&mut seeds);
    operations(&mut seeds);
    channels(&mut seeds);
    values(&mut seeds);
    records(&mut seeds);
    for target in ["client_input", "pair", "server_input"] {
        let mut dice = Dice(target.len() as u64);
        for (index, len) in SCRIPTS.iter().enumerate() {
            let bytes = (0..*len).map(|_| dice.byte()).collect();
            seeds.push((target, format!("script-{index:02}"), bytes));
        }
    }
    seeds
}

/// xorshift64*: small bytes half of the time, because most decisions are between few.
struct Dice(u64);

impl Dice {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let [high, low, ..] = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        if high & 1 == 1 { low % 40 } else { low }
    }
}

fn error() -> RemoteError {
    RemoteError::new(ErrorCode::TooLarge, "no")
        .with_field("f")
        .with_limit(256)
        .with_process(1)
}

fn frames(seeds: &mut Vec<Seed>) {
    let chunk = || b"hello".to_vec().into();
    let frames = [
        Frame::Ping([1; 8]),
        Frame::Pong([1; 8]),
        Frame::Goodbye(error()),
        Frame::Drain,
        Frame::Credit {
            id: 0,
            limit: 524_288,
        },
        Frame::Request {
            id: 1,
            op: 16,
            total: 10,
            chunk: chunk(),
        },
        Frame::Response {
            id: 1,
            code: 0,
            total: 5,
            chunk: chunk(),
        },
        Frame::More {
            id: 1,
            chunk: chunk(),
        },
        Frame::Cancel { id: 2 },
        Frame::Data {
            id: 7,
            seq: 41,
            total: 10,
            chunk: chunk(),
        },
        Frame::DataMore {
            id: 7,
            chunk: chunk(),
        },
        Frame::End { id: 7, error: None },
        Frame::End {
            id: 7,
            error: Some(error()),
        },
        Frame::Reset {
            id: 7,
            error: error(),
        },
        Frame::Gap {
            id: 7,
            next: 50,
            count: Some(7),
        },
        Frame::Ack {
            id: 7,
            seq: 3,
            may_be_dropped: true,
        },
        Frame::Unknown { kind: 0x80 },
    ];
    let mut all = vec![3, 1, 7, 200];
    for (index, frame) in frames.iter().enumerate() {
        let bytes = frame.to_bytes();
        all.extend_from_slice(&bytes);
        let alone = [&[0], &bytes[..]].concat();
        seeds.push(("frames", format!("frame-{index:02}"), alone));
    }
    seeds.push(("frames", "all".to_owned(), all));
}

fn openings(seeds: &mut Vec<Seed>) {
    let client = ClientHello::new([1; 16], [2; 16], &Limits::default()).encode();
    let server = ServerHello::new([3; 16], &Limits::default()).encode();
    for (which, hello) in [(0, &client), (1, &server)] {
        let bytes = [&[which], &hello[..]].concat();
        seeds.push(("hellos", format!("hello-{which}"), bytes));
        seeds.push(("fields", format!("hello-{which}"), hello.clone()));
    }
    seeds.push(("hellos", "made".to_owned(), [2; 40].to_vec()));
    let envelope = ClientEnvelope {
        versions: VERSIONS,
        hello: client.into(),
    };
    let old = selium_remote_client_protocol::legacy::error_response("update");
    let mut opening = |target, name: &str, bytes: Vec<u8>| {
        seeds.push((target, name.to_owned(), bytes));
    };
    opening("envelope_client", "hello", envelope.encode().to_vec());
    opening("envelope_client", "legacy", old[4..].to_vec());
    opening("envelope_client", "foreign", b"GET / HTTP/1.1\r\n".to_vec());
    let accepted = ServerEnvelope::Accepted {
        version: 1,
        hello: server.into(),
    };
    let refused = ServerEnvelope::Refused {
        versions: VERSIONS,
        error: RemoteError::new(ErrorCode::Unsupported, "update"),
    };
    opening("envelope_server", "accepted", accepted.encode().to_vec());
    opening("envelope_server", "refused", refused.encode().to_vec());
    opening("envelope_server", "legacy", old);
}

fn operations(seeds: &mut Vec<Seed>) {
    let common = Common::with(|made| {
        made.token = Some(9);
        made.retry = true;
        made.deadline_ms = Some(30_000);
        made.weight = Weight::new(4);
    });
    let start = StartRequest::with(|made| {
        made.module = "hello.wasm".into();
        made.entrypoint = "hello".into();
        made.capabilities = vec![Capability::ChannelLifecycle, Capability::ChannelWriter];
        made.signature = AbiSignature::new(
            vec![AbiParam::Buffer, AbiParam::Scalar(AbiScalarType::U16)],
            vec![AbiParam::Scalar(AbiScalarType::I32)],
        );
        made.args = vec![
            EntrypointArg::Buffer(b"hi".to_vec()),
            EntrypointArg::Scalar(AbiScalarValue::U16(7_000)),
        ];
        made.log_uri = Some("sel://x".into());
        made.name = Some("web".into());
    });
    let target = || "web".to_owned();
    let follow = FollowRequest::with(|made| {
        made.target = target();
        made.tail = Some(10);
        made.since = Some(41);
        made.no_follow = true;
    });
    let list = ListRequest::with(|made| {
        made.cursor = 5;
        made.limit = 100;
        made.all = true;
    });
    let mut info = ProcessInfo::default();
    (info.id, info.name) = (1, target());
    info.capabilities = vec![Capability::TimeRead];
    info.started_ms = Some(1_700_000_000_000);
    let mut listed = ProcessList::default();
    listed.processes = vec![info.clone(), info.clone()];
    listed.next = Some(6);
    let mut server = ServerInfo::default();
    (server.uptime_ms, server.connections) = (Some(5_000), 1);
    let process = ProcessRef::new(1, "web");
    let bodies: [(u8, &str, Vec<u8>); 10] = [
        (0, "start", start.encode(&common).to_vec()),
        (
            1,
            "stop",
            StopRequest::with(|made| {
                made.target = target();
            })
            .encode(&common)
            .to_vec(),
        ),
        (
            2,
            "inspect",
            InspectRequest::with(|made| {
                made.target = target();
            })
            .encode(&common)
            .to_vec(),
        ),
        (3, "list", list.encode(&common).to_vec()),
        (4, "follow", follow.encode(&common).to_vec()),
        (5, "process", process.encode()),
        (6, "listed", listed.encode()),
        (6, "inspected", info.encode()),
        (
            7,
            "followed",
            FollowStarted::new(process, 41, 50, LogState::Attached).encode(),
        ),
        (8, "info", server.encode()),
    ];
    for (which, name, body) in bodies {
        seeds.push(("ops", name.to_owned(), [&[which], &body[..]].concat()));
        seeds.push(("fields", name.to_owned(), body));
    }
}

/// Requests and responses about channels. Their first bytes begin at `0xf0` (`fuzzing::ops`).
fn channels(seeds: &mut Vec<Seed>) {
    let common = Common::with(|made| made.token = Some(9));
    let target = || "prices".to_owned();
    let create = CreateRequest::with(|made| {
        made.capacity = 65_536;
        made.backpressure = Backpressure::Drop;
        made.name = Some(target());
    });
    let inspect = InspectChannelRequest::with(|made| made.target = target());
    let list = ListChannelsRequest::with(|made| {
        made.cursor = 5;
        made.limit = 100;
    });
    let subscribe = SubscribeRequest::with(|made| {
        made.target = target();
        made.lossless = true;
        made.since = Some(41);
        made.tail = Some(10);
    });
    let publish = PublishRequest::with(|made| {
        made.target = target();
        made.publication = 3;
        made.resume = true;
    });
    let info = ChannelInfo::with(|made| {
        made.id = 5;
        made.name = target();
        made.capacity = 65_536;
        made.backpressure = Backpressure::Drop;
        made.state = ChannelState::Draining;
        made.shared = true;
        made.lossy = 2;
        made.publishers = 1;
        made.published = 300;
        made.created_ms = Some(1_700_000_000_000);
    });
    let mut listed = ChannelList::default();
    listed.channels = vec![info.clone(), info.clone()];
    listed.next = Some(6);
    let mut publishing = PublishStarted::new(5, target(), 65_536, Backpressure::Park);
    publishing.last = Some(299);
    let bodies: [(u8, &str, Vec<u8>); 9] = [
        (0xf0, "channel-create", create.encode(&common).to_vec()),
        (0xf1, "channel-inspect", inspect.encode(&common).to_vec()),
        (0xf2, "channel-list", list.encode(&common).to_vec()),
        (0xf3, "subscribe", subscribe.encode(&common).to_vec()),
        (0xf4, "publish", publish.encode(&common).to_vec()),
        (0xf5, "channels-listed", listed.encode()),
        (0xf5, "channel-inspected", info.encode()),
        (
            0xf6,
            "subscribed",
            SubscribeStarted::new(5, target(), 41, 50).encode(),
        ),
        (0xf7, "publishing", publishing.encode()),
    ];
    for (which, name, body) in bodies {
        seeds.push(("ops", name.to_owned(), [&[which], &body[..]].concat()));
        seeds.push(("fields", name.to_owned(), body));
    }
}

fn values(seeds: &mut Vec<Seed>) {
    let fields = error().encode();
    seeds.push(("errors", "full".to_owned(), [&[7, 0], &fields[..]].concat()));
    seeds.push(("errors", "text".to_owned(), "\u{1}\u{0}\u{10}grün".into()));
    seeds.push(("fields", "error".to_owned(), fields));
    let args = [
        EntrypointArg::Scalar(AbiScalarValue::I8(-2)),
        EntrypointArg::Scalar(AbiScalarValue::U64(1 << 40)),
        EntrypointArg::Scalar(AbiScalarValue::F32(1.5)),
        EntrypointArg::Scalar(AbiScalarValue::F64(-0.25)),
        EntrypointArg::Buffer(b"hi".to_vec()),
        EntrypointArg::Resource(5),
    ];
    let mut all = vec![args.len() as u8];
    for (index, arg) in args.iter().enumerate() {
        let bytes = arg.encode();
        let one = [&bytes[..1], &[bytes.len() as u8], &bytes].concat();
        all.extend_from_slice(&one);
        let alone = [&[1], &one[..]].concat();
        seeds.push(("arguments", format!("argument-{index}"), alone));
    }
    seeds.push(("arguments", "all".to_owned(), all));
    seeds.push(("arguments", "name".to_owned(), b"net-quic_Bind".to_vec()));
    seeds.push(("legacy", "empty".to_owned(), Vec::new()));
    seeds.push(("legacy", "long".to_owned(), "ü".repeat(300).into()));
}

fn records(seeds: &mut Vec<Seed>) {
    let field = |key: &str| {
        LogField::with(|made| {
            made.key = key.to_owned();
            made.value = "1".to_owned();
        })
    };
    let plain = LogRecord::with(|made| {
        made.level = LogLevel::Warn;
        made.target = "hello::guest".to_owned();
        made.message = "hellö".to_owned();
    });
    let full = {
        let mut made = plain.clone();
        made.fields = vec![field("n"), field("who")];
        made.spans = vec![LogSpan::with(|made| {
            made.name = "span".to_owned();
            made.fields = vec![field("k")];
        })];
        made.timestamp_ms = 1_700_000_000_000;
        made
    };
    for (name, record) in [("plain", plain), ("full", full)] {
        let bytes = fuzzing::write_log_record(&record);
        let bytes = [&[0], &bytes[..]].concat();
        seeds.push(("log_record", name.to_owned(), bytes));
    }
    let mut dice = Dice(11);
    let torn: Vec<u8> = (0..200).map(|_| dice.byte()).collect();
    let torn = [&[1], &torn[..]].concat();
    seeds.push(("log_record", "torn".to_owned(), torn));
}
