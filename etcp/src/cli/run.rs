//! The command line of `etcp run`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::common::{FirstContactArgs, parse_positive};
use super::control::AccessArgs;
use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) first_contact: FirstContactArgs,
    /// Time for open connections to end after the command has exited
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "10s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) linger: Duration,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) operator: AccessArgs,
    #[command(flatten)]
    pub(crate) command: CommandArgs,
}

/// The command to run.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// The command, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) words: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn words(line: &str) -> Result<Vec<OsString>, String> {
        let cli = crate::cli::Cli::try_parse_from(line.split(' '));
        match cli.map_err(|error| error.to_string())?.command {
            crate::cli::CliCommand::Run(args) => Ok(args.command.words),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn arguments_after_the_command_belong_to_it() {
        for (line, expected) in [
            ("etcp run -s a curl -O --server b url", "curl -O --server b url"),
            ("etcp run -s a -- --odd -v", "--odd -v"),
            ("etcp run -s a ls -- -v", "ls -- -v"),
        ] {
            let words: Vec<_> = words(line).unwrap();
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            assert_eq!(words.join(" "), expected);
        }
    }

    #[test]
    fn an_unknown_option_is_not_taken_for_the_command() {
        for line in ["etcp run --servr a ls", "etcp run -s a --wrong ls", "etcp run -s a -x ls"] {
            let error = words(line).unwrap_err();
            assert!(error.contains("unexpected argument"), "{line}: {error}");
        }
    }
}
