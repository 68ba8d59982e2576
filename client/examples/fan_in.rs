//! Follows the logs of many processes at once and says whose each record is:
//!
//! ```text
//! cargo run --example fan_in -- ticker-1 ticker-2
//! ```
//!
//! A process is named by its name, its id, or the beginning of its id. Without names, it is all that run now. It goes on
//! until they were all stopped. The server is the one that `SELIUM_DOMAIN`, `SELIUM_PORT` and `SELIUM_CERT_DIR` name.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{error::Error, process::ExitCode};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use selium_remote_client::{
    Client, ClientConfigBuilder, ClientError, ErrorCode, LogItem, LogOptions, LogStream, Process,
};

#[tokio::main]
async fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match run(&names).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(names: &[String]) -> Result<(), Box<dyn Error>> {
    let client = ClientConfigBuilder::from_env()?.connect().await?;
    let result = follow_all(&client, names).await;
    client.close().await;
    Ok(result?)
}

/// A log, and what to call it.
struct Source {
    name: String,
    log: LogStream,
}

impl Source {
    async fn open(process: Process) -> Result<Option<Self>, ClientError> {
        let name = process.name().unwrap_or_default().to_owned();
        match process.logs(LogOptions::new()).await {
            Ok(log) => Ok(Some(Self { name, log })),
            // It was started without the capabilities for a log.
            Err(error) if error.code() == Some(ErrorCode::NotFound) => {
                eprintln!("{name}: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The next item, together with the source: whoever waits for many has to know which one it was.
    async fn next(mut self) -> (Self, Option<Result<LogItem, ClientError>>) {
        let item = self.log.next().await;
        (self, item)
    }
}

async fn processes(client: &Client, names: &[String]) -> Result<Vec<Process>, ClientError> {
    let mut found = Vec::new();
    for name in names {
        found.push(client.process(name).await?);
    }
    if names.is_empty() {
        for info in client.processes(false).await? {
            // By its id: its name may be another's by now.
            let id = Process::new(client, info.id).id();
            found.push(client.process(&id.to_string()).await?);
        }
    }
    Ok(found)
}

async fn follow_all(client: &Client, names: &[String]) -> Result<(), ClientError> {
    // All of them share the one connection. Each has its own share of it and its own credit: a log that is written to all
    // the time neither fills the memory here nor holds up the others.
    let mut waiting = FuturesUnordered::new();
    for process in processes(client, names).await? {
        if let Some(source) = Source::open(process).await? {
            waiting.push(source.next());
        }
    }
    eprintln!("following {} logs", waiting.len());

    while let Some((source, item)) = waiting.next().await {
        let name = &source.name;
        match item {
            Some(Ok(LogItem::Record { record, .. })) => {
                println!("{name}: {} {}", record.level, record.message);
            }
            Some(Ok(LogItem::Gap { .. })) => eprintln!("{name}: some records are missing here"),
            Some(Ok(_)) => {}
            // The end of one is not the end of the others. (When the connection is lost, each of them says so.)
            Some(Err(error)) => {
                eprintln!("{name}: {error}");
                continue;
            }
            None => {
                let reason = source.log.end_reason();
                eprintln!("{name}: {}", reason.unwrap_or("the log ended"));
                continue;
            }
        }
        waiting.push(source.next());
    }
    Ok(())
}
