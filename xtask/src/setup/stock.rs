//! The stock runtime, as its users install it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{proc, ui};

const CRATE: &str = "selium-runtime";

/// Host and guests check each other's ABI, so the version is exact.
const VERSION: &str = "1.0.0-alpha.6";

/// Returns the path of the stock runtime, installing it first if it is not there.
pub(crate) fn ensure(cache: &Cache) -> Result<PathBuf> {
    let root = cache.path(&format!("{CRATE}-{VERSION}"));
    let binary = root.join("bin").join(CRATE);
    if proc::is_executable(&binary) {
        return Ok(binary);
    }
    let _lock = cache.lock("setup")?;
    // Another run may have installed it while we waited.
    if !proc::is_executable(&binary) {
        let what = format!("install {CRATE} {VERSION}, once (about 6 minutes on 2 cores)");
        ui::step(&what, || install(cache, &root))?;
    }
    if !proc::is_executable(&binary) {
        bail!("the installation did not bring {}", binary.display());
    }
    Ok(binary)
}

/// Installs beside the final place and renames, so that what is in place is complete.
fn install(cache: &Cache, root: &Path) -> Result<()> {
    // A new name each time: a cargo that outlived a killed run may still be busy with the last one.
    let partial = tempfile::Builder::new()
        .prefix(&format!("{CRATE}-{VERSION}.partial-"))
        .tempdir_in(cache.root())
        .with_context(|| format!("cannot make a folder in {}", cache.root().display()))?;
    // Its own target folder survives an interruption, so that the next run goes on where this one stopped.
    let target = cache.path(&format!("{CRATE}-target"));
    let mut command = proc::cargo();
    command
        // Not in the clone, whose cargo configuration is not meant for it.
        .current_dir(cache.root())
        .args(["install", CRATE, "--version", VERSION, "--locked"])
        .arg("--root")
        .arg(partial.path())
        .arg("--target-dir")
        .arg(&target);
    proc::run(&mut command).context("run `cargo xtask setup` to try again")?;
    // What stands in the place has no runtime in it, or we would not be here.
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    fs::rename(partial.path(), root).with_context(|| format!("cannot make {}", root.display()))?;
    if let Err(error) = fs::remove_dir_all(&target) {
        ui::say(&format!("{} can be deleted: {error}", target.display()));
    }
    Ok(())
}
