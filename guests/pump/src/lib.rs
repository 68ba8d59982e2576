//! Carries bytes between channels and QUIC connections, for benches: no server of channels in a guest can be much faster than this.
//!
//! It keeps no list of subscribers, numbers nothing, frames nothing and remembers nothing. Nobody but the bench should write to its channels or read
//! them. It has no log. Everything is counted in messages of one size, which come in *bursts*; behind a burst it (and `source`) writes one
//! message of [`TRAILER`] bytes, because the last message of a burst can stay invisible in the host until the next one is written.
//!
//! - `start`, arguments `port` (u16) and three times eight shared channels (u64), *out*, *in* and *both*: serves QUIC on that port. The first byte of a
//!   connection says what it is for: 0 to 7, an *out* channel, of which it gets all bytes; 8 to 15, an *in* channel; 16 to 23, the *both* channels, into them;
//!   24 to 31, out of them. What goes in is bursts: how many bytes a message has and how many there are (u32 each, the highest byte first), then the
//!   messages; a byte comes back when all of a burst is in the channel.
//! - `source`, arguments `control` and sixteen channels (u64): writes bursts. A command on `control` has four numbers (u32): the first channel
//!   and how many channels, the bytes of a message, and how many messages each channel gets.
//! - `sink`, arguments sixteen channels (u64): reads them, so that writers have room, and throws everything away.
//!
//! Needs `ChannelLifecycle`, `ChannelReader` and `ChannelWriter`, and `start` all of `NetQuicBind`, `NetQuicAccept`, `NetQuicRead` and `NetQuicWrite`.

use core::cell::{Cell, RefCell};
use std::{collections::VecDeque, rc::Rc};

use bytes::{Bytes, BytesMut};
use selium_remote_transport_wasm::{
    HostError,
    channel::{Channel, MAX_FRAME, SharedId, StrongWriter},
    entry::wide,
    executor::{self, Notify},
    numbers_entrypoint,
    quic::{Accepted, Listener, MAX_WRITE, Reader, Writer},
};

/// The bytes of the message behind a burst.
const TRAILER: usize = 8;

/// Channels of a kind.
const CHANNELS: usize = 8;

/// Accepts that wait side by side: enough for clients that come one after another.
const ACCEPTS: usize = 4;

/// The most bytes of one read, as the server module reads.
const READ_BYTES: u32 = 64 * 1024;

/// Bytes that wait between reading and writing; one piece may pass it.
const MAX_WAITING: usize = 256 * 1024;

/// Handshakes that may fail in a row before an accept is given up.
const MAX_FAILURES: u32 = 1_000;

/// The bytes of a burst's head, and of a number in it.
const HEAD: usize = 8;
const NUMBER: usize = 4;

numbers_entrypoint!(
    start, serve, port, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, b0,
    b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15, c0, c1, c2, c3, c4, c5, c6,
    c7, c8, c9, c10, c11, c12, c13, c14, c15
);
numbers_entrypoint!(
    source,
    pour,
    control_low,
    control_high,
    a0,
    a1,
    a2,
    a3,
    a4,
    a5,
    a6,
    a7,
    a8,
    a9,
    a10,
    a11,
    a12,
    a13,
    a14,
    a15,
    b0,
    b1,
    b2,
    b3,
    b4,
    b5,
    b6,
    b7,
    b8,
    b9,
    b10,
    b11,
    b12,
    b13,
    b14,
    b15
);
numbers_entrypoint!(
    sink, drain, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, b0, b1, b2,
    b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15
);

fn channels(words: &[i32]) -> Vec<SharedId> {
    let (pairs, _) = words.as_chunks::<2>();
    pairs
        .iter()
        .map(|[low, high]| SharedId::from_argument(wide(*low, *high)))
        .collect()
}

/// What waits between a task that reads and one that writes: both wait for the host side by side.
#[derive(Default)]
struct Pipe<T> {
    pieces: RefCell<VecDeque<T>>,
    waiting: Cell<usize>,
    ended: Cell<bool>,
    filled: Notify,
    drained: Notify,
}

impl<T: AsRef<[u8]>> Pipe<T> {
    /// Waits for room, then takes it.
    async fn push(&self, piece: T) {
        while self.waiting.get() >= MAX_WAITING {
            self.drained.notified().await;
        }
        self.waiting.set(self.waiting.get() + piece.as_ref().len());
        self.pieces.borrow_mut().push_back(piece);
        self.filled.notify();
    }

    /// The next piece; `None` at the end.
    async fn pop(&self) -> Option<T> {
        loop {
            if let Some(piece) = self.try_pop(usize::MAX) {
                return Some(piece);
            }
            if self.ended.get() {
                return None;
            }
            self.filled.notified().await;
        }
    }

    /// The next piece, if there is one of no more than `most` bytes.
    fn try_pop(&self, most: usize) -> Option<T> {
        let mut pieces = self.pieces.borrow_mut();
        let piece = pieces.pop_front_if(|piece| piece.as_ref().len() <= most)?;
        self.waiting.set(self.waiting.get() - piece.as_ref().len());
        self.drained.notify();
        Some(piece)
    }

    fn end(&self) {
        self.ended.set(true);
        self.filled.notify();
    }
}

async fn serve(words: [i32; 1 + 2 * 3 * CHANNELS]) {
    let [port, words @ ..] = words;
    let (Ok(port), channels) = (u16::try_from(port), Rc::new(channels(&words))) else {
        return;
    };
    for _ in 0..ACCEPTS {
        // One bind has to have finished before the next is sent.
        let Ok(listener) = Listener::bind("localhost", port, None).await else {
            break;
        };
        if executor::spawn(accept(listener, Rc::clone(&channels))).is_err() {
            break;
        }
    }
    core::future::pending::<()>().await;
}

async fn accept(mut listener: Listener, channels: Rc<Vec<SharedId>>) {
    let mut failures = 0;
    while failures < MAX_FAILURES {
        match listener.accept().await {
            // Past the limit of tasks the connection is dropped, which its client sees.
            Ok(accepted) => {
                failures = 0;
                let channels = Rc::clone(&channels);
                let _ = executor::spawn(async move {
                    let _ = connection(accepted, &channels).await;
                });
            }
            Err(_) => failures += 1,
        }
    }
}

async fn connection(accepted: Accepted, channels: &[SharedId]) -> Result<(), HostError> {
    let Accepted {
        mut reader, writer, ..
    } = accepted;
    let purpose = reader.read(1).await?;
    let purpose = purpose.first().copied().map_or(usize::MAX, usize::from);
    let (is_out, index) = match purpose / CHANNELS {
        0 => (true, purpose),
        1 | 2 => (false, purpose),
        _ => (true, purpose.wrapping_sub(CHANNELS)),
    };
    let channel = Channel::attach(*channels.get(index).ok_or(HostError::NotFound)?).await?;
    if is_out {
        out_of(&channel, reader, writer).await
    } else {
        into(&channel, reader, writer).await
    }
}

/// From a channel to a connection.
async fn out_of(channel: &Channel, from: Reader, mut writer: Writer) -> Result<(), HostError> {
    let pipe = Rc::new(Pipe::default());
    let mut reader = channel.strong_reader().await?;
    let filling = Rc::clone(&pipe);
    let spawned = executor::spawn(async move {
        while let Ok(frame) = reader.read(MAX_FRAME as u32).await {
            filling.push(frame.payload).await;
        }
        filling.end();
    });
    if spawned.is_err() {
        return Ok(());
    }
    let mut batch = Vec::with_capacity(MAX_WRITE);
    while let Some(piece) = pipe.pop().await {
        batch.clear();
        if piece.len() < MAX_WRITE {
            batch.extend_from_slice(&piece);
            while let Some(more) = pipe.try_pop(MAX_WRITE - batch.len()) {
                batch.extend_from_slice(&more);
            }
            writer.write(&batch).await?;
        } else {
            for part in piece.chunks(MAX_WRITE) {
                writer.write(part).await?;
            }
        }
    }
    drop(from);
    Ok(())
}

/// From a connection to a channel.
async fn into(channel: &Channel, mut reader: Reader, mut back: Writer) -> Result<(), HostError> {
    let pipe = Rc::new(Pipe::default());
    let filling = Rc::clone(&pipe);
    let spawned = executor::spawn(async move {
        while let Ok(bytes) = reader.read(READ_BYTES).await {
            if bytes.is_empty() {
                break;
            }
            filling.push(bytes).await;
        }
        filling.end();
    });
    if spawned.is_err() {
        return Ok(());
    }
    let mut writer = channel.strong_writer().await?;
    let mut cut = Cut::default();
    while let Some(mut piece) = pipe.pop().await {
        while let Some(message) = cut.next(&mut piece) {
            writer.write(&message).await?;
            if cut.left == 0 {
                writer.write(&[0; TRAILER]).await?;
                back.write(&[1]).await?;
            }
        }
    }
    Ok(())
}

/// Cuts what comes in into messages.
#[derive(Default)]
struct Cut {
    /// The beginning of a head or of a message.
    begun: BytesMut,
    /// The bytes of each of this burst's messages.
    size: usize,
    /// How many are still to come.
    left: usize,
}

impl Cut {
    /// The next message, when it is complete.
    fn next(&mut self, rest: &mut Bytes) -> Option<Bytes> {
        while self.left == 0 {
            let head = self.complete(rest, HEAD)?;
            let (numbers, _) = head.as_chunks::<NUMBER>();
            let &[size, count] = numbers else {
                return None;
            };
            (self.size, self.left) = (number(size).clamp(1, MAX_FRAME), number(count));
        }
        let message = self.complete(rest, self.size)?;
        self.left -= 1;
        Some(message)
    }

    /// `size` bytes, once they are there.
    fn complete(&mut self, rest: &mut Bytes, size: usize) -> Option<Bytes> {
        if self.begun.is_empty() && rest.len() >= size {
            return Some(rest.split_to(size));
        }
        let missing = size.saturating_sub(self.begun.len()).min(rest.len());
        self.begun.reserve(size);
        self.begun.extend_from_slice(&rest.split_to(missing));
        (self.begun.len() == size).then(|| self.begun.split().freeze())
    }
}

fn number(bytes: [u8; NUMBER]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

async fn pour(words: [i32; 2 + 2 * 2 * CHANNELS]) {
    let [low, high, words @ ..] = words;
    let control = SharedId::from_argument(wide(low, high));
    let _ = command(control, &channels(&words)).await;
    core::future::pending::<()>().await;
}

async fn command(control: SharedId, channels: &[SharedId]) -> Result<(), HostError> {
    let control = Channel::attach(control).await?;
    let mut reader = control.strong_reader().await?;
    while let Ok(frame) = reader.read(MAX_FRAME as u32).await {
        let (numbers, _) = frame.payload.as_chunks::<NUMBER>();
        let &[first, channels_wanted, size, count] = numbers else {
            continue;
        };
        let wanted = channels
            .iter()
            .skip(number(first))
            .take(number(channels_wanted));
        for channel in wanted {
            let channel = Channel::attach(*channel).await?;
            // Freed when it is done: an idle one would freeze the channel for others.
            let writer = channel.strong_writer().await?;
            let (size, count) = (number(size).clamp(TRAILER + 1, MAX_FRAME), number(count));
            let _ = executor::spawn(async move {
                let _ = burst(writer, size, count).await;
            });
        }
    }
    Ok(())
}

async fn burst(mut writer: StrongWriter, size: usize, count: usize) -> Result<(), HostError> {
    let message = vec![0x5a; size];
    for _ in 0..count {
        writer.write(&message).await?;
    }
    writer.write(&[0; TRAILER]).await
}

async fn drain(words: [i32; 2 * 2 * CHANNELS]) {
    for channel in channels(&words) {
        let _ = executor::spawn(async move {
            let Ok(channel) = Channel::attach(channel).await else {
                return;
            };
            if let Ok(mut reader) = channel.strong_reader().await {
                while reader.read(MAX_FRAME as u32).await.is_ok() {}
            }
        });
    }
    core::future::pending::<()>().await;
}
