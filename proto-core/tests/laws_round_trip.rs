//! What is encoded is decoded to the same, at and around every limit; and what is past a limit is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use bytes::Bytes;
use common::config;
use proptest::{collection::vec, option, prelude::*};
use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, CapabilitySet,
    EntrypointArg, ErrorCode, Limits, Payload, RemoteError, Weight,
    envelope::{ClientEnvelope, ENVELOPE_HEADER, Envelope, ServerEnvelope},
    fields::FieldErrorKind,
    frame::{Frame, FrameReader, Gather},
    hello::{ClientHello, Features, ServerHello},
    limits::{
        MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_CAPACITY, MAX_CHUNK, MAX_ENTRYPOINT, MAX_ENVELOPE,
        MAX_ERROR_FIELD, MAX_ERROR_MESSAGE, MAX_FRAME, MAX_LIST, MAX_LOG_URI, MAX_MODULE, MAX_NAME,
        MAX_ROLE, MAX_SOFTWARE, MAX_TARGET,
    },
    ops::{
        Backpressure, ChannelInfo, ChannelList, ChannelState, Common, CreateRequest, DeleteRequest,
        DrainRequest, FollowRequest, FollowStarted, InfoRequest, InspectChannelRequest,
        InspectRequest, ListChannelsRequest, ListRequest, LogState, ProcessInfo, ProcessList,
        ProcessRef, ProcessState, PublishRequest, PublishStarted, Request, ServerInfo,
        ShareRequest, StartRequest, StopRequest, SubscribeRequest, SubscribeStarted, decode_target,
    },
    varint,
};

/// Numbers at and around the lengths of a varint.
fn varints() -> impl Strategy<Value = u64> {
    let edge = |at: u64| at - 1..=at + 1;
    prop_oneof![
        0u64..4,
        edge(1 << 6),
        edge(1 << 14),
        edge(1 << 30),
        varint::MAX - 1..=varint::MAX,
        0..=varint::MAX,
    ]
}

fn id() -> impl Strategy<Value = u64> {
    varints().prop_map(|id| id.max(1))
}

/// Integers of fields have up to 64 bits.
fn uint() -> impl Strategy<Value = u64> {
    prop_oneof![
        varints(),
        any::<u64>(),
        Just(u64::MAX),
        Just(255),
        Just(256)
    ]
}

/// Lengths at and around a limit, and any below it.
fn lengths(limit: usize) -> impl Strategy<Value = usize> {
    prop_oneof![0usize..3, limit - 1..=limit, 0..=limit]
}

/// Text of at most so many bytes, with characters of one to four of them.
fn text(limit: usize) -> impl Strategy<Value = String> {
    let character = prop_oneof![Just('a'), Just('ß'), Just('€'), Just('𝄞'), any::<char>()];
    (lengths(limit), vec(character, 1..5)).prop_map(move |(len, characters)| {
        let mut text = String::new();
        for character in characters.iter().cycle() {
            if text.len() + character.len_utf8() > len {
                break;
            }
            text.push(*character);
        }
        text
    })
}

fn chunk(least: usize) -> impl Strategy<Value = Payload> {
    (lengths(MAX_CHUNK), any::<u8>()).prop_map(move |(len, byte)| {
        let bytes: Vec<u8> = (0..len.max(least))
            .map(|at| byte.wrapping_add(at as u8))
            .collect();
        bytes.into()
    })
}

fn code() -> impl Strategy<Value = ErrorCode> {
    prop::sample::select(ErrorCode::ALL)
}

fn error() -> impl Strategy<Value = RemoteError> {
    (
        code(),
        text(MAX_ERROR_MESSAGE),
        option::of(text(MAX_ERROR_FIELD)),
        option::of(uint()),
        option::of(uint()),
    )
        .prop_map(|(code, message, field, limit, process)| {
            let mut error = RemoteError::new(code, message);
            error.field = field;
            error.limit = limit;
            error.process = process;
            error
        })
}

/// A chunk that begins a message, and the message's whole length.
fn beginning(least: usize) -> impl Strategy<Value = (u64, Payload)> {
    (chunk(least), varints()).prop_map(|(chunk, more)| {
        let len = chunk.len() as u64;
        match len {
            0 => (0, chunk),
            _ => (len.saturating_add(more).min(varint::MAX), chunk),
        }
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        any::<[u8; 8]>().prop_map(Frame::Ping),
        any::<[u8; 8]>().prop_map(Frame::Pong),
        error().prop_map(Frame::Goodbye),
        Just(Frame::Drain),
        (varints(), varints()).prop_map(|(id, limit)| Frame::Credit { id, limit }),
        (id(), varints(), beginning(0)).prop_map(|(id, op, (total, chunk))| Frame::Request {
            id,
            op,
            total,
            chunk
        }),
        (id(), varints(), beginning(0)).prop_map(|(id, code, (total, chunk))| Frame::Response {
            id,
            code,
            total,
            chunk
        }),
        (id(), chunk(1)).prop_map(|(id, chunk)| Frame::More { id, chunk }),
        id().prop_map(|id| Frame::Cancel { id }),
        (id(), varints(), beginning(1)).prop_map(|(id, seq, (total, chunk))| Frame::Data {
            id,
            seq,
            total,
            chunk
        }),
        (id(), chunk(1)).prop_map(|(id, chunk)| Frame::DataMore { id, chunk }),
        (id(), option::of(error())).prop_map(|(id, error)| Frame::End { id, error }),
        (id(), error()).prop_map(|(id, error)| Frame::Reset { id, error }),
        (id(), varints(), option::of(0..varint::MAX)).prop_map(|(id, next, count)| Frame::Gap {
            id,
            next,
            count
        }),
        (id(), varints(), any::<bool>()).prop_map(|(id, seq, may_be_dropped)| Frame::Ack {
            id,
            seq,
            may_be_dropped
        }),
        (0x80u8..).prop_map(|kind| Frame::Unknown { kind }),
    ]
}

fn capabilities() -> impl Strategy<Value = Vec<Capability>> {
    vec(prop::sample::select(Capability::ALL), 0..=20)
}

fn kind() -> impl Strategy<Value = AbiParam> {
    prop_oneof![
        prop::sample::select(AbiScalarType::ALL).prop_map(AbiParam::Scalar),
        Just(AbiParam::Buffer),
    ]
}

fn argument() -> impl Strategy<Value = EntrypointArg> {
    use AbiScalarValue as V;
    let scalar = prop_oneof![
        any::<i8>().prop_map(V::I8),
        any::<u8>().prop_map(V::U8),
        any::<i16>().prop_map(V::I16),
        any::<u16>().prop_map(V::U16),
        any::<i32>().prop_map(V::I32),
        any::<u32>().prop_map(V::U32),
        any::<i64>().prop_map(V::I64),
        any::<u64>().prop_map(V::U64),
        any::<u32>().prop_map(|bits| V::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| V::F64(f64::from_bits(bits))),
    ];
    prop_oneof![
        8 => scalar.prop_map(EntrypointArg::Scalar),
        2 => vec(any::<u8>(), 0..40).prop_map(EntrypointArg::Buffer),
        1 => uint().prop_map(EntrypointArg::Resource),
    ]
}

fn start() -> impl Strategy<Value = StartRequest> {
    let signature = (
        vec(kind(), 0..=MAX_ARGUMENTS),
        vec(kind(), 0..=MAX_ARGUMENTS),
    );
    (
        text(MAX_MODULE),
        text(MAX_ENTRYPOINT),
        capabilities(),
        signature,
        vec(argument(), 0..=MAX_ARGUMENTS),
        option::of(text(MAX_LOG_URI)),
        option::of(text(MAX_NAME)),
    )
        .prop_map(
            |(module, entrypoint, capabilities, (params, results), args, log_uri, name)| {
                StartRequest::with(|made| {
                    made.module = module;
                    made.entrypoint = entrypoint;
                    made.capabilities = capabilities;
                    made.signature = AbiSignature::new(params, results);
                    made.args = args;
                    made.log_uri = log_uri;
                    made.name = name;
                })
            },
        )
}

fn common() -> impl Strategy<Value = Common> {
    let weight = (1u8..=16).prop_map(|weight| Weight::new(weight).unwrap());
    (
        option::of(uint()),
        any::<bool>(),
        option::of(uint()),
        option::of(weight),
    )
        .prop_map(|(token, retry, deadline_ms, weight)| {
            Common::with(|made| {
                made.token = token;
                made.retry = retry;
                made.deadline_ms = deadline_ms;
                made.weight = weight;
            })
        })
}

fn log_state() -> impl Strategy<Value = LogState> {
    prop::sample::select(
        &[
            LogState::None,
            LogState::Waiting,
            LogState::Attached,
            LogState::Ended,
        ][..],
    )
}

fn process() -> impl Strategy<Value = ProcessInfo> {
    let texts = (text(MAX_NAME), text(MAX_MODULE), text(MAX_ENTRYPOINT));
    let times = [option::of(uint()), option::of(uint()), option::of(uint())];
    let stopped = any::<bool>();
    (
        uint(),
        texts,
        stopped,
        capabilities(),
        log_state(),
        uint(),
        times,
    )
        .prop_map(
            |(id, (name, module, entrypoint), stopped, capabilities, log, log_records, times)| {
                let mut process = ProcessInfo::default();
                process.id = id;
                process.name = name;
                process.module = module;
                process.entrypoint = entrypoint;
                process.state = match stopped {
                    true => ProcessState::Stopped,
                    false => ProcessState::Started,
                };
                process.capabilities = capabilities;
                process.log = log;
                process.log_records = log_records;
                [process.started_ms, process.stopped_ms, process.last_log_ms] = times;
                process
            },
        )
}

fn backpressure() -> impl Strategy<Value = Backpressure> {
    prop_oneof![Just(Backpressure::Park), Just(Backpressure::Drop)]
}

fn capacity() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..3, MAX_CAPACITY - 1..=MAX_CAPACITY, 1..=MAX_CAPACITY]
}

fn channel() -> impl Strategy<Value = ChannelInfo> {
    let states = &[
        ChannelState::Open,
        ChannelState::Draining,
        ChannelState::Deleted,
    ];
    (
        uint(),
        text(MAX_NAME),
        any::<u32>(),
        backpressure(),
        prop::sample::select(&states[..]),
        any::<bool>(),
        any::<[u64; 4]>(),
        option::of(uint()),
    )
        .prop_map(
            |(id, name, capacity, backpressure, state, shared, counters, created_ms)| {
                ChannelInfo::with(|made| {
                    made.id = id;
                    made.name = name;
                    made.capacity = capacity;
                    made.backpressure = backpressure;
                    made.state = state;
                    made.shared = shared;
                    [made.lossless, made.lossy, made.publishers, made.published] = counters;
                    made.created_ms = created_ms;
                })
            },
        )
}

/// Limits as hellos can state them: lengths are read as 32 bits at most.
fn limits() -> impl Strategy<Value = Limits> {
    let size = || prop_oneof![0usize..3, Just(u32::MAX as usize), 0..u32::MAX as usize];
    ([size(), size()], [size(), size()], [size(), size(), size()]).prop_map(
        |(message, window, request)| {
            Limits::with(|limits| {
                [limits.max_message, limits.reassembly] = message;
                [limits.connection_window, limits.stream_window] = window;
                [limits.max_request, limits.max_requests, limits.max_streams] = request;
            })
        },
    )
}

/// The kind of the error that a decoder ends with.
macro_rules! kind_of {
    ($result:expr) => {
        $result.map(|_| ()).map_err(|error| error.kind)
    };
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn every_frame_comes_back(frames in vec(frame(), 1..6)) {
        let mut out = Gather::default();
        let mut lengths = Vec::new();
        for frame in &frames {
            let before = out.len();
            frame.encode(&mut out);
            lengths.push(out.len() - before);
        }
        let mut reader = FrameReader::new();
        for part in out.finish() {
            reader.push(part);
        }
        for (frame, len) in frames.iter().zip(lengths) {
            prop_assert!(len <= MAX_FRAME + 4, "{} bytes", len);
            prop_assert_eq!(reader.next(), Ok(Some(frame.clone())));
        }
        prop_assert_eq!((reader.next(), reader.buffered()), (Ok(None), 0));
    }

    #[test]
    fn every_error_comes_back(error in error()) {
        prop_assert_eq!(RemoteError::decode(error.code, &error.encode()), Ok(error));
    }

    #[test]
    fn every_argument_comes_back(argument in argument()) {
        let bytes = argument.encode();
        let back = EntrypointArg::decode(&bytes).unwrap();
        // By its bytes: a NaN equals nothing.
        prop_assert_eq!(back.encode(), &bytes[..]);
        if !matches!(argument, EntrypointArg::Buffer(_)) {
            prop_assert_eq!(EntrypointArg::decode(&bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(EntrypointArg::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn every_start_comes_back(start in start(), common in common()) {
        let bytes = start.encode(&common);
        let back = StartRequest::decode(&bytes).unwrap();
        prop_assert_eq!(back.encode(&common), &bytes);
        prop_assert_eq!(back.args.len(), start.args.len());
        prop_assert_eq!((back.module, back.log_uri, back.name), (start.module, start.log_uri, start.name));
        prop_assert_eq!(Common::decode(&bytes), Ok(common));
    }

    #[test]
    fn every_other_request_comes_back(
        target in text(MAX_TARGET),
        numbers in [option::of(uint()), option::of(uint())],
        cursor in uint(),
        limit in 0usize..=u32::MAX as usize,
        flag: bool,
        common in common(),
    ) {
        let stop = StopRequest::with(|made| {
made.target = target.clone();
}).encode(&common);
        let inspect = InspectRequest::with(|made| {
made.target = target.clone();
}).encode(&common);
        let follow = FollowRequest::with(|made| {
made.target = target.clone();
made.tail = numbers[0];
made.since = numbers[1];
made.no_follow = flag;
});
        let list = ListRequest::with(|made| {
made.cursor = cursor;
made.limit = limit;
made.all = flag;
});
        prop_assert_eq!(decode_target(&stop), Ok(target.clone()));
        prop_assert_eq!(decode_target(&inspect), Ok(target));
        prop_assert_eq!(FollowRequest::decode(&follow.encode(&common)), Ok(follow.clone()));
        prop_assert_eq!(ListRequest::decode(&list.encode(&common)), Ok(list));
        for body in [stop, inspect, follow.encode(&common), list.encode(&common), InfoRequest.encode(&common)] {
            prop_assert_eq!(Common::decode(&body), Ok(common));
        }
    }

    #[test]
    fn every_answer_comes_back(
        process in process(),
        more in vec(process(), 0..3),
        next in option::of(uint()),
        log in log_state(),
        counters in any::<[u64; 10]>(),
    ) {
        prop_assert_eq!(ProcessInfo::decode(&process.encode()), Ok(process.clone()));
        let reference = ProcessRef::new(process.id, process.name.clone());
        prop_assert_eq!(ProcessRef::decode(&reference.encode()), Ok(reference.clone()));
        let follow = FollowStarted::new(reference, counters[0], counters[1], log);
        prop_assert_eq!(FollowStarted::decode(&follow.encode()), Ok(follow));
        let mut list = ProcessList::default();
        list.processes = more;
        list.next = next;
        prop_assert_eq!(ProcessList::decode(&list.encode()), Ok(list));
        let mut info = ServerInfo::default();
        info.uptime_ms = next;
        [
            info.connections, info.processes, info.streams, info.hubs, info.ring_bytes,
            info.starts, info.zombies, info.held_bytes, info.suppressed_records, info.orphans,
        ] = counters;
        prop_assert_eq!(ServerInfo::decode(&info.encode()), Ok(info));
    }

    #[test]
    fn every_request_about_channels_comes_back(
        target in text(MAX_TARGET),
        name in option::of(text(MAX_NAME)),
        capacity in capacity(),
        backpressure in backpressure(),
        numbers in [option::of(uint()), option::of(uint())],
        cursor in uint(),
        limit in 0usize..=u32::MAX as usize,
        flag: bool,
        common in common(),
    ) {
        let create = CreateRequest::with(|made| {
            made.capacity = capacity;
            made.backpressure = backpressure;
            made.name = name;
        });
        let list = ListChannelsRequest::with(|made| {
            made.cursor = cursor;
            made.limit = limit;
        });
        let subscribe = SubscribeRequest::with(|made| {
            made.target = target.clone();
            made.lossless = flag;
            [made.since, made.tail] = numbers;
        });
        let publish = PublishRequest::with(|made| {
            made.target = target.clone();
            made.publication = cursor;
            made.resume = flag;
        });
        prop_assert_eq!(CreateRequest::decode(&create.encode(&common)), Ok(create.clone()));
        prop_assert_eq!(ListChannelsRequest::decode(&list.encode(&common)), Ok(list));
        prop_assert_eq!(SubscribeRequest::decode(&subscribe.encode(&common)), Ok(subscribe.clone()));
        prop_assert_eq!(PublishRequest::decode(&publish.encode(&common)), Ok(publish.clone()));
        let targets = [
            DeleteRequest::with(|made| made.target = target.clone()).encode(&common),
            DrainRequest::with(|made| made.target = target.clone()).encode(&common),
            InspectChannelRequest::with(|made| made.target = target.clone()).encode(&common),
            ShareRequest::with(|made| made.target = target.clone()).encode(&common),
        ];
        for body in &targets {
            prop_assert_eq!(decode_target(body), Ok(target.clone()));
        }
        let others = [
            create.encode(&common),
            list.encode(&common),
            subscribe.encode(&common),
            publish.encode(&common),
        ];
        for body in targets.iter().chain(&others) {
            prop_assert_eq!(Common::decode(body), Ok(common));
        }
    }

    #[test]
    fn every_answer_about_channels_comes_back(
        channel in channel(),
        more in vec(channel(), 0..3),
        next in option::of(uint()),
        numbers: [u64; 2],
        last in option::of(uint()),
    ) {
        prop_assert_eq!(ChannelInfo::decode(&channel.encode()), Ok(channel.clone()));
        let mut list = ChannelList::default();
        list.channels = more;
        list.next = next;
        prop_assert_eq!(ChannelList::decode(&list.encode()), Ok(list));
        let (id, name) = (channel.id, channel.name.clone());
        let subscribe = SubscribeStarted::new(id, name.clone(), numbers[0], numbers[1]);
        prop_assert_eq!(SubscribeStarted::decode(&subscribe.encode()), Ok(subscribe));
        let mut publish = PublishStarted::new(id, name, channel.capacity, channel.backpressure);
        publish.last = last;
        prop_assert_eq!(PublishStarted::decode(&publish.encode()), Ok(publish));
    }

    #[test]
    fn every_hello_comes_back_in_its_envelope(
        limits in limits(),
        nonces in any::<[[u8; 16]; 2]>(),
        features: u64,
        texts in [text(MAX_SOFTWARE), text(MAX_SOFTWARE), text(MAX_ROLE)],
        ceiling in capabilities(),
        authenticated: bool,
        versions: (u16, u16),
        refusal in error(),
    ) {
        let [software, version, role] = texts;
        let mut client = ClientHello::new(nonces[0], nonces[1], &limits);
        client.features = Features(features);
        client.software = software.clone();
        client.version = version.clone();
        prop_assert_eq!(ClientHello::decode(&client.encode()), Ok(client.clone()));
        let envelope = ClientEnvelope { versions, hello: client.encode().into() };
        let bytes = envelope.encode();
        prop_assert!(bytes.len() <= MAX_ENVELOPE);
        prop_assert_eq!(ClientEnvelope::decode(&bytes), Envelope::Complete(envelope, bytes.len()));

        let mut server = ServerHello::new(nonces[0], &limits);
        server.features = Features(features);
        (server.software, server.version, server.role) = (software, version, role);
        server.ceiling = ceiling.into_iter().collect::<CapabilitySet>();
        server.authenticated = authenticated;
        prop_assert_eq!(ServerHello::decode(&server.encode()), Ok(server.clone()));
        let accepted = ServerEnvelope::Accepted { version: versions.0.max(1), hello: server.encode().into() };
        let bytes = accepted.encode();
        prop_assert!(bytes.len() <= MAX_ENVELOPE);
        prop_assert_eq!(ServerEnvelope::decode(&bytes), Envelope::Complete(accepted, bytes.len()));

        let bytes = ServerEnvelope::Refused { versions, error: refusal.clone() }.encode();
        prop_assert!(bytes.len() <= MAX_ENVELOPE);
        let Envelope::Complete(ServerEnvelope::Refused { versions: said, error }, _) = ServerEnvelope::decode(&bytes) else {
            panic!("a refusal");
        };
        prop_assert_eq!((said, error.code), (versions, refusal.code));
        prop_assert!(refusal.message.starts_with(&error.message));
        let whole = refusal.message.len() <= MAX_ENVELOPE - ENVELOPE_HEADER - 2;
        prop_assert!(!whole || error.message == refusal.message);
    }

    /// A byte cut off anywhere leaves a frame incomplete, and never another frame.
    #[test]
    fn the_beginning_of_a_frame_is_no_frame(frame in frame(), cut: prop::sample::Index) {
        let bytes = frame.to_bytes();
        let cut = cut.index(bytes.len());
        let mut reader = FrameReader::new();
        reader.push(bytes.slice(..cut));
        prop_assert_eq!(reader.next(), Ok(None));
        reader.push(bytes.slice(cut..));
        prop_assert_eq!(reader.next(), Ok(Some(frame)));
    }
}

#[test]
fn what_is_longer_than_its_limit_is_refused_and_what_is_as_long_is_not() {
    let none = Common::default();
    let long = |len| "x".repeat(len);
    let start = |change: &dyn Fn(&mut StartRequest)| {
        let mut start = StartRequest::default();
        change(&mut start);
        kind_of!(StartRequest::decode(&start.encode(&none)))
    };
    for (limit, change) in [
        (
            MAX_MODULE,
            (|start, text| start.module = text) as fn(&mut StartRequest, String),
        ),
        (MAX_ENTRYPOINT, |start, text| start.entrypoint = text),
        (MAX_LOG_URI, |start, text| start.log_uri = Some(text)),
        (MAX_NAME, |start, text| start.name = Some(text)),
    ] {
        assert_eq!(start(&|start| change(start, long(limit))), Ok(()));
        let refused = start(&|start| change(start, long(limit + 1)));
        assert_eq!(refused, Err(FieldErrorKind::TooLong(limit)));
    }
    let buffer = |len| vec![EntrypointArg::Buffer(vec![0; len])];
    assert_eq!(
        start(&|start| start.args = buffer(MAX_ARGUMENT_BYTES)),
        Ok(())
    );
    let refused = start(&|start| start.args = buffer(MAX_ARGUMENT_BYTES + 1));
    assert_eq!(refused, Err(FieldErrorKind::TooLong(MAX_ARGUMENT_BYTES)));
    let resources = |count| vec![EntrypointArg::Resource(1); count];
    assert_eq!(
        start(&|start| start.args = resources(MAX_ARGUMENTS)),
        Ok(())
    );
    let refused = start(&|start| start.args = resources(MAX_ARGUMENTS + 1));
    assert_eq!(refused, Err(FieldErrorKind::TooLong(MAX_ARGUMENTS)));

    let stop = |len| {
        kind_of!(decode_target(
            &StopRequest::with(|made| {
                made.target = long(len);
            })
            .encode(&none)
        ))
    };
    assert_eq!(stop(MAX_TARGET), Ok(()));
    assert_eq!(
        stop(MAX_TARGET + 1),
        Err(FieldErrorKind::TooLong(MAX_TARGET))
    );
    let list = |count| {
        let mut list = ProcessList::default();
        list.processes = vec![ProcessInfo::default(); count];
        kind_of!(ProcessList::decode(&list.encode()))
    };
    assert_eq!(list(MAX_LIST), Ok(()));
    assert_eq!(list(MAX_LIST + 1), Err(FieldErrorKind::TooLong(MAX_LIST)));

    let create = |capacity, name| {
        let request = CreateRequest::with(|made| {
            made.capacity = capacity;
            made.name = name;
        });
        kind_of!(CreateRequest::decode(&request.encode(&none)))
    };
    assert_eq!(create(MAX_CAPACITY, Some(long(MAX_NAME))), Ok(()));
    for capacity in [0, MAX_CAPACITY + 1] {
        assert_eq!(create(capacity, None), Err(FieldErrorKind::Value));
    }
    let refused = create(1, Some(long(MAX_NAME + 1)));
    assert_eq!(refused, Err(FieldErrorKind::TooLong(MAX_NAME)));
    for (len, expected) in [
        (MAX_TARGET, Ok(())),
        (MAX_TARGET + 1, Err(FieldErrorKind::TooLong(MAX_TARGET))),
    ] {
        let subscribe = SubscribeRequest::with(|made| made.target = long(len));
        let subscribe = SubscribeRequest::decode(&subscribe.encode(&none));
        assert_eq!(kind_of!(subscribe), expected);
        let publish = PublishRequest::with(|made| made.target = long(len));
        let publish = PublishRequest::decode(&publish.encode(&none));
        assert_eq!(kind_of!(publish), expected);
    }
    let list = |count| {
        let mut list = ChannelList::default();
        list.channels = vec![ChannelInfo::default(); count];
        kind_of!(ChannelList::decode(&list.encode()))
    };
    assert_eq!(list(MAX_LIST), Ok(()));
    assert_eq!(list(MAX_LIST + 1), Err(FieldErrorKind::TooLong(MAX_LIST)));

    // Chunks and frames.
    let read = |frame: &Frame| {
        let mut reader = FrameReader::new();
        reader.push(frame.to_bytes());
        reader.next().is_ok()
    };
    let more = |len: usize| Frame::More {
        id: varint::MAX,
        chunk: Bytes::from(vec![0; len]).into(),
    };
    let data = |len: usize| Frame::Data {
        id: varint::MAX,
        seq: varint::MAX,
        total: varint::MAX,
        chunk: Bytes::from(vec![0; len]).into(),
    };
    assert!(read(&more(MAX_CHUNK)) && read(&data(MAX_CHUNK)));
    assert!(!read(&more(MAX_CHUNK + 1)) && !read(&data(MAX_CHUNK + 1)));
}
