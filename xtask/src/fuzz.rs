//! `cargo xtask fuzz`: every fuzz target in `fuzz/`, one after the other, on the nightly toolchain.
//!
//! What a run learns is kept in cargo's target folder and used by the next one; `fuzz/corpus` and `fuzz/regressions` are
//! read and never written. What a target finds stands in `fuzz/artifacts`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::project::Project;
use crate::tool::Tool;
use crate::{proc, ui};

const TOOL: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
    takes: "about a minute",
};

const TOOLCHAIN: &str = "nightly";

/// The longest input, in bytes: enough for every kind of message, and for scripts of hundreds of steps.
const MAX_LEN: usize = 2_048;

/// Memory of a target, and its largest single allocation, in MiB. Inputs of [`MAX_LEN`] bytes justify much less.
const RSS_MB: usize = 1_536;
const MALLOC_MB: usize = 64;

/// The longest that one input may take, in seconds.
const INPUT_SECONDS: usize = 10;

/// Runs the targets, or the one of that name, each for so many seconds; a failure when one of them finds something.
pub(crate) fn run(
    project: &Project,
    cache: &Cache,
    seconds: u64,
    only: Option<&str>,
) -> Result<ExitCode> {
    let folder = project.root.join("fuzz");
    let targets = targets(&folder, only)?;
    check_toolchain()?;
    let fuzzer = Fuzzer {
        folder,
        learned: project.target.join("fuzz-corpus"),
        path: TOOL.on_path(cache)?,
        seconds,
    };
    ui::step("build the fuzz targets", || {
        let mut command = fuzzer.cargo_fuzz("build");
        proc::run(&mut command)
    })?;
    let mut failed = Vec::new();
    for target in &targets {
        let what = format!("fuzz {target} for {seconds} s");
        if !ui::step(&what, || fuzzer.run(target))? {
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        ui::say(&format!("{} targets found nothing", targets.len()));
        return Ok(ExitCode::SUCCESS);
    }
    ui::say(&format!("found something: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

/// The names of all targets, or that one if there is such a target.
fn targets(folder: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let all: Vec<String> = files(&folder.join("fuzz_targets"))?
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    match only {
        None => Ok(all),
        Some(only) if all.iter().any(|target| target == only) => Ok(vec![only.to_owned()]),
        Some(only) => bail!("no fuzz target {only}; there are {}", all.join(", ")),
    }
}

/// The files in a folder, in order; none when there is no such folder.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    if !folder.is_dir() {
        return Ok(BTreeSet::new());
    }
    let cannot = || format!("cannot read {}", folder.display());
    fs::read_dir(folder)
        .with_context(cannot)?
        .map(|entry| Ok(entry.with_context(cannot)?.path()))
        .collect()
}

fn check_toolchain() -> Result<()> {
    let found = Command::new("rustup")
        .args(["run", TOOLCHAIN, "rustc", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        bail!("fuzzing needs the nightly toolchain: run `rustup toolchain install {TOOLCHAIN}`");
    }
    Ok(())
}

/// What all targets are run with.
struct Fuzzer {
    folder: PathBuf,
    learned: PathBuf,
    path: OsString,
    seconds: u64,
}

impl Fuzzer {
    fn cargo_fuzz(&self, what: &str) -> Command {
        let mut command = Command::new("rustup");
        command
            .current_dir(&self.folder)
            .args(["run", TOOLCHAIN, "cargo", "fuzz", what])
            .env("PATH", &self.path)
            // This program's own cargo is another one.
            .env_remove("CARGO");
        command
    }

    /// Runs one target; whether it found nothing.
    fn run(&self, target: &str) -> Result<bool> {
        let artifacts = self.folder.join("artifacts").join(target);
        let before = files(&artifacts)?;
        let learned = self.learned.join(target);
        fs::create_dir_all(&learned)
            .with_context(|| format!("cannot make {}", learned.display()))?;
        let mut command = self.cargo_fuzz("run");
        command.arg(target).arg(learned);
        for committed in ["corpus", "regressions"] {
            let committed = self.folder.join(committed).join(target);
            if committed.is_dir() {
                command.arg(committed);
            }
        }
        command.arg("--").args(self.limits());
        proc::announce(&command);
        let status = command
            .stdout(std::io::stderr())
            .status()
            .context("cannot run rustup")?;
        let mut found: Vec<_> = files(&artifacts)?.difference(&before).cloned().collect();
        // Inputs that are merely slow are no failures.
        found.retain(|path| !is_slow_unit(path));
        for path in &found {
            println!("{}", path.display());
            ui::say(&format!(
                "replay: cd fuzz && rustup run {TOOLCHAIN} cargo fuzz run {target} {}",
                path.display()
            ));
            ui::say(&format!(
                "keep it: copy it to fuzz/regressions/{target}/, and `cargo test` replays it"
            ));
        }
        Ok(status.success() && found.is_empty())
    }

    fn limits(&self) -> [String; 6] {
        [
            format!("-max_total_time={}", self.seconds),
            format!("-max_len={MAX_LEN}"),
            format!("-rss_limit_mb={RSS_MB}"),
            format!("-malloc_limit_mb={MALLOC_MB}"),
            format!("-timeout={INPUT_SECONDS}"),
            "-print_final_stats=1".to_owned(),
        ]
    }
}

fn is_slow_unit(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("slow-unit-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_and_checked() {
        let folder = tempfile::tempdir().expect("a folder");
        let programs = folder.path().join("fuzz_targets");
        fs::create_dir(&programs).expect("makes");
        for name in ["b.rs", "a.rs"] {
            fs::write(programs.join(name), "").expect("writes");
        }
        assert_eq!(targets(folder.path(), None).expect("reads"), ["a", "b"]);
        assert_eq!(targets(folder.path(), Some("b")).expect("reads"), ["b"]);
        let error = targets(folder.path(), Some("c")).expect_err("none such");
        assert_eq!(error.to_string(), "no fuzz target c; there are a, b");
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_files() {
        assert!(
            files(Path::new("/nowhere/at/all"))
                .expect("none")
                .is_empty()
        );
        assert!(is_slow_unit(Path::new("x/slow-unit-1")));
        assert!(!is_slow_unit(Path::new("x/crash-1")));
    }
}
