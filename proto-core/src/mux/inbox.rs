//! Messages on their way in: reassembly, its budget, and credit given back (PROTOCOL.md, "Messages").

use std::collections::BTreeMap;

use super::credit::ReceiveCredit;
use crate::{
    limits::{Limits, MESSAGE_OVERHEAD, MIN_STREAM_WINDOW},
    payload::Payload,
};

/// What is received of one stream.
#[derive(Debug)]
struct Half {
    credit: ReceiveCredit,
    /// What had been received at the last [`Inbox::mark`].
    marked: u64,
    /// The sequence number that came last, or the one before which messages are missing.
    last: Option<Mark>,
    /// Bytes (with overheads) of complete messages that were handed out and not read yet.
    unread: usize,
    /// The same of those for which the connection has its credit back, and the stream not.
    kept: usize,
    /// Bytes of the longest message that is of use.
    longest: usize,
    partial: Option<Partial>,
    /// The peer will send nothing more.
    ended: bool,
}

/// What the next sequence number has to be.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Above(u64),
    AtLeast(u64),
}

impl Mark {
    fn allows(self, seq: u64) -> bool {
        match self {
            Mark::Above(last) => seq > last,
            Mark::AtLeast(next) => seq >= next,
        }
    }
}

#[derive(Debug)]
struct Partial {
    seq: u64,
    total: usize,
    payload: Payload,
}

impl Partial {
    /// What has arrived, as it cost credit.
    fn arrived(&self) -> usize {
        self.payload.len() + MESSAGE_OVERHEAD
    }

    /// Bytes that have not arrived.
    fn missing(&self) -> usize {
        self.total.saturating_sub(self.payload.len())
    }
}

impl Half {
    /// Takes a sequence number, of a message or of the one behind a gap.
    fn mark(&mut self, seq: u64, then: Mark) -> Result<(), Fault> {
        if self.last.is_some_and(|last| !last.allows(seq)) {
            return Err(Fault::Order);
        }
        self.last = Some(then);
        Ok(())
    }
}

/// A complete stream message.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) seq: u64,
    pub(crate) payload: Payload,
}

/// A request or response message in reassembly. It is no stream data and takes no credit.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    total: usize,
    payload: Payload,
}

/// What the peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It sent more than it had credit for.
    Credit,
    /// It began a message while one was in progress, or went on with none.
    Sequence,
    /// It began a message that is longer than our hello allows.
    MessageTooLong,
    /// It filled our reassembly budget.
    Reassembly,
    /// It sent more than the whole message.
    Overrun,
    /// It sent an empty message.
    Empty,
    /// Sequence numbers do not increase.
    Order,
    /// The id is no open stream.
    NoStream,
}

impl Fault {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Fault::Credit => "stream data without credit",
            Fault::Sequence => "a message does not continue where it should",
            Fault::MessageTooLong => "a message is longer than our hello allows",
            Fault::Reassembly => "messages in reassembly exceed the budget of our hello",
            Fault::Overrun => "a message is longer than it said",
            Fault::Empty => "a stream message is empty",
            Fault::NoStream => "no such stream",
            Fault::Order => "sequence numbers have to increase",
        }
    }
}

/// Stream data that has arrived, as it costs credit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrivals {
    /// On the connection, in all.
    pub(crate) received: u64,
    /// On the stream that got most since the last mark.
    pub(crate) busiest: u64,
}

/// Everything that is being received on one connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    halves: BTreeMap<u64, Half>,
    credit: ReceiveCredit,
    /// The first windows, as our hello states them.
    first: (usize, usize),
    /// A stream's window now.
    stream_window: usize,
    max_message: usize,
    /// Budget for messages in reassembly, and what of it is taken (whole messages, as they were announced).
    budget: usize,
    reserved: usize,
    /// Bytes of messages in reassembly that have arrived.
    held: usize,
}

impl Inbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            halves: BTreeMap::new(),
            credit: ReceiveCredit::new(limits.connection_window),
            first: (limits.connection_window, limits.stream_window),
            stream_window: limits.stream_window,
            max_message: limits.max_message,
            budget: limits.reassembly,
            reserved: 0,
            held: 0,
        }
    }

    /// What arrived since [`Inbox::mark`].
    pub(crate) fn arrivals(&self) -> Arrivals {
        let since = |half: &Half| half.credit.received().saturating_sub(half.marked);
        Arrivals {
            received: self.credit.received(),
            busiest: self.halves.values().map(since).max().unwrap_or(0),
        }
    }

    /// Begins to count what each stream receives.
    pub(crate) fn mark(&mut self) {
        for half in self.halves.values_mut() {
            half.marked = half.credit.received();
        }
    }

    /// Bytes of stream data received in all, as they cost credit.
    pub(crate) fn received(&self) -> u64 {
        self.credit.received()
    }

    /// Changes the connection's window; those of its streams keep their proportion to it.
    pub(crate) fn set_window(&mut self, window: usize) {
        let (connection, stream) = self.first;
        let scaled = stream as u128 * window as u128 / connection.max(1) as u128;
        let scaled = usize::try_from(scaled).unwrap_or(usize::MAX);
        self.credit.set_window(window);
        let least = MIN_STREAM_WINDOW.min(stream).min(window);
        self.stream_window = scaled.min(window).max(least);
        for half in self.halves.values_mut() {
            half.credit.set_window(self.stream_window);
        }
    }

    /// Bytes of messages in reassembly that have arrived.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Bytes reserved for messages in reassembly.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    fn reserve(&mut self, total: usize) -> Result<(), Fault> {
        if total > self.budget.saturating_sub(self.reserved) {
            return Err(Fault::Reassembly);
        }
        self.reserved += total;
        Ok(())
    }

    /// Begins a request or response message; `Ok(None)` once it has all its bytes.
    pub(crate) fn begin(
        &mut self,
        total: u64,
        chunk: Payload,
        max: usize,
    ) -> Result<Result<Payload, Assembly>, Fault> {
        let total = usize::try_from(total).map_err(|_| Fault::MessageTooLong)?;
        if total > max {
            return Err(Fault::MessageTooLong);
        }
        if chunk.len() == total {
            return Ok(Ok(chunk));
        }
        self.reserve(total)?;
        self.held += chunk.len();
        Ok(Err(Assembly {
            total,
            payload: chunk.detached(),
        }))
    }

    /// Goes on with a request or response message; the whole payload once it is complete.
    pub(crate) fn proceed(
        &mut self,
        assembly: &mut Assembly,
        chunk: Payload,
    ) -> Result<Option<Payload>, Fault> {
        self.held += chunk.len();
        assembly.payload.append(chunk.detached());
        if assembly.payload.len() > assembly.total {
            return Err(Fault::Overrun);
        }
        if assembly.payload.len() < assembly.total {
            return Ok(None);
        }
        self.abandon(assembly);
        Ok(Some(core::mem::take(&mut assembly.payload)))
    }

    /// Gives back what an unfinished request or response message holds.
    pub(crate) fn abandon(&mut self, assembly: &mut Assembly) {
        self.reserved = self.reserved.saturating_sub(assembly.total);
        self.held = self.held.saturating_sub(assembly.payload.len());
        assembly.total = 0;
    }

    /// Begins to receive a stream.
    pub(crate) fn open(&mut self, id: u64) {
        self.halves.insert(
            id,
            Half {
                credit: ReceiveCredit::growing(self.first.1, self.stream_window),
                marked: 0,
                last: None,
                unread: 0,
                kept: 0,
                longest: usize::MAX,
                partial: None,
                ended: false,
            },
        );
    }

    /// Whether the peer may still send on this stream.
    pub(crate) fn is_open(&self, id: u64) -> bool {
        self.halves.get(&id).is_some_and(|half| !half.ended)
    }

    /// Takes a DATA frame of an open stream.
    pub(crate) fn data(
        &mut self,
        id: u64,
        seq: u64,
        total: u64,
        chunk: Payload,
    ) -> Result<Option<Complete>, Fault> {
        let total = usize::try_from(total).map_err(|_| Fault::MessageTooLong)?;
        if total == 0 {
            return Err(Fault::Empty);
        }
        if total > self.max_message {
            return Err(Fault::MessageTooLong);
        }
        let arrived = chunk.len() + MESSAGE_OVERHEAD;
        self.receive(id, arrived)?;
        let half = self.halves.get_mut(&id).ok_or(Fault::Sequence)?;
        if half.partial.is_some() {
            return Err(Fault::Sequence);
        }
        half.mark(seq, Mark::Above(seq))?;
        if chunk.len() == total {
            half.unread += arrived;
            return Ok(Some(Complete {
                seq,
                payload: chunk.detached(),
            }));
        }
        let missing = total.saturating_sub(chunk.len());
        self.held += chunk.len();
        half.credit.begin(arrived, missing);
        half.partial = Some(Partial {
            seq,
            total,
            payload: chunk.detached(),
        });
        self.credit.begin(arrived, missing);
        self.reserve(total)?;
        Ok(None)
    }

    /// Takes a DATA_MORE frame of an open stream.
    pub(crate) fn data_more(&mut self, id: u64, chunk: Payload) -> Result<Option<Complete>, Fault> {
        let len = chunk.len();
        self.receive(id, len)?;
        let half = self.halves.get_mut(&id).ok_or(Fault::Sequence)?;
        let partial = half.partial.as_mut().ok_or(Fault::Sequence)?;
        if len > partial.missing() {
            return Err(Fault::Overrun);
        }
        if len < partial.missing() {
            partial.payload.append(chunk.detached());
            self.held += len;
            half.credit.proceed(len);
            self.credit.proceed(len);
            return Ok(None);
        }
        let arrived = partial.arrived();
        let Some(Partial {
            seq,
            total,
            mut payload,
        }) = half.partial.take()
        else {
            return Err(Fault::Sequence);
        };
        self.held = self.held.saturating_sub(payload.len());
        payload.append(chunk.detached());
        half.credit.over(arrived, len);
        half.unread += total + MESSAGE_OVERHEAD;
        self.credit.over(arrived, len);
        self.reserved = self.reserved.saturating_sub(total);
        Ok(Some(Complete { seq, payload }))
    }

    /// Takes stream data (or a gap) for a stream that we have given up: its credit returns at once.
    pub(crate) fn discard(&mut self, bytes: usize) -> Result<(), Fault> {
        if !self.credit.receive(bytes) {
            return Err(Fault::Credit);
        }
        self.credit.consume(bytes);
        Ok(())
    }

    /// Counts received bytes against the credit of the stream and of the connection.
    pub(crate) fn receive(&mut self, id: u64, bytes: usize) -> Result<(), Fault> {
        let half = self.halves.get_mut(&id).ok_or(Fault::Sequence)?;
        if half.credit.receive(bytes) && self.credit.receive(bytes) {
            return Ok(());
        }
        Err(Fault::Credit)
    }

    /// Counts a gap marker as received and unread.
    pub(crate) fn gap(&mut self, id: u64, next: u64) -> Result<(), Fault> {
        self.receive(id, MESSAGE_OVERHEAD)?;
        if let Some(half) = self.halves.get_mut(&id) {
            if half.partial.is_some() {
                return Err(Fault::Sequence);
            }
            half.mark(next, Mark::AtLeast(next))?;
            half.unread += MESSAGE_OVERHEAD;
        }
        Ok(())
    }

    /// Sets the length of a stream's longest message that is of use.
    pub(crate) fn set_longest(&mut self, id: u64, bytes: usize) {
        if let Some(half) = self.halves.get_mut(&id) {
            half.longest = bytes;
        }
    }

    /// Whether a message of this length is longer than that.
    pub(crate) fn is_too_long(&self, id: u64, total: u64) -> bool {
        let longest = self.halves.get(&id).map(|half| half.longest as u64);
        longest.is_some_and(|longest| total > longest)
    }

    /// Gives back the connection's credit of a message that was handed out. The stream's comes with [`Inbox::consume`].
    pub(crate) fn release(&mut self, id: u64, bytes: usize) {
        let Some(half) = self.halves.get_mut(&id) else {
            return;
        };
        let bytes = bytes.min(half.unread);
        half.unread -= bytes;
        half.kept = half.kept.saturating_add(bytes);
        self.credit.consume(bytes);
        if half.ended && half.unread == 0 {
            self.halves.remove(&id);
        }
    }

    /// Gives back the credit of a message or gap marker that was read: what was released first, of which only the
    /// stream's is left.
    pub(crate) fn consume(&mut self, id: u64, bytes: usize) {
        let Some(half) = self.halves.get_mut(&id) else {
            return;
        };
        let kept = bytes.min(half.kept);
        half.kept -= kept;
        let unread = (bytes - kept).min(half.unread);
        half.unread -= unread;
        half.credit.consume(kept.saturating_add(unread));
        self.credit.consume(unread);
        if half.ended && half.unread == 0 {
            self.halves.remove(&id);
        }
    }

    /// The peer's half of a stream is over; what was handed out may still be read.
    pub(crate) fn end(&mut self, id: u64) -> Result<(), Fault> {
        let Some(half) = self.halves.get_mut(&id) else {
            return Ok(());
        };
        if half.partial.is_some() {
            return Err(Fault::Sequence);
        }
        half.ended = true;
        if half.unread == 0 {
            self.halves.remove(&id);
        }
        Ok(())
    }

    /// Gives a stream up: what was not read, or not complete, counts as read.
    pub(crate) fn remove(&mut self, id: u64) {
        let Some(half) = self.halves.remove(&id) else {
            return;
        };
        self.credit.consume(half.unread);
        if let Some(partial) = half.partial {
            self.credit.over(partial.arrived(), partial.missing());
            self.credit.consume(partial.arrived());
            self.held = self.held.saturating_sub(partial.payload.len());
            self.reserved = self.reserved.saturating_sub(partial.total);
        }
    }

    /// New credit of a stream, when it is worth telling.
    pub(crate) fn stream_update(&mut self, id: u64) -> Option<u64> {
        let half = self.halves.get_mut(&id)?;
        if half.ended {
            return None;
        }
        half.credit.update()
    }

    /// New credit of the connection, when it is worth telling.
    pub(crate) fn connection_update(&mut self) -> Option<u64> {
        self.credit.shared_update()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(&Limits::with(|limits| {
            limits.connection_window = 1_000;
            limits.stream_window = 500;
            limits.max_message = 5_000;
            limits.reassembly = 6_000;
        }))
    }

    fn bytes(len: usize) -> Payload {
        vec![7; len].into()
    }

    #[test]
    fn a_long_message_arrives_through_a_small_window() {
        let mut inbox = inbox();
        inbox.open(1);
        assert!(inbox.data(1, 9, 5_000, bytes(400)).unwrap().is_none());
        let mut received = 400;
        while received < 5_000 {
            let update = inbox.stream_update(1);
            inbox.connection_update();
            assert!(update.is_some() || received < 5_000, "progress");
            let chunk = 230.min(5_000 - received);
            received += chunk;
            match inbox.data_more(1, bytes(chunk)).unwrap() {
                Some(complete) => assert_eq!((complete.seq, complete.payload.len()), (9, 5_000)),
                None => assert!(received < 5_000),
            }
        }
        assert_eq!(inbox.reserved(), 0);
    }

    #[test]
    fn faults_are_named() {
        let mut one = inbox();
        one.open(1);
        assert_eq!(one.data(1, 0, 600, bytes(600)).unwrap_err(), Fault::Credit);
        assert_eq!(
            one.data(1, 0, 5_001, bytes(1)).unwrap_err(),
            Fault::MessageTooLong
        );
        assert_eq!(one.data(1, 0, 0, bytes(0)).unwrap_err(), Fault::Empty);

        let mut two = inbox();
        two.open(1);
        two.open(2);
        assert_eq!(two.data_more(1, bytes(1)).unwrap_err(), Fault::Sequence);
        assert!(two.data(1, 0, 5_000, bytes(1)).unwrap().is_none());
        assert_eq!(two.data(1, 1, 9, bytes(9)).unwrap_err(), Fault::Sequence);
        assert_eq!(
            two.data(2, 0, 5_000, bytes(1)).unwrap_err(),
            Fault::Reassembly
        );

        let mut three = inbox();
        three.open(1);
        assert!(three.data(1, 0, 10, bytes(5)).unwrap().is_none());
        assert_eq!(three.data_more(1, bytes(6)).unwrap_err(), Fault::Overrun);
    }

    #[test]
    fn a_stream_given_up_returns_its_credit() {
        let mut inbox = inbox();
        inbox.open(1);
        inbox.data(1, 0, 300, bytes(300)).unwrap();
        inbox.data(1, 1, 1_000, bytes(100)).unwrap();
        inbox.remove(1);
        assert_eq!(inbox.reserved(), 0);
        inbox.discard(200).unwrap();
        assert_eq!(
            inbox.connection_update(),
            Some(300 + 100 + 64 + 200 + 1_000)
        );
    }

    #[test]
    fn an_ended_stream_goes_when_it_was_read() {
        let mut inbox = inbox();
        inbox.open(1);
        inbox.data(1, 0, 10, bytes(10)).unwrap();
        inbox.end(1).unwrap();
        assert!(!inbox.is_open(1));
        assert_eq!(inbox.halves.len(), 1);
        inbox.consume(1, 10 + MESSAGE_OVERHEAD);
        assert!(inbox.halves.is_empty());
    }
}
