//! Python with its packages, for the second implementation of the protocol in `interop/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::cache::Cache;
use crate::{proc, ui};

/// Debian's names for Python and for what makes virtual environments.
const PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// The oldest that `interop/` runs on.
const OLDEST: (u32, u32) = (3, 10);

/// Prints the version and the path; fails where virtual environments cannot be made.
const QUESTION: &str = "import ensurepip, venv, sys; print(*sys.version_info[:3], sys.executable)";

/// Written last: a virtual environment cannot be moved into its place, so this is how a whole one is known.
const COMPLETE: &str = "complete";

/// A Python that can make virtual environments.
#[derive(Debug, PartialEq, Eq)]
struct Python {
    version: (u32, u32, u32),
    path: PathBuf,
}

/// Returns the interpreter of a virtual environment with exactly these packages, making it first if it is not there.
pub(crate) fn ensure(cache: &Cache, requirements: &Path) -> Result<PathBuf> {
    let python = find(cache)?;
    let wanted = fs::read(requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let name = folder_name(&python, &wanted);
    let root = cache.path(&name);
    let interpreter = root.join("bin").join("python");
    let ready = || root.join(COMPLETE).is_file() && proc::is_executable(&interpreter);
    if ready() {
        return Ok(interpreter);
    }
    let _lock = cache.lock(&name)?;
    // Another run may have made it while we waited.
    if !ready() {
        ui::step("install the packages of interop/, once (seconds)", || {
            install(&python.path, &root, &interpreter, requirements)
        })?;
    }
    Ok(interpreter)
}

fn install(python: &Path, root: &Path, interpreter: &Path, requirements: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    let mut venv = Command::new(python);
    proc::run(venv.args(["-m", "venv"]).arg(root))?;
    let mut pip = Command::new(interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--requirement"])
        .arg(requirements);
    proc::run(&mut pip)?;
    let marker = root.join(COMPLETE);
    fs::write(&marker, []).with_context(|| format!("cannot write {}", marker.display()))
}

fn find(cache: &Cache) -> Result<Python> {
    if let Some(python) = usable() {
        return Ok(python);
    }
    let _lock = cache.lock("setup")?;
    if let Some(python) = usable() {
        return Ok(python);
    }
    let (major, minor) = OLDEST;
    apt::install(
        &format!("interop/ needs Python {major}.{minor} or newer with venv"),
        &PACKAGES,
    )?;
    match usable() {
        Some(python) => Ok(python),
        None => {
            bail!("`python3` is still older than {major}.{minor}, or cannot make environments")
        }
    }
}

/// The `python3` in the path, if it will do.
fn usable() -> Option<Python> {
    let mut question = Command::new("python3");
    // That it is missing, or cannot do it, is an answer and no failure.
    let output = question
        .args(["-c", QUESTION])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let python = parse(&String::from_utf8(output.stdout).ok()?)?;
    (output.status.success() && (python.version.0, python.version.1) >= OLDEST).then_some(python)
}

fn parse(answer: &str) -> Option<Python> {
    let mut words = answer.trim().splitn(4, ' ');
    let mut number = || words.next()?.parse().ok();
    let version = (number()?, number()?, number()?);
    let path = PathBuf::from(words.next().filter(|path| !path.is_empty())?);
    Some(Python { version, path })
}

/// Other packages or another Python need another folder.
fn folder_name(python: &Python, requirements: &[u8]) -> String {
    let (major, minor, patch) = python.version;
    let bytes = requirements
        .iter()
        .chain(python.path.as_os_str().as_encoded_bytes());
    format!("interop-venv-{major}.{minor}.{patch}-{:016x}", fnv(bytes))
}

/// FNV-1a: the standard library's hash may change between releases, and with it the names of the folders.
fn fnv<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_python_says() {
        let python = parse("3 11 7 /opt/my python/bin/python3\n").expect("parses");
        assert_eq!(python.version, (3, 11, 7));
        assert_eq!(python.path, Path::new("/opt/my python/bin/python3"));
        for wrong in ["", "3 11 7", "3 11 7 ", "three 11 7 /bin/python3"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn other_packages_and_other_pythons_have_other_folders() {
        let python = |path: &str, patch| Python {
            version: (3, 11, patch),
            path: PathBuf::from(path),
        };
        let name = folder_name(&python("/a", 7), b"aioquic==1");
        assert!(name.starts_with("interop-venv-3.11.7-"), "{name}");
        assert_eq!(name, folder_name(&python("/a", 7), b"aioquic==1"));
        assert_ne!(name, folder_name(&python("/a", 7), b"aioquic==2"));
        assert_ne!(name, folder_name(&python("/b", 7), b"aioquic==1"));
        assert_ne!(name, folder_name(&python("/a", 8), b"aioquic==1"));
    }
}
