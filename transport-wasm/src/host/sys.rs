//! The raw edge: imported functions and the mailbox words in low memory (wasm32), or the fake host (everywhere else).
//!
//! The mailbox is shared with host threads *while the guest runs*, yet a guest without the threads feature has no atomic
//! instructions: its atomics are lowered to plain loads and stores, so a `swap` is two accesses and there are no fences. Hence the cells are read
//! and written with volatile accesses only, and [`barrier`] gets a full fence from the host, whose hostcalls take locks.

#![cfg_attr(target_arch = "wasm32", allow(unsafe_code))]

/// The functions of one hostcall.
#[derive(Clone, Copy)]
#[cfg(target_arch = "wasm32")]
pub(crate) struct Call {
    pub(super) create: unsafe extern "C" fn(*const u8, u32) -> u32,
    pub(super) poll: unsafe extern "C" fn(u32, u32, *mut u8, u32) -> u32,
    pub(super) drop: unsafe extern "C" fn(u32, *mut u8, u32) -> u32,
}

/// The name of one hostcall.
#[derive(Clone, Copy)]
#[cfg(not(target_arch = "wasm32"))]
pub(crate) struct Call {
    pub(crate) name: &'static str,
}

#[cfg(target_arch = "wasm32")]
mod imp {
    use super::Call;
    use crate::host::{calls::Op, scratch};

    mod imports {
        #[link(wasm_import_module = "selium::async")]
        unsafe extern "C" {
            pub(super) fn yield_now();
        }
    }

    /// A future handle that the host never hands out (its tables grow from zero and are far smaller).
    const NO_FUTURE: u32 = u32::MAX;

    impl Call {
        /// Starts the operation; the host decodes the arguments before it returns.
        pub(crate) fn create(self, args: &[u8]) -> u32 {
            // SAFETY: the host reads `len` bytes at `args`, both taken from a live slice, and keeps no pointer.
            unsafe { (self.create)(args.as_ptr(), args.len() as u32) }
        }

        /// Polls the operation, registering `task` for its wake-up.
        pub(crate) fn poll(self, handle: u32, task: u32, result: &mut [u8]) -> u32 {
            // SAFETY: the host writes at most `capacity` bytes at `result`, both taken from a live exclusive slice, and
            // only within this call.
            unsafe { (self.poll)(handle, task, result.as_mut_ptr(), result.len() as u32) }
        }

        /// Forgets the operation; it runs on in the host.
        pub(crate) fn drop(self, handle: u32, result: &mut [u8]) {
            // SAFETY: as for `poll`.
            unsafe { (self.drop)(handle, result.as_mut_ptr(), result.len() as u32) };
        }
    }

    /// Gives control to the host until it has set the mailbox flag (or shuts down).
    pub(crate) fn yield_now() {
        // SAFETY: takes no arguments and touches no guest memory but the mailbox, which Rust does not own.
        unsafe { imports::yield_now() }
    }

    /// A full memory fence, by way of the locks that the host takes to find out that a future does not exist.
    pub(crate) fn barrier() {
        scratch::with(|buffer| crate::host::calls::ChannelDelete::CALL.drop(NO_FUTURE, buffer));
    }

    /// Reads a mailbox word.
    pub(crate) fn cell(offset: usize) -> u32 {
        let cell = core::ptr::with_exposed_provenance::<u32>(offset);
        // SAFETY: callers pass aligned offsets inside the mailbox, the words 4..1040 of linear memory. They lie at the far end of the
        // stack, which a program that has not overflowed its stack never reaches, so that no Rust object lives there; the host
        // writes them concurrently, which is what volatile is for.
        unsafe { cell.read_volatile() }
    }

    /// Writes a mailbox word.
    pub(crate) fn set_cell(offset: usize, value: u32) {
        let cell = core::ptr::with_exposed_provenance_mut::<u32>(offset);
        // SAFETY: as for `cell`.
        unsafe { cell.write_volatile(value) }
    }

    /// Copies `len` bytes at `address`, or `None` when they are not inside linear memory.
    pub(crate) fn copy_memory(address: u32, len: u32) -> Option<Vec<u8>> {
        const PAGE: usize = 65_536;
        let size = core::arch::wasm32::memory_size(0)
            .checked_mul(PAGE)
            .unwrap_or(usize::MAX);
        let end = (address as usize).checked_add(len as usize)?;
        if address == 0 || end > size {
            return None;
        }
        let mut bytes = Vec::with_capacity(len as usize);
        for at in address as usize..end {
            let byte = core::ptr::with_exposed_provenance::<u8>(at);
            // SAFETY: `at` was checked to lie inside linear memory; any byte there may be read, and a volatile read of
            // a `u8` assumes nothing about who wrote it.
            bytes.push(unsafe { byte.read_volatile() });
        }
        Some(bytes)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod imp {
    use super::Call;
    use crate::fake;

    impl Call {
        pub(crate) fn create(self, args: &[u8]) -> u32 {
            fake::create(self.name, args)
        }

        pub(crate) fn poll(self, handle: u32, task: u32, result: &mut [u8]) -> u32 {
            fake::poll(self.name, handle, task, result)
        }

        pub(crate) fn drop(self, handle: u32, _result: &mut [u8]) {
            fake::drop(self.name, handle);
        }
    }

    pub(crate) fn yield_now() {
        fake::yield_now();
    }

    pub(crate) fn barrier() {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    pub(crate) fn cell(offset: usize) -> u32 {
        fake::cell(offset)
    }

    pub(crate) fn set_cell(offset: usize, value: u32) {
        fake::set_cell(offset, value);
    }

    pub(crate) fn copy_memory(address: u32, len: u32) -> Option<Vec<u8>> {
        fake::copy_memory(address, len)
    }
}

pub(crate) use imp::{barrier, cell, copy_memory, set_cell, yield_now};
