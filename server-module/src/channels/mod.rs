//! The runtime's channels, as the server wants them.
//!
//! ```text
//!   Server ── HostCall ──► Channels ──► Entry, one a channel: its handle, who reads it, what waits to be written
//!                                         │
//!              a task a reader ───────────┤ reader.rs: reads frames, and gives strong readers up so that nobody waits for them; scout.rs goes before
//!              a task for all writers ────┤ writer.rs: one write at a time, in turns; reports.rs: what the server is told of it
//!              tasks that come and go ────┘ care.rs: wakes who sleeps too long; life.rs: create, share, drain, delete
//! ```
//!
//! The host's channels have bugs, which end here. The numbers are those of the project's notes on the runtime; what each means is in the
//! documentation of `selium_remote_transport_wasm::channel`.
//!
//! | | what the host does | what is done here |
//! | --- | --- | --- |
//! | 3, 6 | a read that runs cannot be cancelled, nor its reader freed | `reader.rs`: a strong reader that is closed while it reads is kept until its read has ended, or the next lossless subscriber takes it over; a weak one is kept for the next lossy one |
//! | 12, 17 | a strong reader that nobody reads blocks its writers; freeing it wakes nobody | `reader.rs` frees it, then `care::wake_writers` |
//! | 14 | each new writer makes a channel slower for ever | `writer.rs`: as long as nobody else can write, one writer serves all publications of a channel, and stays; once others can, it stays for as long as messages come without a pause |
//! | 15 | an idle strong writer freezes what others write, and freeing it wakes nobody | `writer.rs`: once others can write, none stays idle: the last message of a burst goes through a weak writer, after the strong one was freed |
//! | 16 | a reader that looked in the middle of a write sleeps on | `care::nudge`, when the server says so and after each burst of ours that a reader has not seen. Park channels are made twice as large as asked for, without which this cannot work (`HEADROOM`) |
//! | 16 | a few of those sleep so deeply that only a write wakes them (they looked before the message was entered, and fell asleep after all were woken) | `care::after_burst` has them replaced, as long as nobody else can write: only then it is known what they lack |
//! | 16 | a writer that begins without room moves the end, and wakes nobody: a strong reader that waits there sleeps for good, and all writers with it | `scout.rs`: where several write, a weak reader waits in its place |
//! | | weak readers lose messages without a word when a strong one is faster: what that has read is forgotten | `reader.rs`: beside a strong reader of ours, lossy subscribers are fed by it, from a place on where nothing is lost as long as nobody else can write |
//! | 18 | drop channels wedge with two strong writers | `writer.rs`: a fresh weak writer for each message, once others can write |
//! | 19 | draining wakes nobody; a drained channel is deleted with an error, and nobody is told | `life.rs`: readers that have read everything are ended, deletes are taken for done, who waits is told |
//! | 20 | a frame that is too large is never skipped | `reader.rs` ends the reader; empty messages are refused |
//! | 22 | what nobody reads is remembered for ever | `writer.rs` has one frame read now and then |
//! | | opening something on a channel that somebody else has deleted ends the module | `Entry::open` looks whether it is there, in the same poll |

mod care;
mod life;
mod reader;
mod reports;
mod retained;
mod scout;
#[cfg(test)]
mod tests;
mod writer;

use core::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};
use std::{collections::BTreeMap, rc::Rc};

use selium_remote_client_protocol::ops::Backpressure;
use selium_remote_server_core::{
    Completion, HostCall,
    host::{HostChannel, OpId, ReaderId},
};
use selium_remote_transport_wasm::{
    HostError,
    channel::{self as host, SharedId, WeakReader},
    executor::{self, Notify, SpawnError},
};

use self::{
    reader::{Control, Zombie},
    reports::Due,
    retained::Retained,
    writer::Queue,
};

/// How many times what was asked for a channel that parks really has. A frame of more than half a ring can leave a reader asleep for
/// good, with its writer waiting for it (trap 16: what wakes it looks for readers *within* a ring's length of the slowest); so there are none.
const HEADROOM: u32 = 2;

/// What is said of a channel that is not there (any more).
pub(crate) const GONE: &str = "the channel was deleted";

/// What is said of a channel that takes no new messages.
const DRAINING: &str = "the channel takes no new messages";

/// What is said when there is no task for it.
pub(crate) const BUSY: &str = "the server has too many tasks";

/// Who is told what came of everything.
pub(crate) trait Events {
    /// Takes what came of a call. Not from within [`Channels::begin`].
    fn complete(self: Rc<Self>, completion: Completion);
}

/// Where completions go.
type Sink = Rc<dyn Events>;

/// All channels that the server made.
#[derive(Default)]
pub(crate) struct Channels {
    table: RefCell<BTreeMap<HostChannel, Rc<Entry>>>,
    readers: RefCell<BTreeMap<ReaderId, Rc<Control>>>,
    due: Due,
}

/// How a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    Open,
    /// It takes no new messages.
    Draining,
    /// And nothing of what is left can still become readable to who waits since before.
    Drained,
    /// It is deleted, here or by somebody else.
    Gone,
}

/// One channel.
struct Entry {
    id: HostChannel,
    sink: Sink,
    backpressure: Backpressure,
    /// `None` before it was created and after it was deleted.
    channel: RefCell<Option<host::Channel>>,
    /// Its number in the runtime, once processes can reach it: from then on others may write, read and delete.
    shared: Cell<Option<SharedId>>,
    life: Cell<Life>,
    /// Counts beginnings of reads and ends of writes, to tell what came first.
    stamp: Cell<u64>,
    /// The stamp of the drain.
    drained_at: Cell<u64>,
    readers: RefCell<BTreeMap<ReaderId, Rc<Control>>>,
    /// A weak reader that nobody needs now, and how many messages are behind it.
    spare: RefCell<Option<(WeakReader, Option<u64>)>>,
    /// A strong reader that nobody needs, and whose read has not ended.
    zombie: RefCell<Option<Rc<Zombie>>>,
    /// One that sleeps and was replaced. The next write wakes it.
    sleeper: RefCell<Option<Rc<Zombie>>>,
    /// Messages that were written here, as long as nobody else could write and no write has failed.
    total: Cell<Option<u64>>,
    /// What of them is still there.
    retained: RefCell<Retained>,
    /// Whether one is being written.
    in_write: Cell<bool>,
    /// Strong readers of ours that the runtime has, left-over ones too.
    strongs: Cell<u32>,
    /// How many want no writes to begin.
    holds: Cell<u32>,
    /// Whether lossy readers that are fed from now on have missed nothing.
    seamless: Cell<bool>,
    queue: RefCell<Queue>,
    /// Whether the task that writes runs.
    writing: Cell<bool>,
    /// Tells that task that something has changed.
    written_to: Notify,
    /// Whether it is to tell the server what was written.
    reports_due: Cell<bool>,
    /// Messages written since anything was read here.
    unread: Cell<u32>,
    nudging: Cell<bool>,
    /// Tells the task that waits for the end of a drain.
    drain_moved: Notify,
    /// The strong reader that lossy readers are fed by.
    feeder: Cell<Option<ReaderId>>,
    /// Whether it has come to what was written since it was opened.
    fresh: Cell<bool>,
    /// A throw-away reader that found nothing. Given up when the next one is: by then its read has begun, without which the host panics (in a
    /// task of its own).
    looked: RefCell<Option<WeakReader>>,
    /// How many messages those have got whom a strong reader fed that is no more.
    fed_up_to: Cell<Option<u64>>,
    /// How many bytes the runtime keeps.
    size: Cell<u64>,
}

impl Entry {
    fn new(id: HostChannel, sink: Sink, backpressure: Backpressure) -> Rc<Self> {
        Rc::new(Self {
            id,
            sink,
            backpressure,
            channel: RefCell::new(None),
            shared: Cell::new(None),
            life: Cell::new(Life::Open),
            stamp: Cell::new(0),
            drained_at: Cell::new(0),
            readers: RefCell::default(),
            spare: RefCell::new(None),
            zombie: RefCell::new(None),
            sleeper: RefCell::new(None),
            total: Cell::new(Some(0)),
            retained: RefCell::default(),
            strongs: Cell::new(0),
            in_write: Cell::new(false),
            holds: Cell::new(0),
            seamless: Cell::new(false),
            queue: RefCell::default(),
            writing: Cell::new(false),
            written_to: Notify::new(),
            reports_due: Cell::new(false),
            unread: Cell::new(0),
            nudging: Cell::new(false),
            drain_moved: Notify::new(),
            feeder: Cell::new(None),
            fresh: Cell::new(false),
            looked: RefCell::new(None),
            fed_up_to: Cell::new(None),
            size: Cell::new(0),
        })
    }

    fn is_gone(&self) -> bool {
        self.life.get() == Life::Gone
    }

    /// Whether processes can reach it.
    fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    fn next_stamp(&self) -> u64 {
        let stamp = self.stamp.get() + 1;
        self.stamp.set(stamp);
        stamp
    }

    /// Waits for the channel's number in the runtime, which others can attach to from now on.
    async fn share(&self) -> Result<SharedId, HostError> {
        if let Some(shared) = self.shared.get() {
            return Ok(shared);
        }
        let sharing = self.channel.borrow().as_ref().map(host::Channel::share);
        let shared = sharing.ok_or(HostError::NotFound)?.await?;
        self.shared.set(Some(shared));
        self.total.set(None);
        // An idle writer would freeze what others write (trap 15).
        self.written_to.notify();
        Ok(shared)
    }

    /// Attaches to a shared channel, if it is there.
    async fn attach(&self, shared: SharedId) -> Result<host::Channel, HostError> {
        let attached = host::Channel::attach(shared).await;
        if matches!(attached, Err(HostError::NotFound)) {
            self.lost();
        }
        attached
    }

    /// Whether what was attached to is this channel: numbers are used again at once, and another channel may have this one by now. Only right after
    /// it was attached to: the host would give the number to our handle if it was free, dead or not.
    async fn is_this(&self, shared: SharedId) -> Result<(), HostError> {
        let sharing = self.channel.borrow().as_ref().map(host::Channel::share);
        if sharing.ok_or(HostError::NotFound)?.await? == shared {
            return Ok(());
        }
        self.lost();
        Err(HostError::NotFound)
    }

    /// Opens a reader or a writer.
    ///
    /// The host panics inside our call, and that is the end of this module, when a channel is not there. Processes can delete a
    /// shared one at any time: so attach, and open in the same poll. That leaves the time between the host's answer and this poll.
    async fn open<T, F>(&self, open: impl FnOnce(&host::Channel) -> F) -> Result<T, HostError>
    where
        F: Future<Output = Result<T, HostError>>,
    {
        let Some(shared) = self.shared.get() else {
            let opening = self.channel.borrow().as_ref().map(open);
            return opening.ok_or(HostError::NotFound)?.await;
        };
        let attached = self.attach(shared).await?;
        // Deleted by ourselves meanwhile.
        if self.channel.borrow().is_none() {
            return Err(HostError::NotFound);
        }
        let opened = open(&attached).await?;
        self.is_this(shared).await?;
        Ok(opened)
    }

    /// Somebody else has deleted it.
    fn lost(&self) {
        // Without it we are deleting it ourselves.
        if self.channel.borrow().is_some() {
            tracing::debug!("a channel was deleted by somebody else");
            self.end();
            let channel = self.id;
            Rc::clone(&self.sink).complete(Completion::ChannelGone { channel });
        }
    }

    /// It is gone: whoever waits on it is told, whether or not the host tells them.
    fn end(&self) {
        if self.life.replace(Life::Gone) == Life::Gone {
            return;
        }
        // What is left of it is no channel any more; its slot is freed all the same.
        drop(self.channel.take());
        self.tell_readers();
        if let Some((spare, _)) = self.spare.take() {
            spare.release();
        }
        if let Some(looked) = self.looked.take() {
            looked.release();
        }
        for zombie in [self.zombie.take(), self.sleeper.take()]
            .into_iter()
            .flatten()
        {
            zombie.release();
        }
        self.written_to.notify();
        self.drain_moved.notify();
    }
}

impl Channels {
    /// Begins what concerns channels. What could not be begun is answered with the completion that says so.
    pub(crate) fn begin(self: &Rc<Self>, sink: Sink, call: HostCall) -> Option<Completion> {
        let this = Rc::clone(self);
        match call {
            HostCall::CreateChannel {
                op,
                channel,
                capacity,
                backpressure,
            } => {
                let entry = Entry::new(channel, Rc::clone(&sink), backpressure);
                self.table.borrow_mut().insert(channel, Rc::clone(&entry));
                let begun = executor::spawn(life::create(this, sink, entry, op, capacity));
                if begun.is_err() {
                    self.table.borrow_mut().remove(&channel);
                }
                begun.err().map(|_| done(op, BUSY))
            }
            // It may be gone already: then that is done.
            HostCall::DeleteChannel { op, channel } => match self.entry(channel) {
                Some(entry) => {
                    let begun = executor::spawn(life::delete(this, sink, entry, op));
                    begun.err().map(|_| done(op, BUSY))
                }
                None => Some(Completion::ChannelDone { op, result: Ok(()) }),
            },
            HostCall::DrainChannel { op, channel } => self.operate(op, channel, |entry| {
                executor::spawn(life::drain(sink, entry, op))
            }),
            HostCall::ShareChannel { op, channel } => self.operate(op, channel, |entry| {
                executor::spawn(life::share(sink, entry, op))
            }),
            HostCall::OpenReader {
                reader,
                channel,
                lossless,
            } => self.open_reader(sink, reader, channel, lossless),
            HostCall::PauseReader { reader } => self.control(reader, |it| it.paused.set(true)),
            HostCall::ResumeReader { reader } => self.control(reader, |it| it.paused.set(false)),
            // Exactly one end is told of each reader: of one that is not here it was told.
            HostCall::CloseReader { reader } => self.control(reader, |it| it.closing.set(true)),
            HostCall::NudgeReader { reader } => {
                let entry = self
                    .readers
                    .borrow()
                    .get(&reader)
                    .map(|it| Rc::clone(&it.entry));
                if let Some(entry) = entry {
                    // Not begun: it is asked for again after the next burst.
                    let _ = executor::spawn(async move {
                        care::nudge(&entry).await;
                        entry.drain_moved.notify();
                    });
                }
                None
            }
            HostCall::Write {
                writer,
                channel,
                bytes,
            } => {
                let entry = self.entry(channel);
                let begun = entry.map_or(Err(GONE), |entry| {
                    writer::push(&this, &sink, &entry, writer, bytes).map_err(|_| BUSY)
                });
                begun.err().map(|words| Completion::Written {
                    writer,
                    result: Err(words.to_owned()),
                })
            }
            // A writer is what waits in its channel's queue, and nothing else.
            HostCall::CloseWriter { .. } => None,
            _ => None,
        }
    }

    /// Lends a channel to a start: it is shared, and what is returned has to live until the host has the start.
    pub(crate) async fn lend(&self, channel: HostChannel) -> Result<Lent, HostError> {
        let entry = self.entry(channel).ok_or(HostError::NotFound)?;
        let shared = entry.share().await?;
        // A slot of its own, which stays this channel's whatever happens to the channel meanwhile: a start may wait for its turn, and the
        // runtime gives to the process what stands in the slot then.
        let channel = entry.attach(shared).await?;
        entry.is_this(shared).await?;
        Ok(Lent { shared, channel })
    }

    fn entry(&self, channel: HostChannel) -> Option<Rc<Entry>> {
        self.table.borrow().get(&channel).cloned()
    }

    fn operate(
        &self,
        op: OpId,
        channel: HostChannel,
        begin: impl FnOnce(Rc<Entry>) -> Result<(), SpawnError>,
    ) -> Option<Completion> {
        match self.entry(channel) {
            Some(entry) => begin(entry).err().map(|_| done(op, BUSY)),
            None => Some(done(op, GONE)),
        }
    }

    fn control(&self, reader: ReaderId, change: impl FnOnce(&Control)) -> Option<Completion> {
        if let Some(control) = self.readers.borrow().get(&reader) {
            change(control);
            control.changed.notify();
        }
        None
    }

    fn open_reader(
        self: &Rc<Self>,
        sink: Sink,
        reader: ReaderId,
        channel: HostChannel,
        lossless: bool,
    ) -> Option<Completion> {
        let ended = |words: &str| {
            Some(Completion::ReaderEnded {
                reader,
                error: Some(words.to_owned()),
            })
        };
        let Some(entry) = self.entry(channel) else {
            return ended(GONE);
        };
        let control = Rc::new(Control::new(Rc::clone(&entry), lossless));
        entry
            .readers
            .borrow_mut()
            .insert(reader, Rc::clone(&control));
        self.readers
            .borrow_mut()
            .insert(reader, Rc::clone(&control));
        let task = reader::run(Rc::clone(self), sink, Rc::clone(&control), reader);
        if executor::spawn(task).is_err() {
            self.forget_reader(reader, &entry);
            return ended(BUSY);
        }
        None
    }

    fn forget_reader(&self, reader: ReaderId, entry: &Entry) {
        self.readers.borrow_mut().remove(&reader);
        entry.readers.borrow_mut().remove(&reader);
    }

    /// Forgets a channel that is gone, when nothing waits to be written to it any more.
    fn forget(&self, entry: &Entry) {
        if entry.is_gone() && !entry.writing.get() {
            self.table.borrow_mut().remove(&entry.id);
        }
    }
}

/// A channel that is on its way to a process.
pub(crate) struct Lent {
    /// Its number, for parameters of kind u64.
    pub(crate) shared: SharedId,
    /// A handle of its own, for parameters of kind i32.
    pub(crate) channel: host::Channel,
}

/// An operation failed.
fn done(op: OpId, words: &str) -> Completion {
    Completion::ChannelDone {
        op,
        result: Err(words.to_owned()),
    }
}

/// What is said of an error of the host.
fn words(error: &HostError) -> String {
    match error {
        HostError::NotFound => GONE.to_owned(),
        HostError::Other(text) if is_closed(text) => GONE.to_owned(),
        HostError::Other(text) if text.contains("operation interrupted") => DRAINING.to_owned(),
        other => other.to_string(),
    }
}

/// Whether these are the words for a channel that is not there any more.
fn is_closed(text: &str) -> bool {
    text.contains("broken pipe") || text.contains("connection aborted")
}

/// Waits for `work`, but for no more than this many round trips to the host.
async fn patiently<T>(round_trips: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut patience = pin!(async {
        for _ in 0..round_trips {
            host::round_trip().await;
            executor::yield_now().await;
        }
    });
    poll_fn(|cx| {
        if let Poll::Ready(value) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        patience.as_mut().poll(cx).map(|()| None)
    })
    .await
}
