//! The command lines of `etcp status`, `page`, `sessions`, `reconnect`, `reload`, `drain` and `upgrade`, and the flags of the
//! proxies for them.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use eternaltcp::address::Listen;
use eternaltcp::status::TunnelCondition;

use super::common::{at_home, parse_path, parse_positive};

/// Flags for inspecting and controlling a proxy while it runs.
#[derive(Debug, Default, Args)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// Serve metrics for Prometheus and a live page at this address, over HTTP: a port of localhost,
    /// address:port, or unix:/path
    #[arg(
        long,
        value_parser = Listen::from_bind_spec,
        value_name = "ADDR",
        help_heading = "Control"
    )]
    pub(crate) metrics: Option<Listen>,
}

/// Flags for inspecting and controlling a program with a tunnel while it runs.
#[derive(Debug, Default, Args)]
pub(crate) struct AccessArgs {
    /// The control socket for etcp status and similar commands; none for no socket
    /// [default: in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR/eternaltcp, else in the state folder]
    #[arg(long, value_name = "PATH", help_heading = "Control")]
    pub(crate) control: Option<ControlSocketArg>,
    /// Run this command with sh when the connection is lost and when it is back. ETCP_EVENT and
    /// other variables describe the event
    #[arg(long, value_name = "COMMAND", help_heading = "Control")]
    pub(crate) on_event: Option<String>,
}

/// The place of a proxy's control socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ControlSocketArg {
    /// No socket.
    None,
    /// A socket at this path.
    At(PathBuf),
}

impl FromStr for ControlSocketArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("expected a path, or none"),
            "none" => Ok(Self::None),
            path => Ok(Self::At(at_home(path.into()))),
        }
    }
}

/// The proxy that a command concerns.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// The control socket of the proxy
    /// [default: that of every proxy of this user, and those in /run/eternaltcp]
    #[arg(long, value_parser = parse_path(), value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Print JSON, on one line
    #[arg(long)]
    pub(crate) json: bool,
    /// Refresh each second, with bytes per second; q ends it
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// List every session, even if a tunnel has more than 20
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: StatusFilterArgs,
}

/// The tunnels and sessions to show.
#[derive(Debug, Default, Args)]
pub(crate) struct StatusFilterArgs {
    /// Show only tunnels of clients whose key, by its name or fingerprint, or whose own name has this
    /// text
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    pub(crate) key: Option<String>,
    /// Show only sessions whose target has this text, and their tunnels
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    pub(crate) target: Option<String>,
    /// Show only tunnels in this state
    #[arg(long, value_enum, value_name = "STATE", help_heading = "Filters")]
    pub(crate) state: Option<StateArg>,
    /// Show only tunnels to servers whose address has this text; for etcp ssh, its HOST
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    pub(crate) server: Option<String>,
}

impl StatusFilterArgs {
    pub(crate) fn is_set(&self) -> bool {
        let texts = [&self.key, &self.target, &self.server];
        self.state.is_some() || texts.iter().any(|text| text.is_some())
    }
}

/// The state of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum StateArg {
    /// It has a carrier
    Attached,
    /// It has a carrier, and another one is tried
    Doubted,
    /// It waits for the server's answer
    Attaching,
    /// It has no carrier
    Detached,
    /// It is being closed
    Closing,
}

impl StateArg {
    pub(crate) fn is(self, state: TunnelCondition) -> bool {
        let own = match self {
            Self::Attached => TunnelCondition::Attached,
            Self::Doubted => TunnelCondition::Doubted,
            Self::Attaching => TunnelCondition::Attaching,
            Self::Detached => TunnelCondition::Detached,
            Self::Closing => TunnelCondition::Closing,
        };
        own == state
    }
}

#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// The proxy: its role, its process id, or both, as in etcp status; or the path of its control
    /// socket [default: the only proxy with a page]
    #[arg(value_name = "NAME|PATH")]
    pub(crate) proxy: Option<String>,
    /// Only print the address of the page
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    pub(crate) command: SessionsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Reset a session on both sides
    Kill {
        /// The session's number in etcp status, with its tunnel if there are several
        #[arg(value_name = "[TUNNEL/]ID")]
        session: SessionArg,
        /// The server whose tunnel has it, if a cproxy has several: its name in the configuration file
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
        #[command(flatten)]
        which: WhichArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TunnelsArgs {
    #[command(subcommand)]
    pub(crate) command: TunnelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TunnelsCommand {
    /// End a tunnel of an sproxy, or all tunnels of a person, and reset their sessions on both sides.
    /// Their clients may make new ones
    Kill {
        /// The tunnel's name in etcp status
        #[arg(value_name = "TUNNEL", required_unless_present = "key")]
        tunnel: Option<String>,
        /// End all tunnels of this key: its fingerprint, or its whole name in etcp status
        #[arg(long, value_name = "KEY", conflicts_with = "tunnel")]
        key: Option<String>,
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// A session as the command line names it: `5` or `33d69d2a/5`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SessionArg {
    pub(crate) tunnel: Option<String>,
    pub(crate) session: u32,
}

impl FromStr for SessionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tunnel, session) = match text.split_once('/') {
            Some((tunnel, session)) => (Some(tunnel), session),
            None => (None, text),
        };
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit());
        match session.parse() {
            Ok(session) if tunnel.is_none_or(is_name) => {
                Ok(Self { tunnel: tunnel.map(str::to_owned), session })
            }
            _ => Err("expected a session such as 5 or 33d69d2a/5: see etcp status".to_owned()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ReconnectArgs {
    /// Reconnect only to this server of several: its name in the configuration file
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) which: WhichArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Exit after this time, even if sessions are left [default: never]
    #[arg(long, value_parser = parse_positive, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
    /// Of an sproxy: ask its clients to move to another server, and take their sessions until they do
    #[arg(long = "move")]
    pub(crate) moves: bool,
    /// Exit now, as SIGTERM does
    #[arg(long, conflicts_with_all = ["timeout", "moves"])]
    pub(crate) now: bool,
    /// Wait until the proxy has exited
    #[arg(short, long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// The new program [default: the file that was started, as it is now]
    #[arg(long, value_parser = parse_path(), value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
    /// Only check whether the new program could take over
    #[arg(long)]
    pub(crate) check: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_a_number_and_perhaps_a_tunnel() {
        let session = |text: &str| text.parse::<SessionArg>();
        assert_eq!(session("5"), Ok(SessionArg { tunnel: None, session: 5 }));
        let named = SessionArg { tunnel: Some("33d69d2a".to_owned()), session: 7 };
        assert_eq!(session("33d69d2a/7"), Ok(named));
        for wrong in ["", "/", "x", "5/", "/5", "zz/5", "33d69d2a/-1", "4294967296", "1/2/3"] {
            assert!(session(wrong).is_err(), "{wrong}");
        }
    }
}
