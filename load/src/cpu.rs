//! The processor time of processes.

use std::ops::{Add, AddAssign};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What Linux counts in, whatever the kernel's own tick is: its `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// Where the fields of `/proc/PID/stat` stand that hold a process's time in user mode and in the kernel, counted from the
/// one behind its name.
const USER: usize = 11;
const KERNEL: usize = 12;

/// The processor time of both sides of a bench. Exact to 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Of this process.
    pub(crate) client: Duration,
    /// Of the runtime, with all guests.
    pub(crate) runtime: Duration,
}

impl Cpu {
    /// What this process and the runtime have used so far.
    ///
    /// # Errors
    /// When the runtime is gone, or this is not Linux.
    pub(crate) fn of(runtime: u32) -> Result<Self> {
        Ok(Self {
            client: used(std::process::id())?,
            runtime: used(runtime)?,
        })
    }

    /// What was used since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            client: self.client.saturating_sub(before.client),
            runtime: self.runtime.saturating_sub(before.runtime),
        }
    }
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            client: self.client + other.client,
            runtime: self.runtime + other.runtime,
        }
    }
}

impl AddAssign for Cpu {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The time that a process has used, of all its threads, those that have ended included.
fn used(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&stat).with_context(|| format!("{path} is none"))
}

fn parse(stat: &str) -> Option<Duration> {
    // The name may hold anything, brackets and spaces included.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |index| fields.split_ascii_whitespace().nth(index)?.parse().ok();
    let (user, kernel): (u32, u32) = (field(USER)?, field(KERNEL)?);
    Some(TICK * user.checked_add(kernel)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 9 0 1 2";
        assert_eq!(parse(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(parse("7 (a) S 1"), None);
        assert!(Cpu::of(std::process::id()).is_ok());
    }

    #[test]
    fn times_are_taken_apart_and_together() {
        let cpu = |client, runtime| Cpu {
            client: Duration::from_millis(client),
            runtime: Duration::from_millis(runtime),
        };
        assert_eq!(cpu(5, 7).since(cpu(2, 3)), cpu(3, 4));
        assert_eq!(cpu(2, 3).since(cpu(5, 7)), cpu(0, 0));
        assert_eq!(cpu(5, 7) + cpu(1, 1), cpu(6, 8));
    }
}
