//! The login: ssh runs etcp at the server, which becomes an sproxy for this user only and reports
//! where it listens.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use eternaltcp::process::as_started;
use eternaltcp::tls::PublicKey;
use rustix::process::{Pid, Signal, kill_process};

use super::script::{EtcpChoice, serve};
use crate::exit::ExitError;
use crate::talk::{MAX_LINE, Message, TalkError};

/// The maximum amount of output of shells and banners before etcp's first message, in bytes.
const MAX_NOISE: usize = 1 << 20;

/// Time for ssh to exit after the conversation, and again after SIGTERM.
const EXIT_PATIENCE: Duration = Duration::from_secs(3);

/// Options that make ssh only log in and run a command. A shared connection would die with its
/// network, and hang.
pub(crate) const ALONE: [&str; 9] = [
    "-T",
    "-x",
    "-a",
    "-oControlMaster=no",
    "-oControlPath=none",
    "-oClearAllForwardings=yes",
    "-oRemoteCommand=none",
    "-oPermitLocalCommand=no",
    "-oTunnel=no",
];

/// An sproxy that the server has started for this user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StartedSproxy {
    /// The port on which it listens.
    pub(crate) port: u16,
    /// The server's address as ssh reached it, if reported.
    pub(crate) address: Option<String>,
    /// Its key.
    pub(crate) key: PublicKey,
    /// The path of etcp at the server.
    pub(crate) program: String,
}

impl StartedSproxy {
    fn read(message: &Message) -> Result<Self, TalkError> {
        let key = message.text("key").and_then(|key| PublicKey::from_openssh(key).ok());
        Ok(Self {
            port: message.get("port")?,
            address: message.text("address").map(str::to_owned),
            key: key.ok_or(TalkError::Field("key"))?,
            program: message.get("program")?,
        })
    }
}

/// Logs in with these arguments of ssh, the last of which is HOST, and sends the request.
pub(crate) fn log_in(
    args: &[OsString],
    host: &str,
    wanted: &EtcpChoice,
    request: &Message,
) -> Result<StartedSproxy, ExitError> {
    let mut ssh = Command::new("ssh");
    ssh.args(ALONE).args(args).arg(serve(wanted));
    ssh.stdin(Stdio::piped()).stdout(Stdio::piped());
    let failed = |error| ExitError::Failed(format!("cannot start ssh: {error}"));
    let mut child = as_started(&mut ssh).spawn().map_err(failed)?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(io::ErrorKind::BrokenPipe.into()));
    };
    let talk = Talk { host, wanted, request, stdin, stdout: BufReader::new(stdout) };
    let result = talk.run();
    let ended = wait_for_exit(&mut child);
    match result {
        Ok(Some(started)) => Ok(started),
        Ok(None) => Err(nothing_said(host, ended)),
        Err(failure) => Err(failure),
    }
}

/// Explains why the server sent nothing, by ssh's exit code.
fn nothing_said(host: &str, code: Option<i32>) -> ExitError {
    match code {
        // ssh has reported why.
        None | Some(255) => ExitError::Ended(255),
        Some(code) => ExitError::Failed(format!(
            "etcp did not start at {host} (the log-in ended with {code}): if it is older than this one, \
             give --copy, or --remote-etcp PATH"
        )),
    }
}

/// Waits briefly until ssh has exited, and returns its exit code.
fn wait_for_exit(child: &mut Child) -> Option<i32> {
    let ended = ended_within(child, EXIT_PATIENCE);
    if ended.is_none() {
        end(child, EXIT_PATIENCE);
    }
    ended.and_then(|status| status.code())
}

/// Makes ssh exit, so that it ends the programs that it has started: a `ProxyCommand`, or an ssh to a
/// jump host. Kills it if it does not.
fn end(child: &mut Child, patience: Duration) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // It has not been reaped yet, so the id is still its own.
    let _ = id.map(|id| kill_process(id, Signal::TERM));
    if ended_within(child, patience).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
    None
}

/// The conversation with the server.
struct Talk<'a> {
    host: &'a str,
    wanted: &'a EtcpChoice,
    request: &'a Message,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Talk<'_> {
    /// Runs the conversation. Returns `None` if the login ended before the first message.
    fn run(mut self) -> Result<Option<StartedSproxy>, ExitError> {
        // If nobody reads any more, the next read reports it.
        let _ = self.say(&self.wanted.path()).and_then(|()| self.say(&self.request.to_string()));
        loop {
            let answer = hear(&mut self.stdout).map_err(|error| self.strange(&error))?;
            let Some(answer) = answer else { return Ok(None) };
            match answer.verb() {
                "here" => {
                    return StartedSproxy::read(&answer)
                        .map(Some)
                        .map_err(|error| self.strange(&error));
                }
                "missing" => self.handle_missing(answer.text("system").unwrap_or("?"))?,
                "copied" => {
                    let _ = self.say(&self.request.to_string());
                }
                "error" => {
                    let text = answer.text("text").unwrap_or("it does not say why");
                    return Err(ExitError::Failed(format!("etcp at {}: {text}", self.host)));
                }
                verb => return Err(self.strange(&format!("it says {verb:?}"))),
            }
        }
    }

    fn handle_missing(&mut self, system: &str) -> Result<(), ExitError> {
        match self.wanted {
            EtcpChoice::Copied(copies) => copies.send(self.host, system, &mut self.stdin),
            EtcpChoice::Found => Err(ExitError::Failed(format!(
                "etcp is not installed at {}: give --copy, or --remote-etcp PATH",
                self.host
            ))),
            EtcpChoice::Path(path) => Err(ExitError::Failed(format!(
                "there is no program {path} at {}: give the PATH of etcp there, or --copy",
                self.host
            ))),
        }
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.stdin, "{line}")?;
        self.stdin.flush()
    }

    fn strange(&self, why: &impl std::fmt::Display) -> ExitError {
        ExitError::Failed(format!(
            "etcp at {} is not understood: {why}; make both the same version, or give --copy",
            self.host
        ))
    }
}

/// Returns the next message of etcp, or `None` at the end. Other lines are ignored.
fn hear(output: &mut impl BufRead) -> Result<Option<Message>, TalkError> {
    let mut noise = 0;
    while noise <= MAX_NOISE {
        let mut line = Vec::new();
        let read = output.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line);
        match read {
            Ok(0) | Err(_) => return Ok(None),
            Ok(count) => noise += count,
        }
        if let Some(message) = Message::parse(&String::from_utf8_lossy(&line))? {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn an_ssh_that_does_not_end_is_told_to_and_ends_what_it_has_started() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            output.read_line(&mut String::new()).unwrap();
            (child, output)
        };
        // The program in the background reports that it is ready. Until its exec, it has the
        // shell's trap, and would ignore the signal.
        let tidy =
            "trap 'kill $!; echo told; exit 1' TERM; sh -c 'echo ready; exec sleep 600' & wait";
        let (mut child, mut output) = shell(tidy);
        end(&mut child, Duration::from_secs(60));
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        assert_eq!(said, "told\n");
        let (mut child, _output) = shell("trap '' TERM; echo ready; exec sleep 600");
        end(&mut child, Duration::from_millis(10));
        assert_eq!(child.try_wait().unwrap().and_then(|status| status.signal()), Some(9));
        let (mut child, _output) = shell("echo ready; exit 7");
        child.wait().unwrap();
        assert_eq!(wait_for_exit(&mut child), Some(7));
    }

    #[test]
    fn output_of_shells_is_skipped() {
        let mut output =
            "Last login: today\n\n* motd *\nprompt> ETERNALTCP 1 copied\nrest".as_bytes();
        assert_eq!(hear(&mut output).unwrap().unwrap().verb(), "copied");
        assert_eq!(hear(&mut output), Ok(None));
        let endless = b"noise\n".repeat(MAX_NOISE / 4);
        assert_eq!(hear(&mut endless.as_slice()), Ok(None));
        let mut newer = "ETERNALTCP 9 here\n".as_bytes();
        assert!(matches!(hear(&mut newer), Err(TalkError::Version(_))));
    }

    #[test]
    fn the_address_of_an_sproxy_is_read_whole_or_not_at_all() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJDkhXLUtB0iC0iqfzKtbYVC1R6QnNmxu9K6eWeHRnvG";
        let said = Message::new("here").with("port", 6200).with("program", "/bin/etcp");
        assert_eq!(StartedSproxy::read(&said), Err(TalkError::Field("key")));
        let started = StartedSproxy::read(&said.with("key", key)).unwrap();
        assert_eq!((started.port, started.address), (6200, None));
        let said = Message::new("here").with("port", 70_000).with("key", key);
        assert_eq!(StartedSproxy::read(&said), Err(TalkError::Field("port")));
    }
}
