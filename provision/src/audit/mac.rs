//! HMAC-SHA256 (RFC 2104).

use sha2::{Digest as _, Sha256};

use crate::AuditKey;

const BLOCK: usize = 64;

pub(crate) type Mac = [u8; 32];

/// The MAC of a message.
pub(crate) fn mac(key: &AuditKey, message: &[u8]) -> Mac {
    let inner = pass(key, 0x36, message);
    pass(key, 0x5c, &inner)
}

fn pass(key: &AuditKey, pad: u8, message: &[u8]) -> Mac {
    let mut block = zeroize::Zeroizing::new([pad; BLOCK]);
    for (byte, key) in block.iter_mut().zip(key.expose()) {
        *byte ^= key;
    }
    let mut hash = Sha256::new();
    hash.update(block.as_slice());
    hash.update(message);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hmac_sha256() {
        // RFC 4231, test cases 1 and 2: shorter keys are padded with zeros.
        let mut key = [0; 32];
        key[..20].copy_from_slice(&[0x0b; 20]);
        assert_eq!(
            crate::audit::text::hex(&mac(&AuditKey::new(key), b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(
            crate::audit::text::hex(&mac(&AuditKey::new(key), b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
