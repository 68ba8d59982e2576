//! The options of `selium cert`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use selium_remote_certs::issue::{DEFAULT_DAYS, Host, Layout, MAX_DAYS, MAX_HOSTS, Name, Role};

use super::help;

/// `selium cert`.
#[derive(Debug, Args)]
#[command(after_help = help::CERT)]
pub(crate) struct CertArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: CertCommand,
}

/// What can be done with certificates. None of it needs a connection.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make everything: CAs, the server's certificate, the runtime's and the first client's
    Init(InitArgs),
    /// Make a certificate directory for somebody
    Issue(IssueArgs),
    /// List what was issued
    List(ListArgs),
    /// Tell whether everything can be used, and for how long
    Status(StatusArgs),
    /// Issue again what lies here, or what was issued to a name
    Renew(RenewArgs),
    /// Show what is in certificates; of keys, only which they are
    Inspect(InspectArgs),
    /// Put somebody's certificate directory into one file, with the private key
    Bundle(BundleArgs),
    /// Take in such a file, or a renewed certificate
    Import(ImportArgs),
}

/// Where everything is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Place {
    /// The folder of certs, control-plane, clients and authority: a runtime's work dir [default: the present one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// The folder of the CAs, if it is elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) authority: Option<PathBuf>,
}

impl Place {
    /// The places.
    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new(self.dir.clone().unwrap_or_else(|| PathBuf::from(".")));
        match &self.authority {
            Some(authority) => layout.with_authority(authority),
            None => layout,
        }
    }
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS))
}

/// `selium cert init`.
#[derive(Debug, Args)]
#[command(after_help = help::CERT_INIT)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    /// A DNS name or IP address that clients dial the server by (repeatable); localhost, 127.0.0.1 and ::1 always are
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Vec<Host>,

    /// How long certificates live; CAs live for ten years
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_DAYS, value_parser = days())]
    pub(crate) days: u32,

    /// Replace what is there: everything that was issued before becomes worthless
    #[arg(long)]
    pub(crate) force: bool,
}

/// What is wrong with the names of a server.
pub(crate) fn complaint(server_names: &[Host]) -> Option<String> {
    let count = server_names.len();
    (count > MAX_HOSTS)
        .then(|| format!("{count} server names are more than the limit of {MAX_HOSTS}"))
}

/// `selium cert issue`.
#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// For whom: letters, digits and . _ - @, at most 64
    pub(crate) name: Name,

    #[command(flatten)]
    pub(crate) place: Place,

    /// What they may do: the role's CA issues it, and is made if there is none
    #[arg(long, default_value = "admin")]
    pub(crate) role: Role,

    /// How long it lives
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_DAYS, value_parser = days())]
    pub(crate) days: u32,

    /// Where to put ca.crt, client.crt and client.key [default: clients/NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Issue anew, and replace what is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// `selium cert list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `selium cert status`.
#[derive(Debug, Args)]
#[command(after_help = help::CERT_STATUS)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `selium cert renew`.
#[derive(Debug, Args)]
#[command(after_help = help::CERT_RENEW)]
pub(crate) struct RenewArgs {
    /// Only what was issued to this name (server: the control plane, runtime: the runtime's own)
    pub(crate) name: Option<Name>,

    #[command(flatten)]
    pub(crate) place: Place,

    /// Only what is due (less than a third of its life left), has expired or does not fit its key
    #[arg(long)]
    pub(crate) if_needed: bool,

    /// For the old key, instead of a new one
    #[arg(long)]
    pub(crate) keep_key: bool,

    /// A name that a server gets instead of those that it had, beside those of this machine (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Vec<Host>,

    /// How long it lives [default: as long as before]
    #[arg(long, value_name = "DAYS", value_parser = days())]
    pub(crate) days: Option<u32>,
}

/// `selium cert inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A file, or a folder with *.crt, *.pem and *.key [default: that of --cert-dir]
    #[arg(value_name = "FILE|DIR")]
    pub(crate) path: Option<PathBuf>,
}

/// `selium cert bundle`.
#[derive(Debug, Args)]
#[command(after_help = help::CERT_BUNDLE)]
pub(crate) struct BundleArgs {
    /// Whose
    pub(crate) name: Name,

    #[command(flatten)]
    pub(crate) place: Place,

    /// Where it lies [default: clients/NAME, or certs for the first client]
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,

    /// The file to write [default: NAME.bundle.pem in the present folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Replace the file
    #[arg(long)]
    pub(crate) force: bool,
}

/// `selium cert import`.
#[derive(Debug, Args)]
#[command(after_help = help::CERT_IMPORT)]
pub(crate) struct ImportArgs {
    /// What `selium cert bundle` wrote, or a certificate that was renewed for the key that is here
    pub(crate) file: PathBuf,

    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
}
