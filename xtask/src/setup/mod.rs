//! Sets a machine up. Each piece looks whether it is there already and says what to do when it cannot be made.

mod apt;
mod native;
pub(crate) mod python;
mod stock;
pub(crate) mod wasm;

use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;
pub(crate) use wasm::{Toolchain, WasmChoice};

/// A machine that can build and run everything.
#[derive(Debug)]
pub(crate) struct Machine {
    /// What compiles to WASM.
    pub(crate) wasm: Toolchain,
    /// The stock `selium-runtime`.
    pub(crate) runtime: PathBuf,
}

impl Machine {
    /// Sets up what is missing.
    pub(crate) fn ensure(cache: &Cache, choice: WasmChoice) -> Result<Self> {
        let wasm = wasm::ensure(cache, choice)?;
        native::ensure(cache)?;
        let runtime = stock::ensure(cache)?;
        Ok(Self { wasm, runtime })
    }

    /// One line on what there is.
    pub(crate) fn summary(&self) -> String {
        format!(
            "WASM compiler: {}, runtime: {}",
            self.wasm.describe(),
            self.runtime.display()
        )
    }
}
