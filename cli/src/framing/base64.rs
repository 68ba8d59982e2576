//! Base64 with the usual alphabet and padding (RFC 4648, section 4).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The letter of the lowest six bits.
fn letter(bits: u32) -> char {
    let index = usize::try_from(bits & 63).unwrap_or_default();
    ALPHABET.get(index).copied().map_or('A', char::from)
}

/// The six bits of a letter.
fn bits(letter: u8) -> Option<u32> {
    Some(u32::from(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

/// Bytes as text.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for group in bytes.chunks(3) {
        let mut word = 0;
        for place in 0..3 {
            word = word << 8 | u32::from(group.get(place).copied().unwrap_or_default());
        }
        for place in 0..4 {
            // One byte makes two letters, two make three.
            out.push(match place > group.len() {
                true => '=',
                false => letter(word >> (18 - 6 * place)),
            });
        }
    }
    out
}

/// Text as bytes; `None` when it is not what [`encode`] makes of any.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let groups = text.as_bytes().chunks(4);
    let last = groups.len().checked_sub(1);
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for (index, group) in groups.enumerate() {
        let (letters, missing): (&[u8], usize) = match group {
            [first, second, b'=', b'='] if Some(index) == last => (&[*first, *second], 2),
            [first, second, third, b'='] if Some(index) == last => (&[*first, *second, *third], 1),
            [_, _, _, _] => (group, 0),
            _ => return None,
        };
        let mut word = 0;
        for letter in letters {
            word = word << 6 | bits(*letter)?;
        }
        word <<= 6 * missing;
        let [_, bytes @ ..] = word.to_be_bytes();
        let kept = bytes.get(..3 - missing)?;
        // Bits that belong to no byte have to be 0, so that no two texts mean the same.
        if bytes.get(3 - missing..)?.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(kept);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(encode(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zg==Zg==", "Z===", "====", "=Zg=",
            "Zm9v\n", "Zm-v", "Zm_v", "Zmäv",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
