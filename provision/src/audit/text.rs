//! Text in records: hex, and JSON strings in ASCII.

/// Lower case, two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

/// The bytes of lower-case hex.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || text.bytes().any(|it| it.is_ascii_uppercase()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for digit in pair {
            *byte = (*byte << 4) | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(bytes)
}

/// What stands where text was clipped.
const CLIPPED: &str = "...";

/// Appends a JSON string of `text`, of at most `limit` bytes between its quotes.
pub(crate) fn string(out: &mut String, text: &str, limit: usize) {
    out.push('"');
    let begin = out.len();
    // Where it can be clipped so that the mark fits behind it.
    let mut room = begin;
    for c in text.chars() {
        character(out, c);
        let len = out.len() - begin;
        if len > limit {
            out.truncate(room);
            out.push_str(CLIPPED);
            break;
        }
        if len <= limit.saturating_sub(CLIPPED.len()) {
            room = out.len();
        }
    }
    out.push('"');
}

fn character(out: &mut String, c: char) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        ' '..='~' => out.push(c),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str("\\u");
                out.push_str(&hex(&unit.to_be_bytes()));
            }
        }
    }
}

/// Reads a JSON string that starts after its opening quote: the text, and what follows the closing quote. A lone
/// surrogate becomes a replacement character. `None` when it has no end or a bad escape.
pub(crate) fn unquote(input: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut high: Option<u32> = None;
    let mut chars = input.chars();
    loop {
        let c = chars.next()?;
        let mut unit = None;
        let plain = match c {
            '"' => {
                out.extend(high.map(|_| char::REPLACEMENT_CHARACTER));
                return Some((out, chars.as_str()));
            }
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                same @ ('"' | '\\' | '/') => same,
                'u' => {
                    let digits = chars.as_str().get(..4)?;
                    if !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
                        return None;
                    }
                    chars = chars.as_str().get(4..)?.chars();
                    let value = u32::from_str_radix(digits, 16).ok()?;
                    unit = Some(value);
                    char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                _ => return None,
            },
            other => other,
        };
        match (high.take(), unit) {
            (None, Some(value @ 0xd800..=0xdbff)) => high = Some(value),
            (Some(first), Some(value @ 0xdc00..=0xdfff)) => {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (value - 0xdc00);
                out.push(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (Some(_), Some(value @ 0xd800..=0xdbff)) => {
                out.push(char::REPLACEMENT_CHARACTER);
                high = Some(value);
            }
            (before, _) => {
                out.extend(before.map(|_| char::REPLACEMENT_CHARACTER));
                out.push(plain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_are_json_and_ascii_and_come_back(text in any::<String>()) {
            let mut out = String::new();
            string(&mut out, &text, usize::MAX);
            prop_assert!(out.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(&serde_json::from_str::<String>(&out).unwrap(), &text);
            prop_assert_eq!(unquote(&out[1..]), Some((text, "")));
        }

        #[test]
        fn clipped_strings_are_json_of_that_length(text in any::<String>(), limit in 3_usize..64) {
            let mut out = String::new();
            string(&mut out, &text, limit);
            prop_assert!(out.len() <= limit + 2);
            let read = serde_json::from_str::<String>(&out).unwrap();
            prop_assert!(read == text || text.starts_with(read.strip_suffix("...").unwrap()));
        }

        #[test]
        fn json_of_others_is_read(text in any::<String>()) {
            let theirs = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unquote(&theirs[1..]), Some((text, "")));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[\"\\\\u0-9a-fA-Fdé]{0,40}") {
            let _ = unquote(&text);
        }

        #[test]
        fn hex_comes_back(bytes in any::<[u8; 16]>()) {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }
    }
}
