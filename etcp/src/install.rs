//! `etcp completions`: what shells complete, made from the definition of the command line.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Failure;
use crate::{print, stdio};

/// Prints a shell's completions.
pub(crate) fn completions(args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "etcp", &mut script);
    print::is_read(stdio::write_stdout(&script)).map(drop)
}
