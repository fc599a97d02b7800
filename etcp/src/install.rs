//! `etcp completions`: what shells complete, made from the definition of the command line.

use std::io::{self, ErrorKind, Write};

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Failure;

/// Prints a shell's completions.
pub(crate) fn completions(args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "etcp", &mut script);
    match io::stdout().write_all(&script) {
        // A closed pipe (`etcp completions bash | head`) is not worth a word.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::failed(error)),
        _ => Ok(()),
    }
}
