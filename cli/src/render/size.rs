//! Sizes and counts as text.

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;
const GIB: u64 = 1_024 * MIB;

/// A number with a comma before each three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many messages.
pub(crate) fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{} messages", grouped(count)),
    }
}

/// Bytes in the largest unit of which there is one, cut off behind the first decimal.
pub(crate) fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..KIB => return format!("{bytes} B"),
        KIB..MIB => (KIB, "KiB"),
        MIB..GIB => (MIB, "MiB"),
        _ => (GIB, "GiB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

/// A capacity, as `--capacity` takes it: nothing is cut off.
pub(crate) fn capacity(bytes: u32) -> String {
    let bytes = u64::from(bytes);
    match bytes {
        MIB.. if bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        KIB.. if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        _ => bytes.to_string(),
    }
}

/// Reads a size: bytes, or a whole number with `B`, `KiB` or `MiB`.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let unit = unit.trim_start();
    let factor = [("", 1), ("b", 1), ("kib", KIB), ("mib", MIB)]
        .into_iter()
        .find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    digits.parse::<u64>().ok()?.checked_mul(factor.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567, u64::MAX].map(grouped),
            [
                "0",
                "999",
                "1,000",
                "1,234,567",
                "18,446,744,073,709,551,615"
            ]
        );
        assert_eq!(messages(1), "1 message");
        assert_eq!(messages(0), "0 messages");
        assert_eq!(
            [0, 1_023, 1_024, 1_100, 1_048_575, 1_048_576, 1 << 31].map(bytes),
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.0 KiB",
                "1023.9 KiB",
                "1.0 MiB",
                "2.0 GiB"
            ]
        );
        assert!(bytes(u64::MAX).ends_with(" GiB"));
    }

    #[test]
    fn capacities_are_exact_and_read_again() {
        for (bytes, text) in [
            (1, "1"),
            (1_000, "1000"),
            (1_024, "1KiB"),
            (65_536, "64KiB"),
            (65_537, "65537"),
            (1_048_576, "1MiB"),
            (1_049_600, "1025KiB"),
            (16_777_216, "16MiB"),
        ] {
            assert_eq!(capacity(bytes), text);
            assert_eq!(parse(text), Some(bytes.into()));
        }
        for (text, bytes) in [
            ("64B", 64),
            ("64 kib", 65_536),
            ("2mIb", 2_097_152),
            ("0", 0),
            ("007", 7),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "-1",
            "+1",
            "1.5MiB",
            "64K",
            "64KB",
            "1GiB",
            "64KiBx",
            "6 4",
            "0x10",
            "١",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
