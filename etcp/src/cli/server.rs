//! The flags with which every client finds and trusts its server.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use eternaltcp::Congestion;
use eternaltcp::address::ServerAddress;
use eternaltcp::client::MAX_CARRIERS;
use eternaltcp::duration::parse_duration;

use super::common::{MptcpArg, TunnelArgs, parse_path, parse_positive};
use crate::source::{SourceAddress, parse_interface};

/// Flags for finding and trusting the server.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The address of sproxy; the default port is 6200. Repeat it for further addresses of the same
    /// sproxy, the best first
    #[arg(short, long, required = true, value_name = "HOST[:PORT]", help_heading = "Connection")]
    pub(crate) server: Vec<ServerAddress>,
    /// Connect only from this address of this machine, as ssh does. An IPv6 address may have its zone
    /// (fe80::1%eth0)
    #[arg(short, long, value_name = "ADDR", help_heading = "Connection")]
    pub(crate) bind_address: Option<SourceAddress>,
    /// Connect only over this interface, whatever the routes say
    #[arg(
        short = 'B',
        long,
        value_parser = parse_interface,
        value_name = "IFACE",
        help_heading = "Connection"
    )]
    pub(crate) bind_interface: Option<String>,
    /// Connect only to IPv4 addresses, as ssh does
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Connection")]
    pub(crate) ipv4: bool,
    /// Connect only to IPv6 addresses
    #[arg(short = '6', long, help_heading = "Connection")]
    pub(crate) ipv6: bool,
    /// Connect through this proxy: http://[USER:PASSWORD@]HOST:PORT, socks5h://, socks5:// or
    /// socks4a://; 'none' for none
    /// [default: ProxyJump or ProxyCommand of ssh, else $https_proxy]
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub(crate) proxy: Option<String>,
    /// Use MPTCP for connections to sproxy, which uses several networks at once
    #[arg(
        long,
        value_enum,
        default_value_t = MptcpArg::Off,
        value_name = "WHEN",
        help_heading = "Connection"
    )]
    pub(crate) mptcp: MptcpArg,
    /// The congestion control of connections to sproxy, such as bbr [default: the system's]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) congestion: Option<Congestion>,
    /// Concurrent connections to sproxy, up to 8. Each has its own share of a path that loses
    /// packets
    #[arg(
        long,
        value_parser = parse_carriers,
        default_value = "1",
        value_name = "N",
        help_heading = "Connection"
    )]
    pub(crate) carriers: usize,
    /// Your private key; may be repeated [default: as ssh has them, the agent's first]
    #[arg(short, long, value_parser = parse_path(), value_name = "FILE", help_heading = "Keys")]
    pub(crate) identity: Vec<PathBuf>,
    /// Read this file instead of ssh's configuration; 'none' for no file
    #[arg(short = 'F', long, value_parser = parse_path(), value_name = "FILE", help_heading = "Keys")]
    pub(crate) ssh_config: Option<PathBuf>,
    /// Ignore ssh's configuration
    #[arg(long, conflicts_with = "ssh_config", help_heading = "Keys")]
    pub(crate) no_ssh_config: bool,
    /// The trusted servers, in the format of ssh [default: as ssh has them]
    #[arg(long, value_parser = parse_path(), value_name = "FILE", help_heading = "Keys")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Trust a server whose key is not known yet, and store its key
    #[arg(long, help_heading = "Keys")]
    pub(crate) accept_new: bool,
    /// This client's name at the server; a restarted client replaces an older one of the same name
    /// [default: the listen addresses; for connect and run, its process id]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) name: Option<String>,
    /// Keep a second connection ready over another interface, so that a dead path costs one round
    /// trip
    #[arg(long, help_heading = "Connection")]
    pub(crate) spare: bool,
    /// Exit when the server could not be reached for this long [default: never]
    #[arg(
        long,
        value_parser = parse_positive,
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) give_up_after: Option<Duration>,
    /// Time for which a node of several servers that has the connections is waited for while others
    /// answer; then the connections are reset, and new ones go to any server
    #[arg(
        long,
        value_parser = parse_duration,
        default_value = "60s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) node_wait: Duration,
    #[command(flatten)]
    pub(crate) tunnel: TunnelArgs,
}

fn parse_carriers(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MAX_CARRIERS).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {MAX_CARRIERS}"))
}
