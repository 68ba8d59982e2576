//! What `tracing` is told: a span for each client, connection and call, and no secrets, at any level.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    Server,
    runtime::{apply, runtime_test},
    soon,
    world::World,
};
use selium_remote_client::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Channel, ChannelBuilder, Client,
    ConnectionEvent, Process, ProcessBuilder, Reconnect, SubscribeItem, SubscribeOptions,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, Registry, layer::Context, prelude::*, registry::LookupSpan};

/// An argument of a process.
const ARGUMENT: &str = "argument-of-the-process-0451";

/// Another one, that is no text.
const BYTES: [u8; 16] = [
    0xde, 0xad, 0xbe, 0xef, 0x0b, 0xad, 0xf0, 0x0d, 0xfe, 0xed, 0xfa, 0xce, 0xca, 0xfe, 0xba, 0xbe,
];

/// A number that nothing else has.
const NUMBER: u64 = 0x5eed_cafe_1234_5678;

/// A message.
const MESSAGE: &str = "message-on-the-channel-8128";

/// The fields of a span or an event, as texts.
#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// A span, with what was recorded later.
#[derive(Clone, Debug)]
struct Seen {
    name: &'static str,
    fields: Fields,
}

#[derive(Debug, Default)]
struct Log {
    /// Of this library.
    spans: BTreeMap<u64, Seen>,
    /// Events of this library and its transport, with the names and numbers of the spans that they lie in.
    events: Vec<(String, Vec<(&'static str, String)>)>,
    /// Everything that anybody said, at any level.
    said: String,
}

#[derive(Clone, Debug, Default)]
struct Capture(Arc<Mutex<Log>>);

impl Capture {
    fn say(&self, what: &str, fields: &Fields) {
        writeln!(self.0.lock().unwrap().said, "{what} {fields:?}").unwrap();
    }
}

fn is_ours(target: &str) -> bool {
    target.starts_with("selium_remote")
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let name = attributes.metadata().name();
        self.say(name, &fields);
        if is_ours(attributes.metadata().target()) {
            let seen = Seen { name, fields };
            self.0.lock().unwrap().spans.insert(id.into_u64(), seen);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.say("recorded", &fields);
        if let Some(seen) = self.0.lock().unwrap().spans.get_mut(&id.into_u64()) {
            seen.fields.0.extend(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = event.metadata().target();
        self.say(target, &fields);
        if is_ours(target) {
            let message = fields.0.get("message").cloned().unwrap_or_default();
            let mut log = self.0.lock().unwrap();
            let scope = context.event_scope(event).into_iter().flatten();
            let scope = scope.map(|span| {
                let seen = log.spans.get(&span.id().into_u64());
                let number = seen.and_then(|seen| seen.fields.0.get("number"));
                (span.name(), number.cloned().unwrap_or_default())
            });
            let scope = scope.collect();
            log.events.push((message, scope));
        }
    }
}

impl Log {
    /// The spans of this name, as their fields.
    fn spans(&self, name: &str) -> Vec<&BTreeMap<&'static str, String>> {
        let spans = self.spans.values().filter(|seen| seen.name == name);
        spans.map(|seen| &seen.fields.0).collect()
    }

    /// The calls of an operation.
    fn calls(&self, operation: &str) -> Vec<&BTreeMap<&'static str, String>> {
        let calls = self.spans("call").into_iter();
        calls
            .filter(|call| call["operation"] == operation)
            .collect()
    }

    /// The spans around each event with this message.
    fn around(&self, message: &str) -> Vec<&Vec<(&'static str, String)>> {
        let events = self.events.iter().filter(|(said, _)| said == message);
        events.map(|(_, scope)| scope).collect()
    }
}

/// What bytes look like to whoever finds them in a log.
fn faces(bytes: &[u8]) -> Vec<String> {
    let mut faces = vec![
        bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes.iter().map(|byte| format!("{byte:02X}")).collect(),
        format!("{bytes:?}").trim_matches(['[', ']']).to_owned(),
        bytes.escape_ascii().to_string(),
    ];
    faces.extend(String::from_utf8(bytes.to_vec()));
    faces
}

async fn next_message(subscriber: &mut selium_remote_client::Subscriber) -> Vec<u8> {
    loop {
        match soon(subscriber.next()).await {
            Some(Ok(SubscribeItem::Message { payload, .. })) => return payload.to_vec(),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// All that carries something which nobody else should see.
async fn exchange(client: &Client, world: &World) {
    let mut events = client.events();
    let builder = ProcessBuilder::new("hello.wasm", "start")
        .name("greeter")
        .log_uri("log-uri-of-the-process")
        .signature(AbiSignature::new(
            vec![
                AbiParam::Buffer,
                AbiParam::Buffer,
                AbiParam::Scalar(AbiScalarType::U64),
            ],
            vec![],
        ))
        .arg_utf8(ARGUMENT)
        .arg_buffer(BYTES)
        .arg_scalar(AbiScalarValue::U64(NUMBER));
    soon(Process::start(client, builder)).await.unwrap();
    let jobs = ChannelBuilder::new(65_536).name("jobs");
    let jobs = soon(Channel::create_with(client, jobs)).await.unwrap();
    let options = SubscribeOptions::new().lossless(true);
    let mut subscriber = soon(jobs.subscribe_with(options)).await.unwrap();
    let mut publisher = soon(jobs.publish()).await.unwrap();
    for message in [MESSAGE.as_bytes().to_vec(), BYTES.to_vec()] {
        soon(publisher.send(message.clone())).await.unwrap();
        soon(publisher.flush()).await.unwrap();
        assert_eq!(next_message(&mut subscriber).await, message);
    }
    // Once more over another connection.
    world.state().sever();
    while !matches!(
        soon(events.next()).await.unwrap(),
        ConnectionEvent::Connected { again: true, .. }
    ) {}
    soon(publisher.send(MESSAGE)).await.unwrap();
    soon(publisher.close()).await.unwrap();
    assert_eq!(next_message(&mut subscriber).await, MESSAGE.as_bytes());
    soon(client.info()).await.unwrap();
}

/// The only test here: whoever subscribes does so for the whole process.
#[apply(runtime_test!)]
async fn spans_tell_what_is_going_on_and_nothing_else() {
    let capture = Capture::default();
    let registry = Registry::default().with(capture.clone());
    tracing::subscriber::set_global_default(registry).unwrap();

    let server = Server::new();
    let world = World::new(&server);
    let reconnect = Reconnect::new()
        .delay(Duration::from_millis(2))
        .max_delay(Duration::from_millis(8));
    let outer = tracing::info_span!("outer");
    let config = server.config().reconnect(reconnect);
    let connecting = tracing::Instrument::instrument(config.connect(), outer);
    let client = soon(connecting).await.unwrap();
    exchange(&client, &world).await;
    let address = client.server().address.to_string();
    let session = world.state().session.unwrap();
    soon(client.close()).await;

    // A directory whose files are not what they should be: they are not quoted either.
    let key = std::fs::read_to_string(server.directory.path().join("client.key")).unwrap();
    std::fs::write(server.directory.path().join("ca.crt"), &key).unwrap();
    let error = soon(server.config().connect()).await.unwrap_err();

    let log = capture.0.lock().unwrap();
    let domain = format!("localhost:{}", server.endpoint.local_addr().unwrap().port());
    let clients = log.spans("client");
    assert!(clients.iter().any(|span| span["server"] == domain));
    let connections = log.spans("connection");
    let of = |number: &str| {
        let found = connections
            .iter()
            .find(|span| span["number"] == number && span.contains_key("role"));
        found.unwrap_or_else(|| panic!("connection {number}: {connections:?}"))
    };
    for number in ["1", "2"] {
        let span = of(number);
        assert_eq!((&span["server"], &span["address"]), (&domain, &address));
        assert_eq!(span["role"], client_role());
        assert!(span.contains_key("attempt"));
    }

    let start = &log.calls("process start")[0];
    assert_eq!(
        (start["target"].as_str(), start["connection"].as_str()),
        ("hello.wasm", "1")
    );
    assert!(start["request"].parse::<u64>().unwrap() > 0);
    assert_eq!(log.calls("channel create")[0]["target"], "jobs");
    // Each goes on over the second connection, in a call of its own.
    for operation in ["publish", "subscribe"] {
        let calls = log.calls(operation);
        let connections: Vec<&str> = calls
            .iter()
            .map(|call| call["connection"].as_str())
            .collect();
        assert_eq!(connections, ["1", "2"], "{operation}: {calls:?}");
        assert!(calls.iter().all(|call| call.contains_key("target")));
    }
    assert!(!log.calls("server info")[0].contains_key("target"));

    // The task that drives a connection says what it says within that connection's span, and not in that of whoever
    // happened to connect.
    let ends = log.around("connection over");
    for number in ["1", "2"] {
        let scope = vec![("connection", number.to_owned())];
        assert!(ends.contains(&&scope), "{number}: {ends:?}");
    }
    let lost = log.around("the connection was lost, it is being made again");
    assert_eq!(lost, [&vec![("client", String::new())]]);

    // The subscriber heard of everything, and of nothing that is secret.
    for said in ["quinn", "connected", "goes on"] {
        assert!(log.said.contains(said), "{said}");
    }
    let mut secrets: Vec<String> = [ARGUMENT.as_bytes(), &BYTES, MESSAGE.as_bytes(), &session]
        .iter()
        .flat_map(|bytes| faces(bytes))
        .collect();
    secrets.extend([
        NUMBER.to_string(),
        format!("{NUMBER:x}"),
        "log-uri-of".to_owned(),
    ]);
    let lines = key.lines().filter(|line| !line.starts_with("---"));
    secrets.extend(lines.map(str::to_owned));
    secrets.push("PRIVATE KEY".to_owned());
    assert!(secrets.len() > 20);
    for secret in &secrets {
        assert!(!log.said.contains(secret), "{secret}");
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

/// The role that the server of these tests gives.
fn client_role() -> String {
    common::hello(&selium_remote_client_protocol::Limits::default()).role
}
