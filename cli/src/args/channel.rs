//! The options of `selium channel`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use selium_remote_client_protocol::limits::MAX_CAPACITY;

use super::{Format, ListArgs, help};
use crate::framing::Framing;
use crate::render::size;

/// `selium channel`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL)]
pub(crate) struct ChannelArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ChannelCommand,
}

/// What can be done with channels.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Create a channel
    Create(CreateArgs),
    /// Delete channels, for everybody
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Let channels take no new messages
    Drain(DrainArgs),
    /// List channels
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show what is known of a channel
    Inspect(InspectArgs),
    /// Make channels such that processes can be given them
    Share(ShareArgs),
    /// Publish messages from stdin or a file
    #[command(visible_alias = "publish")]
    Pub(PubArgs),
    /// Subscribe, and write the messages to stdout
    #[command(visible_alias = "subscribe")]
    Sub(SubArgs),
}

/// `selium channel create`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_CREATE)]
pub(crate) struct CreateArgs {
    /// The channel's name [default: the server makes one]
    pub(crate) name: Option<String>,

    /// How much it holds, and how long a message may be: bytes, or a number with KiB or MiB. The server rounds up to a
    /// power of two
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = capacity)]
    pub(crate) capacity: u32,

    /// Drop messages for which there is no room, instead of letting writers wait
    #[arg(long)]
    pub(crate) drop: bool,
}

/// `selium channel delete`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_DELETE)]
pub(crate) struct DeleteArgs {
    /// Ids, unique prefixes of ids, or names
    #[arg(required = true, value_name = "CHANNEL")]
    pub(crate) targets: Vec<String>,
}

/// `selium channel drain`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_DRAIN)]
pub(crate) struct DrainArgs {
    /// Ids, unique prefixes of ids, or names
    #[arg(required = true, value_name = "CHANNEL")]
    pub(crate) targets: Vec<String>,
}

/// `selium channel share`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_SHARE)]
pub(crate) struct ShareArgs {
    /// Ids, unique prefixes of ids, or names
    #[arg(required = true, value_name = "CHANNEL")]
    pub(crate) targets: Vec<String>,
}

/// `selium channel ls`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_LS)]
pub(crate) struct LsArgs {
    /// How the list looks.
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `selium channel inspect`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_INSPECT)]
pub(crate) struct InspectArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "CHANNEL")]
    pub(crate) target: String,

    /// How it looks [default: that of --log-format]
    #[arg(short, long, value_enum, value_name = "FORMAT", ignore_case = true)]
    pub(crate) output: Option<Format>,
}

/// `selium channel pub`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_PUB)]
pub(crate) struct PubArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "CHANNEL")]
    pub(crate) target: String,

    /// Where the messages are; - is stdin [default: stdin]
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,

    /// How messages lie in the input [default: line]
    #[arg(long, value_enum, value_name = "FRAMING", ignore_case = true)]
    pub(crate) framing: Option<Framing>,

    /// With --framing raw, how long each message but the last is [default: 64KiB, or the longest that the channel takes
    /// if that is less]
    #[arg(long, value_name = "SIZE", value_parser = capacity)]
    pub(crate) chunk: Option<u32>,

    /// Publish so many messages at most
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// `selium channel sub`.
#[derive(Debug, Args)]
#[command(after_help = help::CHANNEL_SUB)]
pub(crate) struct SubArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "CHANNEL")]
    pub(crate) target: String,

    /// Lose nothing: writers wait for this subscriber [default: a subscriber that is too slow loses messages]
    #[arg(long)]
    pub(crate) lossless: bool,

    /// First so many of the newest messages that the server has; then new ones
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,

    /// Only messages with this sequence number or a later one
    #[arg(long, value_name = "SEQ", visible_alias = "since-seq")]
    pub(crate) since: Option<u64>,

    /// How messages are written [default: line, or json with --log-format json]
    #[arg(long, value_enum, value_name = "FRAMING", ignore_case = true)]
    pub(crate) framing: Option<Framing>,

    /// End after so many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// A size that a channel may have.
fn capacity(text: &str) -> Result<u32, String> {
    size::parse(text)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| (1..=MAX_CAPACITY).contains(bytes))
        .ok_or_else(|| {
            format!(
                "expected 1 to {MAX_CAPACITY} bytes, or a whole number with KiB or MiB up to {}",
                size::capacity(MAX_CAPACITY)
            )
        })
}
