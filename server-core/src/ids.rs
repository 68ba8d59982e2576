//! Incarnations, ids and names.
//!
//! The server has no randomness of its own. An incarnation is made of the first client's nonce, that client's address
//! and the time, if there is a clock; ids are made of the incarnation and a counter, so that an id from before a restart
//! names nothing after it (instead of naming another process).

use std::hash::{DefaultHasher, Hash, Hasher};

use selium_remote_client_protocol::{
    ErrorCode, RemoteError,
    limits::{MAX_NAME, MAX_TARGET},
};

/// The digits of a full id.
pub const ID_DIGITS: usize = 16;

/// Makes ids that belong to one incarnation.
#[derive(Clone, Debug)]
pub struct Ids {
    incarnation: [u8; 16],
}

impl Ids {
    /// An incarnation out of what is unpredictable here.
    #[must_use]
    pub fn new(nonce: &[u8; 16], peer: &str, unix_ms: Option<u64>) -> Self {
        let half = |which: u8| {
            let mut hasher = DefaultHasher::new();
            (which, nonce, peer, unix_ms).hash(&mut hasher);
            hasher.finish().to_be_bytes()
        };
        let mut incarnation = [0; 16];
        for (to, from) in incarnation
            .iter_mut()
            .zip(half(0).into_iter().chain(half(1)))
        {
            *to = from;
        }
        Self { incarnation }
    }

    /// The incarnation.
    #[must_use]
    pub fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    /// The id of the process that was started as number `ordinal`: even. Two ordinals may, very rarely, give the same id:
    /// the table tries the next `round` then.
    #[must_use]
    pub fn process(&self, ordinal: u64, round: u64) -> u64 {
        self.hashed(ordinal, round) & !1
    }

    /// The id of the channel that was created as number `ordinal`: odd, so that it is no process's.
    #[must_use]
    pub fn channel(&self, ordinal: u64, round: u64) -> u64 {
        !self.hashed(ordinal, round) | 1
    }

    fn hashed(&self, ordinal: u64, round: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.incarnation, ordinal, round).hash(&mut hasher);
        hasher.finish()
    }
}

/// An id as people see and type it.
#[must_use]
pub fn show(id: u64) -> String {
    format!("{id:016x}")
}

/// Whether a text can be the start of an id (or a whole one).
#[must_use]
pub fn is_id_prefix(text: &str) -> bool {
    (1..=ID_DIGITS).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a name that a client chose: 1 to 63 characters of `a-z`, `0-9`, `-`, `_` and `.`, beginning with a letter or
/// digit, and not looking like a full id.
///
/// # Errors
/// "invalid argument", naming what is wrong.
pub fn check_name(name: &str) -> Result<(), RemoteError> {
    let fail = |message: String| {
        Err(RemoteError::new(ErrorCode::InvalidArgument, message).with_field("name"))
    };
    if name.is_empty() || name.len() > MAX_NAME {
        return fail(format!("a name has 1 to {MAX_NAME} characters"));
    }
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if !name.bytes().all(fits) || name.starts_with(['-', '_', '.']) {
        return fail(format!(
            "the name `{}` may have a-z, 0-9, `-`, `_` and `.` only, and begins with a letter or digit",
            name.escape_debug()
        ));
    }
    if name.len() == ID_DIGITS && is_id_prefix(name) {
        return fail(format!("the name `{name}` looks like an id"));
    }
    Ok(())
}

/// A name for what was given none: for a process its module's file name, for a channel `channel`, and a number.
#[must_use]
pub fn default_name(module: &str, number: u64) -> String {
    let file = module.rsplit('/').next().unwrap_or(module);
    let stem = file.strip_suffix(".wasm").unwrap_or(file);
    let mut name: String = stem
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(MAX_NAME - 21)
        .collect();
    name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        name.push_str("process");
    }
    format!("{name}-{number}")
}

/// Checks the length of a target, which names a `what`.
///
/// # Errors
/// "invalid argument" when it is empty, "too large" when it is too long.
pub fn check_target(target: &str, what: &str) -> Result<(), RemoteError> {
    if target.is_empty() {
        let message = format!("the {what} id or name is empty");
        let error = RemoteError::new(ErrorCode::InvalidArgument, message);
        return Err(error.with_field("target"));
    }
    if target.len() > MAX_TARGET {
        let message = format!("a {what} id or name has at most {MAX_TARGET} bytes");
        let error = RemoteError::new(ErrorCode::TooLarge, message);
        return Err(error.with_field("target").with_limit(MAX_TARGET as u64));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_differ_with_everything_that_goes_in() {
        let one = Ids::new(&[1; 16], "127.0.0.1:1", Some(1)).incarnation();
        assert_ne!(
            one,
            Ids::new(&[2; 16], "127.0.0.1:1", Some(1)).incarnation()
        );
        assert_ne!(
            one,
            Ids::new(&[1; 16], "127.0.0.1:2", Some(1)).incarnation()
        );
        assert_ne!(
            one,
            Ids::new(&[1; 16], "127.0.0.1:1", Some(2)).incarnation()
        );
        assert_ne!(one[..8], one[8..]);
    }

    #[test]
    fn no_process_and_channel_have_the_same_id() {
        let ids = Ids::new(&[1; 16], "127.0.0.1:1", None);
        for ordinal in 0..100 {
            assert_eq!(ids.process(ordinal, 0) % 2, 0);
            assert_eq!(ids.channel(ordinal, 0) % 2, 1);
            assert_ne!(ids.process(ordinal, 0), ids.process(ordinal, 1));
            assert_ne!(ids.process(ordinal, 0) >> 8, ids.channel(ordinal, 0) >> 8);
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "hello-1", "web.api_2", "0", "deadbeef"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "A", "a b", "a\n", "ä", "0123456789abcdef", &long] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn default_names_are_valid_whatever_the_module() {
        assert_eq!(default_name("hello.wasm", 1), "hello-1");
        assert_eq!(default_name("apps/My Tool.wasm", 2), "my-tool-2");
        for module in ["", "...", "ä.wasm", &"x".repeat(300), "0123456789abcd"] {
            let name = default_name(module, u64::MAX);
            assert!(check_name(&name).is_ok(), "{name}");
        }
    }
}
