//! The texts at the end of `--help`. Clap wraps them: a paragraph is one line.

/// After the commands.
pub(crate) const ROOT: &str = "\
Processes are named by their id (16 hexadecimal digits), by a prefix of it that no other process has, or by name.

Environment:
  SELIUM_DOMAIN, SELIUM_PORT  the control-plane endpoint
  SELIUM_CERT_DIR             the directory with the certificates
  SELIUM_LOG_FORMAT           text or json
  SELIUM_NO_WARN              1: as --no-warn
  RUST_LOG                    a filter for diagnostics, instead of -v
  NO_COLOR                    no colours

An option comes before its variable; a variable that is set but empty counts as unset.

Data goes to stdout, everything else to stderr. In text, control characters of servers and guests are shown escaped. \
With --log-format json every line is one JSON value, on stdout and on stderr; errors are {\"error\": {...}}.

Exit codes:
    0  done; also after Ctrl-C while logs are followed
    1  failed
    2  wrong usage, found before connecting: options,
       capabilities, arguments and limits
  130  interrupted by Ctrl-C";

/// After the options of `start`.
pub(crate) const START: &str = "\
Arguments are written TYPE:VALUE, where TYPE is i8, u8, i16, u16, i32, u32, i64, u64, f32, f64, buffer, utf8 or \
resource. With --param, values may come without a type, in the order of the parameters. buffer:hex:0aff gives the \
bytes 0a ff; resource:ID names a resource by the id that the server gave it.

The process gets exactly the capabilities named here. It has a log only with ChannelLifecycle and ChannelWriter.

The first line on stdout is the new process's id. With --attach its log follows, until Ctrl-C: that ends this command \
(exit code 0) and not the process. The log also ends when the process is stopped through the control plane, when the \
server shuts down (both exit code 0) or when the connection is lost (exit code 1). A process that ends by itself does \
not end it: the runtime does not tell.

Limits: 256 bytes for MODULE and for ENTRYPOINT, 63 for --name, 1024 for --log-uri; 64 arguments; 256 KiB for all \
buffer and utf8 arguments and the log URI together.

Examples:
  selium start hello.wasm some_entrypoint -c ChannelLifecycle,ChannelWriter
  selium start hello.wasm -c ChannelLifecycle -c ChannelWriter --attach
  selium start greet.wasm main -a utf8:world -a u16:7000";

/// After the options of `logs`.
pub(crate) const LOGS: &str = "\
Shows the records that the server still has. With --follow new ones come until Ctrl-C (exit code 0), until the process \
is stopped through the control plane, until the server shuts down (both exit code 0) or until the connection is lost \
(exit code 1). A process that ends by itself does not end it: the runtime does not tell.

Lost records are reported: on stderr in text, as {\"event\":\"gap\"} on stdout in JSON. In JSON, of several fields with \
the same name the last one is shown.";

/// After the options of `ps`.
pub(crate) const PS: &str = "\
STATE is started or stopped: the runtime does not tell when a process ends by itself. LOG is none (the process lacks a \
capability that logging needs), waiting, attached or ended.";
