//! What the server's frames do (PROTOCOL.md, "Frames" and "Requests").

use super::{ClientConnection, ClientEvent, Exchange, Phase, Sent, StreamKind};
use crate::{
    ErrorCode, Payload, RemoteError, Time,
    envelope::VERSIONS,
    frame::Frame,
    hello::ServerHello,
    limits::{MAX_FRAME, MESSAGE_OVERHEAD},
    mux::{CloseReason, RequestId, cost, fault},
};

impl ClientConnection {
    pub(super) fn greeted(
        &mut self,
        now: Time,
        version: u16,
        hello: &[u8],
    ) -> Result<(), CloseReason> {
        if version < VERSIONS.0 || version > VERSIONS.1 {
            return Err(CloseReason::Protocol(format!(
                "the server chose version {version}, which was not offered"
            )));
        }
        let hello = ServerHello::decode(hello)
            .map_err(|error| CloseReason::Protocol(format!("the server's hello: {error}")))?;
        self.mux.open(hello.limits);
        self.max_requests = self.max_requests.min(hello.max_requests.max(1));
        let own_queue = self.mux.limits.control_queue.saturating_sub(MAX_FRAME);
        let takes = hello.limits.longest_reassembled();
        self.max_request = hello.max_request.min(takes).min(own_queue);
        self.phase = Phase::Open;
        self.heartbeat.schedule(now);
        // While nothing else is on its way: the path's own round trip.
        self.mux.measure(now);
        self.events.push_back(ClientEvent::Connected(hello));
        Ok(())
    }

    pub(super) fn read(&mut self, now: Time) -> Result<(), CloseReason> {
        while let Some(frame) = self.mux.next_frame()? {
            self.frame(now, frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, now: Time, frame: Frame) -> Result<(), CloseReason> {
        match frame {
            Frame::Ping(token) => self.mux.out.urgent(&Frame::Pong(token)),
            Frame::Pong(token) => match self.heartbeat.pong(now, token) {
                Some(round_trip) => {
                    self.mux.round_trip(now, round_trip);
                    self.events.push_back(ClientEvent::Pong { round_trip });
                }
                None => self.mux.measured(now, token),
            },
            Frame::Goodbye(error) => return Err(CloseReason::Peer(error)),
            Frame::Drain => {
                let news = !core::mem::replace(&mut self.drained, true);
                self.draining = true;
                self.events.extend(news.then_some(ClientEvent::Draining));
            }
            Frame::Credit { id, limit } => {
                // A stream's counts from its answer on.
                let open = |sent: &Sent| sent.is_streaming();
                if id == 0 || self.known(id)? && self.sent.get(&id).is_some_and(open) {
                    self.mux.out.raise(id, limit);
                }
            }
            Frame::Response {
                id,
                code,
                total,
                chunk,
            } => {
                return self.response(id, code, total, chunk);
            }
            Frame::More { id, chunk } => return self.more(id, chunk),
            Frame::Data { .. } | Frame::DataMore { .. } | Frame::Gap { .. } => {
                return self.stream_frame(frame);
            }
            Frame::End { id, error } => return self.stream_over(id, error, false),
            Frame::Reset { id, error } => return self.stream_over(id, Some(error), true),
            Frame::Ack {
                id,
                seq,
                may_be_dropped,
            } => {
                if self.streaming(id, StreamKind::ToServer)? {
                    return self.acknowledged(id, seq, may_be_dropped);
                }
            }
            Frame::Unknown { .. } => {}
            Frame::Request { id, .. } | Frame::Cancel { id } => {
                return Err(CloseReason::Protocol(format!(
                    "request {id}: the server sends no requests"
                )));
            }
        }
        Ok(())
    }

    /// An acknowledgement replaces one that was not read yet: they count up.
    fn acknowledged(&mut self, id: u64, seq: u64, may_be_dropped: bool) -> Result<(), CloseReason> {
        let sent = match self.sent.get(&id).map(|sent| &sent.exchange) {
            Some(Exchange::Streaming { last, .. }) => *last,
            _ => None,
        };
        if sent.is_none_or(|last| seq > last) {
            let what = format!("request {id}: message {seq} was never sent");
            return Err(CloseReason::Protocol(what));
        }
        let id = RequestId(id);
        if let Some(ClientEvent::Acknowledged {
            id: last,
            seq: up_to,
            may_be_dropped: may,
        }) = self.events.back_mut()
            && *last == id
        {
            *up_to = seq.max(*up_to);
            *may |= may_be_dropped;
            return Ok(());
        }
        self.events.push_back(ClientEvent::Acknowledged {
            id,
            seq,
            may_be_dropped,
        });
        Ok(())
    }

    /// Whether a frame belongs to something that is still wanted; an id that was never used is a fault.
    fn known(&self, id: u64) -> Result<bool, CloseReason> {
        if id > self.last.0 || self.mux.out.holds(id) {
            return Err(CloseReason::Protocol(format!(
                "request {id}: nobody asked for it"
            )));
        }
        Ok(self.sent.contains_key(&id))
    }

    /// Whether the stream is open in this direction; `false` when it was given up.
    fn streaming(&self, id: u64, kind: StreamKind) -> Result<bool, CloseReason> {
        if !self.known(id)? {
            return Ok(false);
        }
        match self.sent.get(&id) {
            Some(sent) if sent.is_streaming() && sent.stream == kind => Ok(true),
            _ => Err(CloseReason::Protocol(format!(
                "request {id}: no such stream"
            ))),
        }
    }

    fn response(
        &mut self,
        id: u64,
        code: u64,
        total: u64,
        chunk: Payload,
    ) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(()); // A late answer.
        }
        let max = self.mux.limits.max_message;
        let begun = self.mux.inbox.begin(total, chunk, max);
        let begun = begun.map_err(|f| fault(id, f))?;
        let Some(sent) = self.sent.get_mut(&id) else {
            return Ok(());
        };
        if !matches!(sent.exchange, Exchange::Waiting) {
            return Err(CloseReason::Protocol(format!(
                "request {id}: answered twice"
            )));
        }
        match begun {
            Ok(body) => self.answered(id, code, body),
            Err(assembly) => {
                sent.exchange = Exchange::Answering { code, assembly };
                Ok(())
            }
        }
    }

    fn more(&mut self, id: u64, chunk: Payload) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(());
        }
        let Some(Sent {
            exchange: Exchange::Answering { code, assembly },
            ..
        }) = self.sent.get_mut(&id)
        else {
            return Err(CloseReason::Protocol(format!(
                "request {id}: no message to continue"
            )));
        };
        let code = *code;
        match self.mux.inbox.proceed(assembly, chunk) {
            Ok(Some(body)) => self.answered(id, code, body),
            Ok(None) => Ok(()),
            Err(f) => Err(fault(id, f)),
        }
    }

    fn answered(&mut self, id: u64, code: u64, body: Payload) -> Result<(), CloseReason> {
        let body = body.into_bytes();
        let result = if code == 0 {
            Ok(body)
        } else {
            let error = RemoteError::decode(ErrorCode::from_wire(code), &body);
            Err(error.map_err(|error| {
                CloseReason::Protocol(format!("request {id}: its error: {error}"))
            })?)
        };
        let opens = result.is_ok();
        self.events.push_back(ClientEvent::Response {
            id: RequestId(id),
            result,
        });
        match self.sent.get_mut(&id) {
            Some(sent) if opens && sent.stream != StreamKind::None && !sent.cancelled => {
                sent.exchange = Exchange::Streaming {
                    finished: false,
                    last: None,
                };
                self.streams += 1;
                match sent.stream {
                    StreamKind::ToServer => self.mux.out.open_lane(id),
                    _ => self.mux.inbox.open(id),
                }
                let deadline = sent.deadline.take();
                self.met(deadline, id);
            }
            _ => {
                let sent = self.forget(id);
                self.mux.out.remove(id);
                if opens && sent.is_some_and(|sent| sent.stream != StreamKind::None) {
                    // The server has opened the stream, and ends it when it reads our CANCEL.
                    self.stream_cancelled(RequestId(id));
                }
            }
        }
        Ok(())
    }

    fn stream_frame(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let (id, len) = match &frame {
            Frame::Data { id, chunk, .. } => (*id, chunk.len() + MESSAGE_OVERHEAD),
            Frame::DataMore { id, chunk } => (*id, chunk.len()),
            Frame::Gap { id, .. } => (*id, MESSAGE_OVERHEAD),
            _ => return Ok(()),
        };
        if !self.streaming(id, StreamKind::ToClient)? {
            self.mux.inbox.discard(len).map_err(|f| fault(id, f))?;
            self.mux.credit(id);
            return Ok(());
        }
        let complete = match frame {
            Frame::Data {
                seq, total, chunk, ..
            } => self.mux.inbox.data(id, seq, total, chunk),
            Frame::DataMore { chunk, .. } => self.mux.inbox.data_more(id, chunk),
            Frame::Gap { next, count, .. } => self.mux.inbox.gap(id, next).map(|()| {
                let id = RequestId(id);
                let cost = MESSAGE_OVERHEAD;
                self.events.push_back(ClientEvent::Gap {
                    id,
                    next,
                    count,
                    cost,
                });
                None
            }),
            _ => Ok(None),
        };
        if let Some(complete) = complete.map_err(|f| fault(id, f))? {
            self.events.push_back(ClientEvent::Message {
                id: RequestId(id),
                seq: complete.seq,
                cost: cost(complete.payload.len()),
                payload: complete.payload,
            });
        }
        self.mux.credit(id);
        Ok(())
    }

    fn stream_over(
        &mut self,
        id: u64,
        error: Option<RemoteError>,
        abruptly: bool,
    ) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(());
        }
        if !self.sent.get(&id).is_some_and(Sent::is_streaming) {
            return Err(CloseReason::Protocol(format!(
                "request {id}: no such stream"
            )));
        }
        if abruptly {
            self.mux.inbox.remove(id);
        } else {
            self.mux.inbox.end(id).map_err(|f| fault(id, f))?;
        }
        self.forget(id);
        self.mux.out.remove(id);
        let id = RequestId(id);
        self.events.push_back(ClientEvent::Ended { id, error });
        self.mux.credit(id.0);
        Ok(())
    }
}
