//! Errors of policy files: where, what, and what to write instead.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The position of a byte in a text.
    pub(crate) fn of(text: &str, at: usize) -> Self {
        let before = selium_remote_client_protocol::error::clip(text, at);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }
}

/// Why a policy cannot be used. It says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyError {
    /// The policy file.
    pub path: PathBuf,
    /// Where in it; `None` when it is about no place there.
    pub position: Option<Position>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl PolicyError {
    pub(crate) fn new(path: &Path, position: Option<Position>, message: String) -> Self {
        Self {
            path: path.to_owned(),
            position,
            message,
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for PolicyError {}
