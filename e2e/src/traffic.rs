//! Messages over channels: what is sent, what has to come, and what tests do with both again and again.
//!
//! Everything panics where a test would: when something does not happen in time, or is not what it should be.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use selium_remote_client::{
    Channel, ChannelInfo, Client, ClientError, ErrorCode, PublicationFailure, Publisher,
    SubscribeItem, SubscribeOptions, Subscriber,
};

use crate::{Dice, PATIENCE, Server, runtime, soon};

/// How long nothing has to move to count as standing still.
pub const STILL: Duration = Duration::from_millis(500);

/// The longest message that the server takes.
pub const LONGEST: usize = 1024 * 1024;

/// A KiB.
pub const KIB: usize = 1024;

/// Messages that follow from a seed and their numbers: how long each is, and each of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// What the rest follows from.
    pub seed: u64,
    /// Bytes of the shortest message.
    pub shortest: usize,
    /// Bytes of the longest.
    pub longest: usize,
}

/// SplitMix64: bits that look like chance, and follow from others.
#[must_use]
pub fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Script {
    /// One that follows from the dice.
    #[must_use]
    pub fn new(dice: &mut Dice, shortest: usize, longest: usize) -> Self {
        Self {
            seed: dice.below(u64::MAX),
            shortest,
            longest,
        }
    }

    /// The length of a message. As many short ones as long ones: the logarithm of the length is even.
    #[must_use]
    pub fn length(&self, number: u64) -> usize {
        let bits = mix(self.seed ^ mix(number));
        let part = (bits >> 11) as f64 / (1u64 << 53) as f64;
        let (low, high) = (self.shortest as f64, (self.longest + 1) as f64);
        let length = low * (high / low).powf(part);
        (length as usize).clamp(self.shortest, self.longest)
    }

    /// A message.
    #[must_use]
    pub fn message(&self, number: u64) -> Bytes {
        filled(self.seed, number, self.length(number)).into()
    }

    /// Fails unless this is the message with that number.
    pub fn check(&self, number: u64, message: &[u8]) {
        assert_eq!(
            message.len(),
            self.length(number),
            "the length of {number} of {self:?}"
        );
        assert!(
            message == self.message(number),
            "the bytes of {number} of {self:?} are others"
        );
    }
}

/// So many bytes that follow from a seed and a number.
#[must_use]
pub fn filled(seed: u64, number: u64, length: usize) -> Vec<u8> {
    let mut state = mix(seed.wrapping_add(mix(!number)));
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A connection.
pub async fn connect(server: &Server) -> Client {
    let connected = server
        .config()
        .connect_timeout(PATIENCE)
        .request_timeout(PATIENCE)
        .connect()
        .await;
    connected.expect("a connection")
}

/// A new channel.
pub async fn channel(client: &Client, capacity: usize) -> Channel {
    let created = Channel::create(client, u32::try_from(capacity).unwrap()).await;
    created.expect("a channel")
}

/// How to subscribe without losing anything.
#[must_use]
pub fn lossless() -> SubscribeOptions {
    SubscribeOptions::new().lossless(true)
}

/// A subscription.
pub async fn subscribe(channel: &Channel, options: SubscribeOptions) -> Subscriber {
    let subscribed = channel.subscribe_with(options).await;
    subscribed.expect("a subscription")
}

/// A publication.
pub async fn publish(channel: &Channel) -> Publisher {
    channel.publish().await.expect("a publication")
}

/// What comes next of a subscription.
pub async fn item(subscriber: &mut Subscriber) -> SubscribeItem {
    let next = soon("the next item", subscriber.next()).await;
    next.expect("the subscription goes on").expect("no error")
}

/// The next message, which nothing may be missing before.
pub async fn message(subscriber: &mut Subscriber) -> (u64, Bytes) {
    match item(subscriber).await {
        SubscribeItem::Message { sequence, payload } => (sequence, payload),
        other => panic!("a message was to come: {other:?}"),
    }
}

/// Reads the messages of a script with these numbers, and nothing else.
pub async fn read_script(subscriber: &mut Subscriber, script: &Script, numbers: Range<u64>) {
    let begin = subscriber.position().wrapping_sub(numbers.start);
    for number in numbers {
        let (sequence, payload) = message(subscriber).await;
        assert_eq!(sequence, number.wrapping_add(begin));
        script.check(number, &payload);
    }
}

/// Sends the messages of a script with these numbers. They may wait in the publisher.
pub async fn send_script(publisher: &mut Publisher, script: &Script, numbers: Range<u64>) {
    for number in numbers {
        let sent = soon("room", publisher.send(script.message(number))).await;
        sent.expect("it is sent");
    }
}

/// Waits until everything is acknowledged.
pub async fn flush(publisher: &mut Publisher) {
    soon("acknowledgements", publisher.flush())
        .await
        .expect("all is acknowledged");
}

/// Sends messages of so many bytes until the publisher waits and nothing is acknowledged any more, and answers how many;
/// fails when it was `limit` of them.
pub async fn fill(publisher: &mut Publisher, script: &Script, limit: u64) -> u64 {
    for number in 0..limit {
        let message = script.message(number);
        // A busy machine stands still as well, for a moment.
        let mut still = 0;
        loop {
            let before = publisher.acknowledged();
            let sent = runtime::timeout(STILL, publisher.send(message.clone())).await;
            match sent {
                Some(sent) => {
                    assert_eq!(sent.expect("it is sent"), number);
                    break;
                }
                None if before.is_some() && publisher.acknowledged() == before => {
                    still += 1;
                    if still == 2 {
                        return number;
                    }
                }
                None => still = 0,
            }
        }
    }
    panic!("{limit} messages were taken, and nobody has read any");
}

/// What the server knows of a channel, once it is so.
pub async fn told(
    channel: &Channel,
    what: &str,
    is_so: impl Fn(&ChannelInfo) -> bool,
) -> ChannelInfo {
    soon(what, async {
        loop {
            let info = channel.inspect().await.expect("it is there");
            if is_so(&info) {
                return info;
            }
            runtime::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// What the server said.
pub fn remote(error: &ClientError) -> (ErrorCode, Option<&str>) {
    match error {
        ClientError::Remote { error, .. } => (error.code, error.field.as_deref()),
        other => panic!("no answer of the server: {other:?}"),
    }
}

/// How a publication ended.
#[must_use]
pub fn publication(error: ClientError) -> PublicationFailure {
    match error {
        ClientError::Publication(failure) => *failure,
        other => panic!("no end of a publication: {other:?}"),
    }
}
