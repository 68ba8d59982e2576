//! What happened: a hash of everything, by which two runs are compared, and the last lines for people.

use std::collections::VecDeque;

use selium_remote_client_protocol::Time;

use crate::rng::mix;

/// Lines that are kept for the report of a failure.
const KEPT: usize = 60;

/// One thing that happened: when, to whom, what, and two numbers that say more.
#[derive(Clone, Copy, Debug)]
struct Line {
    at: Time,
    who: u64,
    what: &'static str,
    a: u64,
    b: u64,
}

impl core::fmt::Display for Line {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let ms = self.at.since_origin().as_secs_f64() * 1e3;
        let Self {
            who, what, a, b, ..
        } = self;
        write!(f, "{ms:>12.3} ms  {who:>3}  {what} {a} {b}")
    }
}

/// Everything that happened in one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<Line>,
    all: Option<Vec<Line>>,
}

impl Trace {
    /// A trace that keeps every line.
    #[must_use]
    pub fn verbose() -> Self {
        Self {
            all: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// Notes something. `who` is the number of a client or a link, 0 for the host and the server.
    pub fn note(&mut self, at: Time, who: u64, what: &'static str, a: u64, b: u64) {
        let since = at.since_origin();
        let time = since.as_secs().rotate_left(32) ^ u64::from(since.subsec_nanos());
        for word in [time, who, what.len() as u64, a, b] {
            self.hash = mix(self.hash ^ word);
        }
        for byte in what.bytes().take(4) {
            self.hash = self.hash.rotate_left(5) ^ u64::from(byte);
        }
        let line = Line {
            at,
            who,
            what,
            a,
            b,
        };
        if let Some(all) = &mut self.all {
            all.push(line);
        } else {
            if self.lines.len() == KEPT {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }

    /// The hash of everything that was noted.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines, or all of them, in order.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let all = self.all.iter().flatten();
        let kept = self.lines.iter();
        all.chain(kept).map(ToString::to_string).collect()
    }
}
