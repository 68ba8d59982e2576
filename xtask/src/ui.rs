//! What is printed while we work: one line a step and the seconds it took, all on stderr.

use std::time::Instant;

use anyhow::Result;

/// Says one thing.
pub(crate) fn say(line: &str) {
    eprintln!("==> {line}");
}

/// Says what is about to be done, does it, and says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(what);
    let begun = Instant::now();
    let result = work();
    let seconds = begun.elapsed().as_secs_f64();
    match &result {
        Ok(_) => eprintln!("    done in {seconds:.1} s"),
        Err(_) => eprintln!("    failed after {seconds:.1} s"),
    }
    result
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => {
            let tenths = bytes.saturating_mul(10).div_ceil(1_048_576);
            format!("{}.{} MiB", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1 KiB");
        assert_eq!(size(1025), "2 KiB");
        assert_eq!(size(1_048_576), "1.0 MiB");
        assert_eq!(size(1_600_000), "1.6 MiB");
    }
}
