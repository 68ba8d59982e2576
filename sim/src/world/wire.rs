//! A link and the server's end of it: what the module's reader and writer tasks do.
//!
//! Reading never waits for writing. The writer looks for something to write only when the server has named its
//! connection as ready: a wake-up that the server forgets is a bug that shows here as a request without an answer.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use selium_remote_client_protocol::Time;
use selium_remote_server_core::{ConnectionId, Server};

use super::law::{Law, law};
use crate::{
    trace::Trace,
    transport::{Read, Side, Transport},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Open,
    Ended,
    Lost,
}

/// A link between a client and the server.
pub(super) struct Wire {
    pub(super) number: u64,
    pub(super) link: Box<dyn Transport>,
    pub(super) connection: ConnectionId,
    pub(super) woken: bool,
    /// The client has dropped its end.
    pub(super) client_gone: bool,
    /// The server has dropped its end.
    pub(super) forgotten: bool,
    /// The most bytes that are asked of the server at a time.
    max_write: usize,
    unsent: VecDeque<Bytes>,
    reading: Reading,
    /// Whether anything was ever read at the server's end.
    heard: bool,
}

/// Writes as much of `unsent` as the link takes; answers whether any of it was taken.
pub(crate) fn flush(
    link: &mut dyn Transport,
    now: Time,
    side: Side,
    unsent: &mut VecDeque<Bytes>,
) -> Law<bool> {
    let mut moved = false;
    while !unsent.is_empty() {
        let room = link.writable(side);
        let mut left = room;
        let parts: Vec<Bytes> = unsent
            .iter()
            .map(|part| {
                let part = part.slice(..part.len().min(left));
                left -= part.len();
                part
            })
            .take_while(|part| !part.is_empty())
            .collect();
        if parts.is_empty() {
            break;
        }
        let mut taken = link.write(now, side, &parts);
        law!(
            taken <= room,
            "the link took {taken} bytes, and had room for {room}"
        );
        if taken == 0 {
            break;
        }
        moved = true;
        while let Some(first) = unsent.front_mut()
            && taken > 0
        {
            let of_first = taken.min(first.len());
            first.advance(of_first);
            taken -= of_first;
            if first.is_empty() {
                unsent.pop_front();
            }
        }
    }
    Ok(moved)
}

impl Wire {
    pub(super) fn new(
        number: u64,
        link: Box<dyn Transport>,
        connection: ConnectionId,
        max_write: usize,
    ) -> Self {
        Self {
            number,
            link,
            connection,
            woken: false,
            client_gone: false,
            forgotten: false,
            max_write,
            unsent: VecDeque::new(),
            reading: Reading::Open,
            heard: false,
        }
    }

    /// Whether nobody holds an end of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.client_gone && self.forgotten
    }

    /// The server's reader; answers whether something came.
    pub(super) fn read(
        &mut self,
        now: Time,
        server_now: Time,
        server: &mut Server,
        trace: &mut Trace,
    ) -> bool {
        let mut moved = false;
        while self.reading != Reading::Lost
            && let Some(read) = self.link.read(now, Side::Server)
        {
            moved = true;
            self.heard = true;
            match read {
                Read::Bytes(bytes) => {
                    trace.note(
                        now,
                        self.number,
                        "server reads",
                        bytes.len() as u64,
                        bytes.first().copied().unwrap_or(0).into(),
                    );
                    if self.reading == Reading::Open {
                        server.handle_input(server_now, self.connection, bytes);
                    }
                }
                Read::End => {
                    trace.note(now, self.number, "server reads the end", 0, 0);
                    self.reading = Reading::Ended;
                    self.woken = true;
                    server.handle_eof(server_now, self.connection);
                }
                Read::Lost(_) => {
                    trace.note(now, self.number, "server loses", 0, 0);
                    self.reading = Reading::Lost;
                    self.forget(server_now, server);
                }
            }
        }
        if self.client_gone && !self.heard && !self.forgotten && self.link.next().is_none() {
            // Its handshake was never complete: a real server has not heard of it, and nothing more happens.
            moved = true;
            self.forget(server_now, server);
        }
        moved
    }

    fn forget(&mut self, server_now: Time, server: &mut Server) {
        if !core::mem::replace(&mut self.forgotten, true) {
            self.unsent.clear();
            server.forget_connection(server_now, self.connection);
        }
    }

    /// The server's writer; answers whether something was written.
    pub(super) fn write(
        &mut self,
        now: Time,
        server_now: Time,
        server: &mut Server,
        trace: &mut Trace,
    ) -> Law<bool> {
        if self.forgotten {
            return Ok(false);
        }
        let mut moved = false;
        loop {
            moved |= flush(&mut *self.link, now, Side::Server, &mut self.unsent)?;
            if !self.unsent.is_empty() || !self.woken {
                break;
            }
            match server.poll_transmit(self.connection, self.max_write) {
                Some(transmit) => {
                    let len = transmit.len() as u64;
                    law!(len > 0, "the server transmits nothing");
                    trace.note(now, self.number, "server writes", len, 0);
                    self.unsent.extend(transmit.parts);
                }
                None => self.woken = false,
            }
            moved = true;
        }
        if self.reading == Reading::Ended && self.unsent.is_empty() && !self.woken {
            moved = true;
            self.forget(server_now, server);
            self.link.finish(now, Side::Server);
        }
        Ok(moved)
    }
}
