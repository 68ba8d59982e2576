//! Keeps a process running and prints its log, whatever happens to the connection and to the server:
//!
//! ```text
//! cargo run --example reconnect -- greeter hello.wasm start
//! ```
//!
//! It ends when somebody stops the process (`selium stop greeter`). The server is the one that `SELIUM_DOMAIN`,
//! `SELIUM_PORT` and `SELIUM_CERT_DIR` name.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{error::Error, process::ExitCode, time::Duration};

use selium_remote_client::{
    Capability, Client, ClientConfigBuilder, ClientError, ConnectionEvent, ConnectionEvents,
    LogItem, Process, ProcessBuilder, Reconnect,
};

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, module, entrypoint] = words.as_slice() else {
        eprintln!("usage: reconnect NAME MODULE ENTRYPOINT");
        return ExitCode::from(2);
    };
    match run(name, module, entrypoint).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(name: &str, module: &str, entrypoint: &str) -> Result<(), Box<dyn Error>> {
    // Lost connections are made again by default; this waits for less time between attempts. `Reconnect::never()` is for
    // programs that something else restarts. The first connection is tried once, in any case.
    let client = ClientConfigBuilder::from_env()?
        .reconnect(Reconnect::new().max_delay(Duration::from_secs(2)))
        .connect()
        .await?;
    // To watch is optional, and keeps nothing alive.
    let watching = tokio::spawn(watch(client.events()));
    let result = keep_running(&client, name, module, entrypoint).await;
    client.close().await;
    watching.await?;
    Ok(result?)
}

/// Says what happens to the connection.
async fn watch(mut events: ConnectionEvents) {
    while let Some(event) = events.next().await {
        match event {
            ConnectionEvent::Connected { again: false, .. } => eprintln!("connected"),
            ConnectionEvent::Connected { .. } => eprintln!("connected again"),
            ConnectionEvent::Lost { reason } => eprintln!("connection lost: {reason}"),
            ConnectionEvent::Retrying { attempt, after, .. } => {
                eprintln!("attempt {attempt} in {} ms", after.as_millis());
            }
            // Ids are void now: of processes, of channels, and what was made of them.
            ConnectionEvent::NewIncarnation { .. } => eprintln!("the server was restarted"),
            // Such as refused certificates: what trying again does not change.
            ConnectionEvent::GaveUp { error } => eprintln!("not connected again: {error}"),
            _ => {}
        }
    }
}

async fn keep_running(
    client: &Client,
    name: &str,
    module: &str,
    entrypoint: &str,
) -> Result<(), ClientError> {
    loop {
        let process = start(client, name, module, entrypoint).await?;
        eprintln!("started {process}");
        match follow(&process).await {
            // With the server went its processes.
            Err(ClientError::NewIncarnation { .. }) => {}
            result => return result,
        }
    }
}

async fn start(
    client: &Client,
    name: &str,
    module: &str,
    entrypoint: &str,
) -> Result<Process, ClientError> {
    let builder = ProcessBuilder::new(module, entrypoint)
        .name(name)
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter);
    match Process::start(client, builder).await {
        // When the connection is lost meanwhile, the client asks the same server again, which never starts it twice. What
        // is left is a server that does not know any more: then look before you start another.
        Err(error) if error.is_outcome_unknown() => client.process(name).await,
        result => result,
    }
}

async fn follow(process: &Process) -> Result<(), ClientError> {
    // The stream goes on by itself over the next connection, behind the last record that was read. What the server
    // could not keep until then is a gap.
    let mut log = process.log_channel().await?;
    while let Some(item) = log.next().await {
        match item? {
            LogItem::Record { record, .. } => println!("{} {}", record.level, record.message),
            LogItem::Gap { .. } => eprintln!("some records are missing here"),
            _ => {}
        }
    }
    eprintln!("{}", log.end_reason().unwrap_or("the log ended"));
    Ok(())
}
