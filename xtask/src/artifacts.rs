//! What we build: the server module, the guests, the command line.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Cache};
use crate::project::Project;
use crate::setup::Toolchain;
use crate::setup::wasm::TARGET;
use crate::{proc, ui};

/// The module's name in a work dir and in the documentation.
pub(crate) const MODULE: &str = "selium_remote_client_server.wasm";

const MODULE_CRATE: &str = "selium-remote-client-server";
pub(crate) const CLI_CRATE: &str = "selium-remote-cli";
pub(crate) const CLI_BINARY: &str = "selium";
pub(crate) const CORE_CRATE: &str = "selium-remote-client-protocol";
const CORE_EXAMPLE: &str = "imports_nothing";

/// Builds the server module and returns its path.
pub(crate) fn module(project: &Project, cache: &Cache, toolchain: &Toolchain) -> Result<PathBuf> {
    let what = format!(
        "build the server module (a first build takes 1 to 2 minutes{})",
        toolchain.first_build_note()
    );
    ui::step(&what, || {
        let name = format!("wasm-target-{}", toolchain.key());
        // Until the copy is made: another clone builds a file of the same name in the same folder.
        let _lock = cache.lock(&name)?;
        let target_dir = cache.path(&name);
        let mut command = proc::cargo();
        // `cargo rustc`, because the crate is also an rlib for its native tests, and cargo does not do LTO for a crate
        // that is both.
        command
            .current_dir(&project.root)
            .args(["rustc", "--package", MODULE_CRATE, "--lib"])
            .args(["--crate-type", "cdylib", "--profile", "wasm"]);
        build_wasm(&mut command, toolchain, &target_dir, project)?;
        let built = target_dir.join(TARGET).join("wasm").join(MODULE);
        let module = project.wasm_dir().join(MODULE);
        let bytes = cache::copy_whole(&built, &module)?;
        eprintln!("    {}, {}", project.short(&module), ui::size(bytes));
        Ok(module)
    })
}

/// Builds the core alone, as a module that uses both of its machines, and returns its path.
pub(crate) fn core_alone(
    project: &Project,
    cache: &Cache,
    toolchain: &Toolchain,
) -> Result<PathBuf> {
    let what = "build the core alone for WASM (seconds once the server module is built)";
    ui::step(what, || {
        let name = format!("wasm-target-{}", toolchain.key());
        let _lock = cache.lock(&name)?;
        let target_dir = cache.path(&name);
        let mut command = proc::cargo();
        command
            .current_dir(&project.root)
            .args(["build", "--package", CORE_CRATE])
            .args(["--example", CORE_EXAMPLE, "--profile", "wasm"]);
        build_wasm(&mut command, toolchain, &target_dir, project)?;
        let file = format!("{CORE_EXAMPLE}.wasm");
        let built = target_dir.join(TARGET).join("wasm/examples").join(&file);
        let module = project.wasm_dir().join(&file);
        let bytes = cache::copy_whole(&built, &module)?;
        eprintln!("    {}, {}", project.short(&module), ui::size(bytes));
        Ok(module)
    })
}

/// Builds the guests and returns the folder with their `.wasm` files.
pub(crate) fn guests(project: &Project, cache: &Cache, toolchain: &Toolchain) -> Result<PathBuf> {
    let what = format!(
        "build the guests (a first build takes 2 to 3 minutes on 2 cores{})",
        toolchain.first_build_note()
    );
    ui::step(&what, || {
        let name = format!("guests-target-{}", toolchain.key());
        let _lock = cache.lock(&name)?;
        let target_dir = cache.path(&name);
        let mut command = proc::cargo();
        command
            .current_dir(project.guests())
            .args(["build", "--release", "--locked"]);
        build_wasm(&mut command, toolchain, &target_dir, project)?;
        let built = target_dir.join(TARGET).join("release");
        let guests = project.wasm_dir().join("guests");
        for guest in guest_names(project)? {
            let file = format!("{guest}.wasm");
            let bytes = cache::copy_whole(&built.join(&file), &guests.join(&file))?;
            eprintln!("    {file}, {}", ui::size(bytes));
        }
        Ok(guests)
    })
}

/// Builds the command line and returns its path.
pub(crate) fn cli(project: &Project) -> Result<PathBuf> {
    ui::step(
        "build the command line (a first build takes 1 to 2 minutes)",
        || {
            let mut command = proc::cargo();
            command
                .current_dir(&project.root)
                .args(["build", "--package", CLI_CRATE]);
            proc::run(&mut command)?;
            let binary = project.target.join("debug").join(CLI_BINARY);
            if !proc::is_executable(&binary) {
                bail!("the build did not bring {}", binary.display());
            }
            Ok(binary)
        },
    )
}

/// The file in a shared target folder that says for which clone the modules in it were built.
const BUILT_FOR: &str = "built-for";

/// Makes cargo build our packages anew when another clone was the last to build here. They have the same names and file
/// names in every clone, and cargo, which only looks whether files have become newer, takes another's for its own.
fn claim(target_dir: &Path, root: &Path, guests: &[String]) -> Result<()> {
    let mark = target_dir.join(BUILT_FOR);
    let root = root.display().to_string();
    if fs::read_to_string(&mark).is_ok_and(|last| last == root) {
        return Ok(());
    }
    for profile in ["wasm", "release"] {
        let folder = target_dir.join(TARGET).join(profile);
        let is_ours = |name: &str| {
            let package = name.rsplit_once('-').map_or(name, |(package, _)| package);
            package.starts_with("selium-remote") || guests.iter().any(|guest| guest == package)
        };
        for known in entries(&folder.join(".fingerprint"))? {
            let name = known.file_name().and_then(|name| name.to_str());
            if name.is_some_and(is_ours) {
                fs::remove_dir_all(&known)
                    .with_context(|| format!("cannot remove {}", known.display()))?;
            }
        }
        for folder in [folder.clone(), folder.join("deps"), folder.join("examples")] {
            for module in wasm_in(&folder)? {
                fs::remove_file(&module)
                    .with_context(|| format!("cannot remove {}", module.display()))?;
            }
        }
    }
    let cannot = || format!("cannot write {}", mark.display());
    fs::create_dir_all(target_dir).with_context(cannot)?;
    fs::write(&mark, root).with_context(cannot)
}

/// The modules in a folder; none when there is no such folder.
fn wasm_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = entries(folder)?;
    found.retain(|path| path.extension().is_some_and(|it| it == "wasm"));
    Ok(found)
}

/// What is in a folder; nothing when there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let cannot = || format!("cannot list {}", folder.display());
    fs::read_dir(folder)
        .with_context(cannot)?
        .map(|entry| Ok(entry.with_context(cannot)?.path()))
        .collect()
}

fn build_wasm(
    command: &mut Command,
    toolchain: &Toolchain,
    target_dir: &Path,
    project: &Project,
) -> Result<()> {
    claim(target_dir, &project.root, &guest_names(project)?)?;
    toolchain.apply(command);
    command.arg("--target-dir").arg(target_dir);
    // Flags meant for this machine's programs would break the module, and panic messages must not carry the paths of
    // the machine that built it. (Paths in the clone are relative already.)
    command
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", remap(&cargo_home()?));
    proc::run(command)
}

fn remap(cargo_home: &Path) -> OsString {
    // The encoded form: one flag needs no separator, and may contain spaces.
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(cargo_home);
    flag.push("=cargo");
    flag
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")))
        .context("no home folder: set HOME or CARGO_HOME")
}

/// The guests are the folders of their workspace that hold a crate; each crate is named like its folder.
fn guest_names(project: &Project) -> Result<Vec<String>> {
    let folder = project.guests();
    let cannot = || format!("cannot list {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.join("Cargo.toml").is_file()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            names.push(name.replace('-', "_"));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_of_the_workspace_is_known() {
        let project = Project {
            root: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
            target: PathBuf::from("target"),
        };
        let manifest = fs::read_to_string(project.guests().join("Cargo.toml")).expect("reads");
        let names = guest_names(&project).expect("lists");
        assert!(names.contains(&"hello".to_owned()), "{names:?}");
        for name in names {
            assert!(
                manifest.contains(&format!("\"{name}\"")),
                "{name} is no member"
            );
        }
    }

    #[test]
    fn modules_of_another_clone_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let deps = folder.path().join(TARGET).join("wasm/deps");
        fs::create_dir_all(&deps).expect("is made");
        let known = folder.path().join(TARGET).join("wasm/.fingerprint");
        let ours = [
            deps.join("m.wasm"),
            known.join("selium-remote-provision-0123456789abcdef"),
            known.join("hello-0123456789abcdef"),
        ];
        let others = [deps.join("libm.rlib"), known.join("bytes-0123456789abcdef")];
        let built = || {
            for path in ours.iter().chain(&others) {
                match path.starts_with(&known) {
                    true => fs::create_dir_all(path).expect("is made"),
                    false => fs::write(path, "x").expect("writes"),
                }
            }
        };
        let claim = |root| claim(folder.path(), Path::new(root), &["hello".to_owned()]);
        let there = |paths: &[PathBuf]| paths.iter().filter(|path| path.exists()).count();
        built();
        claim("/one").expect("claims");
        assert_eq!((there(&ours), there(&others)), (0, 2), "nobody's");
        built();
        claim("/one").expect("claims");
        assert_eq!((there(&ours), there(&others)), (3, 2), "one's own");
        claim("/two").expect("claims");
        assert_eq!((there(&ours), there(&others)), (0, 2), "another's");
    }

    #[test]
    fn the_flag_keeps_spaces() {
        let flag = remap(Path::new("/home/a user/.cargo"));
        assert_eq!(flag, "--remap-path-prefix=/home/a user/.cargo=cargo");
    }
}
