//! The options of `selium server`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::help;

/// `selium server`.
#[derive(Debug, Args)]
#[command(after_help = help::SERVER)]
pub(crate) struct ServerArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ServerCommand,
}

/// What can be done with the server. None of it needs a connection.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Write a copy of the server's module with its keys and roles, and print the command line that runs it
    Install(InstallArgs),
}

/// `selium server install`.
#[derive(Debug, Args)]
#[command(after_help = help::SERVER_INSTALL)]
pub(crate) struct InstallArgs {
    /// The runtime's work dir, with certs, control-plane and modules [default: the present folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,

    /// The roles, as TOML [default: admin only]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// The module to copy [default: the one that is in DIR/modules]
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Option<PathBuf>,
}
