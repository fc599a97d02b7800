//! `etcp completions` and `etcp man`: what an installation puts beside the
//! program, made from the definition of its command line.

use std::fs;
use std::io::{self, ErrorKind, Write};

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
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

/// Writes a manual page for the program and for each command.
pub(crate) fn man(args: ManArgs) -> Result<(), Failure> {
    let folder = &args.folder;
    let written = fs::create_dir_all(folder).and_then(|()| {
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder)
    });
    written.map_err(|error| {
        Failure::Failed(format!("cannot write manual pages to {}: {error}", folder.display()))
    })
}
