//! Copies of etcp for servers: this program, and those for other architectures beside it.

mod program;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write, stderr};

use sha2::{Digest, Sha256};

use crate::exit::ExitError;
use crate::logging;
use program::{CopyProgram, MachineKind};

/// The number of bytes that are read and sent at once.
const CHUNK: usize = 64 * 1024;

/// A program for one kind of machine, and the name of its copy.
#[derive(Debug)]
pub(crate) struct Copy {
    kind: MachineKind,
    name: String,
    length: u64,
    file: File,
}

/// The copies that this machine can send, at most one for each kind of machine.
#[derive(Debug)]
pub(crate) struct Copies(Vec<Copy>);

impl Copies {
    /// Finds the programs: for each kind of machine the one that was installed for copies, else this
    /// program.
    pub(crate) fn find() -> Result<Self, ExitError> {
        let failed = |error| ExitError::Failed(format!("cannot read this program: {error}"));
        let found = CopyProgram::all().map_err(failed)?;
        found.into_iter().map(Copy::of).collect::<io::Result<_>>().map(Self).map_err(failed)
    }

    /// Returns a pattern of `uname -sm` and the name of the copy for each kind of machine.
    pub(super) fn names(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().map(|copy| (copy.kind.to_string(), copy.name.as_str()))
    }

    /// Sends the copy after its length, to a server whose `uname -sm` printed `system`, and shows
    /// the progress.
    pub(crate) fn send(
        &self,
        host: &str,
        system: &str,
        to: &mut impl Write,
    ) -> Result<(), ExitError> {
        let Some(copy) = self.0.iter().find(|copy| copy.kind.to_string() == system) else {
            return Err(ExitError::Failed(program::none_for(host, system)));
        };
        let failed = |error| ExitError::Failed(format!("cannot copy etcp to {host}: {error}"));
        copy.write(host, to).map_err(failed)
    }
}

impl Copy {
    /// Names the copy. A copy of the same version and digest is the same program.
    fn of(found: CopyProgram) -> io::Result<Self> {
        let CopyProgram { kind, mut file } = found;
        let mut digest = Sha256::new();
        let length = io::copy(&mut file, &mut digest)?;
        let name = name(env!("CARGO_PKG_VERSION"), kind.machine(), &digest.finalize());
        Ok(Self { kind, name, length, file })
    }

    fn write(&self, host: &str, to: &mut impl Write) -> io::Result<()> {
        writeln!(to, "{}", self.length)?;
        let mut progress = CopyProgress::new(host, self.length);
        let mut file = &self.file;
        file.rewind()?;
        let mut file = file.take(self.length);
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            to.write_all(&buffer[..count])?;
            progress.add(count as u64);
        }
        to.flush()
    }
}

/// Returns the name of a copy's file, which has only letters, digits, `_`, `-` and `.`.
fn name(version: &str, machine: &str, digest: &[u8]) -> String {
    let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("etcp-{version}-{machine}-{digest}")
}

/// The progress of the copy: a growing line on a terminal, one line elsewhere.
struct CopyProgress {
    what: String,
    length: u64,
    sent: u64,
    shown: Option<u64>,
    is_terminal: bool,
}

impl CopyProgress {
    fn new(host: &str, length: u64) -> Self {
        let what = format!("copying etcp to {host}: {} MB", length.div_ceil(1_000_000));
        let is_terminal = stderr().is_terminal();
        if !is_terminal {
            logging::show(&format!("etcp: {what}\n"));
        }
        Self { what, length, sent: 0, shown: None, is_terminal }
    }

    fn add(&mut self, count: u64) {
        self.sent += count;
        let percent = (self.sent * 100).checked_div(self.length).unwrap_or(100);
        if self.is_terminal && self.shown.replace(percent) != Some(percent) {
            logging::show(&format!("\retcp: {}, {percent} %", self.what));
        }
    }
}

impl Drop for CopyProgress {
    fn drop(&mut self) {
        if self.is_terminal {
            logging::show("\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_called_by_what_it_is() {
        let digest = [0x0a, 0xff, 0, 1, 2, 3, 4];
        assert_eq!(name("0.1.0", "x86_64", &digest), "etcp-0.1.0-x86_64-0aff00010203");
        let names =
            |copies: &Copies| copies.names().map(|(_, it)| it.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&Copies::find().unwrap()), names(&Copies::find().unwrap()));
    }

    #[test]
    fn a_server_of_another_kind_gets_no_copy_and_its_user_learns_where_to_put_one() {
        let copies = Copies::find().unwrap();
        let mut sent = Vec::new();
        let Err(ExitError::Failed(why)) = copies.send("host", "Linux vax", &mut sent) else {
            panic!("it was sent");
        };
        assert!(why.contains("host runs Linux vax") && sent.is_empty(), "{why}");
        assert!(why.contains("lib/etcp/vax/etcp"), "{why}");
    }

    #[test]
    fn a_copy_is_sent_after_its_length() {
        let copies = Copies::find().unwrap();
        let this = copies.0.last().unwrap();
        let mut sent = Vec::new();
        copies.send("host", &this.kind.to_string(), &mut sent).unwrap();
        let length = format!("{}\n", this.length);
        assert!(sent.starts_with(length.as_bytes()));
        assert_eq!(sent.len() as u64, length.len() as u64 + this.length);
    }
}
