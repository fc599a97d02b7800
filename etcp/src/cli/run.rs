//! The command line of `etcp run`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::common::parse_positive;
use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// End when the server was not reached for the first time by then
    #[arg(long, value_parser = parse_positive, default_value = "10s", value_name = "DURATION")]
    pub(crate) connect_timeout: Duration,
    /// How long connections that the command has left behind may take to end
    #[arg(long, value_parser = parse_positive, default_value = "10s", value_name = "DURATION")]
    pub(crate) linger: Duration,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) command: CommandArgs,
}

/// The program to run.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// The command, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(crate) words: Vec<OsString>,
}
