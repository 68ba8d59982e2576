//! Publishes stdin to a channel, a message for each line:
//!
//! ```text
//! selium channel create prices
//! tail -f prices.txt | cargo run --example publish_stdin -- prices
//! ```
//!
//! It reads no faster than the channel takes messages, and ends when the channel has taken the last one. The server is the
//! one that `SELIUM_DOMAIN`, `SELIUM_PORT` and `SELIUM_CERT_DIR` name.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{error::Error, process::ExitCode};

use selium_remote_client::{Client, ClientConfigBuilder, ClientError, PublishOptions, Publisher};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, stdin};

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [channel] = words.as_slice() else {
        eprintln!("usage: publish_stdin CHANNEL");
        return ExitCode::from(2);
    };
    match run(channel).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(channel: &str) -> Result<(), Box<dyn Error>> {
    let client = ClientConfigBuilder::from_env()?.connect().await?;
    let result = publish(&client, channel).await;
    client.close().await;
    result
}

async fn publish(client: &Client, channel: &str) -> Result<(), Box<dyn Error>> {
    // What is sent is held here until the server has acknowledged it, 64 KiB at most.
    let options = PublishOptions::new().backlog(64 * 1024);
    let mut publisher = client.publish(channel, options).await?;
    let read = publish_lines(&mut publisher).await;
    // Until now messages were on their way. When this is ready, the channel has them all.
    let closed = publisher.close().await;
    let taken = publisher.acknowledged().map_or(0, |last| last + 1);
    eprintln!("{taken} messages published");
    if let Err(ClientError::Publication(failure)) = &closed {
        // Nobody knows whether these were. A program that may publish twice sends them again; another one asks a human.
        eprintln!("{} more may have been", failure.unknown.clone().count());
    }
    closed?;
    read
}

async fn publish_lines(publisher: &mut Publisher) -> Result<(), Box<dyn Error>> {
    let mut input = BufReader::new(stdin());
    // Read no more than a message may have, and the line's end, even if none ever comes.
    let longest = publisher.max_message() as u64 + 1;
    loop {
        let mut line = Vec::new();
        let mut rest = (&mut input).take(longest);
        if rest.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.is_empty() {
            continue; // A channel has no empty messages.
        }
        // Waits while the backlog is full: so do this loop, the pipe, and whoever writes to it. A line that is too long is
        // an error, before anything of it is sent.
        publisher.send(line).await?;
    }
}
