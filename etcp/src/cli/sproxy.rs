//! The command line of `etcp sproxy`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use eternaltcp::Congestion;
use eternaltcp::address::{Listen, Target};
use eternaltcp::policy::{ListenPermit, Permit};
use eternaltcp::server::{MaxStartups, PenaltyRange};

use super::common::{MptcpArg, TunnelArgs, parse_positive};
use super::control::OperatorArgs;
use super::limits::LimitArgs;

#[derive(Debug, Args)]
pub(crate) struct SproxyArgs {
    /// Where to listen for cproxies; [::] takes IPv4 too
    #[arg(long, default_value = "[::]:6200", value_name = "ADDR", help_heading = "Connection")]
    pub(crate) listen: Listen,
    /// Where a connection goes whose client named no target
    #[arg(
        long,
        default_value = "127.0.0.1:23",
        value_name = "HOST:PORT",
        help_heading = "Forwards"
    )]
    pub(crate) target: Target,
    /// A further target that clients may name: host:port, host:*, CIDR:port, *:*; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = "Forwards")]
    pub(crate) permit: Vec<Permit>,
    /// Let clients ask this machine's resolver for names, as etcp run does; else only those who may
    /// name its address as a target
    #[arg(long, help_heading = "Forwards")]
    pub(crate) permit_resolver: bool,
    /// An address that clients may have this server listen on (-R of cproxy): localhost:port,
    /// CIDR:low-high, *:*, unix:/path, or none; may be repeated
    /// [default: localhost:1024-65535]
    #[arg(long, value_name = "PATTERN", help_heading = "Forwards")]
    pub(crate) permit_listen: Vec<ListenPermit>,
    /// Tell targets who connects, by a PROXY protocol v2 header: the address that the client says
    #[arg(long, help_heading = "Forwards")]
    pub(crate) send_proxy: bool,
    /// The server's private key; made at the first start
    /// [default: server_key in the state folder]
    #[arg(short, long, value_name = "FILE", help_heading = "Keys")]
    pub(crate) identity: Option<PathBuf>,
    /// Whose keys are let in, as for sshd [default: ~/.ssh/authorized_keys]
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    pub(crate) authorized_keys: Option<PathBuf>,
    /// Believe authorized_keys only if nobody but this user and root could change or replace it,
    /// as sshd's StrictModes
    #[arg(
        long,
        value_enum,
        default_value_t = YesNo::Yes,
        value_name = "WHETHER",
        help_heading = "Keys"
    )]
    pub(crate) strict_modes: YesNo,
    /// How long the connections of a client that is away are kept
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "7d",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) keep_detached: Duration,
    /// Whether connections of cproxies may be MPTCP; plain TCP is always taken
    #[arg(
        long,
        value_enum,
        default_value_t = MptcpArg::Off,
        value_name = "WHEN",
        help_heading = "Connection"
    )]
    pub(crate) mptcp: MptcpArg,
    /// The congestion control of connections of cproxies, as bbr [default: the system's]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) congestion: Option<Congestion>,
    /// How many connections may wait to prove a key, as sshd's MaxStartups: from START on a new one
    /// drops an older one in RATE of 100 cases, from FULL on always
    #[arg(
        long,
        default_value_t = MaxStartups::default(),
        value_name = "START:RATE:FULL",
        help_heading = "Limits"
    )]
    pub(crate) max_startups: MaxStartups,
    /// How many of them may be from one source: an IPv4 address, or an IPv6 /64
    #[arg(
        long,
        default_value_t = 64,
        value_name = "COUNT",
        value_parser = parse_count,
        help_heading = "Limits"
    )]
    pub(crate) per_source_max_startups: usize,
    /// When failures of a source count against it, and for how long at most, as sshd's
    /// PerSourcePenalties; or off
    #[arg(
        long,
        default_value = "15s:10m",
        value_name = "MIN:MAX",
        value_parser = parse_penalties,
        help_heading = "Limits"
    )]
    pub(crate) per_source_penalties: Penalties,
    /// How long a connection may take to begin, to answer, and to say what it wants
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "5s",
        value_name = "DURATION",
        help_heading = "Limits"
    )]
    pub(crate) login_grace: Duration,
    /// How much longer a client may take to sign that shows that it is about to: its agent may ask
    /// its user
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "60s",
        value_name = "DURATION",
        help_heading = "Limits"
    )]
    pub(crate) signature_grace: Duration,
    /// How many names of targets are looked up at once; a key gets half of those that others leave
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
}

/// An answer as sshd's configuration has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum YesNo {
    /// It is so.
    Yes,
    /// It is not.
    No,
}

/// The setting of `--per-source-penalties`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Penalties(pub(crate) Option<PenaltyRange>);

fn parse_penalties(text: &str) -> Result<Penalties, String> {
    if text == "off" { Ok(Penalties(None)) } else { text.parse().map(Some).map(Penalties) }
}

/// A limit of 1 to 65,536.
fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=65_536) => Ok(count),
        _ => Err("expected a number from 1 to 65536".to_owned()),
    }
}
