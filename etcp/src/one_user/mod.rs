//! The part of `etcp ssh` at the server: an sproxy for one user and one tunnel, and the wire of a
//! carrier that goes through ssh.

mod copies;
mod relay;
mod serve;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use eternaltcp::process::as_started;

use crate::cli::OneUserArgs;
use crate::exit::ExitError;
use crate::stdio;
use crate::talk::{MAX_LINE, Message, TalkError};

pub(crate) fn run(args: OneUserArgs) -> Result<(), ExitError> {
    // Bytes of a carrier follow the request. The request must not consume any of them, as a
    // buffered reader would.
    let request = hear(&mut stdio::Stdin)?;
    match (request.verb(), args.serve) {
        ("serve", true) => serve::run(&request),
        ("serve", false) => say_start(&request),
        ("carry", _) => relay::run(&request),
        (verb, _) => Err(ExitError::Failed(format!("etcp here is older or newer: {verb:?}"))),
    }
}

/// Starts the sproxy in its own process, which outlives the login, and passes on its answer.
fn say_start(request: &Message) -> Result<(), ExitError> {
    let answer = start(request)
        .unwrap_or_else(|error| format!("{}\n", Message::new("error").with("text", error)));
    // Earlier output may not have ended its line.
    stdio::write_stdout(format!("\n{answer}").as_bytes()).map_err(ExitError::failed)
}

fn start(request: &Message) -> io::Result<String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("etcp").args(["one-user", "--serve"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = as_started(&mut command).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{request}")?;
    }
    let mut answer = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(MAX_LINE as u64).read_to_string(&mut answer)?;
    }
    if answer.is_empty() { Err(io::Error::other("it ended at once")) } else { Ok(answer) }
}

/// Reads the request from a pipe, one byte at a time.
fn hear(input: &mut impl Read) -> Result<Message, ExitError> {
    let mut line = String::new();
    BufReader::with_capacity(1, input)
        .take(MAX_LINE as u64)
        .read_line(&mut line)
        .map_err(ExitError::failed)?;
    match Message::parse(&line) {
        Ok(Some(request)) => Ok(request),
        Ok(None) => Err(ExitError::Usage("this is only for etcp ssh".to_owned())),
        Err(error @ TalkError::Version(_)) => {
            Err(ExitError::Failed(format!("the client: {error}")))
        }
        Err(error) => Err(ExitError::failed(error)),
    }
}
