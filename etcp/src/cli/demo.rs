//! The command line of `etcp demo`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use clap::Args;

use super::server::ServerArgs;
use crate::talk::PortChoice;

/// Without `--server`, everything runs on this machine.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Start sproxy at the server by ssh, with this etcp there; a relative path starts in the home
    /// folder [default: etcp in PATH, else the copied one]
    #[arg(
        long,
        value_name = "PATH",
        requires = "server",
        conflicts_with = "copy",
        help_heading = "Server"
    )]
    pub(crate) remote_etcp: Option<String>,
    /// Start it by ssh, and copy this etcp to ~/.cache/eternaltcp at the server, unless it is there
    #[arg(long, requires = "server", help_heading = "Server")]
    pub(crate) copy: bool,
    /// Start it by ssh, and listen there on a port of this range, which its firewall passes
    /// [default: any free port]
    #[arg(long, value_name = "PORT[-PORT]", requires = "server", help_heading = "Server")]
    pub(crate) remote_port: Option<PortChoice>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

impl DemoArgs {
    /// Returns whether sproxy is at another machine.
    pub(crate) fn is_remote(&self) -> bool {
        !self.server.server.is_empty()
    }

    /// Returns whether the demo starts an sproxy at the server even if one runs there already.
    pub(crate) fn is_login_wanted(&self) -> bool {
        self.copy || self.remote_etcp.is_some() || self.remote_port.is_some()
    }
}
