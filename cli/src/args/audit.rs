//! The options of `selium audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::help;

/// `selium audit`.
#[derive(Debug, Args)]
#[command(after_help = help::AUDIT)]
pub(crate) struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

/// What can be done with an audit log. None of it needs a connection.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Tell whether every record is there and genuine
    Verify(VerifyArgs),
}

/// `selium audit verify`.
#[derive(Debug, Args)]
#[command(after_help = help::AUDIT_VERIFY)]
pub(crate) struct VerifyArgs {
    /// The log; - is stdin
    pub(crate) file: PathBuf,

    /// The key of the audit log [default: control-plane/audit.key in the work dir]
    #[arg(long, value_name = "FILE", conflicts_with = "work_dir")]
    pub(crate) key: Option<PathBuf>,

    /// The runtime's work dir [default: the present folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
}
