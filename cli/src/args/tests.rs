//! Tests of the command line, without the tester's environment.

use std::ffi::{OsStr, OsString};

use super::*;

fn read(line: &str) -> Result<(Global, Command), clap::Error> {
    let words: Vec<_> = std::iter::once("selium")
        .chain(line.split_whitespace())
        .map(Into::into)
        .collect();
    parse(&words, |_| None)
}

fn start(line: &str) -> StartArgs {
    match read(line).unwrap().1 {
        Command::Start(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn the_documented_lines_are_read() {
    use Capability::{ChannelLifecycle, ChannelReader, ChannelWriter};
    let args = start(
        "start hello.wasm some_entrypoint --capabilities ChannelLifecycle,ChannelReader,ChannelWriter",
    );
    assert_eq!(
        (args.module.as_str(), args.entrypoint.as_str()),
        ("hello.wasm", "some_entrypoint")
    );
    assert_eq!(
        args.capabilities,
        [ChannelLifecycle, ChannelReader, ChannelWriter]
    );
    assert!(!args.attach);

    let args = start("start hello.wasm --attach");
    assert_eq!(args.entrypoint, "start");
    assert!(args.attach && args.capabilities.is_empty());

    let (global, command) = read("--cert-dir selium-work/certs stop 0123456789abcdef").unwrap();
    assert_eq!(global.cert_dir, PathBuf::from("selium-work/certs"));
    assert!(
        matches!(command, Command::Stop(StopArgs { targets }) if targets == ["0123456789abcdef"])
    );
}

#[test]
fn global_options_stand_before_and_after_the_command() {
    for line in [
        "--domain example.org --port 7443 --log-format JSON --timeout 2.5 -v ps",
        "ps --domain example.org --port 7443 --log-format=json --timeout 2.5 --verbose",
        "--domain example.org --timeout 2.5 ps --port 7443 -v --log-format json",
    ] {
        let global = read(line).unwrap().0;
        assert_eq!(
            (global.domain.as_str(), global.port),
            ("example.org", 7443),
            "{line}"
        );
        assert_eq!(global.log_format, Format::Json, "{line}");
        assert_eq!(global.timeout, Some(Duration::from_millis(2_500)), "{line}");
        assert_eq!(global.verbose, 1, "{line}");
    }
}

#[test]
fn capabilities_are_read_in_any_spelling() {
    use Capability::{NetQuicBind, TimeRead};
    for line in [
        "start m -c NetQuicBind -c TimeRead",
        "start m -c net-quic-bind,TIME_READ",
        "start m --capability netquicbind --capabilities time-read",
    ] {
        assert_eq!(start(line).capabilities, [NetQuicBind, TimeRead], "{line}");
    }
}

#[test]
fn an_unknown_capability_is_named_with_the_valid_ones() {
    let error = read("start m -c ChannelReader,ChanelWriter").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for part in [
        "'ChanelWriter'",
        "[possible values: SessionLifecycle, ",
        "TimeRead]",
        "'ChannelWriter'",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let long = format!("start m -c {}", "x".repeat(100_000));
    assert!(read(&long).unwrap_err().to_string().len() < 2_000);
    assert_eq!(read("start m -c ,").unwrap_err().exit_code(), 2);
}

#[test]
fn types_have_aliases() {
    let args = start("start m -p i32 -p String --param BYTES -r handle -a -5 -a utf8:x -a y");
    assert_eq!(
        args.param,
        [ParamKind::I32, ParamKind::Utf8, ParamKind::Buffer]
    );
    assert_eq!(args.result, [ParamKind::Resource]);
    assert_eq!(args.arg, ["-5", "utf8:x", "y"]);
}

#[test]
fn wrong_lines_are_refused() {
    for line in [
        "",
        "frobnicate",
        "start",
        "stop",
        "start m -p i33",
        "ps -q -o json",
        "ps -o yaml",
        "--timeout 0 ps",
        "--timeout nan ps",
        "--timeout 86401 ps",
        "--port 65536 ps",
        "--log-format xml ps",
        "logs",
        "logs a --tail -1",
        "ping -n 0",
    ] {
        assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn the_format_of_errors_is_found_in_unreadable_lines() {
    let wanted = |line: &str, variable: Option<&str>| {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        json_wanted(&words, variable.map(OsStr::new))
    };
    assert!(!wanted("selium ps", None));
    assert!(wanted("selium ps", Some("json")));
    assert!(wanted("selium --log-format json frob", Some("text")));
    assert!(wanted("selium frob --log-format=JSON", None));
    assert!(!wanted("selium --log-format text frob", Some("json")));
    assert!(!wanted("selium start -- --log-format json", None));
    assert!(!wanted("selium --log-format", None));
}
