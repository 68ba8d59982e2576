//! Outcomes of changing requests, so that each is executed at most once (PROTOCOL.md, "Outcomes").
//!
//! A changing request carries a token: the client's session and a sequence number. The token is reserved when the
//! request is admitted, so that a retry joins the operation that runs; its result is kept for retries that come later.
//!
//! A session belongs to the role under which its first token came: clients of another role get nothing of it. And a role
//! that makes many sessions pushes its own out, not those of others.

use std::collections::BTreeMap;

use selium_remote_client_protocol::RemoteError;

use crate::policy::RoleId;

/// A token: session and sequence number.
pub type Token = ([u8; 16], u64);

/// The most requests that may wait for one running operation.
const MAX_WAITERS: usize = 16;

/// What is to be done with a request that carries a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is new: execute it, then call [`Sessions::finish`].
    Execute,
    /// It runs already: the request waits and is answered with it.
    Joined,
    /// It was executed: this was its result.
    Done(Result<Vec<u8>, RemoteError>),
    /// Whether it was executed is not known any more: it must not be executed.
    Unknown,
    /// As many requests as allowed wait for it.
    TooMany,
    /// The session belongs to another role.
    Foreign,
}

#[derive(Debug)]
enum Outcome<W> {
    Running(Vec<W>),
    Done(Result<Vec<u8>, RemoteError>),
}

#[derive(Debug)]
struct Session<W> {
    role: RoleId,
    outcomes: BTreeMap<u64, Outcome<W>>,
    /// The highest sequence number whose outcome was forgotten.
    forgotten: Option<u64>,
    used: u64,
}

/// The outcomes of all sessions. `W` names a request that waits.
#[derive(Debug)]
pub struct Sessions<W> {
    sessions: BTreeMap<[u8; 16], Session<W>>,
    max_sessions: usize,
    max_outcomes: usize,
    clock: u64,
}

impl<W> Sessions<W> {
    /// An empty table.
    #[must_use]
    pub fn new(max_sessions: usize, max_outcomes: usize) -> Self {
        Self {
            sessions: BTreeMap::new(),
            max_sessions,
            max_outcomes,
            clock: 0,
        }
    }

    /// Reserves a token for a request of a client with this role, or says what is known of it.
    pub fn admit(&mut self, token: Token, retry: bool, role: RoleId, waiter: W) -> Admission {
        let (id, sequence) = token;
        self.clock += 1;
        if retry && !self.sessions.contains_key(&id) {
            return Admission::Unknown;
        }
        let (clock, max_outcomes) = (self.clock, self.max_outcomes);
        let session = self.session(id, role);
        if session.role != role {
            return Admission::Foreign;
        }
        session.used = clock;
        match session.outcomes.get_mut(&sequence) {
            Some(Outcome::Done(result)) => Admission::Done(result.clone()),
            Some(Outcome::Running(waiters)) => {
                if waiters.len() >= MAX_WAITERS {
                    return Admission::TooMany;
                }
                waiters.push(waiter);
                Admission::Joined
            }
            None if retry || session.forgotten.is_some_and(|last| sequence <= last) => {
                Admission::Unknown
            }
            None => {
                session
                    .outcomes
                    .insert(sequence, Outcome::Running(vec![waiter]));
                Self::trim(session, max_outcomes);
                Admission::Execute
            }
        }
    }

    /// Whether a session belongs to this role; one that is new does from now on.
    pub fn claim(&mut self, session: [u8; 16], role: RoleId) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let session = self.session(session, role);
        let is_its_own = session.role == role;
        if is_its_own {
            session.used = clock;
        }
        is_its_own
    }

    /// The session, made if it is new.
    fn session(&mut self, id: [u8; 16], role: RoleId) -> &mut Session<W> {
        if !self.sessions.contains_key(&id) {
            self.make_room();
        }
        self.sessions.entry(id).or_insert_with(|| Session {
            role,
            outcomes: BTreeMap::new(),
            forgotten: None,
            used: 0,
        })
    }

    /// Who waits for a running operation.
    #[must_use]
    pub fn waiters(&self, token: Token) -> &[W] {
        let session = self.sessions.get(&token.0);
        match session.and_then(|session| session.outcomes.get(&token.1)) {
            Some(Outcome::Running(waiters)) => waiters,
            _ => &[],
        }
    }

    /// Keeps the result of an operation; answers who waits for it.
    pub fn finish(&mut self, token: Token, result: &Result<Vec<u8>, RemoteError>) -> Vec<W> {
        let Some(session) = self.sessions.get_mut(&token.0) else {
            return Vec::new();
        };
        let Some(outcome) = session.outcomes.get_mut(&token.1) else {
            return Vec::new();
        };
        match core::mem::replace(outcome, Outcome::Done(result.clone())) {
            Outcome::Running(waiters) => waiters,
            Outcome::Done(_) => Vec::new(),
        }
    }

    /// Forgets the oldest finished outcomes past the limit.
    fn trim(session: &mut Session<W>, max: usize) {
        while session.outcomes.len() > max {
            let oldest = session
                .outcomes
                .iter()
                .find(|(_, outcome)| matches!(outcome, Outcome::Done(_)))
                .map(|(sequence, _)| *sequence);
            // Running ones stay: their number is bounded by the limits on requests.
            let Some(oldest) = oldest else {
                return;
            };
            session.outcomes.remove(&oldest);
            session.forgotten = session.forgotten.max(Some(oldest));
        }
    }

    /// Forgets a session, if there is no room for another one: of the role that has most of them, the one used longest
    /// ago. Sessions with running operations stay: their number is bounded by the limits on requests.
    fn make_room(&mut self) {
        if self.sessions.len() < self.max_sessions {
            return;
        }
        let idle = |session: &Session<W>| {
            !session
                .outcomes
                .values()
                .any(|outcome| matches!(outcome, Outcome::Running(_)))
        };
        let mut of_roles: BTreeMap<RoleId, usize> = BTreeMap::new();
        for session in self.sessions.values().filter(|session| idle(session)) {
            *of_roles.entry(session.role).or_default() += 1;
        }
        let most = of_roles.into_iter().max_by_key(|(_, count)| *count);
        let oldest = self
            .sessions
            .iter()
            .filter(|(_, session)| most.is_some_and(|(role, _)| role == session.role))
            .filter(|(_, session)| idle(session))
            .min_by_key(|(_, session)| session.used)
            .map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.sessions.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: [u8; 16] = [1; 16];
    const R: RoleId = RoleId(0);
    const OTHER: RoleId = RoleId(1);

    #[test]
    fn a_retry_joins_and_later_gets_the_same_result() {
        let mut sessions = Sessions::new(4, 4);
        assert_eq!(sessions.admit((S, 1), false, R, "a"), Admission::Execute);
        assert_eq!(sessions.admit((S, 1), true, R, "b"), Admission::Joined);
        let result = Ok(vec![7]);
        assert_eq!(sessions.finish((S, 1), &result), ["a", "b"]);
        assert_eq!(
            sessions.admit((S, 1), true, R, "c"),
            Admission::Done(result)
        );
    }

    #[test]
    fn what_is_not_known_is_not_executed() {
        let mut sessions = Sessions::new(4, 2);
        assert_eq!(sessions.admit((S, 9), true, R, ()), Admission::Unknown);
        for sequence in 1..=4 {
            assert_eq!(
                sessions.admit((S, sequence), false, R, ()),
                Admission::Execute
            );
            sessions.finish((S, sequence), &Ok(Vec::new()));
        }
        assert_eq!(sessions.admit((S, 1), false, R, ()), Admission::Unknown);
        assert_eq!(sessions.admit((S, 2), true, R, ()), Admission::Unknown);
        assert!(matches!(
            sessions.admit((S, 4), true, R, ()),
            Admission::Done(_)
        ));
    }

    #[test]
    fn sessions_are_bounded_and_running_ones_stay() {
        let mut sessions = Sessions::new(2, 4);
        let session = |n: u8| [n; 16];
        assert_eq!(
            sessions.admit((session(1), 1), false, R, ()),
            Admission::Execute
        );
        for n in 2..10 {
            assert_eq!(
                sessions.admit((session(n), 1), false, R, ()),
                Admission::Execute
            );
            sessions.finish((session(n), 1), &Ok(Vec::new()));
        }
        assert_eq!(sessions.sessions.len(), 2);
        assert_eq!(
            sessions.admit((session(1), 1), true, R, ()),
            Admission::Joined
        );
    }

    #[test]
    fn waiters_are_bounded() {
        let mut sessions = Sessions::new(2, 4);
        sessions.admit((S, 1), false, R, ());
        for _ in 1..MAX_WAITERS {
            assert_eq!(sessions.admit((S, 1), true, R, ()), Admission::Joined);
        }
        assert_eq!(sessions.admit((S, 1), true, R, ()), Admission::TooMany);
    }

    #[test]
    fn a_session_belongs_to_the_role_that_began_it() {
        let mut sessions = Sessions::new(2, 4);
        assert_eq!(sessions.admit((S, 1), true, OTHER, ()), Admission::Unknown);
        assert_eq!(sessions.admit((S, 1), false, R, ()), Admission::Execute);
        for retry in [false, true] {
            assert_eq!(
                sessions.admit((S, 1), retry, OTHER, ()),
                Admission::Foreign,
                "running"
            );
        }
        assert_eq!(sessions.waiters((S, 1)), [()], "it has not joined");
        sessions.finish((S, 1), &Ok(vec![7]));
        assert_eq!(sessions.admit((S, 1), true, OTHER, ()), Admission::Foreign);
        assert_eq!(sessions.admit((S, 9), false, OTHER, ()), Admission::Foreign);
        assert_eq!(
            sessions.admit((S, 1), true, R, ()),
            Admission::Done(Ok(vec![7]))
        );
    }

    #[test]
    fn a_session_is_claimed_without_a_token() {
        let mut sessions: Sessions<()> = Sessions::new(2, 4);
        assert!(sessions.claim(S, R));
        assert!(!sessions.claim(S, OTHER));
        assert_eq!(sessions.admit((S, 1), false, OTHER, ()), Admission::Foreign);
        assert_eq!(sessions.admit((S, 1), true, R, ()), Admission::Unknown);
        assert!(sessions.claim(S, R));
        assert_eq!(sessions.sessions.len(), 1);
    }

    #[test]
    fn a_role_pushes_its_own_sessions_out() {
        let mut sessions = Sessions::new(4, 4);
        let mut used = |n: u8, role| {
            sessions.admit(([n; 16], 1), false, role, ());
            sessions.finish(([n; 16], 1), &Ok(Vec::new()));
        };
        used(1, R);
        used(2, R);
        for n in 10..100 {
            used(n, OTHER);
        }
        for n in 1..=2 {
            let token = ([n; 16], 1);
            let known = sessions.admit(token, true, R, ());
            assert_eq!(known, Admission::Done(Ok(Vec::new())), "{n}");
        }
    }
}
