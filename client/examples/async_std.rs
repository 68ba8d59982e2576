//! Starts a process and prints its log, on async-std:
//!
//! ```text
//! cargo run --example async_std --no-default-features --features async-std -- hello.wasm start
//! ```
//!
//! The server is the one that `SELIUM_DOMAIN`, `SELIUM_PORT` and `SELIUM_CERT_DIR` name. The only thing about async-std in
//! it is the function that runs the program: on smol that would be `smol::block_on`, and nothing else would change.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::process::ExitCode;

use selium_remote_client::{
    Capability, Client, ClientConfigBuilder, ClientError, LogItem, Process, ProcessBuilder,
};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(module), Some(entrypoint)) = (words.next(), words.next()) else {
        eprintln!("usage: async_std MODULE ENTRYPOINT");
        return ExitCode::from(2);
    };
    match async_std::task::block_on(run(&module, &entrypoint)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(module: &str, entrypoint: &str) -> Result<(), ClientError> {
    let client = ClientConfigBuilder::from_env()?.connect().await?;
    let result = start_and_follow(&client, module, entrypoint).await;
    client.close().await;
    result
}

async fn start_and_follow(
    client: &Client,
    module: &str,
    entrypoint: &str,
) -> Result<(), ClientError> {
    // A process needs these two to log anything.
    let builder = ProcessBuilder::new(module, entrypoint)
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter);
    let process = Process::start(client, builder).await?;
    eprintln!("started {}", process.id());

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
