//! Programs from crates.io that some commands need: the user's own, or one that is installed in the cache folder.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::{proc, ui};

/// A program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// Its name, and its package's.
    pub(crate) name: &'static str,
    /// The version that is installed when there is none.
    pub(crate) version: &'static str,
    /// How long that takes.
    pub(crate) takes: &'static str,
}

impl Tool {
    /// The search path on which it is found; it is installed in the cache folder when there is none.
    pub(crate) fn on_path(&self, cache: &Cache) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if proc::find(self.name).is_some() {
            return Ok(path);
        }
        let root = cache.path(&format!("{}-{}", self.name, self.version));
        let bin = root.join("bin");
        if !proc::is_executable(&bin.join(self.name)) {
            let _lock = cache.lock(self.name)?;
            if !proc::is_executable(&bin.join(self.name)) {
                let what = format!(
                    "install {} {}, once ({})",
                    self.name, self.version, self.takes
                );
                ui::step(&what, || self.install(cache, &root))?;
            }
        }
        let mut folders = vec![bin];
        folders.extend(std::env::split_paths(&path));
        std::env::join_paths(folders).context("the cache folder cannot be on the search path")
    }

    /// Cargo puts the program in its place when it is complete.
    fn install(&self, cache: &Cache, root: &Path) -> Result<()> {
        let target = cache.path(&format!("{}-target", self.name));
        let mut command = proc::cargo();
        command
            // Not in the clone, whose cargo configuration is not meant for it.
            .current_dir(cache.root())
            .args(["install", self.name, "--version", self.version, "--locked"])
            .arg("--root")
            .arg(root)
            .arg("--target-dir")
            .arg(&target);
        proc::run(&mut command)?;
        if let Err(error) = fs::remove_dir_all(&target) {
            ui::say(&format!("{} can be deleted: {error}", target.display()));
        }
        Ok(())
    }
}
