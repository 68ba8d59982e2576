//! Why a command fails, how that is said, and the exit code.

use std::process::ExitCode;

use selium_remote_client::{ClientError, ErrorCode, ErrorKind};
use serde::Serialize;

use crate::args::Format;
use crate::render::{
    escape::{self, quoted},
    process::full_id,
};

/// The exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;

/// The exit code of a command line that is wrong.
pub(crate) const USAGE: u8 = 2;

/// The exit code of a command that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code when nothing came within `--timeout`, as that of `timeout`.
pub(crate) const TIMED_OUT: u8 = 124;

/// The most causes that are told of one error.
const MAX_CAUSES: usize = 16;

/// What a command was about.
#[derive(Debug)]
pub(crate) enum Action {
    /// Connecting.
    Connect,
    /// Starting this module.
    Start(String),
    /// Stopping this target.
    Stop(String),
    /// Listing processes.
    List,
    /// Telling about this target.
    Inspect(String),
    /// Showing this target's log.
    Logs(String),
    /// Telling about the server.
    Info,
    /// Measuring the round trip.
    Ping,
    /// Something with this channel; the text is empty for none.
    Channel(Channel, String),
}

/// What a command was about that is about channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Create,
    Delete,
    Drain,
    Share,
    List,
    Inspect,
    Find,
    Publish,
    Subscribe,
}

impl Channel {
    fn what(self, target: &str) -> String {
        let verb = match self {
            Self::Create if target.is_empty() => return "cannot create a channel".to_owned(),
            Self::List => return "cannot list the channels".to_owned(),
            Self::Publish => return format!("cannot publish to {}", quoted(target)),
            Self::Subscribe => return format!("cannot subscribe to {}", quoted(target)),
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Drain => "drain",
            Self::Share => "share",
            Self::Inspect => "inspect",
            Self::Find => "find",
        };
        format!("cannot {verb} the channel {}", quoted(target))
    }

    fn changes(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Delete | Self::Drain | Self::Share
        )
    }
}

impl Action {
    fn what(&self) -> String {
        match self {
            Self::Connect => "cannot connect".to_owned(),
            Self::Start(module) => format!("cannot start {}", quoted(module)),
            Self::Stop(target) => format!("cannot stop {}", quoted(target)),
            Self::List => "cannot list the processes".to_owned(),
            Self::Inspect(target) => format!("cannot inspect {}", quoted(target)),
            Self::Logs(target) => format!("cannot show the log of {}", quoted(target)),
            Self::Info => "cannot tell about the server".to_owned(),
            Self::Ping => "no answer from the server".to_owned(),
            Self::Channel(action, target) => action.what(target),
        }
    }

    /// Whether it changes something on the server.
    fn changes(&self) -> bool {
        match self {
            Self::Start(_) | Self::Stop(_) => true,
            Self::Channel(action, _) => action.changes(),
            _ => false,
        }
    }

    /// The command that lists what it may have changed.
    fn list(&self) -> &'static str {
        match self {
            Self::Channel(..) => "selium channel ls",
            _ => "selium ps --all",
        }
    }

    /// What it names and the command that lists these, if it names something.
    fn target(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Stop(_) | Self::Inspect(_) | Self::Logs(_) => Some(("processes", self.list())),
            Self::Channel(Channel::Create | Channel::List, _) => None,
            Self::Channel(..) => Some(("channels", self.list())),
            _ => None,
        }
    }
}

/// Why a command ends other than well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong, found before connecting.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The server or the way to it.
    Client {
        /// What it was about.
        action: Action,
        /// What happened.
        error: Box<ClientError>,
    },
    /// A log broke off.
    Log {
        /// The process's name.
        name: String,
        /// What happened.
        error: Box<ClientError>,
        /// The command that shows the rest.
        rest: String,
    },
    /// A publication or a subscription broke off.
    Broke {
        /// What happened.
        message: String,
        /// Why.
        error: Box<ClientError>,
        /// What to do.
        hint: Option<String>,
    },
    /// Nothing came within `--timeout`.
    TimedOut(String),
    /// This machine, or what it was given to read.
    Local(String),
    /// Nobody reads stdout any more: no reason to say anything.
    BrokenPipe,
    /// Stdout cannot be written.
    Output(String),
    /// Ctrl-C, and what may have happened in spite of it.
    Interrupted(Option<String>),
    /// It was said already.
    Reported,
    /// What was found was said already; this is its exit code.
    Verdict(u8),
}

/// An error as JSON.
#[derive(Serialize)]
struct Json<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

impl Failure {
    /// A wrong command line of the given command.
    pub(crate) fn usage(command: &str, message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            hint: format!("see `selium {command} --help`"),
        }
    }

    /// A failure of the library; to be given to `map_err`.
    pub(crate) fn client(action: Action) -> impl FnOnce(ClientError) -> Self {
        move |error| Self::Client {
            action,
            error: Box::new(error),
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BrokenPipe => 0,
            Self::Usage { .. } => USAGE,
            Self::Interrupted(_) => INTERRUPTED,
            Self::Verdict(code) => *code,
            Self::TimedOut(_) => TIMED_OUT,
            // No server was asked.
            Self::Client {
                action: Action::Connect,
                error,
            } if error.kind() == ErrorKind::InvalidArgument => USAGE,
            Self::Client { .. }
            | Self::Log { .. }
            | Self::Broke { .. }
            | Self::Local(_)
            | Self::Output(_)
            | Self::Reported => FAILED,
        })
    }

    /// What is to be said, if anything.
    pub(crate) fn render(&self, format: Format) -> Option<String> {
        let message = self.message()?;
        let (causes, hints) = (self.causes(), self.hints());
        if format == Format::Json {
            let body = Body {
                kind: &self.kind(),
                code: self
                    .error()
                    .and_then(ClientError::code)
                    .map(ErrorCode::as_str),
                message: &message,
                causes,
                hints,
            };
            return Some(escape::json(&Json { error: body }));
        }
        let mut out = format!("error: {}", escape::lines(&message, "  "));
        for cause in causes {
            out.push_str("\n  caused by: ");
            out.push_str(&escape::lines(&cause, "    "));
        }
        for hint in hints {
            out.push_str("\n  hint: ");
            out.push_str(&escape::lines(&hint, "    "));
        }
        Some(out)
    }

    fn error(&self) -> Option<&ClientError> {
        match self {
            Self::Client { error, .. } | Self::Log { error, .. } | Self::Broke { error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::Log { name, error, .. } => {
                Some(format!("the log of {} broke off: {error}", quoted(name)))
            }
            Self::Usage { message, .. }
            | Self::Broke { message, .. }
            | Self::TimedOut(message)
            | Self::Local(message) => Some(message.clone()),
            Self::Client { action, error } => Some(format!("{}: {error}", action.what())),
            Self::Output(why) => Some(format!("cannot write to stdout: {why}")),
            Self::Interrupted(None) => Some("interrupted".to_owned()),
            Self::Interrupted(Some(what)) => Some(format!("interrupted: {what}")),
            Self::BrokenPipe | Self::Reported | Self::Verdict(_) => None,
        }
    }

    fn kind(&self) -> String {
        match self {
            Self::Usage { .. } => "usage".to_owned(),
            Self::Client { error, .. } | Self::Log { error, .. } | Self::Broke { error, .. } => {
                snake(&format!("{:?}", error.kind()))
            }
            Self::Interrupted(_) => "interrupted".to_owned(),
            Self::TimedOut(_) => "timeout".to_owned(),
            Self::Local(_) => "local".to_owned(),
            Self::Output(_) | Self::BrokenPipe | Self::Reported | Self::Verdict(_) => {
                "output".to_owned()
            }
        }
    }

    fn causes(&self) -> Vec<String> {
        let first = self.error().and_then(std::error::Error::source);
        std::iter::successors(first, |cause| (*cause).source())
            .take(MAX_CAUSES)
            .map(ToString::to_string)
            .collect()
    }

    fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        match self {
            Self::Usage { hint, .. } => hints.push(hint.clone()),
            Self::Client { action, error } => {
                if let ClientError::Remote { error, .. } = error.as_ref()
                    && let Some(process) = error.process
                {
                    hints.push(format!(
                        "process {} exists in spite of this",
                        full_id(process)
                    ));
                }
                // Where only the client lost sight of a change, its own text says so.
                if action.changes() && error.code() == Some(ErrorCode::OutcomeUnknown) {
                    hints.push(format!("look with `{}` before trying again", action.list()));
                }
                if let ClientError::Remote { error, .. } = error.as_ref()
                    && let Some((what, list)) = action.target()
                    && error.code == ErrorCode::NotFound
                    && error.field.as_deref() == Some("target")
                {
                    hints.push(format!("`{list}` lists the {what}"));
                }
                if error.code() == Some(ErrorCode::PermissionDenied) {
                    hints.push(
                        "`selium info` shows the role of this client and what it may pass on"
                            .to_owned(),
                    );
                }
            }
            Self::Broke { hint, .. } => hints.extend(hint.clone()),
            Self::Log { rest, .. } => hints.push(format!(
                "this did not stop the process; `{rest}` shows the rest of its log"
            )),
            _ => {}
        }
        hints
    }
}

/// A wrong command line that clap found, as JSON.
pub(crate) fn usage_json(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text
        .find("\n\nUsage:")
        .or_else(|| text.find("\n\nFor more information"));
    let message = end.and_then(|end| text.get(..end)).unwrap_or(text).trim();
    let body = Body {
        kind: "usage",
        code: None,
        message,
        causes: Vec::new(),
        hints: Vec::new(),
    };
    escape::json(&Json { error: body })
}

/// A variant's name in the style of JSON.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take_while(|c| c.is_ascii_alphanumeric()) {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_in_both_formats() {
        let failure = Failure::usage("start", "argument 1 is\x1b wrong");
        assert_eq!(
            failure.render(Format::Text).unwrap(),
            "error: argument 1 is\\u{1b} wrong\n  hint: see `selium start --help`"
        );
        assert_eq!(
            failure.render(Format::Json).unwrap(),
            r#"{"error":{"kind":"usage","message":"argument 1 is\u001b wrong","hints":["see `selium start --help`"]}}"#
        );
        let interrupted = Failure::Interrupted(None);
        assert_eq!(
            interrupted.render(Format::Text).unwrap(),
            "error: interrupted"
        );
        assert!(Failure::BrokenPipe.render(Format::Text).is_none());
        assert!(Failure::Reported.render(Format::Json).is_none());
    }

    #[test]
    fn channels_are_named() {
        for (action, target, what) in [
            (Channel::Create, "", "cannot create a channel"),
            (Channel::Create, "x", "cannot create the channel `x`"),
            (Channel::List, "", "cannot list the channels"),
            (Channel::Publish, "x\n", "cannot publish to `x\\n`"),
            (Channel::Find, "x", "cannot find the channel `x`"),
        ] {
            assert_eq!(Action::Channel(action, target.into()).what(), what);
        }
        let late = Failure::TimedOut("no message came".into());
        assert_eq!(late.code(), ExitCode::from(124));
        assert_eq!(
            late.render(Format::Json).unwrap(),
            r#"{"error":{"kind":"timeout","message":"no message came"}}"#
        );
    }

    #[test]
    fn kinds_are_in_snake_case() {
        assert_eq!(snake("NotFound"), "not_found");
        assert_eq!(snake("Tls"), "tls");
        assert_eq!(snake("Remote(NotFound)"), "remote");
    }

    #[test]
    fn claps_errors_become_json() {
        let words: Vec<_> = ["selium", "ps", "--frob"].map(Into::into).to_vec();
        let error = crate::args::parse(&words, |_| None).unwrap_err();
        let text = usage_json(&error);
        assert!(
            text.starts_with(
                r#"{"error":{"kind":"usage","message":"unexpected argument '--frob' found"#
            ),
            "{text}"
        );
        assert!(!text.contains("Usage:"), "{text}");
    }
}
