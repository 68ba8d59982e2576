//! Clients that are killed, and one that is stopped for longer than the runtime waits for a silent connection (30 s).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selium_remote_client_protocol::ops::ServerInfo;
use selium_remote_e2e::{Dice, PATIENCE, Server, block_on, eventually, guests, median};
use xtask::proc::Guard;

/// Clients that are killed.
const VICTIMS: usize = 20;
/// How long a client is stopped.
const STOPPED: Duration = Duration::from_secs(40);
/// After that the runtime has dropped every connection whose client says nothing: its 30 s, and some more.
const FORGOTTEN: Duration = Duration::from_secs(45);

/// The server's counters, over a connection that lives only for it.
fn info(server: &Server) -> ServerInfo {
    block_on(async {
        let client = server.config().connect().await.expect("the server lives");
        let info = client.info().await.expect("counters");
        client.close().await;
        info
    })
}

/// Sends a signal to a child of ours.
fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// The number of a tick.
fn tick(line: &str) -> u64 {
    line.rsplit_once(" tick ")
        .unwrap_or_else(|| panic!("{line} is no tick"))
        .1
        .parse()
        .unwrap()
}

/// Starts commands that follow something, and kills each at some moment.
fn kill_clients(server: &Server, id: &str) {
    let mut dice = Dice::seeded("moments of kills");
    let mut moments = Vec::new();
    for n in 0..VICTIMS {
        let args: Vec<&str> = match n % 2 {
            0 => vec!["logs", "-f", id],
            _ => vec![
                "start",
                "--attach",
                "-c",
                selium_remote_e2e::LOGGING,
                "-c",
                "TimeRead",
                "ticker.wasm",
                "ticker",
                "-a",
                "u32:1000000",
                "-a",
                "u32:5",
            ],
        };
        let child = server
            .command(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut victim = Guard::new(child.expect("the command runs"));
        let moment = Duration::from_millis(dice.below(600));
        thread::sleep(moment);
        assert_eq!(
            victim.ended().expect("its state"),
            None,
            "{args:?} ended by itself"
        );
        victim.child().kill().expect("the signal is sent");
        moments.push(moment);
    }
    eprintln!("{VICTIMS} clients killed, each so long after its start: {moments:?}");
    server.must_answer();
}

#[test]
fn killed_and_stopped_clients() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let id = block_on(async {
        let client = server.config().connect().await.expect("a connection");
        let ticker = guests::ticker(100_000_000, 1).name("load-ticker");
        let process = selium_remote_client::Process::start(&client, ticker).await;
        let id = process.expect("it starts").id().to_string();
        client.close().await;
        id
    });
    let base = eventually("nobody else is connected", || {
        let info = info(&server);
        (info.connections == 1).then_some(info)
    });
    // Two followers of a thousand ticks a second: one is stopped, the other must not notice.
    let mut witness = server.follow(&["logs", "--follow", "--tail", "1", &id]);
    let first = tick(&witness.line());
    let child = server
        .command(&["logs", "--follow", "--tail", "1", &id])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut stopped = Guard::new(child.expect("the command runs"));
    eventually("both follow", || (info(&server).streams == 2).then_some(()));
    signal("-STOP", stopped.id());
    let begun = Instant::now();

    kill_clients(&server, &id);
    let killed = Instant::now();
    // Others are served meanwhile.
    let mut took = Vec::new();
    while begun.elapsed() < STOPPED {
        let asked = Instant::now();
        let _ = info(&server);
        took.push(asked.elapsed());
        thread::sleep(Duration::from_millis(250));
    }
    eprintln!(
        "while one client is stopped: {} others came, each served in {:.1?} (at most {:.1?})",
        took.len(),
        median(&took),
        took.iter().max().unwrap()
    );
    assert_eq!(
        stopped.ended().expect("its state"),
        None,
        "it is stopped, not gone"
    );
    signal("-CONT", stopped.id());
    let resumed = Instant::now();
    // `selium logs --help`: the connection is lost, exit code 1.
    let status = stopped.wait_within(PATIENCE).expect("its state");
    let status = status.expect("it notices that its connection is lost");
    let mut said = String::new();
    let stderr = stopped.child().stderr.take().expect("a pipe");
    std::io::Read::read_to_string(&mut std::io::BufReader::new(stderr), &mut said).unwrap();
    eprintln!(
        "after {STOPPED:?} it ended with {status} within {:.1?}: {said}",
        resumed.elapsed()
    );
    assert_eq!(status.code(), Some(1), "{said}");

    // One connection is the witness's.
    let mut left = info(&server);
    while left.connections > base.connections + 1 && killed.elapsed() < FORGOTTEN {
        thread::sleep(Duration::from_millis(250));
        left = info(&server);
    }
    eprintln!("{:.1?} after the last kill: {left:?}", killed.elapsed());
    assert_eq!(
        left.connections,
        base.connections + 1,
        "the killed ones are forgotten"
    );
    assert_eq!((left.streams, left.zombies), (1, 0));

    // The witness missed nothing.
    let goal = first + 20_000;
    witness.until("ticks go on", |line| tick(line) >= goal);
    let seen = witness.seen();
    for (line, n) in seen.iter().zip(first..) {
        assert_eq!(tick(line), n, "the witness lost a line");
    }
    eprintln!("the witness saw {} ticks in a row", seen.len());
    drop(witness);
    server.must_answer();
}
