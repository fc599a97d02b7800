//! The command line: its flags and commands, and their help.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

mod audit;
mod check;
mod common;
mod connect;
mod control;
mod cproxy;
mod demo;
mod doctor;
mod examples;
mod fleet;
mod group;
mod group_limits;
mod install;
mod internal;
mod keygen;
mod limits;
mod run;
mod server;
mod size;
mod sproxy;
mod ssh;

use std::ffi::OsString;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::version;
pub(crate) use audit::AuditPlace;
pub(crate) use check::CheckArgs;
pub(crate) use common::{CHECK_FLAG, CONFIG_FLAG, NO_HOLDER, QuietInterval, TunnelArgs};
pub(crate) use connect::ConnectArgs;
#[cfg(test)]
pub(crate) use control::StateArg;
pub(crate) use control::{
    AccessArgs, ControlSocketArg, DrainArgs, OperatorArgs, PageArgs, ReconnectArgs, ReloadArgs,
    SessionArg, SessionsArgs, SessionsCommand, StatusArgs, StatusFilterArgs, TunnelsArgs,
    TunnelsCommand, UpgradeArgs,
};
pub(crate) use cproxy::{CproxyArgs, NamedServer};
pub(crate) use demo::DemoArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use group::{
    GROUP_FLAG, GroupLine, GroupSetting, check_group_name, group_key, group_line, is_group_key,
    settings_of_groups,
};
pub(crate) use group_limits::{GROUP_KEYS, is_limit};
pub(crate) use install::{CompletionsArgs, ManArgs};
pub(crate) use internal::{Internal, InternalCli, ValuesArgs, ValuesKind, is_internal};
pub(crate) use keygen::KeygenArgs;
pub(crate) use run::{CommandArgs, RunArgs};
pub(crate) use server::ServerArgs;
pub(crate) use sproxy::{SproxyArgs, YesNo};
pub(crate) use ssh::{OneUserArgs, SshArgs, SshCarryArgs, separate};

/// Keep TCP connections alive while the network changes.
///
/// Run `etcp sproxy` beside the server program and `etcp cproxy` on your own
/// machine, and connect the application to cproxy. When the connection between
/// the two dies (another network, a new address, sleep), they reconnect and
/// continue at the exact byte. The application notices only a pause.
#[derive(Debug, Parser)]
#[command(
    name = "etcp",
    version = version::short(),
    long_version = version::long(),
    max_term_width = 100,
    after_help = examples::ETCP
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// The level and the format of the log.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Log more; -vv logs every packet. RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Logging")]
    pub(crate) verbose: u8,
    /// Format of the log on stderr
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = LogFormat::Text,
        value_name = "FORM",
        help_heading = "Logging"
    )]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run beside the server program: accept clients and connect them to targets
    #[command(after_long_help = examples::SPROXY)]
    Sproxy(SproxyArgs),
    /// Run beside the application: accept its connections and forward them
    #[command(after_long_help = examples::CPROXY)]
    Cproxy(CproxyArgs),
    /// Check a configuration file of sproxy or cproxy
    #[command(after_long_help = examples::CHECK)]
    Check(CheckArgs),
    /// Forward stdin and stdout as one connection, for ssh's ProxyCommand
    #[command(after_long_help = examples::CONNECT)]
    Connect(ConnectArgs),
    /// Create a key pair, if there is no ssh-keygen
    #[command(after_long_help = examples::KEYGEN)]
    Keygen(KeygenArgs),
    /// Run a command with all its TCP connections and name look-ups forwarded
    #[command(after_long_help = examples::RUN)]
    Run(RunArgs),
    /// Show the running proxies with their tunnels and sessions
    #[command(after_long_help = examples::STATUS)]
    Status(StatusArgs),
    /// Open the live page of a running proxy in a browser
    #[command(after_long_help = examples::PAGE)]
    Page(PageArgs),
    /// Reset sessions of a running proxy
    #[command(after_long_help = examples::SESSIONS)]
    Sessions(SessionsArgs),
    /// End tunnels of a running sproxy
    #[command(after_long_help = examples::TUNNELS)]
    Tunnels(TunnelsArgs),
    /// Make a running cproxy reconnect now
    #[command(after_long_help = examples::RECONNECT)]
    Reconnect(ReconnectArgs),
    /// Make a running proxy read its configuration file and keys again
    #[command(after_long_help = examples::RELOAD)]
    Reload(ReloadArgs),
    /// Make a running proxy accept no new sessions and exit after the last one
    #[command(after_long_help = examples::DRAIN)]
    Drain(DrainArgs),
    /// Replace the program of a running proxy with another version; its sessions continue
    #[command(after_long_help = examples::UPGRADE)]
    Upgrade(UpgradeArgs),
    /// Run ssh through a tunnel, to a server on which no sproxy runs
    #[command(after_long_help = examples::SSH)]
    Ssh(SshArgs),
    /// Find out why a server cannot be reached, or how good the path to it is
    #[command(
        after_long_help = examples::DOCTOR,
        mut_arg("server", |arg| arg.required(false))
    )]
    Doctor(DoctorArgs),
    /// Demonstrate it on this machine: a checked stream whose carriers die
    #[command(after_long_help = examples::DEMO, mut_arg("server", |arg| arg.required(false)))]
    Demo(DemoArgs),
    /// Print a completion script for a shell
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(after_long_help = examples::MAN)]
    Man(ManArgs),
}

/// Returns the value of `--proxy`.
pub(crate) fn proxy_of(cli: &Cli) -> Option<&str> {
    let proxy = match &cli.command {
        CliCommand::Cproxy(args) => &args.server.proxy,
        CliCommand::Connect(args) => &args.server.proxy,
        CliCommand::Run(args) => &args.server.proxy,
        CliCommand::Demo(args) => &args.server.proxy,
        CliCommand::Doctor(args) => &args.server.proxy,
        CliCommand::Ssh(args) => &args.proxy,
        _ => return None,
    };
    proxy.as_deref()
}

/// Returns the position of the command's name: the first argument that is neither an option nor
/// the value of one.
pub(crate) fn position_of_command(args: &[OsString]) -> Option<usize> {
    let mut is_value = false;
    for (at, arg) in args.iter().enumerate().skip(1) {
        match arg.to_str() {
            _ if is_value => is_value = false,
            Some("--log-format") => is_value = true,
            Some(arg) if arg.starts_with('-') => {}
            _ => return Some(at),
        }
    }
    None
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
        let CliCommand::Sproxy(args) = cli.command else { panic!("not sproxy") };
        assert_eq!(args.listen.to_string(), "[::]:6200");
        assert_eq!(args.target.to_string(), "127.0.0.1:23");
        assert_eq!(args.tunnel.heartbeat, Duration::from_secs(1));
        assert_eq!(args.tunnel.dead_after, Duration::from_secs(3));
    }
}
