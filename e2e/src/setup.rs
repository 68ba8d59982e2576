//! Where what is tested is.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Once;

/// Set by `cargo xtask test`; without it the tests are skipped.
const SWITCH: &str = "SELIUM_REMOTE_E2E";

/// Where what is tested is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The stock `selium-runtime`.
    pub runtime: PathBuf,
    /// The server module.
    pub module: PathBuf,
    /// The folder with the guests.
    pub guests: PathBuf,
    /// The command line.
    pub cli: PathBuf,
}

/// What `cargo xtask test` has built; `None`, after a word on it, when the tests were not asked for.
///
/// # Panics
/// When they were asked for and something is missing: then nothing may be skipped.
#[must_use]
pub fn setup() -> Option<Setup> {
    static SAID: Once = Once::new();
    if std::env::var_os(SWITCH).is_none() {
        // Not through `eprintln!`, which the test harness hides when a test passes.
        SAID.call_once(|| {
            let line = format!(
                "end-to-end tests skipped ({SWITCH} is not set): `cargo xtask test` runs them\n"
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
        });
        return None;
    }
    let path = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name).unwrap_or_else(|| {
            panic!("{SWITCH} is set but {name} is not: use `cargo xtask test`")
        }));
        assert!(
            path.exists(),
            "{name} is {}, which does not exist",
            path.display()
        );
        path.canonicalize().expect("a path that exists")
    };
    Some(Setup {
        runtime: path("SELIUM_REMOTE_RUNTIME"),
        module: path("SELIUM_REMOTE_MODULE"),
        guests: path("SELIUM_REMOTE_GUESTS"),
        cli: path("SELIUM_REMOTE_CLI"),
    })
}

/// Set to have the load tests run, which take minutes and most of a machine.
const LOAD_SWITCH: &str = "SELIUM_REMOTE_LOAD";

/// Whether the load tests were asked for; `false` after a word on it.
#[must_use]
pub fn load_tests() -> bool {
    static SAID: Once = Once::new();
    let asked = std::env::var_os(LOAD_SWITCH).is_some();
    if !asked {
        SAID.call_once(|| {
            let line = format!(
                "load tests skipped ({LOAD_SWITCH} is not set): `{LOAD_SWITCH}=1 cargo xtask test` runs them\n"
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
        });
    }
    asked
}
