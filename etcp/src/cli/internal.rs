//! Internal commands, which etcp and its completion scripts run.
//!
//! They have their own parser. A command that is not part of [`super::Cli`] appears in no help,
//! completion or error message.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{CommandArgs, LogArgs, OneUserArgs, SshCarryArgs, position_of_command};

/// The command line of an internal command.
#[derive(Debug, Parser)]
#[command(name = "etcp", disable_help_flag = true, disable_help_subcommand = true)]
pub(crate) struct InternalCli {
    #[command(subcommand)]
    pub(crate) command: Internal,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// The part of `etcp run` that becomes the program
    RunInside(CommandArgs),
    /// The command that ssh runs for `etcp ssh`
    SshCarry(SshCarryArgs),
    /// The command that `etcp ssh` runs at the server
    OneUser(OneUserArgs),
    /// The command that completion scripts run
    CompleteValues(ValuesArgs),
}

/// The values that a completion script asks for.
#[derive(Debug, Args)]
pub(crate) struct ValuesArgs {
    #[arg(value_enum)]
    pub(crate) kind: ValuesKind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ValuesKind {
    /// Hosts that ssh knows
    Hosts,
    /// Sessions of the proxies that run
    Sessions,
    /// Control sockets of the proxies that run
    Sockets,
    /// Tunnels of the servers that run
    Tunnels,
    /// Servers that have names: those of the cproxies that run, and of the user's configuration
    Servers,
    /// Keys of the tunnels of the servers that run
    Keys,
}

/// Returns whether the arguments are those of an [`InternalCli`].
pub(crate) fn is_internal(args: &[OsString]) -> bool {
    let command = position_of_command(args).and_then(|at| args[at].to_str());
    command.is_some_and(Internal::has_subcommand)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_internal_command_line_is_consistent() {
        InternalCli::command().debug_assert();
    }

    #[test]
    fn internal_commands_are_told_from_those_of_users() {
        let is_one =
            |line: &str| is_internal(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in ["etcp run-inside -- ls", "etcp -v --log-format json ssh-carry /x"] {
            assert!(is_one(line), "{line}");
        }
        for line in ["etcp", "etcp run run-inside", "etcp --log-format one-user", "etcp help"] {
            assert!(!is_one(line), "{line}");
        }
    }
}
