//! The programs that can be copied: where they are, and for which machines.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use tracing::warn;

/// The bytes of a program that tell its kind: those before `e_version` of elf(5).
const HEADER: usize = 20;

/// The machines of which elf(5)'s numbers are known here, by their names of `uname -m`.
const MACHINES: [(u16, &str); 4] =
    [(3, "i686"), (62, "x86_64"), (183, "aarch64"), (243, "riscv64")];

/// A kind of machine, in the words of `uname`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MachineKind {
    system: String,
    machine: String,
}

impl MachineKind {
    /// Returns the kind of this machine.
    fn of_this_machine() -> Self {
        let uname = rustix::system::uname();
        let text = |it: &std::ffi::CStr| it.to_string_lossy().into_owned();
        Self { system: text(uname.sysname()), machine: text(uname.machine()) }
    }

    /// Returns a kind of Linux machine. Its name is part of a script, so that it must be a plain
    /// word.
    fn of_linux(machine: &str) -> Option<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let machine = Some(machine).filter(|it| !it.is_empty() && it.bytes().all(is_word))?;
        Some(Self { system: "Linux".to_owned(), machine: machine.to_owned() })
    }

    pub(super) fn machine(&self) -> &str {
        &self.machine
    }
}

/// Formats it as `uname -sm` prints it.
impl fmt::Display for MachineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.system, self.machine)
    }
}

/// A program and the machines for which it is.
#[derive(Debug)]
pub(super) struct CopyProgram {
    pub(super) kind: MachineKind,
    pub(super) file: File,
}

impl CopyProgram {
    /// Returns the installed programs, and this one for its own machine if none is installed for
    /// it.
    pub(super) fn all() -> io::Result<Vec<Self>> {
        let this = MachineKind::of_this_machine();
        let mut found = folder().map(|folder| installed(&folder)).unwrap_or_default();
        if !found.iter().any(|found| found.kind == this) {
            // It is opened even if its file was replaced since.
            found.push(Self { kind: this, file: File::open("/proc/self/exe")? });
        }
        Ok(found)
    }
}

/// Returns the folder that has a folder with `etcp` for each machine: `lib/etcp` beside the folder
/// of this program, such as /usr/lib/etcp.
fn folder() -> Option<PathBuf> {
    folder_beside(&std::env::current_exe().ok()?)
}

fn folder_beside(program: &Path) -> Option<PathBuf> {
    Some(program.parent()?.parent()?.join("lib/etcp"))
}

/// Returns the programs in a folder. Warns of files that are no programs for their machine.
fn installed(folder: &Path) -> Vec<CopyProgram> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    // Their order is that of their names.
    let paths: BTreeMap<_, _> =
        entries.map(|it| (it.file_name(), it.path().join("etcp"))).collect();
    paths.iter().filter_map(|(machine, path)| open(machine, path)).collect()
}

fn open(machine: &OsStr, path: &Path) -> Option<CopyProgram> {
    let kind = MachineKind::of_linux(machine.to_str()?)?;
    let mut file = File::open(path).ok()?;
    match machine_of(&mut file) {
        Ok(Some(other)) if other != kind.machine => {
            warn!("{} is not used: it is a program for {other}", path.display());
            None
        }
        Ok(_) => Some(CopyProgram { kind, file }),
        Err(error) => {
            warn!("{} is not used: {error}", path.display());
            None
        }
    }
}

/// Returns the machine for which a program is, if its number is known.
fn machine_of(file: &mut File) -> io::Result<Option<&'static str>> {
    let mut header = [0; HEADER];
    let is_read = file.read_exact(&mut header).is_ok();
    file.rewind()?;
    if !is_read || !header.starts_with(b"\x7fELF") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a program"));
    }
    let number = u16::from_le_bytes([header[18], header[19]]);
    Ok(MACHINES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name))
}

/// Returns the message that there is no program for a server, and what to do.
pub(super) fn none_for(host: &str, system: &str) -> String {
    let this = MachineKind::of_this_machine();
    let first = format!("{host} runs {system}, and this etcp is for {this}");
    let kind = system.strip_prefix("Linux ").and_then(MachineKind::of_linux);
    let (Some(kind), Some(folder)) = (kind, folder()) else {
        return format!("{first}: install etcp there, or name it with --remote-etcp");
    };
    let machine = kind.machine;
    let path = folder.join(&machine).join("etcp");
    format!(
        "{first}: put an etcp for {machine} at {} (packaging/build makes it for x86_64 and aarch64), \
         or install etcp at {host}, or name it with --remote-etcp",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the beginning of a program for the machine with this number.
    fn write_program(folder: &Path, machine: &str, number: u8) {
        let path = folder.join(machine);
        fs::create_dir(&path).unwrap();
        let mut program = b"\x7fELF\x02\x01\x01".to_vec();
        program.resize(18, 0);
        program.extend([number, 0, 1, 0, 0, 0]);
        fs::write(path.join("etcp"), program).unwrap();
    }

    #[test]
    fn programs_are_found_by_the_names_of_their_machines() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        write_program(folder, "x86_64", 62);
        write_program(folder, "aarch64", 183);
        write_program(folder, "loongarch64", 2);
        // None of these can be sent.
        write_program(folder, "riscv64", 62);
        write_program(folder, "a b", 62);
        fs::create_dir(folder.join("i686")).unwrap();
        fs::create_dir(folder.join("text")).unwrap();
        fs::write(folder.join("text/etcp"), "#!/bin/sh\n").unwrap();
        let found = installed(folder);
        let kinds: Vec<_> = found.iter().map(|found| found.kind.to_string()).collect();
        assert_eq!(kinds, ["Linux aarch64", "Linux loongarch64", "Linux x86_64"]);
        assert!(installed(&folder.join("missing")).is_empty());
    }

    #[test]
    fn their_folder_is_beside_that_of_the_program() {
        let folder = |program: &str| folder_beside(Path::new(program)).unwrap();
        assert_eq!(folder("/usr/bin/etcp"), Path::new("/usr/lib/etcp"));
        assert_eq!(folder("/home/me/.local/bin/etcp"), Path::new("/home/me/.local/lib/etcp"));
    }

    #[test]
    fn this_program_is_one_of_them() {
        let this = MachineKind::of_this_machine();
        let found = CopyProgram::all().unwrap();
        assert_eq!(found.iter().filter(|found| found.kind == this).count(), 1);
        let mut file = File::open("/proc/self/exe").unwrap();
        assert!(machine_of(&mut file).unwrap().is_none_or(|machine| machine == this.machine));
    }
}
