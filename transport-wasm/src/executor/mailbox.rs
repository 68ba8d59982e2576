//! The guest's end of the wake-up mailbox.
//!
//! The host's end works like this, on any thread, while the guest runs:
//!
//! ```text
//!   tail = TAIL++            the position is published first,
//!   RING[tail % 256] = id    the slot is stored later ("late slot"),
//!   FLAG = 1; notify         then the flag, then the sleeping guest
//! ```
//!
//! It never looks at HEAD, so more than 256 unread wake-ups overwrite each other. Our end answers that with:
//!
//! - *Sentinels.* Every consumed slot is overwritten with [`SENTINEL`]; reading one means that the slot is late, and the
//!   drain stops there without advancing. The host sets the flag after the slot, so sleeping meanwhile is safe.
//! - *Overflow.* When the tail ran more than a lap ahead, before or during the drain, ids were lost: every task is woken,
//!   the ring is wiped, and the head joins the tail.
//! - *Strays.* After an overflow a host thread may still store into a slot whose position was skipped. From then on the slots outside
//!   head..tail are looked at, too, before each sleep.
//!
//! The flag is only read by the host, in `yield_now`. It is cleared before the last drain that precedes a sleep, with a fence
//! between: without it, a processor could read the old tail before the host sees the cleared flag, and a wake-up would be lost.

use selium_abi::mailbox::{
    CAPACITY, FLAG_OFFSET, HEAD_OFFSET, RING_OFFSET, SLOT_SIZE, TAIL_OFFSET,
};

use crate::host::sys;

/// What a consumed slot holds. Task ids are small indexes and never reach it.
pub(crate) const SENTINEL: u32 = u32::MAX;

/// From this span on a drain double-checks, behind a fence, that it was not lapped while it ran.
const NEAR_WRAP: u32 = CAPACITY - CAPACITY / 4;

/// Whom to wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The task with this id, if it exists (any more).
    One(u32),
    /// Every task: ids were lost.
    All,
}

/// Our cursor.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    head: u32,
    strays: bool,
}

fn slot(position: u32) -> usize {
    RING_OFFSET + (position % CAPACITY) as usize * SLOT_SIZE
}

impl Mailbox {
    /// Takes over the mailbox. Fresh memory is zero, which would read as task 0.
    pub(crate) fn open() -> Self {
        let mut mailbox = Self::default();
        mailbox.resync();
        mailbox.strays = false;
        mailbox
    }

    /// Consumes what has arrived; returns the number of wake-ups passed to `wake`.
    pub(crate) fn drain(&mut self, mut wake: impl FnMut(Wake)) -> usize {
        let start = self.head;
        let tail = sys::cell(TAIL_OFFSET);
        if tail.wrapping_sub(start) > CAPACITY {
            self.resync();
            wake(Wake::All);
            return 1;
        }
        let mut count = 0;
        while self.head != tail {
            let id = sys::cell(slot(self.head));
            if id == SENTINEL {
                break;
            }
            sys::set_cell(slot(self.head), SENTINEL);
            self.head = self.head.wrapping_add(1);
            count += 1;
            wake(Wake::One(id));
        }
        if count > 0 {
            sys::set_cell(HEAD_OFFSET, self.head);
        }
        // Lapped while draining? Then a slot may have been overwritten between our read and our sentinel.
        if sys::cell(TAIL_OFFSET).wrapping_sub(start) > NEAR_WRAP {
            sys::barrier();
            if sys::cell(TAIL_OFFSET).wrapping_sub(start) > CAPACITY {
                self.resync();
                wake(Wake::All);
                count += 1;
            }
        }
        count
    }

    /// Clears the flag and drains what came before the host could see that. When it returns 0 it is safe to sleep: whatever is stored
    /// from here on sets the flag again.
    pub(crate) fn prepare_sleep(&mut self, mut wake: impl FnMut(Wake)) -> usize {
        sys::set_cell(FLAG_OFFSET, 0);
        sys::barrier();
        let count = self.drain(&mut wake);
        if self.strays {
            count + self.sweep(wake)
        } else {
            count
        }
    }

    /// Whether the host has signalled since the flag was cleared.
    pub(crate) fn is_signalled(&self) -> bool {
        sys::cell(FLAG_OFFSET) != 0
    }

    /// Skips everything: wipes the ring, then joins the tail. Whoever stored before the wipe is covered by the `Wake::All` that follows;
    /// whoever stores a skipped position later is a stray.
    fn resync(&mut self) {
        for position in 0..CAPACITY {
            sys::set_cell(slot(position), SENTINEL);
        }
        sys::barrier();
        self.head = sys::cell(TAIL_OFFSET);
        sys::set_cell(HEAD_OFFSET, self.head);
        self.strays = true;
    }

    /// Consumes slots outside head..tail, which only late stores of skipped positions can have filled.
    fn sweep(&mut self, mut wake: impl FnMut(Wake)) -> usize {
        let mut count = 0;
        for ahead in 0..CAPACITY {
            let position = self.head.wrapping_add(ahead);
            let id = sys::cell(slot(position));
            if id == SENTINEL || ahead < sys::cell(TAIL_OFFSET).wrapping_sub(self.head) {
                continue;
            }
            sys::set_cell(slot(position), SENTINEL);
            count += 1;
            wake(Wake::One(id));
            // The host may have claimed this very position meanwhile and our sentinel may have hit its id.
            sys::barrier();
            if ahead < sys::cell(TAIL_OFFSET).wrapping_sub(self.head) {
                self.resync();
                wake(Wake::All);
                return count + 1;
            }
        }
        count
    }
}
