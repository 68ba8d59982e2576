//! A client beside all others, without a link: it looks at the server's counters, and cleans up in the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use selium_remote_client_protocol::{
    Limits, RemoteError, RequestId, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions},
    hello::ClientHello,
    ops::{Common, InfoRequest, Request, ServerInfo},
};
use selium_remote_server_core::{ConnectionId, Server};

use super::law::{Broken, Law};

pub(super) struct Probe {
    core: ClientConnection,
    pub(super) connection: ConnectionId,
    answers: BTreeMap<RequestId, Result<Bytes, RemoteError>>,
    pub(super) waits: usize,
}

impl Probe {
    pub(super) fn new(server: &mut Server, now: Time) -> Law<Self> {
        let limits = Limits::default();
        let hello = ClientHello::new([7; 16], [7; 16], &limits);
        let mut config = ClientConfig::new(hello, limits);
        config.heartbeat = None;
        let mut probe = Self {
            core: ClientConnection::new(config),
            connection: server.open(now, "probe"),
            answers: BTreeMap::new(),
            waits: 0,
        };
        probe.pump(server, now)?;
        Ok(probe)
    }

    /// Carries everything in both directions.
    pub(super) fn pump(&mut self, server: &mut Server, now: Time) -> Law {
        loop {
            let mut moved = false;
            while let Some(transmit) = self.core.poll_transmit(usize::MAX) {
                moved = true;
                server.handle_input(now, self.connection, transmit.to_vec().into());
            }
            while let Some(transmit) = server.poll_transmit(self.connection, usize::MAX) {
                moved = true;
                self.core.handle_input(Time::ZERO, transmit.to_vec().into());
            }
            while let Some(event) = self.core.poll_event() {
                match event {
                    ClientEvent::Response { id, result } => {
                        self.waits = self.waits.saturating_sub(1);
                        self.answers.insert(id, result);
                    }
                    ClientEvent::Closed(reason) => {
                        return Err(Broken(format!("the probe was closed: {reason}")));
                    }
                    _ => {}
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    pub(super) fn ask<R: Request>(
        &mut self,
        server: &mut Server,
        now: Time,
        request: &R,
    ) -> Law<RequestId> {
        let body = request.encode(&Common::default());
        let id = self
            .core
            .request(R::OP, body, RequestOptions::default())
            .map_err(|error| Broken(format!("the probe cannot ask: {error}")))?;
        self.waits += 1;
        self.pump(server, now)?;
        Ok(id)
    }

    pub(super) fn answer(&mut self, id: RequestId) -> Law<Bytes> {
        match self.answers.remove(&id) {
            Some(Ok(body)) => Ok(body),
            Some(Err(error)) => Err(Broken(format!("the probe was answered: {error}"))),
            None => Err(Broken("the probe was not answered at once".to_owned())),
        }
    }

    pub(super) fn info(&mut self, server: &mut Server, now: Time) -> Law<ServerInfo> {
        let id = self.ask(server, now, &InfoRequest)?;
        let body = self.answer(id)?;
        ServerInfo::decode(&body).map_err(|error| Broken(format!("server info: {error}")))
    }
}
