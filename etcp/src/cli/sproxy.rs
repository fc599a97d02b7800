//! The command line of `etcp sproxy`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use eternaltcp::Congestion;
use eternaltcp::address::{Listen, Target};
use eternaltcp::policy::{ListenPermit, Permit};
use eternaltcp::server::{MaxStartups, PenaltyRange};

use super::audit::AuditArgs;
use super::common::{ConfigArgs, HolderArgs, MptcpArg, TunnelArgs, parse_path, parse_positive};
use super::control::OperatorArgs;
use super::fleet::NodeArgs;
use super::group::GroupLine;
use super::limits::LimitArgs;

#[derive(Debug, Args)]
pub(crate) struct SproxyArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Listen for cproxies on this address; [::] includes IPv4
    #[arg(long, default_value = "[::]:6200", value_name = "ADDR", help_heading = "Connection")]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) node: Box<NodeArgs>,
    /// The target of connections whose client names none
    #[arg(
        long,
        default_value = "127.0.0.1:23",
        value_name = "HOST:PORT",
        help_heading = "Forwards"
    )]
    pub(crate) target: Target,
    /// Permit clients to name this target: host:port, host:*, CIDR:port, *:*; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = "Forwards")]
    pub(crate) permit: Vec<Permit>,
    /// Let every client query this machine's resolver, as etcp run does; otherwise only those that
    /// may name its address as a target
    #[arg(long, help_heading = "Forwards")]
    pub(crate) permit_resolver: bool,
    /// Permit clients to make this server listen on this address (-R of cproxy): localhost:port,
    /// CIDR:low-high, *:*, unix:/path, or none; may be repeated
    /// [default: localhost:1024-65535]
    #[arg(long, value_name = "PATTERN", help_heading = "Forwards")]
    pub(crate) permit_listen: Vec<ListenPermit>,
    /// Tell targets the client's address, as the client states it, in a PROXY protocol v2 header
    #[arg(long, help_heading = "Forwards")]
    pub(crate) send_proxy: bool,
    /// The server's private key; created at the first start
    /// [default: server_key in the state folder]
    #[arg(short, long, value_parser = parse_path(), value_name = "FILE", help_heading = "Keys")]
    pub(crate) identity: Option<PathBuf>,
    /// The key that will follow the server's key: clients are told of it, and add it to known_hosts.
    /// Created if it is missing; may be repeated
    #[arg(long, value_parser = parse_path(), value_name = "FILE", help_heading = "Keys")]
    pub(crate) next_identity: Vec<PathBuf>,
    /// The admitted keys, in the format of sshd; may be repeated [default: ~/.ssh/authorized_keys]
    #[arg(long, value_parser = parse_path(), value_name = "FILE", help_heading = "Keys")]
    pub(crate) authorized_keys: Vec<PathBuf>,
    /// Run this command for a key that no file admits, as sshd's AuthorizedKeysCommand. It prints
    /// lines of admitted keys. %u is the user of sproxy, %k the key, %t its type, %f its fingerprint
    #[arg(long, value_name = "COMMAND", help_heading = "Keys")]
    pub(crate) authorized_keys_command: Option<String>,
    /// The user of /etc/passwd who runs it, also for groups
    #[arg(long, value_name = "USER", help_heading = "Keys")]
    pub(crate) authorized_keys_command_user: Option<String>,
    /// A line of a group in a configuration file
    #[arg(long, hide = true, value_parser = GroupLine::parse)]
    pub(crate) group: Vec<GroupLine>,
    /// Trust authorized_keys only if nobody except this user and root can change or replace it, as
    /// sshd's StrictModes does
    #[arg(
        long,
        value_enum,
        default_value_t = YesNo::Yes,
        value_name = "WHETHER",
        help_heading = "Keys"
    )]
    pub(crate) strict_modes: YesNo,
    /// Time for which the connections of an absent client are kept
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "7d",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) keep_detached: Duration,
    /// Accept MPTCP connections from cproxies; plain TCP is always accepted
    #[arg(
        long,
        value_enum,
        default_value_t = MptcpArg::Off,
        value_name = "WHEN",
        help_heading = "Connection"
    )]
    pub(crate) mptcp: MptcpArg,
    /// The congestion control of connections with cproxies, such as bbr [default: the system's]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) congestion: Option<Congestion>,
    /// The maximum number of connections that wait for authentication, as sshd's MaxStartups: from
    /// START on, a new one drops an older one in RATE of 100 cases; from FULL on, always
    #[arg(
        long,
        default_value_t = MaxStartups::default(),
        value_name = "START:RATE:FULL",
        help_heading = "Limits"
    )]
    pub(crate) max_startups: MaxStartups,
    /// The maximum number of them from one source: an IPv4 address, or an IPv6 /64
    #[arg(
        long,
        default_value_t = 64,
        value_name = "COUNT",
        value_parser = parse_count,
        help_heading = "Limits"
    )]
    pub(crate) per_source_max_startups: usize,
    /// The penalty from which failures of a source count, and the largest penalty, as sshd's
    /// PerSourcePenalties; or off
    #[arg(
        long,
        default_value = "15s:10m",
        value_name = "MIN:MAX",
        value_parser = parse_penalties,
        help_heading = "Limits"
    )]
    pub(crate) per_source_penalties: PenaltiesArg,
    /// Time for a connection to start the handshake, to answer, and to send its request
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "5s",
        value_name = "DURATION",
        help_heading = "Limits"
    )]
    pub(crate) login_grace: Duration,
    /// Further time for a client that shows that it is about to sign, because its agent may ask
    /// the user
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "60s",
        value_name = "DURATION",
        help_heading = "Limits"
    )]
    pub(crate) signature_grace: Duration,
    /// Concurrent name look-ups of targets; a key gets half of those that others leave
    #[arg(
        long,
        default_value_t = 128,
        value_name = "COUNT",
        value_parser = parse_count,
        help_heading = "Limits"
    )]
    pub(crate) max_lookups: usize,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) tunnel: TunnelArgs,
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
    #[command(flatten)]
    pub(crate) audit: AuditArgs,
    #[command(flatten)]
    pub(crate) holder: HolderArgs,
}

/// Yes or no, as in sshd's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum YesNo {
    /// The setting is on.
    Yes,
    /// The setting is off.
    No,
}

/// The setting of `--per-source-penalties`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PenaltiesArg(pub(crate) Option<PenaltyRange>);

fn parse_penalties(text: &str) -> Result<PenaltiesArg, String> {
    if text == "off" { Ok(PenaltiesArg(None)) } else { text.parse().map(Some).map(PenaltiesArg) }
}

/// Parses a limit from 1 to 65,536.
fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=65_536) => Ok(count),
        _ => Err("expected a number from 1 to 65536".to_owned()),
    }
}
