//! `etcp completions`: completion scripts, generated from the definition of the command line.
//!
//! For bash, zsh and fish the scripts also complete what changes from machine to machine: hosts,
//! session ids and control sockets. They ask etcp itself for these ([`values()`]).

mod shells;
mod values;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::ExitError;
use crate::{print, stdio};
pub(crate) use values::values;

/// Prints the completion script of a shell.
pub(crate) fn completions(args: CompletionsArgs) -> Result<(), ExitError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "etcp", &mut script);
    let script = match args.shell {
        Shell::Bash => shells::bash(script),
        Shell::Zsh => shells::zsh(script),
        Shell::Fish => shells::fish(script),
        _ => script,
    };
    print::is_read(stdio::write_stdout(&script)).map(drop)
}
