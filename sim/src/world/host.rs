//! A runtime that acts: processes start after a while or fail, log, die and are stopped, as the seed says.
//!
//! It also knows the truth: what was started how often, and what each log holds. The laws compare with it.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use selium_remote_client_protocol::{Capability, Time, ops::StartRequest};
use selium_remote_server_core::{
    Completion, HostCall, HostProcess, LogId, OpId, host::StopFailure,
};

use super::law::{Broken, Law, law};
use crate::{
    rng::{Dice, mix},
    trace::Trace,
};

/// What is said of every channel.
const NO_CHANNELS: &str = "the simulated runtime has no channels";

/// What was logged at one sequence number of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The guest's record with this number and length.
    Record(u64, usize),
    /// The runtime lost records here.
    Lost,
}

/// A start, as the host sees it.
#[derive(Clone, Debug, Default)]
pub struct StartTruth {
    /// How often the host was asked for it.
    pub times: u32,
    /// When it was first.
    pub first: Time,
    /// What came of it.
    pub result: Option<Option<HostProcess>>,
    /// A client was told that it was never executed.
    pub refused: bool,
}

/// How shortly after its reader began to wait a record has to be written to stay invisible. In the runtime it is the
/// very moment; a longer one is met more often.
const JUST_WHEN_IT_LOOKED: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Planned {
    at: Time,
    len: usize,
    /// Invisible to a waiting reader until the next one comes or the log is looked after, if it was written just when
    /// the reader began to wait.
    hidden: bool,
    lost: bool,
}

#[derive(Debug)]
struct Guest {
    plan: Vec<Planned>,
    /// From when on its log can be found; never when it cannot log.
    shows: Option<Time>,
    /// When it ends by itself.
    dies: Option<Time>,
    stopped: Option<Time>,
    stopping: bool,
    log: Option<LogId>,
}

impl Guest {
    /// When it logs nothing more.
    fn over(&self) -> Option<Time> {
        self.stopped.into_iter().chain(self.dies).min()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Idle,
    Looking,
    Open,
    Ended,
}

#[derive(Debug)]
struct Log {
    process: HostProcess,
    reader: Reader,
    closing: bool,
    nudged: bool,
    /// When its reader began to wait, but for the looks of the remedy.
    looked: Time,
    /// The guest's next record to read.
    cursor: usize,
    /// Only the last of the reads that were scheduled counts.
    generation: u64,
    truth: Vec<Truth>,
}

#[derive(Debug)]
enum Event {
    Started(OpId, Box<StartRequest>, String),
    Stopped(OpId, HostProcess, Result<(), StopFailure>),
    Look(LogId),
    Read(LogId, u64),
    /// There are no channels here: what is asked of them is refused.
    Refused(Completion),
}

/// How the runtime behaves in a run.
#[derive(Clone, Copy, Debug)]
pub struct HostProfile {
    /// The longest that a call takes, in milliseconds.
    pub slowest: u64,
    /// How many percent of starts and stops fail.
    pub failures: u64,
    /// Whether there is a clock to wait with between two looks for a log.
    pub clock: bool,
    /// Starts that may be in the host at a time.
    pub max_starts: usize,
    /// Bytes that guests log at most, each.
    pub volume: usize,
}

/// The runtime.
#[derive(Debug)]
pub struct SimHost {
    dice: Dice,
    profile: HostProfile,
    events: BTreeMap<(Time, u64), Event>,
    last_event: u64,
    guests: BTreeMap<HostProcess, Guest>,
    logs: BTreeMap<LogId, Log>,
    /// Starts by what names them: the entrypoint.
    pub starts: BTreeMap<String, StartTruth>,
    running: usize,
    /// Hidden records that were fetched.
    pub nudges: u64,
}

/// The key of a start: clients make each entrypoint unique.
#[must_use]
pub fn key(spec: &StartRequest) -> &str {
    &spec.entrypoint
}

/// The bytes of a guest's record.
#[must_use]
pub fn record(process: HostProcess, number: u64, len: usize) -> Bytes {
    let word = mix(process.0 ^ mix(number)).to_le_bytes();
    word.repeat(len.div_ceil(8))
        .get(..len)
        .map(Bytes::copy_from_slice)
        .unwrap_or_default()
}

impl SimHost {
    /// A runtime without processes.
    #[must_use]
    pub fn new(dice: Dice, profile: HostProfile) -> Self {
        Self {
            dice,
            profile,
            events: BTreeMap::new(),
            last_event: 0,
            guests: BTreeMap::new(),
            logs: BTreeMap::new(),
            starts: BTreeMap::new(),
            running: 0,
            nudges: 0,
        }
    }

    /// When something happens next.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Nothing fails any more, and everything is quick.
    pub(super) fn settle_down(&mut self) {
        self.profile.failures = 0;
        self.profile.slowest = 5;
    }

    /// The process of a start, if it was started.
    #[must_use]
    pub fn process(&self, key: &str) -> Option<HostProcess> {
        self.starts.get(key)?.result.flatten()
    }

    /// Whether a process was stopped.
    #[must_use]
    pub fn is_stopped(&self, process: HostProcess) -> bool {
        self.guests
            .get(&process)
            .is_some_and(|guest| guest.stopped.is_some())
    }

    /// What the log of a process held so far, by sequence number.
    #[must_use]
    pub fn truth(&self, process: HostProcess) -> &[Truth] {
        let log = self.guests.get(&process).and_then(|guest| guest.log);
        log.and_then(|log| self.logs.get(&log))
            .map_or(&[], |log| &log.truth)
    }

    /// Records that a guest has logged by now and that the server was not given, though somebody reads them.
    #[must_use]
    pub fn unread(&self, process: HostProcess, now: Time) -> usize {
        let Some(guest) = self.guests.get(&process) else {
            return 0;
        };
        let Some(log) = guest.log.and_then(|log| self.logs.get(&log)) else {
            return 0;
        };
        // A log that was never shown, or whose process went before it was found, stays unread.
        let long_ago = |at: Time| at.saturating_add(Duration::from_secs(15)) <= now;
        let to_be_found = guest.over().is_none() && guest.shows.is_some_and(long_ago);
        if log.reader != Reader::Open && !to_be_found {
            return 0;
        }
        visible(guest, now).saturating_sub(log.cursor)
    }

    fn at(&mut self, at: Time, event: Event) {
        self.last_event += 1;
        self.events.insert((at, self.last_event), event);
    }

    fn soon(&mut self, now: Time) -> Time {
        let slowest = self.profile.slowest;
        let most = if self.dice.chance(70) {
            slowest / 10
        } else {
            slowest
        };
        now.saturating_add(self.dice.millis(0..=most))
    }

    /// Begins what the server asks for.
    ///
    /// # Errors
    /// When the server asks for what it must not.
    pub fn begin(&mut self, now: Time, call: HostCall, trace: &mut Trace) -> Law {
        match call {
            HostCall::Start { op, spec, .. } => {
                let key = key(&spec).to_owned();
                trace.note(now, 0, "start", op.0, key.len() as u64);
                self.running += 1;
                let (running, most) = (self.running, self.profile.max_starts);
                law!(
                    running <= most,
                    "{running} starts are in the host, {most} may"
                );
                let start = self.starts.entry(key.clone()).or_default();
                start.times += 1;
                let StartTruth { times, refused, .. } = *start;
                law!(times == 1, "`{key}` is executed {times} times");
                law!(
                    !refused,
                    "`{key}` is executed, and a client was told that it never was"
                );
                start.first = now;
                let at = self.soon(now);
                self.at(at, Event::Started(op, spec, key));
            }
            HostCall::Stop { op, process } => {
                trace.note(now, 0, "stop", op.0, process.0);
                let fails = self.dice.chance(self.profile.failures);
                let Some(guest) = self.guests.get_mut(&process) else {
                    return Err(Broken(format!(
                        "{process:?} is to be stopped, and never was"
                    )));
                };
                law!(
                    !core::mem::replace(&mut guest.stopping, true),
                    "{process:?} is to be stopped twice at a time"
                );
                law!(
                    guest.stopped.is_none(),
                    "{process:?} is to be stopped again"
                );
                let died = guest.dies.is_some_and(|at| at <= now);
                let result = match fails {
                    true => Err(StopFailure::Failed("the host is tired".to_owned())),
                    false if died => Err(StopFailure::Gone),
                    false => Ok(()),
                };
                let at = self.soon(now);
                self.at(at, Event::Stopped(op, process, result));
            }
            HostCall::OpenLog {
                log,
                process,
                attempt,
            } => {
                trace.note(now, 0, "open log", log.0, u64::from(attempt));
                let Some(guest) = self.guests.get_mut(&process) else {
                    return Err(Broken(format!("the log of {process:?}, which never was")));
                };
                law!(
                    guest.log.is_none_or(|known| known == log),
                    "{process:?} has two logs"
                );
                guest.log = Some(log);
                let entry = self.logs.entry(log).or_insert(Log {
                    process,
                    reader: Reader::Idle,
                    closing: false,
                    nudged: false,
                    looked: Time::ZERO,
                    cursor: 0,
                    generation: 0,
                    truth: Vec::new(),
                });
                law!(entry.reader == Reader::Idle, "{log:?} is opened twice");
                entry.reader = Reader::Looking;
                let wait = if !self.profile.clock {
                    Duration::from_micros(2_500)
                } else if attempt == 0 {
                    Duration::ZERO
                } else {
                    let ms = 1u64.checked_shl(attempt).unwrap_or(500);
                    Duration::from_millis(ms.min(500))
                };
                self.at(now.saturating_add(wait), Event::Look(log));
            }
            HostCall::Audit(_) => {}
            HostCall::CreateChannel { op, .. }
            | HostCall::DeleteChannel { op, .. }
            | HostCall::DrainChannel { op, .. }
            | HostCall::ShareChannel { op, .. } => {
                let result = Err(NO_CHANNELS.to_owned());
                let at = self.soon(now);
                self.at(at, Event::Refused(Completion::ChannelDone { op, result }));
            }
            HostCall::OpenReader { reader, .. } => {
                let error = Some(NO_CHANNELS.to_owned());
                self.at(
                    now,
                    Event::Refused(Completion::ReaderEnded { reader, error }),
                );
            }
            HostCall::Write { writer, .. } => {
                let result = Err(NO_CHANNELS.to_owned());
                self.at(now, Event::Refused(Completion::Written { writer, result }));
            }
            HostCall::PauseReader { .. }
            | HostCall::ResumeReader { .. }
            | HostCall::NudgeReader { .. }
            | HostCall::CloseReader { .. }
            | HostCall::CloseWriter { .. } => {}
            HostCall::NudgeLog { log } => {
                trace.note(now, 0, "nudge", log.0, 0);
                if let Some(known) = self.logs.get_mut(&log)
                    && known.reader == Reader::Open
                {
                    known.nudged = true;
                    self.read_at(now.saturating_add(Duration::from_millis(1)), log);
                }
            }
            HostCall::CloseLog { log } => {
                trace.note(now, 0, "close log", log.0, 0);
                if let Some(known) = self.logs.get_mut(&log) {
                    known.closing = true;
                    if known.reader == Reader::Open {
                        self.read_at(now.saturating_add(Duration::from_millis(3)), log);
                    }
                }
            }
        }
        Ok(())
    }

    fn read_at(&mut self, at: Time, log: LogId) {
        if let Some(known) = self.logs.get_mut(&log) {
            known.generation += 1;
            let generation = known.generation;
            self.at(at, Event::Read(log, generation));
        }
    }

    /// The next thing that has happened by `now`.
    pub fn pop(&mut self, now: Time, trace: &mut Trace) -> Option<Completion> {
        loop {
            let entry = self.events.first_entry().filter(|e| e.key().0 <= now)?;
            let done = match entry.remove() {
                Event::Started(op, spec, key) => Some(self.started(now, op, &spec, &key)),
                Event::Stopped(op, process, result) => {
                    if let Some(guest) = self.guests.get_mut(&process) {
                        guest.stopping = false;
                        if !matches!(result, Err(StopFailure::Failed(_))) {
                            guest.stopped = Some(now);
                        }
                    }
                    Some(Completion::Stopped { op, result })
                }
                Event::Look(log) => self.look(now, log),
                Event::Read(log, generation) => self.read(now, log, generation),
                Event::Refused(completion) => Some(completion),
            };
            if let Some(done) = done {
                let (what, number) = match &done {
                    Completion::Started { op, .. } => ("started", op.0),
                    Completion::Stopped { op, .. } => ("stopped", op.0),
                    Completion::LogOpened { log } => ("log opened", log.0),
                    Completion::LogMissing { log } => ("log missing", log.0),
                    Completion::LogRecord { log, .. } => ("log record", log.0),
                    Completion::LogLost { log } => ("log lost", log.0),
                    Completion::LogEnded { log } => ("log ended", log.0),
                    Completion::ChannelDone { op, .. } => ("channel done", op.0),
                    Completion::ChannelGone { channel } => ("channel gone", channel.0),
                    Completion::Read { reader, .. } => ("read", reader.0),
                    Completion::ReadLost { reader } => ("read lost", reader.0),
                    Completion::ReaderEnded { reader, .. } => ("reader ended", reader.0),
                    Completion::Written { writer, .. } => ("written", writer.0),
                };
                trace.note(now, 0, what, number, 0);
                return Some(done);
            }
        }
    }

    fn started(&mut self, now: Time, op: OpId, spec: &StartRequest, key: &str) -> Completion {
        self.running = self.running.saturating_sub(1);
        let fails = self.dice.chance(self.profile.failures);
        let process = HostProcess(op.0 << 32 | mix(op.0) >> 32);
        if let Some(start) = self.starts.get_mut(key) {
            start.result = Some((!fails).then_some(process));
        }
        if fails {
            let words = self.dice.pick_or(
                &[
                    "Path validation failed: no such file",
                    "Wasmtime: out of fuel",
                    "tired",
                ],
                "",
            );
            let result = Err(words.to_owned());
            return Completion::Started { op, result };
        }
        let logs = spec.capabilities.contains(&Capability::ChannelWriter);
        let guest = self.guest(now, logs);
        self.guests.insert(process, guest);
        let result = Ok(process);
        Completion::Started { op, result }
    }

    /// Draws what a guest will do.
    fn guest(&mut self, now: Time, logs: bool) -> Guest {
        let volume = self.profile.volume;
        let dice = &mut self.dice;
        let mut plan = Vec::new();
        let mut at = now.saturating_add(dice.millis(0..=500));
        // How many records, how long, how far apart (ms).
        let (count, len, gap) = match dice.below(10) {
            0 => (0, 1..=1, 0..=0),
            1 | 2 => (dice.within(1..=5), 1..=300, 0..=2_000),
            3..=6 => (dice.within(10..=60), 10..=300, 0..=200),
            7 => (dice.within(50..=150), 100..=1_500, 0..=3),
            8 => (dice.within(3..=12), 4_000..=40_000, 0..=400),
            _ => (dice.within(1..=3), 50_000..=200_000, 0..=900),
        };
        let mut bytes = 0;
        for _ in 0..count {
            let len = match dice.below(60) {
                0 => 0,
                1 => 1,
                _ => dice.size(len.clone()),
            };
            bytes += len;
            if bytes > volume {
                break;
            }
            at = at.saturating_add(dice.millis(gap.clone()));
            plan.push(Planned {
                at,
                len,
                hidden: dice.chance(15),
                lost: dice.chance(2),
            });
        }
        let most = if dice.chance(80) { 100 } else { 4_000 };
        let shows = now.saturating_add(dice.millis(0..=most));
        let dies = now.saturating_add(dice.millis(0..=20_000));
        Guest {
            plan,
            shows: (logs && dice.chance(95)).then_some(shows),
            dies: dice.chance(30).then_some(dies),
            stopped: None,
            stopping: false,
            log: None,
        }
    }

    fn look(&mut self, now: Time, log: LogId) -> Option<Completion> {
        let known = self.logs.get_mut(&log)?;
        if known.closing {
            known.reader = Reader::Ended;
            return Some(Completion::LogEnded { log });
        }
        let guest = self.guests.get(&known.process)?;
        // A process that is gone has no log to be found any more.
        let gone = guest.over().is_some_and(|over| over <= now);
        if gone || guest.shows.is_none_or(|shows| shows > now) {
            known.reader = Reader::Idle;
            return Some(Completion::LogMissing { log });
        }
        known.reader = Reader::Open;
        known.looked = now;
        self.read_at(now, log);
        Some(Completion::LogOpened { log })
    }

    fn read(&mut self, now: Time, log: LogId, generation: u64) -> Option<Completion> {
        let known = self.logs.get_mut(&log)?;
        let guest = self.guests.get(&known.process)?;
        if known.generation != generation || known.reader != Reader::Open {
            return None;
        }
        let visible = visible(guest, now);
        let over = guest.over().is_some_and(|over| over <= now);
        let at_end = known.cursor + 1 == visible;
        let planned = guest
            .plan
            .get(known.cursor)
            .filter(|_| known.cursor < visible);
        let just = |at: Time| {
            at > known.looked && at.saturating_since(known.looked) <= JUST_WHEN_IT_LOOKED
        };
        let waits = |planned: &Planned| {
            planned.hidden && just(planned.at) && at_end && !known.nudged && !known.closing
        };
        let Some(planned) = planned.filter(|planned| !waits(planned)) else {
            let at = known.cursor + usize::from(planned.is_some());
            known.nudged &= planned.is_some();
            if known.closing || (over && planned.is_none() && guest.dies.is_some()) {
                known.reader = Reader::Ended;
                return Some(Completion::LogEnded { log });
            }
            // The next record wakes it, or the guest's end.
            let next = guest.plan.get(at).map(|planned| planned.at);
            let next = match (next, guest.over()) {
                (Some(next), Some(over)) if over < next => Some(over),
                (None, over) => over,
                (next, _) => next,
            };
            if let Some(next) = next.filter(|next| *next > now) {
                self.read_at(next, log);
            }
            return None;
        };
        self.nudges += u64::from(planned.hidden && just(planned.at) && at_end && known.nudged);
        if !known.nudged {
            known.looked = now;
        }
        let lost = planned.lost;
        let (number, len) = (known.cursor as u64, planned.len);
        known.cursor += 1;
        let process = known.process;
        known.truth.push(match lost {
            true => Truth::Lost,
            false => Truth::Record(number, len),
        });
        let step = self.dice.below(3) * 300;
        self.read_at(now.saturating_add(Duration::from_micros(step)), log);
        Some(match lost {
            true => Completion::LogLost { log },
            false => Completion::LogRecord {
                log,
                bytes: record(process, number, len),
            },
        })
    }
}

/// How many of its records a guest has logged by now.
fn visible(guest: &Guest, now: Time) -> usize {
    let until = guest.over().map_or(now, |over| over.min(now));
    guest.plan.partition_point(|planned| planned.at <= until)
}
