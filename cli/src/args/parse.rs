//! From the words of the command line to what they mean.

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::{Cli, Command, Global};

/// Reads the command line and the environment.
///
/// # Errors
/// When one of them is wrong, and when the line asks for help or the version.
pub(crate) fn parse(
    words: &[OsString],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(Global, Command), clap::Error> {
    let cli = Cli::try_parse_from(words)?;
    let global = Global::resolve(cli.global, variable)
        .map_err(|message| Cli::command().error(ErrorKind::ValueValidation, message))?;
    Ok((global, cli.command))
}

/// Whether errors are wanted in JSON, for command lines that cannot be read.
pub(crate) fn json_wanted(words: &[OsString], variable: Option<&OsStr>) -> bool {
    let is_json = |value: &OsStr| value.eq_ignore_ascii_case("json");
    let mut wanted = variable.is_some_and(is_json);
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if word == "--log-format" {
            wanted = words.next().is_some_and(|value| is_json(value));
        } else if let Some(value) = word
            .to_str()
            .and_then(|word| word.strip_prefix("--log-format="))
        {
            wanted = is_json(OsStr::new(value));
        }
    }
    wanted
}
