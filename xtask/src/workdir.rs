//! A runtime's work dir: certificates, modules, and the link that makes the documented command line work.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use serde_json::Value;

use crate::artifacts::MODULE;
use crate::cache;
use crate::proc;

/// Enough for every command that needs no server, on a busy machine.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// A prepared work dir. A temporary one is deleted with this value unless it is kept.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl WorkDir {
    /// A temporary one under cargo's target folder. It holds private keys, and is readable by us only.
    pub fn temporary(target: &Path) -> Result<Self> {
        fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("selium-work-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(target)
            .with_context(|| format!("cannot make a work dir in {}", target.display()))?;
        Ok(Self {
            path: folder.path().to_owned(),
            temporary: Some(folder),
        })
    }

    /// One at a path of the user's choice, which stays.
    pub fn at(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot make {}", path.display());
        fs::create_dir_all(path).with_context(cannot)?;
        Ok(Self {
            path: path.canonicalize().with_context(cannot)?,
            temporary: None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificate directory in it.
    pub fn certs(&self) -> PathBuf {
        self.path.join("certs")
    }

    /// Does not delete it, so that somebody can look into it.
    pub fn keep(&mut self) {
        if let Some(folder) = &mut self.temporary {
            folder.disable_cleanup(true);
        }
    }

    /// Fills it for a server that authenticates nobody: certificates by the runtime (existing ones stay), the server
    /// module, the guests.
    pub fn prepare(&self, runtime: &Path, module: &Path, guests: &Path) -> Result<()> {
        self.make_certs(runtime)?;
        self.fill(module, guests)
    }

    /// Fills it for a server with mTLS, the way a user does: the server module, the guests, certificates by
    /// `selium cert init` (existing ones stay), and then the module provisioned by `selium server install`, whose report is
    /// returned.
    pub fn prepare_secure(
        &self,
        cli: &Path,
        module: &Path,
        guests: &Path,
        port: u16,
        policy: Option<&Path>,
    ) -> Result<Value> {
        self.fill(module, guests)?;
        if !self.certs().join("client.key").exists() {
            proc::run(self.selium(cli).args(["cert", "init", "--dir", "."]))?;
        }
        self.install(cli, port, policy)
    }

    /// `selium server install`; returns its report.
    pub fn install(&self, cli: &Path, port: u16, policy: Option<&Path>) -> Result<Value> {
        let mut command = self.selium(cli);
        command
            .args(["--port", &port.to_string(), "--log-format", "json"])
            .args(["server", "install", "--work-dir", "."]);
        if let Some(policy) = policy {
            command.arg("--policy").arg(policy);
        }
        proc::announce(&command);
        let output = proc::output_within(&mut command, COMMAND_LIMIT)?
            .context("`selium server install` did not end in time")?;
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("`selium server install` failed ({})", output.status);
        }
        serde_json::from_slice(&output.stdout)
            .context("the report of `selium server install` is no JSON")
    }

    /// A command in the work dir, whatever the user's own settings are.
    pub fn selium(&self, cli: &Path) -> Command {
        let mut command = Command::new(cli);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SELIUM_") {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.path);
        command
    }

    /// Copies the modules.
    pub fn fill(&self, module: &Path, guests: &Path) -> Result<()> {
        let modules = self.path.join("modules");
        fs::create_dir_all(&modules)
            .with_context(|| format!("cannot make {}", modules.display()))?;
        link_to_itself(&modules)?;
        cache::copy_whole(module, &modules.join(MODULE))?;
        for guest in wasm_files(guests)? {
            let name = guest.file_name().context("a file has a name")?;
            cache::copy_whole(&guest, &modules.join(name))?;
        }
        Ok(())
    }

    fn make_certs(&self, runtime: &Path) -> Result<()> {
        // The runtime would silently overwrite them, and whoever trusts the old ones would be locked out.
        if self.certs().join("server.key").exists() {
            return Ok(());
        }
        let mut command = Command::new(runtime);
        command
            .current_dir(&self.path)
            .env_remove("SELIUM_WORK_DIR")
            .env_remove("SELIUM_LOG_FORMAT")
            .args(["generate-certs", "--output-dir", "certs"]);
        proc::run(&mut command)
    }
}

/// The runtime looks modules up below `modules/`, the documentation writes `path=modules/NAME`. With this link both
/// forms of the path work.
fn link_to_itself(modules: &Path) -> Result<()> {
    let link = modules.join("modules");
    match std::os::unix::fs::symlink(".", &link) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if fs::read_link(&link).is_ok_and(|target| target == Path::new(".")) {
                return Ok(());
            }
            bail!("{} must be a link to `.`: move it away", link.display())
        }
        result => result.with_context(|| format!("cannot make the link {}", link.display())),
    }
}

fn wasm_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
        {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_module_path_lead_to_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = WorkDir::at(&folder.path().join("deep/work")).expect("is made");
        let (module, guests) = (folder.path().join(MODULE), folder.path().join("guests"));
        fs::create_dir_all(&guests).expect("is made");
        fs::write(&module, "module").expect("writes");
        fs::write(guests.join("hello.wasm"), "hello").expect("writes");
        fs::write(guests.join("notes.txt"), "not a module").expect("writes");
        // Certificates that are there are left alone, so no runtime is needed.
        fs::create_dir_all(work.certs()).expect("is made");
        fs::write(work.certs().join("server.key"), "old").expect("writes");

        for _ in 0..2 {
            work.prepare(Path::new("no-runtime"), &module, &guests)
                .expect("prepares");
        }

        let modules = work.path().join("modules");
        assert_eq!(fs::read(modules.join(MODULE)).expect("reads"), b"module");
        assert_eq!(
            fs::read(modules.join("modules").join(MODULE)).expect("reads"),
            b"module"
        );
        assert_eq!(
            fs::read(modules.join("hello.wasm")).expect("reads"),
            b"hello"
        );
        assert!(!modules.join("notes.txt").exists());
    }

    #[test]
    fn a_foreign_modules_folder_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("modules")).expect("is made");
        assert!(link_to_itself(folder.path()).is_err());
    }

    #[test]
    fn a_temporary_one_is_private_and_goes_away_unless_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = WorkDir::temporary(folder.path()).expect("is made");
        let path = work.path().to_owned();
        let mode = path.metadata().expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0);
        drop(work);
        assert!(!path.exists());

        let mut work = WorkDir::temporary(folder.path()).expect("is made");
        let path = work.path().to_owned();
        work.keep();
        drop(work);
        assert!(path.exists());
    }
}
