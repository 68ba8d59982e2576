//! That the core stands alone: built for WASM its module imports nothing, neither a clock nor randomness nor a host.

use std::fs;

use anyhow::{Context as _, Result, bail};
use wasmparser::{Parser, Payload};

use crate::artifacts;
use crate::cache::Cache;
use crate::project::Project;
use crate::setup::Toolchain;

/// Builds the core's example and reads its import section.
pub(crate) fn check(project: &Project, cache: &Cache, toolchain: &Toolchain) -> Result<()> {
    let module = artifacts::core_alone(project, cache, toolchain)?;
    let wasm = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    imports_nothing(&wasm).with_context(|| format!("the core alone, {}", project.short(&module)))
}

/// Refuses a module that imports something, or that has nothing in it.
fn imports_nothing(wasm: &[u8]) -> Result<()> {
    let mut imports = Vec::new();
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.context("not a WASM module")? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.context("its import section is broken")?;
                    imports.push(format!("{}.{}", import.module, import.name));
                }
            }
            Payload::CodeSectionStart { count, .. } => functions = count,
            _ => {}
        }
    }
    if !imports.is_empty() {
        bail!("it must import nothing, and imports {}", imports.join(", "));
    }
    if functions == 0 {
        bail!("it has no code, so that it proves nothing");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The magic number and version, then sections.
    fn module(sections: &[&[u8]]) -> Vec<u8> {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        wasm.extend(sections.concat());
        wasm
    }

    /// One type: no parameters, no results.
    const TYPES: &[u8] = &[1, 4, 1, 0x60, 0, 0];
    /// Imports the function `env.now`.
    const IMPORT: &[u8] = &[2, 11, 1, 3, b'e', b'n', b'v', 3, b'n', b'o', b'w', 0, 0];
    /// One function that does nothing.
    const FUNCTION: &[u8] = &[3, 2, 1, 0];
    const CODE: &[u8] = &[10, 4, 1, 2, 0, 0x0b];

    #[test]
    fn imports_are_seen_and_named() {
        imports_nothing(&module(&[TYPES, FUNCTION, CODE])).expect("imports nothing");
        let error =
            imports_nothing(&module(&[TYPES, IMPORT, FUNCTION, CODE])).expect_err("imports");
        assert!(error.to_string().contains("env.now"), "{error}");
    }

    #[test]
    fn what_is_no_module_proves_nothing() {
        assert!(imports_nothing(b"").is_err());
        assert!(imports_nothing(&module(&[])).is_err());
        assert!(imports_nothing(b"text").is_err());
    }
}
