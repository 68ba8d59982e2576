//! Which idle publication is forgotten when there are too many.
//!
//! Of the role that has most of them, of that role's session that has most of them, the one that became idle first. So
//! with R roles a role that has no more than an R-th of the bound loses none to the others, and within it neither does a
//! session that has no more than its equal part: who makes many pushes out its own.

use std::collections::BTreeMap;

use super::{Key, Session};
use crate::policy::RoleId;

/// A session's idle publications: their numbers, by when they became idle.
type Places = BTreeMap<u64, u64>;

/// All idle publications. Nothing is kept of who has none.
#[derive(Debug, Default)]
pub(super) struct Idle {
    roles: BTreeMap<RoleId, Role>,
    last: u64,
    len: usize,
}

#[derive(Debug, Default)]
struct Role {
    sessions: BTreeMap<Session, Places>,
    len: usize,
}

impl Idle {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds one; answers its place.
    pub(super) fn insert(&mut self, role: RoleId, key: Key) -> u64 {
        self.last += 1;
        let of_role = self.roles.entry(role).or_default();
        let places = of_role.sessions.entry(key.0).or_default();
        places.insert(self.last, key.1);
        of_role.len += 1;
        self.len += 1;
        self.last
    }

    /// Takes the one at this place out.
    pub(super) fn remove(&mut self, role: RoleId, key: Key, place: u64) {
        let Some(of_role) = self.roles.get_mut(&role) else {
            return;
        };
        let Some(places) = of_role.sessions.get_mut(&key.0) else {
            return;
        };
        if places.remove(&place).is_none() {
            return;
        }
        if places.is_empty() {
            of_role.sessions.remove(&key.0);
        }
        of_role.len = of_role.len.saturating_sub(1);
        if of_role.len == 0 {
            self.roles.remove(&role);
        }
        self.len = self.len.saturating_sub(1);
    }

    /// Takes the one out that is to be forgotten.
    pub(super) fn pop(&mut self) -> Option<Key> {
        let most = self.roles.iter().max_by_key(|(_, role)| role.len);
        let (role, of_role) = most.map(|(role, of_role)| (*role, of_role))?;
        let first = |places: &Places| places.first_key_value().map(|(at, number)| (*at, *number));
        // Among equals the one whose first is the oldest.
        let most = of_role
            .sessions
            .iter()
            .filter_map(|(session, places)| Some((session, places.len(), first(places)?)))
            .max_by_key(|(_, len, (place, _))| (*len, core::cmp::Reverse(*place)));
        let (session, _, (place, number)) = most?;
        let key = (*session, number);
        self.remove(role, key, place);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(idle: &mut Idle, role: u16, session: u8, numbers: core::ops::Range<u64>) {
        for number in numbers {
            idle.insert(RoleId(role), ([session; 16], number));
        }
    }

    fn left(idle: &Idle, role: u16, session: u8) -> usize {
        let of_role = idle.roles.get(&RoleId(role));
        let places = of_role.and_then(|role| role.sessions.get(&[session; 16]));
        places.map_or(0, BTreeMap::len)
    }

    #[test]
    fn who_has_most_loses_the_oldest() {
        let mut idle = Idle::default();
        fill(&mut idle, 0, 1, 0..10);
        fill(&mut idle, 0, 2, 0..30);
        fill(&mut idle, 1, 3, 0..20);
        let mut popped = Vec::new();
        while idle.len() > 30 {
            popped.push(idle.pop().unwrap());
        }
        let parts = [(0, 1), (0, 2), (1, 3)].map(|(role, session)| left(&idle, role, session));
        assert_eq!(parts.iter().sum::<usize>(), 30);
        // Half of it for each role; and in the first, half of that for each session.
        assert!(parts[2] == 15 || parts[2] == 16, "{parts:?}");
        assert!(parts[0].abs_diff(parts[1]) <= 1, "{parts:?}");
        let of_second: Vec<u64> = popped
            .iter()
            .filter(|key| key.0 == [2; 16])
            .map(|key| key.1)
            .collect();
        assert!(of_second.iter().copied().eq(0..of_second.len() as u64));
        while idle.pop().is_some() {}
        assert!(idle.roles.is_empty() && idle.len() == 0);
    }

    #[test]
    fn one_that_is_used_again_is_out() {
        let mut idle = Idle::default();
        let place = idle.insert(RoleId(0), ([1; 16], 7));
        idle.remove(RoleId(0), ([1; 16], 7), place);
        idle.remove(RoleId(0), ([1; 16], 7), place);
        assert_eq!((idle.len(), idle.pop()), (0, None));
    }
}
