//! Times and durations as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selium_remote_certs::Moment;

/// Milliseconds since the Unix epoch as RFC 3339 in UTC. Any value is shown: years past 9999 get a sign in front, as
/// ISO 8601 has it, because guests may claim any time.
pub(crate) fn rfc3339(ms: u64) -> String {
    let seconds = Moment(ms / 1_000).to_string();
    let sign = match seconds.find('-') {
        Some(0..=4) => "",
        _ => "+",
    };
    format!("{sign}{}.{:03}Z", seconds.trim_end_matches('Z'), ms % 1_000)
}

/// A time of a certificate, in seconds since the Unix epoch, which has no parts of a second.
pub(crate) fn when(seconds: i64) -> String {
    u64::try_from(seconds).map_or_else(
        |_| "before 1970".to_owned(),
        |seconds| Moment(seconds).to_string(),
    )
}

/// A duration in its largest whole unit: `5s`, `12m`, `3h`, `40d`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Milliseconds since the Unix epoch on this machine.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago a time of the server was, in short. Clocks differ: a time to come is `0s`.
pub(crate) fn age(ms: Option<u64>, now_ms: u64) -> String {
    ms.map_or_else(
        || "-".to_owned(),
        |ms| short(Duration::from_millis(now_ms.saturating_sub(ms))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_certificates_are_whole_seconds() {
        assert_eq!(when(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(when(-1), "before 1970");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_000_000_000_000), "2001-09-09T01:46:40.000Z");
        assert_eq!(rfc3339(1_795_337_387_123), "2026-11-22T08:49:47.123Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(253_402_300_800_000), "+10000-01-01T00:00:00.000Z");
    }

    #[test]
    fn any_time_is_shown() {
        assert!(rfc3339(u64::MAX).starts_with("+584556019-"));
    }

    #[test]
    fn ages_are_short() {
        let ages = [0, 119, 120, 7_199, 7_200, 172_799, 172_800, 86_400 * 40];
        let shown = ages.map(|seconds| short(Duration::from_secs(seconds)));
        assert_eq!(
            shown,
            ["0s", "119s", "2m", "119m", "2h", "47h", "2d", "40d"]
        );
        assert_eq!(age(None, 5), "-");
        assert_eq!(age(Some(10_000), 5_000), "0s");
        assert_eq!(age(Some(1_000), 66_000), "65s");
    }
}
