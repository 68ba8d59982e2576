//! Words as a shell takes them, for command lines that are to be copied.

/// The word as it is where no shell makes anything else of it, in single quotes elsewhere.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@%+=,-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn plain_words_stay_as_they_are() {
        assert_eq!(quoted("/srv/selium-1"), "/srv/selium-1");
        assert_eq!(quoted("RUST_LOG=info,a=warn"), "RUST_LOG=info,a=warn");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a;b"), "'a;b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_them_back() {
        for word in [
            "a b", "$HOME", "`id`", "a'b'c", "\"", "\\", "~", "*", "a\nb", "ü", "#x", "!", "'",
        ] {
            let output = Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
