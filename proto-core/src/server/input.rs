//! What the client's frames do (PROTOCOL.md, "Frames" and "Requests").

use super::{Exchange, Phase, ServerConnection, ServerEvent, StreamKind, exhausted};
use crate::{
    ErrorCode, Payload, RemoteError, Time,
    envelope::{ClientEnvelope, ServerEnvelope, VERSIONS},
    frame::Frame,
    hello::ClientHello,
    legacy,
    limits::MESSAGE_OVERHEAD,
    mux::{CloseReason, Fault, MEASURES, RequestId, cost, fault},
};

impl ServerConnection {
    pub(super) fn greeted(&mut self, envelope: &ClientEnvelope) {
        let Some(version) = envelope.common_version() else {
            let (low, high) = envelope.versions;
            return self.refuse(RemoteError::new(
                ErrorCode::Unsupported,
                format!(
                    "this server speaks versions {} to {} of the protocol, the client {low} to {high}",
                    VERSIONS.0, VERSIONS.1
                ),
            ));
        };
        match ClientHello::decode(&envelope.hello) {
            Ok(hello) => {
                self.mux.open(hello.limits);
                self.phase = Phase::Deciding { version };
                self.events.push_back(ServerEvent::Hello(hello));
            }
            Err(error) => self.refuse(error.into()),
        }
    }

    pub(super) fn legacy(&mut self) {
        self.closed(CloseReason::Legacy);
        self.opening = Some(legacy::error_response(legacy::ADVICE).into());
    }

    pub(super) fn refused(&mut self, error: RemoteError, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        self.closed(reason);
        let versions = VERSIONS;
        self.opening = Some(ServerEnvelope::Refused { versions, error }.encode());
    }

    pub(super) fn read(&mut self, now: Time) -> Result<(), CloseReason> {
        while let Some(frame) = self.mux.next_frame()? {
            self.frame(now, frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, now: Time, frame: Frame) -> Result<(), CloseReason> {
        match frame {
            Frame::Ping(token) => {
                let measures = u64::from_be_bytes(token) & MEASURES != 0;
                self.pings = self.pings.saturating_add(u64::from(!measures));
                self.mux.out.urgent(&Frame::Pong(token));
            }
            Frame::Goodbye(error) => return Err(CloseReason::Peer(error)),
            Frame::Drain => self.drained = true,
            Frame::Credit { id, limit } => {
                if id != 0 {
                    self.known(id)?;
                }
                self.mux.out.raise(id, limit);
            }
            Frame::Request {
                id,
                op,
                total,
                chunk,
            } => return self.request(id, op, total, chunk),
            Frame::More { id, chunk } => return self.more(id, chunk),
            Frame::Cancel { id } => return self.cancelled(id),
            Frame::Data { .. } | Frame::DataMore { .. } => return self.stream_frame(frame),
            Frame::End { id, .. } => return self.half_ended(id),
            Frame::Reset { id, error } => return self.reset_by_peer(id, error),
            Frame::Pong(token) => self.mux.measured(now, token),
            Frame::Unknown { .. } => {}
            Frame::Response { id, .. } | Frame::Gap { id, .. } | Frame::Ack { id, .. } => {
                return Err(CloseReason::Protocol(format!(
                    "request {id}: a client does not send this"
                )));
            }
        }
        Ok(())
    }

    /// Whether a request is in flight; an id that was never used is a fault.
    fn known(&self, id: u64) -> Result<bool, CloseReason> {
        if id > self.last {
            return Err(CloseReason::Protocol(format!(
                "request {id} was never made"
            )));
        }
        Ok(self.requests.contains_key(&id))
    }

    fn request(&mut self, id: u64, op: u64, total: u64, chunk: Payload) -> Result<(), CloseReason> {
        if id <= self.last {
            return Err(CloseReason::Protocol(format!(
                "request {id}: ids must increase, the last was {}",
                self.last
            )));
        }
        self.last = id;
        let (limit, limit_bytes) = (self.mux.limits.max_requests, self.mux.limits.max_request);
        let refusal = if self.draining {
            Some(RemoteError::new(
                ErrorCode::Unavailable,
                "the server takes no new requests, it is shutting down",
            ))
        } else if self.drained {
            Some(RemoteError::new(
                ErrorCode::Unavailable,
                "the client said that it makes no new requests",
            ))
        } else if self.requests.len().saturating_sub(self.streams) >= limit {
            Some(exhausted("requests are in flight", limit))
        } else if total > limit_bytes as u64 {
            let message =
                format!("the request is {total} bytes long, more than the limit of {limit_bytes}");
            let error = RemoteError::new(ErrorCode::TooLarge, message);
            Some(error.with_limit(limit_bytes as u64))
        } else {
            None
        };
        if let Some(error) = refusal {
            self.events.push_back(ServerEvent::Refused {
                id: RequestId(id),
                op,
                error: error.clone(),
            });
            self.answer(id, Err(error));
            return Ok(());
        }
        match self.mux.inbox.begin(total, chunk, limit_bytes) {
            Ok(Ok(body)) => self.complete(id, op, body),
            Ok(Err(assembly)) => {
                self.requests
                    .insert(id, Exchange::Receiving { op, assembly });
            }
            Err(f) => return Err(fault(id, f)),
        }
        Ok(())
    }

    fn more(&mut self, id: u64, chunk: Payload) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(()); // The rest of a request that was refused or cancelled.
        }
        let Some(Exchange::Receiving { op, assembly }) = self.requests.get_mut(&id) else {
            return Err(fault(id, Fault::Sequence));
        };
        let op = *op;
        match self.mux.inbox.proceed(assembly, chunk) {
            Ok(Some(body)) => self.complete(id, op, body),
            Ok(None) => {}
            Err(f) => return Err(fault(id, f)),
        }
        Ok(())
    }

    fn complete(&mut self, id: u64, op: u64, body: Payload) {
        self.requests
            .insert(id, Exchange::Running { cancelled: false });
        self.events.push_back(ServerEvent::Request {
            id: RequestId(id),
            op,
            body: body.into_bytes(),
        });
    }

    /// The client's half of a stream is over. On a stream to the client it never had one.
    fn half_ended(&mut self, id: u64) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(());
        }
        match self.requests.get(&id) {
            Some(Exchange::Streaming(StreamKind::ToServer)) => {}
            Some(Exchange::Streaming(_)) => return Ok(()),
            _ => return Err(fault(id, Fault::NoStream)),
        }
        if !self.mux.inbox.is_open(id) {
            return Err(fault(id, Fault::Sequence)); // It has ended before.
        }
        self.mux.inbox.end(id).map_err(|f| fault(id, f))?;
        let id = RequestId(id);
        self.events.push_back(ServerEvent::Ended { id });
        Ok(())
    }

    /// The client gives a stream up, with a reason. A request that is no stream yet is not what it means.
    fn reset_by_peer(&mut self, id: u64, error: RemoteError) -> Result<(), CloseReason> {
        if !self.known(id)? {
            let _ = self.mux.out.cut(id);
            return Ok(());
        }
        if !matches!(self.requests.get(&id), Some(Exchange::Streaming(_))) {
            return Err(fault(id, Fault::NoStream));
        }
        self.stream_gone(id);
        self.events.push_back(ServerEvent::Reset {
            id: RequestId(id),
            error,
        });
        Ok(())
    }

    fn stream_gone(&mut self, id: u64) {
        self.forget(id);
        let _ = self.mux.out.cut(id);
        self.mux.inbox.remove(id);
        self.mux.credit(id);
    }

    fn cancelled(&mut self, id: u64) -> Result<(), CloseReason> {
        if !self.known(id)? {
            // A stream that was ended may hold messages for which no credit will come.
            let _ = self.mux.out.cut(id);
            return Ok(());
        }
        match self.requests.get_mut(&id) {
            Some(Exchange::Receiving { assembly, .. }) => {
                self.mux.inbox.abandon(assembly);
                self.requests.remove(&id);
                let error = RemoteError::new(ErrorCode::Cancelled, "cancelled before it was read");
                self.answer(id, Err(error));
            }
            Some(Exchange::Running { cancelled }) if !*cancelled => {
                *cancelled = true;
                self.events.push_back(ServerEvent::Cancelled {
                    id: RequestId(id),
                    stream: false,
                });
            }
            Some(Exchange::Streaming(_)) => {
                self.stream_gone(id);
                self.events.push_back(ServerEvent::Cancelled {
                    id: RequestId(id),
                    stream: true,
                });
            }
            Some(Exchange::Running { .. }) | None => {}
        }
        Ok(())
    }

    fn stream_frame(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let (id, len) = match &frame {
            Frame::Data { id, chunk, .. } => (*id, chunk.len() + MESSAGE_OVERHEAD),
            Frame::DataMore { id, chunk } => (*id, chunk.len()),
            _ => return Ok(()),
        };
        if !self.known(id)? {
            self.mux.inbox.discard(len).map_err(|f| fault(id, f))?;
            self.mux.credit(id);
            return Ok(());
        }
        if !self.mux.inbox.is_open(id) {
            return Err(fault(id, Fault::Sequence));
        }
        let mut too_long = None;
        let complete = match frame {
            Frame::Data {
                seq, total, chunk, ..
            } => {
                too_long = self
                    .mux
                    .inbox
                    .is_too_long(id, total)
                    .then_some((seq, total));
                self.mux.inbox.data(id, seq, total, chunk)
            }
            Frame::DataMore { chunk, .. } => self.mux.inbox.data_more(id, chunk),
            _ => Ok(None),
        };
        let complete = complete.map_err(|f| fault(id, f))?;
        self.events
            .extend(too_long.map(|(seq, len)| ServerEvent::TooLong {
                id: RequestId(id),
                seq,
                len,
            }));
        if let Some(complete) = complete {
            self.events.push_back(ServerEvent::Message {
                id: RequestId(id),
                seq: complete.seq,
                cost: cost(complete.payload.len()),
                payload: complete.payload,
            });
        }
        self.mux.credit(id);
        Ok(())
    }
}
