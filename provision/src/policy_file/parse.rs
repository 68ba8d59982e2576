//! From text to roles.

use core::ops::Range;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use selium_remote_client_protocol::{Capability, CapabilitySet};
use selium_remote_server_core::policy::{
    MAX_PATTERN, MAX_PATTERNS, MAX_ROLE_NAME, MAX_ROLES, Permission, Permissions, Role, RoleLimits,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    MAX_CA_FILES, MAX_POLICY, PolicyError, PolicyFile, READY_MADE, RoleEntry, Takeover, ready_made,
    values::{Result, Source, quote},
};
use crate::{ADMIN, provision};

const KEYS: [&str; 8] = [
    "base",
    "port",
    "client-ca",
    "permissions",
    "modules",
    "ceiling",
    "dangerous",
    "limits",
];

impl PolicyFile {
    /// Reads a policy's text. `path` is where it stands, for errors and for the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(path: &Path, text: &str) -> core::result::Result<Self, PolicyError> {
        let source = Source { path, text };
        if text.len() > MAX_POLICY {
            let message = format!(
                "the policy has {} bytes, more than {MAX_POLICY}",
                text.len()
            );
            return Err(PolicyError::new(path, None, message));
        }
        let document = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            source.error(&span, format!("this is not TOML: {}", error.message()))
        })?;
        let mut tables = None;
        for (key, value) in document.get_ref() {
            match key.get_ref().as_ref() {
                "role" => tables = Some(value),
                other => {
                    return Err(source.unknown(&key.span(), "key", other, ["role"].into_iter()));
                }
            }
        }
        let Some(tables) = tables else {
            return Err(no_admin(source));
        };
        let tables = source.table(tables, "role", "tables, like [role.admin]")?;
        roles(source, tables).map(|roles| Self {
            path: path.to_owned(),
            roles,
        })
    }
}

fn no_admin(source: Source<'_>) -> PolicyError {
    source.error(
        &(0..0),
        "there is no role admin: write [role.admin], or nobody may do everything",
    )
}

fn roles(source: Source<'_>, tables: &DeTable<'_>) -> Result<Vec<RoleEntry>> {
    let mut tables: Vec<_> = tables.iter().collect();
    tables.sort_by_key(|(name, _)| (name.get_ref() != ADMIN, name.span().start));
    if let Some((name, _)) = tables.get(MAX_ROLES) {
        let message = format!("there are more than {MAX_ROLES} roles");
        return Err(source.error(&name.span(), message));
    }
    if !tables.iter().any(|(name, _)| name.get_ref() == ADMIN) {
        return Err(no_admin(source));
    }
    let mut ports: BTreeMap<u16, String> = BTreeMap::new();
    let mut roles = Vec::new();
    for (name, value) in tables {
        let table = Table {
            source,
            span: name.span(),
            name: name.get_ref(),
            keys: source.table(value, name.get_ref(), "a table, like [role.NAME]")?,
        };
        let entry = table.read()?;
        if let Some(port) = entry.port
            && let Some(other) = ports.insert(port, entry.role.name.clone())
        {
            let span = table.get("port").map_or(table.span.clone(), Spanned::span);
            let message = format!(
                "the port {port} is already that of the role {other}: a role is a port, give each its own"
            );
            return Err(source.error(&span, message));
        }
        roles.push(entry);
    }
    Ok(roles)
}

/// The table of one role.
struct Table<'t, 'i> {
    source: Source<'t>,
    span: Range<usize>,
    name: &'t str,
    keys: &'t DeTable<'i>,
}

impl<'t, 'i> Table<'t, 'i> {
    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.keys.get(key)
    }

    fn error(&self, message: impl Into<String>) -> PolicyError {
        self.source.error(&self.span, message)
    }

    fn read(&self) -> Result<RoleEntry> {
        if !provision::is_role_name(self.name) {
            let message = format!(
                "`{}` is no name of a role: write 1 to {MAX_ROLE_NAME} characters of a-z 0-9 -, the first of them a letter",
                quote(self.name)
            );
            return Err(self.error(message));
        }
        check_keys(self.source, self.keys, "key of a role", KEYS.into_iter())?;
        let mut role = self.base()?;
        if let Some(value) = self.get("modules") {
            role.modules = self.modules(value)?;
        }
        if role.permissions.contains(Permission::Start) && role.modules.is_empty() {
            let message = format!(
                "the role {} may start modules, but none are given: write modules = [\"apps/*\"], or leave `start` out",
                self.name
            );
            return Err(self.error(message));
        }
        if let Some(value) = self.get("limits") {
            role.limits = self.limits(value)?;
        }
        self.ceiling(&mut role)?;
        let (client_ca, client_ca_at) = self.client_ca()?;
        Ok(RoleEntry {
            role,
            port: self.port()?,
            client_ca,
            client_ca_at: self.source.position(&client_ca_at),
        })
    }

    /// The ready-made role, or an empty one, with the permissions that are given.
    fn base(&self) -> Result<Role> {
        let base = match self.get("base") {
            None => ready_made(self.name),
            Some(value) => {
                let example = "the name of a ready-made role, like base = \"viewer\"";
                let base = self.source.text(value, "base", example)?;
                let unknown = || {
                    let known = READY_MADE.into_iter();
                    self.source
                        .unknown(&value.span(), "ready-made role", base, known)
                };
                Some(ready_made(base).ok_or_else(unknown)?)
            }
        };
        let permissions = match self.get("permissions") {
            Some(value) => Some(self.permissions(value)?),
            None => None,
        };
        let has_base = base.is_some();
        let mut role = base.unwrap_or_else(|| Role::new(self.name));
        self.name.clone_into(&mut role.name);
        match permissions {
            Some(permissions) => role.permissions = permissions,
            None if has_base => {}
            None => {
                let message = format!(
                    "the role {} has no `permissions`: write them, like permissions = [\"list\", \"logs\"], or base = \"viewer\"",
                    self.name
                );
                return Err(self.error(message));
            }
        }
        Ok(role)
    }

    fn permissions(&self, value: &Spanned<DeValue<'_>>) -> Result<Permissions> {
        let example = "[\"list\", \"logs\"]";
        let most = Permission::ALL.len();
        let names = self
            .source
            .texts(value, "permissions", example, false, most)?;
        let permission = |(span, name): (Range<usize>, &str)| {
            let known = Permission::ALL.into_iter().map(Permission::name);
            let unknown = || self.source.unknown(&span, "permission", name, known);
            Permission::from_name(name).ok_or_else(unknown)
        };
        names.into_iter().map(permission).collect()
    }

    fn modules(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>> {
        let example = "[\"hello.wasm\", \"apps/*\"]";
        let patterns = self
            .source
            .texts(value, "modules", example, false, MAX_PATTERNS)?;
        let pattern = |(span, pattern): (Range<usize>, &str)| {
            if !provision::is_pattern(pattern) {
                let message = format!(
                    "a pattern of modules has 1 to {MAX_PATTERN} bytes and no control characters"
                );
                return Err(self.source.error(&span, message));
            }
            Ok(pattern.to_owned())
        };
        patterns.into_iter().map(pattern).collect()
    }

    fn ceiling(&self, role: &mut Role) -> Result<()> {
        let given = self.get("ceiling");
        if let Some(value) = given {
            let example = "[\"ChannelLifecycle\", \"ChannelWriter\"]";
            let most = Capability::ALL.len();
            let names = self.source.texts(value, "ceiling", example, false, most)?;
            let capability = |(span, name): (Range<usize>, &str)| {
                let known = Capability::ALL.iter().map(|it| it.name());
                let unknown = |_| self.source.unknown(&span, "capability", name, known);
                name.parse::<Capability>().map_err(unknown)
            };
            let ceiling: Result<CapabilitySet> = names.into_iter().map(capability).collect();
            role.ceiling = ceiling?;
        }
        let dangerous = match self.get("dangerous") {
            Some(value) => self.source.flag(value, "dangerous")?,
            None => self.name == ADMIN && given.is_none(),
        };
        let Some(takeover) = Takeover::of(role.ceiling).next().filter(|_| !dangerous) else {
            return Ok(());
        };
        let names = takeover.capabilities.iter().map(|it| it.name());
        let names = names.collect::<Vec<_>>().join(" with ");
        let span = given.map_or(self.span.clone(), Spanned::span);
        let message = format!(
            "the ceiling of the role {} has {names}, and a process with that {}: leave it out, or write dangerous = true",
            self.name, takeover.why
        );
        Err(self.source.error(&span, message))
    }

    fn port(&self) -> Result<Option<u16>> {
        let is_admin = self.name == ADMIN;
        match self.get("port") {
            None if is_admin => Ok(None),
            None => Err(self.error(format!(
                "the role {} has no `port`: every role but admin needs its own, like port = 7001",
                self.name
            ))),
            Some(value) if is_admin => Err(self.source.error(
                &value.span(),
                "the port of admin is that of the module's arguments: leave `port` out here",
            )),
            Some(value) => {
                let port = self.source.number(value, "port", (1, u16::MAX.into()))?;
                Ok(u16::try_from(port).ok())
            }
        }
    }

    fn client_ca(&self) -> Result<(Vec<PathBuf>, Range<usize>)> {
        let Some(value) = self.get("client-ca") else {
            return Ok((Vec::new(), self.span.clone()));
        };
        let example = "[\"clients.crt\"]";
        let files = self
            .source
            .texts(value, "client-ca", example, true, MAX_CA_FILES)?;
        let empty = files.iter().any(|(_, file)| file.is_empty());
        if files.is_empty() || empty {
            let message =
                "`client-ca` names no file: write client-ca = \"clients.crt\", or leave it out";
            return Err(self.source.error(&value.span(), message));
        }
        let files = files.into_iter().map(|(_, file)| file.into()).collect();
        Ok((files, value.span()))
    }

    fn limits(&self, value: &Spanned<DeValue<'_>>) -> Result<RoleLimits> {
        let expected = format!("a table, like [role.{}.limits]", self.name);
        let table = self.source.table(value, "limits", &expected)?;
        let known = provision::LIMITS.iter().map(|it| it.name);
        check_keys(self.source, table, "limit", known)?;
        let mut values = provision::values(&RoleLimits::default());
        for (limit, place) in provision::LIMITS.iter().zip(&mut values) {
            if let Some(value) = table.get(limit.name) {
                // The time for a hello is kept in milliseconds.
                let unit = if limit.name == "hello-seconds" {
                    1_000
                } else {
                    1
                };
                let range = (limit.min.div_ceil(unit), limit.max / unit);
                *place = self.source.number(value, limit.name, range)? * unit;
            }
        }
        Ok(provision::limits_of(values))
    }
}

fn check_keys<'k>(
    source: Source<'_>,
    table: &DeTable<'_>,
    what: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Result<()> {
    let unknown = |key: &&Spanned<_>| {
        !known
            .clone()
            .any(|it| it == AsRef::<str>::as_ref(key.get_ref()))
    };
    let wrong = table
        .keys()
        .filter(unknown)
        .min_by_key(|key| key.span().start);
    match wrong {
        Some(key) => Err(source.unknown(&key.span(), what, key.get_ref(), known)),
        None => Ok(()),
    }
}
