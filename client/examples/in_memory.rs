//! Tests an application against a server in memory: no Selium runtime, no network, no certificates.
//!
//! ```text
//! cargo run --example in_memory --features test-util
//! ```
//!
//! The application is `translate`: it has a process answer requests over two channels. In a project of your own, what
//! `run` does would be tests, with `selium-remote-client` among the development dependencies a second time:
//!
//! ```toml
//! [dev-dependencies]
//! selium-remote-client = { version = "1.0.0-alpha.1", features = ["test-util"] }
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{error::Error, process::ExitCode, time::Duration};

use selium_remote_client::{
    Capability, Channel, Client, ClientError, ErrorCode, LogItem, LogLevel, Process,
    ProcessBuilder, SubscribeItem, SubscribeOptions,
    test_util::{Effect, Guest, InMemoryServer, Operation, ProcessEnd, Refusal, Trap},
};

/// The application: what it is given is an ordinary client.
async fn translate(client: &Client, words: &[&str]) -> Result<Vec<String>, ClientError> {
    let requests = Channel::create(client, 4_096).await?;
    let answers = Channel::create(client, 4_096).await?;
    let translator = ProcessBuilder::new("translator.wasm", "start")
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelReader)
        .capability(Capability::ChannelWriter)
        .arg_channel(&requests)
        .arg_channel(&answers);
    let translator = Process::start(client, translator).await?;
    let lossless = SubscribeOptions::new().lossless(true);
    let mut subscriber = answers.subscribe_with(lossless).await?;
    let mut publisher = requests.publish().await?;
    let mut translated = Vec::new();
    for word in words {
        publisher.send(word.to_string()).await?;
        if let Some(item) = subscriber.next().await
            && let SubscribeItem::Message { payload, .. } = item?
        {
            translated.push(String::from_utf8_lossy(&payload).into_owned());
        }
    }
    publisher.close().await?;
    translator.stop().await?;
    requests.delete().await?;
    answers.delete().await?;
    Ok(translated)
}

/// What the module does that the application starts: it answers each request in capitals, and logs it.
async fn translator(guest: Guest) -> Result<(), Trap> {
    let mut requests = guest.reader(0)?;
    let mut answers = guest.writer(1)?;
    while let Some(request) = requests.read().await? {
        guest.log(LogLevel::Info, String::from_utf8_lossy(&request));
        answers.write(request.to_ascii_uppercase()).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The tests. (The library runs them on each runtime.)
pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let server = InMemoryServer::new();
    server.module("translator.wasm", translator);
    let client = server.connect().await?;

    assert_eq!(translate(&client, &["one", "two"]).await?, ["ONE", "TWO"]);
    let ends: Vec<_> = server.processes().into_iter().map(|p| p.end).collect();
    assert_eq!(ends, [Some(ProcessEnd::Stopped)]);
    assert_eq!(server.snapshot().channels, 0);
    println!("it works, and tidies up");

    // Its log is there to be read, as on every server.
    let mut lines = Vec::new();
    for known in client.processes(true).await? {
        let mut log = client.process(&known.name).await?.log_channel().await?;
        while let Some(item) = log.next().await {
            if let LogItem::Record { record, .. } = item? {
                lines.push(record.message);
            }
        }
    }
    assert_eq!(lines, ["one", "two"]);
    println!("the module logs what it is asked");

    // The start takes effect, and then the connection is lost before it is answered.
    server.lose_next(Effect::Start);
    assert_eq!(translate(&client, &["three"]).await?, ["THREE"]);
    assert_eq!(server.processes().len(), 2, "it was started once");
    println!("a lost connection does no harm");

    server.fail_next(Operation::Start, ErrorCode::ResourceExhausted);
    let error = translate(&client, &["four"]).await;
    let error = error.err().ok_or("there was to be an error")?;
    assert!(error.is_retryable(), "{error}");
    println!("a refused start is told: {error}");

    server.hold(Effect::Start);
    let hasty = client.with_timeout(Duration::from_millis(20));
    let error = translate(&hasty, &["five"]).await;
    let error = error.err().ok_or("there was to be an error")?;
    assert!(error.is_outcome_unknown(), "{error}");
    assert_eq!(server.processes().len(), 3, "it was started all the same");
    server.release();
    println!("a start that takes too long is told: {error}");

    server.refuse_connections(Refusal::Certificate);
    let error = server.connect().await;
    let error = error.err().ok_or("there was to be an error")?;
    assert!(error.is_auth(), "{error}");
    println!("a client that is not welcome is told: {error}");

    client.close().await;
    Ok(())
}
