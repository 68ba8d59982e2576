//! The process table: what was started here, by id and by name.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use selium_remote_client_protocol::{
    Capability, ErrorCode, RemoteError, Time,
    ops::{ProcessInfo, ProcessRef, ProcessState, StartRequest},
};

use crate::{
    host::HostProcess,
    hub::Hub,
    ids::{self, Ids},
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
        info.log_records = self.hub.next();
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

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    by_ordinal: BTreeMap<u64, Process>,
    by_id: BTreeMap<u64, u64>,
    by_name: BTreeMap<String, u64>,
    /// Names of starts that are under way, and the roles of who asked for them.
    reserved: BTreeMap<String, RoleId>,
    /// Stopped processes, the one stopped first in front.
    stopped: VecDeque<u64>,
    last_ordinal: u64,
}

impl Table {
    /// Processes, stopped ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_ordinal.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_ordinal.is_empty()
    }

    /// Processes that are started and not stopped, and starts that are under way.
    #[must_use]
    pub fn live(&self) -> usize {
        self.len().saturating_sub(self.stopped.len()) + self.reserved.len()
    }

    /// Those of them that a role's clients asked for.
    #[must_use]
    pub fn live_of(&self, role: RoleId) -> usize {
        let reserved = self.reserved.values().filter(|of| **of == role).count();
        let started =
            |process: &&Process| process.role == role && process.state == ProcessState::Started;
        reserved + self.iter().filter(started).count()
    }

    /// All processes, in the order of their starts.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_ordinal.values()
    }

    /// Processes from this cursor on.
    pub fn from_cursor(&self, cursor: u64) -> impl Iterator<Item = &Process> {
        self.by_ordinal.range(cursor..).map(|(_, process)| process)
    }

    /// The process with this number.
    #[must_use]
    pub fn get(&self, ordinal: u64) -> Option<&Process> {
        self.by_ordinal.get(&ordinal)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, ordinal: u64) -> Option<&mut Process> {
        self.by_ordinal.get_mut(&ordinal)
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
        let taken =
            |name: &str| self.by_name.contains_key(name) || self.reserved.contains_key(name);
        let name = match &spec.name {
            Some(name) => {
                ids::check_name(name)?;
                if taken(name) {
                    return Err(RemoteError::new(
                        ErrorCode::AlreadyExists,
                        format!("there is a process named `{name}`"),
                    )
                    .with_field("name"));
                }
                name.clone()
            }
            None => {
                let mut number = self.last_ordinal + self.reserved.len() as u64 + 1;
                while taken(&ids::default_name(&spec.module, number)) {
                    number += 1;
                }
                ids::default_name(&spec.module, number)
            }
        };
        self.reserved.insert(name.clone(), role);
        Ok(name)
    }

    /// Gives a reserved name back.
    pub fn release_name(&mut self, name: &str) {
        self.reserved.remove(name);
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
        let role = self.reserved.remove(&name).unwrap_or_default();
        self.last_ordinal += 1;
        let ordinal = self.last_ordinal;
        let mut round = 0;
        let mut id = ids.process(ordinal, round);
        while id == 0 || self.by_id.contains_key(&id) {
            round += 1;
            id = ids.process(ordinal, round);
        }
        self.by_id.insert(id, ordinal);
        self.by_name.insert(name.clone(), ordinal);
        self.by_ordinal.entry(ordinal).or_insert(Process {
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
        ids::check_target(target)?;
        let process = |ordinal: &u64| self.by_ordinal.get(ordinal);
        let shown = target.escape_debug();
        let is_prefix = ids::is_id_prefix(target);
        if is_prefix && target.len() == ids::ID_DIGITS {
            let id = u64::from_str_radix(target, 16).unwrap_or_default();
            if let Some(found) = self.by_id.get(&id).and_then(process) {
                return Ok(found);
            }
        }
        if let Some(found) = self.by_name.get(target).and_then(process) {
            return Ok(found);
        }
        let mut fitting = Vec::new();
        if is_prefix {
            let digits = target.len() as u32;
            let low = u64::from_str_radix(target, 16).unwrap_or_default();
            let shift = 64 - 4 * digits;
            let low = low.checked_shl(shift).unwrap_or_default();
            let high = low | 1u64.checked_shl(shift).map_or(u64::MAX, |bit| bit - 1);
            fitting.extend(
                self.by_id
                    .range(low..=high)
                    .map(|(_, ordinal)| ordinal)
                    .take(2),
            );
        }
        match fitting[..] {
            [ordinal] => process(ordinal).ok_or_else(|| not_found(&shown.to_string())),
            [] => Err(not_found(&shown.to_string())),
            _ => Err(RemoteError::new(
                ErrorCode::InvalidArgument,
                format!("`{shown}` fits several processes; give more digits of the id"),
            )
            .with_field("target")),
        }
    }

    /// Marks a process as stopped; answers the number of the one to forget, when more than `max_stopped` are kept.
    pub fn stopped(
        &mut self,
        ordinal: u64,
        now: Time,
        now_ms: Option<u64>,
        max_stopped: usize,
    ) -> Option<u64> {
        let process = self.by_ordinal.get_mut(&ordinal)?;
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
        self.by_ordinal.get(first)?.stopped_at
    }

    /// The process that was stopped first, if that is `retention` ago or longer.
    #[must_use]
    pub fn stopped_before(&self, now: Time, retention: Duration) -> Option<u64> {
        let over = self.first_stopped()?.saturating_add(retention) <= now;
        self.stopped.front().copied().filter(|_| over)
    }

    /// Forgets a process.
    pub fn remove(&mut self, ordinal: u64) -> Option<Process> {
        let process = self.by_ordinal.remove(&ordinal)?;
        self.by_id.remove(&process.id);
        self.by_name.remove(&process.name);
        self.stopped.retain(|stopped| *stopped != ordinal);
        Some(process)
    }
}

fn not_found(shown: &str) -> RemoteError {
    RemoteError::new(
        ErrorCode::NotFound,
        format!("there is no process `{shown}`"),
    )
    .with_field("target")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::LogId;

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
