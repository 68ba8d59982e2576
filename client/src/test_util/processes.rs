//! The processes of the runtime in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Waker},
};

use bytes::Bytes;
use selium_remote_client_protocol::ops::StartRequest;
use selium_remote_server_core::{Completion, HostChannel, HostProcess, LogId};

use super::guest::{Behaviour, Birth};
use crate::{Capability, EntrypointArg};

/// The most processes that are over and still reported. Past it the one that was over first is forgotten.
const MAX_OVER: usize = 1_024;

/// Bytes of records that wait until a log is read. Past it the oldest go, as in the runtime.
const LOG_BYTES: usize = 512 * 1024;

/// What became of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessEnd {
    /// It came to its end.
    Returned,
    /// It ended with a trap: these are its words. Its task panicked, or was dropped with its runtime, if they say so.
    Trapped(String),
    /// A client stopped it.
    Stopped,
    /// The runtime was restarted.
    Killed,
}

/// A process, as the runtime in memory knows it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProcessReport {
    /// The module.
    pub module: String,
    /// The entrypoint.
    pub entrypoint: String,
    /// The name that it was started with, if any. (The server makes one up otherwise, which processes do not learn.)
    pub name: Option<String>,
    /// The capabilities that it was given.
    pub capabilities: Vec<Capability>,
    /// Its arguments. Channels among them are resources, by the server's ids.
    pub args: Vec<EntrypointArg>,
    /// What became of it; nothing while it runs.
    pub end: Option<ProcessEnd>,
}

#[derive(Debug)]
struct Process {
    spec: StartRequest,
    channels: BTreeMap<u64, HostChannel>,
    end: Option<ProcessEnd>,
    /// Who is to hear of its end.
    wakers: Vec<Waker>,
    log: Option<LogId>,
    /// Records from before the log was read.
    backlog: VecDeque<Bytes>,
    backlog_bytes: usize,
    /// Some had to make room.
    lost: bool,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    all: BTreeMap<u64, Process>,
    last: u64,
    over: VecDeque<u64>,
}

impl Processes {
    pub(super) fn start(
        &mut self,
        behaviour: Behaviour,
        spec: StartRequest,
        channels: Vec<(u64, HostChannel)>,
    ) -> (HostProcess, Birth) {
        self.last += 1;
        let process = self.last;
        let made = Process {
            spec: spec.clone(),
            channels: channels.into_iter().collect(),
            end: None,
            wakers: Vec::new(),
            log: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            lost: false,
        };
        self.all.insert(process, made);
        let birth = Birth {
            process,
            spec,
            behaviour,
        };
        (HostProcess(process), birth)
    }

    /// Whether a process runs. Who asks is woken when it does no more.
    pub(super) fn attend(&mut self, process: u64, cx: &mut Context<'_>) -> bool {
        let process = self.all.get_mut(&process).filter(|p| p.end.is_none());
        if let Some(process) = process {
            if !process
                .wakers
                .iter()
                .any(|known| known.will_wake(cx.waker()))
            {
                process.wakers.push(cx.waker().clone());
            }
            return true;
        }
        false
    }

    pub(super) fn runs(&self, process: u64) -> bool {
        self.all.get(&process).is_some_and(|p| p.end.is_none())
    }

    /// What became of a process; one that is forgotten was stopped, as far as it is concerned.
    pub(super) fn end_of(&self, process: u64) -> Option<ProcessEnd> {
        match self.all.get(&process) {
            Some(process) => process.end.clone(),
            None => Some(ProcessEnd::Stopped),
        }
    }

    /// The channel among a process's arguments that has this id.
    pub(super) fn channel(&self, process: u64, id: u64) -> Option<HostChannel> {
        self.all.get(&process)?.channels.get(&id).copied()
    }

    /// A process is over, if it was not; who is to hear of it.
    pub(super) fn end(&mut self, process: u64, end: ProcessEnd) -> Option<Vec<Waker>> {
        let known = self.all.get_mut(&process).filter(|p| p.end.is_none())?;
        known.end = Some(end);
        let wakers = std::mem::take(&mut known.wakers);
        self.over.push_back(process);
        if self.over.len() > MAX_OVER
            && let Some(oldest) = self.over.pop_front()
        {
            self.all.remove(&oldest);
        }
        Some(wakers)
    }

    /// Stops a process; whether it ran.
    pub(super) fn stop(&mut self, process: HostProcess) -> (bool, Vec<Waker>) {
        let ended = self.end(process.0, ProcessEnd::Stopped);
        (ended.is_some(), ended.unwrap_or_default())
    }

    pub(super) fn kill_all(&mut self) -> Vec<Waker> {
        let running = self.all.iter().filter(|(_, p)| p.end.is_none());
        let running: Vec<u64> = running.map(|(process, _)| *process).collect();
        for process in self.all.values_mut() {
            process.log = None;
        }
        let ended = running.into_iter();
        ended
            .filter_map(|process| self.end(process, ProcessEnd::Killed))
            .flatten()
            .collect()
    }

    /// Begins to read a process's log; what it has so far.
    pub(super) fn open_log(&mut self, process: HostProcess, log: LogId) -> Vec<Completion> {
        let Some(known) = self.all.get_mut(&process.0) else {
            return vec![Completion::LogMissing { log }];
        };
        known.log = Some(log);
        known.backlog_bytes = 0;
        let opened = [Completion::LogOpened { log }];
        let lost = std::mem::take(&mut known.lost).then_some(Completion::LogLost { log });
        let records = known.backlog.drain(..);
        let records = records.map(|bytes| Completion::LogRecord { log, bytes });
        opened.into_iter().chain(lost).chain(records).collect()
    }

    pub(super) fn close_log(&mut self, log: LogId) {
        let process = self.all.values_mut().find(|p| p.log == Some(log));
        if let Some(process) = process {
            process.log = None;
        }
    }

    /// A record of a process: for who reads its log, or kept.
    pub(super) fn log(&mut self, process: u64, bytes: Bytes) -> Option<Completion> {
        let known = self.all.get_mut(&process).filter(|p| p.end.is_none())?;
        if let Some(log) = known.log {
            return Some(Completion::LogRecord { log, bytes });
        }
        known.backlog_bytes += bytes.len();
        known.backlog.push_back(bytes);
        while known.backlog_bytes > LOG_BYTES
            && let Some(oldest) = known.backlog.pop_front()
        {
            known.backlog_bytes -= oldest.len();
            known.lost = true;
        }
        None
    }

    pub(super) fn running(&self) -> usize {
        self.all.values().filter(|p| p.end.is_none()).count()
    }

    pub(super) fn reports(&self) -> Vec<ProcessReport> {
        let report = |process: &Process| ProcessReport {
            module: process.spec.module.clone(),
            entrypoint: process.spec.entrypoint.clone(),
            name: process.spec.name.clone(),
            capabilities: process.spec.capabilities.clone(),
            args: process.spec.args.clone(),
            end: process.end.clone(),
        };
        self.all.values().map(report).collect()
    }
}
