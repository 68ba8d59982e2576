//! Messages through channels, ours and next to them the pump guest's: both ends of everything, set up.
//!
//! ```text
//!   subscribe   source guest ──► channel ──► server module ──► client         source guest ──► channel ──► pump guest ──► quinn
//!   publish     client ──► server module ──► channel ──► sink guest           quinn ──► pump guest ──► channel ──► sink guest
//!   both        client ──► server module ──► channel ──► server module ──► client      quinn ──► pump ──► channel ──► pump ──► quinn
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use selium_remote_client::{
    Channel, Client, Process, Publisher, SubscribeItem, SubscribeOptions, Subscriber,
};
use tokio::time::{sleep, timeout};
use xtask::runtime::free_port;

use crate::cpu::Cpu;
use crate::guests;
use crate::raw::{Dialer, Wire};
use crate::site::Site;

/// How many channels each flow has; `guests/pump` is built for as many.
pub(super) const CHANNELS: usize = 8;

/// The bytes that a channel holds: the longest message.
const CAPACITY: u32 = 1024 * 1024;

/// The bytes of the message that the pump guest and its source write behind each burst.
const TRAILER: usize = 8;

/// What the first byte of a connection to the pump guest says, to which the channel's index is added.
const OUT: u8 = 0;
const IN: u8 = 8;
const BOTH_IN: u8 = 16;
const BOTH_OUT: u8 = 24;

/// The most bytes of one write to the pump guest; a longer message is written as it is.
const WRITE_BYTES: usize = 64 * 1024;

/// How long one slice may take before the bench counts as broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the pump guest may take until it listens.
const LISTENS: Duration = Duration::from_secs(30);

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Subscribe,
    Publish,
    Both,
}

/// Whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Side {
    Ours,
    Pump,
}

/// A slice: so many messages of one size on each of so many channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) flow: Flow,
    pub(super) size: usize,
    pub(super) channels: usize,
    pub(super) each: usize,
}

impl Work {
    fn message(self) -> Bytes {
        vec![0x5a; self.size].into()
    }
}

/// What a slice took.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    pub(super) messages: usize,
    pub(super) wall: Duration,
    pub(super) cpu: Cpu,
    /// Of each message, when they went one after another.
    pub(super) latencies: Vec<Duration>,
}

impl Transfer {
    /// Messages a second.
    pub(super) fn rate(&self) -> f64 {
        self.messages as f64 / self.wall.as_secs_f64()
    }
}

/// A publication and a subscription to one channel of ours, or two connections to the pump guest.
struct Pair<In, Out> {
    into: In,
    out: Out,
}

/// Everything, set up.
pub(super) struct Flows {
    runtime: u32,
    control: Publisher,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    both: Vec<Pair<Publisher, Subscriber>>,
    pump_out: Vec<Out>,
    pump_in: Vec<In>,
    pump_both: Vec<Pair<In, Out>>,
}

/// A connection that the pump guest writes a channel to.
struct Out {
    wire: Wire,
    received: u64,
    expected: u64,
}

/// A connection that the pump guest reads into a channel.
struct In {
    wire: Wire,
    /// Bursts that it has not acknowledged.
    bursts: usize,
}

impl Flows {
    /// Makes the channels, starts the guests and connects to them.
    pub(super) async fn new(site: &Site) -> Result<Self> {
        let client = site.client().await?;
        // What goes out and what comes in has a connection each, as the pump guest's.
        let (reads, writes) = (site.client().await?, site.client().await?);
        let channels =
            async || try_join_all((0..CHANNELS).map(|_| Channel::create(&client, CAPACITY))).await;
        let (sourced, pumped_out) = (channels().await?, channels().await?);
        let (sunk, pumped_in) = (channels().await?, channels().await?);
        let (both, pumped_both) = (channels().await?, channels().await?);
        let control = Channel::create(&client, 64 * 1024).await?;
        let port = free_port()?;
        let started = [
            guests::source(&control, sourced.iter().chain(&pumped_out)),
            guests::sink(sunk.iter().chain(&pumped_in)),
            guests::pump(
                port,
                pumped_out.iter().chain(&pumped_in).chain(&pumped_both),
            ),
        ];
        for guest in started {
            Process::start(&client, guest).await?;
        }
        // A socket each: many connections in one lose packets for want of room in it.
        let certs = site.certs();
        let wire = async |first: u8, index: usize| {
            pump_wire(&Dialer::new(&certs, port)?, first, index).await
        };
        let mut flows = Self {
            runtime: site.pid(),
            control: control.publish().await?,
            subscribers: subscribe(&reads, &sourced).await?,
            publishers: publish(&writes, &sunk).await?,
            both: Vec::new(),
            pump_out: Vec::new(),
            pump_in: Vec::new(),
            pump_both: Vec::new(),
        };
        let (into, out) = (
            publish(&writes, &both).await?,
            subscribe(&reads, &both).await?,
        );
        for (into, out) in into.into_iter().zip(out) {
            flows.both.push(Pair { into, out });
        }
        for index in 0..CHANNELS {
            flows.pump_out.push(Out::new(wire(OUT, index).await?));
            flows.pump_in.push(In::new(wire(IN, index).await?));
            let out = Out::new(wire(BOTH_OUT, index).await?);
            let into = In::new(wire(BOTH_IN, index).await?);
            flows.pump_both.push(Pair { into, out });
        }
        Ok(flows)
    }

    /// Carries the messages.
    pub(super) async fn run(&mut self, work: Work, side: Side) -> Result<Transfer> {
        let before = Cpu::of(self.runtime)?;
        let begun = Instant::now();
        timeout(PATIENCE, self.carry(work, side))
            .await
            .with_context(|| format!("{side:?} did not end: {work:?}"))??;
        Ok(Transfer {
            messages: work.each * work.channels,
            wall: begun.elapsed(),
            cpu: Cpu::of(self.runtime)?.since(before),
            latencies: Vec::new(),
        })
    }

    async fn carry(&mut self, work: Work, side: Side) -> Result<()> {
        let Work { channels, .. } = work;
        match (work.flow, side) {
            (Flow::Subscribe, Side::Ours) => {
                command(&mut self.control, 0, work).await?;
                let all = self.subscribers.iter_mut().take(channels);
                try_join_all(all.map(|it| take(it, work))).await?;
            }
            (Flow::Subscribe, Side::Pump) => {
                command(&mut self.control, CHANNELS, work).await?;
                let all = self.pump_out.iter_mut().take(channels);
                try_join_all(all.map(|it| it.take(work))).await?;
            }
            (Flow::Publish, Side::Ours) => {
                let all = self.publishers.iter_mut().take(channels);
                try_join_all(all.map(|it| give(it, work))).await?;
            }
            (Flow::Publish, Side::Pump) => {
                let all = self.pump_in.iter_mut().take(channels);
                try_join_all(all.map(|it| it.give(work))).await?;
            }
            (Flow::Both, Side::Ours) => {
                let all = self.both.iter_mut().take(channels);
                let all = all.map(|it| try_join(give(&mut it.into, work), take(&mut it.out, work)));
                try_join_all(all).await?;
            }
            (Flow::Both, Side::Pump) => {
                let all = self.pump_both.iter_mut().take(channels);
                let all = all.map(|it| try_join(it.into.give(work), it.out.take(work)));
                try_join_all(all).await?;
            }
        }
        Ok(())
    }

    /// Carries messages from end to end, on one channel, each when the last one has come.
    pub(super) async fn one_by_one(&mut self, work: Work, side: Side) -> Result<Transfer> {
        let before = Cpu::of(self.runtime)?;
        let begun = Instant::now();
        let one = Work { each: 1, ..work };
        let mut latencies = Vec::with_capacity(work.each);
        let (Some(ours), Some(pump)) = (self.both.first_mut(), self.pump_both.first_mut()) else {
            bail!("there are no channels");
        };
        let message = work.message();
        for _ in 0..work.each {
            let start = Instant::now();
            let carried = async {
                match side {
                    Side::Ours => {
                        ours.into.send(message.clone()).await?;
                        take(&mut ours.out, one).await
                    }
                    Side::Pump => {
                        pump.into.begin(one).await?;
                        pump.out.take(one).await
                    }
                }
            };
            timeout(PATIENCE, carried)
                .await
                .with_context(|| format!("{side:?} did not end: {work:?}"))??;
            latencies.push(start.elapsed());
        }
        match side {
            Side::Ours => ours.into.flush().await?,
            Side::Pump => timeout(PATIENCE, pump.into.end()).await??,
        }
        Ok(Transfer {
            messages: work.each,
            wall: begun.elapsed(),
            cpu: Cpu::of(self.runtime)?.since(before),
            latencies,
        })
    }
}

async fn subscribe(client: &Client, channels: &[Channel]) -> Result<Vec<Subscriber>> {
    let options = SubscribeOptions::new().lossless(true);
    let all = channels.iter().map(|channel| {
        let target = channel.id().to_string();
        async move { client.subscribe(&target, options).await }
    });
    Ok(try_join_all(all).await?)
}

async fn publish(client: &Client, channels: &[Channel]) -> Result<Vec<Publisher>> {
    let all = channels.iter().map(|channel| {
        let target = channel.id().to_string();
        async move { client.publish(&target, Default::default()).await }
    });
    Ok(try_join_all(all).await?)
}

/// Has the source guest write.
async fn command(control: &mut Publisher, first: usize, work: Work) -> Result<()> {
    let mut command = Vec::new();
    for number in [first, work.channels, work.size, work.each] {
        command.extend_from_slice(&u32::try_from(number)?.to_be_bytes());
    }
    control.send(command).await?;
    Ok(())
}

/// Takes a slice's messages, and what was left of the slice before.
async fn take(subscriber: &mut Subscriber, work: Work) -> Result<()> {
    let mut left = work.each;
    while left > 0 {
        match subscriber.next().await.context("it has ended")?? {
            SubscribeItem::Message { payload, .. } if payload.len() == work.size => left -= 1,
            SubscribeItem::Message { payload, .. } if payload.len() == TRAILER => {}
            other => bail!("{other:?} instead of {} bytes", work.size),
        }
    }
    Ok(())
}

async fn give(publisher: &mut Publisher, work: Work) -> Result<()> {
    let message = work.message();
    for _ in 0..work.each {
        publisher.send(message.clone()).await?;
    }
    Ok(publisher.flush().await?)
}

/// A connection to the pump guest for that purpose. It may need a moment until it listens.
async fn pump_wire(dialer: &Dialer, first: u8, index: usize) -> Result<Wire> {
    let purpose = first + u8::try_from(index)?;
    let begun = Instant::now();
    loop {
        match timeout(Duration::from_secs(2), dialer.wire()).await {
            Ok(Ok(mut wire)) => {
                wire.write(&[purpose]).await?;
                return Ok(wire);
            }
            failed if begun.elapsed() > LISTENS => bail!("no pump guest: {failed:?}"),
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

impl Out {
    fn new(wire: Wire) -> Self {
        Self {
            wire,
            received: 0,
            expected: 0,
        }
    }

    /// Takes a slice's bytes, and what was left of the slice before.
    async fn take(&mut self, work: Work) -> Result<()> {
        self.expected += u64::try_from(work.each * work.size)?;
        while self.received < self.expected {
            let bytes = self.wire.read().await.context("the pump guest has ended")?;
            self.received += bytes.len() as u64;
        }
        self.expected += TRAILER as u64;
        Ok(())
    }
}

impl In {
    fn new(wire: Wire) -> Self {
        Self { wire, bursts: 0 }
    }

    /// Sends a burst.
    async fn begin(&mut self, work: Work) -> Result<()> {
        self.bursts += 1;
        let mut bytes = Vec::with_capacity(WRITE_BYTES);
        for number in [work.size, work.each] {
            bytes.extend_from_slice(&u32::try_from(number)?.to_be_bytes());
        }
        let message = work.message();
        for _ in 0..work.each {
            if !bytes.is_empty() && bytes.len() + message.len() > WRITE_BYTES {
                self.wire.write(&bytes).await?;
                bytes.clear();
            }
            bytes.extend_from_slice(&message);
        }
        self.wire.write(&bytes).await
    }

    /// Waits until everything is in the channel.
    async fn end(&mut self) -> Result<()> {
        while self.bursts > 0 {
            let back = self.wire.read().await.context("the pump guest has ended")?;
            self.bursts = self.bursts.saturating_sub(back.len());
        }
        Ok(())
    }

    async fn give(&mut self, work: Work) -> Result<()> {
        self.begin(work).await?;
        self.end().await
    }
}
