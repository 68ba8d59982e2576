//! The audit log: one JSON object for every changing operation and every refusal, numbered and authenticated.
//!
//! A [`Chain`] writes the records; [`verify`] checks a log file. A record is one line:
//!
//! ```json
//! {"audit":1,"run":"9f0c3a5d11e2b874","seq":7,"time_ms":1764000000000,"role":"operator","peer":"192.0.2.7:5013","op":"start","target":"hello.wasm","result":"permission denied","reason":"the role `operator` may not pass on NetQuicBind","request":12,"suppressed":0,"prev":"5b1f...","mac":"d0c4..."}
//! ```
//!
//! | field | what |
//! | --- | --- |
//! | `audit` | the version of this format |
//! | `run` | which run of the server: what [`Chain::start`] was given, in hex |
//! | `seq` | the record's number in the run, from 0 |
//! | `time_ms` | milliseconds since the Unix epoch; missing without a clock |
//! | `role`, `peer` | who: the role and the address; missing in the record of a start |
//! | `op` | the operation; [`START`] is the first record of every run and stands nowhere else |
//! | `target` | what it was about, clipped to [`MAX_TARGET`] bytes; missing when there is nothing to say |
//! | `result` | `ok`, or the name of the error's code |
//! | `reason` | why not, as the client was told, clipped to [`MAX_REASON`] bytes; missing when it was done |
//! | `process` | the id of the process that was started or stopped; missing when there is none |
//! | `request` | the number of the request on its connection; 0 when it is about none |
//! | `suppressed` | records left out right before this one, because there were too many |
//! | `prev` | the MAC of the record before it in the run, its first 16 bytes; zeros in the first |
//! | `mac` | HMAC-SHA256, with the audit key, of all bytes of the line before `,"mac"` |
//!
//! All text is ASCII: everything else is written as `\uXXXX`, so that a name from a client cannot change what a terminal
//! shows. Clipped text ends with `...`. A record has [`MAX_RECORD`] bytes at most.
//!
//! # What it proves
//!
//! Who has no key cannot write, change or reorder records without being noticed. Records that were removed show as a
//! gap, except at the end of a run: that the last ones are missing cannot be told from a server that was ended. A
//! guest can suppress the log, and write lines that look like records, which [`verify`] names; it cannot forge any.

mod chain;
mod mac;
mod text;
mod verify;

pub(crate) use chain::secret_line;
pub use chain::{Chain, Event, run_id};
pub use verify::{
    MAX_LINE, MAX_PROBLEMS, MAX_RUNS, Problem, ProblemKind, Report, Run, Verifier, verify,
};

/// The operation of the first record of a run.
pub const START: &str = "audit-start";

/// The most bytes of a record.
pub const MAX_RECORD: usize = 2_048;

/// The most bytes of a record's target, as it stands in the record. Past it the target ends with `...`.
pub const MAX_TARGET: usize = 256;

/// The most bytes of a record's reason, as it stands in the record. Past it the reason ends with `...`.
pub const MAX_REASON: usize = 256;

/// The most bytes of any other text of a record, as it stands in the record. Past it the text ends with `...`.
pub const MAX_TEXT: usize = 64;

/// What every record begins with.
pub(crate) const PREFIX: &str = "{\"audit\":1,\"run\":\"";

/// What stands before its MAC.
pub(crate) const MAC_FIELD: &str = ",\"mac\":\"";
