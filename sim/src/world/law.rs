//! How a broken law is told.

use core::fmt;

/// A law that does not hold: what, and how one sees it.
#[derive(Clone, Debug)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a step comes to.
pub type Law<T = ()> = Result<T, Broken>;

/// Ends the run unless the condition holds.
macro_rules! law {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::world::law::Broken(format!($($words)+)));
        }
    };
}

pub(crate) use law;
