//! Whether a role may do what its client asks for, and how much of it.
//!
//! The order of the questions is that of a request: the operation's permission before anything of the request is read,
//! the module and the capabilities of a start before anything is looked up. A client that may not do a thing gets the
//! same answer whether the thing exists or not.

use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError,
    ops::{StartRequest, op},
};

use crate::{
    Config,
    audit::REFUSALS,
    policy::{MAX_PATTERN, MAX_PATTERNS, MAX_ROLES, Permission, Role, RoleId, RoleLimits},
    rate::Bucket,
    server::Server,
};

/// The name of the role that connections have whose role the server does not know. It may do nothing.
pub const UNKNOWN_ROLE: &str = "unknown";

/// A role and what of it is used.
#[derive(Debug)]
pub(crate) struct RoleState {
    pub(crate) role: Role,
    /// The limits of each of its connections: the role's and the server's, whichever is lower.
    pub(crate) limits: Limits,
    /// Connections that are not forgotten, those without a hello included.
    pub(crate) open: usize,
    /// Those of them that were accepted.
    pub(crate) accepted: usize,
    pub(crate) starts: Bucket,
    /// Refusals that the audit may tell.
    pub(crate) refusals: Bucket,
}

impl RoleState {
    fn new(role: Role, config: &Config) -> Self {
        let RoleLimits {
            requests,
            streams,
            queued_bytes,
            starts_per_minute,
            ..
        } = role.limits;
        let mut limits = config.limits;
        let lower = |limit: &mut usize, role: u32| *limit = (*limit).min(size(role));
        lower(&mut limits.max_requests, requests);
        lower(&mut limits.max_streams, streams);
        lower(&mut limits.connection_queue, queued_bytes);
        lower(&mut limits.stream_queue, queued_bytes);
        Self {
            limits,
            open: 0,
            accepted: 0,
            starts: Bucket::new(starts_per_minute, starts_per_minute),
            refusals: Bucket::new(REFUSALS.burst, REFUSALS.per_minute),
            role,
        }
    }

    pub(crate) fn max_connections(&self) -> usize {
        size(self.role.limits.connections)
    }

    /// "resource exhausted", naming the role and the limit.
    pub(crate) fn exhausted(&self, what: &str, are: &str, limit: u32) -> RemoteError {
        let name = &self.role.name;
        let message = format!("{limit} {what} of the role `{name}` are {are}, which is the limit");
        RemoteError::new(ErrorCode::ResourceExhausted, message).with_limit(u64::from(limit))
    }

    fn denied(&self, what: &str) -> RemoteError {
        let message = format!("the role `{}` {what}", self.role.name);
        RemoteError::new(ErrorCode::PermissionDenied, message)
    }
}

/// All roles of the server, and the one of connections whose role it does not know.
#[derive(Debug)]
pub(crate) struct Roles {
    known: Vec<RoleState>,
    unknown: RoleState,
}

impl Roles {
    pub(crate) fn new(config: &Config) -> Self {
        let state = |role: &Role| RoleState::new(role.clone(), config);
        Self {
            known: config
                .policy
                .roles
                .iter()
                .take(MAX_ROLES)
                .map(state)
                .collect(),
            unknown: state(&Role::new(UNKNOWN_ROLE)),
        }
    }

    pub(crate) fn get(&self, id: RoleId) -> &RoleState {
        self.known.get(usize::from(id.0)).unwrap_or(&self.unknown)
    }

    pub(crate) fn get_mut(&mut self, id: RoleId) -> &mut RoleState {
        let known = self.known.get_mut(usize::from(id.0));
        known.unwrap_or(&mut self.unknown)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut RoleState> {
        self.known.iter_mut().chain([&mut self.unknown])
    }
}

/// What an operation asks for; `None` for those that are open to everybody and those that there are not. For a subscribe
/// see [`Server::allow_request`].
fn permission(op: u64) -> Option<Permission> {
    match op {
        op::PROCESS_START => Some(Permission::Start),
        op::PROCESS_STOP => Some(Permission::Stop),
        op::PROCESS_LIST => Some(Permission::List),
        op::PROCESS_INSPECT => Some(Permission::Inspect),
        op::LOG_FOLLOW => Some(Permission::Logs),
        op::CHANNEL_CREATE | op::CHANNEL_DELETE | op::CHANNEL_DRAIN | op::CHANNEL_SHARE => {
            Some(Permission::Channels)
        }
        op::CHANNEL_LIST | op::CHANNEL_INSPECT => Some(Permission::Subscribe),
        op::PUBLISH => Some(Permission::Publish),
        _ => None,
    }
}

impl Server {
    /// Whether a role may ask for an operation. Which of two permissions a subscribe asks for stands in its body, which a
    /// role that has neither does not get read.
    pub(crate) fn allow_request(&self, role: RoleId, op: u64) -> Result<(), RemoteError> {
        if op == op::SUBSCRIBE && self.allow(role, Permission::SubscribeLossless).is_err() {
            return self.allow(role, Permission::Subscribe);
        }
        permission(op).map_or(Ok(()), |permission| self.allow(role, permission))
    }

    /// Whether a role may do what asks for this permission.
    pub(crate) fn allow(&self, role: RoleId, permission: Permission) -> Result<(), RemoteError> {
        let state = self.roles.get(role);
        if state.role.permissions.contains(permission) {
            return Ok(());
        }
        let what = format!(
            "may not do this: it lacks the permission `{}`",
            permission.name()
        );
        Err(state.denied(&what).with_field("operation"))
    }

    /// Whether a role may start this module with these capabilities.
    pub(crate) fn allow_start(&self, role: RoleId, spec: &StartRequest) -> Result<(), RemoteError> {
        check_module(&spec.module)?;
        let state = self.roles.get(role);
        let mut patterns = state.role.modules.iter().take(MAX_PATTERNS);
        if !patterns.any(|pattern| module_matches(pattern, &spec.module)) {
            let module = spec.module.escape_debug();
            let what = format!("may not start the module `{module}`");
            return Err(state.denied(&what).with_field("module"));
        }
        let ceiling = state.role.ceiling;
        let mut capabilities = spec.capabilities.iter();
        match capabilities.find(|capability| !ceiling.contains(**capability)) {
            None => Ok(()),
            Some(capability) => {
                let what = format!("may not pass on {capability}");
                Err(state.denied(&what).with_field("capabilities"))
            }
        }
    }

    /// Whether a role may have one more process.
    pub(crate) fn allow_process(&self, role: RoleId) -> Result<(), RemoteError> {
        let state = self.roles.get(role);
        let limit = state.role.limits.processes;
        if self.table.live_of(role) < size(limit) {
            return Ok(());
        }
        Err(state.exhausted("processes", "started", limit))
    }

    /// Takes one of the role's starts of this minute. Without a clock there are no minutes, and no such limit.
    pub(crate) fn take_start(&mut self, role: RoleId) -> Result<(), RemoteError> {
        let now = self.now;
        let has_clock = self.config.unix_origin_ms.is_some();
        let state = self.roles.get_mut(role);
        if !has_clock || state.starts.take(now) {
            return Ok(());
        }
        let limit = state.role.limits.starts_per_minute;
        let name = &state.role.name;
        let mut message =
            format!("the role `{name}` may start {limit} processes a minute, which is the limit");
        if let Some(wait) = state.starts.wait() {
            let seconds = wait.as_millis().div_ceil(1_000);
            message.push_str(&format!("; the next one in {seconds} s"));
        }
        Err(RemoteError::new(ErrorCode::ResourceExhausted, message).with_limit(u64::from(limit)))
    }
}

/// Checks a module id, before it is compared with anything: nothing is normalised, so what means the same in two ways is
/// refused.
fn check_module(module: &str) -> Result<(), RemoteError> {
    let shown = module.escape_debug();
    let message = if module.is_empty() || module.chars().any(char::is_control) {
        format!("`{shown}` is not a module id")
    } else if module.starts_with('/') || module.split('/').any(|part| part == "..") {
        format!(
            "the module id `{shown}` must be relative and stay inside the runtime's modules directory"
        )
    } else if module.contains('\\') {
        format!("the module id `{shown}` has a backslash; folders are separated by `/`")
    } else {
        return Ok(());
    };
    Err(RemoteError::new(ErrorCode::InvalidArgument, message).with_field("module"))
}

/// Whether a role's pattern means this module: `*` stands for any characters, none and `/` included, and everything else
/// for itself. A pattern that is longer than [`MAX_PATTERN`] means none.
///
/// It never goes back: each text between two stars is taken where it stands first, which leaves most for the others.
#[must_use]
pub fn module_matches(pattern: &str, module: &str) -> bool {
    if pattern.len() > MAX_PATTERN {
        return false;
    }
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == module;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = module
        .strip_prefix(start)
        .and_then(|inner| inner.strip_suffix(end));
    let Some(mut inner) = inner else {
        return false;
    };
    for part in middle.split('*') {
        match inner.split_once(part) {
            // An empty part is found at once and takes nothing.
            Some((_, behind)) => inner = behind,
            None => return false,
        }
    }
    true
}

/// A limit of a policy as a number of things in memory.
fn size(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_say() {
        for (pattern, module, matches) in [
            ("*", "a/b.wasm", true),
            ("*", "", true),
            ("", "a", false),
            ("", "", true),
            ("a.wasm", "a.wasm", true),
            ("a.wasm", "A.wasm", false),
            ("a.wasm", "xa.wasm", false),
            ("apps/*", "apps/a/b.wasm", true),
            ("apps/*", "apps", false),
            ("apps/*", "./apps/a", false),
            ("*.wasm", ".wasm", true),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("**a**", "a", true),
            ("?", "a", false),
            ("*ä*", "xäx", true),
        ] {
            assert_eq!(
                module_matches(pattern, module),
                matches,
                "`{pattern}` and `{module}`"
            );
        }
        assert!(!module_matches(
            &"*".repeat(MAX_PATTERN + 1),
            "longer than allowed"
        ));
    }

    #[test]
    fn module_ids_are_plain() {
        for good in [
            "a",
            "a.wasm",
            "a/b/c.wasm",
            "a..b",
            "...",
            "ä b.wasm",
            "./a",
        ] {
            assert!(check_module(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/a", "..", "../a", "a/..", "a/../b", "a\\b", "..\\a", "a\0", "a\nb", "a\u{7f}",
            "a\u{85}",
        ] {
            let error = check_module(bad).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{bad:?}");
            assert!(!error.message.chars().any(char::is_control), "{bad:?}");
        }
    }
}
