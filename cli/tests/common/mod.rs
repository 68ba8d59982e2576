//! Running the binary in folders of its own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustls_pki_types::UnixTime;
use selium_remote_certs::issue::{Init, Layout};
use serde_json::Value;

pub const DAY: i64 = 86_400;

/// A command that no setting of the tester reaches, after some words of the shell.
pub fn command(folder: &Path, before: &str, line: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{before} exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_selium"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_string_lossy().starts_with("SELIUM_");
        if is_ours || name == "RUST_LOG" || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn run_after(folder: &Path, before: &str, line: &str) -> Said {
    said(command(folder, before, line).output().unwrap())
}

pub fn run(folder: &Path, line: &str) -> Said {
    run_after(folder, "", line)
}

pub fn fine(folder: &Path, line: &str) -> Said {
    let said = run(folder, line);
    assert_eq!(said.code, Some(0), "{line}: {said:?}");
    said
}

/// Fails with that code and a message for people; nothing is on stdout, and nothing was written.
pub fn refused(folder: &Path, code: i32, line: &str, parts: &[&str]) -> Said {
    let before = contents(folder);
    let said = run(folder, line);
    assert_eq!(said.code, Some(code), "{line}: {said:?}");
    assert!(
        said.err.starts_with("error: ") && said.out.is_empty(),
        "{line}: {said:?}"
    );
    for part in parts {
        assert!(said.err.contains(part), "{line}, {part}: {said:?}");
    }
    assert_eq!(contents(folder), before, "{line}: something was written");
    said
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Certificates as `cert init` makes them, so many seconds from now.
pub fn init_at(folder: &Path, seconds: i64) {
    let now = UnixTime::now().as_secs().checked_add_signed(seconds);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unwrap()));
    Layout::new(folder).init(&Init::default(), now).unwrap();
}

/// Everything under a folder: path, mode, contents. Links are not followed.
pub fn contents(folder: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    fn gather(root: &Path, folder: &Path, all: &mut Vec<(PathBuf, u32, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                all.push((name, 0, target.to_str().unwrap().into()));
            } else if kind.is_dir() {
                all.push((name, mode(&path), Vec::new()));
                gather(root, &path, all);
            } else {
                all.push((name, mode(&path), fs::read(&path).unwrap()));
            }
        }
    }
    let mut all = Vec::new();
    gather(folder, folder, &mut all);
    all.sort();
    all
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Looks whether what was said has a part of one of the keys in a folder. How many keys there are.
pub fn no_key_is_in(folder: &Path, said: &[String]) -> usize {
    let mut keys = 0;
    for (path, _, text) in contents(folder) {
        if path.extension().is_none_or(|end| end != "key") {
            continue;
        }
        keys += 1;
        let text = String::from_utf8(text).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('-')) {
            // The first line begins with what all keys of this kind begin with.
            let secret = &line[line.len() - 16..];
            assert!(!said.iter().any(|said| said.contains(secret)), "{path:?}");
        }
    }
    keys
}
