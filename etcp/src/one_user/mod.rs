//! The part of `etcp ssh` at the server: an sproxy for one user and one tunnel, and the wire of a
//! carrier that goes through ssh.

mod relay;
mod serve;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use eternaltcp::process::as_started;

use crate::cli::OneUserArgs;
use crate::exit::Failure;
use crate::stdio;
use crate::talk::{MOST_LINE, Message, TalkError};

pub(crate) fn run(args: OneUserArgs) -> Result<(), Failure> {
    // Bytes of a carrier follow the request. The request must not consume any of them, as a
    // buffered reader would.
    let wish = hear(&mut stdio::Stdin)?;
    match (wish.verb(), args.serve) {
        ("serve", true) => serve::run(&wish),
        ("serve", false) => say_start(&wish),
        ("carry", _) => relay::run(&wish),
        (verb, _) => Err(Failure::Failed(format!("etcp here is older or newer: {verb:?}"))),
    }
}

/// Starts the sproxy in its own process, which outlives the login, and passes on its answer.
fn say_start(wish: &Message) -> Result<(), Failure> {
    let answer = start(wish)
        .unwrap_or_else(|error| format!("{}\n", Message::new("error").with("text", error)));
    // Earlier output may not have ended its line.
    stdio::write_stdout(format!("\n{answer}").as_bytes()).map_err(Failure::failed)
}

fn start(wish: &Message) -> io::Result<String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("etcp").args(["one-user", "--serve"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = as_started(&mut command).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{wish}")?;
    }
    let mut answer = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(MOST_LINE as u64).read_to_string(&mut answer)?;
    }
    if answer.is_empty() { Err(io::Error::other("it ended at once")) } else { Ok(answer) }
}

/// Reads the request from a pipe, one byte at a time.
fn hear(input: &mut impl Read) -> Result<Message, Failure> {
    let mut line = String::new();
    BufReader::with_capacity(1, input)
        .take(MOST_LINE as u64)
        .read_line(&mut line)
        .map_err(Failure::failed)?;
    match Message::parse(&line) {
        Ok(Some(wish)) => Ok(wish),
        Ok(None) => Err(Failure::Usage("this is only for etcp ssh".to_owned())),
        Err(error @ TalkError::Version(_)) => Err(Failure::Failed(format!("the client: {error}"))),
        Err(error) => Err(Failure::failed(error)),
    }
}
