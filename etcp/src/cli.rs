//! The command line: what a user may type, and the help about it.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use eternaltcp::Mptcp;
use eternaltcp::address::{Forward, Listen, Server, Target};
use eternaltcp::duration::parse_duration;
use eternaltcp::policy::Permit;

/// Keep TCP connections alive while the network changes.
///
/// Run `etcp sproxy` beside the server program and `etcp cproxy` on your own
/// machine, and point the application at cproxy. When the connection between
/// the two dies (another network, another address, a sleep), they connect
/// again and go on at the exact byte; the application notices nothing.
#[derive(Debug, Parser)]
#[command(name = "etcp", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  etcp demo                                         see it work, on this machine alone
  etcp sproxy --permit 'localhost:*'                on the server
  etcp cproxy --server example.org -L 5432:localhost:5432
  ssh -o ProxyCommand='etcp connect --server %h localhost:22' example.org

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 3 refused by the peer (key or permission).
Durations are written 500ms, 10s, 5m, 2h, 7d; addresses host:port, [v6]:port or unix:/path.";

/// What to log, and how.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Log more; twice for every packet (or set RUST_LOG)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Form of the log on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORM")]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MptcpArg {
    /// Where this system has it
    Auto,
    /// Where this system has it, with a warning where not
    On,
    /// Never
    Off,
}

impl From<MptcpArg> for Mptcp {
    fn from(arg: MptcpArg) -> Self {
        match arg {
            MptcpArg::Auto => Self::Auto,
            MptcpArg::On => Self::On,
            MptcpArg::Off => Self::Off,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run beside the server program: let clients in and connect them to targets
    Sproxy(SproxyArgs),
    /// Run beside the application: listen for it and carry its connections
    Cproxy(CproxyArgs),
    /// Carry stdin and stdout as one connection: for ssh's ProxyCommand
    Connect(ConnectArgs),
    /// See it work, on this machine alone: a checked stream whose carriers die
    Demo,
}

/// Settings of the protocol that both sides have.
#[derive(Debug, Args)]
pub(crate) struct TunnelArgs {
    /// Send a sign of life when nothing else was sent for this long
    #[arg(long, value_parser = parse_positive, default_value = "1s", value_name = "DURATION")]
    pub(crate) heartbeat: Duration,
    /// Give a connection up after this much silence
    #[arg(long, value_parser = parse_positive, default_value = "3s", value_name = "DURATION")]
    pub(crate) dead_after: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SproxyArgs {
    /// Where to listen for cproxies; [::] takes IPv4 too
    #[arg(long, default_value = "[::]:6200", value_name = "ADDR")]
    pub(crate) listen: Listen,
    /// Where a connection goes whose client named no target
    #[arg(long, default_value = "127.0.0.1:23", value_name = "HOST:PORT")]
    pub(crate) target: Target,
    /// A further target that clients may name: host:port, host:*, CIDR:port, *:*; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) permit: Vec<Permit>,
    /// The server's private key; made at the first start
    /// [default: $XDG_STATE_HOME/eternaltcp/server_key]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Whose keys are let in, as for sshd [default: ~/.ssh/authorized_keys]
    #[arg(long, value_name = "FILE")]
    pub(crate) authorized_keys: Option<PathBuf>,
    /// How long the connections of a client that is away are kept
    #[arg(long, value_parser = parse_positive, default_value = "7d", value_name = "DURATION")]
    pub(crate) keep_detached: Duration,
    /// Whether connections of cproxies may be MPTCP; plain TCP is always taken
    #[arg(long, value_enum, default_value_t = MptcpArg::Off, value_name = "WHEN")]
    pub(crate) mptcp: MptcpArg,
    /// Memory for the queues of all clients, in MiB [default: half of this machine's]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(4..=1 << 20))]
    pub(crate) memory: Option<u64>,
    #[command(flatten)]
    pub(crate) tunnel: TunnelArgs,
}

/// How a client finds and trusts its server.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where sproxy is; the default port is 6200. Further addresses of the same sproxy may follow,
    /// the best first
    #[arg(short, long, required = true, value_name = "HOST[:PORT]")]
    pub(crate) server: Vec<Server>,
    /// Connect from this address of this machine alone, as ssh does
    #[arg(short, long, value_name = "ADDR")]
    pub(crate) bind_address: Option<IpAddr>,
    /// Connect over this interface alone, whatever the routes say
    #[arg(short = 'B', long, value_parser = parse_interface, value_name = "IFACE")]
    pub(crate) bind_interface: Option<String>,
    /// Whether connections to sproxy are MPTCP, which uses several networks at once
    #[arg(long, value_enum, default_value_t = MptcpArg::Off, value_name = "WHEN")]
    pub(crate) mptcp: MptcpArg,
    /// Your private key [default: ~/.ssh/id_ed25519, then ~/.ssh/id_ecdsa]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// The servers you trust, as for ssh [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Trust a server whose key is not known yet, and keep its key
    #[arg(long)]
    pub(crate) accept_new: bool,
    /// Your client's name at the server, where a newer one ends an older one's ghost
    /// [default: the listen addresses; for connect, its process id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Keep a second connection ready over another interface, so that a dead path costs one
    /// round trip
    #[arg(long)]
    pub(crate) spare: bool,
    /// End when the server could not be reached for this long [default: never]
    #[arg(long, value_parser = parse_positive, value_name = "DURATION")]
    pub(crate) give_up_after: Option<Duration>,
    #[command(flatten)]
    pub(crate) tunnel: TunnelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CproxyArgs {
    /// Listen here for connections to the server's default target; may be repeated
    /// [default: 127.0.0.1:5200, unless there is a -L]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<Listen>,
    /// Listen on [bind:]port for connections to host:hostport; may be repeated
    #[arg(short = 'L', value_name = "[BIND:]PORT:HOST:HOSTPORT")]
    pub(crate) forward: Vec<Forward>,
    /// How many new connections wait while the server cannot be reached
    #[arg(long, default_value_t = 128, value_name = "COUNT")]
    pub(crate) max_waiting: usize,
    /// How long one of them waits; then it is reset
    #[arg(long, value_parser = parse_positive, default_value = "60s", value_name = "DURATION")]
    pub(crate) wait: Duration,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Where the connection ends [default: the server's default target]
    #[arg(value_name = "HOST:PORT")]
    pub(crate) target: Option<Target>,
    /// End when the server was not reached for the first time by then
    #[arg(long, value_parser = parse_positive, default_value = "10s", value_name = "DURATION")]
    pub(crate) connect_timeout: Duration,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        return Err("it must be longer than zero".to_owned());
    }
    Ok(duration)
}

/// A name that Linux would give an interface.
fn parse_interface(text: &str) -> Result<String, String> {
    let is_name = (1..=15).contains(&text.len())
        && !text.contains(|c: char| c.is_whitespace() || c == '/' || c == ':');
    if is_name { Ok(text.to_owned()) } else { Err("an interface is named like wlan0".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_first_program() {
        let cli = Cli::try_parse_from(["etcp", "sproxy"]).unwrap();
        let Command::Sproxy(args) = cli.command else { panic!("not sproxy") };
        assert_eq!(args.listen.to_string(), "[::]:6200");
        assert_eq!(args.target.to_string(), "127.0.0.1:23");
        assert_eq!(args.tunnel.heartbeat, Duration::from_secs(1));
        assert_eq!(args.tunnel.dead_after, Duration::from_secs(3));
    }
}
