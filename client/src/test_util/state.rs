//! The server, its runtime and its connections, all under one lock. Everything happens at once, in whoever's call causes
//! it: nothing here runs by itself.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::Bytes;
use selium_remote_client_protocol::{Time, limits::MAX_WRITE};
use selium_remote_server_core::{
    Completion, Config, ConnectionId, HostCall, OpId, Server,
    fake::{Act, FakeChannels},
    host::StopFailure,
};
use selium_remote_transport_quinn::memory::Loss;

use super::{
    Snapshot,
    faults::{Effect, Faults},
    guest::{Behaviour, Birth},
    processes::Processes,
    slots::{Slots, is_guests},
};

/// Bytes that may be on their way on one connection, each way.
pub(super) const PIPE_BYTES: usize = 256 * 1024;

/// One client's connection.
#[derive(Debug, Default)]
pub(super) struct Conn {
    /// What the server calls it, until it has forgotten it.
    pub(super) core: Option<ConnectionId>,
    /// From the client.
    pub(super) inbox: VecDeque<Bytes>,
    pub(super) inbox_bytes: usize,
    /// The client sends nothing more.
    pub(super) finished: bool,
    /// The server knows that.
    heard: bool,
    /// To the client.
    pub(super) outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    pub(super) lost: Option<Loss>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Who lets guests live on the client's runtime.
    pub(super) midwife: Option<Waker>,
}

impl Conn {
    /// Whether the server has read everything.
    pub(super) fn is_read(&self) -> bool {
        self.core.is_none() || self.inbox.is_empty() && self.heard
    }

    /// Takes the next piece for the client.
    pub(super) fn take(&mut self, max: usize) -> Option<Bytes> {
        let first = self.outbox.front_mut()?;
        let piece = match first.len() > max {
            true => first.split_to(max),
            false => self.outbox.pop_front()?,
        };
        self.outbox_bytes = self.outbox_bytes.saturating_sub(piece.len());
        Some(piece)
    }
}

/// A module: what its entrypoints do.
#[derive(Default)]
pub(super) struct Module {
    pub(super) any: Option<Behaviour>,
    pub(super) entrypoints: BTreeMap<String, Behaviour>,
}

pub(super) struct State {
    /// The server was dropped.
    pub(super) over: bool,
    pub(super) core: Server,
    pub(super) config: Config,
    pub(super) now: Time,
    pub(super) channels: FakeChannels,
    pub(super) modules: BTreeMap<String, Module>,
    pub(super) processes: Processes,
    pub(super) slots: Slots,
    /// Guests that are to begin.
    pub(super) births: VecDeque<Birth>,
    /// What came of host calls.
    completions: VecDeque<Completion>,
    /// What operations of the host are.
    doing: BTreeMap<OpId, Effect>,
    pub(super) faults: Faults,
    pub(super) conns: BTreeMap<u64, Conn>,
    by_core: BTreeMap<ConnectionId, u64>,
    pub(super) last_conn: u64,
    /// Attempts to connect that wait.
    pub(super) callers: BTreeMap<u64, Waker>,
    pub(super) last_caller: u64,
    /// Who waits for something to be so.
    pub(super) watchers: Vec<Waker>,
    /// Whom to wake when the lock is free.
    woken: Vec<Waker>,
    /// Chooses what happens first; nobody does when there is none.
    pub(super) dice: Option<Dice>,
}

/// Numbers from a seed (splitmix64).
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % end.max(1) as u64).unwrap_or(0)
    }
}

/// What everybody shares.
pub(super) struct Shared(Mutex<State>);

impl Shared {
    pub(super) fn new(config: Config, dice: Option<Dice>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            over: false,
            core: Server::new(config.clone()),
            config,
            now: Time::ZERO,
            channels: FakeChannels::default(),
            modules: BTreeMap::new(),
            processes: Processes::default(),
            slots: Slots::default(),
            births: VecDeque::new(),
            completions: VecDeque::new(),
            doing: BTreeMap::new(),
            faults: Faults::default(),
            conns: BTreeMap::new(),
            by_core: BTreeMap::new(),
            last_conn: 0,
            callers: BTreeMap::new(),
            last_caller: 0,
            watchers: Vec::new(),
            woken: Vec::new(),
            dice,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks, and changes nothing.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.lock())
    }

    /// Changes something; everything that comes of it happens before this returns.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.settle();
        let mut woken = std::mem::take(&mut state.woken);
        woken.append(&mut state.watchers);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        result
    }
}

impl State {
    /// Wakes them when the lock is free.
    pub(super) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.woken.extend(wakers);
    }

    /// Takes a new connection; answers its number.
    pub(super) fn open(&mut self) -> u64 {
        self.last_conn += 1;
        let number = self.last_conn;
        let core = self.core.open(self.now, &format!("memory:{number}"));
        self.by_core.insert(core, number);
        let conn = Conn {
            core: Some(core),
            ..Conn::default()
        };
        self.conns.insert(number, conn);
        number
    }

    /// The server forgets a connection.
    pub(super) fn forget(&mut self, number: u64) {
        let core = self.conns.get_mut(&number).and_then(|c| c.core.take());
        if let Some(core) = core {
            self.by_core.remove(&core);
            self.core.forget_connection(self.now, core);
        }
    }

    /// Loses a connection, with what is on its way.
    pub(super) fn lose(&mut self, number: u64, loss: Loss) {
        self.forget(number);
        if let Some(conn) = self.conns.get_mut(&number) {
            conn.lost.get_or_insert(loss);
            conn.inbox.clear();
            conn.outbox.clear();
            let wakers = [conn.reader.take(), conn.writer.take(), conn.midwife.take()];
            self.woken.extend(wakers.into_iter().flatten());
        }
    }

    pub(super) fn lose_all(&mut self, loss: Loss) {
        let numbers: Vec<u64> = self.conns.keys().copied().collect();
        numbers
            .into_iter()
            .for_each(|number| self.lose(number, loss));
    }

    /// Lets everything happen that can.
    pub(super) fn settle(&mut self) {
        loop {
            let mut moved = self.receive();
            while let Some(call) = self.core.poll_host() {
                self.begin(call);
                moved = true;
            }
            if let Some(completion) = self.completions.pop_front() {
                self.deliver(completion);
                moved = true;
            } else {
                moved |= self.act();
            }
            while let Some(id) = self.core.poll_ready() {
                if let Some(number) = self.by_core.get(&id).copied() {
                    moved |= self.pump(number);
                }
            }
            if !moved {
                break;
            }
        }
        if !self.births.is_empty() {
            let midwives = self.conns.values_mut().filter_map(|c| c.midwife.take());
            self.woken.extend(midwives);
        }
    }

    /// The server reads what clients have sent.
    fn receive(&mut self) -> bool {
        if self.faults.deaf {
            return false;
        }
        let mut moved = false;
        for conn in self.conns.values_mut() {
            let Some(core) = conn.core else {
                continue;
            };
            for bytes in conn.inbox.drain(..) {
                self.core.handle_input(self.now, core, bytes);
                moved = true;
            }
            conn.inbox_bytes = 0;
            if conn.finished && !conn.heard {
                conn.heard = true;
                self.core.handle_eof(self.now, core);
                moved = true;
            }
            if moved {
                self.woken.extend(conn.writer.take());
            }
        }
        moved
    }

    /// Takes what the server has to say on a connection, as far as there is room.
    pub(super) fn pump(&mut self, number: u64) -> bool {
        let mut moved = false;
        let Some(conn) = self.conns.get_mut(&number) else {
            return false;
        };
        let Some(core) = conn.core else {
            return false;
        };
        let mut all = false;
        while conn.outbox_bytes < PIPE_BYTES {
            let Some(mut transmit) = self.core.poll_transmit(core, MAX_WRITE) else {
                all = true;
                break;
            };
            moved = true;
            conn.outbox_bytes += transmit.len();
            conn.outbox.push_back(match transmit.parts.len() {
                1 => transmit.parts.swap_remove(0),
                _ => transmit.to_vec().into(),
            });
        }
        if moved {
            self.woken.extend(conn.reader.take());
        }
        if all && conn.heard {
            self.woken.extend(conn.reader.take());
            self.woken.extend(conn.writer.take());
            self.forget(number);
        }
        moved
    }

    /// The runtime begins something.
    fn begin(&mut self, call: HostCall) {
        let effect = match &call {
            HostCall::CreateChannel { op, .. } => Some((*op, Effect::CreateChannel)),
            HostCall::DeleteChannel { op, .. } => Some((*op, Effect::DeleteChannel)),
            HostCall::DrainChannel { op, .. } => Some((*op, Effect::DrainChannel)),
            HostCall::ShareChannel { op, .. } => Some((*op, Effect::ShareChannel)),
            _ => None,
        };
        self.doing.extend(effect);
        let Some(call) = self.channels.begin(call) else {
            return;
        };
        match call {
            HostCall::Start { op, spec, channels } => {
                let found = self.find(&spec.module, &spec.entrypoint);
                let result = found.map(|behaviour| {
                    let (process, birth) = self.processes.start(behaviour, *spec, channels);
                    self.births.push_back(birth);
                    process
                });
                self.completions
                    .push_back(Completion::Started { op, result });
            }
            HostCall::Stop { op, process } => {
                let (stopped, wakers) = self.processes.stop(process);
                self.woken.extend(wakers);
                self.release(process.0);
                let result = match stopped {
                    true => Ok(()),
                    false => Err(StopFailure::Gone),
                };
                self.completions
                    .push_back(Completion::Stopped { op, result });
            }
            HostCall::OpenLog { log, process, .. } => {
                let opened = self.processes.open_log(process, log);
                self.completions.extend(opened);
            }
            HostCall::CloseLog { log } => {
                self.processes.close_log(log);
                self.completions.push_back(Completion::LogEnded { log });
            }
            // What is written here is seen at once; nobody keeps records.
            _ => {}
        }
    }

    fn find(&self, module: &str, entrypoint: &str) -> Result<Behaviour, String> {
        // As the runtime says it: the server's rules read these words.
        let Some(found) = self.modules.get(module) else {
            let words = "internal error: Module store error: Error reading filesytem: No such file or directory (os error 2)";
            return Err(words.to_owned());
        };
        let behaviour = found.entrypoints.get(entrypoint).or(found.any.as_ref());
        behaviour.cloned().ok_or_else(|| {
            format!("internal error: Wasmtime error: entrypoint `{entrypoint}` not found")
        })
    }

    /// Something happens in a channel.
    fn act(&mut self) -> bool {
        let mut ready = self.channels.ready();
        // Guests read when they want to.
        ready.retain(|act| match act {
            Act::Read(reader) if is_guests(reader.0) => self.slots.wants(*reader),
            _ => true,
        });
        let chosen = self.dice.as_mut().map_or(0, |dice| dice.below(ready.len()));
        let Some(act) = ready.get(chosen) else {
            return false;
        };
        if let Some(completion) = self.channels.act(*act) {
            self.deliver(completion);
        }
        true
    }

    /// Tells whom it concerns, unless that is to go wrong.
    fn deliver(&mut self, completion: Completion) {
        let completion = match self.slots.complete(completion) {
            Ok(waker) => return self.woken.extend(waker),
            Err(completion) => completion,
        };
        let effect = match &completion {
            Completion::Started { .. } => Some(Effect::Start),
            Completion::Stopped { .. } => Some(Effect::Stop),
            Completion::ChannelDone { op, .. } => self.doing.remove(op),
            Completion::Written { .. } => Some(Effect::Message),
            _ => None,
        };
        if let Some(effect) = effect {
            if self.faults.holding.contains(&effect) {
                self.faults.held.push_back(completion);
                return;
            }
            if self.faults.losing.remove(&effect) {
                self.lose_all(Loss::Closed);
            }
        }
        self.core.handle_host(self.now, completion);
    }

    /// The answers that were kept back.
    pub(super) fn let_go(&mut self) {
        self.faults.holding.clear();
        let held = std::mem::take(&mut self.faults.held);
        for completion in held {
            self.core.handle_host(self.now, completion);
        }
    }

    /// A process is over: what it had in the runtime is freed.
    pub(super) fn release(&mut self, process: u64) {
        for call in self.slots.release(process) {
            let _ = self.channels.begin(call);
        }
    }

    /// A record that a process has written.
    pub(super) fn log(&mut self, process: u64, record: Bytes) {
        let completion = self.processes.log(process, record);
        self.completions.extend(completion);
    }

    /// Everything that the server and the runtime knew is gone.
    pub(super) fn restart(&mut self) {
        self.lose_all(Loss::Reset);
        self.core = Server::new(self.config.clone());
        self.channels = FakeChannels::default();
        let wakers = self.processes.kill_all();
        self.woken.extend(wakers);
        self.woken.extend(self.slots.clear());
        self.births.clear();
        self.completions.clear();
        self.doing.clear();
        self.by_core.clear();
        self.faults.held.clear();
    }

    /// The server's time in milliseconds since the Unix epoch, if it has a clock.
    pub(super) fn unix_ms(&self) -> Option<u64> {
        let since = u64::try_from(self.now.since_origin().as_millis()).ok()?;
        Some(self.config.unix_origin_ms?.saturating_add(since))
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let (readers, writers) = self.channels.in_use();
        Snapshot {
            connections: self.conns.values().filter(|c| c.core.is_some()).count(),
            callers: self.callers.len(),
            processes: self.processes.running(),
            held: self.faults.held.len(),
            channels: self.channels.channels().count(),
            readers,
            writers,
            waiting_bytes: self.channels.waiting_bytes(),
        }
    }
}
