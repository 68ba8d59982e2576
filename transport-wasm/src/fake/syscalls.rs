//! The fake host's end of the hostcalls.

use selium_abi::{
    DRIVER_ERROR_MESSAGE_CODE, DriverPollResult, IoRead, IoWrite, NetAccept, decode_rkyv,
    encode_driver_error_message, mailbox::FLAG_OFFSET,
};

use super::{
    Reply, error,
    state::{Operation, with},
    wake,
};

/// The slot that an operation keeps busy while it runs.
fn busy_slot(name: &str, args: &[u8]) -> Option<u32> {
    match name.rsplit("::").next()? {
        "accept" => decode_rkyv::<NetAccept>(args)
            .ok()
            .map(|accept| accept.handle as u32),
        "read" | "weak_read" | "strong_read" => {
            decode_rkyv::<IoRead>(args).ok().map(|read| read.handle)
        }
        "write" | "weak_write" | "strong_write" => {
            decode_rkyv::<IoWrite>(args).ok().map(|write| write.handle)
        }
        _ => None,
    }
}

fn aligned(args: &[u8]) -> Vec<u8> {
    // The guest's arguments come from an aligned vector, but `Vec<u8>` promises nothing; allocators align what is this large.
    let mut bytes = Vec::with_capacity(args.len().max(64));
    bytes.extend_from_slice(args);
    bytes
}

pub(crate) fn create(name: &'static str, args: &[u8]) -> u32 {
    let args = aligned(args);
    let slot = busy_slot(name, &args);
    let handler = with(|host| {
        *host.calls.entry(name).or_default() += 1;
        if let Some(slot) = slot {
            if host.busy.contains(&slot) {
                host.violations
                    .push(format!("{name}: second operation on slot {slot}"));
            }
            if host.slots.get(slot as usize).copied().flatten().is_none() {
                host.violations.push(format!("{name} on free slot {slot}"));
            }
        }
        host.handlers.get(name).cloned()
    });
    let reply = match handler {
        Some(handler) => (handler.borrow_mut())(&args),
        None => with(|host| host.answer(name, &args)),
    };
    let result = match reply {
        Reply::Pending => None,
        ready => Some(ready),
    };
    with(|host| {
        let handle = host.next;
        host.next += 1;
        let slot = slot.filter(|_| result.is_none());
        host.busy.extend(slot);
        host.operations.insert(
            handle,
            Operation {
                name,
                slot,
                result,
                task: None,
                dropped: false,
            },
        );
        handle
    })
}

pub(crate) fn poll(name: &'static str, handle: u32, task: u32, buffer: &mut [u8]) -> u32 {
    let polled = with(|host| {
        host.polls += 1;
        match host.operations.get_mut(&handle) {
            Some(operation) if operation.name == name && !operation.dropped => {
                if operation.result.is_none() {
                    operation.task = Some(task);
                    return None;
                }
                host.operations
                    .remove(&handle)
                    .and_then(|operation| operation.result)
            }
            _ => {
                host.violations
                    .push(format!("{name}: poll of unknown handle {handle}"));
                Some(error("resource not found"))
            }
        }
    });
    let (bytes, word) = match polled {
        None | Some(Reply::Pending) => return DriverPollResult::Pending.into(),
        Some(Reply::Ready(bytes)) => {
            let word = DriverPollResult::Ready(bytes.len() as u32).into();
            (bytes, word)
        }
        Some(Reply::Error(text)) => (
            encode_driver_error_message(&text).unwrap_or_default(),
            DriverPollResult::Error(DRIVER_ERROR_MESSAGE_CODE).into(),
        ),
    };
    // As the real host: registering the waker of a finished operation wakes at once.
    wake(task);
    match buffer.get_mut(..bytes.len()) {
        Some(space) => space.copy_from_slice(&bytes),
        None => with(|host| {
            host.violations.push(format!(
                "{name}: a result of {} bytes traps the guest",
                bytes.len()
            ))
        }),
    }
    word
}

pub(crate) fn drop(name: &'static str, handle: u32) {
    with(|host| match host.operations.get_mut(&handle) {
        Some(operation) if operation.result.is_some() => {
            host.operations.remove(&handle);
        }
        Some(operation) if !operation.dropped => {
            operation.dropped = true;
            operation.task = None;
        }
        _ => host
            .violations
            .push(format!("{name}: drop of unknown handle {handle}")),
    });
}

pub(crate) fn yield_now() {
    let hook = with(|host| {
        host.yields += 1;
        if *host.raw_cell(FLAG_OFFSET) != 0 {
            None
        } else {
            host.on_yield.clone()
        }
    });
    if let Some(hook) = hook {
        (hook.borrow_mut())();
    }
}

fn touch_cell() {
    let hook = with(|host| host.on_cell.clone());
    if let Some(hook) = hook {
        (hook.borrow_mut())();
    }
}

pub(crate) fn cell(offset: usize) -> u32 {
    touch_cell();
    with(|host| *host.raw_cell(offset))
}

pub(crate) fn set_cell(offset: usize, value: u32) {
    touch_cell();
    with(|host| *host.raw_cell(offset) = value);
}

pub(crate) fn copy_memory(address: u32, len: u32) -> Option<Vec<u8>> {
    with(|host| {
        let (base, bytes) = &host.memory;
        let start = address.checked_sub(*base)? as usize;
        bytes
            .get(start..start.checked_add(len as usize)?)
            .map(<[u8]>::to_vec)
    })
}
