//! The host's words in terms of the request.
//!
//! The runtime answers failures as text, and its texts echo what the client sent. Here they become error codes that a
//! program can act on and sentences that name the thing and the next step.

use selium_remote_client_protocol::{ErrorCode, RemoteError, error::clip, ops::StartRequest};

/// The most bytes of the host's words that are passed on.
const MAX_HOST_WORDS: usize = 300;

/// A failed start.
pub(crate) fn start(spec: &StartRequest, words: &str) -> RemoteError {
    let has = |needle: &str| words.contains(needle);
    let (module, entrypoint) = (&spec.module, &spec.entrypoint);
    let said = clip(words, MAX_HOST_WORDS).escape_debug().to_string();
    if has("entrypoint `") && has("` not found") {
        return RemoteError::new(
            ErrorCode::NotFound,
            format!("module `{module}` has no entrypoint `{entrypoint}`"),
        )
        .with_field("entrypoint");
    }
    if let Some((given, has)) = mismatch(words) {
        return RemoteError::new(
            ErrorCode::InvalidArgument,
            format!(
                "the arguments do not fit entrypoint `{entrypoint}` of `{module}`: given are {given}, it takes {has} \
                 (the first two are the log URI)"
            ),
        )
        .with_field("arguments");
    }
    if has("is not part of this kernel") {
        return RemoteError::new(
            ErrorCode::Unsupported,
            format!("the runtime cannot grant what was asked for: {said}"),
        )
        .with_field("capabilities");
    }
    if has("Path validation failed") || has("Error reading filesytem") || has("Module store") {
        return RemoteError::new(
            ErrorCode::NotFound,
            format!(
                "the runtime has no module `{module}`; modules are named relative to its modules directory ({said})"
            ),
        )
        .with_field("module");
    }
    if has("permission denied") {
        return RemoteError::new(
            ErrorCode::Unavailable,
            "the control plane was started without the capability ProcessLifecycle",
        );
    }
    if has("Wasmtime") || has("wasm") {
        return RemoteError::new(
            ErrorCode::InvalidArgument,
            format!("the runtime cannot run module `{module}`: {said}"),
        )
        .with_field("module");
    }
    RemoteError::new(
        ErrorCode::Internal,
        format!("the runtime did not start it: {said}"),
    )
}

/// The two lists of types in the host's words on a signature that does not fit: what the start gives, and what the module
/// has. (The host calls them the other way round: "expects" is what it was told.)
fn mismatch(words: &str) -> Option<(String, String)> {
    let (_, lists) = words
        .split_once("expects params ")
        .or_else(|| words.split_once("expects results "))?;
    let (given, has) = lists.split_once(", got ")?;
    let list = |text: &str| clip(text, MAX_HOST_WORDS / 2).escape_debug().to_string();
    Some((list(given), list(has)))
}

/// A failed stop.
pub(crate) fn stop(name: &str, words: &str) -> RemoteError {
    let said = clip(words, MAX_HOST_WORDS).escape_debug().to_string();
    RemoteError::new(
        ErrorCode::Internal,
        format!("the runtime did not stop `{name}`: {said}"),
    )
}

/// What could not be done with a channel.
pub(crate) fn channel(doing: &str, name: &str, words: &str) -> RemoteError {
    let said = format!("the runtime did not {doing} the channel `{name}`");
    from_channel(&said, words, "ChannelLifecycle", ErrorCode::Internal)
}

/// A message that was not written.
pub(crate) fn write(name: &str, words: &str) -> RemoteError {
    let said = format!("the channel `{name}` did not take the message");
    from_channel(&said, words, "ChannelWriter", ErrorCode::Internal)
}

/// A channel that could not be read any further.
pub(crate) fn read(name: &str, words: &str) -> RemoteError {
    let said = format!("the channel `{name}` can be read no further");
    from_channel(&said, words, "ChannelReader", ErrorCode::Unavailable)
}

fn from_channel(what: &str, words: &str, capability: &str, code: ErrorCode) -> RemoteError {
    if words.contains("permission denied") {
        let message =
            format!("{what}: the control plane was started without the capability {capability}");
        return RemoteError::new(ErrorCode::Unavailable, message);
    }
    let said = clip(words, MAX_HOST_WORDS).escape_debug();
    RemoteError::new(code, format!("{what}: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_codes() {
        let spec = StartRequest::with(|made| {
            made.module = "m.wasm".into();
            made.entrypoint = "go".into();
        });
        let code = |words| {
            let error = start(&spec, words);
            (error.code, error.field)
        };
        let field = |name: &str| Some(name.to_owned());
        assert_eq!(
            code("internal error: Wasmtime error: entrypoint `go` not found"),
            (ErrorCode::NotFound, field("entrypoint"))
        );
        assert_eq!(
            code("internal error: Module store error: Error reading filesytem: No such file"),
            (ErrorCode::NotFound, field("module"))
        );
        assert_eq!(
            code(
                "internal error: Selium kernel error: Driver error: entrypoint `go` expects params [I32], got []"
            ),
            (ErrorCode::InvalidArgument, field("arguments"))
        );
        let words = "internal error: Selium kernel error: Driver error: entrypoint `go` expects params [I32, I64], got [I32]";
        let error = start(&spec, words);
        assert!(
            error
                .message
                .contains("given are [I32, I64], it takes [I32] ("),
            "{error}"
        );
        assert_eq!(code("what?"), (ErrorCode::Internal, None));
    }
}
