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
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends `value` in its shortest form. Values past [`MAX`] are written as [`MAX`]: callers check ids and lengths
/// where they are made, and the receiver refuses both at that size.
pub fn put(out: &mut impl bytes::BufMut, value: u64) {
    let value = value.min(MAX);
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(0x4000 | value as u16),
        4 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// Reads one integer from the start of `input` and returns it with the number of bytes read, or `None` while `input`
/// is too short. Longer forms than needed are accepted, as in QUIC.
#[must_use]
pub fn get(input: &[u8]) -> Option<(u64, usize)> {
    let first = *input.first()?;
    let len = 1usize << (first >> 6);
    let bytes = input.get(..len)?;
    let value = bytes
        .iter()
        .skip(1)
        .fold(u64::from(first & 0x3f), |value, byte| {
            (value << 8) | u64::from(*byte)
        });
    Some((value, len))
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
