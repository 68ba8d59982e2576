//! Which kind of link lies between a client and the server.

use selium_remote_client_protocol::Time;

use crate::{
    pipe::{Pipe, WayProfile},
    quic::{Profile, Quic, Settings},
    rng::Dice,
    transport::Transport,
};

/// A kind of link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkKind {
    /// Byte pipes ([`crate::pipe`]).
    Pipe,
    /// Two QUIC endpoints over a UDP path ([`crate::quic`]).
    Quic,
}

/// How bad a link may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weather {
    /// It delays and splits.
    Calm,
    /// It may do whatever its kind can.
    Any,
}

/// Makes a link at `now`, as the dice say.
#[must_use]
pub fn link(kind: LinkKind, dice: &Dice, now: Time, weather: Weather) -> Box<dyn Transport> {
    match kind {
        LinkKind::Pipe => {
            let calm = weather == Weather::Calm;
            let up = WayProfile::draw(&mut dice.fork("up"), now, calm);
            let down = WayProfile::draw(&mut dice.fork("down"), now, calm);
            Box::new(Pipe::new(dice, up, down))
        }
        LinkKind::Quic => {
            let mut draw = dice.fork("path");
            let mut profile = match weather {
                Weather::Calm => Profile::lan(),
                Weather::Any => Profile::draw(&mut draw),
            };
            // A fall of the MTU may stop `quinn-proto` for minutes, and every law about time here with it.
            profile.mtus.clear();
            if weather == Weather::Any && draw.chance(10) {
                profile = profile.cut(now.saturating_add(draw.millis(0..=8_000)), None);
            }
            Box::new(Quic::new(now, dice, profile, &Settings::default()))
        }
    }
}
