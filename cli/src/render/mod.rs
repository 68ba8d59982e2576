//! How things look: text for people, JSON for programs.

pub(crate) mod escape;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod shell;
pub(crate) mod table;
pub(crate) mod time;
