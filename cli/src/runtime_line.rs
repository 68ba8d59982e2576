//! The command line that runs a provisioned server. Every user of the machine can read it: there is no secret in it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::render::shell::quoted;

/// The file of the server's module, in the runtime's folder `modules`.
pub(crate) const MODULE_FILE: &str = "selium_remote_client_server.wasm";

/// What the server needs of the host: the eight capabilities of every server, its own TLS, and a clock.
const CAPABILITIES: &str = "ChannelLifecycle,ChannelReader,ChannelWriter,ProcessLifecycle,NetQuicBind,NetQuicAccept,\
                            NetQuicRead,NetQuicWrite,NetTlsServerConfig,TimeRead";

/// What the runtime needs in its environment: threads for guests that do not yield, and no spans for every operation on
/// a channel.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("TOKIO_WORKER_THREADS", "8"),
    ("RUST_LOG", "info,selium_messaging=warn"),
];

/// How to run it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuntimeLine {
    /// Where. The runtime finds its modules only from there.
    dir: String,
    env: BTreeMap<&'static str, &'static str>,
    argv: Vec<String>,
    /// All of it, for a shell.
    line: String,
}

impl RuntimeLine {
    /// For a work dir, and a server of that name and port.
    pub(crate) fn new(dir: &str, domain: &str, port: u16) -> Self {
        let module = format!(
            "path=modules/{MODULE_FILE};capabilities={CAPABILITIES};args=utf8:{domain},u16:{port}"
        );
        // As JSON, because audit records come through whole then.
        let argv = [
            "selium-runtime",
            "--log-format",
            "json",
            "--module",
            &module,
        ];
        let settings = ENVIRONMENT.map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = settings
            .into_iter()
            .chain(argv.iter().map(|word| quoted(word)));
        let words: Vec<_> = words.collect();
        Self {
            dir: dir.to_owned(),
            env: ENVIRONMENT.into_iter().collect(),
            argv: argv.map(str::to_owned).to_vec(),
            line: format!("cd {} && {}", quoted(dir), words.join(" ")),
        }
    }

    /// As it is typed.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_documented_line() {
        assert_eq!(
            RuntimeLine::new("/srv/my work", "localhost", 7_000).line(),
            "cd '/srv/my work' && TOKIO_WORKER_THREADS=8 RUST_LOG=info,selium_messaging=warn selium-runtime --log-format \
             json --module 'path=modules/selium_remote_client_server.wasm;capabilities=ChannelLifecycle,ChannelReader,\
             ChannelWriter,ProcessLifecycle,NetQuicBind,NetQuicAccept,NetQuicRead,NetQuicWrite,NetTlsServerConfig,TimeRead;\
             args=utf8:localhost,u16:7000'"
        );
    }
}
