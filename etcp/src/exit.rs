//! Exit codes, and the one line on stderr that goes with them.

use std::fmt::Display;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use eternaltcp::clean;
use eternaltcp::client::ClientEnd;

use crate::cli::Cli;
use crate::logging;

/// Why the program ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not do what was asked: exit code 1.
    Failed(String),
    /// It was used wrongly: exit code 2.
    Usage(String),
    /// The peer refused the key or the target: exit code 3.
    Refused(String),
    /// The program that was to be run could not be started.
    NotStarted(String, u8),
    /// The program that was run ended with this exit code, which is this one's too.
    Ended(u8),
}

impl Failure {
    pub(crate) fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// Why, in one line.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Failed(text)
            | Self::Usage(text)
            | Self::Refused(text)
            | Self::NotStarted(text, _) => text,
            Self::Ended(_) => "the program ended",
        }
    }

    /// Says why on stderr, in one line.
    pub(crate) fn report(self) -> ExitCode {
        let (text, code) = match self {
            Self::Failed(text) => (text, 1),
            Self::Usage(text) => (text, 2),
            Self::Refused(text) => (text, 3),
            Self::NotStarted(text, code) => (text, code),
            Self::Ended(code) => {
                logging::finish();
                return ExitCode::from(code);
            }
        };
        complain(&text);
        ExitCode::from(code)
    }
}

/// How a client's end is told to the shell.
pub(crate) fn of_client(end: ClientEnd) -> Result<(), Failure> {
    match end {
        ClientEnd::Done => Ok(()),
        ClientEnd::Failed(text) => Err(Failure::Failed(text)),
        ClientEnd::Refused(text) => Err(Failure::Refused(text)),
    }
}

/// Reports what the command line parser found: help and version go to stdout,
/// and an error becomes one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe (`etcp --help | head`) is not worth a word.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let cli = Cli::command();
        let names: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
        let text = format!("a command is missing: {} (see etcp --help)", names.join(", "));
        return Failure::Usage(text).report();
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let line = words.join(" ");
    let line = line.trim_start_matches("error: ");
    let line = line.split(" For more information").next().unwrap_or(line);
    Failure::Usage(format!("{line} (see {})", help_of(std::env::args().skip(1)))).report()
}

/// The command that helps whoever gave these arguments.
fn help_of(args: impl IntoIterator<Item = String>) -> String {
    let cli = Cli::command();
    let command = args.into_iter().find(|arg| cli.find_subcommand(arg).is_some());
    command.map_or_else(|| "etcp --help".to_owned(), |name| format!("etcp {name} --help"))
}

/// Tells the user something that is no failure, in one line on stderr.
pub(crate) fn tell(text: &str) {
    complain(text);
}

pub(crate) fn complain(text: &str) {
    // Part of it may be the peer's words: they stay one line, and no terminal obeys them.
    logging::say(&format!("etcp: {}\n", clean(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_is_that_of_the_command_that_was_meant() {
        let help = |words: &[&str]| help_of(words.iter().map(ToString::to_string));
        assert_eq!(help(&["-v", "cproxy", "--wrong"]), "etcp cproxy --help");
        assert_eq!(help(&["unknown"]), "etcp --help");
    }
}
