//! The executor against the fake host's mailbox.

use core::future::{pending, poll_fn};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

use selium_abi::mailbox::CAPACITY;

use super::*;
use crate::fake;

/// Counts its polls; finishes when `done` is set.
async fn counted(polls: Rc<Cell<usize>>, done: Rc<Cell<bool>>) {
    poll_fn(|_| {
        polls.set(polls.get() + 1);
        if done.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Lets everything happen: several rounds of the loop.
async fn settle() {
    for _ in 0..4 * POLLS_PER_DRAIN {
        yield_now().await;
    }
}

/// A task that waits to be woken, and what a test can see of it.
struct Idle {
    id: Rc<Cell<u32>>,
    polls: Rc<Cell<usize>>,
    waker: Rc<RefCell<Option<Waker>>>,
    done: Rc<Cell<bool>>,
}

fn idle() -> Idle {
    let idle = Idle {
        id: Rc::default(),
        polls: Rc::default(),
        waker: Rc::default(),
        done: Rc::default(),
    };
    let (id, polls, waker, done) = (
        idle.id.clone(),
        idle.polls.clone(),
        idle.waker.clone(),
        idle.done.clone(),
    );
    spawn(poll_fn(move |cx| {
        id.set(current_task());
        polls.set(polls.get() + 1);
        *waker.borrow_mut() = Some(cx.waker().clone());
        if done.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }))
    .unwrap();
    idle
}

#[test]
fn root_returns_and_drops_the_rest() {
    fake::reset();
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    let result = run(async move {
        spawn(async move {
            let _held = held;
            pending::<()>().await;
        })
        .unwrap();
        yield_now().await;
        assert_eq!(run(async {}), Err(RunError::AlreadyRunning));
        42
    });
    assert_eq!(result, Ok(42));
    assert_eq!(Rc::strong_count(&alive), 1);
    assert_eq!(task_count(), 0);
    assert_eq!(run(async { 1 }), Ok(1), "can run again");
}

#[test]
fn a_wake_up_polls_exactly_one_task() {
    fake::reset();
    let tasks: Vec<_> = (0..1_000).map(|_| idle()).collect();
    run(async move {
        settle().await;
        assert!(tasks.iter().all(|task| task.polls.get() == 1));
        fake::wake(tasks[500].id.get());
        settle().await;
        let polls: usize = tasks.iter().map(|task| task.polls.get()).sum();
        assert_eq!((polls, tasks[500].polls.get()), (1_001, 2));
        // A guest-side wake-up, twice: the task stands in the queue once.
        let waker = tasks[7].waker.borrow().clone().unwrap();
        waker.wake_by_ref();
        waker.wake();
        settle().await;
        assert_eq!(tasks[7].polls.get(), 2);
    })
    .unwrap();
}

#[test]
fn a_wrapped_ring_polls_every_task() {
    for start in [0, u32::MAX - 100] {
        fake::reset();
        fake::set_tail(start);
        let tasks: Vec<_> = (0..20).map(|_| idle()).collect();
        run(async move {
            settle().await;
            // Task 3's wake-up is overwritten by 256 for another.
            fake::wake(tasks[3].id.get());
            for _ in 0..CAPACITY {
                fake::wake(tasks[4].id.get());
            }
            settle().await;
            assert!(
                tasks.iter().all(|task| task.polls.get() == 2),
                "all were polled"
            );
            // And the ring works on.
            fake::wake(tasks[5].id.get());
            settle().await;
            assert_eq!(tasks[5].polls.get(), 3);
        })
        .unwrap();
    }
}

#[test]
fn exactly_a_full_ring_loses_nothing() {
    fake::reset();
    let tasks: Vec<_> = (0..CAPACITY).map(|_| idle()).collect();
    let other = idle();
    run(async move {
        settle().await;
        tasks.iter().for_each(|task| fake::wake(task.id.get()));
        settle().await;
        assert!(tasks.iter().all(|task| task.polls.get() == 2));
        assert_eq!(other.polls.get(), 1);
    })
    .unwrap();
}

#[test]
fn a_late_slot_lets_the_guest_sleep() {
    fake::reset();
    let task = idle();
    let done = Rc::new(Cell::new(false));
    let (id, polls) = (task.id.clone(), task.polls.clone());
    let step = Rc::new(Cell::new(0));
    let steps = Rc::clone(&step);
    let root_waker = Rc::new(RefCell::new(None::<Waker>));
    let waker = Rc::clone(&root_waker);
    let finished = Rc::clone(&done);
    fake::on_yield(move || {
        match step.get() {
            // The tail is published while the guest sleeps; it must neither skip nor spin on the slot.
            0 => assert_eq!(fake::publish_tail(), 0),
            1 => fake::store_slot(0, id.get()),
            _ => {
                assert_eq!(polls.get(), 2);
                finished.set(true);
                if let Some(waker) = waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
        step.set(step.get() + 1);
    });
    run(poll_fn(move |cx| {
        *root_waker.borrow_mut() = Some(cx.waker().clone());
        if done.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }))
    .unwrap();
    assert_eq!(steps.get(), 3);
}

#[test]
fn a_wake_up_at_any_moment_is_kept() {
    // The host enqueues at the n-th access of the guest to the mailbox, clearing the flag and draining included: no n may lose it.
    let total = {
        let accesses = Rc::new(Cell::new(0));
        one_wake_up_at(usize::MAX, &accesses);
        accesses.get()
    };
    assert!(total > 256);
    for at in 0..total {
        assert_eq!(one_wake_up_at(at, &Rc::default()), 2, "access {at}");
    }
}

/// Wakes a task at an access of the guest to the mailbox, counted from when all tasks wait; returns its polls.
fn one_wake_up_at(at: usize, accesses: &Rc<Cell<usize>>) -> usize {
    fake::reset();
    let task = idle();
    let (id, polls, count) = (task.id.clone(), task.polls.clone(), Rc::clone(accesses));
    fake::on_cell(move || {
        if polls.get() > 0 {
            if count.get() == at {
                fake::wake(id.get());
            }
            count.set(count.get() + 1);
        }
    });
    assert_eq!(run(pending::<()>()), Err(RunError::HostClosed));
    task.polls.get()
}

#[test]
fn being_lapped_while_draining_loses_nothing() {
    // 200 wake-ups wait. At any access of the drain the host enqueues 62 more, the last of which is another task's and stands
    // a lap behind the sixth: between our read of that slot and our sentinel it would be wiped out.
    for at in 0..500 {
        fake::reset();
        let (often, once) = (idle(), idle());
        let (id, other, polls) = (often.id.clone(), once.id.clone(), once.polls.clone());
        let accesses = Cell::new(0);
        fake::on_cell(move || {
            if polls.get() == 0 {
                return;
            }
            if accesses.get() == 0 {
                (0..200).for_each(|_| fake::wake(id.get()));
            }
            if accesses.get() == at {
                (0..61).for_each(|_| fake::wake(id.get()));
                fake::wake(other.get());
            }
            accesses.set(accesses.get() + 1);
        });
        assert_eq!(run(pending::<()>()), Err(RunError::HostClosed));
        assert_eq!(once.polls.get(), 2, "access {at}");
    }
}

#[test]
fn spurious_finished_and_reused_ids_are_harmless() {
    fake::reset();
    let first = idle();
    run(async move {
        settle().await;
        let id = first.id.get();
        let stale = first.waker.borrow().clone().unwrap();
        first.done.set(true);
        fake::wake(id);
        settle().await;
        assert_eq!(first.polls.get(), 2);
        // The id is free: wake-ups by number and by the old waker do nothing.
        fake::wake(id);
        fake::wake(12_345);
        fake::wake(NO_TASK);
        stale.wake_by_ref();
        settle().await;
        let second = idle();
        settle().await;
        assert_eq!(
            (second.id.get(), second.polls.get()),
            (id, 1),
            "the id is reused"
        );
        // A waker of the former user does not wake the new one; a late host wake-up does, once, and is spurious.
        stale.wake();
        settle().await;
        assert_eq!(second.polls.get(), 1);
        fake::wake(id);
        settle().await;
        assert_eq!(second.polls.get(), 2);
    })
    .unwrap();
}

#[test]
fn a_closed_host_ends_the_run() {
    fake::reset();
    assert_eq!(run(pending::<()>()), Err(RunError::HostClosed));
    assert_eq!(fake::yields(), MAX_EMPTY_YIELDS);
}

#[test]
fn spawning_is_bounded() {
    fake::reset();
    for _ in 0..MAX_TASKS {
        spawn(pending()).unwrap();
    }
    assert_eq!(spawn(pending()), Err(SpawnError));
    assert_eq!(run(async {}), Err(RunError::Spawn(SpawnError)));
    assert_eq!(task_count(), 0);
}

#[test]
fn the_mailbox_is_looked_at_between_busy_tasks() {
    fake::reset();
    let task = idle();
    // Tasks that are always ready.
    for _ in 0..200 {
        spawn(async {
            loop {
                yield_now().await;
            }
        })
        .unwrap();
    }
    run(async move {
        while task.polls.get() == 0 {
            yield_now().await;
        }
        fake::wake(task.id.get());
        settle().await;
        assert_eq!(task.polls.get(), 2);
    })
    .unwrap();
}

#[test]
fn notify_keeps_one_notification() {
    fake::reset();
    run(async {
        let notify = Rc::new(Notify::new());
        notify.notify();
        notify.notify();
        notify.notified().await;
        let other = Rc::clone(&notify);
        spawn(async move { other.notify() }).unwrap();
        notify.notified().await;
    })
    .unwrap();
}

#[test]
fn the_gate_is_fair_bounded_and_cancel_safe() {
    fake::reset();
    run(async {
        let gate = Gate::new(2, 3);
        let order = Rc::new(RefCell::new(Vec::new()));
        let first = gate.acquire().await.unwrap();
        let second = gate.acquire().await.unwrap();
        for name in 0..3 {
            let (gate, order) = (gate.clone(), Rc::clone(&order));
            spawn(async move {
                let permit = gate.acquire().await.unwrap();
                order.borrow_mut().push(name);
                yield_now().await;
                drop(permit);
            })
            .unwrap();
        }
        yield_now().await;
        assert_eq!(gate.waiting(), 3);
        assert!(matches!(gate.acquire().await, Err(GateFull)));
        drop(first);
        // The free place belongs to the first waiter, also while it has not run yet.
        assert_eq!(gate.waiting(), 2);
        drop(second);
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(*order.borrow(), [0, 1, 2]);

        let held = (gate.acquire().await.unwrap(), gate.acquire().await.unwrap());
        let mut left = Box::pin(gate.acquire());
        let mut granted = Box::pin(gate.acquire());
        poll_fn(|cx| {
            assert!(left.as_mut().poll(cx).is_pending());
            assert!(granted.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(left);
        drop(held.0);
        // Granted, but dropped before it noticed: the permit goes back.
        drop(granted);
        let again = gate.acquire().await.unwrap();
        drop((again, held.1));
        let all = (gate.acquire().await.unwrap(), gate.acquire().await.unwrap());
        drop(all);
    })
    .unwrap();
}

/// xorshift64: small, seeded, reproducible.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Host threads take single steps at every mailbox access of the guest. Law: each task is polled after each of its wake-ups.
#[test]
fn random_interleavings_lose_no_wake_up() {
    for round in 0..400u64 {
        let seed = 0x9e37_79b9_7f4a_7c15 ^ (round + 1);
        println!("seed {seed:#x}");
        interleave(seed);
    }
}

#[derive(Default)]
struct Script {
    /// Claimed positions that are not stored yet, each with its task.
    claimed: Vec<(u32, usize)>,
    /// Wake-ups that are left to start.
    left: usize,
}

fn interleave(seed: u64) {
    fake::reset();
    fake::set_tail(seed as u32);
    let random = Rc::new(RefCell::new(Random(seed)));
    let tasks: Rc<Vec<_>> = Rc::new((0..8).map(|_| idle()).collect());
    // Polls of each task at the time of its last wake-up.
    let owed = Rc::new(RefCell::new(vec![None::<usize>; tasks.len()]));
    let script = Rc::new(RefCell::new(Script {
        left: 2_000,
        ..Script::default()
    }));
    let storm = random.borrow_mut().below(4) == 0;

    let step = {
        let (random, tasks, owed, script) =
            (random.clone(), tasks.clone(), owed.clone(), script.clone());
        move |may_idle: bool| {
            let mut random = random.borrow_mut();
            let mut script = script.borrow_mut();
            if may_idle && random.below(3) != 0 {
                return;
            }
            // Storms outrun the ring.
            let steps = if storm && random.below(20) == 0 {
                random.below(700)
            } else {
                1
            };
            for _ in 0..steps {
                if script.left > 0
                    && (script.claimed.is_empty()
                        || (script.claimed.len() < 6 && random.below(2) == 0))
                {
                    script.left -= 1;
                    let task = random.below(tasks.len() as u64) as usize;
                    script.claimed.push((fake::publish_tail(), task));
                } else if !script.claimed.is_empty() {
                    let which = random.below(script.claimed.len() as u64) as usize;
                    let (position, task) = script.claimed.swap_remove(which);
                    // The host stores its result before it wakes.
                    owed.borrow_mut()[task] = Some(tasks[task].polls.get());
                    fake::store_slot(position, tasks[task].id.get());
                }
            }
        }
    };
    let started = Rc::new(Cell::new(false));
    let (on, cell_step) = (started.clone(), step.clone());
    fake::on_cell(move || {
        if on.get() {
            cell_step(true);
        }
    });
    // Asleep: whatever was stored completely must have been delivered. Then the host goes on until it signals.
    let (on, idle_script, due, sleeping) =
        (started.clone(), script.clone(), owed.clone(), tasks.clone());
    fake::on_yield(move || {
        if !on.get() {
            return;
        }
        if idle_script.borrow().claimed.is_empty() {
            for (task, before) in due.borrow().iter().enumerate() {
                let polled = before.is_none_or(|before| sleeping[task].polls.get() > before);
                assert!(
                    polled,
                    "seed {seed:#x}: asleep, and task {task} missed its wake-up"
                );
            }
        }
        let busy = || idle_script.borrow().left > 0 || !idle_script.borrow().claimed.is_empty();
        while !fake::is_signalled() && busy() {
            step(false);
        }
    });
    let begin = started.clone();
    spawn(async move {
        for _ in 0..10 {
            yield_now().await;
        }
        begin.set(true);
    })
    .unwrap();
    assert_eq!(run(pending::<()>()), Err(RunError::HostClosed));
    assert_eq!(script.borrow().left, 0, "seed {seed:#x}");
    assert!(script.borrow().claimed.is_empty());
    for (task, polls) in owed.borrow().iter().enumerate() {
        if let Some(before) = polls {
            assert!(
                tasks[task].polls.get() > *before,
                "seed {seed:#x}: task {task} was not polled after its last wake-up"
            );
        }
    }
}

#[test]
fn counted_tasks_finish() {
    fake::reset();
    let (polls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(true)));
    spawn(counted(polls.clone(), done)).unwrap();
    run(async {
        yield_now().await;
        yield_now().await;
    })
    .unwrap();
    assert_eq!(polls.get(), 1);
}
