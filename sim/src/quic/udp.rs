//! A path for UDP packets, in virtual time.
//!
//! ```text
//! send -> MTU, partition -> queue (bytes, tail drop) -> rate -> loss -> delay, jitter, reordering -> deliver
//! ```
//!
//! What happens to a packet depends on the dice, the profile and the packets before it, and on nothing else. Every
//! packet draws the same number of numbers, whatever the profile does with them.

use core::{cmp::Reverse, time::Duration};
use std::collections::BinaryHeap;

use bytes::Bytes;
use selium_remote_client_protocol::Time;

use crate::{rng::Dice, transport::Side};

/// Bytes of the IPv4 and UDP headers: they take their time on a line too.
const HEADERS: usize = 28;

/// The UDP payload that fits Ethernet.
pub const ETHERNET_MTU: usize = 1_472;

/// The least UDP payload that a path for QUIC must carry.
pub const LEAST_MTU: usize = 1_200;

/// The least time from end to end, so that time passes.
const LEAST_DELAY: Duration = Duration::from_micros(1);

/// Bursts of loss: a good and a bad state, changed per packet (Gilbert and Elliott).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// How many packets out of a million begin a bad time.
    pub begin: u32,
    /// How many packets out of a million end one.
    pub end: u32,
    /// How many packets out of a million are lost in one.
    pub loss: u32,
}

/// What one direction does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// From end to end, when nothing waits.
    pub delay: Duration,
    /// Up to this much more, drawn for each packet. Packets keep their order.
    pub jitter: Duration,
    /// How many packets out of a million are lost.
    pub loss: u32,
    /// Loss in bursts.
    pub bursts: Option<Bursts>,
    /// How many packets out of a million are held back by up to [`Way::reorder_by`], so that others overtake them.
    pub reorder: u32,
    /// The longest that such a packet is held back.
    pub reorder_by: Duration,
    /// How many packets out of a million arrive twice.
    pub duplicate: u32,
    /// Bits per second, headers included; without a limit when `None`.
    pub rate: Option<u64>,
    /// Bytes that may wait for the line. What does not fit is dropped.
    pub queue: usize,
    /// Bytes of UDP payload of the largest packet that passes; larger ones vanish.
    pub mtu: usize,
}

impl Way {
    /// A perfect way that takes `delay`.
    #[must_use]
    pub const fn of(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0,
            bursts: None,
            reorder: 0,
            reorder_by: Duration::ZERO,
            duplicate: 0,
            rate: None,
            queue: usize::MAX,
            mtu: ETHERNET_MTU,
        }
    }
}

/// A time in which nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its begin.
    pub from: Time,
    /// Its end; for good when `None`.
    pub until: Option<Time>,
    /// What this side sends is cut; both sides when `None`.
    pub side: Option<Side>,
}

/// What a path does. Its times count from the path's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// From the client to the server.
    pub up: Way,
    /// From the server to the client.
    pub down: Way,
    /// When nothing passes.
    pub cuts: Vec<Cut>,
    /// When the MTU changes, and to what, in both directions; ordered by time.
    pub mtus: Vec<(Time, usize)>,
    /// Whether congestion marks (ECN) pass. Some paths clear them.
    pub ecn: bool,
}

impl Profile {
    /// The same in both directions.
    #[must_use]
    pub const fn symmetric(way: Way) -> Self {
        Self {
            up: way,
            down: way,
            cuts: Vec::new(),
            mtus: Vec::new(),
            ecn: true,
        }
    }

    /// A switch between two machines: 1 Gbit/s, 200 us.
    #[must_use]
    pub fn lan() -> Self {
        Self::symmetric(Way {
            jitter: Duration::from_micros(20),
            rate: Some(1_000_000_000),
            queue: 512 * 1024,
            ..Way::of(Duration::from_micros(100))
        })
    }

    /// A good connection to another country: 100 Mbit/s, 40 ms, one packet in 10,000 lost.
    #[must_use]
    pub fn wan() -> Self {
        Self::symmetric(Way {
            jitter: Duration::from_millis(1),
            loss: 100,
            reorder: 200,
            reorder_by: Duration::from_millis(2),
            rate: Some(100_000_000),
            queue: 512 * 1024,
            ..Way::of(Duration::from_millis(20))
        })
    }

    /// A phone: 5 Mbit/s up, 20 down, 60 ms and much jitter, loss in bursts, a deep queue, a smaller MTU.
    #[must_use]
    pub fn mobile() -> Self {
        let way = |rate| Way {
            jitter: Duration::from_millis(15),
            loss: 1_000,
            bursts: Some(Bursts {
                begin: 500,
                end: 100_000,
                loss: 500_000,
            }),
            reorder: 1_000,
            reorder_by: Duration::from_millis(10),
            rate: Some(rate),
            queue: 256 * 1024,
            mtu: 1_358,
            ..Way::of(Duration::from_millis(30))
        };
        Self {
            up: way(5_000_000),
            down: way(20_000_000),
            ..Self::symmetric(Way::of(Duration::ZERO))
        }
    }

    /// All of it at once: 4 percent lost, more in bursts, every tenth packet out of order, every twentieth twice,
    /// congestion marks cleared, and a cut of 2 s.
    ///
    /// A fall of the MTU is left out: with data waiting on both sides `quinn-proto` 0.11.19 may need minutes to get
    /// over one, because an end whose window of congestion is full sends no acknowledgements.
    #[must_use]
    pub fn hostile_weather() -> Self {
        let way = Way {
            jitter: Duration::from_millis(40),
            loss: 40_000,
            bursts: Some(Bursts {
                begin: 5_000,
                end: 150_000,
                loss: 800_000,
            }),
            reorder: 100_000,
            reorder_by: Duration::from_millis(60),
            duplicate: 50_000,
            rate: Some(3_000_000),
            queue: 48 * 1024,
            ..Way::of(Duration::from_millis(50))
        };
        Self {
            ecn: false,
            ..Self::symmetric(way)
        }
        .cut(Time::from_millis(3_000), Some(Time::from_millis(5_000)))
    }

    /// A line that loses nothing but what its queue does not take.
    #[must_use]
    pub fn line(bits_per_second: u64, rtt: Duration, queue: usize) -> Self {
        Self::symmetric(Way {
            rate: Some(bits_per_second.max(1)),
            queue,
            ..Way::of(rtt / 2)
        })
    }

    /// Any path on which a connection should live: the directions are drawn apart, a third of the paths is cut for a
    /// while, a third changes its MTU.
    #[must_use]
    pub fn draw(dice: &mut Dice) -> Self {
        let mut profile = Self {
            up: draw_way(dice),
            down: draw_way(dice),
            cuts: Vec::new(),
            mtus: Vec::new(),
            ecn: hits(dice, 700_000),
        };
        let cut = hits(dice, 333_333);
        let from = Time::from_millis(dice.within(0..=10_000));
        let until = from.saturating_add(Duration::from_millis(dice.within(10..=8_000)));
        let side = match dice.within(0..=5) {
            0 => Some(Side::Client),
            1 => Some(Side::Server),
            _ => None,
        };
        if cut {
            let until = Some(until);
            profile.cuts.push(Cut { from, until, side });
        }
        let changes = if hits(dice, 333_333) { 2 } else { 0 };
        let mut at = Time::ZERO;
        for _ in 0..changes {
            at = at.saturating_add(Duration::from_millis(dice.within(100..=8_000)));
            profile = profile.mtu(at, draw_size(dice, LEAST_MTU, 1_500));
        }
        profile
    }

    /// Cuts both directions from `from` until `until`, or for good.
    #[must_use]
    pub fn cut(mut self, from: Time, until: Option<Time>) -> Self {
        let side = None;
        self.cuts.push(Cut { from, until, side });
        self
    }

    /// Changes the MTU of both directions at a time that is later than the changes before.
    #[must_use]
    pub fn mtu(mut self, at: Time, bytes: usize) -> Self {
        self.mtus.push((at, bytes));
        self
    }

    fn is_cut(&self, side: Side, at: Time) -> bool {
        self.cuts.iter().any(|cut| {
            cut.side.is_none_or(|cut| cut == side)
                && cut.from <= at
                && cut.until.is_none_or(|until| at < until)
        })
    }
}

fn draw_size(dice: &mut Dice, low: usize, high: usize) -> usize {
    usize::try_from(dice.within(low as u64..=high as u64)).unwrap_or(low)
}

/// A number whose size is even on a logarithmic scale: small ones are as likely as large ones.
fn draw_scale(dice: &mut Dice, low: u64, high: u64) -> u64 {
    let doublings = u64::from((high / low.max(1)).max(1).ilog2());
    let base = low << dice.within(0..=doublings);
    dice.within(base..=base.saturating_mul(2)).clamp(low, high)
}

fn draw_way(dice: &mut Dice) -> Way {
    let micros = |dice: &mut Dice, low, high| Duration::from_micros(draw_scale(dice, low, high));
    let some = |dice: &mut Dice, ppm: u32, value: u32| if hits(dice, ppm) { value } else { 0 };
    let delay = micros(dice, 50, 150_000);
    let jitter = micros(dice, 10, 50_000);
    let lossy = u32::try_from(draw_scale(dice, 50, 50_000)).unwrap_or_default();
    let reorder = u32::try_from(draw_scale(dice, 100, 100_000)).unwrap_or_default();
    let duplicate = u32::try_from(draw_scale(dice, 100, 50_000)).unwrap_or_default();
    let bursts = Bursts {
        begin: u32::try_from(dice.within(100..=5_000)).unwrap_or_default(),
        end: u32::try_from(dice.within(50_000..=500_000)).unwrap_or_default(),
        loss: u32::try_from(dice.within(200_000..=1_000_000)).unwrap_or_default(),
    };
    let rate = draw_scale(dice, 500_000, 1_000_000_000);
    let queue = draw_size(dice, 16 * 1024, 512 * 1024);
    Way {
        delay,
        jitter,
        loss: some(dice, 600_000, lossy),
        bursts: hits(dice, 300_000).then_some(bursts),
        reorder: some(dice, 500_000, reorder),
        reorder_by: micros(dice, 100, 100_000),
        duplicate: some(dice, 300_000, duplicate),
        rate: hits(dice, 700_000).then_some(rate),
        queue,
        mtu: draw_size(dice, 1_252, 1_500),
    }
}

/// A packet on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub from: Side,
    /// Its UDP payload.
    pub payload: Bytes,
    /// Its congestion mark: the two bits of the IP header.
    pub ecn: u8,
}

/// What became of one direction's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Packets that were sent.
    pub sent: u64,
    /// Their bytes of UDP payload.
    pub sent_bytes: u64,
    /// Packets that arrived, copies included.
    pub delivered: u64,
    /// Packets that were lost on the way.
    pub lost: u64,
    /// Packets that the queue did not take.
    pub overflowed: u64,
    /// Packets that were larger than the MTU.
    pub too_large: u64,
    /// Packets that ran into a cut.
    pub cut: u64,
    /// Packets that were doubled.
    pub doubled: u64,
    /// Packets that were held back.
    pub held: u64,
}

#[derive(Debug)]
struct InFlight {
    at: Time,
    number: u64,
    packet: Packet,
}

impl InFlight {
    const fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for InFlight {}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    way: Way,
    dice: Dice,
    /// When the line has sent all that waits.
    free: Time,
    /// When the last packet that keeps its order arrives.
    last: Time,
    bad: bool,
    counts: Counts,
}

/// What the line does with a packet.
enum Fate {
    Dropped,
    Arrives { at: Time, again: Option<Time> },
}

impl Lane {
    fn new(way: Way, dice: Dice) -> Self {
        Self {
            way,
            dice,
            free: Time::ZERO,
            last: Time::ZERO,
            bad: false,
            counts: Counts::default(),
        }
    }

    fn hits(&mut self, ppm: u32) -> bool {
        hits(&mut self.dice, ppm)
    }

    fn fate(&mut self, now: Time, size: usize, mtu: usize, cut: bool) -> Fate {
        // Drawn first and always, so that a packet's fate does not shift those of the packets behind it.
        let lost = self.hits(self.way.loss);
        let bursts = self.way.bursts.unwrap_or(Bursts {
            begin: 0,
            end: 1_000_000,
            loss: 0,
        });
        let turns = self.hits(if self.bad { bursts.end } else { bursts.begin });
        self.bad ^= turns;
        let lost_in_burst = self.hits(bursts.loss) && self.bad;
        let jitter = draw_up_to(&mut self.dice, self.way.jitter);
        let held = self.hits(self.way.reorder);
        let held_by = draw_up_to(&mut self.dice, self.way.reorder_by);
        let doubled = self.hits(self.way.duplicate);
        let doubled_by = draw_up_to(&mut self.dice, self.way.reorder_by.max(self.way.jitter));

        self.counts.sent += 1;
        self.counts.sent_bytes += size as u64;
        if size > mtu {
            self.counts.too_large += 1;
            return Fate::Dropped;
        }
        if cut {
            self.counts.cut += 1;
            return Fate::Dropped;
        }
        let departs = match self.way.rate {
            None => now,
            Some(rate) => {
                let waits = self.free.saturating_since(now);
                let waiting = bytes_in(waits, rate);
                let size = (size + HEADERS) as u64;
                if waiting.saturating_add(size) > self.way.queue as u64 {
                    self.counts.overflowed += 1;
                    return Fate::Dropped;
                }
                self.free = now.max(self.free).saturating_add(time_of(size, rate));
                self.free
            }
        };
        if lost || lost_in_burst {
            self.counts.lost += 1;
            return Fate::Dropped;
        }
        let arrives = departs.saturating_add((self.way.delay + jitter).max(LEAST_DELAY));
        let at = if held {
            self.counts.held += 1;
            arrives.saturating_add(held_by)
        } else {
            self.last = self.last.max(arrives);
            self.last
        };
        self.counts.doubled += u64::from(doubled);
        let again = doubled.then(|| at.saturating_add(doubled_by));
        Fate::Arrives { at, again }
    }
}

/// True `ppm` times out of a million.
fn hits(dice: &mut Dice, ppm: u32) -> bool {
    dice.below(1_000_000) < u64::from(ppm)
}

fn draw_up_to(dice: &mut Dice, most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(dice.within(0..=nanos))
}

fn bytes_in(time: Duration, bits_per_second: u64) -> u64 {
    let bits = time.as_nanos() * u128::from(bits_per_second) / 1_000_000_000;
    u64::try_from(bits / 8).unwrap_or(u64::MAX)
}

fn time_of(bytes: u64, bits_per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(bits_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A path between a client and a server.
#[derive(Debug)]
pub struct Path {
    up: Lane,
    down: Lane,
    profile: Profile,
    flying: BinaryHeap<Reverse<InFlight>>,
    numbers: u64,
    fingerprint: u64,
}

impl Path {
    /// A path that begins at `now` and does what `profile` says and `dice` draw.
    #[must_use]
    pub fn new(now: Time, dice: &Dice, profile: Profile) -> Self {
        let from_now = |time: Time| now.saturating_add(time.since_origin());
        let mut cuts = profile.cuts.clone();
        for cut in &mut cuts {
            cut.from = from_now(cut.from);
            cut.until = cut.until.map(from_now);
        }
        let mtus = profile.mtus.iter();
        let mtus = mtus.map(|(at, mtu)| (from_now(*at), *mtu)).collect();
        Self {
            up: Lane::new(profile.up, dice.fork("up")),
            down: Lane::new(profile.down, dice.fork("down")),
            profile: Profile {
                cuts,
                mtus,
                ..profile
            },
            flying: BinaryHeap::new(),
            numbers: 0,
            fingerprint: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Takes a packet.
    pub fn send(&mut self, now: Time, packet: Packet) {
        let size = packet.payload.len();
        self.mark(now, packet.from, size, 0);
        let mtu = self.mtu(packet.from, now);
        let cut = self.profile.is_cut(packet.from, now);
        let lane = self.lane(packet.from);
        if let Fate::Arrives { at, again } = lane.fate(now, size, mtu, cut) {
            let ecn = if self.profile.ecn { packet.ecn } else { 0 };
            let packet = Packet { ecn, ..packet };
            if let Some(again) = again {
                self.fly(again, packet.clone());
            }
            self.fly(at, packet);
        }
    }

    /// When the next packet arrives.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.flying.peek().map(|Reverse(next)| next.at)
    }

    /// The next packet that has arrived by `now`, and when it did.
    pub fn deliver(&mut self, now: Time) -> Option<(Time, Packet)> {
        while self.next().is_some_and(|next| next <= now) {
            let Reverse(InFlight { at, packet, .. }) = self.flying.pop()?;
            let cut = self.profile.is_cut(packet.from, at);
            let lane = self.lane(packet.from);
            if cut {
                lane.counts.cut += 1;
                continue;
            }
            lane.counts.delivered += 1;
            self.mark(at, packet.from, packet.payload.len(), 1);
            return Some((at, packet));
        }
        None
    }

    /// Cuts both directions from `from` until `until`, or for good.
    pub fn cut(&mut self, from: Time, until: Option<Time>) {
        let side = None;
        self.profile.cuts.push(Cut { from, until, side });
    }

    /// Changes the MTU of both directions from `at` on.
    pub fn set_mtu(&mut self, at: Time, bytes: usize) {
        self.profile.mtus.push((at, bytes));
    }

    /// What became of the packets that `side` sent.
    #[must_use]
    pub fn counts(&self, side: Side) -> Counts {
        match side {
            Side::Client => self.up.counts,
            Side::Server => self.down.counts,
        }
    }

    /// A hash over the time, direction and size of every packet that was sent or arrived so far.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        }
    }

    fn mtu(&self, side: Side, now: Time) -> usize {
        let mut changes = self.profile.mtus.iter().filter(|(at, _)| *at <= now);
        let own = match side {
            Side::Client => self.up.way.mtu,
            Side::Server => self.down.way.mtu,
        };
        changes.next_back().map_or(own, |(_, mtu)| *mtu)
    }

    fn fly(&mut self, at: Time, packet: Packet) {
        self.numbers += 1;
        self.flying.push(Reverse(InFlight {
            at,
            number: self.numbers,
            packet,
        }));
    }

    /// FNV-1a.
    fn mark(&mut self, at: Time, side: Side, size: usize, what: u8) {
        let nanos = at.since_origin().as_nanos().to_le_bytes();
        let size = (size as u64).to_le_bytes();
        for byte in nanos.into_iter().chain(size).chain([side as u8, what]) {
            self.fingerprint =
                (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: Side, size: usize) -> Packet {
        Packet {
            from,
            payload: vec![7; size].into(),
            ecn: 2,
        }
    }

    /// Sends `count` packets of 1,000 bytes, one per millisecond; answers the arrivals.
    fn run(profile: Profile, count: u64) -> (Path, Vec<Time>) {
        let mut path = Path::new(Time::ZERO, &Dice::new(1), profile);
        for ms in 0..count {
            path.send(Time::from_millis(ms), packet(Side::Client, 1_000));
        }
        let far = Time::from_millis(1_000_000);
        let arrivals = core::iter::from_fn(|| path.deliver(far)).map(|(at, _)| at);
        let arrivals = arrivals.collect();
        (path, arrivals)
    }

    #[test]
    fn a_perfect_way_takes_its_delay() {
        let (path, arrivals) = run(Profile::symmetric(Way::of(Duration::from_millis(7))), 3);
        assert_eq!(arrivals, [7, 8, 9].map(Time::from_millis));
        assert_eq!(path.counts(Side::Client).delivered, 3);
        assert_eq!(path.counts(Side::Server), Counts::default());
    }

    #[test]
    fn loss_copies_and_reordering_are_as_frequent_as_stated() {
        let way = Way {
            loss: 100_000,
            duplicate: 200_000,
            reorder: 300_000,
            reorder_by: Duration::from_millis(20),
            ..Way::of(Duration::from_millis(1))
        };
        let (path, _) = run(Profile::symmetric(way), 10_000);
        let counts = path.counts(Side::Client);
        assert!((900..1_100).contains(&counts.lost), "{counts:?}");
        assert!((1_700..1_900).contains(&counts.doubled), "{counts:?}");
        assert!((2_550..2_850).contains(&counts.held), "{counts:?}");
        assert_eq!(
            counts.delivered,
            counts.sent - counts.lost + counts.doubled,
            "{counts:?}"
        );
    }

    #[test]
    fn jitter_keeps_the_order_and_holding_back_does_not() {
        let jittery = Way {
            jitter: Duration::from_millis(50),
            ..Way::of(Duration::from_millis(1))
        };
        // Each packet has its own size: the order shows.
        let order = |way| {
            let mut path = Path::new(Time::ZERO, &Dice::new(3), Profile::symmetric(way));
            for ms in 0..500 {
                path.send(Time::from_millis(ms), packet(Side::Server, 1 + ms as usize));
            }
            core::iter::from_fn(|| path.deliver(Time::from_millis(10_000)))
                .map(|(_, packet)| packet.payload.len())
                .collect::<Vec<_>>()
        };
        assert!(order(jittery).is_sorted());
        let held = Way {
            reorder: 100_000,
            reorder_by: Duration::from_millis(50),
            ..jittery
        };
        assert!(!order(held).is_sorted());
    }

    #[test]
    fn bursts_lose_neighbours() {
        let bursty = Way {
            bursts: Some(Bursts {
                begin: 10_000,
                end: 100_000,
                loss: 1_000_000,
            }),
            ..Way::of(Duration::from_millis(1))
        };
        let (path, arrivals) = run(Profile::symmetric(bursty), 10_000);
        let lost = path.counts(Side::Client).lost;
        assert!((500..1_500).contains(&lost), "{lost}");
        let gaps = arrivals.windows(2).filter(|pair| {
            let between = pair[1].saturating_since(pair[0]);
            between > Duration::from_millis(1)
        });
        let gaps = gaps.count() as u64;
        assert!(gaps * 5 < lost, "{lost} lost in {gaps} places");
    }

    #[test]
    fn a_line_has_a_rate_and_drops_the_tail() {
        // 1,028 bytes at 1 Mbit/s take 8.224 ms; 4 of them fit the queue.
        let profile = Profile::line(1_000_000, Duration::from_millis(10), 4_112);
        let mut path = Path::new(Time::ZERO, &Dice::new(1), profile);
        for _ in 0..10 {
            path.send(Time::ZERO, packet(Side::Client, 1_000));
        }
        let arrivals: Vec<u128> = core::iter::from_fn(|| path.deliver(Time::from_millis(1_000)))
            .map(|(at, _)| at.since_origin().as_micros())
            .collect();
        assert_eq!(arrivals, [13_224, 21_448, 29_672, 37_896]);
        assert_eq!(path.counts(Side::Client).overflowed, 6);
        // Empty again.
        path.send(Time::from_millis(1_000), packet(Side::Client, 1_000));
        let (at, _) = path.deliver(Time::from_millis(2_000)).unwrap();
        assert_eq!(at.since_origin().as_micros(), 1_013_224);
    }

    #[test]
    fn cuts_and_mtus_have_their_times() {
        let ms = Time::from_millis;
        let profile = Profile::symmetric(Way::of(Duration::from_millis(10)))
            .cut(ms(100), Some(ms(200)))
            .mtu(ms(500), 999);
        let (path, arrivals) = run(profile, 600);
        let counts = path.counts(Side::Client);
        // Sent in the cut, or on the way when it began.
        assert_eq!((counts.cut, counts.too_large), (110, 100));
        assert!(!arrivals.iter().any(|at| (ms(100)..ms(210)).contains(at)));
        assert_eq!(arrivals.last(), Some(&ms(509)));
    }

    #[test]
    fn one_seed_is_one_history() {
        for seed in 0..50 {
            let run = |seed| {
                let dice = Dice::new(seed);
                let profile = Profile::draw(&mut dice.fork("profile"));
                let mut path = Path::new(Time::ZERO, &dice, profile);
                for ms in 0..200 {
                    path.send(Time::from_millis(ms), packet(Side::Client, 1_200));
                    while path.deliver(Time::from_millis(ms)).is_some() {}
                }
                path.fingerprint()
            };
            assert_eq!(run(seed), run(seed));
            assert_ne!(run(seed), run(seed + 1_000));
        }
    }
}
