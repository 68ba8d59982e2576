//! Diagnostics of the library: `--verbose` and `RUST_LOG`.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::args::Format;

/// Our own crates, in detail.
const VERBOSE: &str = "warn,selium_remote_client=debug,selium_remote_transport_quinn=debug,\
                       selium_remote_client_protocol=debug,selium_remote_certs=debug";

/// Everything.
const VERY_VERBOSE: &str = "debug,selium_remote_client=trace,selium_remote_transport_quinn=trace,\
                            selium_remote_client_protocol=trace,selium_remote_certs=trace";

/// Sends diagnostics to stderr if they are wanted. Returns what is wrong with `RUST_LOG`, if anything.
pub(crate) fn start(verbose: u8, format: Format) -> Option<String> {
    let variable = std::env::var("RUST_LOG")
        .ok()
        .filter(|value| !value.is_empty());
    let (filter, complaint) = filter(verbose, variable.as_deref());
    let filter = filter?;
    let color = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let result = match format {
        Format::Text => builder.with_ansi(color).try_init(),
        Format::Json => builder.json().try_init(),
    };
    complaint.or_else(|| result.err().map(|error| error.to_string()))
}

/// The filter, if anything is wanted, and what is wrong with the variable.
fn filter(verbose: u8, variable: Option<&str>) -> (Option<EnvFilter>, Option<String>) {
    let complaint = match variable.map(EnvFilter::try_new) {
        Some(Ok(filter)) => return (Some(filter), None),
        Some(Err(error)) => Some(format!("RUST_LOG is ignored: {error}")),
        None => None,
    };
    let words = match verbose {
        0 if complaint.is_none() => return (None, None),
        0 => "warn",
        1 => VERBOSE,
        _ => VERY_VERBOSE,
    };
    (Some(EnvFilter::new(words)), complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnostics_are_off_unless_wanted() {
        assert!(matches!(filter(0, None), (None, None)));
        assert!(matches!(filter(1, None), (Some(_), None)));
        assert!(matches!(
            filter(0, Some("info,quinn=debug")),
            (Some(_), None)
        ));
        let (filter, complaint) = filter(0, Some("quinn=shout"));
        assert!(
            filter.is_some()
                && complaint.is_some_and(|text| text.starts_with("RUST_LOG is ignored: "))
        );
    }
}
