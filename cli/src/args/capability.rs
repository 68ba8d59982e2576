//! Reads capability names as the runtime does, and suggests the nearest one.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use selium_remote_client::Capability;

use crate::render::escape;

/// The parser of `--capabilities`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CapabilityParser;

fn names() -> impl Iterator<Item = PossibleValue> {
    Capability::ALL
        .iter()
        .map(|capability| PossibleValue::new(capability.name()))
}

impl TypedValueParser for CapabilityParser {
    type Value = Capability;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Capability, clap::Error> {
        let text = value.to_string_lossy();
        if let Ok(capability) = text.trim().parse() {
            return Ok(capability);
        }
        // Clap knows how to name the valid values and the nearest of them.
        let shown = escape::cut(&text, escape::MAX_QUOTED);
        match PossibleValuesParser::new(names()).parse_ref(command, arg, OsStr::new(&shown)) {
            Err(error) => Err(error),
            Ok(name) => name.parse().map_err(|_| {
                clap::Error::new(clap::error::ErrorKind::InvalidValue).with_cmd(command)
            }),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(names()))
    }
}
