//! Byte pipes that misbehave: they split, delay, stall, limit and cut, as a profile and a seed say.
//!
//! Each direction is a queue of pieces with the times at which they arrive, in order. What was written and not read yet
//! counts against the capacity, so that a reader that does not read stops the writer.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use selium_remote_client_protocol::Time;

use crate::{
    rng::Dice,
    transport::{Read, Side, Transport},
};

/// After how long silence a link that is stalled for good counts as lost: the idle timeout of the runtime.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How written bytes are split into what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Not at all.
    Whole,
    /// Into pieces of at most so many bytes.
    UpTo(usize),
    /// Byte by byte for the first so many bytes, then into pieces of any size up to a few thousand.
    Bytes(u64),
}

/// How a direction that is cut ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The reader sees the end; the other direction goes on.
    End,
    /// The whole link is lost.
    Lost,
}

/// What one direction does.
#[derive(Clone, Debug)]
pub struct WayProfile {
    /// How what is written is split.
    pub split: Split,
    /// How long bytes travel: at least, at most.
    pub delay: (Duration, Duration),
    /// The most bytes that are written and not read.
    pub capacity: usize,
    /// The most bytes that are taken by one write.
    pub write: usize,
    /// Bytes a second; no limit when 0.
    pub rate: u64,
    /// Times in which nothing arrives; for good when there is no end.
    pub stalls: Vec<(Time, Option<Time>)>,
    /// After how many bytes it is cut, and how.
    pub cut: Option<(u64, Cut)>,
}

impl WayProfile {
    /// A direction without faults: 5 ms, whole writes.
    #[must_use]
    pub fn clean() -> Self {
        let delay = Duration::from_millis(5);
        Self {
            split: Split::Whole,
            delay: (delay, delay),
            capacity: 64 * 1024,
            write: usize::MAX,
            rate: 0,
            stalls: Vec::new(),
            cut: None,
        }
    }

    /// What is drawn for a link that is made at `now`. A calm one delays and splits, and does nothing worse.
    #[must_use]
    pub fn draw(dice: &mut Dice, now: Time, calm: bool) -> Self {
        let mut way = Self::clean();
        way.split = match dice.below(10) {
            0..=3 => Split::Whole,
            4 | 5 => Split::UpTo(dice.size(1_000..=20_000)),
            6 | 7 => Split::UpTo(dice.size(40..=400)),
            _ => Split::Bytes(dice.within(20..=600)),
        };
        let least = dice.millis(0..=40);
        let spread = dice.pick_or(&[0, 0, 5, 50], 0);
        way.delay = (least, least + dice.millis(0..=spread));
        if calm {
            return way;
        }
        if dice.chance(30) {
            way.capacity = dice.pick_or(&[64, 1_000, 4_000, 20_000], 4_000);
            // What is on the way counts: a small capacity and a long way would be a rate that takes hours.
            if way.capacity < 4_000 {
                way.delay = (Duration::ZERO, Duration::ZERO);
            }
        }
        if dice.chance(25) {
            way.write = dice.pick_or(&[1, 10, 1_000], 100).max(3);
        }
        if dice.chance(25) {
            way.rate = dice.within(20_000..=200_000);
        }
        if dice.chance(30) {
            let from = now.saturating_add(dice.millis(0..=8_000));
            let until = from.saturating_add(dice.millis(50..=12_000));
            let good = dice.chance(20);
            way.stalls.push((from, (!good).then_some(until)));
        }
        if dice.chance(20) {
            let most = dice.pick_or(&[60, 300, 3_000, 60_000], 300);
            let how = if dice.chance(50) { Cut::End } else { Cut::Lost };
            way.cut = Some((dice.within(0..=most), how));
        }
        way
    }
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
    Lost(&'static str),
}

#[derive(Debug)]
struct Way {
    profile: WayProfile,
    dice: Dice,
    queue: VecDeque<(Time, Piece)>,
    /// Bytes in `queue`.
    queued: usize,
    /// Bytes that were taken in all.
    taken: u64,
    /// When the last piece arrives.
    last: Time,
    /// When the direction has carried everything so far, if it has a rate.
    free: Time,
    /// Nothing more is taken: it was finished, cut or lost.
    over: bool,
    /// Whether its cut has happened.
    cut: Option<Cut>,
    /// Something has run into a stall without an end: nothing comes behind it.
    stuck: bool,
}

impl Way {
    fn new(profile: WayProfile, dice: Dice) -> Self {
        Self {
            profile,
            dice,
            queue: VecDeque::new(),
            queued: 0,
            taken: 0,
            last: Time::ZERO,
            free: Time::ZERO,
            over: false,
            cut: None,
            stuck: false,
        }
    }

    fn writable(&self) -> usize {
        self.profile.capacity.saturating_sub(self.queued)
    }

    /// When something that is sent now arrives; never behind a stall that has no end.
    fn arrival(&mut self, now: Time, bytes: usize) -> Option<Time> {
        let (least, most) = self.profile.delay;
        let spread = most.saturating_sub(least).as_micros();
        let more = self.dice.below(u64::try_from(spread).unwrap_or(0) + 1);
        let mut at = now;
        let micros = (bytes as u64).saturating_mul(1_000_000);
        if let Some(takes) = micros.checked_div(self.profile.rate) {
            self.free = self
                .free
                .max(now)
                .saturating_add(Duration::from_micros(takes));
            at = self.free;
        }
        let mut at = at
            .saturating_add(least)
            .saturating_add(Duration::from_micros(more))
            .max(self.last);
        for (from, until) in &self.profile.stalls {
            if at >= *from && until.is_none_or(|until| at < until) {
                match until {
                    Some(until) => at = *until,
                    None => self.stuck = true,
                }
            }
        }
        if self.stuck {
            return None;
        }
        self.last = at;
        Some(at)
    }

    fn put(&mut self, at: Time, piece: Piece) {
        if let Piece::Bytes(bytes) = &piece {
            self.queued += bytes.len();
        }
        self.queue.push_back((at, piece));
    }

    /// Takes bytes; answers how many.
    fn write(&mut self, now: Time, parts: &[Bytes]) -> usize {
        let most = self.writable().min(self.profile.write);
        let mut taken = 0;
        for part in parts {
            let mut rest = part.slice(..part.len().min(most - taken));
            taken += rest.len();
            while !rest.is_empty() && !self.over {
                let left = self.profile.cut.map(|(after, _)| after - self.taken);
                let len = match self.profile.split {
                    Split::Whole => rest.len(),
                    Split::UpTo(most) => self.dice.size(1..=most),
                    Split::Bytes(first) if self.taken < first => 1,
                    Split::Bytes(_) => self.dice.size(1..=4_000),
                };
                let len = len.min(rest.len());
                let len = left.map_or(len, |left| {
                    len.min(usize::try_from(left).unwrap_or(usize::MAX))
                });
                let piece = rest.split_to(len);
                self.taken += len as u64;
                if !piece.is_empty() {
                    match self.arrival(now, len) {
                        Some(at) => self.put(at, Piece::Bytes(piece)),
                        // A stall for good: it stays on the way, and in the way.
                        None => self.queued += len,
                    }
                }
                if let Some((after, how)) = self.profile.cut
                    && self.taken >= after
                {
                    self.cut = Some(how);
                    self.over = true;
                    match (how, self.arrival(now, 0)) {
                        (Cut::End, Some(at)) => self.put(at, Piece::End),
                        (Cut::End, None) => {}
                        (Cut::Lost, at) => {
                            let at = at.unwrap_or(now.saturating_add(IDLE_TIMEOUT));
                            self.put(at, Piece::Lost("cut"));
                        }
                    }
                }
            }
            if taken == most {
                break;
            }
        }
        taken
    }

    fn finish(&mut self, now: Time) {
        if core::mem::replace(&mut self.over, true) {
            return;
        }
        if let Some(at) = self.arrival(now, 0) {
            self.put(at, Piece::End);
        }
    }

    /// Tells the reader, behind nothing, that the link is gone.
    fn lose(&mut self, now: Time, why: &'static str) {
        self.over = true;
        self.queue
            .retain(|(at, piece)| *at <= now || matches!(piece, Piece::Lost(_)));
        let at = match self.arrival(now, 0) {
            Some(at) => at,
            None => now.saturating_add(IDLE_TIMEOUT),
        };
        self.put(at, Piece::Lost(why));
    }

    fn read(&mut self, now: Time) -> Option<Read> {
        let (_, piece) = self.queue.pop_front_if(|(at, _)| *at <= now)?;
        Some(match piece {
            Piece::Bytes(bytes) => {
                self.queued = self.queued.saturating_sub(bytes.len());
                Read::Bytes(bytes)
            }
            Piece::End => Read::End,
            Piece::Lost(why) => {
                self.queue.clear();
                Read::Lost(why.to_owned())
            }
        })
    }

    /// When the next piece arrives, if none waits to be read.
    fn next(&self, now: Time) -> Option<Time> {
        self.queue.front().map(|(at, _)| *at).filter(|at| *at > now)
    }
}

/// A link of two such directions.
#[derive(Debug)]
pub struct Pipe {
    to_server: Way,
    to_client: Way,
    now: Time,
    /// The link is lost; both ends know or will know.
    lost: bool,
}

impl Pipe {
    /// A link of these directions.
    #[must_use]
    pub fn new(dice: &Dice, to_server: WayProfile, to_client: WayProfile) -> Self {
        Self {
            to_server: Way::new(to_server, dice.fork("to server")),
            to_client: Way::new(to_client, dice.fork("to client")),
            now: Time::ZERO,
            lost: false,
        }
    }

    fn outgoing(&mut self, side: Side) -> &mut Way {
        match side {
            Side::Client => &mut self.to_server,
            Side::Server => &mut self.to_client,
        }
    }

    fn incoming(&mut self, side: Side) -> &mut Way {
        self.outgoing(side.other())
    }
}

impl Transport for Pipe {
    fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    fn next(&self) -> Option<Time> {
        let ways = [&self.to_server, &self.to_client];
        ways.into_iter().filter_map(|way| way.next(self.now)).min()
    }

    fn writable(&self, side: Side) -> usize {
        match side {
            Side::Client => self.to_server.writable(),
            Side::Server => self.to_client.writable(),
        }
    }

    fn write(&mut self, now: Time, side: Side, bytes: &[Bytes]) -> usize {
        let way = self.outgoing(side);
        if way.over {
            // Nobody tells the writer that nobody reads; what it writes goes nowhere.
            return bytes
                .iter()
                .map(Bytes::len)
                .sum::<usize>()
                .min(way.writable());
        }
        let taken = way.write(now, bytes);
        if way.cut == Some(Cut::Lost) && !self.lost {
            self.lost = true;
            self.incoming(side).lose(now, "cut");
        }
        taken
    }

    fn finish(&mut self, now: Time, side: Side) {
        self.outgoing(side).finish(now);
    }

    fn read(&mut self, now: Time, side: Side) -> Option<Read> {
        self.incoming(side).read(now)
    }

    fn kill(&mut self, now: Time, side: Side) {
        if core::mem::replace(&mut self.lost, true) {
            return;
        }
        self.outgoing(side).lose(now, "killed");
        let own = self.incoming(side);
        own.over = true;
        own.queue.clear();
        own.queue.push_back((now, Piece::Lost("killed")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pipe: &mut Pipe, side: Side, until: Time) -> (Vec<u8>, Option<Read>, usize) {
        let (mut all, mut pieces, mut now) = (Vec::new(), 0, Time::ZERO);
        loop {
            pipe.advance(now);
            while let Some(read) = pipe.read(now, side) {
                match read {
                    Read::Bytes(bytes) => all.extend_from_slice(&bytes),
                    end => return (all, Some(end), pieces),
                }
                pieces += 1;
            }
            match pipe.next() {
                Some(next) if next <= until => now = next,
                _ => return (all, None, pieces),
            }
        }
    }

    const LATE: Time = Time::from_millis(600_000);

    #[test]
    fn bytes_arrive_in_order_however_they_are_split() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let mut way = WayProfile::draw(&mut dice, Time::ZERO, false);
            way.stalls.retain(|(_, until)| until.is_some());
            way.cut = None;
            way.capacity = 1 << 20;
            let mut pipe = Pipe::new(&dice, way, WayProfile::clean());
            let sent: Vec<u8> = (0..5_000u32).map(|n| (n % 251) as u8).collect();
            let mut rest = Bytes::from(sent.clone());
            while !rest.is_empty() {
                let taken = pipe.write(Time::ZERO, Side::Client, &[rest.clone()]);
                assert!(taken > 0);
                let _ = rest.split_to(taken);
            }
            pipe.finish(Time::ZERO, Side::Client);
            let (got, end, _) = text(&mut pipe, Side::Server, LATE);
            assert_eq!(got, sent, "seed {seed}");
            assert_eq!(end, Some(Read::End));
        }
    }

    #[test]
    fn a_cut_ends_after_exactly_so_many_bytes() {
        for (how, end) in [
            (Cut::End, Read::End),
            (Cut::Lost, Read::Lost("cut".to_owned())),
        ] {
            let mut way = WayProfile::clean();
            way.cut = Some((7, how));
            let mut pipe = Pipe::new(&Dice::new(1), way, WayProfile::clean());
            pipe.write(
                Time::ZERO,
                Side::Client,
                &[Bytes::from_static(b"0123456789")],
            );
            let (got, seen, _) = text(&mut pipe, Side::Server, LATE);
            assert_eq!((&got[..], seen), (&b"0123456"[..], Some(end)));
            pipe.advance(LATE);
            let other = pipe.read(LATE, Side::Client);
            assert_eq!(other.is_some(), how == Cut::Lost);
        }
    }

    #[test]
    fn single_bytes_stalls_and_capacity() {
        let mut way = WayProfile::clean();
        way.split = Split::Bytes(100);
        way.capacity = 4;
        way.stalls = vec![(Time::ZERO, Some(Time::from_millis(900)))];
        let mut pipe = Pipe::new(&Dice::new(1), way, WayProfile::clean());
        let bytes = [Bytes::from_static(b"01"), Bytes::from_static(b"23456789")];
        assert_eq!(pipe.write(Time::ZERO, Side::Client, &bytes), 4);
        assert_eq!(pipe.writable(Side::Client), 0);
        assert_eq!(pipe.next(), Some(Time::from_millis(900)));
        let (got, end, pieces) = text(&mut pipe, Side::Server, LATE);
        assert_eq!((&got[..], end, pieces), (&b"0123"[..], None, 4));
        assert_eq!(pipe.writable(Side::Client), 4);
    }

    #[test]
    fn a_death_is_seen_at_both_ends() {
        let mut way = WayProfile::clean();
        way.stalls = vec![(Time::ZERO, None)];
        let mut pipe = Pipe::new(&Dice::new(1), way, WayProfile::clean());
        pipe.write(Time::ZERO, Side::Client, &[Bytes::from_static(b"never")]);
        assert_eq!(pipe.next(), None);
        pipe.kill(Time::ZERO, Side::Client);
        assert_eq!(
            pipe.next(),
            Some(Time::ZERO.saturating_add(IDLE_TIMEOUT)),
            "only the idle timeout tells, as for QUIC"
        );
        let (got, end, _) = text(&mut pipe, Side::Server, LATE);
        assert_eq!(got, b"");
        assert_eq!(end, Some(Read::Lost("killed".to_owned())));
        assert!(matches!(
            text(&mut pipe, Side::Client, LATE).1,
            Some(Read::Lost(_))
        ));
    }
}
