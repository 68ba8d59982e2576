//! The `selium` command line.

mod args;
mod arguments;
mod audit_key;
mod commands;
mod diagnostics;
mod failure;
mod framing;
mod gaps;
mod input;
mod interrupt;
mod output;
mod progress;
mod provisioning;
mod render;
mod runtime_line;
mod session;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::args::{Command, Global};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let (global, command) = match args::parse(&words, |name| std::env::var_os(name)) {
        Ok(parsed) => parsed,
        Err(error) => return wrong_line(&error, &words),
    };
    let format = global.log_format;
    start(global, command).unwrap_or_else(|error| {
        let failure = Failure::Local(format!("cannot begin: {error}"));
        complain(&failure.render(format).unwrap_or_default());
        failure.code()
    })
}

/// Sets everything up and runs the command.
fn start(global: Global, command: Command) -> io::Result<ExitCode> {
    let complaint = diagnostics::start(global.verbose, global.log_format);
    let interrupt = Interrupt::start()?;
    let output = Output::start(global.log_format)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(run(global, command, output, interrupt, complaint));
    // A name that is still being resolved must not hold the end up.
    runtime.shutdown_background();
    Ok(code)
}

/// Runs the command until it is done or interrupted, says how it ended, and takes leave.
async fn run(
    global: Global,
    command: Command,
    output: Output,
    interrupt: Interrupt,
    complaint: Option<String>,
) -> ExitCode {
    let session = Session::new(global, output, interrupt.clone());
    let result = tokio::select! {
        biased;
        () = interrupt.cut() => None,
        result = async {
            if let Some(complaint) = &complaint {
                session.output.warning(complaint).await;
            }
            commands::run(&session, command).await
        } => Some(result),
    };
    match result {
        // It ended by itself because of that.
        Some(result) if interrupt.is_pressed() => leave(session, &interrupt, result, None).await,
        Some(result) => {
            let failed = result.as_ref().err().map(Failure::code);
            tokio::select! {
                biased;
                // What was to be said may not have been read.
                () = interrupt.pressed() => failed.unwrap_or_else(|| code(&interrupt.outcome().0)),
                code = finish(session, result) => code,
            }
        }
        None => {
            let (result, note) = interrupt.outcome();
            leave(session, &interrupt, result, note).await
        }
    }
}

/// Takes leave in haste. The last words do not go through the writer, which may be stuck; should stderr be stuck too,
/// the thread that waits for Ctrl-C ends the process.
async fn leave(
    session: Session,
    interrupt: &Interrupt,
    result: Result<(), Failure>,
    note: Option<String>,
) -> ExitCode {
    let (client, output) = session.split();
    let format = output.format();
    let goodbye = async {
        if let Some(client) = client {
            client.close().await;
        }
    };
    let leave = async { tokio::join!(goodbye, output.finish()) };
    // Whether all of it came through no longer matters.
    let _ = tokio::time::timeout(interrupt.goodbye(), leave).await;
    if let Some(note) = note {
        complain(&output::note(format, &note));
    }
    if let Some(text) = result
        .as_ref()
        .err()
        .and_then(|failure| failure.render(format))
    {
        complain(&text);
    }
    code(&result)
}

fn code(result: &Result<(), Failure>) -> ExitCode {
    result
        .as_ref()
        .map_or_else(Failure::code, |()| ExitCode::SUCCESS)
}

/// Says what went wrong, takes leave of the server and writes everything out.
async fn finish(session: Session, result: Result<(), Failure>) -> ExitCode {
    if let Err(failure) = &result {
        session.output.failure(failure).await;
    }
    let (client, output) = session.split();
    if let Some(client) = client {
        client.close().await;
    }
    let format = output.format();
    let written = output.finish().await;
    if result.is_ok()
        && let Err(failure) = &written
        && let Some(text) = failure.render(format)
    {
        complain(&text);
    }
    code(&result.and(written))
}

/// Answers a command line that is wrong, or that asks for help or the version.
fn wrong_line(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let variable = std::env::var_os("SELIUM_LOG_FORMAT");
    if error.use_stderr() && args::json_wanted(words, variable.as_deref()) {
        complain(&failure::usage_json(error));
    } else {
        // Nobody may be there to read it.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE))
}

/// Writes to stderr while there is no [`Output`].
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
