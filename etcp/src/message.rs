//! The messages on stderr, and the exit codes that go with them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;

use clap::CommandFactory;
use clap::error::ErrorKind;
use eternaltcp::clean;

use crate::cli::{Cli, position_of_command};
use crate::exit::ExitError;
use crate::{logging, passphrase, print, stdio};

/// The longest line on stderr, in characters; it may quote an argument of any length.
const MAX_SAID: usize = 4000;

/// Prints the reason of a failure on stderr in one line, and returns the exit code.
pub(crate) fn report(error: ExitError) -> u8 {
    let (text, code) = match error {
        ExitError::Failed(text) => (text, 1),
        ExitError::Usage(text) => (text, 2),
        ExitError::Refused(text) => (text, 3),
        ExitError::NotStarted(text, code) => (text, code),
        ExitError::Ended(code) => {
            logging::finish();
            return code;
        }
    };
    complain(&text);
    code
}

/// Restores the terminal's echo, reports an error, and waits until the log is written. Returns the
/// exit code.
pub(crate) fn finish(result: Result<(), ExitError>) -> u8 {
    passphrase::restore();
    match result {
        Ok(()) => {
            logging::finish();
            0
        }
        Err(error) => report(error),
    }
}

/// Reports the result of the command line parser. Help and version go to stdout, the help for a
/// missing command goes to stderr, and an error becomes one line.
pub(crate) fn usage(error: &clap::Error, args: &[OsString]) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = styled(error, stdio::has_colours(rustix::stdio::stdout()));
            print::all(&text).map_or_else(report, |_| 0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            logging::say(&styled(error, stdio::has_colours(rustix::stdio::stderr())));
            2
        }
        ErrorKind::InvalidUtf8 => {
            let wrong = args.iter().skip(1).find(|arg| arg.to_str().is_none());
            let wrong = wrong.map(|arg| arg.to_string_lossy()).unwrap_or_default();
            report_usage(&format!("the argument '{wrong}' is not valid UTF-8"), args)
        }
        kind => {
            let mut line = in_one_line(&error.to_string());
            if kind == ErrorKind::InvalidSubcommand && !line.contains("; tip: ") {
                line = format!("{line}; {}", commands_of(args));
            }
            report_usage(&line, args)
        }
    }
}

/// Returns the parser's text, with colours for a terminal.
fn styled(error: &clap::Error, has_colours: bool) -> String {
    let text = error.render();
    if has_colours { text.ansi().to_string() } else { text.to_string() }
}

/// Reports the faults of configuration files, each on a line of its own, as wrong usage.
pub(crate) fn faults(faults: &[impl fmt::Display]) -> u8 {
    faults.iter().for_each(|fault| complain(&fault.to_string()));
    2
}

fn report_usage(text: &str, args: &[OsString]) -> u8 {
    report(ExitError::Usage(format!("{text} (see {})", help_of(args))))
}

/// Joins the lines of a parser's error, without its usage.
pub(crate) fn in_one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let is_error = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more info");
    let lines = text.lines().map(str::trim).take_while(is_error);
    // "There is no such flag" is more useful than "use -- to pass it as a value".
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("tip: to pass"));
    let mut all = String::new();
    for line in lines {
        let separator = if line.starts_with("tip: ") { "; " } else { " " };
        all.push_str(if all.is_empty() { "" } else { separator });
        all.push_str(line);
    }
    all
}

/// Lists the subcommands of the command that the arguments name.
fn commands_of(args: &[OsString]) -> String {
    let cli = Cli::command();
    let (path, command) = meant(&cli, args);
    let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
    format!("{path} has: {}", names.join(", "))
}

/// Returns the command line that shows the help of the command that the arguments name.
fn help_of(args: &[OsString]) -> String {
    format!("{} --help", meant(&Cli::command(), args).0)
}

/// Returns the command that the arguments name, as far as it exists, and its full name.
fn meant<'a>(cli: &'a clap::Command, args: &[OsString]) -> (String, &'a clap::Command) {
    let (mut path, mut command) = ("etcp".to_owned(), cli);
    for arg in args.iter().skip(position_of_command(args).unwrap_or(args.len())) {
        let Some(found) = arg.to_str().and_then(|arg| command.find_subcommand(arg)) else { break };
        path = format!("{path} {}", found.get_name());
        command = found;
    }
    (path, command)
}

/// Prints a message that is not a failure, in one line on stderr.
pub(crate) fn tell(text: &str) {
    complain(text);
}

/// Prints a message about a failure, in one line on stderr.
pub(crate) fn complain(text: &str) {
    // Part of the text may come from the peer: it stays one line and cannot control the terminal.
    logging::say_message(&plain(text));
}

/// Prints a message as [`complain`] does, without waiting until it is written: sessions wait for
/// this process.
#[cfg(target_os = "linux")]
pub(crate) fn mention(text: &str) {
    logging::show_message(&plain(text));
}

/// Returns the text as it is shown: in one line.
pub(crate) fn plain(text: &str) -> String {
    shortened(&without_numbers(&clean(text))).into_owned()
}

/// Returns the text without the error numbers that the standard library appends to errors of the
/// system. The words say the same as the number.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                all.push_str(rest);
            }
            _ => {
                all.push_str(" (os error ");
                all.push_str(part);
            }
        }
    }
    all
}

/// Shortens a text that is too long for a line by cutting out its middle.
fn shortened(text: &str) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= MAX_SAID {
        return Cow::Borrowed(text);
    }
    let start: String = text.chars().take(MAX_SAID / 2).collect();
    let end: String = text.chars().skip(count - MAX_SAID / 2).collect();
    Cow::Owned(format!("{start} … {end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_left_out() {
        for (text, expected) in [
            ("a: Permission denied (os error 13)", "a: Permission denied"),
            ("a (os error 2); b (os error 3): c", "a; b: c"),
            ("a (os error x) b", "a (os error x) b"),
            ("a (os error 2", "a (os error 2"),
        ] {
            assert_eq!(without_numbers(text), expected);
        }
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("short"), "short");
        let long = format!("a{}z", "ü".repeat(MAX_SAID));
        let short = shortened(&long);
        assert!(short.starts_with('a') && short.ends_with('z') && short.contains(" … "));
        assert_eq!(short.chars().count(), MAX_SAID + 3);
    }

    #[test]
    fn the_help_is_that_of_the_command_that_was_meant() {
        let help = |line: &str| help_of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(help("etcp -v cproxy --wrong"), "etcp cproxy --help");
        assert_eq!(help("etcp sessions kill --wrong"), "etcp sessions kill --help");
        assert_eq!(help("etcp sessions"), "etcp sessions --help");
        assert_eq!(help("etcp connect status"), "etcp connect --help");
        assert_eq!(help("etcp unknown"), "etcp --help");
        assert_eq!(help("etcp"), "etcp --help");
    }

    #[test]
    fn a_parsers_error_becomes_one_line() {
        let text = "error: unexpected argument '--foo' found\n\n  tip: a similar argument exists: \
                    '--for'\n  tip: to pass '--foo' as a value, use '-- --foo'\n\nUsage: etcp\n\n\
                    For more information, try '--help'.\n";
        let line = "unexpected argument '--foo' found; tip: a similar argument exists: '--for'";
        assert_eq!(in_one_line(text), line);
        let text = "error: required:\n  --server <HOST>\n  <FILE>\n\nUsage: etcp\n";
        assert_eq!(in_one_line(text), "required: --server <HOST> <FILE>");
    }
}
