//! What was written into this module's file by `selium server install`.

use core::hint::black_box;

use selium_remote_provision::{Provision, ProvisionError, format, segment};

/// Where it stands. `selium server install` finds the place by its first bytes.
#[used]
static SEGMENT: [u8; segment::CAPACITY] = segment::EMPTY;

/// What is provisioned; `None` when nothing is.
///
/// # Errors
/// When it was damaged or changed, or is of another version: nothing may be served then.
pub(crate) fn read() -> Result<Option<Provision>, ProvisionError> {
    // The compiler knows what the segment was compiled with, and must not.
    format::decode(black_box(&SEGMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_it_is_compiled_nothing_is_provisioned() {
        assert_eq!(read(), Ok(None));
    }
}
