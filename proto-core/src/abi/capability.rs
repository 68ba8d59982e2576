//! What a process may do.

use core::{fmt, str::FromStr};

use thiserror::Error;

numbered! {
    /// A permission that a process may be given. The names say less than what the host makes of them: see SECURITY.md.
    Capability {
        /// Create and change sessions.
        SessionLifecycle = 0,
        /// Create, delete, drain, share and attach channels (every shared one).
        ChannelLifecycle = 1,
        /// Read from channels.
        ChannelReader = 2,
        /// Write to channels.
        ChannelWriter = 3,
        /// Start and stop processes with any capability.
        ProcessLifecycle = 4,
        /// Bind QUIC listeners.
        NetQuicBind = 5,
        /// Accept QUIC connections.
        NetQuicAccept = 6,
        /// Open QUIC connections.
        NetQuicConnect = 7,
        /// Read from QUIC streams.
        NetQuicRead = 8,
        /// Write to QUIC streams.
        NetQuicWrite = 9,
        /// Bind HTTP listeners.
        NetHttpBind = 10,
        /// Accept HTTP connections.
        NetHttpAccept = 11,
        /// Open HTTP connections.
        NetHttpConnect = 12,
        /// Read from HTTP streams.
        NetHttpRead = 13,
        /// Write to HTTP streams.
        NetHttpWrite = 14,
        /// Make TLS configurations of servers.
        NetTlsServerConfig = 15,
        /// Make TLS configurations of clients.
        NetTlsClientConfig = 16,
        /// Register singletons.
        SingletonRegistry = 17,
        /// Look singletons up.
        SingletonLookup = 18,
        /// Read the clock and sleep.
        TimeRead = 19,
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A capability name that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown capability `{0}`")]
pub struct UnknownCapability(pub String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Accepts the ABI's name in any case, with or without `-` and `_` between the words, as the runtime does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain: String = text
            .chars()
            .filter(|c| !matches!(c, '-' | '_'))
            .take(64)
            .collect();
        Self::ALL
            .iter()
            .copied()
            .find(|capability| capability.name().eq_ignore_ascii_case(&plain))
            .ok_or_else(|| UnknownCapability(crate::error::clip(text, 64).to_owned()))
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u32);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Every capability.
    #[must_use]
    pub fn all() -> Self {
        Capability::ALL.iter().copied().collect()
    }

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability.to_wire();
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.to_wire()) != 0
    }

    /// Its members, in order of the numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL
            .iter()
            .copied()
            .filter(move |capability| self.contains(*capability))
    }

    /// One byte a member, as it travels.
    #[must_use]
    pub fn to_wire(self) -> Vec<u8> {
        self.iter().map(Capability::to_wire).collect()
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<T: IntoIterator<Item = Capability>>(iter: T) -> Self {
        let mut set = Self::EMPTY;
        for capability in iter {
            set.insert(capability);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names_are_read_as_the_runtime_reads_them() {
        for capability in Capability::ALL {
            assert_eq!(capability.name().parse(), Ok(*capability));
            assert_eq!(
                Capability::from_wire(capability.to_wire()),
                Some(*capability)
            );
        }
        assert_eq!("net-quic-bind".parse(), Ok(Capability::NetQuicBind));
        assert_eq!("channel_reader".parse(), Ok(Capability::ChannelReader));
        assert_eq!(
            "Nonsense".parse::<Capability>(),
            Err(UnknownCapability("Nonsense".into()))
        );
        assert_eq!(Capability::from_wire(20), None);
    }
}
