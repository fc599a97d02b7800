//! The command line: what a user may type, and the help about it.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

mod common;
mod connect;
mod control;
mod cproxy;
mod install;
mod keygen;
mod limits;
mod run;
mod server;
mod sproxy;
mod ssh;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(crate) use common::TunnelArgs;
pub(crate) use connect::ConnectArgs;
pub(crate) use control::{
    ControlSocketArg, DrainArgs, OperatorArgs, ReconnectArgs, SessionArg, SessionsArgs,
    SessionsCommand, StatusArgs,
};
pub(crate) use cproxy::CproxyArgs;
pub(crate) use install::{CompletionsArgs, ManArgs};
pub(crate) use keygen::KeygenArgs;
pub(crate) use run::{CommandArgs, RunArgs};
pub(crate) use server::ServerArgs;
pub(crate) use sproxy::SproxyArgs;
pub(crate) use ssh::{OneUserArgs, SshArgs, SshCarryArgs, separate};

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
  etcp ssh example.org                              where etcp is installed, and nothing set up
  ssh -o ProxyCommand='etcp connect --server %h localhost:22' example.org
  etcp run --server example.org curl -O https://example.com/large.iso

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run beside the server program: let clients in and connect them to targets
    Sproxy(SproxyArgs),
    /// Run beside the application: listen for it and carry its connections
    Cproxy(CproxyArgs),
    /// Carry stdin and stdout as one connection: for ssh's ProxyCommand
    Connect(ConnectArgs),
    /// Make a key pair, where there is no ssh-keygen
    Keygen(KeygenArgs),
    /// Run a command, with all its TCP connections and look-ups of names carried
    Run(RunArgs),
    /// A part of run
    #[command(hide = true)]
    RunInside(CommandArgs),
    /// Show the proxies that run here: their tunnels, connections and sessions
    Status(StatusArgs),
    /// End sessions of a running proxy
    Sessions(SessionsArgs),
    /// Have a running cproxy connect again now
    Reconnect(ReconnectArgs),
    /// Have a running proxy take no new sessions, and end with the last one
    Drain(DrainArgs),
    /// Run ssh through a tunnel, to a server where no sproxy runs
    Ssh(SshArgs),
    /// What ssh runs for `etcp ssh`
    #[command(hide = true)]
    SshCarry(SshCarryArgs),
    /// What `etcp ssh` runs at the server
    #[command(hide = true)]
    OneUser(OneUserArgs),
    /// See it work, on this machine alone: a checked stream whose carriers die
    Demo,
    /// Print a shell's completions of etcp's commands
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

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
