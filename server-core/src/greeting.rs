//! Who is let in: connections, and the hellos on them.

use selium_remote_client_protocol::{
    CloseReason, ErrorCode, RemoteError, Time,
    error::clip,
    hello::{ClientHello, Features, ServerHello},
};

use crate::{
    Config,
    audit::{HELLO, MAX_PEER},
    connection::{Connection, ConnectionId},
    ids::Ids,
    policy::RoleId,
    server::Server,
};

impl Server {
    /// Whether there is no room even for connections that are to be refused: drop new ones then.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Config {
            max_connections,
            max_refused,
            ..
        } = self.config;
        self.connections.len() >= max_connections.saturating_add(max_refused)
    }

    /// The same for new connections of this role: one role's clients do not take the room of the others, as long as the
    /// sum of the roles' limits is below the server's.
    #[must_use]
    pub fn is_full_for(&self, role: RoleId) -> bool {
        let state = self.roles.get(role);
        let max = state.max_connections();
        self.is_full() || state.open >= max.saturating_add(self.config.max_refused_of_role)
    }

    /// Takes a new connection from `peer` (its address), with the first role of the policy.
    pub fn open(&mut self, now: Time, peer: &str) -> ConnectionId {
        self.open_as(now, peer, RoleId::default())
    }

    /// Takes a new connection from `peer` (its address) that came in where it gets this role. With a role that the policy
    /// does not have it may do nothing.
    pub fn open_as(&mut self, now: Time, peer: &str, role: RoleId) -> ConnectionId {
        self.now = now;
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let state = self.roles.get_mut(role);
        state.open += 1;
        let hello = state.role.limits.hello.min(self.config.hello_timeout);
        let connection = Connection::new(
            state.limits,
            clip(peer, MAX_PEER),
            role,
            now.saturating_add(hello),
        );
        self.connections.insert(id, connection);
        id
    }

    /// The driver has dropped a connection without a word, because the server is full ([`Server::is_full_for`]).
    pub fn dropped(&mut self, now: Time, peer: &str, role: RoleId) {
        self.now = now;
        let message = "dropped without a word: too many connections wait for their refusal";
        let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
        self.record_peer(role, clip(peer, MAX_PEER).to_owned(), HELLO, &error);
    }

    /// A connection is gone.
    pub fn forget_connection(&mut self, now: Time, id: ConnectionId) {
        self.handle_eof(now, id);
        if let Some(connection) = self.connections.remove(&id) {
            self.total = self.total.without(connection.counted);
            let state = self.roles.get_mut(connection.role);
            state.open = state.open.saturating_sub(1);
            if connection.accepted {
                state.accepted = state.accepted.saturating_sub(1);
            }
        }
        self.ready.remove(&id);
    }

    /// The role of a connection; one that is gone has one that may do nothing.
    pub(crate) fn role_of(&self, id: ConnectionId) -> RoleId {
        let connection = self.connections.get(&id);
        connection.map_or(RoleId(u16::MAX), |connection| connection.role)
    }

    /// Why a client is not let in now.
    fn not_welcome(&self, role: RoleId) -> Option<RemoteError> {
        let state = self.roles.get(role);
        if self.draining {
            let message = "the server is shutting down";
            return Some(RemoteError::new(ErrorCode::Unavailable, message));
        }
        let limit = self.config.max_connections;
        if self.connections.len() > limit {
            let message = format!("{limit} clients are connected, which is the limit");
            let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
            return Some(error.with_limit(limit as u64));
        }
        (state.accepted >= state.max_connections())
            .then(|| state.exhausted("clients", "connected", state.role.limits.connections))
    }

    pub(crate) fn greet(&mut self, id: ConnectionId, hello: &ClientHello) {
        let unix_ms = self.unix_ms();
        let role = self.role_of(id);
        let refusal = self.not_welcome(role);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(error) = refusal {
            connection.core.refuse(error);
            return;
        }
        connection.session = hello.session;
        connection.accepted = true;
        let peer = &connection.peer;
        let ids = self
            .ids
            .get_or_insert_with(|| Ids::new(&hello.nonce, peer, unix_ms));
        let state = self.roles.get_mut(role);
        state.accepted += 1;
        let mut answer = ServerHello::new(ids.incarnation(), &state.limits);
        if self.config.unix_origin_ms.is_some() {
            answer.features = Features::CLOCK;
        }
        answer.role.clone_from(&state.role.name);
        answer.ceiling = state.role.ceiling;
        answer.authenticated = self.config.authenticated;
        connection.core.accept(&answer);
    }

    /// Refuses connections whose hello is late.
    pub(crate) fn refuse_late(&mut self, now: Time) {
        let late: Vec<(ConnectionId, RoleId)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_silent() && connection.hello_by <= now)
            .map(|(id, connection)| (*id, connection.role))
            .collect();
        for (id, role) in late {
            let limit = self.roles.get(role).role.limits.hello;
            let limit = limit.min(self.config.hello_timeout);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.core.refuse(RemoteError::new(
                    ErrorCode::DeadlineExceeded,
                    format!("no hello came within {} s", limit.as_secs_f64()),
                ));
            }
            self.events(id);
        }
    }

    pub(crate) fn closed(&mut self, id: ConnectionId, reason: &CloseReason) {
        self.record_close(id, reason);
        let following = self
            .connections
            .get_mut(&id)
            .map(|connection| core::mem::take(&mut connection.followers))
            .unwrap_or_default();
        for (request, follower) in following {
            self.unlink(follower.ordinal, (id, request));
        }
        let connection = self.connections.get_mut(&id);
        let (subscriptions, publishing) = connection
            .map(|known| {
                let subscriptions = core::mem::take(&mut known.subscriptions);
                (subscriptions, core::mem::take(&mut known.publishing))
            })
            .unwrap_or_default();
        for (request, topic) in subscriptions {
            self.unsubscribe(topic, (id, request));
        }
        for (request, key) in publishing {
            self.detach_publication(key, (id, request));
        }
        // Starts that the host does not have yet are of no use to anybody.
        for start in self.starts.remove(id, |_| true) {
            let words = "the connection ended before the process was started";
            self.give_up(start, RemoteError::new(ErrorCode::Cancelled, words));
        }
    }
}
