//! Starts a process, prints its log, and stops it at Ctrl-C:
//!
//! ```text
//! cargo run --example start_and_follow -- hello.wasm start
//! ```
//!
//! The server is the one that `SELIUM_DOMAIN`, `SELIUM_PORT` and `SELIUM_CERT_DIR` name. Records go to stdout, everything
//! else to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{error::Error, process::ExitCode};

use selium_remote_client::{
    Capability, Client, ClientConfigBuilder, ClientError, LogItem, LogStream, Process,
    ProcessBuilder,
};

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [module, entrypoint] = words.as_slice() else {
        eprintln!("usage: start_and_follow MODULE ENTRYPOINT");
        return ExitCode::from(2);
    };
    match run(module, entrypoint).await {
        Ok(()) => ExitCode::SUCCESS,
        // The text says what, why, and what to do. `Debug`, which `main() -> Result` would print, does not.
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(module: &str, entrypoint: &str) -> Result<(), Box<dyn Error>> {
    let client = ClientConfigBuilder::from_env()?.connect().await?;
    let result = start_and_follow(&client, module, entrypoint).await;
    // A goodbye, also after an error: the server need not wait for a client that is gone.
    client.close().await;
    Ok(result?)
}

async fn start_and_follow(
    client: &Client,
    module: &str,
    entrypoint: &str,
) -> Result<(), ClientError> {
    // A process gets the capabilities that are named here and no others. Without these two it can have no log.
    let builder = ProcessBuilder::new(module, entrypoint)
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter);
    let process = Process::start(client, builder).await?;
    eprintln!("started {process}");

    // Everything from the first record on, however late this comes; then new records as they are written. That goes on
    // when the process has ended, because the runtime does not tell; it ends when somebody stops the process.
    let mut log = process.log_channel().await?;
    let stopped = tokio::select! {
        biased;
        // Without this, Ctrl-C would end this program, and the process would go on.
        _ = tokio::signal::ctrl_c() => process.stop().await,
        printed = print(&mut log) => return printed,
    };
    stopped?;
    // What it logged until then.
    print(&mut log).await
}

/// Prints records up to the end of the log. Dropping the future half-way loses none.
async fn print(log: &mut LogStream) -> Result<(), ClientError> {
    while let Some(item) = log.next().await {
        match item? {
            LogItem::Record { record, .. } => println!("{} {}", record.level, record.message),
            LogItem::Gap { count, .. } => match count {
                Some(count) => eprintln!("{count} records are missing here"),
                // The runtime dropped them, and does not count.
                None => eprintln!("some records are missing here"),
            },
            // A process may write to its log what is no record.
            LogItem::Unreadable { error, .. } => eprintln!("a record cannot be read: {error}"),
            _ => {}
        }
    }
    eprintln!("{}", log.end_reason().unwrap_or("the log ended"));
    Ok(())
}
