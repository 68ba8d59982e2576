//! Text that others wrote (servers, guests) made harmless for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

/// The most characters of a value that an error message repeats.
pub(crate) const MAX_QUOTED: usize = 60;

/// Whether a terminal might act on the character instead of showing it: control characters (C0, DEL, C1), line and
/// paragraph separators, and the marks that reorder or hide text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with every unsafe character written as in a Rust string (`\n`, `\u{1b}`), so that it stays on its line.
///
/// Backslashes stay as they are: the result is for reading. Programs take JSON, which is exact.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a string cannot fail, here and below.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The text as [`line()`] makes it, but of several lines, the later ones indented by `indent`.
pub(crate) fn lines(text: &str, indent: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, part) in text.trim_end().lines().enumerate() {
        if index > 0 {
            out.push('\n');
            out.push_str(indent);
        }
        out.push_str(&line(part));
    }
    out
}

/// The text in backticks, escaped and cut to [`MAX_QUOTED`] characters.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", cut(text, MAX_QUOTED))
}

/// The text escaped and cut to so many characters; `…` stands for what is missing.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    // Escaping never makes text shorter, so that no more than `limit + 1` characters need to be looked at.
    let start: String = text.chars().take(limit.saturating_add(1)).collect();
    let escaped = line(&start);
    if escaped.chars().count() <= limit {
        return escaped.into_owned();
    }
    escaped
        .chars()
        .take(limit.saturating_sub(1))
        .chain(std::iter::once('…'))
        .collect()
}

/// A value as one line of JSON in which unsafe characters are escaped too; the value stays the same.
pub(crate) fn json<T: Serialize>(value: &T) -> String {
    let plain = serde_json::to_string(value).unwrap_or_else(|error| {
        // Texts, numbers and lists of them always serialize.
        format!(
            "{{\"error\":{{\"kind\":\"internal\",\"message\":{:?}}}}}",
            error.to_string()
        )
    });
    if !plain.contains(is_unsafe) {
        return plain;
    }
    // Unsafe characters can only stand inside of strings, where JSON allows the escape.
    let mut out = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The start of some bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8], limit: usize) -> String {
    let mut out = String::with_capacity(2 * bytes.len().min(limit));
    for byte in bytes.iter().take(limit) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_cannot_reach_the_terminal() {
        assert_eq!(line("plain ü"), "plain ü");
        assert_eq!(line("a\x1b[2Jb\nc\r\t"), "a\\u{1b}[2Jb\\nc\\r\\t");
        assert_eq!(line("\u{9b}31m\u{7f}"), "\\u{9b}31m\\u{7f}");
        assert_eq!(line("x\u{202e}y\u{2028}"), "x\\u{202e}y\\u{2028}");
        assert_eq!(lines("one\ntwo\x07\n", "  "), "one\n  two\\u{7}");
    }

    #[test]
    fn values_are_cut() {
        assert_eq!(quoted("short"), "`short`");
        assert_eq!(
            quoted(&"x".repeat(100_000)),
            format!("`{}…`", "x".repeat(59))
        );
        assert_eq!(cut(&"x".repeat(60), 60).len(), 60);
        assert_eq!(cut("\n\n\n", 4), "\\n\\…");
        assert_eq!(cut("", 4), "");
    }

    #[test]
    fn json_keeps_the_value_and_hides_the_escapes() {
        let value = "a\x1b\u{9b}\u{7f}\u{202e}ü\"\n";
        let text = json(&value);
        assert_eq!(text, r#""a\u001b\u009b\u007f\u202eü\"\n""#);
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
    }

    #[test]
    fn bytes_are_shown_in_part() {
        assert_eq!(hex(&[0, 0xff, 0x10], 2), "00ff");
    }
}
