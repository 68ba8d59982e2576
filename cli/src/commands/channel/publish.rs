//! `selium channel pub`.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use selium_remote_client::{ClientError, PublishOptions, Publisher};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::check_target;
use crate::args::channel::PubArgs;
use crate::failure::{Action, Channel as About, Failure};
use crate::framing::{Decoder, Framing};
use crate::input::{Batch, End, Input, InputError, Source};
use crate::interrupt::{Stage, WIND_UP};
use crate::progress::{EVERY, Meter};
use crate::render::escape::quoted;
use crate::render::process::{full_id, short_id};
use crate::render::size;
use crate::session::Session;

const COMMAND: &str = "channel pub";

/// Bytes of a raw message by default.
const CHUNK: usize = 64 * 1024;

/// What was published, as JSON.
#[derive(Serialize)]
struct Published<'a> {
    event: &'static str,
    id: String,
    name: &'a str,
    messages: u64,
    bytes: u64,
    /// Messages without bytes, which were left out.
    empty: u64,
    /// Gap markers, which were left out.
    gaps: u64,
    may_be_dropped: bool,
}

/// Publishes what it reads.
pub(super) async fn run(session: &Session, args: PubArgs) -> Result<(), Failure> {
    check_target(COMMAND, &args.target)?;
    let framing = args.framing.unwrap_or(Framing::Line);
    if args.chunk.is_some() && framing != Framing::Raw {
        return Err(Failure::usage(COMMAND, "--chunk goes with --framing raw"));
    }
    let source = Source::open(args.file.as_deref()).map_err(|error| {
        let file = args.file.unwrap_or_default();
        Failure::Local(format!("{} cannot be opened: {error}", file.display()))
    })?;
    let client = session.connect().await?;
    let publisher = client
        .publish(&args.target, PublishOptions::default())
        .await
        .map_err(Failure::client(Action::Channel(
            About::Publish,
            args.target,
        )))?;
    let longest = publisher.max_message();
    let chunk = match args.chunk {
        Some(chunk) => usize::try_from(chunk).unwrap_or(usize::MAX),
        None => CHUNK.min(longest),
    };
    if chunk > longest {
        return Err(Failure::Local(format!(
            "--chunk is {chunk} bytes, but the longest message that {} takes has {longest}",
            quoted(publisher.name())
        )));
    }
    let is_typed = source.is_stdin() && io::stdin().is_terminal();
    let shows_progress = !is_typed && session.output.shows_progress();
    if is_typed {
        let text = "what is typed is published; Ctrl-D ends it";
        session.output.note(text).await;
    }
    session.enter(Stage::WindingUp(
        "messages were under way; they may have been published".to_owned(),
    ));
    let name = source.name().to_owned();
    let input = Input::start(source, Decoder::new(framing, longest, chunk), args.count)
        .map_err(|error| Failure::Local(format!("cannot begin to read: {error}")))?;
    let meter = Meter::start();
    let mut publication = Publication {
        publisher,
        input,
        waiting: VecDeque::new(),
        patience: session.timeout(),
        meter: &meter,
    };
    let end = {
        let mut all = pin!(publication.all());
        let mut pressed = pin!(session.interrupted());
        let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = pressed.as_mut() => break Ended::Interrupted,
                end = all.as_mut() => break Ended::Whole(end),
                _ = ticks.tick(), if shows_progress => {
                    session.output.progress(&meter.look());
                }
            }
        }
    };
    let end = match end {
        Ended::Interrupted => return Err(publication.interrupted().await),
        Ended::Whole(end) => end?,
    };
    if let Some(error) = &end.error {
        return Err(publication.cut_off(&name, error));
    }
    publication.say(session, &end, shows_progress).await
}

/// How the publishing ended.
enum Ended {
    Whole(Result<End, Failure>),
    Interrupted,
}

/// A publication, and what was read for it and not sent yet.
struct Publication<'a> {
    publisher: Publisher,
    input: Input,
    waiting: VecDeque<Bytes>,
    /// How long nothing may be acknowledged.
    patience: Option<Duration>,
    /// Counts what was sent.
    meter: &'a Meter,
}

impl Publication<'_> {
    /// Sends everything, and waits until it is acknowledged. Dropping the future loses nothing.
    async fn all(&mut self) -> Result<End, Failure> {
        loop {
            self.send_waiting().await?;
            // While the input is silent, nothing else tells that nobody takes it any more.
            let batch = tokio::select! {
                biased;
                batch = self.input.next() => batch,
                error = self.publisher.ended() => return Err(self.broke(error)),
            };
            match batch {
                Some(Batch::Messages(messages)) => self.waiting = messages.into(),
                Some(Batch::End(end)) => {
                    self.close().await?;
                    return Ok(end);
                }
                None => {
                    let text = "reading ended in a way that it never should";
                    return Err(Failure::Local(text.to_owned()));
                }
            }
        }
    }

    async fn send_waiting(&mut self) -> Result<(), Failure> {
        while let Some(message) = self.waiting.front().cloned() {
            let length = message.len();
            let sent = match self.publisher.send(message.clone()).now_or_never() {
                Some(sent) => sent,
                None => self.send_late(message).await?,
            };
            sent.map_err(|error| self.broke(error))?;
            self.waiting.pop_front();
            self.meter.count(length);
        }
        Ok(())
    }

    /// Sends a message for which there is no room yet.
    async fn send_late(&mut self, message: Bytes) -> Result<Result<u64, ClientError>, Failure> {
        let Some(patience) = self.patience else {
            return Ok(self.publisher.send(message).await);
        };
        loop {
            let before = self.publisher.acknowledged();
            if let Ok(sent) = timeout(patience, self.publisher.send(message.clone())).await {
                return Ok(sent);
            }
            self.check(before, patience)?;
        }
    }

    async fn close(&mut self) -> Result<(), Failure> {
        let Some(patience) = self.patience else {
            let closed = self.publisher.close().await;
            return closed.map_err(|error| self.broke(error));
        };
        loop {
            let before = self.publisher.acknowledged();
            if let Ok(closed) = timeout(patience, self.publisher.close()).await {
                return closed.map_err(|error| self.broke(error));
            }
            self.check(before, patience)?;
        }
    }

    /// Whether something was acknowledged in the meantime.
    fn check(&self, before: Option<u64>, patience: Duration) -> Result<(), Failure> {
        if self.publisher.acknowledged() != before {
            return Ok(());
        }
        Err(Failure::TimedOut(format!(
            "nothing was acknowledged by {} within {} s: its readers are slow or stand still; {}",
            quoted(self.publisher.name()),
            patience.as_secs_f64(),
            self.standing()
        )))
    }

    /// Messages that were acknowledged.
    fn acknowledged(&self) -> u64 {
        let last = self.publisher.acknowledged();
        last.map_or(0, |number| number.saturating_add(1))
    }

    /// What became of the messages.
    fn standing(&self) -> String {
        let acknowledged = self.acknowledged();
        let unknown = self.meter.messages().saturating_sub(acknowledged);
        let verb = if acknowledged == 1 { "was" } else { "were" };
        let mut text = format!("{} {verb} acknowledged", size::messages(acknowledged));
        if unknown > 0 {
            text.push_str(&format!(
                ", of the next {} the outcome is unknown",
                size::grouped(unknown)
            ));
        }
        if !self.waiting.is_empty() {
            text.push_str(&format!(
                ", {} read and not sent",
                match self.waiting.len() {
                    1 => "1 more was".to_owned(),
                    more => format!("{} more were", size::grouped(more as u64)),
                }
            ));
        }
        text
    }

    fn broke(&self, error: ClientError) -> Failure {
        // The library numbers messages; here they are counted.
        let why = match &error {
            ClientError::Publication(failure) => failure.cause.to_string(),
            error => error.to_string(),
        };
        Failure::Broke {
            message: format!(
                "publishing to {} broke off: {why}; {}",
                quoted(self.publisher.name()),
                self.standing()
            ),
            hint: None,
            error: Box::new(error),
        }
    }

    /// Publishes what was read, as far as there is time.
    async fn interrupted(&mut self) -> Failure {
        self.input.stop();
        let rest = async {
            self.send_waiting().await?;
            while let Some(Batch::Messages(messages)) = self.input.ready() {
                self.waiting = messages.into();
                self.send_waiting().await?;
            }
            self.close().await
        };
        match timeout(WIND_UP, rest).await {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) | Err(_) => Failure::Interrupted(Some(format!(
                "publishing to {}: {}",
                quoted(self.publisher.name()),
                self.standing()
            ))),
        }
    }

    /// The input ended too early; what came before is acknowledged.
    fn cut_off(&self, name: &str, error: &InputError) -> Failure {
        let what = match error {
            InputError::Io(error) => format!("{name} cannot be read: {error}"),
            InputError::Frame(error) => error.to_string(),
        };
        Failure::Local(format!("{what}; {} before it", self.standing()))
    }

    /// Everything is acknowledged.
    async fn say(&self, session: &Session, end: &End, with_rate: bool) -> Result<(), Failure> {
        let output = &session.output;
        let id = self.publisher.channel().0;
        let name = self.publisher.name();
        let may_be_dropped = self.publisher.may_be_dropped();
        if output.is_json() {
            let published = Published {
                event: "published",
                id: full_id(id),
                name,
                messages: self.meter.messages(),
                bytes: self.meter.bytes(),
                empty: end.empty,
                gaps: end.gaps,
                may_be_dropped,
            };
            session.json(&published).await?;
        }
        let mut text = format!(
            "published {} to {name} ({})",
            match with_rate {
                true => self.meter.total(),
                false => format!(
                    "{}, {}",
                    size::messages(self.meter.messages()),
                    size::bytes(self.meter.bytes())
                ),
            },
            short_id(id)
        );
        if may_be_dropped {
            text.push_str("; the channel drops what it has no room for, and does not tell");
        }
        output.note(&text).await;
        if end.empty > 0 {
            let left_out = size::messages(end.empty);
            let text = format!("left out {left_out} without bytes: a channel has none");
            output.warning(&text).await;
        }
        if end.gaps > 0 {
            let text = format!(
                "the input has gaps ({}), where messages are missing",
                end.gaps
            );
            output.warning(&text).await;
        }
        Ok(())
    }
}
