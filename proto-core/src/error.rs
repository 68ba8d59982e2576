//! Error codes and the errors that travel (PROTOCOL.md, "Errors").

use core::fmt;

use thiserror::Error;

use crate::{
    fields::{FieldError, FieldErrorKind, FieldReader, FieldWriter},
    limits::{MAX_ERROR_FIELD, MAX_ERROR_MESSAGE},
};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)+) => {
        /// What went wrong, as it travels. Codes that a reader does not know become [`ErrorCode::Internal`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $value,)+
        }

        impl ErrorCode {
            /// Every code, in order of the numbers.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)+];

            /// The code with this number.
            #[must_use]
            pub const fn from_wire(value: u64) -> Self {
                match value {
                    $($value => ErrorCode::$name,)+
                    _ => ErrorCode::Internal,
                }
            }

            /// The code in words, as users know it from other systems.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// The request itself is wrong; sending it again changes nothing.
    InvalidArgument = 1, "invalid argument";
    /// What it names does not exist.
    NotFound = 2, "not found";
    /// What it would make exists.
    AlreadyExists = 3, "already exists";
    /// The role may not do this.
    PermissionDenied = 4, "permission denied";
    /// The peer is not known.
    Unauthenticated = 5, "unauthenticated";
    /// A limit is reached; later it may work.
    ResourceExhausted = 6, "resource exhausted";
    /// Something is longer than its limit; it never works.
    TooLarge = 7, "too large";
    /// The deadline passed before the operation was handed to the host.
    DeadlineExceeded = 8, "deadline exceeded";
    /// The operation was cancelled.
    Cancelled = 9, "cancelled";
    /// The operation may or may not have happened; look before trying again.
    OutcomeUnknown = 10, "outcome unknown";
    /// The server cannot serve now (it drains, or the runtime does not answer).
    Unavailable = 11, "unavailable";
    /// This server has no such operation or field.
    Unsupported = 12, "unsupported";
    /// The server failed.
    Internal = 13, "internal";
    /// The peer broke the protocol; the connection ends.
    Protocol = 14, "protocol error";
}

impl ErrorCode {
    /// The code's number.
    #[must_use]
    pub const fn to_wire(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as one side tells it to the other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{message}", Prefix(*code, message))]
#[non_exhaustive]
pub struct RemoteError {
    /// What kind of error.
    pub code: ErrorCode,
    /// A sentence for people: what, why, and what to do. At most [`MAX_ERROR_MESSAGE`] bytes.
    pub message: String,
    /// The field of the request that is at fault, where that helps. At most [`MAX_ERROR_FIELD`] bytes.
    pub field: Option<String>,
    /// The limit that was passed, where there is one, in the field's own unit.
    pub limit: Option<u64>,
    /// The process that exists although the request ended in this error ("cancelled, started as").
    pub process: Option<u64>,
}

/// The code in front of the message, unless the message says it already or there is none.
struct Prefix<'a>(ErrorCode, &'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_empty() {
            return self.0.fmt(f);
        }
        if self.1.starts_with(self.0.as_str()) {
            return Ok(());
        }
        write!(f, "{}: ", self.0)
    }
}

impl RemoteError {
    /// An error with a message; a message past its limit is cut.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: truncated(message.into(), MAX_ERROR_MESSAGE),
            field: None,
            limit: None,
            process: None,
        }
    }

    /// Names the field that is at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(truncated(field.into(), MAX_ERROR_FIELD));
        self
    }

    /// States the limit that was passed.
    #[must_use]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Names the process that exists in spite of the error.
    #[must_use]
    pub fn with_process(mut self, process: u64) -> Self {
        self.process = Some(process);
        self
    }

    /// The error's fields (the code travels outside of them).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldWriter::new();
        fields.text(1, clip(&self.message, MAX_ERROR_MESSAGE));
        if let Some(field) = &self.field {
            fields.text(2, clip(field, MAX_ERROR_FIELD));
        }
        if let Some(limit) = self.limit {
            fields.uint(3, limit);
        }
        if let Some(process) = self.process {
            fields.uint(4, process);
        }
        fields.finish()
    }

    /// Reads the fields of an error with this code.
    ///
    /// # Errors
    /// When the fields are malformed.
    pub fn decode(code: ErrorCode, body: &[u8]) -> Result<Self, FieldError> {
        let mut error = RemoteError::new(code, "");
        let mut fields = FieldReader::new(body);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => error.message = field.text(MAX_ERROR_MESSAGE)?.to_owned(),
                2 => error.field = Some(field.text(MAX_ERROR_FIELD)?.to_owned()),
                3 => error.limit = Some(field.uint()?),
                4 => error.process = Some(field.uint()?),
                _ => field.unknown()?,
            }
        }
        Ok(error)
    }
}

impl From<FieldError> for RemoteError {
    /// A body that could not be read: "unsupported" when it asks for something unknown, "invalid argument" otherwise.
    fn from(error: FieldError) -> Self {
        let code = match error.kind {
            FieldErrorKind::UnknownMandatory => ErrorCode::Unsupported,
            FieldErrorKind::TooLong(_) => ErrorCode::TooLarge,
            _ => ErrorCode::InvalidArgument,
        };
        let remote = RemoteError::new(code, error.to_string()).with_field(error.number.to_string());
        match error.kind {
            FieldErrorKind::TooLong(limit) => remote.with_limit(limit as u64),
            _ => remote,
        }
    }
}

/// The longest start of `text` with at most `limit` bytes that ends between characters.
#[must_use]
pub fn clip(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn truncated(mut text: String, limit: usize) -> String {
    let end = clip(&text, limit).len();
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_wire(u64::from(code.to_wire())), *code);
        }
        assert_eq!(ErrorCode::from_wire(9_999), ErrorCode::Internal);
    }

    #[test]
    fn errors_round_trip_and_are_cut() {
        let error = RemoteError::new(ErrorCode::TooLarge, "ä".repeat(600))
            .with_field("entrypoint")
            .with_limit(256)
            .with_process(u64::MAX);
        assert_eq!(error.message.len(), 1_024);
        assert_eq!(
            RemoteError::decode(ErrorCode::TooLarge, &error.encode()),
            Ok(error)
        );
    }

    #[test]
    fn the_code_is_said_once() {
        let shown = |code, message: &str| RemoteError::new(code, message).to_string();
        assert_eq!(
            shown(ErrorCode::NotFound, "no process `x`"),
            "not found: no process `x`"
        );
        assert_eq!(
            shown(ErrorCode::Cancelled, "cancelled, started as 1"),
            "cancelled, started as 1"
        );
        assert_eq!(shown(ErrorCode::Internal, ""), "internal");
    }
}
