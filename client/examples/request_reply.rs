//! Asks a process and prints its answers: requests go to it over one channel, answers come back over another.
//!
//! ```text
//! cargo run --example request_reply -- hello "and again"
//! ```
//!
//! The process is the guest `echo` (`guests/echo`), which answers what it is asked. The server is the one that
//! `SELIUM_DOMAIN`, `SELIUM_PORT` and `SELIUM_CERT_DIR` name.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{error::Error, process::ExitCode, time::Duration};

use selium_remote_client::{
    Capability, Channel, Client, ClientConfigBuilder, Process, ProcessBuilder, SubscribeItem,
    SubscribeOptions, Subscriber,
};
use tokio::time::timeout;

/// How many bytes each channel holds; no request and no answer is longer.
const CAPACITY: u32 = 64 * 1024;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let requests: Vec<String> = std::env::args().skip(1).collect();
    if requests.is_empty() {
        eprintln!("usage: request_reply REQUEST...");
        return ExitCode::from(2);
    }
    match run(requests).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(requests: Vec<String>) -> Result<(), Box<dyn Error>> {
    let client = ClientConfigBuilder::from_env()?.connect().await?;
    let result = with_channels(&client, requests).await;
    client.close().await;
    result
}

async fn with_channels(client: &Client, requests: Vec<String>) -> Result<(), Box<dyn Error>> {
    let to_process = Channel::create(client, CAPACITY).await?;
    let from_process = Channel::create(client, CAPACITY).await?;
    let result = with_process(client, &to_process, &from_process, requests).await;
    // Channels live until somebody deletes them, also when this program is gone.
    to_process.delete().await?;
    from_process.delete().await?;
    result
}

async fn with_process(
    client: &Client,
    to_process: &Channel,
    from_process: &Channel,
    requests: Vec<String>,
) -> Result<(), Box<dyn Error>> {
    // Before the process can answer anything. Lossless: should this program be slow, the process waits.
    let lossless = SubscribeOptions::new().lossless(true);
    let mut answers = from_process.subscribe_with(lossless).await?;

    let echo = ProcessBuilder::new("echo.wasm", "echo")
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelReader)
        .capability(Capability::ChannelWriter)
        .arg_channel(to_process)
        .arg_channel(from_process);
    let echo = Process::start(client, echo).await?;
    let result = ask(to_process, &mut answers, requests).await;
    echo.stop().await?;
    result
}

async fn ask(
    to_process: &Channel,
    answers: &mut Subscriber,
    requests: Vec<String>,
) -> Result<(), Box<dyn Error>> {
    let mut publisher = to_process.publish().await?;
    for request in requests {
        // One message each way. Messages keep their order and their boundaries, so that with one process on the other
        // side the next answer is the one to this request. With several, both would carry a number of yours.
        publisher.send(request).await?;
        let answer = timeout(PATIENCE, answers.next()).await;
        match answer.map_err(|_| "no answer: look at the log of the process")? {
            Some(item) => match item? {
                SubscribeItem::Message { payload, .. } => {
                    println!("{}", String::from_utf8_lossy(&payload));
                }
                // Not for a lossless subscriber that reads on.
                other => return Err(format!("an answer is missing: {other:?}").into()),
            },
            None => return Err(answers.end_reason().unwrap_or("no more answers").into()),
        }
    }
    Ok(publisher.close().await?)
}
