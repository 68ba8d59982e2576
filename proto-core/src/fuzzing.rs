//! The bodies of the fuzz targets. **Unstable and private**: only there with the feature `fuzzing`, for `fuzz/` and for
//! the tests of this crate; it may change in any release.
//!
//! Each body takes bytes that somebody else chose and asserts what has to hold whatever they are. They live here, and
//! not in `fuzz/`, so that the ordinary tests replay the committed corpora (`tests/corpus.rs`) on the stable toolchain.
//!
//! ```text
//! decoders   frames, envelopes, hellos, fields, operations, errors, arguments: what decodes encodes to itself
//! records    log records of guests
//! client     a client and a server that sends anything
//! server     a server and a client that sends anything
//! pair       both machines, whatever is done with them, against a model
//! watch      what every machine's output has to be like, whatever its input was
//! source     decisions out of bytes
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how these functions report"
)]

mod client;
mod decoders;
mod pair;
mod records;
mod server;
mod source;
mod watch;

pub use self::{
    client::client_input,
    decoders::{
        arguments, envelope_client, envelope_server, errors, fields, frames, hellos, legacy, ops,
    },
    pair::pair,
    records::{log_record, write_log_record},
    server::server_input,
    source::Source,
};

/// A fuzz target: its name, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("arguments", arguments),
    ("client_input", client_input),
    ("envelope_client", envelope_client),
    ("envelope_server", envelope_server),
    ("errors", errors),
    ("fields", fields),
    ("frames", frames),
    ("hellos", hellos),
    ("legacy", legacy),
    ("log_record", log_record),
    ("ops", ops),
    ("pair", pair),
    ("server_input", server_input),
];
