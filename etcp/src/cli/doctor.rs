//! The command line of `etcp doctor`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::path::PathBuf;

use clap::Args;
use eternaltcp::address::{ServerAddress, Target};

use super::common::{FirstContactArgs, parse_path};
use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The address of sproxy, as after --server; the default port is 6200
    #[arg(value_name = "HOST[:PORT]", required_unless_present_any = ["server", "config"])]
    pub(crate) host: Option<ServerAddress>,
    /// A target to try, as sproxy sees it: host:port
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<Target>,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Replace names and addresses by placeholders, for a report that others read
    #[arg(long)]
    pub(crate) hide_names: bool,
    /// Measure neither the speed nor the pause after a cut
    #[arg(long)]
    pub(crate) quick: bool,
    /// Take the servers and the flags for them from this configuration file of cproxy; --server NAME
    /// then chooses one of several
    #[arg(
        long,
        value_parser = parse_path(),
        value_name = "FILE",
        conflicts_with = "host"
    )]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) first_contact: FirstContactArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
