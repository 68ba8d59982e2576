//! Channels: byte rings inside the host, with framed writes and several readers.
//!
//! What every user of this module has to know about the host:
//!
//! - **What readers see ends at the slowest strong writer's position**: an idle strong writer freezes all readers of a channel on which others write.
//!   Use one per burst, and drop it when the queue is empty.
//! - **The last frame of a burst can stay invisible until the next write**, because a waiting reader is woken only when its end lies strictly before the
//!   tail. A fresh strong reader starts where the stuck one stands.
//! - **Drop backpressure hides drops**: a dropped frame answers success with its full length. Two strong writers with a lagging strong
//!   reader can wedge such a channel; use weak readers only on it, and a fresh writer for each message.
//! - Freeing a strong reader does not wake writers that wait for space; one read through a throw-away weak reader does. An abandoned strong reader blocks its
//!   channel's writers for ever.
//! - Draining wakes nobody. Deleting a draining channel answers an error although it deletes, and reads that wait on it never complete.
//! - Frames that nobody reads cost memory and time for ever, also when their bytes were overwritten.
//! - Lossy reads can be torn: what a weak reader returns is hostile input, whoever wrote it.

use core::{
    future::{Future, poll_fn},
    task::{Context, Poll},
};

use bytes::Bytes;
pub use selium_abi::ChannelBackpressure as Backpressure;
use selium_abi::ChannelCreate;
use thiserror::Error;

use crate::{
    host::{
        self, HostError, HostFuture, MAX_READ, Op,
        calls::{
            ChannelAttach, ChannelDelete, ChannelDrain, ChannelNew, ChannelShare, StrongRead,
            StrongReaderNew, StrongWrite, StrongWriterNew, WeakRead, WeakReaderNew, WeakWrite,
            WeakWriterNew,
        },
        io::{self, Pieces},
    },
    orphan::Driven,
    slot::{Port, Slot},
};

/// Largest capacity of a channel, in bytes. The host allocates it at once and never limits what a guest takes.
pub const MAX_CAPACITY: u32 = 32 * 1024 * 1024;

/// Largest frame that is written, in bytes: what a reader of this crate can read in one piece.
pub const MAX_FRAME: usize = MAX_READ as usize;

/// A name for a channel that other processes can attach to. Not secret and not owned: anybody with `ChannelLifecycle` can use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedId(u64);

impl SharedId {
    pub(crate) fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// What a process was given as an argument: see [`crate::entry::wide`]. A number that nobody shared is refused when it is attached to.
    pub fn from_argument(number: u64) -> Self {
        Self(number)
    }

    /// The number that the host knows it by, to be handed to a process as an argument.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A channel in this module's handle table.
///
/// Dropping a channel that this module created **deletes it for everybody**; dropping an attached one only detaches. Readers and
/// writers are handles of their own and are not freed with it.
///
/// The functions that open something begin when they are called, not when their future is first polled, and the future does not borrow the channel.
/// **They end this module when somebody else has deleted the channel**: the host panics inside the call. [`attach`](Self::attach) to it right before, in
/// the same poll: that answers "not found" when the number is free. Never share a channel again that may be gone: the host gives the freed number
/// to the dead handle, and attaching finds that.
#[derive(Debug)]
pub struct Channel {
    slot: Option<Slot>,
    created: bool,
}

/// Waits for an operation that answers with a new slot, which is freed if nobody is there to take it.
pub(crate) fn new_slot<O: Op<Out = u32>>(
    call: HostFuture<O>,
) -> impl Future<Output = Result<Slot, HostError>> + use<O> {
    let call = Driven::new(call, |result| drop(result.map(Slot::new)));
    async move { call.await.map(Slot::new) }
}

impl Channel {
    /// Creates a channel of `capacity` bytes, which the host rounds up to a power of two. Needs `ChannelLifecycle`.
    ///
    /// Cancel safe: dropped half-way, the channel is deleted when the host has made it. So for all functions of this type that return a handle.
    ///
    /// # Errors
    /// [`HostError::InvalidArgument`] for zero, [`HostError::TooLarge`] over [`MAX_CAPACITY`].
    pub async fn create(capacity: u32, backpressure: Backpressure) -> Result<Self, HostError> {
        if capacity == 0 {
            return Err(HostError::InvalidArgument);
        }
        HostError::check("channel capacity", capacity as usize, MAX_CAPACITY as usize)?;
        let slot = new_slot(host::call::<ChannelNew>(&ChannelCreate {
            capacity,
            backpressure,
        }))
        .await?;
        Ok(Self {
            slot: Some(slot),
            created: true,
        })
    }

    /// Attaches to a shared channel. Needs `ChannelLifecycle`.
    ///
    /// # Errors
    /// [`HostError::NotFound`] when it does not exist any more.
    pub async fn attach(shared: SharedId) -> Result<Self, HostError> {
        // Undone by detaching: the channel belongs to somebody else.
        let call = host::call::<ChannelAttach>(&shared.0);
        let raw = Driven::new(call, |result| {
            if let Ok(raw) = result {
                Slot::new(raw).detach();
            }
        })
        .await?;
        Ok(Self {
            slot: Some(Slot::new(raw)),
            created: false,
        })
    }

    /// The channel that this process was given as an argument of kind i32, which is a slot of its own. It is detached when dropped. Only once for each
    /// argument, and for nothing else: any other number is somebody else's slot, or nobody's.
    pub fn from_argument(slot: i32) -> Self {
        Self {
            slot: Some(Slot::new(slot.cast_unsigned())),
            created: false,
        }
    }

    /// `u32::MAX` (never a slot) while the channel is being dropped.
    fn raw(&self) -> u32 {
        self.slot.as_ref().map_or(u32::MAX, Slot::raw)
    }

    /// Makes the channel available to other processes. Sharing twice gives the same id, unless the channel was deleted in between. Cancel safe.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn share(&self) -> impl Future<Output = Result<SharedId, HostError>> + use<> {
        let call = host::call::<ChannelShare>(&self.raw());
        async move { call.await.map(SharedId) }
    }

    /// Opens a reader that may lose frames but holds nobody up. It starts at the oldest retained frame if the channel has no strong reader.
    /// Needs `ChannelReader`.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn weak_reader(&self) -> impl Future<Output = Result<WeakReader, HostError>> + use<> {
        let slot = new_slot(host::call::<WeakReaderNew>(&self.raw()));
        async move {
            Ok(WeakReader {
                port: Port::new(slot.await?, drop),
            })
        }
    }

    /// Opens a reader that loses nothing and holds writers back. Not on channels with drop backpressure. Needs `ChannelReader`.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn strong_reader(&self) -> impl Future<Output = Result<StrongReader, HostError>> + use<> {
        let slot = new_slot(host::call::<StrongReaderNew>(&self.raw()));
        async move {
            Ok(StrongReader {
                port: Port::new(slot.await?, drop),
            })
        }
    }

    /// Opens a writer. Drop it when idle (see the module documentation). Needs `ChannelWriter`.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn strong_writer(&self) -> impl Future<Output = Result<StrongWriter, HostError>> + use<> {
        let slot = new_slot(host::call::<StrongWriterNew>(&self.raw()));
        async move {
            Ok(StrongWriter {
                port: Port::new(slot.await?, drop),
            })
        }
    }

    /// Opens a writer that stands in nobody's way while it is idle, and makes readers look after each of its frames. Each of its frames makes the
    /// channel a little slower for ever: for single frames on channels that others write to as well. Needs `ChannelWriter`.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn weak_writer(&self) -> impl Future<Output = Result<WeakWriter, HostError>> + use<> {
        let slot = new_slot(host::call::<WeakWriterNew>(&self.raw()));
        async move {
            Ok(WeakWriter {
                port: Port::new(slot.await?, drop),
            })
        }
    }

    /// Refuses new writes and lets unfinished ones end. Wakes nobody: the caller ends the streams that wait on it. Cancel safe.
    ///
    /// # Errors
    /// [`HostError::Other`] when the channel was deleted.
    pub fn drain(&self) -> impl Future<Output = Result<(), HostError>> + use<> {
        host::call::<ChannelDrain>(&self.raw())
    }

    /// Deletes the channel for everybody, also when it is an attached one. Reads that wait on it fail as closed. Carried out at the first poll,
    /// even if the future is dropped then.
    ///
    /// # Errors
    /// After [`drain`](Self::drain) the host answers an error *although it has deleted the channel*.
    pub async fn delete(mut self) -> Result<(), HostError> {
        match self.slot.take() {
            Some(slot) => host::call::<ChannelDelete>(&slot.leak()).await,
            None => Ok(()),
        }
    }

    /// Forgets the handle and leaves the channel alive. A created channel that was not shared can then never be deleted.
    pub fn detach(mut self) {
        if let Some(slot) = self.slot.take() {
            slot.detach();
        }
    }

    /// The slot's number, for arguments that this module has no function for.
    pub(crate) fn raw_slot(&self) -> u32 {
        self.raw()
    }

    /// Gives up the slot for good: the channel lives as long as the module.
    pub(crate) fn leak(mut self) {
        if let Some(slot) = self.slot.take() {
            slot.leak();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        match self.slot.take() {
            Some(slot) if !self.created => slot.detach(),
            // Dropping the slot deletes the channel.
            created => drop(created),
        }
    }
}

/// What one write call wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Number of the writer within its channel; numbers are reused.
    pub writer_id: u16,
    /// The bytes; never empty, as the host ignores empty writes.
    pub payload: Bytes,
}

/// Why a read from a channel failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The reader was too slow and lost an unknown number of frames. Read on: the next frame is the oldest that is left.
    #[error("the reader was too slow and frames were lost")]
    Gap,
    /// The next frame is larger than the `max` of the read. It stays in front: read again with more, or give the reader up.
    #[error("the next frame is larger than requested")]
    TooLarge,
    /// The channel was deleted, or the reader terminated. Nothing more will come.
    #[error("the channel is closed")]
    Closed,
    /// The channel was drained, and everything in it was read. Nothing more will come.
    #[error("the channel was drained")]
    Drained,
    /// Anything else.
    #[error(transparent)]
    Host(HostError),
}

impl From<HostError> for ReadError {
    fn from(error: HostError) -> Self {
        // The host wraps the channel's text into "internal error: io error: ...".
        let HostError::Other(text) = &error else {
            return Self::Host(error);
        };
        if text.contains("got left behind") {
            Self::Gap
        } else if text.contains("frame exceeds requested length") {
            Self::TooLarge
        } else if ["connection aborted", "broken pipe"]
            .iter()
            .any(|closed| text.contains(closed))
        {
            Self::Closed
        } else if text.contains("operation interrupted") {
            Self::Drained
        } else {
            Self::Host(error)
        }
    }
}

fn wanted(max: u32) -> impl FnOnce(u32) -> io::Read {
    let len = max.clamp(1, MAX_READ);
    move |handle| io::Read { handle, len }
}

/// A reader that may lose frames. Dropping it frees the handle, after a running read has ended (on an idle channel that may be never).
#[derive(Debug)]
pub struct WeakReader {
    port: Port<WeakRead>,
}

/// A reader that holds writers back until it has read, or was dropped. Dropping it frees the handle, after a running read has ended:
/// until then it holds writers back.
#[derive(Debug)]
pub struct StrongReader {
    port: Port<StrongRead>,
}

macro_rules! reader {
    ($reader:ident) => {
        impl $reader {
            /// Reads the next frame, if it has at most `max` bytes (raised to 1 and cut to [`MAX_READ`]).
            ///
            /// Cancel safe: a dropped future leaves the read with the reader, and the next call resumes it, with the `max` that it was
            /// started with. Nothing is lost.
            ///
            /// # Errors
            /// See [`ReadError`]; only `Gap` and `TooLarge` leave a reader that can go on.
            pub async fn read(&mut self, max: u32) -> Result<Frame, ReadError> {
                poll_fn(|cx| self.poll_read(cx, max)).await
            }

            /// Whether a read runs in the host.
            pub fn is_busy(&self) -> bool {
                self.port.is_busy()
            }

            /// Gives the reader up at once, also while a read runs: its result is lost, and the host frees the reader when the read ends. That is
            /// with the next frame, with the channel, or never (see the module documentation).
            pub fn release(self) {
                self.port.release();
            }

            /// Poll form of `read`.
            pub fn poll_read(
                &mut self,
                cx: &mut Context<'_>,
                max: u32,
            ) -> Poll<Result<Frame, ReadError>> {
                self.port
                    .poll_operation(cx, wanted(max))
                    .map_err(ReadError::from)
            }

            /// Begins a read that a later call of `read` or `poll_read` takes up, unless one runs already: the host works on it while something else
            /// is done here.
            pub fn begin_read(&mut self, max: u32) {
                self.port.begin(wanted(max));
            }
        }
    };
}

reader!(WeakReader);
reader!(StrongReader);

/// A writer. Dropping it frees the handle, after a running write has ended; what was written stays readable.
#[derive(Debug)]
pub struct StrongWriter {
    port: Port<StrongWrite>,
}

/// A writer that has a place in the channel only while it writes. Dropping it frees the handle, after a running write has ended.
#[derive(Debug)]
pub struct WeakWriter {
    port: Port<WeakWrite>,
}

macro_rules! writer {
    ($writer:ident) => {
        impl $writer {
            /// Writes one frame of 1 to [`MAX_FRAME`] bytes. With `Park` it waits for strong readers to make room; with `Drop` a frame without room
            /// is dropped *and success is reported*. A frame larger than the channel ruins its weak readers: check where the capacity is known.
            ///
            /// Cancel safety: once started a write is carried out, also when its future is dropped; the next write waits for it first, and
            /// reports its error.
            ///
            /// # Errors
            /// [`HostError::InvalidArgument`] for an empty frame, which the host would ignore; [`HostError::TooLarge`] over [`MAX_FRAME`].
            pub async fn write(&mut self, frame: &[u8]) -> Result<(), HostError> {
                if frame.is_empty() {
                    return Err(HostError::InvalidArgument);
                }
                HostError::check("frame", frame.len(), MAX_FRAME)?;
                self.port.settle().await?;
                let payload = Pieces::One(frame);
                poll_fn(|cx| {
                    self.port
                        .poll_operation(cx, |handle| io::Write { handle, payload })
                })
                .await
                .map(drop)
            }

            /// Whether a write whose future was dropped is still running.
            pub fn is_busy(&self) -> bool {
                self.port.is_busy()
            }

            /// Gives the writer up at once, also while a write runs: the write goes on without anybody who waits for it, and the host
            /// frees the writer after it.
            pub fn release(self) {
                self.port.release();
            }
        }
    };
}

writer!(StrongWriter);
writer!(WeakWriter);

impl StrongWriter {
    /// The slot's number, for the log's panic hook, which must write without an owner at hand.
    pub(crate) fn raw_slot(&self) -> Option<u32> {
        self.port.raw()
    }
}

/// Goes to the host and back, and changes nothing there: what the host had to say before has arrived by then, mostly. Needs
/// `ChannelLifecycle`; without it, it returns at once.
pub async fn round_trip() {
    // No channel was ever shared under this number.
    let _ = host::call::<ChannelAttach>(&u64::MAX).await;
}
