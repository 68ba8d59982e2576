//! The process table: what was started here, by id and by name.

use core::time::Duration;
use std::collections::VecDeque;

use selium_remote_client_protocol::{
    Capability, RemoteError, Time,
    ops::{ProcessInfo, ProcessRef, ProcessState, StartRequest},
};

use crate::{
    directory::{Directory, Listed},
    host::HostProcess,
    hub::Hub,
    ids::Ids,
    policy::RoleId,
};

/// A process of the table.
#[derive(Debug)]
pub struct Process {
    /// Its id, as clients know it.
    pub id: u64,
    /// Its number in the order of starts; the cursor of lists.
    pub ordinal: u64,
    /// Its name.
    pub name: String,
    /// Its module.
    pub module: String,
    /// Its entrypoint.
    pub entrypoint: String,
    /// What it was given.
    pub capabilities: Vec<Capability>,
    /// The role of who started it.
    pub role: RoleId,
    /// The runtime's own id.
    pub host: HostProcess,
    /// Started or stopped.
    pub state: ProcessState,
    /// When it was started (Unix milliseconds), if there is a clock.
    pub started_ms: Option<u64>,
    /// When it was stopped, likewise.
    pub stopped_ms: Option<u64>,
    /// When it was stopped, as the server's own time.
    pub stopped_at: Option<Time>,
    /// Its log.
    pub hub: Hub,
}

impl Process {
    /// Which process it is.
    #[must_use]
    pub fn reference(&self) -> ProcessRef {
        ProcessRef::new(self.id, self.name.clone())
    }

    /// What clients are told of it.
    #[must_use]
    pub fn info(&self) -> ProcessInfo {
        let mut info = ProcessInfo::default();
        info.id = self.id;
        info.name.clone_from(&self.name);
        info.module.clone_from(&self.module);
        info.entrypoint.clone_from(&self.entrypoint);
        info.state = self.state;
        info.capabilities.clone_from(&self.capabilities);
        info.log = self.hub.state();
        info.log_records = self.hub.ring().next();
        info.started_ms = self.started_ms;
        info.stopped_ms = self.stopped_ms;
        info.last_log_ms = self.hub.last_ms();
        info
    }
}

/// Whether a process with these capabilities can have a log: logging needs both.
#[must_use]
pub fn can_log(capabilities: &[Capability]) -> bool {
    capabilities.contains(&Capability::ChannelLifecycle)
        && capabilities.contains(&Capability::ChannelWriter)
}

impl Listed for Process {
    const WHAT: &'static str = "process";
    const SEVERAL: &'static str = "processes";

    fn id(&self) -> u64 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    all: Directory<Process>,
    /// Stopped processes, the one stopped first in front.
    stopped: VecDeque<u64>,
}

impl Table {
    /// Processes, stopped ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Processes that are started and not stopped, and starts that are under way.
    #[must_use]
    pub fn live(&self) -> usize {
        self.len().saturating_sub(self.stopped.len()) + self.all.reserved()
    }

    /// Those of them that a role's clients asked for.
    #[must_use]
    pub fn live_of(&self, role: RoleId) -> usize {
        let started =
            |process: &&Process| process.role == role && process.state == ProcessState::Started;
        self.all.reserved_of(role) + self.iter().filter(started).count()
    }

    /// All processes, in the order of their starts.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.all.iter()
    }

    /// Processes from this cursor on.
    pub fn from_cursor(&self, cursor: u64) -> impl Iterator<Item = &Process> {
        self.all.since(cursor)
    }

    /// The process with this number.
    #[must_use]
    pub fn get(&self, ordinal: u64) -> Option<&Process> {
        self.all.get(ordinal)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, ordinal: u64) -> Option<&mut Process> {
        self.all.get_mut(ordinal)
    }

    /// Reserves a name for a start that a client with this role asks for: the one it asks for, or one made of its module.
    ///
    /// # Errors
    /// "already exists" when the name is taken, "invalid argument" when it is not a name.
    pub fn reserve_name(
        &mut self,
        spec: &StartRequest,
        role: RoleId,
    ) -> Result<String, RemoteError> {
        self.all
            .reserve_name(spec.name.as_deref(), &spec.module, role)
    }

    /// Gives a reserved name back.
    pub fn release_name(&mut self, name: &str) {
        self.all.release_name(name);
    }

    /// Adds a process under a reserved name.
    pub fn insert(
        &mut self,
        ids: &Ids,
        name: String,
        spec: StartRequest,
        host: HostProcess,
        hub: Hub,
        now_ms: Option<u64>,
    ) -> &mut Process {
        let id = |ordinal, round| ids.process(ordinal, round);
        self.all
            .insert(&name.clone(), id, |id, ordinal, role| Process {
                id,
                ordinal,
                name,
                module: spec.module,
                entrypoint: spec.entrypoint,
                capabilities: spec.capabilities,
                role,
                host,
                state: ProcessState::Started,
                started_ms: now_ms,
                stopped_ms: None,
                stopped_at: None,
                hub,
            })
    }

    /// The process that a target names: a full id first, then a name, then a unique prefix of an id.
    ///
    /// # Errors
    /// "not found" when there is none, "invalid argument" when a prefix fits several.
    pub fn find(&self, target: &str) -> Result<&Process, RemoteError> {
        self.all.find(target)
    }

    /// Marks a process as stopped; answers the number of the one to forget, when more than `max_stopped` are kept.
    pub fn stopped(
        &mut self,
        ordinal: u64,
        now: Time,
        now_ms: Option<u64>,
        max_stopped: usize,
    ) -> Option<u64> {
        let process = self.all.get_mut(ordinal)?;
        if process.state == ProcessState::Stopped {
            return None;
        }
        process.state = ProcessState::Stopped;
        process.stopped_ms = now_ms;
        process.stopped_at = Some(now);
        self.stopped.push_back(ordinal);
        (self.stopped.len() > max_stopped)
            .then(|| self.stopped.pop_front())
            .flatten()
    }

    /// When the process that was stopped first was stopped.
    #[must_use]
    pub fn first_stopped(&self) -> Option<Time> {
        let first = self.stopped.front()?;
        self.all.get(*first)?.stopped_at
    }

    /// The process that was stopped first, if that is `retention` ago or longer.
    #[must_use]
    pub fn stopped_before(&self, now: Time, retention: Duration) -> Option<u64> {
        let over = self.first_stopped()?.saturating_add(retention) <= now;
        self.stopped.front().copied().filter(|_| over)
    }

    /// Forgets a process.
    pub fn remove(&mut self, ordinal: u64) -> Option<Process> {
        let process = self.all.remove(ordinal)?;
        self.stopped.retain(|stopped| *stopped != ordinal);
        Some(process)
    }
}

#[cfg(test)]
mod tests {
    use selium_remote_client_protocol::ErrorCode;

    use super::*;
    use crate::{host::LogId, ids};

    fn spec(name: Option<&str>) -> StartRequest {
        StartRequest::with(|made| {
            made.module = "m.wasm".into();
            made.entrypoint = "start".into();
            made.name = name.map(str::to_owned);
        })
    }

    const ROLE: RoleId = RoleId(3);

    fn start(table: &mut Table, name: Option<&str>) -> (u64, u64) {
        let ids = Ids::new(&[7; 16], "peer", None);
        let spec = spec(name);
        let name = table.reserve_name(&spec, ROLE).unwrap();
        let hub = Hub::new(LogId(1), true);
        let process = table.insert(&ids, name, spec, HostProcess(1), hub, None);
        (process.ordinal, process.id)
    }

    #[test]
    fn targets_are_ids_names_and_unique_prefixes() {
        let mut table = Table::default();
        let ids: Vec<u64> = (0..40).map(|_| start(&mut table, None).1).collect();
        start(&mut table, Some("beef"));
        for id in &ids {
            let full = ids::show(*id);
            assert_eq!(table.find(&full).unwrap().id, *id);
            assert_eq!(table.find(&full[..15]).unwrap().id, *id);
        }
        assert_eq!(table.find("m-3").unwrap().id, ids[2]);
        assert_eq!(
            table.find("beef").unwrap().name,
            "beef",
            "names go before prefixes"
        );
        // 41 ids and 16 digits: some first digit fits several.
        let several = (0..16u8)
            .map(|digit| format!("{digit:x}"))
            .find(|digit| {
                ids.iter()
                    .filter(|id| ids::show(**id).starts_with(digit))
                    .count()
                    > 1
            })
            .unwrap();
        assert_eq!(
            table.find(&several).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
        for unknown in ["nobody", "0000000000000000", "x\u{1b}[0m"] {
            let error = table.find(unknown).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotFound);
            assert!(!error.message.contains('\u{1b}'));
        }
        assert_eq!(table.find("").unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(
            table.find(&"x".repeat(129)).unwrap_err().code,
            ErrorCode::TooLarge
        );
    }

    #[test]
    fn names_are_unique_while_they_are_in_use() {
        let mut table = Table::default();
        let reserved = table.reserve_name(&spec(Some("web")), ROLE).unwrap();
        let again = table.reserve_name(&spec(Some("web")), ROLE).unwrap_err();
        assert_eq!(again.code, ErrorCode::AlreadyExists);
        assert_eq!(table.live(), 1);
        table.release_name(&reserved);
        let (ordinal, _) = start(&mut table, Some("web"));
        assert!(table.reserve_name(&spec(Some("web")), ROLE).is_err());
        table.remove(ordinal);
        assert!(table.reserve_name(&spec(Some("web")), ROLE).is_ok());
    }

    #[test]
    fn stopped_processes_are_kept_for_a_while() {
        let mut table = Table::default();
        let ordinals: Vec<u64> = (0..4).map(|_| start(&mut table, None).0).collect();
        assert_eq!(table.live(), 4);
        assert_eq!(table.stopped(ordinals[1], Time::ZERO, None, 2), None);
        assert_eq!(
            table.stopped(ordinals[1], Time::ZERO, None, 2),
            None,
            "stopped twice"
        );
        assert_eq!(table.stopped(ordinals[0], Time::ZERO, None, 2), None);
        assert_eq!(
            table.stopped(ordinals[2], Time::ZERO, None, 2),
            Some(ordinals[1])
        );
        table.remove(ordinals[1]);
        assert_eq!((table.len(), table.live()), (3, 1));
        assert_eq!((table.live_of(ROLE), table.live_of(RoleId(0))), (1, 0));
        table.reserve_name(&spec(None), RoleId(0)).unwrap();
        assert_eq!((table.live_of(ROLE), table.live_of(RoleId(0))), (1, 1));
    }
}
