//! Things by id, by name and in the order of their making: what the tables of processes and channels have in common.

use std::collections::BTreeMap;

use selium_remote_client_protocol::{ErrorCode, RemoteError};

use crate::{ids, policy::RoleId};

/// Something that a directory holds.
pub(crate) trait Listed {
    /// What it is called in errors.
    const WHAT: &'static str;
    /// What several of it are called.
    const SEVERAL: &'static str;

    /// Its id, as clients know it.
    fn id(&self) -> u64;

    /// Its name.
    fn name(&self) -> &str;
}

/// A directory.
#[derive(Debug)]
pub(crate) struct Directory<T> {
    by_ordinal: BTreeMap<u64, T>,
    by_id: BTreeMap<u64, u64>,
    by_name: BTreeMap<String, u64>,
    /// Names of what is being made, and the roles of who asked for it.
    reserved: BTreeMap<String, RoleId>,
    last_ordinal: u64,
}

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self {
            by_ordinal: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            reserved: BTreeMap::new(),
            last_ordinal: 0,
        }
    }
}

impl<T: Listed> Directory<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_ordinal.len()
    }

    /// How many are being made.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// Those of them that a role's clients asked for.
    pub(crate) fn reserved_of(&self, role: RoleId) -> usize {
        self.reserved.values().filter(|of| **of == role).count()
    }

    /// All of them, in the order of their making.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_ordinal.values()
    }

    /// Those from this number on.
    pub(crate) fn since(&self, cursor: u64) -> impl Iterator<Item = &T> {
        self.by_ordinal.range(cursor..).map(|(_, thing)| thing)
    }

    /// The one with this number.
    pub(crate) fn get(&self, ordinal: u64) -> Option<&T> {
        self.by_ordinal.get(&ordinal)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, ordinal: u64) -> Option<&mut T> {
        self.by_ordinal.get_mut(&ordinal)
    }

    /// The one with this id.
    pub(crate) fn get_id(&self, id: u64) -> Option<&T> {
        self.get(*self.by_id.get(&id)?)
    }

    /// The same, to change it.
    pub(crate) fn get_id_mut(&mut self, id: u64) -> Option<&mut T> {
        let ordinal = *self.by_id.get(&id)?;
        self.get_mut(ordinal)
    }

    /// Reserves a name: the one that is wanted, or one made of `stem`.
    ///
    /// # Errors
    /// "already exists" when the name is taken, "invalid argument" when it is not a name.
    pub(crate) fn reserve_name(
        &mut self,
        wanted: Option<&str>,
        stem: &str,
        role: RoleId,
    ) -> Result<String, RemoteError> {
        let taken =
            |name: &str| self.by_name.contains_key(name) || self.reserved.contains_key(name);
        let name = match wanted {
            Some(name) => {
                ids::check_name(name)?;
                if taken(name) {
                    let message = format!("there is a {} named `{name}`", T::WHAT);
                    let error = RemoteError::new(ErrorCode::AlreadyExists, message);
                    return Err(error.with_field("name"));
                }
                name.to_owned()
            }
            None => {
                let mut number = self.last_ordinal + self.reserved.len() as u64 + 1;
                while taken(&ids::default_name(stem, number)) {
                    number += 1;
                }
                ids::default_name(stem, number)
            }
        };
        self.reserved.insert(name.clone(), role);
        Ok(name)
    }

    /// Gives a reserved name back.
    pub(crate) fn release_name(&mut self, name: &str) {
        self.reserved.remove(name);
    }

    /// Adds something under a reserved name. `id` makes an id of a number and a round: two numbers may, very rarely, give
    /// the same one, and the next round is tried then. `make` gets the id, the number and the role of who reserved it.
    pub(crate) fn insert(
        &mut self,
        name: &str,
        id: impl Fn(u64, u64) -> u64,
        make: impl FnOnce(u64, u64, RoleId) -> T,
    ) -> &mut T {
        let role = self.reserved.remove(name).unwrap_or_default();
        self.last_ordinal += 1;
        let ordinal = self.last_ordinal;
        let mut round = 0;
        let mut made = id(ordinal, round);
        while made == 0 || self.by_id.contains_key(&made) {
            round += 1;
            made = id(ordinal, round);
        }
        self.by_id.insert(made, ordinal);
        self.by_name.insert(name.to_owned(), ordinal);
        self.by_ordinal
            .entry(ordinal)
            .or_insert_with(|| make(made, ordinal, role))
    }

    /// What a target names: a full id first, then a name, then a unique prefix of an id.
    ///
    /// # Errors
    /// "not found" when there is none, "invalid argument" when a prefix fits several.
    pub(crate) fn find(&self, target: &str) -> Result<&T, RemoteError> {
        ids::check_target(target, T::WHAT)?;
        let is_prefix = ids::is_id_prefix(target);
        if is_prefix && target.len() == ids::ID_DIGITS {
            let id = u64::from_str_radix(target, 16).unwrap_or_default();
            if let Some(found) = self.get_id(id) {
                return Ok(found);
            }
        }
        let named = self.by_name.get(target);
        if let Some(found) = named.and_then(|ordinal| self.get(*ordinal)) {
            return Ok(found);
        }
        let mut fitting = Vec::new();
        if is_prefix {
            let digits = target.len() as u32;
            let low = u64::from_str_radix(target, 16).unwrap_or_default();
            let shift = 64 - 4 * digits;
            let low = low.checked_shl(shift).unwrap_or_default();
            let high = low | 1u64.checked_shl(shift).map_or(u64::MAX, |bit| bit - 1);
            let ordinals = self.by_id.range(low..=high).map(|(_, ordinal)| *ordinal);
            fitting.extend(ordinals.take(2));
        }
        let shown = target.escape_debug();
        let not_found = || {
            let message = format!("there is no {} `{shown}`", T::WHAT);
            RemoteError::new(ErrorCode::NotFound, message).with_field("target")
        };
        match fitting[..] {
            [ordinal] => self.get(ordinal).ok_or_else(not_found),
            [] => Err(not_found()),
            _ => {
                let message = format!(
                    "`{shown}` fits several {}; give more digits of the id",
                    T::SEVERAL
                );
                let error = RemoteError::new(ErrorCode::InvalidArgument, message);
                Err(error.with_field("target"))
            }
        }
    }

    /// Forgets the one with this number.
    pub(crate) fn remove(&mut self, ordinal: u64) -> Option<T> {
        let thing = self.by_ordinal.remove(&ordinal)?;
        self.by_id.remove(&thing.id());
        self.by_name.remove(thing.name());
        Some(thing)
    }
}
