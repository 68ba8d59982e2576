//! Where the clone is and where its build outputs go, as cargo sees it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::proc;

/// The clone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// The workspace's folder.
    pub(crate) root: PathBuf,
    /// Cargo's target folder: not always `target/` in the clone, see `CARGO_TARGET_DIR`.
    pub(crate) target: PathBuf,
}

impl Project {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        let mut question = proc::cargo();
        question.args(["metadata", "--format-version", "1", "--no-deps"]);
        Self::parse(&proc::ask(&mut question)?)
    }

    fn parse(metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata).context("read cargo metadata")?;
        let path = |key: &str| {
            let path = metadata.get(key).and_then(Value::as_str);
            path.map(PathBuf::from)
                .with_context(|| format!("cargo metadata has no {key}"))
        };
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
        })
    }

    /// Where built WASM files are put.
    pub(crate) fn wasm_dir(&self) -> PathBuf {
        self.target.join("wasm")
    }

    /// The guests' workspace.
    pub(crate) fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }

    /// A path in the clone the way a person would write it.
    pub(crate) fn short<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_says() {
        let project = Project::parse(
            r#"{"packages":[],"workspace_root":"/clone","target_directory":"/elsewhere","version":1}"#,
        )
        .expect("parses");
        assert_eq!(project.root, Path::new("/clone"));
        assert_eq!(project.wasm_dir(), Path::new("/elsewhere/wasm"));
        assert_eq!(
            project.short(Path::new("/clone/target/wasm")).to_string(),
            "target/wasm"
        );
        assert_eq!(project.short(Path::new("/other")).to_string(), "/other");
    }

    #[test]
    fn says_what_is_missing() {
        let error = Project::parse(r#"{"workspace_root":"/clone"}"#).expect_err("incomplete");
        assert!(error.to_string().contains("target_directory"));
    }
}
