//! The command line of `etcp cproxy`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use eternaltcp::address::{Forward, Listen, ServerAddress};

use super::common::{ConfigArgs, HolderArgs, parse_positive};
use super::control::OperatorArgs;
use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct CproxyArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// A host as ssh takes it, which is answered with the right flag
    #[arg(value_name = "HOST", hide = true, value_parser = explain_host)]
    _host: Option<String>,
    /// Listen here and forward to the server's default target; may be repeated
    /// [default: localhost:5200, unless there is a -L, -R, -D or --transparent]
    #[arg(long, value_name = "ADDR", help_heading = "Forwards")]
    pub(crate) listen: Vec<Listen>,
    /// Listen on [bind:]port and forward to host:hostport; may be repeated
    #[arg(
        short = 'L',
        long = "local-forward",
        value_name = "[BIND:]PORT:HOST:HOSTPORT",
        help_heading = "Forwards"
    )]
    pub(crate) forward: Vec<Forward>,
    /// Listen on [bind:]port for SOCKS4, SOCKS5 and HTTP CONNECT; the server looks up names; may
    /// be repeated
    #[arg(
        short = 'D',
        long = "dynamic-forward",
        value_parser = Listen::from_bind_spec,
        value_name = "[BIND:]PORT",
        help_heading = "Forwards"
    )]
    pub(crate) dynamic: Vec<Listen>,
    /// Listen here for connections that a firewall redirects, and forward each to its original
    /// destination; may be repeated
    #[arg(long, value_parser = parse_address, value_name = "ADDR", help_heading = "Forwards")]
    pub(crate) transparent: Vec<Listen>,
    /// Make the server listen on [bind:]port, and forward to host:hostport as seen from here; may
    /// be repeated
    #[arg(
        short = 'R',
        long = "remote-forward",
        value_name = "[BIND:]PORT:HOST:HOSTPORT",
        help_heading = "Forwards"
    )]
    pub(crate) remote: Vec<Forward>,
    /// Tell the targets of -R who connected to the server, in a PROXY protocol v2 header
    #[arg(long, help_heading = "Forwards")]
    pub(crate) send_proxy: bool,
    /// New sessions that the server has not been told of; further connections wait in the
    /// system's queue
    #[arg(
        long,
        default_value_t = 128,
        value_name = "COUNT",
        value_parser = at_least_one(),
        help_heading = "Limits"
    )]
    pub(crate) max_waiting: usize,
    /// Time for which such a session waits while the server cannot be reached; then it is reset
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "60s",
        value_name = "DURATION",
        help_heading = "Limits"
    )]
    pub(crate) wait: Duration,
    /// The servers that have tables in a configuration file. If there are any, the other fields are those of
    /// the first one, and only those of the process count.
    #[arg(skip)]
    pub(crate) tables: Vec<NamedServer>,
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
    #[command(flatten)]
    pub(crate) holder: HolderArgs,
}

/// A server that has a table in a configuration file.
#[derive(Debug)]
pub(crate) struct NamedServer {
    pub(crate) name: String,
    pub(crate) args: CproxyArgs,
}

/// Parses a count that is not zero.
fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Explains where the name of the server belongs.
fn explain_host(text: &str) -> Result<String, String> {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let shown = if host.parse::<ServerAddress>().is_ok() { host } else { "HOST" };
    Err(format!("name the server with --server {shown}"))
}

/// Parses a TCP address to listen on.
fn parse_address(text: &str) -> Result<Listen, String> {
    match Listen::from_bind_spec(text).map_err(|error| error.to_string())? {
        Listen::Unix(_) => Err("a firewall redirects to an address and a port".to_owned()),
        listen => Ok(listen),
    }
}
