//! The helper: it enters its own namespaces, makes a network there, and becomes the program.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use eternaltcp::process::as_started;

use super::handover::{InnerSockets, give_sockets, take_stdin};
use super::{mounts, namespace, network};
use crate::cli::CommandArgs;
use crate::exit::ExitError;

/// The exit codes of env(1) for a program that does not exist, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// Runs the program on command. Its stdin is the connection to `etcp run`.
pub(crate) fn run(args: &CommandArgs) -> Result<(), ExitError> {
    let line = rustix::stdio::stdin().as_fd().try_clone_to_owned().map_err(ExitError::failed)?;
    let line = UnixStream::from(line);
    namespace::enter()?;
    let sockets = prepare().map_err(namespace::explain)?;
    namespace::give_up_privileges().map_err(ExitError::failed)?;
    give_sockets(&line, &sockets).map_err(|error| {
        ExitError::Failed(format!("this command is only for etcp run: {error}"))
    })?;
    drop(sockets);
    let Some(stdin) = take_stdin(&line).map_err(ExitError::failed)? else {
        // The process that would have given the command is gone, and has reported why.
        return Err(ExitError::Ended(1));
    };
    rustix::stdio::dup2_stdin(&stdin).map_err(ExitError::failed)?;
    drop((line, stdin));
    Err(become_program(args))
}

fn prepare() -> Result<InnerSockets, ExitError> {
    let sockets = network::make()?;
    mounts::lay_over()?;
    Ok(sockets)
}

/// Replaces this process. Returns only on failure.
fn become_program(args: &CommandArgs) -> ExitError {
    let (program, rest) = match args.words.split_first() {
        Some(words) => words,
        None => return ExitError::Usage("the command is missing".to_owned()),
    };
    let error = as_started(Command::new(program).args(rest)).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
    ExitError::NotStarted(format!("cannot run {}: {error}", program.display()), code)
}
