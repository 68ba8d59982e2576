//! The one buffer that all hostcalls write their results into, and the one that their arguments are encoded in.
//!
//! A reply that is longer than the buffer handed to `poll` traps the guest, and a trap ends the server for every client. The host writes results only
//! inside `poll` and each result is decoded before the next `poll`, so one generous buffer serves all operations.

#![allow(unsafe_code)]

use core::cell::RefCell;

/// Largest payload of a read, in bytes.
pub const MAX_READ: u32 = 1024 * 1024;

/// Room for what surrounds a payload in an encoded reply, and for error texts that echo bounded arguments.
const HEADROOM: usize = 16 * 1024;

/// The alignment of a scratch word; rkyv checks the alignment of what it reads in place.
const WORD: usize = size_of::<u128>();

const WORDS: usize = (MAX_READ as usize + HEADROOM) / WORD;

thread_local! {
    static SCRATCH: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
    static ARGS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends an empty buffer to `use_buffer`, which has the room that it had when it was lent last: as much as the longest argument, a frame. Nested
/// use would get a second one.
pub(crate) fn with_args<R>(use_buffer: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let lent = ARGS.try_with(|args| {
        args.try_borrow_mut()
            .map(|mut args| core::mem::take(&mut *args))
    });
    let mut args = match lent {
        Ok(Ok(args)) => args,
        _ => Vec::new(),
    };
    args.clear();
    let result = use_buffer(&mut args);
    let _ = ARGS.try_with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut()
            && slot.capacity() < args.capacity()
        {
            *slot = args;
        }
    });
    result
}

/// Lends the buffer to `use_buffer`. Nested use would get a second buffer of the same size; no code path of this crate nests.
pub(crate) fn with<R>(use_buffer: impl FnOnce(&mut [u8]) -> R) -> R {
    let lent = SCRATCH.try_with(|scratch| {
        scratch
            .try_borrow_mut()
            .map(|mut words| core::mem::take(&mut *words))
    });
    let mut words = match lent {
        Ok(Ok(words)) => words,
        _ => Vec::new(),
    };
    if words.is_empty() {
        // Zeroed pages from the allocator: no megabyte passes over the stack, which is only a megabyte itself.
        words = vec![0; WORDS];
    }
    let result = use_buffer(bytes_of(&mut words));
    let _ = SCRATCH.try_with(|scratch| {
        if let Ok(mut slot) = scratch.try_borrow_mut() {
            *slot = words;
        }
    });
    result
}

fn bytes_of(words: &mut [u128]) -> &mut [u8] {
    let len = size_of_val(words);
    // SAFETY: the slice covers exactly the memory of `words`, is exclusively borrowed from it for the same lifetime, `u8` has no
    // alignment or validity requirements, and every byte pattern is a valid `u128` again.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_large_aligned_and_reused() {
        let first = with(|buffer| {
            assert!(buffer.len() > MAX_READ as usize);
            assert_eq!(buffer.as_ptr() as usize % 16, 0);
            buffer.as_ptr() as usize
        });
        assert_eq!(with(|buffer| buffer.as_ptr() as usize), first);
        // Nested use must not see the same memory.
        with(|outer| with(|inner| assert_ne!(outer.as_ptr(), inner.as_ptr())));
    }
}
