//! What reaches the server inside its own file: its certificate and key, its roles, and the key of its audit log.
//!
//! The server is a WASM module that has no files, and the runtime's command line is public. So `selium server install`
//! writes a copy of the module with a [`Provision`] patched into a reserved [`segment`] of its data, in a [`mod@format`]
//! that fails closed: the segment is as it was compiled in, or it is valid, or it is an error.
//!
//! - [`segment`] is what the module has, and how it reads it.
//! - [`audit`] is the format of audit records, for the module that writes them and for who checks them.
//! - With the feature `install`, `policy_file` reads policies, `trust` compares the keys of CAs, and `install` patches
//!   modules and writes them. Nothing of these is built for the module.
//!
//! # What this protects, and what not
//!
//! The checksum finds accidents and half-written files. It is no signature: whoever may write the module's file can put
//! any other provision into it, or put the unprovisioned state back, and runs the control plane with that. The file
//! holds a private key, so it is as secret as the key (mode 0600).

pub mod audit;
pub mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "install")]
pub mod install;
#[cfg(feature = "install")]
pub mod policy_file;
mod provision;
mod secret;
pub mod segment;
#[cfg(feature = "install")]
pub mod trust;

pub use format::ProvisionError;
pub use provision::{
    ADMIN, Listener, MAX_CA_PEM, MAX_CHAIN_PEM, MAX_CONNECTIONS, MAX_HELLO, MAX_KEY_PEM,
    MAX_PROCESSES, MAX_QUEUED_BYTES, MAX_REQUESTS, MAX_STARTS_PER_MINUTE, MAX_STREAMS,
    MIN_QUEUED_BYTES, Provision,
};
pub use secret::{AUDIT_KEY, AuditKey, KeyPem};
