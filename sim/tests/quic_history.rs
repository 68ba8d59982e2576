//! One seed is one history of packets: their times, directions and sizes. Alone in its process, so that the first link
//! of the process is one of those that are compared.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)] // Helpers of tests may panic and print as tests do.

use bytes::Bytes;
use selium_remote_client_protocol::Time;
use selium_remote_sim::{
    quic::{Profile, Quic, Settings},
    rng::{Dice, mix},
    transport::{Side, Transport},
};

/// Names the process that only tells its histories.
const CHILD: &str = "SELIUM_SIM_HISTORY";

/// The fingerprints of some links that carry as much as they can in both directions.
fn histories() -> Vec<u64> {
    (0..12).map(history).collect()
}

fn history(seed: u64) -> u64 {
    let dice = Dice::new(seed);
    let profile = Profile::draw(&mut dice.fork("profile"));
    let mut link = Quic::new(Time::ZERO, &dice, profile, &Settings::default());
    let mut packets = 0;
    let write = [Bytes::from(vec![1; 5_000])];
    while let Some(next) = link.next().filter(|next| *next < Time::from_millis(20_000)) {
        link.advance(next);
        for side in [Side::Client, Side::Server] {
            link.write(next, side, &write);
            while link.read(next, side).is_some() {}
        }
        let sent = |side| link.path().counts(side).sent;
        packets = sent(Side::Client) + sent(Side::Server);
        if packets > 600 {
            break;
        }
    }
    assert!(packets > 100, "seed {seed}: {packets} packets");
    link.path().fingerprint()
}

#[test]
fn histories_are_the_same_in_one_process_and_in_two() {
    let first = histories();
    let all = first.iter().fold(0, |all, one| mix(all ^ one));
    if std::env::var_os(CHILD).is_some() {
        println!("histories {all:x}.");
        return;
    }
    assert_eq!(first, histories());
    let mut distinct = first.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), first.len(), "seeds differ");
    // Another process has another certificate, other keys and another origin of its clock.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--nocapture")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(told.contains(&format!("histories {all:x}.")), "{told}");
}
