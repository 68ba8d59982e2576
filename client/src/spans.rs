//! What `tracing` is told: spans of clients, connections and calls.
//!
//! Names, ids and addresses go into them, and nothing that somebody might want to hide: no certificates and keys, no
//! session, no arguments, no messages (`tests/spans.rs` looks).

use selium_remote_client_protocol::ops::{
    CreateRequest, DeleteRequest, DrainRequest, FollowRequest, InfoRequest, InspectChannelRequest,
    InspectRequest, ListChannelsRequest, ListRequest, PublishRequest, Request, ShareRequest,
    StartRequest, StopRequest, SubscribeRequest, op,
};
use tracing::{Span, debug_span, field::Empty};

use crate::Server;

/// What a request names.
pub(crate) trait About: Request {
    /// The process, the channel, or the module to be started; empty when it names nothing.
    fn about(&self) -> &str;
}

macro_rules! about {
    ($($request:ident: $about:expr;)*) => {$(
        impl About for $request {
            fn about(&self) -> &str {
                let about: fn(&Self) -> &str = $about;
                about(self)
            }
        }
    )*};
}

about! {
    InfoRequest: |_| "";
    ListRequest: |_| "";
    ListChannelsRequest: |_| "";
    StartRequest: |start| &start.module;
    StopRequest: |stop| &stop.target;
    InspectRequest: |inspect| &inspect.target;
    FollowRequest: |follow| &follow.target;
    CreateRequest: |create| create.name.as_deref().unwrap_or_default();
    DeleteRequest: |delete| &delete.target;
    DrainRequest: |drain| &drain.target;
    InspectChannelRequest: |inspect| &inspect.target;
    ShareRequest: |share| &share.target;
    SubscribeRequest: |subscribe| &subscribe.target;
    PublishRequest: |publish| &publish.target;
}

/// The span of the task that keeps a client connected.
pub(crate) fn client(server: &str) -> Span {
    // It outlives whatever it was made in.
    debug_span!(parent: None, "client", server)
}

/// The span of a connection, from the attempt to its end.
pub(crate) fn connection(server: &str, number: u64, attempt: u32) -> Span {
    debug_span!(
        parent: None,
        "connection",
        server,
        number,
        attempt,
        address = Empty,
        role = Empty
    )
}

/// The server has answered.
pub(crate) fn connected(span: &Span, server: &Server) {
    span.record("address", tracing::field::display(server.address));
    span.record("role", server.role.as_str());
}

/// The span of a call, from the wait for a connection to the answer.
pub(crate) fn call<R: About>(request: &R) -> Span {
    let target = Some(request.about()).filter(|about| !about.is_empty());
    debug_span!(
        "call",
        operation = op::name(R::OP),
        target,
        connection = Empty,
        request = Empty
    )
}

/// The request was sent: once more on another connection, if the first was lost.
pub(crate) fn sent(span: &Span, connection: u64, request: u64) {
    span.record("connection", connection);
    span.record("request", request);
}
