//! Reading a channel.
//!
//! Lossless subscribers are served by a strong reader. Lossy ones by a weak reader, but not beside a strong one of ours: what a strong reader has
//! read the host forgets, and a weak one that is behind steps over it without a word. Then they are fed by the strong one:
//!
//! ```text
//!   own weak reader ── a strong one is opened ──► fed by it, once it has come to what is new
//!          ▲                                            │
//!          └────────── it is freed ─────────────────────┘  a new weak reader begins behind what it has read
//! ```
//!
//! As long as only this module writes, nothing is lost by the change: writes are kept back until the weak one has read everything, and the strong
//! one too (`care::quiet_moment`, `Entry::hand_over`). Where others write, or the strong one is told to pause before it has come so far, lossy readers are
//! told that something may be missing.
//!
//! Beside a strong reader of a process they may lose messages without being told. Nothing shows that.

use core::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    task::Poll,
};
use std::{collections::VecDeque, rc::Rc};

use bytes::Bytes;
use selium_remote_server_core::{Completion, host::ReaderId};
use selium_remote_transport_wasm::{
    HostError,
    channel::{Frame, MAX_FRAME, ReadError, StrongReader, WeakReader},
    executor::{self, Notify},
};

use super::{
    Channels, Entry, Life, Sink,
    care::{self, Hold},
    patiently,
    scout::Scout,
    words,
};

/// The most bytes of a message. The host allocates what the frame has, not this.
pub(super) const MAX_MESSAGE: u32 = MAX_FRAME as u32;

/// The most turns that a change of readers takes.
const MAX_CHANGES: u32 = 64;

/// What the server wants of a reader, and how far it has come.
pub(super) struct Control {
    pub(super) entry: Rc<Entry>,
    pub(super) lossless: bool,
    pub(super) closing: Cell<bool>,
    pub(super) paused: Cell<bool>,
    /// Told when one of these is set, or something about the channel has changed.
    pub(super) changed: Notify,
    /// Messages so far.
    reads: Cell<u64>,
    /// What `reads` was when the channel's last burst of writes began.
    reads_before: Cell<u64>,
    /// The stamp of the read that runs.
    began: Cell<Option<u64>>,
    /// Whether another reader feeds it.
    fed: Cell<bool>,
    /// Whether it has a reader of its own.
    own: Cell<bool>,
    /// Whether its task has ended.
    ended: Cell<bool>,
    /// Whether messages went by, of which it was not told yet.
    missed: Cell<bool>,
    /// Whether it was told so, and has got no message since.
    told: Cell<bool>,
    /// How many of the channel's messages are behind it, where that is known. Those who are fed stand nowhere.
    passed: Cell<Option<u64>>,
    /// Whether it sleeps, and is to be replaced by a new reader of the same kind.
    pub(super) replace: Cell<bool>,
    /// Whether a scout goes before it.
    pub(super) scouting: Cell<bool>,
    /// Whether that is to be another one, for it may be asleep.
    pub(super) look_again: Cell<bool>,
}

impl Control {
    pub(super) fn new(entry: Rc<Entry>, lossless: bool) -> Self {
        Self {
            entry,
            lossless,
            closing: Cell::new(false),
            paused: Cell::new(false),
            changed: Notify::new(),
            reads: Cell::new(0),
            reads_before: Cell::new(0),
            began: Cell::new(None),
            fed: Cell::new(false),
            own: Cell::new(false),
            ended: Cell::new(false),
            missed: Cell::new(false),
            told: Cell::new(false),
            passed: Cell::new(None),
            replace: Cell::new(false),
            scouting: Cell::new(false),
            look_again: Cell::new(false),
        }
    }

    /// The stamp of the read that runs.
    pub(super) fn waits_since(&self) -> Option<u64> {
        self.began.get()
    }

    /// Whether nothing more is wanted of it.
    pub(super) fn is_over(&self) -> bool {
        self.closing.get() || self.ended.get() || self.entry.is_gone()
    }

    /// How many messages it has not read, where that is known.
    pub(super) fn lacks(&self) -> Option<u64> {
        Some(self.entry.total.get()?.saturating_sub(self.passed.get()?))
    }

    /// Whether it is a lossy one with a reader of its own, and be it one that is being opened.
    pub(super) fn reads_by_itself(&self) -> bool {
        !self.lossless && self.own.get() && !self.is_over()
    }

    /// Whether its own read is what it waits with, and may sleep.
    pub(super) fn may_sleep(&self) -> bool {
        !self.fed.get() && !self.scouting.get()
    }

    /// A burst of writes begins.
    pub(super) fn begin_burst(&self) {
        self.reads_before.set(self.reads.get());
    }

    /// Whether it waits since before a burst's end without having seen all of it.
    pub(super) fn sleeps(&self, written: u64, ended: u64) -> bool {
        let waits = self.began.get().is_some_and(|began| began < ended);
        waits && self.reads.get().saturating_sub(self.reads_before.get()) < written
    }

    /// Waits for what comes of `poll_read`, or for an end.
    pub(super) async fn next<R: Read>(&self, reader: &mut R) -> Next {
        poll_fn(|cx| {
            // Until it has registered this task.
            while self.changed.poll_notified(cx).is_ready() {}
            if self.closing.get() || self.entry.is_gone() {
                return Poll::Ready(Next::End);
            }
            // A pause begins no more reads; the one that runs may end.
            if self.paused.get() && !reader.is_busy() {
                return Poll::Pending;
            }
            self.begin(reader);
            if let Poll::Ready(read) = reader.poll_read(cx) {
                return Poll::Ready(Next::Read(read));
            }
            // Trap 19: who waited before the drain is not told of it. Who asked after it is answered.
            let before = self.began.get() <= Some(self.entry.drained_at.get());
            if self.entry.life.get() == Life::Drained && before {
                return Poll::Ready(Next::End);
            }
            let is_fed = !self.lossless && self.entry.has_strong();
            if self.look_again.take() || is_fed || self.replace.get() {
                return Poll::Ready(Next::Change);
            }
            Poll::Pending
        })
        .await
    }

    /// Begins a read, unless one runs.
    fn begin<R: Read>(&self, reader: &mut R) {
        if !reader.is_busy() {
            self.began.set(Some(self.entry.next_stamp()));
            reader.begin_read();
        }
    }

    /// Begins a read while the last message is still to be handed over: the host works on one while we do on the other.
    fn read_ahead<R: Read>(&self, reader: &mut R) {
        if !self.closing.get() && !self.paused.get() && self.entry.life.get() == Life::Open {
            self.begin(reader);
        }
    }

    /// Tells the server that messages are missing, if it was not told yet.
    fn tell_what_was_missed(&self, sink: &Sink, reader: ReaderId) {
        if self.missed.take() {
            self.told.set(true);
            Rc::clone(sink).complete(Completion::ReadLost { reader });
        }
    }

    /// Waits for a change.
    async fn change(&self) {
        self.changed.notified().await;
    }
}

/// A reader of either kind.
pub(super) trait Read {
    fn poll_read(&mut self, cx: &mut core::task::Context<'_>) -> Poll<Result<Frame, ReadError>>;
    fn begin_read(&mut self);
    fn is_busy(&self) -> bool;
    /// Opens one.
    fn open(entry: &Entry) -> impl Future<Output = Result<Self, HostError>>
    where
        Self: Sized;
}

macro_rules! read {
    ($reader:ident, $open:ident) => {
        impl Read for $reader {
            async fn open(entry: &Entry) -> Result<Self, HostError> {
                entry.open(|channel| channel.$open()).await
            }

            fn poll_read(
                &mut self,
                cx: &mut core::task::Context<'_>,
            ) -> Poll<Result<Frame, ReadError>> {
                self.poll_read(cx, MAX_MESSAGE)
            }

            fn begin_read(&mut self) {
                self.begin_read(MAX_MESSAGE);
            }

            fn is_busy(&self) -> bool {
                self.is_busy()
            }
        }
    };
}

read!(StrongReader, strong_reader);
read!(WeakReader, weak_reader);

/// What comes next of a reader.
pub(super) enum Next {
    Read(Result<Frame, ReadError>),
    /// It was closed, or nothing more comes of the channel.
    End,
    /// Somebody else feeds it from now on, or it, or its scout, is to be replaced.
    Change,
}

/// What came of a read.
enum Came {
    Message(Bytes),
    Lost,
    End(Option<String>),
}

impl Control {
    /// Sorts what was read.
    fn took(&self, read: Result<Frame, ReadError>) -> Came {
        let entry = &self.entry;
        self.began.set(None);
        entry.unread.set(0);
        if entry.life.get() == Life::Draining {
            entry.drain_moved.notify();
        }
        match read {
            Ok(frame) => {
                self.reads.set(self.reads.get() + 1);
                self.passed.set(self.passed.get().map(|passed| passed + 1));
                Came::Message(frame.payload)
            }
            Err(ReadError::Gap) => {
                self.passed.set(None);
                Came::Lost
            }
            // Trap 20: the host never gets past it, and says so for ever.
            Err(ReadError::TooLarge) => Came::End(Some(format!(
                "a message is longer than {MAX_MESSAGE} bytes"
            ))),
            Err(ReadError::Closed | ReadError::Host(HostError::NotFound)) => {
                entry.lost();
                Came::End(None)
            }
            Err(ReadError::Drained) => Came::End(None),
            Err(error) => Came::End(Some(error.to_string())),
        }
    }
}

impl Entry {
    /// Whether a strong reader of ours reads, which lossy readers are fed by.
    fn has_strong(&self) -> bool {
        self.feeder.get().is_some()
    }

    /// Whether there are lossy readers that are fed.
    fn feeds_somebody(&self) -> bool {
        self.readers.borrow().values().any(|it| it.fed.get())
    }

    /// Gives a message to the lossy readers that are fed.
    fn feed(&self, sink: &Sink, bytes: &Bytes) {
        let fed: Vec<_> = self
            .readers
            .borrow()
            .iter()
            .filter(|(_, it)| it.fed.get())
            .map(|(id, it)| (*id, Rc::clone(it)))
            .collect();
        for (reader, control) in fed {
            if !self.fresh.get() {
                // It may be new, and was written after this one came.
                control.missed.set(!control.told.get());
                continue;
            }
            if control.paused.get() || control.closing.get() {
                control.missed.set(true);
                continue;
            }
            control.tell_what_was_missed(sink, reader);
            control.told.set(false);
            control.reads.set(control.reads.get() + 1);
            let bytes = bytes.clone();
            Rc::clone(sink).complete(Completion::Read { reader, bytes });
        }
    }

    /// A strong reader feeds the lossy ones from now on.
    fn begin_feeding(&self, id: ReaderId) {
        self.feeder.set(Some(id));
        // It will have read what this one has not.
        drop(self.spare.take());
        self.tell_readers();
    }

    /// The next strong reader has come before those whom the last one fed went on by themselves. They miss nothing when it
    /// begins where that stopped.
    fn go_on_feeding(&self, fed: &[Rc<Control>], start: Option<u64>) {
        if fed.is_empty() {
            return;
        }
        if start.is_some() && start == self.fed_up_to.get() {
            return self.fresh.set(true);
        }
        for control in fed {
            control.missed.set(true);
            control.changed.notify();
        }
    }

    /// Lossy readers that are fed.
    fn fed(&self) -> Vec<Rc<Control>> {
        let readers = self.readers.borrow();
        let fed = readers.values().filter(|it| it.fed.get());
        fed.cloned().collect()
    }

    /// The same while our writes are held back. When the strong reader has read `exact`ly what there is, lossy ones that have
    /// read everything miss nothing. Waits until all have changed over.
    async fn hand_over(&self, id: ReaderId, exact: bool) {
        let lossy = || -> Vec<Rc<Control>> {
            let readers = self.readers.borrow();
            let lossy = readers.values().filter(|it| it.reads_by_itself());
            lossy.cloned().collect()
        };
        let seamless = exact && lossy().iter().all(|it| it.lacks() == Some(0));
        self.seamless.set(seamless);
        self.begin_feeding(id);
        for _ in 0..MAX_CHANGES {
            if lossy().is_empty() {
                break;
            }
            executor::yield_now().await;
        }
        self.seamless.set(false);
    }

    /// Where a new reader will stand, if that is known: how many messages are behind it.
    fn start(&self) -> Option<u64> {
        self.total.get().filter(|_| self.strongs.get() == 0)?;
        self.retained.borrow().start()
    }

    /// Frees a strong reader that has passed so many messages. What it has read is not there any more.
    fn free(&self, reader: StrongReader, passed: Option<u64>) {
        drop(reader);
        self.freed(passed);
    }

    /// The same of one that is freed already.
    fn freed(&self, passed: Option<u64>) {
        self.strongs.set(self.strongs.get().saturating_sub(1));
        if self.strongs.get() > 0 {
            return;
        }
        let mut retained = self.retained.borrow_mut();
        match passed {
            Some(passed) => retained.read_up_to(passed),
            None => retained.spoil(),
        }
    }

    /// The strong reader is no more: lossy readers go on by themselves.
    ///
    /// It has read, and they have got, this many messages.
    pub(super) fn end_feeding(&self, passed: Option<u64>) {
        self.feeder.set(None);
        let fresh = self.fresh.replace(false);
        self.fed_up_to.set(passed.filter(|_| fresh));
        self.tell_readers();
    }

    pub(super) fn tell_readers(&self) {
        for control in self.readers.borrow().values() {
            control.changed.notify();
        }
    }
}

impl Control {
    /// Opens a reader, and finds out where it stands.
    async fn open<R: Read>(&self) -> Result<R, HostError> {
        let entry = &self.entry;
        self.passed.set(None);
        if entry.start().is_none() {
            return R::open(entry).await;
        }
        let hold = Hold::new(entry);
        let is_quiet = care::no_write(entry).await;
        let start = entry.start().filter(|_| is_quiet);
        let reader = R::open(entry).await;
        drop(hold);
        self.passed.set(start);
        reader
    }

    /// Reads for nobody what there is; whether all of it was read. Our writes are held back meanwhile.
    async fn read_on<R: Read>(&self, reader: &mut R) -> bool {
        while self.lacks().is_some_and(|lacks| lacks > 0) && !self.entry.is_gone() {
            let next = poll_fn(|cx| reader.poll_read(cx));
            match patiently(care::LONG_PATIENCE, next).await {
                Some(read) if read.is_ok() => drop(self.took(read)),
                _ => return false,
            }
            executor::yield_now().await;
        }
        self.lacks() == Some(0)
    }

    /// Puts a new reader into the place of one that sleeps, if that is what is wanted; what the old one lacks. Nothing is
    /// written meanwhile: who wants it sees to that.
    async fn replaced<R: Replace>(
        &self,
        sink: &Sink,
        reader: &mut R,
    ) -> Result<VecDeque<Bytes>, HostError> {
        let mut result = Ok(VecDeque::new());
        let lacks = self.lacks().filter(|_| self.replace.get());
        if let Some(lacks) = lacks.filter(|lacks| *lacks > 0) {
            result = R::replace(self, sink, reader, lacks).await;
            if let Ok(found) = &result {
                let count = found.len() as u64;
                tracing::debug!(count, "a reader of a channel slept");
                self.reads.set(self.reads.get() + count);
                self.passed
                    .set(self.passed.get().map(|passed| passed + count));
            }
        }
        self.replace.set(false);
        result
    }
}

/// A reader that can be replaced while it sleeps.
trait Replace: Read + Sized {
    /// Replaces it. What it lacks, or what of that was found.
    async fn replace(
        control: &Control,
        sink: &Sink,
        reader: &mut Self,
        lacks: u64,
    ) -> Result<VecDeque<Bytes>, HostError>;
}

impl Replace for StrongReader {
    /// A new one begins where the slowest stands. The old one keeps what it has not read in the ring, which has room for another
    /// message as long; the next write wakes it, and then it is freed.
    async fn replace(
        control: &Control,
        sink: &Sink,
        reader: &mut Self,
        lacks: u64,
    ) -> Result<VecDeque<Bytes>, HostError> {
        let entry = &control.entry;
        let mut found = VecDeque::new();
        if entry.strongs.get() != 1 {
            return Ok(found);
        }
        let mut fresh = StrongReader::open(entry).await?;
        entry.strongs.set(entry.strongs.get() + 1);
        // The old one may have woken before the new one was there, which then begins behind what that has read. So the new one
        // counts only when it has found everything, and the old one has brought nothing by then.
        let both = poll_fn(|cx| {
            if let Poll::Ready(read) = Read::poll_read(reader, cx) {
                return Poll::Ready(Some(read));
            }
            while (found.len() as u64) < lacks {
                match Read::poll_read(&mut fresh, cx) {
                    Poll::Ready(Ok(frame)) => found.push_back(frame.payload),
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(None)
        });
        let (left_over, passed) = match patiently(care::LONG_PATIENCE, both).await {
            Some(None) => (core::mem::replace(reader, fresh), control.passed.get()),
            Some(Some(read)) => {
                found = read.into_iter().map(|frame| frame.payload).collect();
                (fresh, None)
            }
            None => {
                found.clear();
                (fresh, None)
            }
        };
        if left_over.is_busy() {
            *entry.sleeper.borrow_mut() = Zombie::begin(sink, entry, left_over, passed, false);
        } else {
            entry.free(left_over, passed);
            wake_writers(entry);
        }
        if !reader.is_busy() {
            control.began.set(None);
        }
        Ok(found)
    }
}

impl Replace for WeakReader {
    /// A new one begins with the oldest message that there is. How many there are is known; the last ones are what is lacking.
    async fn replace(
        control: &Control,
        _: &Sink,
        reader: &mut Self,
        lacks: u64,
    ) -> Result<VecDeque<Bytes>, HostError> {
        let entry = &control.entry;
        let known = entry.retained.borrow().known();
        let known = known.filter(|(count, _)| *count >= lacks && entry.strongs.get() == 0);
        let Some((count, bytes)) = known else {
            return Ok(VecDeque::new());
        };
        let mut fresh = WeakReader::open(entry).await?;
        let (mut last, mut found) = (VecDeque::new(), 0);
        for nth in 0..count {
            let next = poll_fn(|cx| Read::poll_read(&mut fresh, cx));
            match patiently(care::LONG_PATIENCE, next).await {
                Some(Ok(frame)) => {
                    found += frame.payload.len() as u64;
                    if count - nth <= lacks {
                        last.push_back(frame.payload);
                    }
                }
                Some(Err(_)) => return Ok(VecDeque::new()),
                None => break,
            }
            executor::yield_now().await;
        }
        if found != bytes {
            tracing::error!(
                found,
                bytes,
                "a channel holds something else than was written"
            );
            entry.retained.borrow_mut().spoil();
            fresh.release();
            return Ok(VecDeque::new());
        }
        core::mem::replace(reader, fresh).release();
        control.began.set(None);
        Ok(last)
    }
}

/// Reads a channel until it is told to stop, or there is nothing more.
pub(super) async fn run(channels: Rc<Channels>, sink: Sink, control: Rc<Control>, id: ReaderId) {
    let entry = Rc::clone(&control.entry);
    let ended = if control.lossless {
        lossless(&sink, &control, id).await
    } else {
        lossy(&sink, &control, id).await
    };
    let error = match ended {
        Ok(error) => error,
        Err(HostError::NotFound) => None,
        Err(error) => Some(words(&error)),
    };
    control.ended.set(true);
    channels.forget_reader(id, &entry);
    sink.complete(Completion::ReaderEnded { reader: id, error });
}

async fn lossless(
    sink: &Sink,
    control: &Control,
    id: ReaderId,
) -> Result<Option<String>, HostError> {
    let entry = &control.entry;
    // A left-over one waits at the end of everything, where a new one would begin as well, as long as it is there.
    let zombie = entry.zombie.take().and_then(|zombie| zombie.take_over());
    // A lossy reader has read everything, and nothing is written until it is fed: so it misses nothing.
    let mut hold = None;
    let mut reader = match zombie {
        Some((reader, passed)) => {
            // Its read began before everything that matters now.
            control.began.set(Some(0));
            control.passed.set(passed);
            reader
        }
        None => {
            let mut fed = Vec::new();
            if entry.feeder.get().is_none() {
                hold = care::quiet_moment(entry).await;
                entry.fresh.set(false);
                if hold.is_none() {
                    // Who comes while it is being opened waits to be fed.
                    fed = entry.fed();
                    entry.begin_feeding(id);
                }
            }
            let opened = control.open::<StrongReader>().await;
            if opened.is_err() && entry.feeder.get() == Some(id) {
                entry.end_feeding(None);
            }
            let opened = opened?;
            entry.strongs.set(entry.strongs.get() + 1);
            entry.go_on_feeding(&fed, control.passed.get());
            opened
        }
    };
    let took_over = control.began.get().is_some();
    let feeds = took_over || hold.is_some() || entry.feeder.get() == Some(id);
    if took_over {
        entry.begin_feeding(id);
    }
    let mut bytes_read = 0;
    let mut scout = Scout::new();
    let error = loop {
        let pauses = control.paused.get() && !reader.is_busy();
        if hold.is_some() && (pauses || control.lacks().is_none_or(|lacks| lacks == 0)) {
            // It has read everything; or it is not known, or takes too long.
            let exact = control.lacks() == Some(0);
            entry.fresh.set(exact);
            entry.hand_over(id, exact).await;
            hold = None;
        }
        let next = if hold.is_some() {
            let next = control.next(&mut reader);
            let Some(next) = patiently(care::LONG_PATIENCE, next).await else {
                // There is less than was thought.
                control.passed.set(None);
                continue;
            };
            next
        } else if entry.fresh.get() {
            scout.next(control, &mut reader).await
        } else {
            match patiently(care::PATIENCE, control.next(&mut reader)).await {
                Some(next) => next,
                None => {
                    // It waits, so that it has read everything.
                    entry.fresh.set(true);
                    continue;
                }
            }
        };
        let read = match next {
            Next::Read(read) => read,
            Next::End => break None,
            Next::Change => {
                for bytes in control.replaced(sink, &mut reader).await? {
                    let message = bytes.clone();
                    Rc::clone(sink).complete(Completion::Read { reader: id, bytes });
                    if feeds {
                        entry.feed(sink, &message);
                    }
                }
                continue;
            }
        };
        if let Ok(frame) = &read {
            scout.saw(frame);
        }
        match control.took(read) {
            Came::Message(bytes) => {
                bytes_read += bytes.len() as u64;
                if bytes_read >= entry.size.get() && hold.is_none() {
                    entry.fresh.set(true);
                }
                if !scout.is_needed(entry) {
                    control.read_ahead(&mut reader);
                }
                let message = (feeds && entry.feeds_somebody()).then(|| bytes.clone());
                Rc::clone(sink).complete(Completion::Read { reader: id, bytes });
                if let Some(message) = message {
                    entry.feed(sink, &message);
                }
            }
            Came::Lost => Rc::clone(sink).complete(Completion::ReadLost { reader: id }),
            Came::End(error) => break error,
        }
        // One busy channel must not keep the others, and the connections, waiting.
        executor::yield_now().await;
    };
    scout.end(entry);
    if let Some(hold) = hold {
        // It is closed before it has come to the end. Left there, with a weak one behind it, it would read what that one has not.
        let exact = control.read_on(&mut reader).await;
        entry.fresh.set(exact);
        entry.hand_over(id, exact).await;
        drop(hold);
    }
    put_away(sink, control, reader, feeds);
    Ok(error)
}

async fn lossy(sink: &Sink, control: &Control, id: ReaderId) -> Result<Option<String>, HostError> {
    let entry = &control.entry;
    // It goes on where the last one stopped: what was read before is not read again.
    let mut own = None;
    if let Some((spare, passed)) = entry.spare.take() {
        control.passed.set(passed);
        if spare.is_busy() {
            control.began.set(Some(0));
        }
        own = Some(spare);
    }
    // How many messages it has got that it may still read.
    let mut got_before = 0;
    let error = loop {
        // A new reader would begin where the one stands that slept. The next write wakes that one.
        if entry.has_strong() || entry.sleeper.borrow().is_some() {
            control.fed.set(true);
            control.began.set(None);
            control.passed.set(None);
            control.replace.set(false);
            control.own.set(false);
            if own.take().is_some() && !entry.seamless.get() {
                control.missed.set(true);
            }
            if control.closing.get() || entry.is_gone() {
                break None;
            }
            if !control.paused.get() {
                control.tell_what_was_missed(sink, id);
            }
            control.change().await;
            continue;
        }
        let was_fed = control.fed.replace(false);
        control.own.set(true);
        let reader = match &mut own {
            Some(reader) => reader,
            None => {
                let reader = own.insert(control.open().await?);
                // It may stand before the place up to which it was fed: a strong reader that slept kept what was behind it.
                let got = entry.fed_up_to.get().filter(|_| was_fed);
                match control.passed.get().zip(got) {
                    Some((start, got)) if start > got => control.missed.set(true),
                    Some((_, got)) => got_before = got,
                    None => {}
                }
                control.tell_what_was_missed(sink, id);
                reader
            }
        };
        match control.next(reader).await {
            Next::Read(read) => match control.took(read) {
                Came::Message(bytes) => {
                    control.read_ahead(reader);
                    let is_old = control.passed.get().is_some_and(|it| it <= got_before);
                    if !is_old {
                        Rc::clone(sink).complete(Completion::Read { reader: id, bytes });
                    }
                }
                Came::Lost => Rc::clone(sink).complete(Completion::ReadLost { reader: id }),
                Came::End(error) => break error,
            },
            Next::End => break None,
            Next::Change => {
                for bytes in control.replaced(sink, reader).await? {
                    Rc::clone(sink).complete(Completion::Read { reader: id, bytes });
                }
                continue;
            }
        }
        executor::yield_now().await;
    };
    if let Some(reader) = own {
        if entry.life.get() >= Life::Drained {
            reader.release();
        } else {
            // It holds up nobody, and a read that runs could not be taken back: for the next one.
            *entry.spare.borrow_mut() = Some((reader, control.passed.get()));
        }
    }
    Ok(error)
}

/// Does with a strong reader that is not needed any more what holds up nobody.
fn put_away(sink: &Sink, control: &Control, reader: StrongReader, feeds: bool) {
    let (entry, passed) = (&control.entry, control.passed.get());
    if entry.life.get() >= Life::Drained {
        reader.release();
    } else if reader.is_busy() {
        return Zombie::raise(sink, entry, reader, passed, feeds);
    } else {
        entry.free(reader, passed);
        wake_writers(entry);
    }
    if feeds {
        entry.end_feeding(passed);
    }
}

/// Wakes the writers that waited for a strong reader (trap 17).
fn wake_writers(entry: &Rc<Entry>) {
    let entry = Rc::clone(entry);
    let begun = executor::spawn(async move { care::wake_writers(&entry).await });
    if begun.is_err() {
        tracing::error!("too many tasks; writers of a channel may wait for ever");
    }
}

/// A strong reader that nobody needs, and whose read has not ended.
///
/// The host cannot free it before that (traps 3 and 6). It does little harm: a read waits only where everything was read, so that all of the ring
/// is free for writers; the first message ends the read, and then the reader is freed here and writers are woken. There is at most one a
/// channel that can be taken over by the next lossless subscriber, so that coming and going leaves nothing behind.
pub(super) struct Zombie {
    reader: RefCell<Option<StrongReader>>,
    /// How many messages are behind it, where that is known.
    passed: Option<u64>,
    changed: Notify,
}

impl Zombie {
    fn raise(
        sink: &Sink,
        entry: &Rc<Entry>,
        reader: StrongReader,
        passed: Option<u64>,
        feeds: bool,
    ) {
        match Self::begin(sink, entry, reader, passed, feeds) {
            Some(zombie) => *entry.zombie.borrow_mut() = Some(zombie),
            None => entry.end_feeding(None),
        }
    }

    fn begin(
        sink: &Sink,
        entry: &Rc<Entry>,
        reader: StrongReader,
        passed: Option<u64>,
        feeds: bool,
    ) -> Option<Rc<Self>> {
        let zombie = Rc::new(Self {
            reader: RefCell::new(Some(reader)),
            passed,
            changed: Notify::new(),
        });
        let task = Rc::clone(&zombie).rest(Rc::clone(sink), Rc::clone(entry), feeds);
        if executor::spawn(task).is_err() {
            // The reader goes to the orphans, which free it, but wake nobody.
            tracing::error!("too many tasks; writers of a channel may wait for ever");
            entry.freed(None);
            return None;
        }
        Some(zombie)
    }

    /// Waits for the end of the read. Its message is for those whom it feeds.
    async fn rest(self: Rc<Self>, sink: Sink, entry: Rc<Entry>, feeds: bool) {
        let ended = poll_fn(|cx| {
            while self.changed.poll_notified(cx).is_ready() {}
            match self.reader.borrow_mut().as_mut() {
                Some(reader) => Read::poll_read(reader, cx).map(Some),
                None => Poll::Ready(None),
            }
        })
        .await;
        let Some(read) = ended else {
            return;
        };
        drop(self.reader.take());
        entry.freed(
            self.passed
                .filter(|_| read.is_ok())
                .map(|passed| passed + 1),
        );
        for place in [&entry.zombie, &entry.sleeper] {
            let known = place.borrow().clone();
            if known.is_some_and(|known| Rc::ptr_eq(&known, &self)) {
                place.take();
            }
        }
        entry.tell_readers();
        if feeds {
            let passed = self.passed.filter(|_| read.is_ok());
            if let Ok(frame) = read {
                entry.feed(&sink, &frame.payload);
            }
            entry.end_feeding(passed.map(|passed| passed + 1));
        }
        if !entry.is_gone() {
            care::wake_writers(&entry).await;
        }
    }

    /// Gives it a purpose.
    fn take_over(&self) -> Option<(StrongReader, Option<u64>)> {
        let reader = self.reader.take()?;
        self.changed.notify();
        Some((reader, self.passed))
    }

    /// Gives it up, when the host may never end its read.
    pub(super) fn release(&self) {
        if let Some((reader, _)) = self.take_over() {
            reader.release();
        }
    }
}
