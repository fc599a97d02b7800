//! The command lines of `etcp status`, `sessions`, `reconnect` and `drain`, and
//! what the proxies take to be controlled by them.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::common::parse_positive;

/// How a proxy is looked at and told what to do while it runs.
#[derive(Debug, Default, Args)]
pub(crate) struct OperatorArgs {
    /// The Unix socket for etcp status and the like; none: there is none
    /// [default: in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR/eternaltcp, else in the state folder]
    #[arg(long, value_name = "PATH", help_heading = "Control")]
    pub(crate) control: Option<ControlSocketArg>,
    /// Run this by sh when the connection is lost and when it is back, with ETCP_EVENT and more in
    /// its environment
    #[arg(long, value_name = "COMMAND", help_heading = "Control")]
    pub(crate) on_event: Option<String>,
}

/// Where a proxy's control socket is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ControlSocketArg {
    /// Nowhere.
    None,
    /// There.
    At(PathBuf),
}

impl FromStr for ControlSocketArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "none" { Self::None } else { Self::At(text.into()) })
    }
}

/// Which proxy is meant.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// The control socket of the proxy that is meant [default: that of every proxy of this user]
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Print JSON, on one line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print it again each second
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// List every session, also where a tunnel has more than 20
    #[arg(short, long)]
    pub(crate) all: bool,
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
        /// The session's number in etcp status; with its tunnel where there are several
        #[arg(value_name = "[TUNNEL/]ID")]
        session: SessionArg,
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// A session, as it is named on the command line: `5` or `33d69d2a/5`.
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
            _ => Err("a session is named like 5 or 33d69d2a/5: see etcp status".to_owned()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ReconnectArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// End after this long, also if sessions are left [default: never]
    #[arg(long, value_parser = parse_positive, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
    /// End now: as SIGTERM
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) now: bool,
    /// Wait until it has ended
    #[arg(short, long)]
    pub(crate) wait: bool,
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
