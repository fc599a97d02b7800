//! The command line of `etcp connect`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::time::Duration;

use clap::Args;
use eternaltcp::address::Target;

use super::common::parse_positive;
use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The target of the connection [default: the server's default target]
    #[arg(value_name = "HOST:PORT")]
    pub(crate) target: Option<Target>,
    /// Exit if the server is not reached for the first time within this time
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "10s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) connect_timeout: Duration,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
