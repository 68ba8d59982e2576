//! The snippets of the pages for users compile: each is a file of `migration/`, letter for letter.

#![allow(
    dead_code,
    unused_variables,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "snippets, of which nothing is called"
)]

use std::{fs, path::Path};

mod migration {
    mod channel_argument;
    mod channels;
    mod connecting;
    mod errors;
    mod logs;
    mod readme;
}

/// Where the snippets are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/migration");

const PAGE: &str = include_str!("../../docs/MIGRATION.md");

const README: &str = include_str!("../README.md");

/// The blocks of a page with exactly this behind the fence.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in page.lines() {
        match &mut block {
            Some(text) if line == "```" => {
                blocks.push(std::mem::take(text));
                block = None;
            }
            Some(text) => {
                text.push_str(line);
                text.push('\n');
            }
            None if line == fence => block = Some(String::new()),
            None => {}
        }
    }
    assert!(block.is_none(), "a block has no end");
    blocks
}

/// The files of the snippets, without those of other pages.
fn snippets(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let files = fs::read_dir(Path::new(FOLDER)).unwrap();
    let mut snippets: Vec<String> = files
        .map(|file| file.unwrap())
        .filter(|file| wanted(file.file_name().to_str().unwrap()))
        .map(|file| fs::read_to_string(file.path()).unwrap())
        .collect();
    snippets.sort();
    snippets
}

fn sorted(mut blocks: Vec<String>) -> Vec<String> {
    blocks.sort();
    blocks
}

#[test]
fn the_snippets_of_the_migration_page_are_compiled() {
    let after = sorted(blocks(PAGE, "rust"));
    assert_eq!(after, snippets(|name| name != "readme.rs"));
}

#[test]
fn what_is_compared_with_is_marked() {
    let before = blocks(PAGE, "rust,ignore");
    assert_eq!(before.len(), 4);
    for block in &before {
        assert!(block.starts_with("// 0.3.3\n"), "{block}");
    }
    // There is no third kind of block.
    let fences = PAGE.lines().filter(|line| line.starts_with("```")).count();
    assert_eq!(fences, 2 * (before.len() + blocks(PAGE, "rust").len()));
}

#[test]
fn the_snippet_of_the_readme_is_compiled() {
    assert_eq!(blocks(README, "rust"), snippets(|name| name == "readme.rs"));
}

/// Each public item of 0.3.3 has its line.
#[test]
fn nothing_of_0_3_3_is_left_out() {
    let table = PAGE.split_once("## Every public item").unwrap().1;
    for item in [
        "DEFAULT_DOMAIN",
        "DEFAULT_PORT",
        "DEFAULT_RESPONSE_LIMIT",
        "ClientConfigBuilder::default",
        "`domain`",
        "`port`",
        "`certificate_directory`",
        "`connect`",
        "ClientConfigBuilder::response_limit",
        "Client::connect",
        "Channel::create",
        "Channel::new",
        "Channel::handle",
        "`delete`",
        "Channel::subscribe(",
        "Channel::subscribe_shared(",
        "Channel::publish",
        "Publisher: Sink",
        "Subscriber: Stream",
        "ProcessBuilder::new",
        "ProcessBuilder::capability",
        "`signature`",
        "`log_uri`",
        "`arg_scalar`",
        "`arg_utf8`",
        "`arg_buffer`",
        "`arg_resource`",
        "Process::new",
        "`start`",
        "`stop`",
        "Process::log_channel",
        "Process: Display",
        "AbiParam",
        "AbiScalarType",
        "AbiScalarValue",
        "AbiSignature",
        "Capability",
        "EntrypointArg",
        "GuestResourceId",
        "GuestUint",
        "`Certificate(String)`",
        "`Tls(rustls::Error)`",
        "`Resolve { target, source }`",
        "`Endpoint`",
        "`Connect`",
        "`Connection`",
        "`Write`",
        "`Finish`",
        "`Read`",
        "`Encode`",
        "`Decode`",
        "`InvalidArgument(&str)`",
        "`Remote(String)`",
        "`UnexpectedResponse`",
    ] {
        assert!(table.contains(item), "{item}");
    }
}
