//! What a client does, drawn from the seed.

use core::time::Duration;
use std::collections::VecDeque;

use selium_remote_client_protocol::{
    AbiParam, AbiSignature, Capability, EntrypointArg, ops::StartRequest,
};

use super::follow::{Asked, Reads};
use crate::rng::Dice;

/// Something that a client does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Start {
        spec: Box<StartRequest>,
        deadline: Option<Duration>,
    },
    Stop {
        deadline: Option<Duration>,
    },
    List,
    Inspect,
    Info,
    Follow(Asked),
    /// Cancel a request that runs or a stream.
    Cancel,
    /// Give a request or a stream up.
    Abandon,
    /// Send a changing request once more that has not been answered.
    Repeat,
    Ping,
    /// Die and come back.
    Kill,
    /// Say goodbye and come back.
    Close,
}

/// Draws a script: what to do, and how long after the step before.
pub(super) fn script(client: u64, dice: &mut Dice, calm: bool) -> VecDeque<(Duration, Step)> {
    let steps = dice.within(4..=14);
    let hurry = dice.pick_or(&[5, 100, 100, 1_500], 100);
    (0..steps)
        .map(|at| {
            let wait = dice.millis(0..=hurry);
            // The first is a start: there is something to follow then.
            let what = if at == 0 { 0 } else { dice.below(100) };
            let step = match what {
                0..=22 => start(client, at, dice),
                23..=29 => Step::Stop {
                    deadline: deadline(dice),
                },
                30..=34 => Step::List,
                35..=39 => Step::Inspect,
                40..=44 => Step::Info,
                45..=69 => Step::Follow(Asked {
                    tail: dice.chance(30).then(|| dice.within(0..=20)),
                    since: dice.chance(25).then(|| dice.within(0..=30)),
                    no_follow: dice.chance(25),
                    reads: match dice.below(10) {
                        0..=6 => Reads::AtOnce,
                        7 | 8 => Reads::Every(dice.millis(1..=150)),
                        _ => Reads::Never,
                    },
                }),
                70..=79 => Step::Cancel,
                80..=84 => Step::Abandon,
                85..=91 => Step::Repeat,
                92..=94 => Step::Ping,
                95..=97 if !calm => Step::Kill,
                98..=99 if !calm => Step::Close,
                _ => Step::Info,
            };
            (wait, step)
        })
        .collect()
}

fn deadline(dice: &mut Dice) -> Option<Duration> {
    match dice.below(4) {
        0 => Some(dice.millis(1..=1_500)),
        1 => Some(Duration::from_secs(60)),
        _ => None,
    }
}

fn start(client: u64, at: u64, dice: &mut Dice) -> Step {
    let mut capabilities = vec![Capability::ChannelLifecycle, Capability::ChannelWriter];
    if dice.chance(10) {
        capabilities.clear();
    }
    let mut spec = StartRequest::with(|spec| {
        spec.module = "guest.wasm".to_owned();
        // By this the host knows it again.
        spec.entrypoint = format!("start-{client}-{at}");
        spec.capabilities = capabilities;
    });
    spec.name = match dice.below(10) {
        0 => Some("the-only-one".to_owned()),
        1..=4 => Some(format!("guest-{client}-{at}")),
        _ => None,
    };
    if dice.chance(15) {
        let len = dice.size(1..=120_000);
        spec.signature = AbiSignature::new(vec![AbiParam::Buffer], Vec::new());
        spec.args = vec![EntrypointArg::Buffer(vec![0x5a; len])];
    }
    Step::Start {
        spec: Box::new(spec),
        deadline: deadline(dice),
    }
}
