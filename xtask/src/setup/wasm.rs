//! What compiles to WASM.
//!
//! ```text
//! the toolchain has the target? ──yes──► Own
//!        │ no
//! rustup target add (not if it failed before) ──ok──► Own
//!        │ failed
//! Debian's rustc with its library source, installed if we may ──► Debian (builds the standard library as well)
//!        │ none
//! one line on what to install
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use super::apt;
use crate::cache::Cache;
use crate::{proc, ui};

/// The target of every Selium guest.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler, which stands beside rustup's without being disturbed by it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A target is some 20 MB; a machine where this takes longer most likely cannot reach it at all.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// Where the user wants the compiler for WASM from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WasmChoice {
    /// The toolchain in use if it can have the target, else Debian's.
    Auto,
    /// The toolchain in use, its target added through rustup.
    Rustup,
    /// Debian's rustc-web with a standard library built from rust-web-src.
    Debian,
}

/// A compiler for WASM.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// The toolchain in use.
    Own { key: String },
    /// Debian's compiler, the linker of the toolchain in use.
    Debian { key: String, linker: PathBuf },
}

impl Toolchain {
    /// Tells compilers apart: what one of them built is useless to another.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Own { key } | Self::Debian { key, .. } => key,
        }
    }

    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Own { key } => format!("rustc {key}"),
            Self::Debian { key, .. } => format!("Debian's rustc {key}"),
        }
    }

    /// How much longer a first build takes.
    pub(crate) fn first_build_note(&self) -> &'static str {
        match self {
            Self::Own { .. } => "",
            Self::Debian { .. } => ", and 2 more for the standard library",
        }
    }

    /// Makes a cargo command (already with its subcommand) build for WASM with this compiler.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.args(["--target", TARGET]);
        if let Self::Debian { linker, .. } = self {
            command
                .args(["-Z", "build-std=std,panic_abort"])
                .env("RUSTC", DEBIAN_RUSTC)
                // Building the standard library is an unstable option of a stable cargo.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }
}

/// Finds a compiler for WASM, or makes one available.
pub(crate) fn ensure(cache: &Cache, choice: WasmChoice) -> Result<Toolchain> {
    let own = Path::new("rustc");
    let key = version_key(own)?;
    if choice == WasmChoice::Debian {
        return debian(cache);
    }
    if has_target(own)? {
        return Ok(Toolchain::Own { key });
    }
    let _lock = cache.lock("rustup")?;
    if has_target(own)? {
        return Ok(Toolchain::Own { key });
    }
    let failed_before = cache.path(&format!("rustup-target-add-failed-{key}"));
    if choice == WasmChoice::Auto && failed_before.exists() {
        return debian(cache);
    }
    let Err(error) = add_target() else {
        // It is there now, so an old failure says nothing any more; nothing depends on the removal.
        let _ = fs::remove_file(&failed_before);
        return Ok(Toolchain::Own { key });
    };
    if choice == WasmChoice::Rustup {
        return Err(error);
    }
    ui::say(&format!("{error:#}; trying Debian's compiler"));
    let toolchain = debian(cache)?;
    if proc::find("rustup").is_none() {
        return Ok(toolchain);
    }
    // Remembered only where there is another way; elsewhere trying again is all one can do.
    fs::write(&failed_before, format!("{error:#}\n"))
        .with_context(|| format!("cannot write {}", failed_before.display()))?;
    ui::say(
        "rustup will not be asked again; `rustup target add wasm32-unknown-unknown` undoes that",
    );
    Ok(toolchain)
}

fn add_target() -> Result<()> {
    if proc::find("rustup").is_none() {
        bail!("the toolchain has no {TARGET}, and there is no rustup to add it");
    }
    let limit = RUSTUP_LIMIT.as_secs();
    let what = format!("add {TARGET} through rustup (seconds; given up after {limit})");
    ui::step(&what, || {
        let mut command = Command::new("rustup");
        command.args(["target", "add", TARGET]);
        proc::announce(&command);
        let output = proc::output_within(&mut command, RUSTUP_LIMIT)?
            .ok_or_else(|| anyhow!("rustup could not add {TARGET} in {limit} s"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("rustup could not add {TARGET}: {}", cause(&stderr));
        }
        Ok(())
    })
}

fn debian(cache: &Cache) -> Result<Toolchain> {
    if !debian_complete() {
        let _lock = cache.lock("setup")?;
        if !debian_complete() {
            if !apt::usable() {
                bail!(
                    "no compiler for WASM: run `rustup target add {TARGET}` \
                     (or, on Debian, `sudo apt-get install {}`)",
                    DEBIAN_PACKAGES.join(" ")
                );
            }
            apt::install("a compiler for WASM", &DEBIAN_PACKAGES)?;
        }
        if !debian_complete() {
            bail!(
                "{DEBIAN_RUSTC} has no library source: run `apt-get install {}`",
                DEBIAN_PACKAGES.join(" ")
            );
        }
    }
    Ok(Toolchain::Debian {
        key: version_key(Path::new(DEBIAN_RUSTC))?,
        linker: linker()?,
    })
}

/// Whether Debian's compiler and the source of its standard library are installed.
fn debian_complete() -> bool {
    let rustc = Path::new(DEBIAN_RUSTC);
    proc::is_executable(rustc)
        && sysroot(rustc).is_ok_and(|root| {
            root.join("lib/rustlib/src/rust/library/Cargo.lock")
                .is_file()
        })
}

/// Debian's compiler comes without a linker for WASM, the toolchain in use brings one.
fn linker() -> Result<PathBuf> {
    let rustc = Path::new("rustc");
    let host = field(&version(rustc)?, "host")?.to_owned();
    let bundled = sysroot(rustc)?
        .join("lib/rustlib")
        .join(host)
        .join("bin/rust-lld");
    if bundled.is_file() {
        return Ok(bundled);
    }
    proc::find("wasm-ld")
        .or_else(|| proc::find("rust-lld"))
        .context("no linker for WASM: install rustup's stable toolchain or `lld`")
}

fn has_target(rustc: &Path) -> Result<bool> {
    let folder =
        proc::ask(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
    // The folder's name is known for every target; a library inside means that it is installed.
    let Ok(entries) = fs::read_dir(folder.trim()) else {
        return Ok(false);
    };
    Ok(entries
        .filter_map(|entry| entry.ok())
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    let path = proc::ask(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(path.trim()))
}

fn version(rustc: &Path) -> Result<String> {
    proc::ask(Command::new(rustc).arg("-vV"))
        .context("no working rustc: install Rust through rustup.rs")
}

fn version_key(rustc: &Path) -> Result<String> {
    parse_key(&version(rustc)?)
}

/// The release and, where there is one, the commit: two builds of one release do not understand each other's output.
fn parse_key(version: &str) -> Result<String> {
    let release = field(version, "release")?;
    let commit = field(version, "commit-hash").unwrap_or("unknown");
    let short = commit.get(..9).unwrap_or(commit);
    let first = version.lines().next().unwrap_or_default();
    // A distribution builds from the same commit what is not the same compiler.
    let rebuilt = if first.contains("built from a source tarball") {
        "-tarball"
    } else {
        ""
    };
    Ok(format!("{release}-{short}{rebuilt}"))
}

/// One line of `rustc -vV`.
fn field<'a>(version: &'a str, name: &str) -> Result<&'a str> {
    version
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .with_context(|| format!("rustc -vV names no {name}"))
}

/// The line of rustup's output that says why.
fn cause(stderr: &str) -> &str {
    let lines = || {
        stderr
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    lines()
        .find_map(|line| line.strip_prefix("error: "))
        .or_else(|| lines().next_back())
        .unwrap_or("it did not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUSTUP: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
        commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\ncommit-date: 2026-04-14\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn compilers_have_different_keys() {
        assert_eq!(parse_key(RUSTUP).expect("parses"), "1.95.0-59807616e");
        let debian = RUSTUP.replace("14)", "14) (built from a source tarball)");
        assert_eq!(
            parse_key(&debian).expect("parses"),
            "1.95.0-59807616e-tarball"
        );
        let unknown = RUSTUP.replace("59807616e1fa2540724bfbac14d7976d7e4a3860", "unknown");
        assert_eq!(parse_key(&unknown).expect("parses"), "1.95.0-unknown");
        assert!(parse_key("rustc, but which?").is_err());
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(
            field(RUSTUP, "host").expect("found"),
            "x86_64-unknown-linux-gnu"
        );
        assert!(field(RUSTUP, "commit").is_err());
    }

    #[test]
    fn the_cause_of_a_failure_is_one_line() {
        let stderr = "info: downloading component rust-std\nerror: component download failed\n\nCaused by: x\n";
        assert_eq!(cause(stderr), "component download failed");
        assert_eq!(cause("warn: one\nlast line\n"), "last line");
        assert_eq!(cause(""), "it did not say why");
    }
}
