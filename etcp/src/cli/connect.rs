//! The command line of `etcp connect`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use clap::Args;
use eternaltcp::address::Target;

use super::common::FirstContactArgs;
use super::control::AccessArgs;
use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The target of the connection [default: the server's default target]
    #[arg(value_name = "HOST:PORT")]
    pub(crate) target: Option<Target>,
    #[command(flatten)]
    pub(crate) first_contact: FirstContactArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) operator: AccessArgs,
}
