//! Debian's packages, where we may install them.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{proc, ui};

/// Installs the packages if this is Debian (or alike) and we are root, else says in one line what to run.
pub(crate) fn install(purpose: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if proc::find("apt-get").is_none() {
        bail!("{purpose}: install what Debian calls `{list}`, then run `cargo xtask setup` again");
    }
    if !is_root() {
        bail!("{purpose}: run `sudo apt-get install {list}`, then `cargo xtask setup` again");
    }
    let what = format!("{purpose}: install {list} (under a minute)");
    ui::step(&what, || {
        // Old lists are good enough if they name the packages, so only the install decides.
        if let Err(error) = proc::run(apt_get().arg("update").arg("-qq")) {
            ui::say(&format!("going on with the old package lists: {error:#}"));
        }
        // --no-remove: rather fail than take away something that conflicts with what we want.
        let mut install = apt_get();
        install.args([
            "install",
            "-qq",
            "-y",
            "--no-install-recommends",
            "--no-remove",
        ]);
        proc::run(install.args(packages))
    })
}

/// Whether `install` can do more than say what to run.
pub(crate) fn usable() -> bool {
    proc::find("apt-get").is_some() && is_root()
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    proc::ask(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
