//! Modules: the segment is found and replaced, and nothing else changes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::{fs, path::Path};

use selium_remote_provision::{
    format::State,
    install::{self, InstallError},
    segment::{CAPACITY, EMPTY},
};
use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, DataCountSection, DataSection, Function,
    FunctionSection, MemorySection, MemoryType, Module, TypeSection,
};

/// A module with these data segments.
fn module(data: &[Vec<u8>]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 2,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut code = CodeSection::new();
    let mut function = Function::new([]);
    function.instructions().end();
    code.function(&function);
    let mut segments = DataSection::new();
    for (at, bytes) in data.iter().enumerate() {
        match at % 2 {
            0 => segments.active(0, &ConstExpr::i32_const(1_024), bytes.iter().copied()),
            _ => segments.passive(bytes.iter().copied()),
        };
    }
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&memories)
        .section(&DataCountSection {
            count: data.len() as u32,
        })
        .section(&code)
        .section(&segments)
        .section(&CustomSection {
            name: "note".into(),
            data: (&EMPTY[..64]).into(),
        });
    module.finish()
}

fn around(segment: &[u8]) -> Vec<u8> {
    [b"before ", segment, b" behind"].concat()
}

#[test]
fn only_the_segment_changes() {
    let plain = module(&[b"other".to_vec(), around(&EMPTY), b"more".to_vec()]);
    let (at, state) = install::locate(&plain).unwrap();
    assert_eq!(state, State::Unprovisioned);
    assert_eq!(&plain[at..at + CAPACITY], EMPTY);
    assert_eq!(install::extract(&plain).unwrap(), None);

    let patched = install::patch(&plain, &common::provision()).unwrap();
    assert_eq!(patched.len(), plain.len());
    assert_eq!(patched[..at], plain[..at]);
    assert_eq!(patched[at + CAPACITY..], plain[at + CAPACITY..]);
    assert_eq!(
        install::locate(&patched).unwrap(),
        (at, State::Provisioned(1))
    );
    assert_eq!(
        install::extract(&patched).unwrap(),
        Some(common::provision())
    );

    // Again, with another one: as if it had been the first.
    let mut other = common::provision();
    other.listeners.truncate(2);
    let again = install::patch(&patched, &other).unwrap();
    assert_eq!(*again, *install::patch(&plain, &other).unwrap());
    assert_eq!(install::extract(&again).unwrap(), Some(other));
}

#[test]
fn modules_that_cannot_be_provisioned_are_refused() {
    let provision = common::provision();
    let refused = |module: &[u8]| install::patch(module, &provision).unwrap_err();
    let none = refused(&module(&[b"other".to_vec()]));
    assert!(matches!(none, InstallError::NoSegment), "{none}");
    assert!(none.to_string().contains("not built for provisioning"));
    let two = refused(&module(&[around(&EMPTY), around(&EMPTY)]));
    assert!(matches!(two, InstallError::SeveralSegments(2)), "{two}");
    // The marker alone, elsewhere.
    let two = refused(&module(&[around(&EMPTY), EMPTY[..32].to_vec()]));
    assert!(matches!(two, InstallError::SeveralSegments(2)), "{two}");
    // Cut off, and changed.
    let cut = refused(&module(&[EMPTY[..CAPACITY - 1].to_vec()]));
    assert!(matches!(cut, InstallError::Damaged(_)), "{cut}");
    let mut changed = EMPTY;
    changed[CAPACITY / 2] = 0;
    let changed = refused(&module(&[around(&changed)]));
    assert!(matches!(changed, InstallError::Damaged(_)), "{changed}");
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\n"] {
        let other = refused(bytes);
        assert!(matches!(other, InstallError::NotWasm(_)), "{other}");
    }
    let whole = module(&[around(&EMPTY)]);
    for len in (0..whole.len()).step_by(131) {
        let _ = install::patch(&whole[..len], &provision);
    }
}

#[test]
fn files_are_written_whole_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.wasm");
    fs::write(&path, "old").unwrap();
    install::write(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        // A link is replaced, not followed.
        let link = folder.path().join("link.wasm");
        symlink(&path, &link).unwrap();
        install::write(&link, b"other").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        fs::remove_file(&link).unwrap();
    }
    let missing = install::write(&folder.path().join("no/module.wasm"), b"new").unwrap_err();
    assert!(missing.to_string().contains("no/"), "{missing}");
    // What cannot be replaced leaves nothing behind.
    fs::create_dir(folder.path().join("taken")).unwrap();
    assert!(install::write(&folder.path().join("taken"), b"new").is_err());
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
#[ignore = "needs a module that was built for provisioning: SELIUM_PROVISION_MODULE=FILE"]
fn a_real_module_can_be_provisioned() {
    let path = std::env::var_os("SELIUM_PROVISION_MODULE").unwrap();
    let module = fs::read(Path::new(&path)).unwrap();
    let patched = install::patch(&module, &common::provision()).unwrap();
    assert_eq!(
        install::extract(&patched).unwrap(),
        Some(common::provision())
    );
    let changed = module
        .iter()
        .zip(patched.iter())
        .filter(|(a, b)| a != b)
        .count();
    assert!(changed > 0 && changed <= CAPACITY);
}
