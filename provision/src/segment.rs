//! The segment of the module that a provision is patched into.
//!
//! The module has it as a static of its own, and reads it so that the compiler cannot know what is in it:
//!
//! ```
//! use core::hint::black_box;
//! use selium_remote_provision::{format, segment};
//!
//! #[used]
//! static SEGMENT: [u8; segment::CAPACITY] = segment::EMPTY;
//!
//! match format::decode(black_box(&SEGMENT)) {
//!     Ok(None) => {}                 // Unprovisioned: as it was compiled in.
//!     Ok(Some(provision)) => drop(provision),
//!     Err(error) => drop(error),     // Log it, and listen on nothing.
//! }
//! ```
//!
//! It must be the only one in the module, and [`EMPTY`] must not be named anywhere else there, or its marker stands in the
//! file twice and `install` refuses the module. (This is why [`crate::format`] knows the marker by its hash only.)

/// The bytes of the segment. They are part of every module file, provisioned or not, so it is no larger than needed: a
/// chain and a key (3 KiB at most where they are ECDSA), and 16 roles with two CAs of 700 bytes each (22 KiB) leave
/// room for 100 patterns. Past it a provision is refused with its size.
pub const CAPACITY: usize = 32 * 1024;

/// What fills the segment up. It is not zero: tools that pack modules cut data apart where it has zeros.
pub(crate) const FILLING: u8 = 0xa5;

/// The bytes of the marker.
pub(crate) const MARKER_LEN: usize = 32;

/// What the segment starts with, so that `install` finds it. 32 random bytes.
pub(crate) const MARKER: [u8; MARKER_LEN] = [
    0xde, 0xc6, 0x14, 0xb0, 0x01, 0x16, 0xdd, 0xd9, 0xe9, 0x96, 0x52, 0xf2, 0x4f, 0xcb, 0xbe, 0x32,
    0xe9, 0xbc, 0xc4, 0x2d, 0xd6, 0x38, 0x1c, 0x40, 0xf7, 0x8f, 0xe0, 0x25, 0x1c, 0x61, 0xe1, 0x9e,
];

/// The segment as it is compiled in. Exactly these bytes, all of them, are the unprovisioned state.
#[allow(
    clippy::large_const_arrays,
    reason = "a static cannot be what another static is made of"
)]
pub const EMPTY: [u8; CAPACITY] = empty();

#[allow(clippy::indexing_slicing, reason = "checked while compiling")]
const fn empty() -> [u8; CAPACITY] {
    let mut bytes = [FILLING; CAPACITY];
    let mut at = 0;
    while at < MARKER_LEN {
        bytes[at] = MARKER[at];
        at += 1;
    }
    bytes
}
