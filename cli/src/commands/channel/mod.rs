//! `selium channel`.

mod publish;
mod subscribe;

use selium_remote_client::{
    Backpressure, Channel, ChannelBuilder, ChannelInfo, Client, ClientError,
};
use selium_remote_client_protocol::limits::MAX_NAME;
use serde::Serialize;

use super::{check_length, check_target};
use crate::args::channel::{
    ChannelArgs, ChannelCommand, CreateArgs, DeleteArgs, DrainArgs, InspectArgs, LsArgs, ShareArgs,
};
use crate::args::{Format, ListOutput};
use crate::failure::{Action, Channel as About, Failure};
use crate::interrupt::Stage;
use crate::render::process::{full_id, short_id};
use crate::render::{channel, escape, size, time};
use crate::session::Session;

/// Does something with channels.
pub(super) async fn run(session: &Session, args: ChannelArgs) -> Result<(), Failure> {
    match args.command {
        ChannelCommand::Create(args) => create(session, args).await,
        ChannelCommand::Delete(DeleteArgs { targets }) => {
            change(session, Change::Delete, targets).await
        }
        ChannelCommand::Drain(DrainArgs { targets }) => {
            change(session, Change::Drain, targets).await
        }
        ChannelCommand::Share(ShareArgs { targets }) => {
            change(session, Change::Share, targets).await
        }
        ChannelCommand::Ls(args) => list(session, args).await,
        ChannelCommand::Inspect(args) => inspect(session, args).await,
        ChannelCommand::Pub(args) => publish::run(session, args).await,
        ChannelCommand::Sub(args) => subscribe::run(session, args).await,
    }
}

/// What was done to a channel, as JSON.
#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    id: String,
    name: &'a str,
    capacity: Option<u32>,
    mode: Option<&'static str>,
}

async fn create(session: &Session, args: CreateArgs) -> Result<(), Failure> {
    let mut builder = ChannelBuilder::new(args.capacity);
    if args.drop {
        builder = builder.backpressure(Backpressure::Drop);
    }
    if let Some(name) = &args.name {
        check_length("channel create", "the name", name, MAX_NAME)?;
        builder = builder.name(name.as_str());
    }
    let client = session.connect().await?;
    session.enter(Stage::Changing(
        "the creation was under way and may still happen; `selium channel ls` shows whether it did"
            .to_owned(),
    ));
    let name = args.name.unwrap_or_default();
    let made = Channel::create_with(&client, builder)
        .await
        .map_err(Failure::client(Action::Channel(About::Create, name)))?;
    session.enter(Stage::Idle);
    let id = made.handle();
    let name = made.name().unwrap_or_default();
    if session.output.is_json() {
        let event = Event {
            event: "created",
            id: full_id(id),
            name,
            capacity: made.capacity(),
            mode: made.backpressure().map(channel::mode),
        };
        session.json(&event).await?;
    } else {
        session.output.data(full_id(id)).await?;
    }
    let mut text = format!("created {name} ({})", short_id(id));
    if let (Some(capacity), Some(mode)) = (made.capacity(), made.backpressure()) {
        text.push_str(&format!(
            ": {}, {}",
            size::capacity(capacity),
            match mode {
                Backpressure::Drop => "drops messages when it is full",
                _ => "writers wait when it is full",
            }
        ));
    }
    session.output.note(&text).await;
    Ok(())
}

/// A change of one channel.
#[derive(Clone, Copy, Debug)]
enum Change {
    Delete,
    Drain,
    Share,
}

impl Change {
    fn about(self) -> About {
        match self {
            Self::Delete => About::Delete,
            Self::Drain => About::Drain,
            Self::Share => About::Share,
        }
    }

    /// The command.
    fn command(self) -> &'static str {
        match self {
            Self::Delete => "channel delete",
            Self::Drain => "channel drain",
            Self::Share => "channel share",
        }
    }

    /// What was done, in one word.
    fn done(self) -> &'static str {
        match self {
            Self::Delete => "deleted",
            Self::Drain => "draining",
            Self::Share => "shared",
        }
    }

    async fn make(self, client: &Client, target: &str) -> Result<ChannelInfo, ClientError> {
        match self {
            Self::Delete => client.delete_channel(target).await,
            Self::Drain => client.drain_channel(target).await,
            Self::Share => client.share_channel(target).await,
        }
    }
}

/// Changes one channel after the other, also after a failure.
async fn change(session: &Session, change: Change, targets: Vec<String>) -> Result<(), Failure> {
    for target in &targets {
        check_target(change.command(), target)?;
    }
    let client = session.connect().await?;
    let mut result = Ok(());
    let mut output = Ok(());
    for target in targets {
        session.enter(Stage::Changing(format!(
            "`{}` was under way and may still happen; `selium channel ls` shows whether it did",
            change.command()
        )));
        let answer = change.make(&client, &target).await;
        session.enter(Stage::Idle);
        match answer {
            // Who reads the ids may be gone; the others are changed all the same.
            Ok(info) => output = output.and(say(session, change, &info).await),
            Err(error) => {
                let failure = Failure::client(Action::Channel(change.about(), target))(error);
                if client.is_closed() {
                    return Err(failure);
                }
                session.output.failure(&failure).await;
                result = Err(Failure::Reported);
            }
        }
    }
    result.and(output)
}

async fn say(session: &Session, change: Change, info: &ChannelInfo) -> Result<(), Failure> {
    let done = change.done();
    session
        .output
        .note(&format!("{done}: {} ({})", info.name, short_id(info.id)))
        .await;
    if session.output.is_json() {
        let event = Event {
            event: done,
            id: full_id(info.id),
            name: &info.name,
            capacity: Some(info.capacity),
            mode: Some(channel::mode(info.backpressure)),
        };
        return session.json(&event).await;
    }
    session.output.data(full_id(info.id)).await
}

async fn list(session: &Session, args: LsArgs) -> Result<(), Failure> {
    let client = session.connect().await?;
    let action = Action::Channel(About::List, String::new());
    let channels = client.channels().await.map_err(Failure::client(action))?;
    if args.list.quiet {
        let ids = channels.iter().map(|one| full_id(one.id));
        return session.lines(ids.collect()).await;
    }
    let output = args.list.output.unwrap_or(match session.format(None) {
        Format::Text => ListOutput::Table,
        Format::Json => ListOutput::Json,
    });
    let lines = match output {
        ListOutput::Table => channel::narrow(&channels, time::now_ms()),
        ListOutput::Wide => channel::wide(&channels, time::now_ms()),
        ListOutput::Json => vec![channel::json(&channels)],
        ListOutput::Name => channels
            .iter()
            .map(|one| escape::line(&one.name).into_owned())
            .collect(),
    };
    session.lines(lines).await
}

async fn inspect(session: &Session, args: InspectArgs) -> Result<(), Failure> {
    check_target("channel inspect", &args.target)?;
    let client = session.connect().await?;
    let info = client
        .inspect_channel(&args.target)
        .await
        .map_err(Failure::client(Action::Channel(
            About::Inspect,
            args.target,
        )))?;
    match session.format(args.output) {
        Format::Text => session.lines(channel::details(&info)).await,
        Format::Json => session.json(&channel::Json::from(&info)).await,
    }
}
