//! The options that all commands have, with what the environment says.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum as _;
use selium_remote_client::{DEFAULT_DOMAIN, DEFAULT_PORT};

use super::{Format, GlobalArgs};
use crate::render::escape::quoted;

const DEFAULT_CERT_DIR: &str = "certs";

/// The options in force: an option comes before its variable, a variable before the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Global {
    /// Host of the endpoint.
    pub(crate) domain: String,
    /// Its port.
    pub(crate) port: u16,
    /// Where the certificates are.
    pub(crate) cert_dir: PathBuf,
    /// How output looks.
    pub(crate) log_format: Format,
    /// How long to wait for an answer.
    pub(crate) timeout: Option<Duration>,
    /// How much the library tells.
    pub(crate) verbose: u8,
    /// Whether to be silent about a server that authenticates nobody.
    pub(crate) no_warn: bool,
}

impl Global {
    /// Fills in what the options leave open. A variable that is empty counts as unset; one that is not needed is not
    /// looked at.
    ///
    /// # Errors
    /// A sentence that names the variable, its value and what was expected.
    pub(crate) fn resolve(
        args: GlobalArgs,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, String> {
        let raw = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| {
            raw(name)
                .map(|value| {
                    value
                        .into_string()
                        .map_err(|_| format!("the variable {name} is not UTF-8"))
                })
                .transpose()
        };
        let domain = match args.domain {
            Some(domain) => domain,
            None => text("SELIUM_DOMAIN")?.unwrap_or_else(|| DEFAULT_DOMAIN.to_owned()),
        };
        let port = match (args.port, text("SELIUM_PORT")) {
            (Some(port), _) => port,
            (None, value) => match value? {
                Some(value) => value
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| wrong("SELIUM_PORT", &value, "a port, 1 to 65535"))?,
                None => DEFAULT_PORT,
            },
        };
        let log_format = match args.log_format {
            Some(format) => format,
            None => match text("SELIUM_LOG_FORMAT")? {
                Some(value) => Format::from_str(&value, true)
                    .map_err(|_| wrong("SELIUM_LOG_FORMAT", &value, "text or json"))?,
                None => Format::Text,
            },
        };
        let cert_dir = args
            .cert_dir
            .or_else(|| raw("SELIUM_CERT_DIR").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_CERT_DIR));
        let silenced = || {
            raw("SELIUM_NO_WARN").is_some_and(|value| {
                !["0", "no", "false", "off"]
                    .iter()
                    .any(|no| value.eq_ignore_ascii_case(no))
            })
        };
        Ok(Self {
            domain,
            port,
            cert_dir,
            log_format,
            timeout: args.timeout,
            verbose: args.verbose,
            no_warn: args.no_warn || silenced(),
        })
    }
}

fn wrong(name: &str, value: &str, expected: &str) -> String {
    format!(
        "the variable {name} is {}: expected {expected}",
        quoted(value)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: GlobalArgs, variables: &[(&str, &str)]) -> Result<Global, String> {
        Global::resolve(args, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    const ALL: [(&str, &str); 5] = [
        ("SELIUM_DOMAIN", "example.org"),
        ("SELIUM_PORT", "7443"),
        ("SELIUM_CERT_DIR", "work/certs"),
        ("SELIUM_LOG_FORMAT", "JSON"),
        ("SELIUM_NO_WARN", "1"),
    ];

    #[test]
    fn defaults_are_the_documented_ones() {
        let global = resolve(GlobalArgs::default(), &[]).unwrap();
        let expected = Global {
            domain: "localhost".into(),
            port: 7_000,
            cert_dir: "certs".into(),
            log_format: Format::Text,
            timeout: None,
            verbose: 0,
            no_warn: false,
        };
        assert_eq!(global, expected);
        let empty = ALL.map(|(name, _)| (name, ""));
        assert_eq!(resolve(GlobalArgs::default(), &empty), Ok(expected));
    }

    #[test]
    fn variables_fill_in_and_options_come_first() {
        let global = resolve(GlobalArgs::default(), &ALL).unwrap();
        assert_eq!(
            (global.domain.as_str(), global.port),
            ("example.org", 7_443)
        );
        assert_eq!(global.cert_dir, PathBuf::from("work/certs"));
        assert!(global.log_format == Format::Json && global.no_warn);

        let args = GlobalArgs {
            domain: Some("other".into()),
            port: Some(1),
            cert_dir: Some("here".into()),
            log_format: Some(Format::Text),
            ..GlobalArgs::default()
        };
        let wrong = [
            ("SELIUM_PORT", "x"),
            ("SELIUM_LOG_FORMAT", "y"),
            ("SELIUM_NO_WARN", "False"),
        ];
        let global = resolve(args, &wrong).unwrap();
        assert_eq!(
            (global.domain.as_str(), global.port, global.no_warn),
            ("other", 1, false)
        );
        assert_eq!(
            (global.cert_dir, global.log_format),
            ("here".into(), Format::Text)
        );
    }

    #[test]
    fn wrong_variables_are_named() {
        let error = |name, value| resolve(GlobalArgs::default(), &[(name, value)]).unwrap_err();
        assert_eq!(
            error("SELIUM_PORT", "65536"),
            "the variable SELIUM_PORT is `65536`: expected a port, 1 to 65535"
        );
        assert!(error("SELIUM_PORT", "0").contains("1 to 65535"));
        assert_eq!(
            error("SELIUM_LOG_FORMAT", "xml"),
            "the variable SELIUM_LOG_FORMAT is `xml`: expected text or json"
        );
    }
}
