//! `selium channel sub`.

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use selium_remote_client::{ClientError, SubscribeItem, SubscribeOptions, Subscriber};
use selium_remote_client_protocol::limits::MAX_CAPACITY;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::check_target;
use crate::args::Format;
use crate::args::channel::SubArgs;
use crate::failure::{Action, Channel as About, Failure};
use crate::framing::{Encoder, Framing, gap_json};
use crate::gaps::Gaps;
use crate::interrupt::Stage;
use crate::output::BATCH;
use crate::progress::{EVERY, Meter};
use crate::render::escape::quoted;
use crate::render::process::{full_id, short_id};
use crate::render::size;
use crate::session::Session;

/// Writes a channel's messages to stdout.
pub(super) async fn run(session: &Session, args: SubArgs) -> Result<(), Failure> {
    check_target("channel sub", &args.target)?;
    let framing = args.framing.unwrap_or(match session.format(None) {
        Format::Text => Framing::Line,
        Format::Json => Framing::Json,
    });
    // No message of a channel is longer than the longest channel.
    let longest = usize::try_from(MAX_CAPACITY).unwrap_or(usize::MAX);
    let client = session.connect_for(Some(longest)).await?;
    let mut options = SubscribeOptions::new().lossless(args.lossless);
    if let Some(tail) = args.tail {
        options = options.tail(tail);
    }
    if let Some(since) = args.since {
        options = options.since(since);
    }
    let subscriber = client
        .subscribe(&args.target, options)
        .await
        .map_err(Failure::client(Action::Channel(
            About::Subscribe,
            args.target,
        )))?;
    session.enter(match args.count {
        None => Stage::Following(None),
        Some(_) => Stage::Idle,
    });
    let id = subscriber.channel().0;
    let label = format!("{} ({})", subscriber.name(), short_id(id));
    session
        .output
        .note(&format!(
            "subscribed to {label}, from number {} on",
            subscriber.position()
        ))
        .await;
    let is_terminal = io::stdout().is_terminal();
    let shows_progress = !is_terminal && session.output.shows_progress();
    let mut subscription = Subscription {
        session,
        subscriber,
        label,
        framing,
        encoder: Encoder::new(framing, is_terminal),
        is_lossless: args.lossless,
        count: args.count,
        batch: Vec::new(),
        meter: Meter::start(),
        gaps: Gaps::default(),
    };
    let result = subscription.follow(shows_progress).await;
    // What came before it ended is written all the same.
    let result = match subscription.write().await {
        Ok(()) => result,
        Err(gone) => Err(gone),
    };
    if let Some(total) = subscription.gaps.total() {
        session.output.warning(&total).await;
    }
    if shows_progress && !matches!(result, Err(Failure::BrokenPipe)) {
        session.output.note(&subscription.meter.total()).await;
    }
    match result? {
        End::Enough => Ok(()),
        End::Over => subscription.over().await,
    }
}

/// How a subscription ends well.
enum End {
    /// As many messages came as were wanted.
    Enough,
    /// The channel has no more.
    Over,
}

/// A subscription, and what was not written yet.
struct Subscription<'a> {
    session: &'a Session,
    subscriber: Subscriber,
    label: String,
    framing: Framing,
    encoder: Encoder,
    is_lossless: bool,
    count: Option<u64>,
    batch: Vec<u8>,
    meter: Meter,
    gaps: Gaps,
}

impl Subscription<'_> {
    /// Writes what comes. What is there at once is written at once, and nothing waits for more.
    async fn follow(&mut self, shows_progress: bool) -> Result<End, Failure> {
        let session = self.session;
        let timeout = session.timeout();
        let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut late = pin!(tokio::time::sleep(timeout.unwrap_or_default()));
        let mut seen = None;
        loop {
            while let Some(item) = self.subscriber.next().now_or_never() {
                if let Some(end) = self.take(item).await? {
                    return Ok(end);
                }
                if self.batch.len() >= BATCH {
                    self.write().await?;
                }
            }
            self.write().await?;
            self.warn(None).await;
            let due = self.gaps.due();
            if let Some(timeout) = timeout
                && seen != Some(self.meter.messages())
            {
                seen = Some(self.meter.messages());
                late.as_mut().reset(Instant::now() + timeout);
            }
            tokio::select! {
                biased;
                item = self.subscriber.next() => {
                    if let Some(end) = self.take(item).await? {
                        return Ok(end);
                    }
                }
                failure = session.output.gone() => return Err(failure),
                () = late.as_mut(), if timeout.is_some() => {
                    return Err(self.late(timeout.unwrap_or_default()));
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = ticks.tick(), if shows_progress => {
                    session.output.progress(&self.meter.look());
                }
            }
        }
    }

    /// Takes what came.
    async fn take(
        &mut self,
        item: Option<Result<SubscribeItem, ClientError>>,
    ) -> Result<Option<End>, Failure> {
        match item {
            None => return Ok(Some(End::Over)),
            Some(Err(error)) => return Err(self.broke(error)),
            Some(Ok(SubscribeItem::Message { sequence, payload })) => {
                self.encoder.message(sequence, &payload, &mut self.batch);
                self.meter.count(payload.len());
                if self
                    .count
                    .is_some_and(|count| count <= self.meter.messages())
                {
                    return Ok(Some(End::Enough));
                }
            }
            Some(Ok(SubscribeItem::Gap { next, count })) if self.framing == Framing::Json => {
                self.batch
                    .extend_from_slice(gap_json(count, next).as_bytes());
                self.batch.push(b'\n');
            }
            Some(Ok(SubscribeItem::Gap { next, count })) => {
                // Behind the messages before it, where both go to one place.
                self.write().await?;
                self.warn(Some((count, next))).await;
            }
            // An item of a later version of the library.
            Some(Ok(_)) => {}
        }
        Ok(None)
    }

    /// Tells of a gap, and of those before it that are due.
    async fn warn(&mut self, gap: Option<(Option<u64>, u64)>) {
        let now = Instant::now();
        let text = match gap {
            Some((count, next)) => self.gaps.add(count, next, now),
            None => self.gaps.look(now),
        };
        if let Some(text) = text {
            self.session.output.warning(&text).await;
        }
        // Ctrl-C is the end of most subscriptions.
        if gap.is_some() && self.count.is_none() {
            self.session.enter(Stage::Following(self.gaps.total()));
        }
    }

    /// Hands what was gathered to the writer.
    async fn write(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.session.output.bytes(batch).await
    }

    /// The channel has no more.
    async fn over(&self) -> Result<(), Failure> {
        let why = self
            .subscriber
            .end_reason()
            .unwrap_or("it takes no new messages, and everything was read");
        let text = format!("the channel {} ended: {why}", self.label);
        match self.count {
            None => {
                self.session.output.note(&text).await;
                Ok(())
            }
            Some(count) => Err(Failure::Local(format!(
                "{text}; {} of {} came",
                size::grouped(self.meter.messages()),
                size::messages(count)
            ))),
        }
    }

    fn late(&self, timeout: Duration) -> Failure {
        Failure::TimedOut(format!(
            "no message came on {} within {} s; {} came before",
            self.label,
            timeout.as_secs_f64(),
            size::messages(self.meter.messages())
        ))
    }

    fn broke(&self, error: ClientError) -> Failure {
        let lossless = if self.is_lossless { " --lossless" } else { "" };
        Failure::Broke {
            message: format!(
                "the subscription to {} broke off: {error}",
                quoted(self.subscriber.name())
            ),
            hint: Some(format!(
                "`selium channel sub{lossless} --since {} {}` goes on there, unless the server was started again",
                self.subscriber.position(),
                full_id(self.subscriber.channel().0)
            )),
            error: Box::new(error),
        }
    }
}
