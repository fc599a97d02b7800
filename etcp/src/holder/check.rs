//! The check of a program before it takes over. The program is started with the same command line,
//! and reports whether it can continue.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use eternaltcp::process::as_started;
use eternaltcp::store::StoreMemory;
use eternaltcp_sys::{Ended, end_with_parent};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::cli::{CHECK_FLAG, position_of_command};
use crate::exit::ExitError;
use crate::print;
use crate::ssh_config::{SshAnswer, given};

/// The time allowed for a check.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of bytes of the program's output that are kept: the last ones.
const KEPT: usize = 64 * 1024;

/// The question to the new program, on its stdin.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckQuestion {
    /// The beginning of the store.
    header: Vec<u8>,
    /// The fingerprint of the server's key, by which clients with sessions know the server.
    key: Option<String>,
    /// The fingerprints of the keys of which clients were told.
    #[serde(default)]
    announced: Vec<String>,
    /// Whether the holder passes the answers of ssh on to the new program.
    #[serde(default)]
    takes_answers: bool,
}

/// The answer of a program that can take over, on its stdout.
#[derive(Debug, Serialize, Deserialize)]
struct Consent {
    can_take_over: bool,
    version: String,
    /// The answers of ssh about the servers.
    #[serde(default)]
    ssh: Vec<SshAnswer>,
}

/// Answers the question as the new program. Returns an error if it cannot take over. `key` is the
/// fingerprint of its server key.
pub(super) fn answer(key: Option<&str>) -> Result<(), ExitError> {
    let question: CheckQuestion =
        serde_json::from_reader(io::stdin().lock()).map_err(ExitError::failed)?;
    StoreMemory::check(&question.header).map_err(ExitError::failed)?;
    let is_announced = key.is_some_and(|key| question.announced.iter().any(|it| it == key));
    if question.key.as_deref() != key && !is_announced {
        let known = question.key.as_deref().unwrap_or("none");
        return Err(ExitError::Failed(format!(
            "the server key differs from {known}, by which clients with sessions know the server: \
             let them know the next one first (--next-identity)"
        )));
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let ssh = if question.takes_answers { given() } else { Vec::new() };
    let consent = Consent { can_take_over: true, version, ssh };
    let consent = serde_json::to_string(&consent).map_err(ExitError::failed)?;
    print::all(&format!("{consent}\n")).map(drop)
}

/// A program that can take over.
pub(super) struct CheckedProgram {
    /// The result for the user.
    pub(super) text: String,
    /// The answers of ssh about the servers, for the program when it is started again.
    pub(super) ssh: Vec<SshAnswer>,
}

impl CheckQuestion {
    /// `announced` has the fingerprints of the keys of which clients were told.
    pub(super) fn new(store: &StoreMemory, key: Option<&str>, announced: Vec<String>) -> Self {
        let key = key.map(str::to_owned);
        Self { header: store.header(), key, announced, takes_answers: true }
    }
}

/// A check in progress. Dropping it kills the program.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) program: PathBuf,
    /// The request was for a check only.
    pub(super) is_all: bool,
    child: Child,
    until: Instant,
    ended: Option<Ended>,
    said: Tail,
    complained: Tail,
}

impl Check {
    pub(super) fn start(
        program: PathBuf,
        is_all: bool,
        question: &CheckQuestion,
    ) -> io::Result<Self> {
        let mut input = File::from(memfd_create(c"etcp-check", MemfdFlags::CLOEXEC)?);
        input.write_all(&serde_json::to_vec(question)?)?;
        input.rewind()?;
        let args: Vec<_> = env::args_os().collect();
        let mut command = Command::new(&program);
        as_started(&mut command)
            .args(with_check(&args))
            .arg0(args.first().map_or_else(|| program.as_os_str(), OsString::as_os_str));
        // The variable with the proxy's password is part of the command line.
        if let Some(password) = env::var_os(eternaltcp::process::PRIVATE_VARIABLE) {
            command.env(eternaltcp::process::PRIVATE_VARIABLE, password);
        }
        end_with_parent(&mut command);
        command.process_group(0).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let said = Tail::of(child.stdout.take())?;
        let complained = Tail::of(child.stderr.take())?;
        let until = Instant::now() + PATIENCE;
        Ok(Self { program, is_all, child, until, ended: None, said, complained })
    }

    /// Records that a process has ended.
    pub(super) fn note(&mut self, process: Pid, ended: Ended) {
        if process == Pid::from_child(&self.child) {
            self.ended = Some(ended);
        }
    }

    /// Returns the descriptors that are open for the check.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.said, &self.complained].into_iter().filter_map(Tail::descriptor)
    }

    /// Returns the result of the check, if it is known.
    pub(super) fn poll(&mut self) -> Option<Result<CheckedProgram, String>> {
        self.said.read();
        self.complained.read();
        let name = self.program.display();
        match self.ended {
            None if Instant::now() < self.until => None,
            None => Some(Err(format!("{name} did not answer within {PATIENCE:?}"))),
            Some(Ended::Exited(0)) => Some(match consent(&self.said.text) {
                Some(Consent { version, ssh, .. }) => Ok(CheckedProgram {
                    text: format!("{name}, etcp {version}, can take over"),
                    ssh,
                }),
                None => {
                    Err(format!("{name} does not report that it can take over: it is not etcp"))
                }
            }),
            Some(ended) => Some(Err(match last_line(&self.complained.text) {
                Some(line) => format!("{name} cannot take over: {line}"),
                None => match ended {
                    Ended::Exited(code) => format!("{name} ended with code {code}"),
                    Ended::Signalled(signal) => format!("{name} was ended by signal {signal}"),
                },
            })),
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        // The process stays a child until its end is seen, so the process id is still its own.
        if self.ended.is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Returns the arguments, without the program's name, with the flag that requests a check.
fn with_check(args: &[OsString]) -> Vec<OsString> {
    let mut with = args.to_vec();
    let at = position_of_command(args).map_or(with.len(), |at| at + 1);
    with.insert(at, CHECK_FLAG.into());
    with.split_off(1.min(with.len()))
}

fn consent(said: &[u8]) -> Option<Consent> {
    let line = said.rsplit(|byte| *byte == b'\n').find(|line| !line.is_empty())?;
    let consent: Consent = serde_json::from_slice(line).ok()?;
    consent.can_take_over.then_some(consent)
}

fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.strip_prefix("etcp: ").unwrap_or(line).to_owned())
}

/// The end of a program's output on a pipe.
#[derive(Debug)]
struct Tail {
    pipe: Option<File>,
    text: Vec<u8>,
}

impl Tail {
    fn of(pipe: Option<impl Into<std::os::fd::OwnedFd>>) -> io::Result<Self> {
        let pipe = pipe.map(|pipe| File::from(pipe.into()));
        pipe.as_ref().map_or(Ok(()), |pipe| ioctl_fionbio(pipe, true))?;
        Ok(Self { pipe, text: Vec::new() })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(File::as_fd)
    }

    fn read(&mut self) {
        let Some(mut pipe) = self.pipe.as_ref() else { return };
        let mut part = [0; 4096];
        // Reads at most the capacity of a pipe: a faster writer is read again later.
        for _ in 0..16 {
            match pipe.read(&mut part) {
                Ok(length @ 1..) => self.text.extend_from_slice(&part[..length]),
                _ => break,
            }
        }
        let surplus = self.text.len().saturating_sub(KEPT);
        self.text.drain(..surplus);
    }
}

/// Returns the path of the program that the user started. It is the path of the command line if
/// that still leads to this file, so that a link that is changed later leads to the new program.
pub(super) fn own_program() -> io::Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let own = env::current_exe()?;
    let file = std::fs::metadata("/proc/self/exe")?;
    let is_own = |path: &Path| {
        path.metadata().is_ok_and(|it| (it.dev(), it.ino()) == (file.dev(), file.ino()))
    };
    let name = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let found = if name.components().count() > 1 {
        std::path::absolute(&name).ok().filter(|path| is_own(path))
    } else {
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders).map(|folder| folder.join(&name)).find(|path| is_own(path))
    };
    Ok(found.unwrap_or(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_follows_the_command() {
        let of = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, with) in [
            ("etcp sproxy --listen a", "sproxy --check-store --listen a"),
            ("/x/etcp -v --log-format json cproxy", "-v --log-format json cproxy --check-store"),
        ] {
            assert_eq!(with_check(&of(line)), of(with));
        }
    }

    #[test]
    fn only_a_program_that_says_so_can_take_over() {
        let said = |text: &str| consent(text.as_bytes()).map(|consent| consent.version);
        let good = r#"{"can_take_over":true,"version":"1.2.3","more":1}"#;
        assert_eq!(said(&format!("hello\n{good}\n\n")), Some("1.2.3".to_owned()));
        for bad in ["", "yes", r#"{"can_take_over":false,"version":"1"}"#, &format!("{good}\nx")] {
            assert_eq!(said(bad), None, "{bad}");
        }
        assert_eq!(last_line(b"a\netcp: it is broken \n\n"), Some("it is broken".to_owned()));
        assert_eq!(last_line(b" \n"), None);
    }
}
