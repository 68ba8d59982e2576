//! Variable-length integers as in QUIC (RFC 9000, section 16).
//!
//! The two most significant bits of the first byte give the length: 1, 2, 4 or 8 bytes, big-endian. PROTOCOL.md,
//! "Integers".

/// The largest value that fits: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// The most bytes that one integer takes.
pub const MAX_LEN: usize = 8;

/// The number of bytes that `value` takes in its shortest form. Values past [`MAX`] count as [`MAX`].
#[must_use]
#[inline]
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// The shortest form of `value`: so many of the bytes.
#[inline]
pub(crate) const fn encode(value: u64) -> ([u8; MAX_LEN], usize) {
    let value = if value > MAX { MAX } else { value };
    let len = len(value);
    let tag = (len.trailing_zeros() as u64) << 62;
    // Moved to the top, where the tag's two bits are free.
    let shifted = value << (u64::BITS - 8 * len as u32);
    ((shifted | tag).to_be_bytes(), len)
}

/// Appends `value` in its shortest form. Values past [`MAX`] are written as [`MAX`]: callers check ids and lengths
/// where they are made, and the receiver refuses both at that size.
#[inline]
pub fn put(out: &mut impl bytes::BufMut, value: u64) {
    let (bytes, len) = encode(value);
    out.put_slice(bytes.get(..len).unwrap_or_default());
}

/// Reads one integer from the start of `input` and returns it with the number of bytes read, or `None` while `input`
/// is too short. Longer forms than needed are accepted, as in QUIC.
#[must_use]
#[inline]
pub fn get(input: &[u8]) -> Option<(u64, usize)> {
    let (first, rest) = input.split_first()?;
    let top = u64::from(first & 0x3f);
    match (first >> 6, rest) {
        (0, _) => Some((top, 1)),
        (1, [a, ..]) => Some((top << 8 | u64::from(*a), 2)),
        (2, [a, b, c, ..]) => {
            let value = u32::from_be_bytes([first & 0x3f, *a, *b, *c]);
            Some((u64::from(value), 4))
        }
        (3, [a, b, c, d, e, f, g, ..]) => {
            let value = u64::from_be_bytes([first & 0x3f, *a, *b, *c, *d, *e, *f, *g]);
            Some((value, 8))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_9000_examples() {
        // RFC 9000, appendix A.1.
        assert_eq!(
            get(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
            Some((151_288_809_941_952_652, 8))
        );
        assert_eq!(get(&[0x9d, 0x7f, 0x3e, 0x7d]), Some((494_878_333, 4)));
        assert_eq!(get(&[0x7b, 0xbd]), Some((15_293, 2)));
        assert_eq!(get(&[0x25]), Some((37, 1)));
        assert_eq!(get(&[0x40, 0x25]), Some((37, 2)));
        assert_eq!(get(&[]), None);
        assert_eq!(get(&[0xc2, 0x19]), None);
    }

    proptest! {
        #[test]
        fn round_trip(value in 0..=MAX) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            prop_assert_eq!(get(&out), Some((value, out.len())));
            prop_assert_eq!(get(&out[..out.len() - 1]), None);
        }
    }
}
