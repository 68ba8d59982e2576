//! A stream of log records, compared with what the guest has logged.

use std::collections::VecDeque;

use core::time::Duration;

use bytes::Bytes;
use selium_remote_client_protocol::{ErrorCode, RemoteError, Time, ops::FollowStarted};
use selium_remote_server_core::HostProcess;

use super::{
    Rules,
    host::{SimHost, Truth, record},
    law::{Broken, Law, law},
    report::Report,
};

/// What a hub's entry costs besides its bytes.
const ENTRY_OVERHEAD: usize = 64;

/// How a client reads a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    AtOnce,
    Every(Duration),
    Never,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) tail: Option<u64>,
    pub(super) since: Option<u64>,
    pub(super) no_follow: bool,
    pub(super) reads: Reads,
}

#[derive(Debug)]
pub(super) struct Follow {
    pub(super) process: HostProcess,
    /// The sequence number that comes next.
    pub(super) cursor: u64,
    until: Option<u64>,
    pub(super) ended: bool,
    pub(super) cancelled: bool,
    pub(super) asked: Asked,
    /// What was delivered and not read.
    pub(super) unread: VecDeque<usize>,
    pub(super) read_at: Time,
}

impl Follow {
    pub(super) fn new(
        now: Time,
        process: HostProcess,
        asked: Asked,
        started: &FollowStarted,
        host: &SimHost,
    ) -> Law<Self> {
        let FollowStarted { first, next, .. } = *started;
        let logged = host.truth(process).len() as u64;
        law!(
            first <= next && next <= logged,
            "a follow says {first} to {next} of a log of {logged}"
        );
        let tail = asked.tail.map(|tail| next.saturating_sub(tail).max(first));
        Ok(Self {
            process,
            // What is not written yet is waited for.
            cursor: tail.max(asked.since).unwrap_or(0),
            until: asked.no_follow.then_some(next),
            ended: false,
            cancelled: false,
            asked,
            unread: VecDeque::new(),
            read_at: now,
        })
    }

    pub(super) fn message(
        &mut self,
        seq: u64,
        payload: &Bytes,
        host: &SimHost,
        report: &mut Report,
    ) -> Law {
        law!(!self.ended, "a record behind the end");
        law!(
            seq == self.cursor,
            "record {seq} came, {} was to come",
            self.cursor
        );
        let truth = usize::try_from(seq)
            .ok()
            .and_then(|at| host.truth(self.process).get(at));
        let Some(Truth::Record(number, len)) = truth else {
            return Err(Broken(format!("record {seq} came, the log has {truth:?}")));
        };
        law!(
            *payload == record(self.process, *number, *len),
            "record {seq} of {len} bytes came as {} other bytes",
            payload.len()
        );
        report.records += 1;
        report.long_records += u64::from(*len > 16 * 1024);
        self.advance(seq + 1)
    }

    fn advance(&mut self, to: u64) -> Law {
        self.cursor = to;
        let until = self.until.unwrap_or(u64::MAX);
        law!(
            to <= until,
            "the stream was to end before {until} and is at {to}"
        );
        Ok(())
    }

    pub(super) fn gap(
        &mut self,
        next: u64,
        count: Option<u64>,
        host: &SimHost,
        rules: &Rules,
        report: &mut Report,
    ) -> Law {
        let from = self.cursor;
        law!(!self.ended, "a gap behind the end");
        law!(next > from, "a gap from {from} to {next}");
        let truth = host.truth(self.process);
        let (low, high) = (from as usize, next as usize);
        let Some(missing) = truth.get(low..high) else {
            return Err(Broken(format!(
                "a gap to {next} in a log of {}",
                truth.len()
            )));
        };
        match count {
            Some(count) => {
                report.gaps_counted += 1;
                law!(
                    count == next - from,
                    "a gap from {from} to {next} counts {count}"
                );
            }
            None => {
                report.gaps_unknown += 1;
                let lost = |truth: &Truth| matches!(truth, Truth::Lost | Truth::Record(_, 0));
                law!(
                    missing.iter().any(lost),
                    "a gap from {from} to {next} has no count, and the runtime lost nothing there"
                );
            }
        }
        let cost = |truth: &Truth| match truth {
            Truth::Record(_, len) => len + ENTRY_OVERHEAD,
            Truth::Lost => ENTRY_OVERHEAD,
        };
        let mut behind: usize = truth.iter().skip(low).map(cost).sum();
        for (at, truth) in (low..).zip(missing) {
            let evicted = behind > rules.ring_bytes || rules.rings_tight;
            let excused = match truth {
                Truth::Lost | Truth::Record(_, 0) => true,
                Truth::Record(_, len) => *len > rules.longest_record || evicted,
            };
            law!(
                excused,
                "record {at} is missing, and there was no need: {behind} bytes from it to the end of the log"
            );
            behind = behind.saturating_sub(cost(truth));
        }
        self.advance(next)
    }

    pub(super) fn end(
        &mut self,
        error: Option<&RemoteError>,
        host: &SimHost,
        rules: &Rules,
        report: &mut Report,
    ) -> Law {
        law!(!core::mem::replace(&mut self.ended, true), "a second end");
        if self.cancelled {
            return Ok(());
        }
        report.ends += 1;
        let logged = host.truth(self.process).len() as u64;
        let cursor = self.cursor;
        match error.map(|error| error.code) {
            None if rules.forgets && self.until.is_none_or(|until| cursor < until) => {}
            None => {
                let until = self.until;
                law!(
                    until.is_some_and(|until| cursor >= until),
                    "a stream ended at {cursor} without a reason, it was to end at {until:?}"
                );
            }
            Some(ErrorCode::Cancelled) => {
                law!(
                    host.is_stopped(self.process) && cursor >= logged,
                    "a stream ended at {cursor} of {logged} as if its process had been stopped"
                );
            }
            Some(ErrorCode::Unavailable) => {
                law!(
                    cursor >= logged,
                    "a stream ended at {cursor} of {logged} as if the log had ended"
                );
            }
            Some(other) => return Err(Broken(format!("a stream ended with {other}"))),
        }
        Ok(())
    }
}
