//! `selium logs`, and the second half of `selium start --attach`.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use selium_remote_client::{LogItem, LogOptions, LogState, LogStream, Process};

use super::check_target;
use crate::args::LogsArgs;
use crate::failure::{Action, Failure};
use crate::interrupt::Stage;
use crate::render::process::{full_id, short_id};
use crate::render::{escape, record};
use crate::session::Session;

/// How long a log may be quiet at first before we say that we wait.
const QUIET: Duration = Duration::from_secs(2);

/// Shows the log of a process.
pub(super) async fn run(session: &Session, args: LogsArgs) -> Result<(), Failure> {
    check_target("logs", &args.target)?;
    let client = session.connect().await?;
    let mut options = LogOptions::default().follow(args.follow);
    if let Some(tail) = args.tail {
        options = options.tail(tail);
    }
    if let Some(since) = args.since_seq {
        options = options.since(since);
    }
    let stream = client
        .logs(&args.target, options)
        .await
        .map_err(Failure::client(Action::Logs(args.target)))?;
    if args.follow {
        session.enter(Stage::Following(None));
    }
    show(session, stream, args.follow).await
}

/// What Ctrl-C means while we are attached to a process.
pub(super) fn attached(name: &str, id: u64) -> Stage {
    let id = full_id(id);
    Stage::Following(Some(format!(
        "detached from {} ({id}); it goes on running; stop it with `selium stop {id}`",
        escape::line(name)
    )))
}

/// Shows the log of a process that was just started, until Ctrl-C.
pub(super) async fn attach(
    session: &Session,
    process: &Process,
    name: &str,
) -> Result<(), Failure> {
    let stream = process
        .logs(LogOptions::default().follow(true))
        .await
        .map_err(Failure::client(Action::Logs(name.to_owned())))?;
    show(session, stream, true).await
}

async fn show(session: &Session, stream: LogStream, follow: bool) -> Result<(), Failure> {
    let name = stream.name().to_owned();
    let mut stream = pin!(stream);
    let label = format!("{name} ({})", short_id(stream.process().0));
    let mut quiet = pin!(tokio::time::sleep(QUIET));
    // Whether nothing has come so far and nothing was said about that.
    let mut waiting = follow;
    let mut any = false;
    loop {
        tokio::select! {
            biased;
            item = stream.next() => {
                let Some(item) = item else { break };
                let item = match item {
                    Ok(item) => item,
                    Err(error) => {
                        let id = full_id(stream.process().0);
                        let follow = if follow { " --follow" } else { "" };
                        let position = stream.position();
                        let rest = format!("selium logs{follow} --since-seq {position} {id}");
                        return Err(Failure::Log { name, error: Box::new(error), rest });
                    }
                };
                (waiting, any) = (false, true);
                say(session, stream.process().0, item).await?;
            }
            () = quiet.as_mut(), if waiting => {
                waiting = false;
                let text = format!("waiting for logs of {label}; Ctrl-C ends this command, not the process");
                session.output.note(&text).await;
            }
        }
    }
    if follow {
        let why = stream.end_reason().unwrap_or("the server gave no reason");
        session
            .output
            .note(&format!("the log of {label} ended: {why}"))
            .await;
    } else if !any {
        let text = match stream.log_state() {
            LogState::None => {
                format!("{label} has no log: logging needs ChannelLifecycle and ChannelWriter")
            }
            LogState::Waiting => format!("{label} has not written to its log yet"),
            _ => format!("the server has no such records of {label}"),
        };
        session.output.note(&text).await;
    }
    Ok(())
}

/// Prints one item.
async fn say(session: &Session, process: u64, item: LogItem) -> Result<(), Failure> {
    let output = &session.output;
    let json = output.is_json();
    match item {
        LogItem::Record { sequence, record } if json => {
            output.data(record::json(process, sequence, &record)).await
        }
        LogItem::Record { record, .. } => output.data(record::text(&record, output.color())).await,
        LogItem::Gap { next, count } if json => {
            output.data(record::gap_json(process, count, next)).await
        }
        LogItem::Gap { count, .. } => {
            output.note(&record::gap_text(count)).await;
            Ok(())
        }
        LogItem::Unreadable {
            sequence,
            error,
            bytes,
        } if json => {
            output
                .data(record::unreadable_json(
                    process,
                    sequence,
                    error.to_string(),
                    &bytes,
                ))
                .await
        }
        LogItem::Unreadable {
            sequence,
            error,
            bytes,
        } => {
            output
                .note(&record::unreadable_text(
                    sequence,
                    &error.to_string(),
                    &bytes,
                ))
                .await;
            Ok(())
        }
        // An item of a later version of the library.
        _ => Ok(()),
    }
}
