//! What the environment says, and what cannot be right.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use super::ClientConfigBuilder;
use crate::InvalidArgument;

/// The longest domain, in bytes: no name that DNS knows is longer.
const MAX_DOMAIN: usize = 255;

/// The most characters of a wrong value that an error quotes.
const MAX_QUOTED: usize = 64;

const A_PORT: &str = "a port, 1 to 65535";

const A_DOMAIN: &str = "the name or IP address of a server, without its port, of at most 255 bytes";

/// The error of a variable that has a wrong value.
fn wrong(field: &'static str, value: &OsStr, expected: &str) -> InvalidArgument {
    let text = value.to_string_lossy();
    let quoted: String = text.chars().take(MAX_QUOTED).collect();
    let more = if quoted.len() < text.len() { "..." } else { "" };
    InvalidArgument {
        field,
        problem: format!("it is {quoted:?}{more}, expected {expected}"),
        limit: None,
    }
}

fn check_domain(domain: &str) -> Result<(), InvalidArgument> {
    // An IPv6 address has more than one colon; one alone is a port's.
    let has_port = domain.matches(':').count() == 1;
    let is_name = !domain.is_empty() && domain.len() <= MAX_DOMAIN && !has_port;
    match is_name && !domain.contains(char::is_whitespace) {
        true => Ok(()),
        false => Err(wrong("domain", OsStr::new(domain), A_DOMAIN)),
    }
}

impl ClientConfigBuilder {
    /// The default, with what the environment says, as the `selium` command reads it:
    ///
    /// | variable | what | without it |
    /// | --- | --- | --- |
    /// | `SELIUM_DOMAIN` | [`ClientConfigBuilder::domain`] | [`DEFAULT_DOMAIN`](crate::DEFAULT_DOMAIN) |
    /// | `SELIUM_PORT` | [`ClientConfigBuilder::port`] | [`DEFAULT_PORT`](crate::DEFAULT_PORT) |
    /// | `SELIUM_CERT_DIR` | [`ClientConfigBuilder::certificate_directory`] | [`DEFAULT_CERTIFICATE_DIRECTORY`](crate::DEFAULT_CERTIFICATE_DIRECTORY) |
    ///
    /// A variable that is empty counts as one that is not set. Methods that are called on the result come before all of
    /// them.
    ///
    /// # Errors
    /// [`InvalidArgument`] names the variable ([`InvalidArgument::field`]), quotes its value, and says what is expected.
    /// It becomes a [`ClientError`](crate::ClientError) with `?`.
    pub fn from_env() -> Result<Self, InvalidArgument> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, InvalidArgument> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let mut config = Self::default();
        if let Some(domain) = variable("SELIUM_DOMAIN") {
            let text = domain
                .to_str()
                .filter(|domain| check_domain(domain).is_ok());
            let text = text.ok_or_else(|| wrong("SELIUM_DOMAIN", &domain, A_DOMAIN))?;
            config.domain = text.to_owned();
        }
        if let Some(value) = variable("SELIUM_PORT") {
            let port = value.to_str().and_then(|port| port.parse().ok());
            let port = port.filter(|port| *port > 0);
            config.port = port.ok_or_else(|| wrong("SELIUM_PORT", &value, A_PORT))?;
        }
        if let Some(directory) = variable("SELIUM_CERT_DIR") {
            config.certificate_directory = PathBuf::from(directory);
        }
        Ok(config)
    }

    /// What needs no connection to be found wrong.
    pub(super) fn check(&self) -> Result<(), InvalidArgument> {
        check_domain(&self.domain)?;
        match self.port {
            0 => Err(InvalidArgument {
                field: "port",
                problem: format!("it is 0, expected {A_PORT}"),
                limit: None,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientError, ErrorKind};

    #[test]
    fn the_environment_is_read_as_the_command_reads_it() {
        let read = |variables: &[(&str, &str)]| {
            ClientConfigBuilder::from_variables(|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| value.into())
            })
        };
        assert_eq!(read(&[]), Ok(ClientConfigBuilder::default()));
        let empty = read(&[("SELIUM_DOMAIN", ""), ("SELIUM_PORT", "")]);
        assert_eq!(empty, Ok(ClientConfigBuilder::default()));
        let all = read(&[
            ("SELIUM_DOMAIN", "api.example"),
            ("SELIUM_PORT", "7443"),
            ("SELIUM_CERT_DIR", "work/certs"),
        ]);
        let expected = ClientConfigBuilder::default()
            .domain("api.example")
            .port(7443)
            .certificate_directory("work/certs");
        assert_eq!(all, Ok(expected));
        for wrong in ["65536", "x", "-1", "0", "7000 "] {
            let error = read(&[("SELIUM_PORT", wrong)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("invalid SELIUM_PORT: it is {wrong:?}, expected a port, 1 to 65535")
            );
        }
        for wrong in ["localhost:7000", "a b", "tab\t"] {
            let error = read(&[("SELIUM_DOMAIN", wrong)]).unwrap_err();
            let text = error.to_string();
            let begin =
                format!("invalid SELIUM_DOMAIN: it is {wrong:?}, expected the name or IP address");
            assert!(text.starts_with(&begin), "{text}");
        }
        for right in ["localhost", "::1", "[::1]", "127.0.0.1"] {
            assert!(read(&[("SELIUM_DOMAIN", right)]).is_ok(), "{right}");
        }
        let long = "x".repeat(256);
        let error = read(&[("SELIUM_DOMAIN", &long)]).unwrap_err();
        assert!(error.to_string().len() < 250, "{error}");
        assert_eq!(ClientError::from(error).kind(), ErrorKind::InvalidArgument);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_text_is_quoted_as_far_as_it_is() {
        use std::os::unix::ffi::OsStringExt as _;

        for name in ["SELIUM_DOMAIN", "SELIUM_PORT"] {
            let error = ClientConfigBuilder::from_variables(|asked| {
                (asked == name).then(|| OsString::from_vec(b"a\xff".to_vec()))
            })
            .unwrap_err();
            assert_eq!(error.field, name);
            assert!(error.to_string().contains("\"a\u{fffd}\""), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        let config = ClientConfigBuilder::default;
        assert_eq!(config().check(), Ok(()));
        for (config, field) in [
            (config().port(0), "port"),
            (config().domain(""), "domain"),
            (config().domain("localhost:7000"), "domain"),
        ] {
            assert_eq!(config.check().unwrap_err().field, field);
        }
    }
}
