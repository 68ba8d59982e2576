//! The commands, one file each.

mod audit;
mod cert;
mod info;
mod inspect;
mod logs;
mod ping;
mod ps;
mod server;
mod start;
mod stop;

use selium_remote_client_protocol::limits::MAX_TARGET;

use crate::args::Command;
use crate::failure::Failure;
use crate::render::escape::quoted;
use crate::session::Session;

/// Runs a command.
///
/// # Errors
/// When it fails; what could not be said yet is in the failure.
pub(crate) async fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(session, args).await,
        Command::Stop(args) => stop::run(session, args).await,
        Command::Ps(args) => ps::run(session, args).await,
        Command::Logs(args) => logs::run(session, args).await,
        Command::Inspect(args) => inspect::run(session, args).await,
        Command::Info(args) => info::run(session, args).await,
        Command::Ping(args) => ping::run(session, args).await,
        Command::Cert(args) => cert::run(session, args).await,
        Command::Server(args) => server::run(session, args).await,
        Command::Audit(args) => audit::run(session, args).await,
    }
}

/// Refuses a text that is empty or past its limit.
fn check_length(command: &str, what: &str, text: &str, limit: usize) -> Result<(), Failure> {
    if text.is_empty() {
        return Err(Failure::usage(command, format!("{what} is empty")));
    }
    if text.len() > limit {
        let message = format!(
            "{what} {} has {} bytes, the limit is {limit}",
            quoted(text),
            text.len()
        );
        return Err(Failure::usage(command, message));
    }
    Ok(())
}

/// Refuses what can name no process.
fn check_target(command: &str, target: &str) -> Result<(), Failure> {
    check_length(command, "the id or name", target, MAX_TARGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert!(check_target("stop", "0123456789abcdef").is_ok());
        assert!(check_target("stop", &"x".repeat(128)).is_ok());
        let message = |target: &str| match check_target("stop", target) {
            Err(Failure::Usage { message, .. }) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message(""), "the id or name is empty");
        assert!(message(&"x".repeat(129)).ends_with("…` has 129 bytes, the limit is 128"));
    }
}
