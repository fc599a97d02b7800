//! Runs `ssh -G`, in bounded time and memory.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use eternaltcp::process::as_started;

use super::answers;

/// Time allowed for ssh: `Match exec` runs programs.
const LIMIT: Duration = Duration::from_secs(10);
/// The maximum amount of output that is read, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;

/// The output of ssh.
pub(super) struct SshOutput {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The reason why there is no answer.
#[derive(Debug)]
pub(crate) enum QueryError {
    /// There is no ssh on this machine.
    NoSsh,
    /// ssh exited with this code and reported why.
    Failed { code: Option<i32>, stderr: String },
    /// ssh could not be run, or gave no answer.
    Broken(String),
}

impl QueryError {
    /// Returns the reason in one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::NoSsh => "there is no ssh".to_owned(),
            Self::Failed { stderr, .. } => {
                let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
                format!("ssh -G failed: {}", lines.collect::<Vec<_>>().join("; "))
            }
            Self::Broken(why) => why.clone(),
        }
    }
}

/// Asks ssh with these options what it would do for `host`, unless the program before this one has
/// passed the answer on.
pub(super) fn ask(options: &[OsString], host: &OsStr) -> Result<SshOutput, QueryError> {
    if let Some(stdout) = answers::known(options, host) {
        return Ok(SshOutput { stdout, stderr: String::new() });
    }
    let mut command = Command::new("ssh");
    // Without `-T`, ssh may warn that it has no terminal.
    command.args(["-G", "-T"]).args(options).arg("--").arg(host);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = as_started(&mut command).spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => QueryError::NoSsh,
        _ => QueryError::Broken(format!("cannot run ssh -G: {error}")),
    })?;
    let (status, output) = read_output(child).map_err(QueryError::Broken)?;
    match status.success() {
        true => {
            answers::record(options, host, &output.stdout);
            Ok(output)
        }
        false => Err(QueryError::Failed { code: status.code(), stderr: output.stderr }),
    }
}

/// Reads the whole output of ssh.
fn read_output(mut child: Child) -> Result<(ExitStatus, SshOutput), String> {
    let (sender, receiver) = channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let errors = thread::Builder::new().spawn(move || read(stderr));
    let reader = thread::Builder::new().spawn(move || sender.send(read(stdout)));
    let (errors, reader) = match (errors, reader) {
        (Ok(errors), Ok(reader)) => (errors, reader),
        (Err(error), _) | (_, Err(error)) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("cannot read the output of ssh -G: {error}"));
        }
    };
    drop(reader);
    let answer = receiver.recv_timeout(LIMIT);
    if answer.is_err() {
        // Processes that it started may continue; nobody waits for them.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("cannot wait for ssh -G: {error}"))?;
    match answer {
        Ok(stdout) => Ok((status, SshOutput { stdout, stderr: errors.join().unwrap_or_default() })),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("ssh -G did not answer within {} s", LIMIT.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err("the output of ssh -G cannot be read".to_owned())
        }
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // The output up to a read error counts.
        let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
