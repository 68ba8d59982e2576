//! What is due at a time.

use std::collections::{BTreeMap, BTreeSet};

use selium_remote_client_protocol::Time;

/// At most one time a key.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    times: BTreeMap<K, Time>,
    by_time: BTreeSet<(Time, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            times: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> Deadlines<K> {
    /// Whether there is a time for this key.
    pub(crate) fn has(&self, key: K) -> bool {
        self.times.contains_key(&key)
    }

    /// Sets the time of a key, instead of the one that it had.
    pub(crate) fn set(&mut self, key: K, at: Time) {
        self.clear(key);
        self.times.insert(key, at);
        self.by_time.insert((at, key));
    }

    /// Forgets the time of a key.
    pub(crate) fn clear(&mut self, key: K) {
        if let Some(at) = self.times.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// The first time.
    pub(crate) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The next key that is due at this time.
    pub(crate) fn pop(&mut self, now: Time) -> Option<K> {
        let (_, key) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.clear(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_when_they_are_due() {
        let at = Time::from_millis;
        let mut due = Deadlines::default();
        due.set('a', at(10));
        due.set('b', at(5));
        due.set('a', at(20));
        due.set('c', at(1));
        due.clear('c');
        assert!(due.has('a') && !due.has('c'));
        assert_eq!(due.next(), Some(at(5)));
        assert_eq!(due.pop(at(4)), None);
        assert_eq!((due.pop(at(99)), due.pop(at(99))), (Some('b'), Some('a')));
        assert_eq!((due.pop(at(99)), due.next()), (None, None));
    }
}
