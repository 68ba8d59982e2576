//! The host's errors, which arrive as text, as an enum.

use selium_abi::decode_driver_error_message;
use thiserror::Error;

/// Longest error text that is kept, in bytes. Host texts echo what they were given, and end up in logs and answers.
pub const MAX_ERROR_TEXT: usize = 512;

/// Why a hostcall failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The module was started without the capability for this hostcall, or the host refuses it.
    #[error("permission denied")]
    PermissionDenied,
    /// The handle, process or shared channel does not exist (any more).
    #[error("not found")]
    NotFound,
    /// The host did not like an argument. It says no more than that.
    #[error("invalid argument")]
    InvalidArgument,
    /// Refused by this crate before the host saw it: the host would trap the module, or corrupt another.
    #[error("{what} is {size} bytes long, the limit is {limit}")]
    TooLarge {
        /// What is too large, for people.
        what: &'static str,
        /// Its size in bytes (or its count).
        size: usize,
        /// The limit it exceeds, in the same unit.
        limit: usize,
    },
    /// Refused by this crate: too many callers wait for the same thing.
    #[error("too many callers wait for {0}")]
    Busy(&'static str),
    /// An argument could not be encoded, or a reply not decoded: module and runtime are of different versions.
    #[error("malformed {0} (module and runtime versions differ?)")]
    Malformed(&'static str),
    /// Any other failure, in the host's own words, cut to [`MAX_ERROR_TEXT`] bytes.
    #[error("{0}")]
    Other(String),
}

impl HostError {
    /// Classifies an error reply of the host.
    pub(crate) fn from_reply(bytes: &[u8]) -> Self {
        match decode_driver_error_message(bytes) {
            Ok(text) => Self::from_text(text),
            Err(_) => Self::Malformed("error reply"),
        }
    }

    /// Classifies an error text. The texts compared with are those of the kernel's `GuestError`.
    pub(crate) fn from_text(mut text: String) -> Self {
        match text.as_str() {
            "permission denied" => Self::PermissionDenied,
            "resource not found" => Self::NotFound,
            "invalid argument" => Self::InvalidArgument,
            _ => {
                let keep = clip(&text, MAX_ERROR_TEXT).len();
                text.truncate(keep);
                Self::Other(text)
            }
        }
    }

    /// Refuses `size` when it exceeds `limit`.
    pub(crate) fn check(what: &'static str, size: usize, limit: usize) -> Result<(), Self> {
        if size > limit {
            return Err(Self::TooLarge { what, size, limit });
        }
        Ok(())
    }
}

/// The longest prefix of `text` that has at most `max` bytes and ends on a character boundary.
pub(crate) fn clip(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use selium_abi::encode_driver_error_message;

    use super::*;

    #[test]
    fn texts_are_classified() {
        let decode =
            |text: &str| HostError::from_reply(&encode_driver_error_message(text).unwrap());
        assert_eq!(decode("permission denied"), HostError::PermissionDenied);
        assert_eq!(decode("resource not found"), HostError::NotFound);
        assert_eq!(decode("invalid argument"), HostError::InvalidArgument);
        assert_eq!(
            decode("internal error: x"),
            HostError::Other("internal error: x".into())
        );
        assert_eq!(
            HostError::from_reply(&[1, 2]),
            HostError::Malformed("error reply")
        );
        assert_eq!(
            HostError::from_reply(&[255; 40]),
            HostError::Malformed("error reply")
        );
    }

    #[test]
    fn long_texts_are_cut_on_a_character_boundary() {
        let text = format!("a{}", "é".repeat(600));
        match HostError::from_text(text) {
            HostError::Other(cut) => {
                assert_eq!(cut.len(), MAX_ERROR_TEXT - 1);
                assert!(cut.ends_with('é'));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(clip("ééé", 1), "");
        assert_eq!(clip("abc", 3), "abc");
    }
}
