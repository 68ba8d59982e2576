//! What clients do that use the client library or the command line.

use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use futures_util::future::join_all;
use selium_remote_client::{
    Client, ClientError, ErrorCode, LogItem, LogOptions, LogStream, Process, ProcessBuilder,
};
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};
use xtask::selium::Selium;

use super::{World, raw_actors, rude};
use crate::guests;

/// No step of any actor takes longer, unless something hangs.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// With so many processes, one is stopped rather than another started.
const MANY: usize = 12;

/// What an actor does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Connects, asks a few things, leaves.
    Visitor,
    /// Starts and stops processes.
    Starter,
    /// Follows a log for a while.
    Follower,
    /// Follows a log and does not read it for a while.
    Staller,
    /// A command line that is killed while it follows a log.
    Killed,
    /// Is gone without a goodbye.
    Vanisher,
    /// Asks a lot and does not read the answers.
    Deaf,
    /// Breaks the protocol.
    Rude,
    /// Connects and says nothing.
    Silent,
}

impl Role {
    /// Who plays.
    pub(super) const CAST: [Self; 25] = [
        Self::Visitor,
        Self::Visitor,
        Self::Visitor,
        Self::Visitor,
        Self::Visitor,
        Self::Visitor,
        Self::Starter,
        Self::Starter,
        Self::Follower,
        Self::Follower,
        Self::Follower,
        Self::Follower,
        Self::Staller,
        Self::Staller,
        Self::Staller,
        Self::Killed,
        Self::Vanisher,
        Self::Vanisher,
        Self::Vanisher,
        Self::Deaf,
        Self::Deaf,
        Self::Rude,
        Self::Rude,
        Self::Silent,
        Self::Silent,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Starter => "starter",
            Self::Follower => "follower",
            Self::Staller => "staller",
            Self::Killed => "killed command line",
            Self::Vanisher => "vanisher",
            Self::Deaf => "deaf client",
            Self::Rude => "rude client",
            Self::Silent => "silent client",
        }
    }
}

/// Plays a role until the time is over.
pub(super) async fn act(role: Role, world: Rc<World>, mut dice: Rng) {
    world.pause(millis(&mut dice, 0, 1_000)).await;
    while world.goes_on() {
        match timeout(STEP_LIMIT, step(role, &world, &mut dice)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => world.ledger.unexpected(role.name(), &format!("{error:#}")),
            Err(_) => world.ledger.unexpected(role.name(), "hangs for 60 s"),
        }
        world.pause(millis(&mut dice, 20, 400)).await;
    }
}

async fn step(role: Role, world: &World, dice: &mut Rng) -> Result<()> {
    match role {
        Role::Visitor => visit(world, dice).await,
        Role::Starter => start_or_stop(world, dice).await,
        Role::Follower => follow(world, dice).await,
        Role::Staller => stall(world, dice).await,
        Role::Killed => be_killed(world, dice).await,
        Role::Vanisher => raw_actors::vanish(world, dice).await,
        Role::Deaf => raw_actors::hear_nothing(world, dice).await,
        Role::Rude => rude::offend(world, dice).await,
        Role::Silent => raw_actors::say_nothing(world, dice).await,
    }
}

/// A random time.
pub(super) fn millis(dice: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(dice.u64(least..=most))
}

async fn connect(world: &World) -> Result<Client> {
    world.ledger.connected();
    world.config.clone().connect().await.context("connecting")
}

/// Passes on what went well, counts errors with one of these codes, and fails on others.
fn allow<T>(
    world: &World,
    result: Result<T, ClientError>,
    codes: &[ErrorCode],
) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code().is_some_and(|code| codes.contains(&code)) => {
            let code = error
                .code()
                .map(|code| code.to_string())
                .unwrap_or_default();
            world.ledger.legitimate(code);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn visit(world: &World, dice: &mut Rng) -> Result<()> {
    let client = connect(world).await?;
    for _ in 0..dice.u8(1..20) {
        match dice.u8(..6) {
            0 => {
                client.ping().await?;
                world.ledger.did("ping");
            }
            1 => {
                client.info().await?;
                world.ledger.did("info");
            }
            2 => {
                let many = dice.usize(2..40);
                for answer in join_all((0..many).map(|_| client.info())).await {
                    answer?;
                }
                world.ledger.did_often("info, many at once", many as u64);
            }
            3 | 4 => {
                client.processes(dice.bool()).await?;
                world.ledger.did("list");
            }
            _ => {
                let Some(id) = world.starts.any(dice) else {
                    continue;
                };
                let info = client.inspect(&id.to_string()).await;
                // It may be forgotten by now: the server keeps so many stopped processes.
                allow(world, info, &[ErrorCode::NotFound])?;
                world.ledger.did("inspect");
            }
        }
        if dice.u8(..4) == 0 {
            world.pause(millis(dice, 1, 300)).await;
        }
    }
    if dice.bool() {
        client.close().await;
        world.ledger.did("visit, with goodbye");
    } else {
        drop(client);
        world.ledger.did("visit, dropped");
    }
    Ok(())
}

async fn start_or_stop(world: &World, dice: &mut Rng) -> Result<()> {
    let client = connect(world).await?;
    let many = world.starts.count() >= MANY;
    if many || dice.u8(..3) == 0 {
        let Some(id) = world.starts.take(Some(dice)) else {
            return Ok(());
        };
        client.stop(&id.to_string()).await?;
        world.ledger.did("stop");
        return Ok(());
    }
    if !world.starts.turn(world.until).await {
        return Ok(());
    }
    if dice.u8(..6) == 0 {
        return start_wrongly(world, dice, &client).await;
    }
    let (what, builder) = guest(dice);
    world.ledger.started();
    let start = Process::start(&client, builder);
    if dice.u8(..8) == 0 {
        // Given up half-way: it may run or not; it is stopped at the end.
        if let Ok(started) = timeout(millis(dice, 0, 20), start).await {
            world.starts.runs(started?.id());
        }
        world.ledger.did("start, given up");
        return Ok(());
    }
    world.starts.runs(start.await?.id());
    world.ledger.did(what);
    Ok(())
}

fn guest(dice: &mut Rng) -> (&'static str, ProcessBuilder) {
    match dice.u8(..4) {
        0 => ("start hello", guests::hello()),
        1 | 2 => {
            let (count, interval) = (dice.u32(5..500), dice.u32(2..100));
            ("start ticker", guests::ticker(count, interval))
        }
        _ => ("start storm", guests::storm(dice.u32(10..3_000))),
    }
}

async fn start_wrongly(world: &World, dice: &mut Rng, client: &Client) -> Result<()> {
    let long: String = (0..dice.usize(1..=250))
        .map(|_| dice.alphanumeric())
        .collect();
    let builder = match dice.u8(..2) {
        0 => ProcessBuilder::new(format!("{}.wasm", &long), "start"),
        _ => ProcessBuilder::new("hello.wasm", long),
    };
    match Process::start(client, builder).await {
        Ok(process) => bail!("a start that cannot be made process {process}"),
        Err(ClientError::Remote { error, .. }) => {
            world
                .ledger
                .legitimate(format!("start refused: {}", error.code));
            world.ledger.did("start of what is not there");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks that a log has no hole that is not marked.
struct Reader {
    stream: LogStream,
    next: Option<u64>,
    records: u64,
    gaps: u64,
}

impl Reader {
    /// Follows a random part of a random process's log; `None` when there is nothing to follow.
    async fn open(world: &World, dice: &mut Rng, client: &Client) -> Result<Option<Self>> {
        let Some(id) = world.starts.any(dice) else {
            return Ok(None);
        };
        let mut options = LogOptions::new().follow(dice.u8(..6) != 0);
        if dice.u8(..3) == 0 {
            options = options.tail(dice.u64(..200));
        }
        if dice.u8(..5) == 0 {
            options = options.since(dice.u64(..2_000));
        }
        let process = Process::new(client, id.0);
        let stream = process.logs(options).await;
        let stream = allow(world, stream, &[ErrorCode::NotFound])?;
        Ok(stream.map(|stream| Self {
            stream,
            next: None,
            records: 0,
            gaps: 0,
        }))
    }

    /// Reads until then, or until the log ends; answers whether it has ended.
    async fn read_until(&mut self, until: Instant) -> Result<bool> {
        while let Ok(item) = timeout_at(until, self.stream.next()).await {
            let Some(item) = item else { return Ok(true) };
            match item? {
                LogItem::Record { sequence, .. } => self.count(sequence)?,
                LogItem::Gap { next, count } => self.skip(next, count)?,
                LogItem::Unreadable {
                    sequence, error, ..
                } => {
                    bail!("record {sequence} cannot be read: {error}")
                }
                _ => {}
            }
        }
        Ok(false)
    }

    fn count(&mut self, sequence: u64) -> Result<()> {
        if let Some(next) = self.next
            && next != sequence
        {
            bail!("record {sequence} follows where {next} had to, without a gap");
        }
        self.next = Some(sequence + 1);
        self.records += 1;
        Ok(())
    }

    fn skip(&mut self, to: u64, count: Option<u64>) -> Result<()> {
        if let (Some(next), Some(count)) = (self.next, count)
            && next.checked_add(count) != Some(to)
        {
            bail!("a gap of {count} leads from {next} to {to}");
        }
        self.next = Some(to);
        self.gaps += 1;
        Ok(())
    }

    fn book(&self, world: &World) {
        world.ledger.did_often("log records read", self.records);
        world.ledger.did_often("log gaps read", self.gaps);
    }
}

async fn follow(world: &World, dice: &mut Rng) -> Result<()> {
    let client = connect(world).await?;
    for _ in 0..dice.u8(1..4) {
        let Some(mut reader) = Reader::open(world, dice, &client).await? else {
            return Ok(());
        };
        let until = Instant::now() + millis(dice, 50, 4_000);
        let ended = reader.read_until(until.min(world.until.into())).await?;
        reader.book(world);
        world.ledger.did(if ended {
            "follow to the end"
        } else {
            "follow for a while"
        });
    }
    Ok(())
}

async fn stall(world: &World, dice: &mut Rng) -> Result<()> {
    let client = connect(world).await?;
    let mut readers = Vec::new();
    for _ in 0..dice.u8(1..5) {
        readers.extend(Reader::open(world, dice, &client).await?);
    }
    world.pause(millis(dice, 500, 8_000)).await;
    for mut reader in readers {
        if dice.bool() {
            let until = Instant::now() + Duration::from_millis(500);
            reader.read_until(until).await?;
            reader.book(world);
        }
        world.ledger.did("stall");
    }
    Ok(())
}

async fn be_killed(world: &World, dice: &mut Rng) -> Result<()> {
    let Some(id) = world.starts.any(dice) else {
        return Ok(());
    };
    let selium = Selium {
        binary: world.cli.clone(),
        certs: world.certs.clone(),
        port: world.port,
    };
    world.ledger.connected();
    let mut child = Command::from(selium.command(&["logs", "--follow", &id.to_string()]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", world.cli.display()))?;
    world.pause(millis(dice, 5, 1_500)).await;
    // Fails when it has ended: the process may be forgotten.
    let _ = child.kill().await;
    world.ledger.did("kill -9 of `selium logs`");
    Ok(())
}
