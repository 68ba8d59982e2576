//! Values that are wiped when they are dropped and never shown.

use core::fmt;

use zeroize::Zeroizing;

/// The bytes of an audit key.
pub const AUDIT_KEY: usize = 32;

/// A private key in PEM. It is wiped when it is dropped, and its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct KeyPem(Zeroizing<Vec<u8>>);

/// The key of the audit log's MACs. It is wiped when it is dropped, and its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct AuditKey(Zeroizing<[u8; AUDIT_KEY]>);

impl KeyPem {
    /// Takes over the buffer; it is not copied.
    #[must_use]
    pub fn new(pem: Vec<u8>) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The key, for handing it to who needs it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl AuditKey {
    /// This key.
    #[must_use]
    pub fn new(key: [u8; AUDIT_KEY]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The key, for handing it to who needs it.
    #[must_use]
    pub fn expose(&self) -> &[u8; AUDIT_KEY] {
        &self.0
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPem(..)")
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(..)")
    }
}

impl PartialEq for KeyPem {
    fn eq(&self, other: &Self) -> bool {
        same(self.expose(), other.expose())
    }
}

impl PartialEq for AuditKey {
    fn eq(&self, other: &Self) -> bool {
        same(self.expose(), other.expose())
    }
}

impl Eq for KeyPem {}

impl Eq for AuditKey {}

/// Compares in a time that tells the lengths only.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    let different = left.iter().zip(right).fold(0, |all, (l, r)| all | (l ^ r));
    left.len() == right.len() && core::hint::black_box(different) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?} {:#?}",
            KeyPem::new(b"BEGIN".to_vec()),
            AuditKey::new([66; 32])
        );
        assert_eq!(shown, "KeyPem(..) AuditKey(..)");
    }

    #[test]
    fn comparing_looks_at_all_bytes() {
        assert!(same(b"abc", b"abc"));
        for other in [&b"abd"[..], b"bbc", b"ab", b"abcd", b""] {
            assert!(!same(b"abc", other));
        }
    }
}
