//! What a world asks of a link between one client and the server.

use bytes::Bytes;
use selium_remote_client_protocol::Time;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The client's end.
    Client,
    /// The server's end.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// What an end reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The next bytes, never none.
    Bytes(Bytes),
    /// The other end has finished: nothing more comes.
    End,
    /// The link is gone, in both directions. Nothing more comes, and what was written may not have arrived.
    Lost(String),
}

/// An ordered stream of bytes in each direction, in virtual time: what a QUIC stream is to a driver.
///
/// A world calls [`Transport::advance`] with the time, then reads and writes at both ends until nothing moves, then
/// asks [`Transport::next`] how far the time may jump. Times that are passed in never go back.
pub trait Transport {
    /// Lets everything happen that is due by `now`.
    fn advance(&mut self, now: Time);

    /// When something happens next by itself (a packet arrives, a timer fires, a stall ends); never when `None`.
    fn next(&self) -> Option<Time>;

    /// How many bytes `side` may write now. It may write that many in one call, and fewer.
    fn writable(&self, side: Side) -> usize;

    /// Writes bytes in order and answers how many of them were taken: at most [`Transport::writable`].
    fn write(&mut self, now: Time, side: Side, bytes: &[Bytes]) -> usize;

    /// Ends what `side` writes, behind what was written.
    fn finish(&mut self, now: Time, side: Side);

    /// What `side` reads next, if it has come. [`Read::End`] and [`Read::Lost`] come once.
    fn read(&mut self, now: Time, side: Side) -> Option<Read>;

    /// Ends the link at once, as the death of `side` would.
    fn kill(&mut self, now: Time, side: Side);
}
