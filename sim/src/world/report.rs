//! What a run has exercised, so that one sees that it was about something.

/// Defines the counters with their names.
macro_rules! report {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)+) => {
        /// Counters of one run or of many.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Report {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Report {
            /// Adds another run.
            pub fn add(&mut self, other: &Report) {
                $(self.$name = self.$name.saturating_add(other.$name);)+
            }

            /// Names and values.
            #[must_use]
            pub fn lines(&self) -> Vec<(&'static str, u64)> {
                vec![$(($text, self.$name)),+]
            }
        }
    };
}

report! {
    /// Runs.
    runs: "runs",
    /// Virtual seconds.
    seconds: "virtual seconds",
    /// Times to which the world moved on.
    moments: "moments",
    /// Connections that were made.
    connections: "connections",
    /// Servers without a clock.
    clockless: "servers without a clock",
    /// Requests that were sent.
    requests: "requests",
    /// Requests that needed more than one frame.
    long_requests: "requests of several frames",
    /// Starts that the host was asked for.
    starts: "starts in the host",
    /// Starts that were answered with success.
    started: "starts answered with success",
    /// Answers to starts that were errors.
    refused: "starts answered with an error",
    /// Starts that were cancelled when the host had them.
    cancelled_started: "starts cancelled too late",
    /// Stops that were answered with success.
    stopped: "stops answered with success",
    /// Retries that were sent.
    retries: "retries",
    /// Retries that got the outcome of the first request.
    joined: "retries that got the outcome",
    /// Retries that were answered "outcome unknown".
    unknown: "retries answered `outcome unknown`",
    /// Requests whose deadline passed at the client.
    expired: "requests expired",
    /// Requests and streams that were cancelled.
    cancels: "cancels",
    /// Requests and streams that were abandoned.
    abandoned: "abandoned",
    /// Streams that were opened.
    follows: "streams opened",
    /// Records that were delivered and compared.
    records: "records delivered",
    /// Records of more than one chunk.
    long_records: "records of several chunks",
    /// Gaps with a count.
    gaps_counted: "gaps counted",
    /// Gaps without one.
    gaps_unknown: "gaps of unknown length",
    /// Streams that ended by the server.
    ends: "streams ended by the server",
    /// Followers that had every record at the end.
    complete: "followers complete at the end",
    /// Logs whose hidden last record was fetched.
    nudges: "hidden records fetched",
    /// Connections that were lost.
    lost: "connections lost",
    /// Connections that died of silence.
    silent: "connections silent",
    /// Connections that were killed by their clients.
    killed: "connections killed",
    /// Connections that were closed in order.
    closed: "connections closed in order",
    /// Connections that the server refused or that got no hello.
    unwelcome: "connections without a hello",
    /// Looks at the server's counters.
    probes: "looks at the server's counters",
    /// The most bytes that the server held.
    held: "bytes held by the server, most of each run, summed",
    /// Requests that their client refused to send.
    not_sent: "requests not sent",
    /// Answers that were successes, of the cores.
    answers: "answers",
    /// Answers of more than one frame.
    long_answers: "answers of several frames",
    /// Answers that were errors.
    errors: "answers that are errors",
    /// Published messages that were handed over.
    published: "published messages handed over",
    /// Published messages that came again.
    duplicates: "published messages that came again",
    /// Streams that went on with a publication.
    resumes: "publications resumed",
    /// Messages of unknown outcome after a restart.
    unknown_published: "published messages of unknown outcome",
    /// Messages of streams to the server that end by themselves.
    uploaded: "messages uploaded",
    /// Acknowledgements that came.
    acks: "acknowledgements",
    /// Those that said that messages may be dropped.
    flagged: "acknowledgements `may be dropped`",
    /// Streams whose client ended its half.
    half_closes: "streams half closed",
    /// Streams that the client reset.
    client_resets: "resets by the client",
    /// Streams that the server reset.
    server_resets: "resets by the server",
    /// Connections that the client drained.
    client_drains: "drains by the client",
    /// Connections, or servers, that the server drained.
    server_drains: "drains by the server",
    /// Requests that were refused for a drain.
    drain_refusals: "requests refused for a drain",
    /// Servers that died, and were replaced.
    restarts: "server restarts",
    /// Pings that were answered.
    pongs: "pongs",
    /// Runs with small windows.
    small_windows: "runs with small windows",
    /// Links that were QUIC, of the cores.
    quic_links: "links that are QUIC",
    /// Connections that were back at their base when all was over.
    bases: "connections back at their base",
    /// Streams whose shares were measured.
    shares: "shares measured",
    /// Hostile peers.
    attacks: "hostile peers",
    /// Bytes that they sent.
    attack_bytes: "bytes of hostile peers",
}
