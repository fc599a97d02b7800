//! The command line of `etcp ssh`, and of the commands that it starts.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory};

use super::common::{TunnelArgs, parse_positive};
use super::control::AccessArgs;
use super::{Cli, position_of_command};
use crate::talk::PortChoice;

#[derive(Debug, Args)]
#[command(override_usage = "etcp ssh [OPTIONS] [SSH ARGUMENTS] HOST [COMMAND]")]
pub(crate) struct SshArgs {
    /// Use this etcp at HOST; a relative path starts in the home folder there
    /// [default: etcp in PATH, else the copied one]
    #[arg(long, value_name = "PATH", conflicts_with = "copy", help_heading = "Server")]
    pub(crate) remote_etcp: Option<String>,
    /// Copy this etcp to ~/.cache/eternaltcp at HOST, unless it is there
    #[arg(long, help_heading = "Server")]
    pub(crate) copy: bool,
    /// Listen at HOST on a port of this range, which its firewall passes [default: any free port]
    #[arg(long, value_name = "PORT[-PORT]", help_heading = "Server")]
    pub(crate) remote_port: Option<PortChoice>,
    /// Send everything through ssh itself: each connection is an ssh process that logs in without
    /// prompts
    #[arg(long, conflicts_with = "remote_port", help_heading = "Connection")]
    pub(crate) via_ssh: bool,
    /// Fail if only the port of ssh can be reached
    #[arg(long, conflicts_with = "via_ssh", help_heading = "Connection")]
    pub(crate) no_via_ssh: bool,
    /// Connect through this proxy: http://[USER:PASSWORD@]HOST:PORT, socks5h://, socks5:// or
    /// socks4a://; 'none' for none
    /// [default: $https_proxy]
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub(crate) proxy: Option<String>,
    /// Time for which HOST keeps the connection of an absent client
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "7d",
        value_name = "DURATION",
        help_heading = "Server"
    )]
    pub(crate) keep_detached: Duration,
    /// Exit when HOST could not be reached for this long [default: never]
    #[arg(
        long,
        value_parser = parse_positive,
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) give_up_after: Option<Duration>,
    #[command(flatten)]
    pub(crate) tunnel: TunnelArgs,
    /// Leave the terminal's title as it is. By default it says so when HOST was not heard for two
    /// seconds
    #[arg(long, help_heading = "Connection")]
    pub(crate) no_title: bool,
    #[command(flatten)]
    pub(crate) operator: AccessArgs,
    /// The arguments of ssh: its options, HOST, and a command
    #[arg(value_name = "HOST", required = true, last = true)]
    pub(crate) ssh: Vec<OsString>,
}

/// The command that ssh runs as its `ProxyCommand`.
#[derive(Debug, Args)]
pub(crate) struct SshCarryArgs {
    /// The folder with the files that `etcp ssh` prepared
    pub(crate) folder: PathBuf,
}

/// The command that `etcp ssh` runs at the server.
#[derive(Debug, Args)]
pub(crate) struct OneUserArgs {
    /// Run the sproxy itself
    #[arg(long)]
    pub(crate) serve: bool,
}

/// Separates etcp's options from ssh's arguments, such as `-v`: inserts `--` before the first
/// argument of `etcp ssh` that does not belong to etcp. Only long options belong to etcp.
pub(crate) fn separate(mut args: Vec<OsString>) -> Vec<OsString> {
    let command = position_of_command(&args).filter(|at| args[*at] == "ssh");
    let Some(mut at) = command.map(|at| at + 1) else { return args };
    let cli = Cli::command();
    let takes_value = |name: &str| {
        let of_ssh = cli.find_subcommand("ssh").into_iter().flat_map(clap::Command::get_arguments);
        of_ssh
            .chain(cli.get_arguments())
            .any(|arg| arg.get_long() == Some(name) && arg.get_action().takes_values())
    };
    while let Some(arg) = args.get(at).and_then(|arg| arg.to_str()) {
        match arg.strip_prefix("--") {
            Some("") => return args,
            Some(name) => at += if takes_value(name) { 2 } else { 1 },
            None if arg == "-h" => at += 1,
            None => break,
        }
    }
    if at < args.len() {
        args.insert(at, "--".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separated(line: &str) -> String {
        let args = line.split(' ').map(OsString::from).collect();
        let args: Vec<_> =
            separate(args).into_iter().map(|arg| arg.into_string().unwrap()).collect();
        args.join(" ")
    }

    #[test]
    fn the_arguments_of_ssh_begin_at_the_first_that_is_not_a_long_option() {
        for (line, expected) in [
            ("etcp ssh host", "etcp ssh -- host"),
            ("etcp ssh -v host", "etcp ssh -- -v host"),
            ("etcp -v ssh -v host --copy", "etcp -v ssh -- -v host --copy"),
            ("etcp ssh --copy -p 22 host", "etcp ssh --copy -- -p 22 host"),
            ("etcp ssh --remote-etcp x -p 22 host", "etcp ssh --remote-etcp x -- -p 22 host"),
            ("etcp ssh --remote-etcp=x host", "etcp ssh --remote-etcp=x -- host"),
            ("etcp ssh --log-format json host", "etcp ssh --log-format json -- host"),
            ("etcp --log-format ssh ssh a", "etcp --log-format ssh ssh -- a"),
            ("etcp ssh --copy -- -v host", "etcp ssh --copy -- -v host"),
            ("etcp ssh --help", "etcp ssh --help"),
            ("etcp ssh -h", "etcp ssh -h"),
            ("etcp ssh --remote-etcp", "etcp ssh --remote-etcp"),
            ("etcp cproxy --name ssh -v", "etcp cproxy --name ssh -v"),
            ("etcp", "etcp"),
        ] {
            assert_eq!(separated(line), expected);
        }
    }
}
