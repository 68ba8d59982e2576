//! The fake host's tables and its plausible answers.

use core::cell::RefCell;
use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use selium_abi::{
    IoWrite, NetCreateListenerReply, decode_rkyv,
    mailbox::{CAPACITY, RING_OFFSET, SLOT_SIZE},
};

use super::{Reply, error, ok};

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// The slot that it keeps busy.
    pub(super) slot: Option<u32>,
    pub(super) result: Option<Reply>,
    pub(super) task: Option<u32>,
    pub(super) dropped: bool,
}

pub(super) type Handler = Rc<RefCell<dyn FnMut(&[u8]) -> Reply>>;
pub(super) type Hook = Rc<RefCell<dyn FnMut()>>;

#[derive(Default)]
pub(super) struct Host {
    pub(super) operations: BTreeMap<u32, Operation>,
    pub(super) next: u32,
    pub(super) calls: BTreeMap<&'static str, usize>,
    pub(super) polls: usize,
    pub(super) handlers: BTreeMap<String, Handler>,
    /// Occupied slots are `Some(is_channel)`.
    pub(super) slots: Vec<Option<bool>>,
    pub(super) free: Vec<u32>,
    pub(super) busy: Vec<u32>,
    pub(super) violations: Vec<String>,
    pub(super) cells: Vec<u32>,
    pub(super) yields: usize,
    pub(super) on_yield: Option<Hook>,
    pub(super) on_cell: Option<Hook>,
    pub(super) memory: (u32, Vec<u8>),
    pub(super) written: VecDeque<(u32, Vec<u8>)>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

pub(super) fn with<R>(use_host: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with(|host| use_host(&mut host.borrow_mut()))
}

pub(super) const CELLS: usize = RING_OFFSET / SLOT_SIZE + CAPACITY as usize;

fn is_channel_io(name: &str) -> bool {
    matches!(
        name,
        "selium::channel::weak_read"
            | "selium::channel::strong_read"
            | "selium::channel::weak_write"
            | "selium::channel::strong_write"
    )
}

impl Host {
    pub(super) fn raw_cell(&mut self, offset: usize) -> &mut u32 {
        if self.cells.len() < CELLS {
            self.cells.resize(CELLS, 0);
        }
        let last = self.cells.len() - 1;
        #[expect(
            clippy::indexing_slicing,
            reason = "clamped to the length, and only tests run this"
        )]
        &mut self.cells[(offset / SLOT_SIZE).min(last)]
    }

    pub(super) fn alloc(&mut self, is_channel: bool) -> u32 {
        if let Some(slot) = self.free.pop() {
            if let Some(entry) = self.slots.get_mut(slot as usize) {
                *entry = Some(is_channel);
            }
            return slot;
        }
        self.slots.push(Some(is_channel));
        (self.slots.len() - 1) as u32
    }

    /// `delete` and `detach`: whether the slot held a channel.
    pub(super) fn free(&mut self, what: &str, slot: u32) -> bool {
        // Readers and writers of channels may be freed under an operation that nobody waits for any more: it holds them until it ends.
        for operation in self.operations.values_mut() {
            if operation.slot == Some(slot) && operation.dropped && is_channel_io(operation.name) {
                operation.slot = None;
                self.busy.retain(|busy| *busy != slot);
            }
        }
        if self.busy.contains(&slot) {
            self.violations
                .push(format!("{what} of slot {slot} under a running operation"));
        }
        let taken = self.slots.get_mut(slot as usize).and_then(Option::take);
        match taken {
            Some(_) => self.free.push(slot),
            None => self.violations.push(format!("{what} of free slot {slot}")),
        }
        taken == Some(true)
    }

    /// The answers of an ordinary host.
    pub(super) fn answer(&mut self, name: &str, args: &[u8]) -> Reply {
        let slot = decode_rkyv::<u32>(args).unwrap_or(u32::MAX);
        match name {
            "selium::channel::delete" => {
                if self.free("delete", slot) {
                    ok(&())
                } else {
                    error("resource not found")
                }
            }
            "selium::channel::detach" => {
                self.free("detach", slot);
                ok(&())
            }
            "selium::channel::create" | "selium::channel::attach" => ok(&self.alloc(true)),
            "selium::channel::share" => ok(&(u64::from(slot) + 1_000)),
            "selium::channel::drain"
            | "selium::process::stop"
            | "selium::process::register_log_channel" => ok(&()),
            "selium::net::quic::bind" => ok(&NetCreateListenerReply {
                handle: u64::from(self.alloc(false)),
            }),
            "selium::process::start" => ok(&(274_877_906_944u64 + u64::from(self.next))),
            "selium::process::log_channel" => ok(&7u64),
            "selium::net::quic::accept"
            | "selium::net::quic::read"
            | "selium::channel::weak_read"
            | "selium::channel::strong_read" => Reply::Pending,
            "selium::net::quic::write"
            | "selium::channel::strong_write"
            | "selium::channel::weak_write" => match decode_rkyv::<IoWrite>(args) {
                Ok(write) => {
                    let len = write.payload.len() as u32;
                    self.written.push_back((write.handle, write.payload));
                    ok(&len)
                }
                Err(_) => error("invalid argument"),
            },
            _ if name.ends_with("_reader_create") || name.ends_with("_writer_create") => {
                ok(&self.alloc(false))
            }
            _ => error("permission denied"),
        }
    }
}
