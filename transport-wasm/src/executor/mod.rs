//! A single-threaded executor on the host's wake-up mailbox.
//!
//! Tasks live in a table, and the host is given plain table indexes as task ids: a wake-up costs O(1), polls exactly the
//! woken task, and an id that outlives its task is harmless (the host delivers such ids in normal operation: every
//! poll that returns ready enqueues one more wake-up). One waker per task is made when it is spawned; polling allocates nothing.
//!
//! # The loop
//!
//! ```text
//!   drain the mailbox ──► poll up to POLLS_PER_DRAIN ready tasks ──┐
//!        ▲                                                         │ some left
//!        ├─────────────────────────────────────────────────────────┘
//!        │ none left: clear the flag, fence, drain again
//!        └──────────── nothing came: yield to the host until it sets the flag
//! ```
//!
//! When the host shuts down, its `yield_now` returns without a wake-up. One such return is taken for spurious; after
//! [`MAX_EMPTY_YIELDS`] in a row [`run`] gives up with [`RunError::HostClosed`], because a guest that
//! loops without yielding can neither be stopped by the host nor do anything useful.

mod mailbox;
mod sync;
mod task;
#[cfg(test)]
mod tests;

use core::{
    cell::{Cell, RefCell},
    future::Future,
    task::{Context, Poll},
};
use std::{rc::Rc, sync::Arc};

use mailbox::{Mailbox, Wake};
pub use sync::{Acquire, Gate, GateFull, Notified, Notify, Permit, YieldNow, yield_now};
use task::{Key, ReadyQueue, Task, TaskFuture};
use thiserror::Error;

use crate::host::sys;

/// Most tasks at a time, not counting orphaned operations. A task costs its future and about 150 bytes.
pub const MAX_TASKS: usize = 16_384;

/// Most orphaned operations at a time (see [`crate::orphan`]); beyond it a dropped operation is forgotten and its slot leaks.
pub const MAX_ORPHANS: usize = 16_384;

/// Task polls before the mailbox is looked at again, so that no chain of local wake-ups delays the host's.
pub const POLLS_PER_DRAIN: usize = 64;

/// Returns of `yield_now` in a row, with neither flag nor wake-up, after which the host counts as closed.
pub const MAX_EMPTY_YIELDS: usize = 64;

/// Stands for "no task"; never a task id (ids are below [`MAX_TASKS`] + [`MAX_ORPHANS`] + 1), and never the mailbox sentinel.
const NO_TASK: u32 = u32::MAX - 1;

/// The task table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many tasks ({MAX_TASKS})")]
pub struct SpawnError;

/// Why [`run`] ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The host wakes nobody any more.
    #[error("the host has shut down")]
    HostClosed,
    /// `run` was called from inside a task.
    #[error("the executor is running already")]
    AlreadyRunning,
    /// The root task found no room.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

#[derive(Default)]
struct Tasks {
    table: Vec<Option<Task>>,
    free: Vec<u32>,
    generation: u32,
    live: usize,
    orphans: usize,
    running: bool,
    closing: bool,
    ready: Arc<ReadyQueue>,
}

thread_local! {
    static TASKS: RefCell<Tasks> = RefCell::new(Tasks::default());
    static CURRENT: Cell<u32> = const { Cell::new(NO_TASK) };
}

/// Runs `use_tasks` on the table. `None` while the thread's storage is being destroyed. Never calls out while borrowed: futures are
/// taken out of the table to be polled or dropped, so that they may spawn.
fn with_tasks<R>(use_tasks: impl FnOnce(&mut Tasks) -> R) -> Option<R> {
    TASKS
        .try_with(|tasks| {
            tasks
                .try_borrow_mut()
                .ok()
                .map(|mut tasks| use_tasks(&mut tasks))
        })
        .ok()
        .flatten()
}

impl Tasks {
    fn has_room(&self, is_orphan: bool) -> bool {
        if is_orphan {
            !self.closing && self.orphans < MAX_ORPHANS
        } else {
            self.live - self.orphans < MAX_TASKS
        }
    }

    fn insert(&mut self, future: TaskFuture, is_orphan: bool) {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.table.push(None);
                // `has_room` bounds the table far below 2^32.
                (self.table.len() - 1) as u32
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let key = Key {
            id,
            generation: self.generation,
        };
        let task = Task::new(key, future, &self.ready, is_orphan);
        self.live += 1;
        self.orphans += usize::from(is_orphan);
        self.ready.reserve(self.live);
        task.handle.schedule();
        if let Some(entry) = self.table.get_mut(id as usize) {
            *entry = Some(task);
        }
    }

    fn get(&mut self, key: Key) -> Option<&mut Task> {
        let task = self.table.get_mut(key.id as usize)?.as_mut()?;
        (task.generation == key.generation).then_some(task)
    }

    fn remove(&mut self, id: u32) -> Option<Task> {
        let task = self.table.get_mut(id as usize)?.take()?;
        task.handle.retire();
        self.free.push(id);
        self.live -= 1;
        self.orphans -= usize::from(task.is_orphan);
        Some(task)
    }

    fn wake(&self, wake: Wake) {
        match wake {
            Wake::One(id) => {
                if let Some(Some(task)) = self.table.get(id as usize) {
                    task.handle.schedule();
                }
            }
            Wake::All => self
                .table
                .iter()
                .flatten()
                .for_each(|task| task.handle.schedule()),
        }
    }
}

/// Spawns a task; it is polled for the first time by [`run`], in the order of spawning. May be called before `run`.
///
/// # Errors
/// [`SpawnError`] when [`MAX_TASKS`] tasks exist; the future is dropped.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Result<(), SpawnError> {
    spawn_as(future, false)
}

/// Spawns a task that drives an orphaned operation.
pub(crate) fn spawn_orphan(future: impl Future<Output = ()> + 'static) -> Result<(), SpawnError> {
    spawn_as(future, true)
}

/// Whether [`spawn_orphan`] would succeed now.
pub(crate) fn has_orphan_room() -> bool {
    with_tasks(|tasks| tasks.has_room(true)).unwrap_or(false)
}

fn spawn_as(future: impl Future<Output = ()> + 'static, is_orphan: bool) -> Result<(), SpawnError> {
    if with_tasks(|tasks| tasks.has_room(is_orphan)) != Some(true) {
        return Err(SpawnError);
    }
    let future: TaskFuture = Box::pin(future);
    with_tasks(|tasks| tasks.insert(future, is_orphan)).ok_or(SpawnError)
}

/// Number of tasks, orphaned operations included.
pub fn task_count() -> usize {
    with_tasks(|tasks| tasks.live).unwrap_or(0)
}

/// Number of orphaned operations that the host has not finished.
pub(crate) fn orphan_count() -> usize {
    with_tasks(|tasks| tasks.orphans).unwrap_or(0)
}

/// The id of the task being polled, for the host.
pub(crate) fn current_task() -> u32 {
    CURRENT.try_with(Cell::get).unwrap_or(NO_TASK)
}

/// Runs tasks until `root` completes, then drops all others (their operations are forgotten: the module is about to end).
///
/// # Errors
/// [`RunError::HostClosed`] when the host has shut down, [`RunError::AlreadyRunning`] inside a task, [`RunError::Spawn`] when tasks spawned
/// earlier fill the table.
pub fn run<F>(root: F) -> Result<F::Output, RunError>
where
    F: Future + 'static,
    F::Output: 'static,
{
    if with_tasks(|tasks| core::mem::replace(&mut tasks.running, true)) != Some(false) {
        return Err(RunError::AlreadyRunning);
    }
    let output = Rc::new(RefCell::new(None));
    let result = Rc::clone(&output);
    let spawned = spawn(async move {
        let value = root.await;
        *result.borrow_mut() = Some(value);
    });
    let ended = match spawned {
        Ok(()) => drive(|| output.borrow_mut().take()),
        Err(error) => Err(error.into()),
    };
    close();
    ended
}

/// The loop of the module documentation; `finished` yields the root's output once it is there.
fn drive<T>(mut finished: impl FnMut() -> Option<T>) -> Result<T, RunError> {
    let mut mailbox = Mailbox::open();
    let ready = with_tasks(|tasks| Arc::clone(&tasks.ready)).unwrap_or_default();
    let mut empty_yields = 0;
    loop {
        mailbox.drain(deliver);
        for _ in 0..POLLS_PER_DRAIN {
            let Some(key) = ready.pop() else { break };
            poll_task(key);
            if let Some(output) = finished() {
                return Ok(output);
            }
        }
        if !ready.is_empty() || mailbox.prepare_sleep(deliver) > 0 {
            empty_yields = 0;
            continue;
        }
        sys::yield_now();
        if mailbox.is_signalled() {
            empty_yields = 0;
        } else {
            empty_yields += 1;
            if empty_yields >= MAX_EMPTY_YIELDS {
                return Err(RunError::HostClosed);
            }
        }
    }
}

fn deliver(wake: Wake) {
    with_tasks(|tasks| tasks.wake(wake));
}

fn poll_task(key: Key) {
    let taken = with_tasks(|tasks| {
        let task = tasks.get(key)?;
        let future = task.future.take()?;
        task.handle.begin_poll();
        Some((future, task.waker.clone()))
    });
    let Some((mut future, waker)) = taken.flatten() else {
        return;
    };
    let outer = CURRENT.replace(key.id);
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    CURRENT.set(outer);
    match polled {
        Poll::Pending => {
            let _ = with_tasks(|tasks| tasks.get(key).map(|task| task.future = Some(future)));
        }
        Poll::Ready(()) => {
            // Destructors may spawn orphans, so the id is still taken and the table not borrowed.
            drop(future);
            drop(with_tasks(|tasks| tasks.remove(key.id)));
        }
    }
}

/// Drops all tasks. What their destructors try to orphan is refused: nobody is left to drive it.
fn close() {
    with_tasks(|tasks| tasks.closing = true);
    // A destructor may spawn once more, hence a loop; each round empties the table.
    for _ in 0..2 {
        let table = with_tasks(|tasks| {
            tasks.free.clear();
            tasks.live = 0;
            tasks.orphans = 0;
            tasks.ready.clear();
            core::mem::take(&mut tasks.table)
        });
        for task in table.iter().flatten().flatten() {
            task.handle.retire();
        }
        drop(table);
    }
    with_tasks(|tasks| {
        tasks.closing = false;
        tasks.running = false;
    });
}
