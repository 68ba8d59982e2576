//! `sim`: many seeds, one after another.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose job is to print"
)]

use std::{process::ExitCode, time::Instant};

use selium_remote_sim::{
    run::{WorldKind, run},
    world::report::Report,
};

const USAGE: &str = "sim [--seeds N] [--from S] [--world pipes|quic|hostile|cores|all] [--verbose]";

/// What the command line says.
struct Args {
    seeds: u64,
    from: u64,
    kinds: Vec<WorldKind>,
    /// Whether the seeds are shared among the worlds.
    shared: bool,
    verbose: bool,
}

fn parse() -> Result<Args, String> {
    let mut args = Args {
        seeds: 1_000,
        from: 0,
        kinds: WorldKind::ALL.to_vec(),
        shared: true,
        verbose: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| {
            text.parse::<u64>()
                .map_err(|_| format!("`{text}` is no number"))
        };
        match word.as_str() {
            "--seeds" => args.seeds = number(value()?)?,
            "--from" => args.from = number(value()?)?,
            "--world" => {
                let name = value()?;
                if name != "all" {
                    let kind = WorldKind::named(&name);
                    args.kinds = vec![kind.ok_or(format!("there is no world `{name}`"))?];
                    args.shared = false;
                }
            }
            "--verbose" => args.verbose = true,
            "--help" | "-h" => return Err("seeds of the simulator".to_owned()),
            _ => return Err(format!("`{word}` is not known")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(words) => {
            eprintln!("{words}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    for kind in &args.kinds {
        let count = if args.shared {
            kind.share(args.seeds)
        } else {
            args.seeds
        };
        if !seeds(*kind, count, &args) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs all seeds of a world; `false` at the first that fails.
fn seeds(kind: WorldKind, count: u64, args: &Args) -> bool {
    let begun = Instant::now();
    let mut sum = Report::default();
    let end = args.from.saturating_add(count);
    for seed in args.from..end {
        let outcome = std::panic::catch_unwind(|| run(kind, seed, args.verbose));
        let Ok(outcome) = outcome else {
            eprintln!("seed {seed} of {} failed", kind.name());
            eprintln!("{}", kind.replay(seed));
            return false;
        };
        if args.verbose {
            for line in &outcome.lines {
                println!("{line}");
            }
            println!("seed {seed}: hash {:016x}", outcome.hash);
        }
        sum.add(&outcome.report);
        let done = seed - args.from + 1;
        if done.is_multiple_of(5_000) && done < count {
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{}: {done} seeds, {rate:.0} a second", kind.name());
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let rate = count as f64 / took;
    println!(
        "{}: seeds {} to {} in {took:.1} s, {rate:.0} a second",
        kind.name(),
        args.from,
        end.saturating_sub(1)
    );
    for (name, value) in sum.lines() {
        println!("  {value:>14}  {name}");
    }
    true
}
