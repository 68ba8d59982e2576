//! What all of the library's surface promises: it goes between threads, and it is documented.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and functions of which only the types count"
)]

use std::{fs, path::Path, time::Duration};

use selium_remote_client::*;

/// For everything that can be held, in a struct, over an await, in another thread.
const fn shared<T: Send + Sync + Unpin + 'static>() {}

const _: () = {
    // Handles.
    shared::<Client>();
    shared::<Channel>();
    shared::<Process>();
    shared::<Publisher>();
    shared::<Subscriber>();
    shared::<LogStream>();
    shared::<ConnectionEvents>();
    // What they are made with.
    shared::<ClientConfigBuilder>();
    shared::<Reconnect>();
    shared::<ChannelBuilder>();
    shared::<ProcessBuilder>();
    shared::<PublishOptions>();
    shared::<SubscribeOptions>();
    shared::<LogOptions>();
    shared::<CertificateDirectory>();
    // What they give.
    shared::<Server>();
    shared::<ServerInfo>();
    shared::<ProcessInfo>();
    shared::<ProcessState>();
    shared::<LogState>();
    shared::<ChannelInfo>();
    shared::<ChannelState>();
    shared::<ProcessId>();
    shared::<ChannelId>();
    shared::<LogItem>();
    shared::<LogRecord>();
    shared::<LogField>();
    shared::<LogSpan>();
    shared::<LogLevel>();
    shared::<SubscribeItem>();
    shared::<ConnectionEvent>();
    shared::<ConnectionState>();
    shared::<CertificateWarning>();
    // Errors.
    shared::<ClientError>();
    shared::<ErrorKind>();
    shared::<ErrorCode>();
    shared::<RemoteError>();
    shared::<InvalidArgument>();
    shared::<MessageLimit>();
    shared::<ConnectFailure>();
    shared::<ConnectCause>();
    shared::<CertificateRejection>();
    shared::<CertificateError>();
    shared::<Closed>();
    shared::<CloseReason>();
    shared::<GaveUp>();
    shared::<PublicationFailure>();
    shared::<ArgumentError>();
    shared::<LogRecordError>();
    // Values.
    shared::<AbiParam>();
    shared::<AbiScalarType>();
    shared::<AbiScalarValue>();
    shared::<AbiSignature>();
    shared::<EntrypointArg>();
    shared::<Capability>();
    shared::<CapabilitySet>();
    shared::<Backpressure>();
    shared::<Weight>();
};

/// Every future can be spawned.
fn futures_go_between_threads(client: Client, publisher: &mut Publisher, log: &mut LogStream) {
    fn is<T: Send>(_: T) {}
    let config = ClientConfigBuilder::default();
    is(config.connect());
    is(Client::connect());
    is(client.info());
    is(client.ping());
    is(client.processes(true));
    is(client.process("x"));
    is(client.inspect("x"));
    is(client.stop("x"));
    is(client.logs("x", LogOptions::new()));
    is(client.channels());
    is(client.inspect_channel("x"));
    is(client.delete_channel("x"));
    is(client.drain_channel("x"));
    is(client.share_channel("x"));
    is(client.publish("x", PublishOptions::new()));
    is(client.subscribe("x", SubscribeOptions::new()));
    is(Process::start(&client, ProcessBuilder::new("x", "x")));
    let process = Process::new(&client, 1);
    is(process.inspect());
    is(process.logs(LogOptions::new()));
    is(process.log_channel());
    is(process.stop());
    is(Channel::create(&client, 1));
    is(Channel::find(&client, "x"));
    is(Channel::list(&client));
    is(Channel::subscribe_shared(&client, "x"));
    let channel = Channel::new(&client, 1);
    is(channel.inspect());
    is(channel.drain());
    is(channel.share());
    is(channel.publish());
    is(channel.subscribe(1));
    is(channel.delete());
    is(publisher.send("x"));
    is(publisher.flush());
    is(publisher.ended());
    is(publisher.close());
    is(log.next());
    is(client.events().next());
    is(client.with_timeout(Duration::ZERO).close());
}

/// The texts of the library's files, with their names.
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => sources.push((
                    path.display().to_string(),
                    fs::read_to_string(&path).unwrap(),
                )),
            }
        }
    }
    assert!(sources.len() > 20);
    sources
}

/// The documentation that stands over each public function, with the function's head.
fn functions(text: &str) -> Vec<(String, String)> {
    let mut docs = String::new();
    let mut head: Option<String> = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(mut text) = head.take() {
            text.push_str(line);
            head = Some(text);
        } else if line.starts_with("pub fn ") || line.starts_with("pub async fn ") {
            head = Some(line.to_owned());
        } else if let Some(doc) = line.strip_prefix("///") {
            docs.push_str(doc);
            docs.push('\n');
        } else if !line.starts_with("#[") {
            docs.clear();
        }
        if head.as_ref().is_some_and(|head| head.ends_with('{')) {
            found.push((head.take().unwrap(), std::mem::take(&mut docs)));
        }
    }
    found
}

#[test]
fn what_waits_or_fails_says_how() {
    let mut waiting = 0;
    for (file, text) in sources() {
        for (head, docs) in functions(&text) {
            if head.starts_with("pub async fn") {
                waiting += 1;
                assert!(docs.contains("# Cancel safety"), "{file}: {head}");
            }
            if head.contains("-> Result<") || head.contains("-> Option<Result<") {
                assert!(docs.contains("# Errors"), "{file}: {head}");
            }
        }
    }
    assert!(waiting > 35, "{waiting}");
}

/// The sections of PROTOCOL.md that the documentation names are there, and each operation's file names one.
#[test]
fn sections_that_are_named_exist() {
    let protocol = include_str!("../../docs/PROTOCOL.md");
    let headings: Vec<&str> = protocol
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let mut named = 0;
    for (file, text) in sources() {
        // A line's end may stand in the middle of a name.
        let text = text
            .replace("\n///", "")
            .replace("\n    ///", "")
            .replace("\n//!", "");
        for part in text.split("PROTOCOL.md, ").skip(1) {
            let mut words = part.split('"');
            let before = words.next().unwrap();
            assert!(before.is_empty(), "{file}: PROTOCOL.md, {before}");
            let section = words.next().unwrap();
            assert!(headings.contains(&section), "{file}: {section}");
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
}
