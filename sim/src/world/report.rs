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
    /// Hostile peers.
    attacks: "hostile peers",
    /// Bytes that they sent.
    attack_bytes: "bytes of hostile peers",
}
