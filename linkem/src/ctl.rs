//! `linkem ctl`: one request to a running link.

use std::io::{BufRead, BufReader, Write, stdout};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::CtlArgs;

/// A time longer than any request takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a request and prints the answer; an answer with an error is a failure.
pub(crate) fn run(args: &CtlArgs) -> Result<ExitCode, String> {
    let path = args.path.display();
    let answer = ask(args).map_err(|error| format!("cannot ask linkem at {path}: {error}"))?;
    if answer.is_empty() {
        return Err(format!("linkem at {path} ended without an answer"));
    }
    stdout().write_all(answer.as_bytes()).map_err(|error| error.to_string())?;
    let failed = answer.starts_with("error:");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn ask(args: &CtlArgs) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(&args.path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // One request, however the shell has split it.
    let request = args.request.join(" ").replace(['\n', '\r'], " ");
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}
