//! How things look: text for people, JSON for programs.

pub(crate) mod channel;
pub(crate) mod escape;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod shell;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod time;
