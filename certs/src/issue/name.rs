//! Names: of whom a certificate is issued to, of roles, and of servers.
//!
//! The first two become names of files and stand in certificates, the last are what clients dial: all are checked
//! before anything is made of them.

use std::{fmt, net::IpAddr, str::FromStr};

use rustls_pki_types::{DnsName, ServerName};
use thiserror::Error;

/// The most bytes of a [`Name`]: what a common name may have.
pub const MAX_NAME: usize = 64;

/// The most bytes of a [`Role`].
pub const MAX_ROLE: usize = 32;

/// The most server names of one certificate.
pub const MAX_HOSTS: usize = 64;

/// Why a text is no name. It repeats no more than the start of the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} {text:?} cannot be used: {why}")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

fn refuse(what: &'static str, text: &str, why: &'static str) -> NameError {
    NameError {
        what,
        text: text.chars().take(MAX_NAME).collect(),
        why,
    }
}

/// Whom a certificate is issued to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// What the control plane's own certificate is kept as.
    pub const SERVER: &str = "server";

    /// What the runtime's own certificate is kept as.
    pub const RUNTIME: &str = "runtime";

    /// The first client, which `init` makes.
    #[must_use]
    pub fn admin() -> Self {
        Self("admin".to_owned())
    }

    /// A name that only we use.
    pub(super) fn reserved(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// Whether it stands for a server, which no client may be called.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        [Self::SERVER, Self::RUNTIME]
            .iter()
            .any(|name| self.0.eq_ignore_ascii_case(name))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > MAX_NAME {
            "it has more than 64 bytes"
        } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !text.ends_with(|c: char| c.is_ascii_alphanumeric())
        {
            "it must begin and end with a letter of ASCII or a digit"
        } else if !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
        {
            "it may have letters of ASCII, digits and . _ - @ only"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(refuse("the name", text, why))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client may do, as the policy of the control plane names it: whose CA issues its certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(String);

impl Role {
    /// The role that may do everything.
    #[must_use]
    pub fn admin() -> Self {
        Self("admin".to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > MAX_ROLE {
            "it has more than 32 bytes"
        } else if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.ends_with(is_word) {
            "it must begin with a small letter of ASCII, and end with one or a digit"
        } else if !text.chars().all(|c| is_word(c) || c == '-') {
            "it may have small letters of ASCII, digits and - only"
        } else if [Name::SERVER, Name::RUNTIME].contains(&text) {
            "it is the name of a server's CA"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(refuse("the role", text, why))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that clients dial a server by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name, in small letters.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl Host {
    /// The names that every server has: `localhost`, `127.0.0.1` and `::1`.
    #[must_use]
    pub fn local() -> [Self; 3] {
        [
            Self::Dns("localhost".to_owned()),
            Self::Ip(IpAddr::from([127, 0, 0, 1])),
            Self::Ip(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
        ]
    }

    /// As TLS takes it.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Dns(name) => ServerName::try_from(name.clone()).ok(),
            Self::Ip(address) => Some(ServerName::from(*address)),
        }
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(refuse("the server name", text, why));
        let bracketed = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bracketed.unwrap_or(text).parse::<IpAddr>() {
            if address.is_unspecified() || address.is_multicast() {
                return refuse("nobody can dial this address; name those that clients use");
            }
            return Ok(Self::Ip(address));
        }
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.contains('*') {
            return refuse("wildcards are not made; name each server");
        }
        if text.ends_with('.') {
            return refuse("a certificate has the name without the dot at the end");
        }
        // A last label of digits only is an address that is none.
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_host = DnsName::try_from(text).is_ok()
            && !last.bytes().all(|byte| byte.is_ascii_digit())
            && !text.contains('_');
        if !is_host {
            return refuse("it is neither a DNS name nor an IP address (without port)");
        }
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_taken_and_refused() {
        for name in [
            "ann",
            "ann.smith@example.org",
            "A-1_b",
            "7",
            &"x".repeat(64),
        ] {
            assert_eq!(name.parse::<Name>().unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            ".ann",
            "ann.",
            "-ann",
            "a/b",
            "a\\b",
            "a b",
            "ä",
            "a\0",
            "a\n",
            "ann~",
            &"x".repeat(65),
        ] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
        for name in ["server", "Runtime"] {
            assert!(name.parse::<Name>().unwrap().is_reserved());
        }
        assert!(!Name::admin().is_reserved());
    }

    #[test]
    fn roles_are_taken_and_refused() {
        for role in ["admin", "operator", "team-7", "a"] {
            assert_eq!(role.parse::<Role>().unwrap().as_str(), role);
        }
        for role in [
            "",
            "Admin",
            "7a",
            "a-",
            "-a",
            "a_b",
            "a.b",
            "server",
            "runtime",
            &"x".repeat(33),
        ] {
            assert!(role.parse::<Role>().is_err(), "{role:?}");
        }
    }

    #[test]
    fn hosts_are_taken_and_refused() {
        let dns = |name: &str| Ok(Host::Dns(name.to_owned()));
        assert_eq!("Selium.Example.ORG".parse(), dns("selium.example.org"));
        assert_eq!("localhost".parse(), dns("localhost"));
        assert_eq!("10.0.0.7".parse(), Ok(Host::Ip([10, 0, 0, 7].into())));
        assert_eq!("[2001:db8::1]".parse::<Host>(), "2001:db8::1".parse());
        for host in [
            "",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "*.example.org",
            "a.",
            "a b",
            "a:7000",
            "10.0.0.7:7000",
            "10.0.0.256",
            "10.1",
            "-a",
            "a..b",
            "a_b",
            "ä.org",
            &"a.".repeat(127),
            &"x".repeat(64),
            "[a]",
        ] {
            assert!(host.parse::<Host>().is_err(), "{host:?}");
        }
    }

    #[test]
    fn an_error_is_short() {
        let text = "x".repeat(100_000).parse::<Name>().unwrap_err().to_string();
        assert!(text.len() < 200, "{text}");
        let text = "a\x1b[2J".parse::<Name>().unwrap_err().to_string();
        assert!(!text.contains('\x1b'), "{text}");
    }

    fn words() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[A-Za-z0-9._@/\\\\:-]{0,70}",
            "[a-z0-9-]{0,34}",
            "[a-z0-9.*-]{0,20}",
            any::<IpAddr>().prop_map(|address| address.to_string()),
        ]
    }

    proptest! {
        /// What is taken is one ordinary component of a path, and says the same again.
        #[test]
        fn taken_names_are_file_names(text in words()) {
            if let Ok(name) = text.parse::<Name>() {
                let path = Path::new(name.as_str());
                let components: Vec<_> = path.components().collect();
                prop_assert_eq!(components, vec![Component::Normal(text.as_ref())]);
                prop_assert!(text.len() <= MAX_NAME && text.is_ascii() && !text.starts_with('.'));
                prop_assert_eq!(name.to_string().parse::<Name>(), Ok(name));
            }
            if let Ok(role) = text.parse::<Role>() {
                prop_assert!(text.len() <= MAX_ROLE && text.parse::<Name>().is_ok());
                prop_assert!(!role.as_str().parse::<Name>().unwrap().is_reserved());
            }
        }

        /// What is taken can be dialled, and says the same again.
        #[test]
        fn taken_hosts_can_be_dialled(text in words()) {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert!(host.server_name().is_some());
                let shown = host.to_string();
                prop_assert_eq!(shown.parse::<Host>(), Ok(host.clone()));
                let dialled = ServerName::try_from(shown).unwrap();
                prop_assert_eq!(matches!(dialled, ServerName::IpAddress(_)), matches!(host, Host::Ip(_)));
            }
        }
    }
}
