//! The command line: commands, options and their environment variables.

pub(crate) mod audit;
mod capability;
pub(crate) mod cert;
pub(crate) mod channel;
mod global;
mod help;
mod parse;
pub(crate) mod server;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use selium_remote_client::Capability;

use self::capability::CapabilityParser;
pub(crate) use self::global::Global;
pub(crate) use self::parse::{json_wanted, parse};
use crate::arguments::ParamKind;

/// The longest `--timeout`: a day.
const MAX_TIMEOUT: f64 = 86_400.0;

/// Starts, stops and follows processes in a Selium runtime, through its Remote Client server.
#[derive(Debug, Parser)]
#[command(name = "selium", version, after_help = help::ROOT, max_term_width = 120)]
pub(crate) struct Cli {
    /// Options that all commands have.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that all commands have; they may stand before or after the command. What is not there comes from the
/// environment: see [`Global::resolve`]. (Clap would read the variables once a level, and refuse a wrong one although an
/// option stands in front of it.)
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Host of the control-plane endpoint, and the name to ask it for (localhost for an IP address)
    /// [env: SELIUM_DOMAIN] [default: localhost]
    #[arg(long, global = true, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    domain: Option<String>,

    /// Port of the control-plane endpoint [env: SELIUM_PORT] [default: 7000]
    #[arg(long, global = true)]
    port: Option<u16>,

    /// Directory with ca.crt, client.crt and client.key [env: SELIUM_CERT_DIR] [default: certs]
    #[arg(long, global = true, value_name = "DIR")]
    cert_dir: Option<PathBuf>,

    /// How output looks: logs, results, errors and diagnostics [env: SELIUM_LOG_FORMAT] [default: text]
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        ignore_case = true
    )]
    log_format: Option<Format>,

    /// How long to wait for an answer; also bounds connecting [default: 30, and 10 for connecting]. With `channel pub`
    /// and `channel sub` also how long nothing may come [default: for ever]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Show diagnostics of the library on stderr; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Do not warn that the server authenticates nobody [env: SELIUM_NO_WARN]
    #[arg(long, global = true)]
    no_warn: bool,
}

/// How output looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: one JSON value a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a process
    Start(StartArgs),
    /// Stop processes
    Stop(StopArgs),
    /// List processes
    Ps(PsArgs),
    /// Show the log of a process
    Logs(LogsArgs),
    /// Show what is known of a process
    Inspect(InspectArgs),
    /// Show what the server is and how it fares
    Info(InfoArgs),
    /// Measure the round trip to the server
    Ping(PingArgs),
    /// Make channels, look at them, publish to them and subscribe to them
    #[command(visible_alias = "ch")]
    Channel(channel::ChannelArgs),
    /// Make certificates, hand them over, renew them, look at them
    Cert(cert::CertArgs),
    /// Give the control plane's server its keys and roles
    Server(server::ServerArgs),
    /// Check the audit log of the control plane's server
    Audit(audit::AuditArgs),
}

/// `selium start`.
#[derive(Debug, Args)]
#[command(after_help = help::START)]
pub(crate) struct StartArgs {
    /// The module, relative to the runtime's module directory
    pub(crate) module: String,

    /// The function to call
    #[arg(default_value = "start")]
    pub(crate) entrypoint: String,

    /// What the process may do, separated by commas (repeatable); nothing else is granted
    #[arg(short, long, visible_alias = "capability", value_name = "CAPABILITY", value_delimiter = ',',
          value_parser = CapabilityParser)]
    pub(crate) capabilities: Vec<Capability>,

    /// An argument, in order (repeatable): TYPE:VALUE, or a value for --param
    #[arg(short, long, value_name = "TYPE:VALUE", allow_negative_numbers = true)]
    pub(crate) arg: Vec<String>,

    /// The type of a parameter, in order (repeatable); not needed when the arguments have types
    #[arg(
        short,
        long,
        value_name = "TYPE",
        value_enum,
        ignore_case = true,
        hide_possible_values = true
    )]
    pub(crate) param: Vec<ParamKind>,

    /// The type of a result, in order (repeatable)
    #[arg(
        short,
        long,
        value_name = "TYPE",
        value_enum,
        ignore_case = true,
        hide_possible_values = true
    )]
    pub(crate) result: Vec<ParamKind>,

    /// The URI to register the process's log under
    #[arg(long, value_name = "URI")]
    pub(crate) log_uri: Option<String>,

    /// The process's name [default: the server makes one]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Show the process's log until Ctrl-C, which does not stop the process
    #[arg(long)]
    pub(crate) attach: bool,
}

/// `selium stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Ids, unique prefixes of ids, or names
    #[arg(required = true, value_name = "ID")]
    pub(crate) targets: Vec<String>,
}

/// `selium ps`.
#[derive(Debug, Args)]
#[command(after_help = help::PS)]
pub(crate) struct PsArgs {
    /// List stopped processes too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// How the list looks.
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// How a list looks.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How the list looks [default: table, or json with --log-format json]
    #[arg(
        short,
        long,
        value_enum,
        value_name = "OUTPUT",
        conflicts_with = "quiet",
        ignore_case = true
    )]
    pub(crate) output: Option<ListOutput>,

    /// Only full ids, one a line
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How lists can look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListOutput {
    /// Columns
    Table,
    /// More columns, nothing cut
    Wide,
    /// One JSON array
    Json,
    /// Names, one a line
    Name,
}

/// `selium logs`.
#[derive(Debug, Args)]
#[command(after_help = help::LOGS)]
pub(crate) struct LogsArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "ID")]
    pub(crate) target: String,

    /// Wait for new records
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Only so many of the newest records that the server has
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,

    /// Only records with this sequence number or a later one
    #[arg(long, value_name = "N")]
    pub(crate) since_seq: Option<u64>,
}

/// `selium inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "ID")]
    pub(crate) target: String,

    /// How it looks [default: that of --log-format]
    #[arg(short, long, value_enum, value_name = "FORMAT", ignore_case = true)]
    pub(crate) output: Option<Format>,
}

/// `selium info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// How it looks [default: that of --log-format]
    #[arg(short, long, value_enum, value_name = "FORMAT", ignore_case = true)]
    pub(crate) output: Option<Format>,
}

/// `selium ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// How many times, a second apart
    #[arg(short = 'n', long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MAX_TIMEOUT => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!(
            "expected a number of seconds above 0, at most {MAX_TIMEOUT}"
        )),
    }
}

#[cfg(test)]
mod tests;
