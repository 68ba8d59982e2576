//! The resident memory of a process.

use anyhow::{Context as _, Result};

/// A MiB, for people.
pub(crate) const MIB: u64 = 1024 * 1024;

/// What Linux says of a process's resident memory, in bytes.
///
/// # Errors
/// When the process is gone, or this is not Linux.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&status).with_context(|| format!("{path} has no VmRSS"))
}

/// `VmRSS` is in KiB whatever the size of a page is, which `statm` would count in.
fn parse(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes as MiB with one decimal.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found() {
        let status = "Name:\tx\nVmHWM:\t     900 kB\nVmRSS:\t     812 kB\nThreads:\t1\n";
        assert_eq!(parse(status), Some(812 * 1024));
        assert_eq!(parse("Name:\tx\n"), None);
        assert!(resident(std::process::id()).expect("our own") > 0);
    }
}
