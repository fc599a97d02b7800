//! A copy of this program for the server.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write, stderr};

use sha2::{Digest, Sha256};

use crate::exit::ExitError;
use crate::logging;

/// Bytes that are read and sent at once.
const CHUNK: usize = 64 * 1024;

/// The program, and the name of its copy.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    name: String,
    length: u64,
}

impl Copy {
    /// Returns a copy of this program.
    pub(crate) fn of_this() -> Result<Self, ExitError> {
        let failed = |error| ExitError::Failed(format!("cannot read this program: {error}"));
        let mut file = open().map_err(failed)?;
        let mut digest = Sha256::new();
        let length = io::copy(&mut file, &mut digest).map_err(failed)?;
        Ok(Self::of(env!("CARGO_PKG_VERSION"), &digest.finalize(), length))
    }

    /// Names the copy. A copy of the same version and digest is the same program.
    pub(super) fn of(version: &str, digest: &[u8], length: u64) -> Self {
        let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("etcp-{version}-{digest}"), length }
    }

    /// Returns the name of its file, which has only letters, digits, `-` and `.`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends the copy after its length, to a server whose `uname -sm` printed `system`, and shows
    /// the progress.
    pub(crate) fn send(
        &self,
        host: &str,
        system: &str,
        to: &mut impl Write,
    ) -> Result<(), ExitError> {
        let this = this_system();
        if system != this {
            return Err(ExitError::Failed(format!(
                "{host} runs {system}, and this etcp is for {this}: install etcp there, or name it with \
                 --remote-etcp"
            )));
        }
        let failed = |error| ExitError::Failed(format!("cannot copy etcp to {host}: {error}"));
        self.write(host, to).map_err(failed)
    }

    fn write(&self, host: &str, to: &mut impl Write) -> io::Result<()> {
        let mut file = open()?.take(self.length);
        writeln!(to, "{}", self.length)?;
        let mut progress = CopyProgress::new(host, self.length);
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

/// Opens the file that this process runs, even if it was replaced since.
fn open() -> io::Result<File> {
    File::open("/proc/self/exe")
}

/// Returns the output of `uname -sm` on this machine.
fn this_system() -> String {
    let uname = rustix::system::uname();
    format!("{} {}", uname.sysname().to_string_lossy(), uname.machine().to_string_lossy())
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
        let copy = Copy::of("0.1.0", &[0x0a, 0xff, 0, 1, 2, 3, 4], 5);
        assert_eq!(copy.name(), "etcp-0.1.0-0aff00010203");
        assert_eq!(Copy::of_this().unwrap().name(), Copy::of_this().unwrap().name());
    }

    #[test]
    fn a_server_of_another_kind_gets_no_copy() {
        let copy = Copy::of("0.1.0", &[0; 32], 5);
        let mut sent = Vec::new();
        let Err(ExitError::Failed(why)) = copy.send("host", "Linux vax", &mut sent) else {
            panic!("it was sent");
        };
        assert!(why.contains("host runs Linux vax") && sent.is_empty(), "{why}");
    }
}
