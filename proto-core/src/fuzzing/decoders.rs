//! What decodes, encodes to itself.

use core::fmt::Debug;

use bytes::Bytes;

use super::Source;
use crate::{
    AbiParam, AbiScalarType, AbiSignature, Capability, EntrypointArg, ErrorCode, Limits, Payload,
    RemoteError,
    abi::{ArgumentError, check_arguments},
    envelope::{ClientEnvelope, ENVELOPE_HEADER, Envelope, ServerEnvelope, VERSIONS},
    error::clip,
    fields::{FieldError, FieldErrorKind, FieldReader, FieldWriter},
    frame::{Frame, FrameError, FrameReader, Gather},
    hello::{ClientHello, ServerHello},
    legacy as legacy_format,
    limits::{
        MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_CAPACITY, MAX_CHUNK, MAX_ENVELOPE, MAX_ERROR_FIELD,
        MAX_ERROR_MESSAGE, MAX_FRAME, MAX_LIST, MAX_NAME,
    },
    ops::{
        ChannelInfo, ChannelList, Common, CreateRequest, DeleteRequest, DrainRequest,
        FollowRequest, FollowStarted, InspectChannelRequest, InspectRequest, ListChannelsRequest,
        ListRequest, ProcessInfo, ProcessList, ProcessRef, PublishRequest, PublishStarted, Request,
        ServerInfo, ShareRequest, StartRequest, StopRequest, SubscribeRequest, SubscribeStarted,
        decode_target,
    },
    payload::COPY_BELOW,
    varint,
};

/// What a reader makes of some input: the frames, and how it ended.
type Read = (Vec<Frame>, Option<FrameError>);

fn read_frames(input: &[u8], mut cut: impl FnMut() -> usize) -> Read {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cut().clamp(1, rest.len()));
        rest = later;
        reader.push(Bytes::copy_from_slice(now));
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(
            reader.buffered() < MAX_FRAME + varint::MAX_LEN,
            "more than a frame is kept"
        );
    }
    (frames, None)
}

fn content(frame: &Frame) -> Option<&Payload> {
    match frame {
        Frame::Request { chunk, .. }
        | Frame::Response { chunk, .. }
        | Frame::Data { chunk, .. }
        | Frame::More { chunk, .. }
        | Frame::DataMore { chunk, .. } => Some(chunk),
        _ => None,
    }
}

/// The frame reader: cuts in the input change nothing, nothing is made of nothing, and frames encode to themselves.
/// The first byte says how many of the next bytes are cuts; the rest is the input.
pub fn frames(data: &[u8]) {
    let mut source = Source::new(data);
    let count = usize::from(source.below(16));
    let cuts = source.bytes(count);
    let input = source.rest();

    let whole = read_frames(input, || usize::MAX);
    if !cuts.is_empty() {
        let mut cuts = cuts.iter().cycle();
        let cut = || usize::from(cuts.next().copied().unwrap_or(1));
        assert_eq!(read_frames(input, cut), whole, "cut");
    }
    if input.len() <= 4_096 {
        assert_eq!(read_frames(input, || 1), whole, "byte by byte");
    }

    let (frames, error) = whole;
    if let Some(error) = error {
        assert!(error.at <= input.len() as u64, "the error lies behind it");
        assert!(!error.to_string().is_empty());
    }
    let contents: usize = frames.iter().filter_map(content).map(Payload::len).sum();
    assert!(contents <= input.len(), "content from nowhere");
    assert!(
        2 * frames.len() <= input.len(),
        "a frame has 3 bytes or more with its length, but for one"
    );

    let mut out = Gather::default();
    for frame in &frames {
        if let Some(content) = content(frame) {
            assert!(content.len() <= MAX_CHUNK);
            let pieces = content.pieces().count();
            assert!(
                pieces <= 2 + 2 * content.len() / COPY_BELOW,
                "too many pieces"
            );
        }
        assert!(frame.to_bytes().len() <= MAX_FRAME + varint::MAX_LEN);
        frame.encode(&mut out);
    }
    let len = out.len();
    let bytes = Payload::from(out.finish()).to_vec();
    assert_eq!(bytes.len(), len, "the gathered length");
    assert_eq!(
        read_frames(&bytes, || usize::MAX),
        (frames, None),
        "encoded"
    );
}

/// What holds of both envelopes: they decide at one place of the input, and more input changes nothing.
fn decides_once<T: Clone + Debug + PartialEq>(data: &[u8], decode: impl Fn(&[u8]) -> Envelope<T>) {
    let data = data.get(..MAX_ENVELOPE + 16).unwrap_or(data);
    let whole = decode(data);
    let mut decided = None;
    for len in 0..=data.len() {
        let now = decode(&data[..len]);
        if let Envelope::Complete(_, end) = &now {
            assert!(*end <= len && *end <= MAX_ENVELOPE);
        }
        match &decided {
            None if now == Envelope::Incomplete => {}
            None => decided = Some(now),
            Some(decided) => assert_eq!(&now, decided, "decided otherwise at {len}"),
        }
    }
    assert_eq!(decided.unwrap_or(Envelope::Incomplete), whole);
}

/// The client's envelope.
pub fn envelope_client(data: &[u8]) {
    decides_once(data, ClientEnvelope::decode);
    let Envelope::Complete(envelope, end) = ClientEnvelope::decode(data) else {
        return;
    };
    let bytes = envelope.encode();
    assert_eq!(bytes[..14], data[..14]);
    assert_eq!(bytes[16..], data[16..end]);
    assert_eq!(
        ClientEnvelope::decode(&bytes),
        Envelope::Complete(envelope.clone(), bytes.len())
    );
    if let Some(version) = envelope.common_version() {
        for (low, high) in [envelope.versions, VERSIONS] {
            assert!((low..=high).contains(&version), "{version} is not common");
        }
    }
    hello_client(&envelope.hello);
}

/// The server's envelope.
pub fn envelope_server(data: &[u8]) {
    decides_once(data, ServerEnvelope::decode);
    let Envelope::Complete(envelope, end) = ServerEnvelope::decode(data) else {
        return;
    };
    let bytes = envelope.encode();
    assert!(bytes.len() <= MAX_ENVELOPE);
    let Envelope::Complete(again, again_end) = ServerEnvelope::decode(&bytes) else {
        panic!("what was encoded is no envelope");
    };
    assert_eq!(again_end, bytes.len());
    match (&envelope, &again) {
        (ServerEnvelope::Accepted { hello, .. }, _) => {
            assert_eq!(again, envelope);
            assert_eq!(hello.len(), end - ENVELOPE_HEADER);
            hello_server(hello);
        }
        (
            ServerEnvelope::Refused { versions, error },
            ServerEnvelope::Refused {
                versions: again,
                error: said,
            },
        ) => {
            assert_eq!((again, said.code), (versions, error.code));
            // Bytes that are no text take more room as replacement characters.
            assert!(error.message.starts_with(&said.message));
        }
        _ => panic!("a refusal was encoded as {again:?}"),
    }
}

fn hello_client(body: &[u8]) {
    match ClientHello::decode(body) {
        Err(error) => refused(error, body),
        Ok(hello) => {
            let bytes = hello.encode();
            assert!(bytes.len() + ENVELOPE_HEADER <= MAX_ENVELOPE);
            assert_eq!(ClientHello::decode(&bytes), Ok(hello));
        }
    }
}

fn hello_server(body: &[u8]) {
    match ServerHello::decode(body) {
        Err(error) => refused(error, body),
        Ok(hello) => {
            let bytes = hello.encode();
            assert!(bytes.len() + ENVELOPE_HEADER <= MAX_ENVELOPE);
            assert_eq!(ServerHello::decode(&bytes), Ok(hello));
        }
    }
}

/// Both hellos: read from any fields, and made from any limits. The first byte says which.
pub fn hellos(data: &[u8]) {
    let mut source = Source::new(data);
    match source.below(3) {
        0 => hello_client(source.rest()),
        1 => hello_server(source.rest()),
        _ => {
            let mut number = || usize::try_from(source.number()).unwrap_or(usize::MAX);
            let limits = Limits::with(|limits| {
                limits.max_message = number();
                limits.reassembly = number();
                limits.connection_window = number();
                limits.stream_window = number();
                limits.max_requests = number();
                limits.max_streams = number();
                limits.max_request = number();
            });
            let mut client = ClientHello::new([1; 16], [2; 16], &limits);
            client.software = source.text(200);
            client.version = source.text(200);
            let mut server = ServerHello::new([3; 16], &limits);
            server.role = source.text(200);
            server.software = source.text(200);
            hello_client(&client.encode());
            hello_server(&server.encode());
            let once = ClientHello::decode(&client.encode()).expect("our own hello");
            assert_eq!(once.limits.stream_window, limits.stream_window as u64);
            let once = ServerHello::decode(&server.encode()).expect("our own hello");
            assert_eq!(once.max_streams, limits.max_streams.min(u32::MAX as usize));
        }
    }
}

/// An error of a body says where, in its bounds, and can be told to the other side.
fn refused(error: FieldError, body: &[u8]) {
    assert!(error.at <= body.len(), "the error lies behind the body");
    let remote = RemoteError::from(error);
    assert_eq!(
        RemoteError::decode(remote.code, &remote.encode()),
        Ok(remote)
    );
}

/// Fields: read in order and without a gap, typed values have one form, and what was read can be written.
pub fn fields(data: &[u8]) {
    let mut reader = FieldReader::new(data);
    let mut writer = FieldWriter::new();
    let mut read = Vec::new();
    let mut values = 0;
    let ended = loop {
        match reader.next() {
            Ok(Some(field)) => {
                values += field.value.len();
                typed(&field);
                if field.mandatory {
                    writer.must_bytes(field.number, field.value);
                } else {
                    writer.bytes(field.number, field.value);
                }
                read.push((field.number, field.mandatory, field.value));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(values + 2 * read.len() <= data.len(), "values from nowhere");
    assert!(read.is_sorted_by_key(|(number, ..)| *number));
    if let Err(error) = ended {
        refused(error, data);
    }
    // Longer forms of keys and lengths are read too, so that what is written may be shorter, never longer.
    let written = writer.finish();
    assert!(written.len() <= data.len());
    let mut again = FieldReader::new(&written);
    for (number, mandatory, value) in read {
        let field = again.next().expect("well-formed").expect("a field");
        assert_eq!(
            (field.number, field.mandatory, field.value),
            (number, mandatory, value)
        );
    }
    assert!(again.next().expect("well-formed").is_none());
    let _ = Common::decode(data);
}

fn typed(field: &crate::fields::Field<'_>) {
    let first = |write: &dyn Fn(&mut FieldWriter)| {
        let mut writer = FieldWriter::new();
        write(&mut writer);
        let body = writer.finish();
        let mut reader = FieldReader::new(&body);
        reader
            .next()
            .expect("well-formed")
            .expect("a field")
            .value
            .to_vec()
    };
    assert_eq!(field.unknown().is_err(), field.mandatory);
    assert_eq!(field.item(usize::MAX), Ok(field.value));
    if let Some(short) = field.value.len().checked_sub(1) {
        let error = field.item(short).expect_err("too long");
        assert_eq!(error.kind, FieldErrorKind::TooLong(short));
    }
    let twice = match field.bytes(usize::MAX) {
        Ok(value) => {
            assert_eq!(value, field.value);
            false
        }
        Err(error) => {
            assert_eq!(error.kind, FieldErrorKind::Duplicate);
            true
        }
    };
    match field.uint() {
        Ok(value) => {
            assert!(!twice);
            let written = first(&|writer| {
                writer.uint(1, value);
            });
            assert_eq!(written, field.value);
            assert_eq!(field.size(), Ok(value.min(u64::from(u32::MAX)) as usize));
            assert_eq!(field.flag().is_ok(), value < 2);
        }
        Err(_) => {
            assert!(twice || field.value.len() > 8 || field.value[0] == 0);
            assert!(field.flag().is_err() && field.size().is_err());
        }
    }
    if let Ok(text) = field.text(usize::MAX) {
        assert_eq!(text.as_bytes(), field.value);
    }
    if let Ok(value) = field.array::<16>() {
        assert_eq!(value, field.value);
    }
}

/// A request's body: what was read, is written and read again, with the common fields behind it.
fn request<T: Request>(body: &[u8], decode: impl Fn(&[u8]) -> Result<T, FieldError>) -> Option<T> {
    let (read, common) = (decode(body), Common::decode(body));
    let read = match read {
        Err(error) => {
            refused(error, body);
            return None;
        }
        Ok(read) => read,
    };
    let common = match common {
        Err(error) => {
            refused(error, body);
            Common::default()
        }
        Ok(common) => common,
    };
    let bytes = read.encode(&common);
    let again = decode(&bytes).expect("our own request");
    assert_eq!(again.encode(&common), bytes);
    assert_eq!(Common::decode(&bytes), Ok(common));
    Some(read)
}

/// A response's body, likewise.
fn response<T: Debug + PartialEq>(
    body: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FieldError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    match decode(body) {
        Err(error) => {
            refused(error, body);
            None
        }
        Ok(read) => {
            assert_eq!(decode(&encode(&read)).as_ref(), Ok(&read));
            Some(read)
        }
    }
}

/// First bytes from here on mean requests and responses about channels. Others keep what they meant before there were
/// any, and with them the corpus.
const CHANNEL_OPS: u8 = 0xf0;

/// Every operation's request and response. The first byte says which.
pub fn ops(data: &[u8]) {
    let Some((which, body)) = data.split_first() else {
        return;
    };
    if let Some(which) = which.checked_sub(CHANNEL_OPS) {
        return channel_ops(which % 8, body);
    }
    match which % 9 {
        0 => {
            if let Some(start) = request(body, StartRequest::decode) {
                let texts = start.module.len() + start.entrypoint.len();
                assert!(texts <= body.len(), "text from nowhere");
                assert!(start.args.len() <= MAX_ARGUMENTS);
                check(&start.signature, &start.args, start.log_uri.as_deref());
            }
        }
        1 => {
            let _ = request(body, |body| {
                decode_target(body).map(|target| StopRequest { target })
            });
        }
        2 => {
            let _ = request(body, |body| {
                decode_target(body).map(|target| InspectRequest { target })
            });
        }
        3 => {
            if let Some(list) = request(body, ListRequest::decode) {
                assert_eq!(
                    ListRequest::decode(&list.encode(&Common::default())),
                    Ok(list)
                );
            }
        }
        4 => {
            if let Some(follow) = request(body, FollowRequest::decode) {
                let bytes = follow.encode(&Common::default());
                assert_eq!(FollowRequest::decode(&bytes), Ok(follow));
            }
        }
        5 => drop(response(body, ProcessRef::decode, ProcessRef::encode)),
        6 => {
            if let Some(list) = response(body, ProcessList::decode, ProcessList::encode) {
                assert!(list.processes.len() <= MAX_LIST);
            }
            drop(response(body, ProcessInfo::decode, ProcessInfo::encode));
        }
        7 => drop(response(body, FollowStarted::decode, FollowStarted::encode)),
        _ => drop(response(body, ServerInfo::decode, ServerInfo::encode)),
    }
}

/// A request's body whose fields can be compared.
fn exact<T: Request + Debug + PartialEq>(
    body: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FieldError>,
) -> Option<T> {
    let read = request(body, &decode)?;
    assert_eq!(decode(&read.encode(&Common::default())).as_ref(), Ok(&read));
    Some(read)
}

fn channel_ops(which: u8, body: &[u8]) {
    match which {
        0 => {
            if let Some(create) = exact(body, CreateRequest::decode) {
                assert!((1..=MAX_CAPACITY).contains(&create.capacity));
                assert!(create.name.is_none_or(|name| name.len() <= MAX_NAME));
            }
        }
        1 => {
            let target = |body: &[u8]| decode_target(body);
            drop(exact(body, |body| {
                target(body).map(|target| DeleteRequest { target })
            }));
            drop(exact(body, |body| {
                target(body).map(|target| DrainRequest { target })
            }));
            drop(exact(body, |body| {
                target(body).map(|target| ShareRequest { target })
            }));
            drop(exact(body, |body| {
                target(body).map(|target| InspectChannelRequest { target })
            }));
        }
        2 => drop(exact(body, ListChannelsRequest::decode)),
        3 => drop(exact(body, SubscribeRequest::decode)),
        4 => drop(exact(body, PublishRequest::decode)),
        5 => {
            if let Some(list) = response(body, ChannelList::decode, ChannelList::encode) {
                assert!(list.channels.len() <= MAX_LIST);
            }
            drop(response(body, ChannelInfo::decode, ChannelInfo::encode));
        }
        6 => drop(response(
            body,
            SubscribeStarted::decode,
            SubscribeStarted::encode,
        )),
        _ => drop(response(
            body,
            PublishStarted::decode,
            PublishStarted::encode,
        )),
    }
}

/// Errors: read from any fields, and made from any texts. The first two bytes are the code.
pub fn errors(data: &[u8]) {
    let mut source = Source::new(data);
    let code = ErrorCode::from_wire(u64::from(source.word()));
    assert_eq!(ErrorCode::from_wire(u64::from(code.to_wire())), code);

    let body = source.clone().rest();
    match RemoteError::decode(code, body) {
        Err(error) => refused(error, body),
        Ok(error) => {
            let bytes = error.encode();
            assert!(bytes.len() <= MAX_ERROR_MESSAGE + MAX_ERROR_FIELD + 40);
            assert!(error.to_string().contains(&error.message));
            assert_eq!(RemoteError::decode(code, &bytes), Ok(error));
        }
    }

    let limit = source.len(2 * MAX_ERROR_MESSAGE);
    let text = String::from_utf8_lossy(source.rest());
    let start = clip(&text, limit);
    assert!(start.len() <= limit && text.starts_with(start));
    assert!(
        start.len() == text.len() || start.len() + 4 > limit,
        "cut too short"
    );
    let error = RemoteError::new(code, text.as_ref())
        .with_field(text.as_ref())
        .with_limit(limit as u64);
    assert!(error.message.len() <= MAX_ERROR_MESSAGE);
    assert_eq!(RemoteError::decode(code, &error.encode()), Ok(error));
}

/// Arguments of an entrypoint: one form each, and checked as the signature says. The first byte says how many.
pub fn arguments(data: &[u8]) {
    let mut source = Source::new(data);
    let name = String::from_utf8_lossy(data);
    if let Ok(capability) = name.parse::<Capability>() {
        assert_eq!(capability.name().parse(), Ok(capability));
    }
    let count = usize::from(source.byte());
    let mut kinds = Vec::new();
    let mut args = Vec::new();
    for _ in 0..count {
        if source.is_empty() {
            break;
        }
        kinds.extend(AbiParam::from_wire(source.byte()));
        let len = source.len(usize::MAX);
        let bytes = source.bytes(len);
        let arg = EntrypointArg::decode(bytes);
        if let Some(arg) = &arg {
            assert_eq!(arg.encode(), bytes, "an argument has one form");
        }
        args.extend(arg);
    }
    if let Some(arg) = EntrypointArg::decode(source.clone().rest()) {
        assert_eq!(arg.encode(), source.clone().rest());
    }
    for kind in &kinds {
        assert_eq!(AbiParam::from_wire(kind.to_wire()), Some(*kind));
        assert!(!kind.to_string().is_empty());
    }
    let log_uri = source.flag().then(|| source.text(2_000));
    let signature = AbiSignature::new(kinds, vec![]);
    check(&signature, &args, log_uri.as_deref());
}

/// Holds the check of arguments against a plainer one.
fn check(signature: &AbiSignature, args: &[EntrypointArg], log_uri: Option<&str>) {
    let result = check_arguments(signature, args, log_uri);
    let many = [
        args.len(),
        signature.params().len(),
        signature.results().len(),
    ];
    let bytes = args.iter().fold(log_uri.map_or(0, str::len), |sum, arg| {
        sum + match arg {
            EntrypointArg::Buffer(bytes) => bytes.len(),
            _ => 0,
        }
    });
    let fits = |(param, arg): (&AbiParam, &EntrypointArg)| match arg {
        EntrypointArg::Buffer(_) => *param == AbiParam::Buffer,
        EntrypointArg::Scalar(value) => *param == AbiParam::Scalar(value.kind()),
        EntrypointArg::Resource(_) => [AbiScalarType::I32, AbiScalarType::U64]
            .map(AbiParam::Scalar)
            .contains(param),
    };
    let expected = many.iter().all(|many| *many <= MAX_ARGUMENTS)
        && bytes <= MAX_ARGUMENT_BYTES
        && signature.params().len() == args.len()
        && signature.params().iter().zip(args).all(fits);
    assert_eq!(result.is_ok(), expected, "{result:?}");
    if let Err(ArgumentError::Type { index, .. }) = result {
        assert!((1..=args.len()).contains(&index));
    }
}

/// The answer to a client of version 0.3.3: a buffer that a FlatBuffers reader can follow, whatever the message.
pub fn legacy(data: &[u8]) {
    let message = String::from_utf8_lossy(data);
    let response = legacy_format::error_response(&message);
    let u32_at = |at: usize| -> usize {
        let bytes: [u8; 4] = response[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    };
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([response[at], response[at + 1]]));
    assert!(
        response.len() <= 1_000,
        "a client of 0.3.3 reads 1,024 bytes"
    );
    assert_eq!(u32_at(0) + 4, response.len());
    assert_eq!(ServerEnvelope::decode(&response), Envelope::Legacy);
    assert_eq!(ClientEnvelope::decode(&response[4..]), Envelope::Legacy);
    // Root, payload, text; places in the buffer are counted behind the length.
    let root = 4 + u32_at(4);
    let field = root + u16_at(root - u32_at(root) + 6);
    let error = field + u32_at(field);
    let field = error + u16_at(error - u32_at(error) + 4);
    let text = field + u32_at(field);
    let len = u32_at(text);
    let said = core::str::from_utf8(&response[text + 4..text + 4 + len]).expect("text");
    assert!(message.starts_with(said));
    assert_eq!(response[text + 4 + len], 0, "strings end with a zero");
}
