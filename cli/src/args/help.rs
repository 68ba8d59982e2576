//! The texts at the end of `--help`. Clap wraps them: a paragraph is one line.

/// After the commands.
pub(crate) const ROOT: &str = "\
Processes are named by their id (16 hexadecimal digits), by a prefix of it that no other process has, or by name; and \
so are channels.

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
    0  done; also after Ctrl-C while logs are followed or a
       channel is subscribed to without --count
    1  failed
    2  wrong usage, found before connecting: options,
       capabilities, arguments and limits
  124  channel pub and channel sub: nothing came within --timeout
  130  interrupted by Ctrl-C";

/// After the options of `start`.
pub(crate) const START: &str = "\
Arguments are written TYPE:VALUE, where TYPE is i8, u8, i16, u16, i32, u32, i64, u64, f32, f64, buffer, utf8, \
resource, channel or channel-handle. With --param, values may come without a type, in the order of the parameters. buffer:hex:0aff gives the \
bytes 0a ff; resource:ID names a resource by the id that the server gave it.

channel:NAME gives the process a channel, named by its id, by a prefix of it or by name, as a number (u64) that it can \
attach to; the channel is shared for that, and the process needs ChannelLifecycle to attach. channel-handle:NAME gives it \
the channel itself, as a handle (i32) of its own. To read or write, the process needs ChannelReader or ChannelWriter.

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
  selium start greet.wasm main -a utf8:world -a u16:7000
  selium start echo.wasm echo -c ChannelLifecycle,ChannelReader,ChannelWriter -a channel:requests -a channel:answers";

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

/// After the commands of `channel`.
pub(crate) const CHANNEL: &str = "\
Messages go over channels: what is published, guests and subscribers get, one by one and whole. A channel lives until it \
is deleted.

Start with:
  selium channel create jobs --capacity 64KiB
  selium channel sub jobs &
  echo hello | selium channel pub jobs";

/// After the options of `channel create`.
pub(crate) const CHANNEL_CREATE: &str = "\
The first line on stdout is the new channel's id.

Without --drop, writers wait for the slowest lossless subscriber when the channel is full, guests among them. With it, \
messages for which there is no room are dropped, and nobody is told; such a channel cannot be subscribed to without loss.

Limits: 63 bytes for NAME, 16 MiB for --capacity.

Examples:
  selium channel create jobs
  selium channel create prices --capacity 1MiB --drop";

/// After the options of `channel delete`.
pub(crate) const CHANNEL_DELETE: &str = "\
Subscriptions end, publications fail. The ids are written to stdout.

Examples:
  selium channel delete jobs prices
  selium channel ls -q | xargs selium channel rm";

/// After the options of `channel drain`.
pub(crate) const CHANNEL_DRAIN: &str = "\
Publications fail from now on, and subscriptions end when everything was read. The channel stays until it is deleted; \
draining twice is no error. The ids are written to stdout.

Examples:
  selium channel drain jobs";

/// After the options of `channel share`.
pub(crate) const CHANNEL_SHARE: &str = "\
`selium start` with --arg channel:NAME does so by itself. Sharing twice is no error. The ids are written to stdout.

Examples:
  selium channel share jobs";

/// After the options of `channel ls`.
pub(crate) const CHANNEL_LS: &str = "\
MODE is park (writers wait when it is full) or drop. STATE is open or draining. SUBSCRIBERS and PUBLISHERS are those \
from outside: the runtime does not tell which guests use a channel. With -o json it is one array; ids are strings.

Examples:
  selium channel ls -o wide
  selium channel ls -o json | jq -r '.[] | select(.state == \"open\").name'";

/// After the options of `channel inspect`.
pub(crate) const CHANNEL_INSPECT: &str = "\
Subscribers, publishers and the messages published are those from outside: the runtime does not tell which guests use a \
channel.

Examples:
  selium channel inspect jobs
  selium channel inspect jobs -o json | jq .published";

/// After the options of `channel pub`.
pub(crate) const CHANNEL_PUB: &str = "\
Publishes what it reads and ends when the input has ended and every message is acknowledged: the channel has it then, or, \
if it drops, was handed it.

Framing:
  line   a line is a message, byte by byte, without its newline; the
         last one may lack it
  raw    the input is cut into messages of --chunk bytes; the last
         one may be shorter
  len32  each message behind its length: four bytes, the highest
         first
  json   a line is an object with \"text\" or \"base64\"; other fields
         are ignored, so that what `channel sub --framing json`
         writes can be read; gaps are left out

A channel has no empty messages: empty lines, lengths of 0 and empty texts are left out, and how many there were is told \
at the end. A message that is longer than the channel takes, and an input that makes no sense, end the command; what \
stands before that is published.

When the channel is full, it waits, without an end; with --timeout only so long as something is acknowledged now and \
then. Ctrl-C stops reading; what was read is published if that takes no longer than a moment, and what became of it is \
told. While it runs, progress is shown if stderr is a terminal and stdin is none.

Exit codes:
    0  everything is acknowledged
    1  failed; how many messages are acknowledged is told
    2  wrong usage
  124  nothing was acknowledged within --timeout
  130  interrupted by Ctrl-C

Examples:
  selium channel pub jobs --file jobs.txt
  tail -f access.log | selium channel pub lines
  tar c . | selium channel pub backup --framing raw --chunk 1MiB
  selium channel sub a --framing len32 | selium channel pub b --framing len32";

/// After the options of `channel sub`.
pub(crate) const CHANNEL_SUB: &str = "\
Writes new messages until Ctrl-C, until the channel is deleted or drained and read, or until --count. When the \
subscription stands, a note on stderr says so.

A subscriber that is too slow loses messages, and warnings on stderr say how many: one a second at most, and in all at \
the end. With --lossless it loses none: on a \
channel that parks, everybody who writes to it waits, guests too; the role needs a permission of its own for that, and \
the server ends the subscription of one that has taken nothing for 30 s while there is no room for more. Lossless and other subscribers count messages \
each for themselves: --since goes with --lossless as it was.

Framing:
  line   the message and a newline. A message that has newlines
         looks like several: use len32 or json for such messages.
         On a terminal, control characters are shown escaped
  raw    the messages and nothing else
  len32  each message behind its length: four bytes, the highest
         first
  json   {\"seq\": N, \"text\": \"...\"}, with \"base64\" instead if it is
         no UTF-8; {\"gap\": N, \"next\": SEQ} where messages are
         missing, with null if it is not known how many

When stdout is no terminal, what is written are exact bytes, and progress is shown if stderr is a terminal.

Exit codes:
    0  ended by --count, by the end of the channel, by Ctrl-C
       without --count, or because nobody reads stdout any more,
       which shows with the next message
    1  failed; also when the channel ended before --count
    2  wrong usage
  124  no message came within --timeout
  130  interrupted by Ctrl-C before --count

Examples:
  selium channel sub jobs --tail 10
  selium channel sub answers --count 1 --timeout 5
  selium channel sub prices --framing json | jq -r .text
  selium channel sub jobs --lossless --framing len32 > jobs.bin";

/// After the commands of `cert`.
pub(crate) const CERT: &str = "\
Where things are, under the folder of --dir (all folders 0700, all keys 0600):
  certs/          ca.crt, client.crt, client.key: what clients read;
                  server.crt, server.key: the runtime's own
  control-plane/  server.crt, server.key, clients-ROLE.crt:
                  what the control plane's server is provisioned with
  clients/NAME/   what `issue` made, until it is handed over
  authority/      the CAs with their private keys, and copies of the
                  certificates that were issued

Nothing but these commands reads authority/: keep it on another machine if you can, and name it with --authority.

The control plane's server and the runtime have different CAs on purpose: any guest may use the runtime's key. A \
directory that `selium-runtime generate-certs` wrote has one CA for everything. It works, for the role admin only, but \
whoever has the runtime's key can pose as the control plane.

There is no list of revoked certificates. To shut somebody out, give their role a new CA.

A new CA for a role: move ROLE-ca.crt and ROLE-ca.key out of authority/. The next `selium cert issue --role ROLE` makes \
a new CA and adds it to clients-ROLE.crt, where both are trusted. Issue for everybody (--force), then take the old CA \
out of clients-ROLE.crt; after each change, `selium server install` and a restart of the runtime put it in force. A new CA for the server: let every \
ca.crt have both CAs before the server changes its certificate.

Private keys are never shown, and never part of a command line.

Start with:
  selium cert init
  selium cert status";

/// After the options of `cert init`.
pub(crate) const CERT_INIT: &str = "\
Examples:
  selium cert init
  selium cert init --dir work --server-name selium.example.org \\
      --server-name 10.0.0.7";

/// After the options of `cert status`.
pub(crate) const CERT_STATUS: &str = "\
Without --dir it looks at the certificates of --cert-dir; if these are those of the present folder, or with --dir, at \
all that is there.

Exit codes:
  0  fine
  1  a renewal is due: less than a third of a certificate's life
     is left, or less than a year of a CA's
  2  something has expired or cannot be used: missing, unreadable,
     a key that does not belong to its certificate, another CA;
     also wrong usage";

/// After the options of `cert renew`.
pub(crate) const CERT_RENEW: &str = "\
Renews everything that lies under the folder, with new keys: owner and mode of the files stay. What is not from the \
CAs here is left as it is.

What was made for somebody (clients/NAME, or only a copy in authority/issued) keeps its key: send them \
authority/issued/NAME.crt, which is no secret, and `selium cert import` puts it in place.

Examples:
  selium cert renew --if-needed && selium cert status
  selium cert renew server --server-name selium.example.org";

/// After the options of `cert bundle`.
pub(crate) const CERT_BUNDLE: &str = "\
THE FILE CONTAINS A PRIVATE KEY: whoever has it can act as NAME. Send it over a safe way only; delete it, and the \
folder under clients/, when it is imported.";

/// After the options of `cert import`.
pub(crate) const CERT_IMPORT: &str = "\
Writes ca.crt, client.crt and client.key to the directory of --cert-dir. A certificate without a key replaces \
client.crt, if it is for the key that is there and ends later.";

/// After the commands of `server`.
pub(crate) const SERVER: &str = "\
Start with:
  selium cert init --dir work
  selium server install --work-dir work --module FILE";

/// After the options of `server install`.
pub(crate) const SERVER_INSTALL: &str = "\
Writes the server's certificate and key, the client CAs of every role, what each role may do and the key of the audit \
log into DIR/modules/selium_remote_client_server.wasm (0600: it is as secret as the keys in it), and prints the command \
line that runs it, which has no secret in it. The runtime has to be started again. Nothing is written if \
anything is wrong.

What is read, as `selium cert init` writes it:
  control-plane/server.crt, server.key  what the server shows
  control-plane/clients-ROLE.crt        whose clients have ROLE
  certs/ca.crt                          what clients trust; only to
                                        check that they take the server
What is made if it is missing:
  control-plane/audit.key               64 hexadecimal digits, 0600;
                                        kept by every later install
  modules/modules -> .                  so that the runtime finds
                                        path=modules/NAME

--domain and --port are those of the server: clients are told apart by the name that they ask for, and the role admin has \
the port. Without --policy, admin is the only role.

A folder that `selium-runtime generate-certs` wrote works too, for the role admin only: it has one CA for everything.

After a change of certificates, CAs or policy, install again and start the runtime again. The module alone (without \
--module, what is installed is provisioned anew) is enough for that.

Examples:
  selium server install --work-dir work --module selium_remote_client_server.wasm
  selium server install --work-dir work --policy policy.toml --domain selium.example.org";

/// After the commands of `audit`.
pub(crate) const AUDIT: &str = "\
The server writes a record for everything that it changes and everything that it refuses into the runtime's log. Run \
the runtime with --log-format json, as `selium server install` says, so that they come through whole.";

/// After the options of `audit verify`.
pub(crate) const AUDIT_VERIFY: &str = "\
FILE is the runtime's log, or any file that has its lines, as text or as JSON; lines without a record are ignored, and \
lines longer than 64 KiB are skipped and counted.

What it proves: who does not have the key cannot write, change or reorder records without being noticed, and what was \
removed from a run shows as a gap.

What it does not prove: that nothing is missing at the end of a run, which cannot be told from a server that was ended; \
that no whole run is missing; and nothing against somebody who has the key (audit.key, or the installed module). \
`suppressed` counts records that the server itself left out because there were too many.

Exit codes:
  0  every record is there and genuine, as far as can be told
  1  something is wrong, there is no record at all, or a file
     cannot be read
  2  wrong usage

Examples:
  selium audit verify runtime.log --work-dir work
  journalctl -u selium -o cat | selium audit verify - --key audit.key";
