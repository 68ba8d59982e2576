//! Busy streams over one calm link: how they share it.
//!
//! The window over which shares are measured is [`ROUNDS`] rounds of the deficit round robin, from the first message
//! that arrives: what is left of a turn at its ends, and of the message that is on its way, is less than a tenth of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use selium_remote_client_protocol::{
    Limits, RequestId, Time, Weight,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    hello::{ClientHello, ServerHello},
    limits::{MAX_CHUNK, MESSAGE_OVERHEAD},
    server::{ServerConnection, ServerEvent},
};

use super::plan::{content, message_key};
use crate::{
    link::{LinkKind, Weather, link},
    rng::Dice,
    transport::{Read, Side, Transport},
    world::{
        flush,
        law::{Broken, Law, law},
    },
};

/// A turn of a stream of weight 1.
const TURN: usize = MAX_CHUNK + MESSAGE_OVERHEAD;

/// Rounds over which shares are measured.
const ROUNDS: usize = 12;

/// How far a share may be off, in percent of itself.
const PERCENT: usize = 15;

struct Busy {
    weight: Weight,
    len: usize,
    seq: u64,
    got: u64,
    cost: usize,
}

struct Fair {
    client: ClientConnection,
    server: ServerConnection,
    link: Box<dyn Transport>,
    unsent: [VecDeque<Bytes>; 2],
    busy: BTreeMap<RequestId, Busy>,
    kind: StreamKind,
    open: usize,
}

fn limits() -> Limits {
    Limits::with(|limits| {
        limits.connection_window = 16 << 20;
        limits.stream_window = 16 << 20;
        limits.max_connection_window = 16 << 20;
        limits.stream_queue = 1 << 20;
        limits.connection_queue = 64 << 20;
    })
}

/// Measures one seed; answers how many streams there were.
///
/// # Errors
/// When a share is off, or a message is not what it was.
pub fn run(seed: u64) -> Law<u64> {
    let mut dice = Dice::new(seed).fork("fair");
    let kind = match dice.chance(50) {
        true => StreamKind::ToClient,
        false => StreamKind::ToServer,
    };
    let hello = ClientHello::new(dice.bytes16(), dice.bytes16(), &limits());
    let mut fair = Fair {
        client: ClientConnection::new(ClientConfig::new(hello, limits())),
        server: ServerConnection::new(limits()),
        link: link(
            LinkKind::Pipe,
            &dice.fork("link"),
            Time::ZERO,
            Weather::Calm,
        ),
        unsent: [VecDeque::new(), VecDeque::new()],
        busy: BTreeMap::new(),
        kind,
        open: 0,
    };
    fair.run(&mut dice)
}

impl Fair {
    fn run(&mut self, dice: &mut Dice) -> Law<u64> {
        let count = dice.size(2..=5);
        let mut now = Time::ZERO;
        loop {
            for round in 0.. {
                law!(round < 100_000, "things move for ever and time stands");
                if !self.round(now, dice, count)? || self.is_enough(count) {
                    break;
                }
            }
            if self.is_enough(count) {
                break;
            }
            let next = self
                .link
                .next()
                .into_iter()
                .chain(self.client.poll_timeout());
            let Some(next) = next.min() else {
                return Err(Broken("nothing moves, and streams are busy".to_owned()));
            };
            now = next;
            self.link.advance(now);
            law!(
                now.since_origin().as_secs() < 600,
                "streams are busy, and nothing comes"
            );
        }
        let (sum, weights) = self.sums();
        for busy in self.busy.values() {
            let share = sum * busy.weight.get() / weights;
            let off = busy.cost.abs_diff(share);
            let most = share * PERCENT / 100 + busy.len;
            law!(
                off <= most,
                "a stream of weight {} of {weights} with messages of {} bytes got {} of {sum}, its share is {share}",
                busy.weight.get(),
                busy.len,
                busy.cost
            );
        }
        Ok(self.busy.len() as u64)
    }

    /// What all streams got, and their weights.
    fn sums(&self) -> (usize, usize) {
        let costs = self.busy.values().map(|busy| busy.cost);
        let weights = self.busy.values().map(|busy| busy.weight.get());
        (costs.sum(), weights.sum())
    }

    fn is_enough(&self, count: usize) -> bool {
        let (sum, weights) = self.sums();
        self.open == count && sum >= ROUNDS * TURN * weights
    }

    /// Keeps every stream busy, and carries what there is.
    fn round(&mut self, now: Time, dice: &mut Dice, count: usize) -> Law<bool> {
        let mut moved = false;
        while let Some(read) = self.link.read(now, Side::Server) {
            moved = true;
            if let Read::Bytes(bytes) = read {
                self.server.handle_input(now, bytes);
            }
        }
        while let Some(read) = self.link.read(now, Side::Client) {
            moved = true;
            if let Read::Bytes(bytes) = read {
                self.client.handle_input(now, bytes);
            }
        }
        if self.client.poll_timeout().is_some_and(|due| due <= now) {
            self.client.handle_timeout(now);
        }
        while let Some(event) = self.client.poll_event() {
            self.client_event(event, dice, count)?;
        }
        while let Some(event) = self.server.poll_event() {
            self.server_event(event)?;
        }
        for (side, at) in [(Side::Client, 0), (Side::Server, 1)] {
            while let Some(unsent) = self.unsent.get_mut(at) {
                moved |= flush(&mut *self.link, now, side, unsent)?;
                if !unsent.is_empty() {
                    break;
                }
                self.fill(count);
                let transmit = match side {
                    Side::Client => self.client.poll_transmit(usize::MAX),
                    Side::Server => self.server.poll_transmit(usize::MAX),
                };
                let (Some(transmit), Some(unsent)) = (transmit, self.unsent.get_mut(at)) else {
                    break;
                };
                unsent.extend(transmit.parts);
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Fills all queues, once all streams are open.
    fn fill(&mut self, count: usize) {
        if self.open < count {
            return;
        }
        for (id, busy) in &mut self.busy {
            loop {
                let payload = content(message_key(id.get() as usize, busy.seq), busy.len);
                let sent = match self.kind {
                    StreamKind::ToServer => self.client.send(*id, busy.seq, payload),
                    _ => self.server.send(*id, busy.seq, payload),
                };
                if sent.is_err() {
                    break;
                }
                busy.seq += 1;
            }
        }
    }

    fn got(&mut self, id: RequestId, seq: u64, bytes: &Bytes, cost: usize) -> Law {
        let Some(busy) = self.busy.get_mut(&id) else {
            return Err(Broken(format!(
                "a message of stream {id}, which nobody opened"
            )));
        };
        law!(
            seq == busy.got && *bytes == content(message_key(id.get() as usize, seq), busy.len),
            "message {seq} of stream {id} is not the one that was to come"
        );
        busy.got += 1;
        busy.cost += cost;
        Ok(())
    }

    fn client_event(&mut self, event: ClientEvent, dice: &mut Dice, count: usize) -> Law {
        match event {
            ClientEvent::Connected(_) => {
                for _ in 0..count {
                    let options = RequestOptions::new(self.kind);
                    let id = self
                        .client
                        .request(1, Bytes::new(), options)
                        .map_err(|error| Broken(error.to_string()))?;
                    let busy = Busy {
                        weight: Weight::new(dice.within(1..=4) as u8).unwrap_or_default(),
                        len: dice.pick_or(&[100, 900, 5_000, 16_384, 20_000, 60_000], 900),
                        seq: 0,
                        got: 0,
                        cost: 0,
                    };
                    self.busy.insert(id, busy);
                }
            }
            ClientEvent::Response { id, result } => {
                law!(result.is_ok(), "a stream was not opened: {result:?}");
                self.open += 1;
                if let Some(busy) = self.busy.get(&id) {
                    self.client.set_weight(id, busy.weight);
                }
            }
            ClientEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                self.client.consume(id, cost);
                self.got(id, seq, &payload.into_bytes(), cost)?;
            }
            ClientEvent::Room { .. } | ClientEvent::Pong { .. } => {}
            other => return Err(Broken(format!("an event that nobody asked for: {other:?}"))),
        }
        Ok(())
    }

    fn server_event(&mut self, event: ServerEvent) -> Law {
        match event {
            ServerEvent::Hello(_) => self.server.accept(&ServerHello::new([1; 16], &limits())),
            ServerEvent::Request { id, .. } => {
                let opened = self.server.respond_stream(id, Vec::new(), self.kind);
                law!(opened.is_ok(), "a stream is not opened");
                if let Some(busy) = self.busy.get(&id) {
                    self.server.set_weight(id, busy.weight);
                }
            }
            ServerEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                self.server.consume(id, cost);
                self.got(id, seq, &payload.into_bytes(), cost)?;
            }
            ServerEvent::Room { .. } => {}
            other => return Err(Broken(format!("an event that nobody asked for: {other:?}"))),
        }
        Ok(())
    }
}
