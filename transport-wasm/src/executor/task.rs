//! Tasks, their wakers and the ready queue.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Wake,
};

pub(super) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Names one task for good: `id` is an index that is reused, `generation` tells its users apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: u32,
    pub(super) generation: u32,
}

/// Woken tasks in order. A task stands in it at most once, so its length is bounded by the number of tasks.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    keys: Mutex<VecDeque<Key>>,
}

impl ReadyQueue {
    fn keys(&self) -> MutexGuard<'_, VecDeque<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for `tasks` tasks, so that waking never allocates. Twice, since a key of a finished task may linger beside its successor's.
    pub(super) fn reserve(&self, tasks: usize) {
        let mut keys = self.keys();
        let missing = tasks.saturating_mul(2).saturating_sub(keys.len());
        keys.reserve(missing);
    }

    pub(super) fn push(&self, key: Key) {
        self.keys().push_back(key);
    }

    pub(super) fn pop(&self) -> Option<Key> {
        self.keys().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys().is_empty()
    }

    pub(super) fn clear(&self) {
        self.keys().clear();
    }
}

/// What a waker points to.
#[derive(Debug)]
pub(super) struct TaskHandle {
    key: Key,
    /// Set while the key stands in the queue, and for ever once the task has finished.
    queued: AtomicBool,
    queue: Arc<ReadyQueue>,
}

impl TaskHandle {
    pub(super) fn schedule(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.push(self.key);
        }
    }

    pub(super) fn begin_poll(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Makes later wake-ups of this task do nothing.
    pub(super) fn retire(&self) {
        self.queued.store(true, Ordering::Release);
    }
}

impl Wake for TaskHandle {
    fn wake(self: Arc<Self>) {
        self.schedule();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.schedule();
    }
}

/// One task.
pub(super) struct Task {
    pub(super) generation: u32,
    /// Absent while the task is being polled.
    pub(super) future: Option<TaskFuture>,
    pub(super) handle: Arc<TaskHandle>,
    pub(super) waker: Waker,
    pub(super) is_orphan: bool,
}

impl Task {
    pub(super) fn new(
        key: Key,
        future: TaskFuture,
        queue: &Arc<ReadyQueue>,
        is_orphan: bool,
    ) -> Self {
        let handle = Arc::new(TaskHandle {
            key,
            queued: AtomicBool::new(false),
            queue: Arc::clone(queue),
        });
        let waker = Waker::from(Arc::clone(&handle));
        Self {
            generation: key.generation,
            future: Some(future),
            handle,
            waker,
            is_orphan,
        }
    }
}
