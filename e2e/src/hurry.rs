//! A machine that is busy, on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};

/// Threads that use all the time they get, until this is dropped.
#[derive(Debug)]
pub struct Hurry {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Hurry {
    /// So many threads.
    #[must_use]
    pub fn of(threads: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let spin = |_| {
            let until = Arc::clone(&over);
            spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..threads).map(spin).collect();
        Self { over, threads }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
