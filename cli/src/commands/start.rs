//! `selium start`.

use selium_remote_client::{Capability, Channel, Client, EntrypointArg, Process, ProcessBuilder};
use selium_remote_client_protocol::{
    abi::check_arguments,
    limits::{MAX_ENTRYPOINT, MAX_LOG_URI, MAX_MODULE, MAX_NAME},
};
use serde::Serialize;

use super::{check_length, logs};
use crate::args::StartArgs;
use crate::arguments::{Value, resolve};
use crate::failure::{Action, Channel as About, Failure};
use crate::interrupt::Stage;
use crate::render::process::{full_id, short_id};
use crate::session::Session;

/// What a process needs for a log.
const LOGGING: [Capability; 2] = [Capability::ChannelLifecycle, Capability::ChannelWriter];

#[derive(Serialize)]
struct Started<'a> {
    event: &'static str,
    id: String,
    name: &'a str,
    module: &'a str,
}

/// Starts a process, and follows its log when asked to.
pub(super) async fn run(session: &Session, args: StartArgs) -> Result<(), Failure> {
    let missing: Vec<&str> = LOGGING
        .iter()
        .filter(|capability| !args.capabilities.contains(capability))
        .map(|capability| capability.name())
        .collect();
    let (builder, values) = prepare(&args, &missing)?;
    let client = session.connect().await?;
    let note = unusable_channels(&values, &args.capabilities);
    let builder = with_arguments(&client, builder, values).await?;
    session.enter(Stage::Changing(
        "the start was under way and may still happen; `selium ps` shows whether it did".to_owned(),
    ));
    let process = Process::start(&client, builder)
        .await
        .map_err(Failure::client(Action::Start(args.module.clone())))?;
    let id = process.handle();
    let name = process.name().unwrap_or_default().to_owned();
    session.enter(if args.attach {
        logs::attached(&name, id)
    } else {
        Stage::Idle
    });
    if session.output.is_json() {
        let started = Started {
            event: "started",
            id: full_id(id),
            name: &name,
            module: &args.module,
        };
        session.json(&started).await?;
    } else {
        session.output.data(full_id(id)).await?;
    }
    session
        .output
        .note(&format!("started {name} ({})", short_id(id)))
        .await;
    if !missing.is_empty() {
        let text = format!(
            "it will have no log: it was not given {}",
            missing.join(" and ")
        );
        session.output.note(&text).await;
    }
    if let Some(note) = note {
        session.output.note(note).await;
    }
    if args.attach {
        return logs::attach(session, &process, &name).await;
    }
    Ok(())
}

/// What its capabilities keep a process from doing with the channels that it is given.
fn unusable_channels(values: &[Value], capabilities: &[Capability]) -> Option<&'static str> {
    let has = |capability| capabilities.contains(&capability);
    let mut channels = values.iter().filter_map(|value| match value {
        Value::Channel { is_handle, .. } => Some(*is_handle),
        Value::Known(_) => None,
    });
    let has_shared = channels.clone().any(|is_handle| !is_handle);
    channels.next()?;
    if !has(Capability::ChannelReader) && !has(Capability::ChannelWriter) {
        return Some(
            "it cannot use its channels: it was given neither ChannelReader nor ChannelWriter",
        );
    }
    (has_shared && !has(Capability::ChannelLifecycle)).then_some(
        "it cannot attach to its channels: it was not given ChannelLifecycle (channel-handle:NAME needs none)",
    )
}

/// Everything that can be found wrong without a server, and then what to ask of one.
fn prepare(args: &StartArgs, missing: &[&str]) -> Result<(ProcessBuilder, Vec<Value>), Failure> {
    const START: &str = "start";
    check_length(START, "the module", &args.module, MAX_MODULE)?;
    check_length(START, "the entrypoint", &args.entrypoint, MAX_ENTRYPOINT)?;
    if let Some(name) = &args.name {
        check_length(START, "the name", name, MAX_NAME)?;
    }
    if let Some(log_uri) = &args.log_uri {
        check_length(START, "the log URI", log_uri, MAX_LOG_URI)?;
    }
    let (signature, values) = resolve(&args.param, &args.result, &args.arg)
        .map_err(|message| Failure::usage(START, message))?;
    let stand_ins: Vec<EntrypointArg> = values.iter().map(Value::stand_in).collect();
    check_arguments(&signature, &stand_ins, args.log_uri.as_deref())
        .map_err(|error| Failure::usage(START, error.to_string()))?;
    if args.attach && !missing.is_empty() {
        return Err(Failure::Usage {
            message: format!(
                "--attach needs a log, and the process would have none: logging needs ChannelLifecycle and \
                 ChannelWriter, and {} not granted",
                match missing {
                    [one] => format!("{one} is"),
                    all => format!("{} are", all.join(" and ")),
                }
            ),
            hint: format!(
                "add --capabilities {}, or leave --attach out",
                missing.join(",")
            ),
        });
    }
    let builder =
        ProcessBuilder::new(args.module.as_str(), args.entrypoint.as_str()).signature(signature);
    let builder = args
        .capabilities
        .iter()
        .copied()
        .fold(builder, ProcessBuilder::capability);
    let builder = match &args.log_uri {
        Some(log_uri) => builder.log_uri(log_uri.as_str()),
        None => builder,
    };
    let builder = match &args.name {
        Some(name) => builder.name(name.as_str()),
        None => builder,
    };
    Ok((builder, values))
}

/// Adds the arguments. The server tells which channels are meant.
async fn with_arguments(
    client: &Client,
    mut builder: ProcessBuilder,
    values: Vec<Value>,
) -> Result<ProcessBuilder, Failure> {
    for value in values {
        builder = match value {
            Value::Known(EntrypointArg::Scalar(value)) => builder.arg_scalar(value),
            Value::Known(EntrypointArg::Buffer(bytes)) => builder.arg_buffer(bytes),
            Value::Known(EntrypointArg::Resource(id)) => builder.arg_resource(id),
            Value::Channel { target, is_handle } => {
                let found = Channel::find(client, &target).await;
                let channel =
                    found.map_err(Failure::client(Action::Channel(About::Find, target)))?;
                match is_handle {
                    true => builder.arg_channel_handle(&channel),
                    false => builder.arg_channel(&channel),
                }
            }
        };
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(change: impl FnOnce(&mut StartArgs)) -> StartArgs {
        let mut args = StartArgs {
            module: "hello.wasm".into(),
            entrypoint: "start".into(),
            capabilities: LOGGING.to_vec(),
            arg: vec!["utf8:world".into()],
            param: vec![],
            result: vec![],
            log_uri: None,
            name: None,
            attach: true,
        };
        change(&mut args);
        args
    }

    fn refusal(change: impl FnOnce(&mut StartArgs), missing: &[&str]) -> String {
        match prepare(&args(change), missing) {
            Err(Failure::Usage { message, hint }) => format!("{message}; {hint}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_right_is_accepted() {
        assert!(prepare(&args(|_| ()), &[]).is_ok());
        let long = args(|args| {
            args.module = "m".repeat(256);
            args.entrypoint = "e".repeat(256);
            args.name = Some("n".repeat(63));
            args.log_uri = Some("u".repeat(1_024));
            args.arg = vec!["u8:1".into(); 64];
        });
        assert!(prepare(&long, &[]).is_ok());
    }

    #[test]
    fn what_passes_a_limit_is_refused() {
        let too_long = |change: fn(&mut StartArgs)| refusal(change, &[]);
        assert!(
            too_long(|args| args.module = "m".repeat(257))
                .contains("has 257 bytes, the limit is 256")
        );
        assert!(
            too_long(|args| args.entrypoint = "e".repeat(100_000))
                .contains("has 100000 bytes, the limit is 256")
        );
        assert!(too_long(|args| args.name = Some("n".repeat(64))).contains("the limit is 63"));
        assert!(
            too_long(|args| args.log_uri = Some("u".repeat(1_025))).contains("the limit is 1024")
        );
        assert!(
            too_long(|args| args.arg = vec!["u8:1".into(); 500])
                .contains("more than the limit of 64")
        );
        assert!(too_long(|args| args.module.clear()).contains("the module is empty"));
        let large = too_long(|args| args.arg = vec![format!("buffer:{}", "x".repeat(131_073)); 2]);
        assert!(
            large.contains("262146 bytes, more than the limit of 262144"),
            "{large}"
        );
    }

    #[test]
    fn channels_that_cannot_be_used_are_noted() {
        use Capability::{ChannelLifecycle, ChannelReader, ChannelWriter};
        let channel = |is_handle| Value::Channel {
            target: "jobs".into(),
            is_handle,
        };
        let (shared, handle) = ([channel(false)], [channel(true)]);
        for (values, capabilities, expected) in [
            (&shared[..], &[ChannelLifecycle, ChannelReader][..], None),
            (&shared, &[ChannelWriter], Some("ChannelLifecycle")),
            (&shared, &[ChannelLifecycle], Some("neither ChannelReader")),
            (&handle, &[ChannelWriter], None),
            (&handle, &[], Some("neither ChannelReader")),
            (&[], &[], None),
        ] {
            let note = unusable_channels(values, capabilities);
            assert_eq!(note.is_some(), expected.is_some(), "{note:?}");
            assert!(note.is_none_or(|note| note.contains(expected.unwrap())));
        }
    }

    #[test]
    fn attaching_needs_a_log() {
        assert_eq!(
            refusal(|_| (), &["ChannelWriter"]),
            "--attach needs a log, and the process would have none: logging needs ChannelLifecycle and ChannelWriter, \
             and ChannelWriter is not granted; add --capabilities ChannelWriter, or leave --attach out"
        );
        assert!(prepare(&args(|args| args.attach = false), &["ChannelWriter"]).is_ok());
    }
}
